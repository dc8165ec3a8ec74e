//! Packing apart what will last and what will not.
//!
//! Overflow pages hold the bulk of long rows: they are written once, and stay until their row goes. B-tree pages change
//! all the time. In one pack, the few that last would keep all the others in the repository, and compaction would have to
//! upload them again and again. Apart, the packs of b-tree pages soon fall away as a whole.

use crate::format::Texture;

/// How long a block is likely to be needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    Lasting,
    Changing,
}

impl Lifetime {
    pub const ALL: [Self; 2] = [Self::Lasting, Self::Changing];

    /// An overflow page begins with its link, which is taken out by now; b-tree pages begin with their kind, which is
    /// never 0.
    pub fn of(block: &[u8]) -> Self {
        if block.first() == Some(&0) { Self::Lasting } else { Self::Changing }
    }

    pub fn texture(self) -> Texture {
        match self {
            Self::Lasting => Texture::Text,
            Self::Changing => Texture::Rows,
        }
    }
}
