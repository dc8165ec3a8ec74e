//! Retention: removing snapshots that no rule keeps, and then what no snapshot needs any more.
//!
//! The records go first. Then the repository is listed again, and what the records that this listing shows do not need goes
//! by the rules of `plan::prune`. So a run that dies anywhere leaves garbage at the most, and the next one finds it. No
//! private key and no lock in the bucket is needed, on whatever machine it runs.

mod forget;
mod rules;
mod view;

use std::collections::BTreeSet;
use std::time::Duration;

use self::forget::LetGo;
pub use self::rules::{Origin, Rules};
pub use self::view::retention_plan;
use self::view::{Doubts, View};
use crate::crypto::PublicSigner;
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::{Retention, layout};
use crate::fsx;
use crate::history::{CONTRADICTION, TOLD_ONCE, expect_gone};
use crate::history::{Reader, Selector};
use crate::host::Pins;
use crate::policy::prune::{self, Stop};
use crate::policy::retain::{self as planning, RetainError};
use crate::repository::Remote;
pub use crate::repository::delete::Deleted;
use crate::repository::delete::{delete, left_of, tell_of_left};
use crate::repository::lock::take_turn;
use crate::store::Key;

/// The doubts about a history whose records do not fit together.
const MISFITS: [&str; 4] = ["earlier-unfit", "broken-chain", "record-unlisted", CONTRADICTION];

/// What to keep, and whether to do anything about the rest.
#[derive(Clone, Debug, Default)]
pub struct RetainRequest {
    /// The rules of this machine's configuration and of the command; `None` where neither has any.
    pub own_rules: Option<Retention>,
    /// Removes these and no others, whatever the rules let go of.
    pub remove: BTreeSet<u64>,
    /// Lets go of these records, which cannot be verified.
    pub forget: BTreeSet<u64>,
    /// Whose receipts are believed.
    pub believed: Vec<PublicSigner>,
    /// Carries the plan out; otherwise nothing is changed.
    pub apply: bool,
    /// Nobody looks on: goes by own rules only, and refuses to lose more than this part of the days at once.
    pub max_remove_percent: Option<u8>,
    /// How long to wait for another run on this machine.
    pub wait: Duration,
}

/// A plan, and what came of it.
pub struct RetainReport {
    pub rules: Rules,
    pub plan: planning::Plan,
    /// Records that cannot be verified, and that were let go of.
    pub let_go: Vec<u64>,
    /// The objects that no snapshot needs once the plan is carried out.
    pub prune: prune::Plan,
    /// `None`: nothing was to be deleted.
    pub deleted: Option<Deleted>,
    /// A plan that would not be carried out, and a warning says why.
    pub refused: bool,
    pub warnings: Vec<Warning>,
}

/// Plans, and with `apply` carries it out.
pub async fn retain(remote: &Remote, reader: &Reader, request: &RetainRequest) -> Result<RetainReport, OperationError> {
    let dir = reader.state_dir(remote);
    let _turn = if request.apply {
        fsx::create_private_dir(&dir).map_err(OperationError::io(&dir))?;
        Some(take_turn(&dir, request.wait).await?)
    } else {
        None
    };
    let view = View::read(remote, reader, &request.believed).await?;
    let let_go = LetGo::of(remote, &dir, &view, &request.forget).await?;
    refuse_unclear_signer(&view, &let_go)?;
    let rules = Rules::of(request.own_rules.clone(), &view.history);
    let plan = plan(&view, &rules, request)?;
    let mut warnings = let_go.warnings_of(&view);
    warnings.extend(rules.warnings(&view.history, &plan, request));
    warnings.extend(view.unheard());
    if !request.apply {
        let kept: BTreeSet<u64> = plan.kept().collect();
        let unlisted = view.unlisted(remote, &[]).await?;
        let doubts = Doubts { unverifiable: let_go.unverifiable(), newer: let_go.newer(), unlisted };
        let prune = view.prune(|sequence| kept.contains(&sequence), doubts)?;
        warnings.extend(stopped(&prune));
        let refusal = refusal(refuse_what_nobody_wants(&view, &rules, &plan, request))?;
        let refused = refusal.is_some();
        warnings.extend(refusal);
        return Ok(RetainReport { rules, plan, let_go: let_go.sequences(), prune, deleted: None, refused, warnings });
    }
    refuse_what_nobody_wants(&view, &rules, &plan, request)?;
    let_go.remember(&dir)?;
    let records: Vec<Key> = plan.removed().chain(let_go.sequences()).map(layout::record).collect();
    tracing::info!(records = records.len(), "deleting records");
    let (prune, deleted) = carry_out(remote, reader, request, view, &records, &mut warnings).await?;
    warnings.extend(stopped(&prune));
    let deleted = Some(deleted);
    Ok(RetainReport { rules, plan, let_go: let_go.sequences(), prune, deleted, refused: false, warnings })
}

