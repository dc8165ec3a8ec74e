//! Making a repository, taking one over, looking at one.

mod init;
mod recovery_kit;
mod status;
mod takeover;

pub use init::{InitReport, InitRequest, init};
pub use recovery_kit::{Enclosure, RecoveryKit, recovery_kit};
pub use status::{Drilled, Freshness, Point, Status, StatusRequest, Storage, status};
pub use takeover::{TakeOverPlan, plan_take_over};
