//! Whether a repository is what its records say (`check`), and whether a snapshot can be restored (`drill`).

mod check;
mod drill;

pub use check::{CheckReport, CheckRequest, Problem, ProblemKind, check};
pub use drill::{DatabaseReport, DrillReport, DrillRequest, drill};
