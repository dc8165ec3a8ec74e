//! Making a repository, taking one over, looking at one.

mod doctor;
mod init;
mod recovery_kit;
mod status;
mod takeover;

pub use doctor::{Diagnosis, diagnose};
pub use init::{Finished, InitReport, InitRequest, finished, init};
pub use recovery_kit::{Enclosure, RecoveryKit, recovery_kit};
pub use status::{Drilled, Freshness, Point, Status, StatusRequest, Storage, look, status};
pub use takeover::{TakeoverPlan, plan_takeover};
