//! What is planned: cases with their reasons, and laws that hold for any history.

use std::collections::BTreeSet;

use super::Plan;

mod cases;
mod laws;

fn kept(plan: &Plan) -> BTreeSet<u64> {
    plan.kept().collect()
}