/// Deletes the records, looks again, and deletes what the records that are still there do not need.
async fn carry_out(
    remote: &Remote,
    reader: &Reader,
    request: &RetainRequest,
    mut view: View,
    records: &[Key],
    warnings: &mut Vec<Warning>,
) -> Result<(prune::Plan, Deleted), OperationError> {
    let mut deleted = Deleted::default();
    if !records.is_empty() {
        let sizes = view.sizes();
        let failed = delete(remote, records, warnings).await?;
        view = look_again(remote, reader, request, records, warnings).await?;
        let left = left_of(records, failed, |key| view.lists(key));
        deleted.count(records, &left, &sizes);
        let gone = left.len() < records.len();
        warnings.extend(tell_of_left(remote, left, gone).await?);
    }
    let let_go = LetGo::of(remote, &reader.state_dir(remote), &view, &BTreeSet::new()).await?;
    let unlisted = view.unlisted(remote, records).await?;
    let doubts = Doubts { unverifiable: let_go.unverifiable(), newer: let_go.newer(), unlisted };
    let prune = view.prune(|_| true, doubts)?;
    let due: Vec<Key> = prune.due().into_iter().map(|object| object.key.clone()).collect();
    if !due.is_empty() {
        tracing::info!(objects = due.len(), "deleting what no snapshot needs");
        let failed = delete(remote, &due, warnings).await?;
        let after = View::names(remote).await?;
        let left = left_of(&due, failed, |key| after.contains(key));
        deleted.count(&due, &left, &view.sizes());
        let gone = deleted.records > 0 || left.len() < due.len();
        warnings.extend(tell_of_left(remote, left, gone).await?);
    }
    Ok((prune, deleted))
}

/// What the records say after some of them were deleted. What this run removed is no news; of the rest that is which would
/// not be told again.
async fn look_again(
    remote: &Remote,
    reader: &Reader,
    request: &RetainRequest,
    records: &[Key],
    warnings: &mut Vec<Warning>,
) -> Result<View, OperationError> {
    let dir = reader.state_dir(remote);
    let mut pins = Pins::load(&dir)?;
    expect_gone(&mut pins, &records.iter().filter_map(layout::record_sequence).collect());
    pins.save(&dir)?;
    let view = View::read(remote, reader, &request.believed).await?;
    let is_news = |warning: &&Warning| TOLD_ONCE.contains(&warning.name) && !warnings.contains(warning);
    let news: Vec<Warning> = view.history.warnings.iter().filter(is_news).cloned().collect();
    warnings.extend(news);
    Ok(view)
}

fn plan(view: &View, rules: &Rules, request: &RetainRequest) -> Result<planning::Plan, OperationError> {
    let (mut snapshots, proof) = (view.snapshots(), view.proof());
    snapshots.retain(|snapshot| !request.forget.contains(&snapshot.sequence));
    let plan = if request.remove.is_empty() && !request.forget.is_empty() {
        // Letting go of a record is asked for, and nothing else.
        planning::remove(&snapshots, &rules.rules, &proof, &BTreeSet::new())
    } else if request.remove.is_empty() {
        planning::retain(&snapshots, &rules.rules, &proof)
    } else {
        planning::remove(&snapshots, &rules.rules, &proof, &request.remove)
    };
    plan.map_err(|error| {
        let what = error.to_string();
        match error {
            RetainError::KeepsNothing => {
                let way_out = "set a keep_… rule to more than 0: in [retention] of sealift.toml, or as a flag";
                OperationError::Refused { what, way_out: way_out.to_owned() }
            }
            RetainError::Protected { .. } => {
                let way_out = "it can go once another snapshot has its place";
                OperationError::Refused { what, way_out: way_out.to_owned() }
            }
            RetainError::Unknown(sequence) if view.listing.records.contains_key(&sequence) => OperationError::Refused {
                what: format!("snapshot {sequence} cannot be verified here, and only what can be is removed"),
                way_out: format!("`sealift retain --forget {sequence}` tells whether it can be let go of"),
            },
            RetainError::Unknown(sequence) => OperationError::NoSnapshot(Some(sequence.to_string())),
            RetainError::Zone(_) => OperationError::Usage(what),
        }
    })
}

/// Where another signer says that he took over, nobody knows yet which snapshot is the newest.
fn refuse_unclear_signer(view: &View, let_go: &LetGo) -> Result<(), OperationError> {
    match view.history.find(&Selector::Latest) {
        Err(error @ OperationError::SignerChanged { .. }) if !let_go.unverifiable().is_empty() => Err(error),
        _ => Ok(()),
    }
}

