//! What `--apply` refuses, and why there is no plan.

use super::RetainRequest;
use super::view::View;
use crate::error::OperationError;
use crate::finding::Finding;
use crate::policy::ignore::NotIgnored;
use crate::policy::prune::{self, PruneBlocker};
use crate::policy::retain::{self as planning, RetainError};

/// The lines to add where no rules are configured.
const NO_RULES: &str = "no retention rules are configured, so nothing is planned. Add to sealift.toml:\n\n[retention]\n\
                        keep_daily = 14\n\nor give a rule as a flag, such as --keep-daily 14";

/// Why a plan is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nothing may be deleted at all.
    Blocked(PruneBlocker),
    /// An unattended run would remove all snapshots of too many days.
    TooManyDays { lost: usize, days: usize, max_percent: u8 },
}

impl Refusal {
    pub fn why(&self) -> String {
        match self {
            Self::Blocked(blocker) => format!("nothing is deleted: {blocker}"),
            Self::TooManyDays { lost, days, max_percent } => {
                format!("no snapshot would be left of {lost} of {days} days, and max_remove_percent is {max_percent}")
            }
        }
    }

    pub fn way_out(&self) -> String {
        match self {
            Self::Blocked(blocker) => blocker.way_out(),
            Self::TooManyDays { .. } => {
                "look at the plan with `sealift retain`; `sealift retain --apply` carries it out, \
                                         and a higher max_remove_percent in [retention] lets this run do it"
                    .to_owned()
            }
        }
    }
}

impl From<Refusal> for OperationError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { what: refusal.why(), way_out: refusal.way_out() }
    }
}

impl From<Refusal> for Finding {
    fn from(refusal: Refusal) -> Self {
        Self::ApplyRefused { why: refusal.why(), way_out: refusal.way_out() }
    }
}

/// What `--apply` would refuse of this plan. Where there is nothing to delete, nothing is refused.
pub(super) fn refusal(
    plan: &planning::Plan,
    records: &[u64],
    prune: &prune::Plan,
    request: &RetainRequest,
) -> Option<Refusal> {
    let blocker = if records.is_empty() { prune.blocked() } else { prune.blocker.as_ref() };
    if let Some(blocker) = blocker {
        return Some(Refusal::Blocked(blocker.clone()));
    }
    let max_percent = request.max_remove_percent.filter(|percent| plan.loses_more_than(*percent))?;
    Some(Refusal::TooManyDays { lost: plan.lost().len(), days: plan.days().len(), max_percent })
}

pub(super) fn no_rules() -> OperationError {
    OperationError::Usage(NO_RULES.to_owned())
}

/// A record that is to be removed and does not count, and that no person ignored.
pub(super) fn not_ignored(sequence: u64) -> OperationError {
    OperationError::Refused {
        what: format!("the record of snapshot {sequence} does not count, so what it needs may be unknown"),
        way_out: format!("`sealift retain --ignore {sequence} --apply` ignores it; after that --remove removes it"),
    }
}

pub(super) fn cannot_be_ignored(error: NotIgnored) -> OperationError {
    let what = error.to_string();
    let way_out = match error {
        NotIgnored::NotListed(sequence) => return OperationError::NoSnapshot(Some(sequence.to_string())),
        NotIgnored::Counts(sequence) => format!("`sealift retain --remove {sequence} --apply` removes it"),
        NotIgnored::NewerFormat(_) => {
            "upgrade sealift on this machine, or name another snapshot by its number".to_owned()
        }
        NotIgnored::NoBytes(_) => {
            "restore the record from a copy, or delete it with the tools of the bucket".to_owned()
        }
    };
    OperationError::Refused { what, way_out }
}

pub(super) fn no_plan(view: &View, error: RetainError) -> OperationError {
    let what = error.to_string();
    match error {
        RetainError::KeepsNothing => {
            let way_out = "set a keep_… rule to more than 0: in [retention] of sealift.toml, or as a flag";
            OperationError::Refused { what, way_out: way_out.to_owned() }
        }
        RetainError::Protected { .. } => {
            let way_out = "it can be removed once another snapshot has its place";
            OperationError::Refused { what, way_out: way_out.to_owned() }
        }
        RetainError::Unknown(sequence) if view.listing.records.contains_key(&sequence) => not_ignored(sequence),
        RetainError::Unknown(sequence) => OperationError::NoSnapshot(Some(sequence.to_string())),
        RetainError::Zone(_) => OperationError::Usage(what),
    }
}
