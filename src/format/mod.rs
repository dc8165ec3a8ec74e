#![doc = include_str!("FORMAT.md")]
//!
//! This module turns those formats into types and back. It does no I/O.

mod descriptor;
mod error;
mod key_file;
pub mod layout;
mod link;
mod manifest;
mod pack;
pub mod ranges;
mod receipt;
mod record;
mod recovery;
mod retention;

pub use descriptor::{Descriptor, RepositoryId};
pub use error::FormatError;
pub use key_file::{KeyHolders, MAX_KEY_BYTES, former_comments, key_file_comments};
pub use link::{Link, LinkTable, put_links_back, take_links_out};
pub use manifest::{Body, Entry, Manifest, ManifestError, Run, is_safe_name};
pub use pack::{Frame, FrameCompressor, MAX_PACK_BYTES, PackReader, PackWriter, Texture, blocks_per_pack};
pub use receipt::{Receipt, ReceiptKind, SignedReceipt};
pub use record::{
    CreateOnce, Epoch, Health, Ignored, ManifestRef, PackRef, ReadRecord, Record, RecordError, SignedRecord, Takeover,
    signer_of,
};
pub use recovery::{FORMAT_DESCRIPTION, RECOVERY_SCRIPT, recovery_script_digest, recovery_text};
pub use retention::{Retention, UnknownZone, Within};
