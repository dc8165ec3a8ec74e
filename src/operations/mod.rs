//! One file a verb. What a person asks for is carried out here; how it looks is the cli's business.

mod backup;
mod bad_objects;
mod check;
mod drill;
mod epoch;
mod error;
mod history;
mod init;
mod kept_keys;
mod keys;
mod monitor;
mod opened;
mod pieces;
mod receipts;
mod recovery_kit;
mod remote;
mod restore;
mod retain;
mod scratch;
mod status;
mod still;
mod take_over;
mod time_to_come;
mod turn;
mod unlock;
mod verdicts;
mod warning;

pub use backup::{BackupReport, BackupRequest, Gentleness, SourceKind, SourceSpec, Survey, backup, survey};
pub use bad_objects::BadObjects;
pub use check::{CheckReport, CheckRequest, Problem, ProblemKind, check};
pub use drill::{DatabaseReport, DrillReport, DrillRequest, drill};
pub use error::OperationError;
pub use history::{Claim, History, Listed, Proof, Reader, Selector, Unusable, told};
pub use init::{InitReport, InitRequest, init};
pub use keys::{
    Change, ConfirmReport, ConfirmedEpoch, KeyList, ListedEpoch, ListedGeneration, NewIdentity, PutBackReport, Rebase,
    RebaseReport, RotateReport, RotateRequest, RotatedEpoch, confirm_keys, keys_of, list_keys, new_identity,
    put_back_keys, rotate_keys,
};
pub use monitor::{Monitor, Phase, Unwatched};
pub use opened::{OpenedSnapshot, open_with};
pub use receipts::{put_receipt, receipts};
pub use recovery_kit::{Enclosure, RecoveryKit, recovery_kit};
pub use remote::{Listing, Remote};
pub use restore::{RestoreReport, RestoreRequest, RestoredFile, restore};
pub use retain::{Deleted, Origin, RetainReport, RetainRequest, Rules, retain, retention_plan};
pub use scratch::scratch_dir;
pub use status::{Drilled, Freshness, Point, Status, StatusRequest, Storage, status};
pub use take_over::{TakeOverPlan, plan_take_over};
pub use verdicts::{Bill, Drill, Driller, Verdicts};
pub use warning::Warning;
