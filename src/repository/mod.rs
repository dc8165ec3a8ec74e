//! An open repository: what is listed there, and reading and writing records, key files and receipts.

mod complete;
pub(crate) mod delete;
pub(crate) mod kept_keys;
pub(crate) mod key_files;
pub(crate) mod lock;
pub(crate) mod receipts;
pub(crate) mod remote;
pub(crate) mod unlock;

pub use complete::is_complete;
pub use receipts::put_receipt;
pub use remote::{DescriptorState, Listing, Records, Remote, Seen};
pub(crate) use remote::{FETCHES, MAX_TEXT_BYTES, WITHHELD, missing_of};
