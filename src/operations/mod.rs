//! One file a verb. What a person asks for is carried out here; how it looks is the cli's business.

mod assemble;
mod backup;
mod capture;
mod commit;
mod error;
mod known;
mod monitor;
mod packing;
mod remote;
mod scan;
mod sources;
mod standing;
mod upload;
mod warning;

pub use backup::{BackupReport, BackupRequest, backup};
pub use error::OperationError;
pub use monitor::{Monitor, Phase, Unwatched};
pub use remote::Remote;
pub use sources::{Gentleness, SourceKind, SourceSpec};
pub use warning::Warning;
