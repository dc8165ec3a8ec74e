//! Taking the link out of a page, and putting it back.
//!
//! An overflow page of SQLite begins with a 4-byte pointer to the next one, which `VACUUM` renumbers while the
//! content stays. A page whose first byte is 0 and which is not page 1 has its first 4 bytes zeroed in its block;
//! the link goes into the manifest, predicted as "my page number + 1", and only exceptions are listed. The inverse
//! looks at the same first byte, so the pair is lossless whatever such a page really is.

/// Page `page` (the first is 1) begins with `link` instead of the predicted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub page: u32,
    pub link: u32,
}

fn has_link(page_number: u32, page: &[u8]) -> bool {
    page_number != 1 && page[0] == 0
}

/// Zeroes the links of the pages in `pages` (whole pages, the first one numbered `first`) and appends those that
/// are not as predicted to `exceptions`, in order of their pages.
pub fn take_links_out(first: u32, page_size: usize, pages: &mut [u8], exceptions: &mut Vec<Link>) {
    for (number, page) in (first..=u32::MAX).zip(pages.chunks_exact_mut(page_size)) {
        if !has_link(number, page) {
            continue;
        }
        let link = u32::from_be_bytes([page[0], page[1], page[2], page[3]]);
        if link != number.wrapping_add(1) {
            exceptions.push(Link { page: number, link });
        }
        page[..4].fill(0);
    }
}

/// The exceptions of one database, by page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkTable(Vec<Link>);

impl LinkTable {
    /// `links` must be in ascending order of their pages.
    pub fn new(links: Vec<Link>) -> Option<Self> {
        links.is_sorted_by(|a, b| a.page < b.page).then_some(Self(links))
    }

    pub fn as_slice(&self) -> &[Link] {
        &self.0
    }

    fn link_of(&self, page: u32) -> u32 {
        match self.0.binary_search_by_key(&page, |link| link.page) {
            Ok(at) => self.0[at].link,
            Err(_) => page.wrapping_add(1),
        }
    }
}

/// The inverse of [`take_links_out`].
pub fn put_links_back(first: u32, page_size: usize, blocks: &mut [u8], exceptions: &LinkTable) {
    for (number, block) in (first..=u32::MAX).zip(blocks.chunks_exact_mut(page_size)) {
        if has_link(number, block) {
            block[..4].copy_from_slice(&exceptions.link_of(number).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the bytes are, out and back is the identity.
        #[test]
        fn out_and_back_changes_nothing(first in 1u32..5, bytes in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 512 * 8)) {
            let mut blocks = bytes.clone();
            let mut exceptions = Vec::new();
            take_links_out(first, 512, &mut blocks, &mut exceptions);
            let table = LinkTable::new(exceptions).expect("in order");
            put_links_back(first, 512, &mut blocks, &table);
            prop_assert_eq!(blocks, bytes);
        }
    }

    #[test]
    fn a_chain_in_page_order_needs_no_exception_and_its_blocks_are_equal() {
        let mut pages = vec![7u8; 512 * 3];
        for (number, page) in (5u32..).zip(pages.chunks_exact_mut(512)) {
            page[..4].copy_from_slice(&(number + 1).to_be_bytes());
        }
        let mut exceptions = Vec::new();
        take_links_out(5, 512, &mut pages, &mut exceptions);
        assert!(exceptions.is_empty());
        assert_eq!(pages[..512], pages[512..1024]);
    }

    /// Its own number plus 1 is 0, and counting on does not end the process.
    #[test]
    fn the_highest_page_number_has_a_link_like_others() {
        let mut page = vec![0u8; 512];
        let mut exceptions = Vec::new();
        take_links_out(u32::MAX, 512, &mut page, &mut exceptions);
        assert!(exceptions.is_empty());
        put_links_back(u32::MAX, 512, &mut page, &LinkTable::default());
        assert_eq!(page, vec![0u8; 512]);
    }

    #[test]
    fn the_last_page_of_a_chain_is_an_exception() {
        let mut page = vec![0u8; 512];
        let mut exceptions = Vec::new();
        take_links_out(9, 512, &mut page, &mut exceptions);
        assert_eq!(exceptions, [Link { page: 9, link: 0 }]);
    }
}