fn refuse_what_nobody_wants(
    view: &View,
    rules: &Rules,
    plan: &planning::Plan,
    request: &RetainRequest,
) -> Result<(), OperationError> {
    let by_rules = request.remove.is_empty() && request.forget.is_empty();
    if by_rules && request.max_remove_percent.is_some() {
        refuse_rules_of_nobody(rules)?;
    }
    if by_rules && plan.removed().next().is_some() {
        refuse_rules_of_others(view, rules)?;
        refuse_misfits(view)?;
    }
    match request.max_remove_percent {
        Some(percent) if plan.loses_more_than(percent) => Err(OperationError::Refused {
            what: format!(
                "of {} of {} days with a snapshot nothing would be left, and max_remove_percent is {percent}",
                plan.lost().len(),
                plan.days().len()
            ),
            way_out: "look at the plan with `sealift retain`; `sealift retain --apply` carries it out, and a higher \
                      max_remove_percent in [retention] of sealift.toml lets this run do it"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}

/// A plan promises nothing that would be refused.
fn refusal(refused: Result<(), OperationError>) -> Result<Option<Warning>, OperationError> {
    match refused {
        Ok(()) => Ok(None),
        Err(OperationError::Refused { what, way_out }) => {
            let text = format!("--apply would refuse this: {what}. The way out: {way_out}");
            Ok(Some(Warning::doubt("apply-refused", text)))
        }
        Err(other) => Err(other),
    }
}

/// Where nobody looks on, somebody must have said before what to keep.
fn refuse_rules_of_nobody(rules: &Rules) -> Result<(), OperationError> {
    if rules.origin == Origin::Own {
        return Ok(());
    }
    Err(OperationError::Refused {
        what: "neither [retention] of sealift.toml here nor a flag says what to keep, and nobody looks on".to_owned(),
        way_out: format!("write the rules into sealift.toml ([retention] {}), or give them as flags", rules.rules),
    })
}

/// What the host said, whoever holds its key could have said; and that it no longer says anything, too.
fn refuse_rules_of_others(view: &View, rules: &Rules) -> Result<(), OperationError> {
    let what = match rules.origin {
        Origin::Record => "the rules are those of the newest snapshot, and this machine has none of its own",
        Origin::Standard if view.history.verified().any(|record| record.record.retention.is_some()) => {
            "the newest snapshot names no rules where others do, and this machine has none of its own"
        }
        Origin::Standard | Origin::Own => return Ok(()),
    };
    Err(OperationError::Refused {
        what: format!("{what}: whoever holds the host's key could have made it so"),
        way_out: format!(
            "if you want these rules, write them into sealift.toml here ([retention] {}), or give them as flags",
            rules.rules
        ),
    })
}

/// Where records do not fit together, one of them may be planted, and in a copied bucket no time of the server's tells
/// which. A person has to look before rules go by their times.
fn refuse_misfits(view: &View) -> Result<(), OperationError> {
    match view.history.warnings.iter().find(|warning| MISFITS.contains(&warning.name)) {
        Some(misfit) => Err(OperationError::Refused {
            what: misfit.to_string(),
            way_out: "find out which one does not belong there (`sealift snapshots`), and take it out: \
                      `sealift retain --remove N --apply`"
                .to_owned(),
        }),
        None => Ok(()),
    }
}

/// Why nothing of what could go does.
fn stopped(prune: &prune::Plan) -> Option<Warning> {
    let stop = prune.stop.as_ref().filter(|_| !prune.lines.is_empty())?;
    let way_out = match stop {
        Stop::Unverifiable(sequences) => {
            let forget: String = sequences.iter().map(|sequence| format!(" --forget {sequence}")).collect();
            format!(". Put it back from a copy, or let go of it with `sealift retain{forget} --apply`")
        }
        Stop::NewerFormat(_) => ". Upgrade sealift on this machine".to_owned(),
        Stop::Vanished(sequences, _) => {
            let forget: String = sequences.iter().map(|sequence| format!(" --forget {sequence}")).collect();
            format!(". Put it back from a copy, or say that it may be gone: `sealift retain{forget} --apply`")
        }
        Stop::Contradiction(_) => {
            ". Let go of those that do not belong there: `sealift retain --forget N --apply`".to_owned()
        }
        Stop::Unlisted(_) => ". Have the server's index mended: it is to list all that it holds".to_owned(),
        Stop::AheadOfServer(_) => {
            ". Set that clock right; what lies in a directory gets a new time by `touch`, what lies in a \
                                   bucket by copying it onto itself"
                .to_owned()
        }
        Stop::NoServerTime => ". Something between here and the server takes the `Date` out of its answers".to_owned(),
        Stop::NoSnapshot => String::new(),
    };
    Some(Warning::doubt("nothing-pruned", format!("no pack, manifest or key is deleted: {stop}{way_out}")))
}
