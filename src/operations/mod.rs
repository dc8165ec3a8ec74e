//! One file a verb. What a person asks for is carried out here; how it looks is the cli's business.

mod assemble;
mod backup;
mod capture;
mod commit;
mod error;
mod fill;
mod history;
mod init;
mod known;
mod monitor;
mod packing;
mod remote;
mod restore;
mod scan;
mod scatter;
mod sources;
mod standing;
mod survey;
mod target;
mod turn;
mod unlock;
mod upload;
mod verify;
mod warning;

pub use backup::{BackupReport, BackupRequest, backup};
pub use error::OperationError;
pub use history::{History, Listed, Pin, Selector, pin};
pub use init::{InitReport, InitRequest, NewIdentity, init};
pub use monitor::{Monitor, Phase, Unwatched};
pub use remote::Remote;
pub use restore::{OpenedSnapshot, RestoreReport, RestoreRequest, RestoredFile, open_with, restore};
pub use sources::{Gentleness, SourceKind, SourceSpec};
pub use survey::{Survey, survey};
pub use warning::Warning;
