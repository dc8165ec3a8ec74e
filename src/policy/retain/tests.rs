//! What is planned: cases with their reasons, and laws that hold for any history.

use std::collections::BTreeSet;

use super::{Plan, Proof};

mod cases;
mod laws;

fn proved() -> Proof {
    [1].into()
}

fn kept(plan: &Plan) -> BTreeSet<u64> {
    plan.kept().collect()
}
