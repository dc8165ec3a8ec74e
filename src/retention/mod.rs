//! Retention: removing snapshots that no rule keeps, and then what no snapshot needs any more.
//!
//! The records go first. Then the repository is listed again, and what the records in this listing do not need goes by
//! [`crate::policy::prune`]. So a run that dies anywhere leaves garbage at the most, and the next one finds it. No private
//! key and no lock in the bucket is needed, on any machine. While something blocks deletion, nothing is deleted at all.

mod refusal;
mod view;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;

use self::refusal::{Refusal, refusal};
use self::view::View;
pub use self::view::retention_plan;
use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::{Ignored, Retention, layout};
use crate::fsx;
use crate::history::{Reader, TrustStore};
use crate::policy::prune;
use crate::policy::retain as planning;
use crate::repository::Remote;
pub use crate::repository::delete::Deleted;
use crate::repository::delete::{delete, left_of, tell_of_left};
use crate::repository::lock::take_turn;
use crate::store::Key;

/// What to keep, and whether to delete the rest.
#[derive(Clone, Debug, Default)]
pub struct RetainRequest {
    /// The rules of this machine's configuration and of the command. `None` is refused, but for `remove` and `ignore`.
    pub rules: Option<Retention>,
    /// Removes these and no others, ignored records too.
    pub remove: BTreeSet<u64>,
    /// Ignores these records, which do not count.
    pub ignore: BTreeSet<u64>,
    /// Carries the plan out; otherwise nothing is changed.
    pub apply: bool,
    /// An unattended run: refuses to remove all snapshots of more than this part of the days at once.
    pub max_remove_percent: Option<u8>,
    /// How long an object that nothing needs stays; less than [`prune::GRACE`] counts as that.
    pub grace: SignedDuration,
    /// How long to wait for another run on this machine.
    pub wait: Duration,
}

impl RetainRequest {
    fn is_by_rules(&self) -> bool {
        self.remove.is_empty() && self.ignore.is_empty()
    }

    /// Ignoring a record is all that is asked for: nothing is deleted.
    fn only_ignores(&self) -> bool {
        self.remove.is_empty() && !self.ignore.is_empty()
    }
}

/// A plan, and what came of it.
pub struct RetainReport {
    /// The rules that the plan goes by.
    pub rules: Option<Retention>,
    /// Those in the newest record: shown, never followed.
    pub recorded_rules: Option<Retention>,
    pub plan: planning::Plan,
    /// Records that do not count and that a person ignored.
    pub ignored: Vec<u64>,
    /// The records that go, or went: of the plan and ignored ones.
    pub records: Vec<u64>,
    /// Records that go once their successor has been stored for 2 hours.
    pub waiting: Vec<u64>,
    /// The objects that no snapshot needs once the plan is carried out.
    pub prune: prune::Plan,
    /// `None`: nothing was to be deleted.
    pub deleted: Option<Deleted>,
    /// `--apply` would refuse the plan, and a finding says why.
    pub refused: bool,
    pub warnings: Vec<Finding>,
}

/// Plans, and with `apply` carries it out.
///
/// # Errors
/// [`OperationError::Usage`] without rules; [`OperationError::Refused`] where something blocks a deletion under `apply`,
/// where a record cannot be ignored, and where a snapshot is always kept.
pub async fn retain(remote: &Remote, reader: &Reader, request: &RetainRequest) -> Result<RetainReport, OperationError> {
    if request.is_by_rules() && request.rules.is_none() {
        return Err(refusal::no_rules());
    }
    let dir = reader.state_dir(remote);
    let _turn = if request.apply {
        fsx::create_private_dir(&dir).map_err(OperationError::io(&dir))?;
        Some(take_turn(&dir, request.wait).await?)
    } else {
        None
    };
    let mut view = View::read(remote, reader).await?;
    let ignored = view.ignore(&request.ignore).map_err(refusal::cannot_be_ignored)?;
    let (plan, removed) = plan(&view, request)?;
    if request.apply {
        let mut store = TrustStore::load(&dir)?;
        ignored.into_iter().for_each(|Ignored(sequence, digest)| store.ignore(sequence, digest));
        store.save(&dir)?;
    }
    let (records, waiting) = prune::records_due(removed, &view.stored(), view.create_once(), view.listing.server_time);
    let unlisted = view.unlisted(remote, &[]).await?;
    let prune = view.prune(&records, unlisted, request.grace);
    let refusal = refusal(&plan, &records, &prune, request).filter(|_| !request.only_ignores());
    let mut report = RetainReport {
        rules: request.rules.clone(),
        recorded_rules: view.recorded_rules().cloned(),
        plan,
        ignored: view.ignored().collect(),
        records,
        waiting,
        prune,
        deleted: None,
        refused: refusal.is_some(),
        warnings: view.warnings(),
    };
    match refusal {
        Some(refusal) if request.apply => return Err(refusal.into()),
        Some(refusal) => report.warnings.push(refusal.into()),
        None if request.apply && request.only_ignores() => report.deleted = Some(Deleted::default()),
        None if request.apply => carry_out(remote, reader, request, view, &mut report).await?,
        None => {}
    }
    Ok(report)
}

/// The plan for the snapshots, and the numbers of all records to be removed.
fn plan(view: &View, request: &RetainRequest) -> Result<(planning::Plan, Vec<u64>), OperationError> {
    let (snapshots, now) = (view.snapshots(), view.listing.server_time);
    let (others, counting): (BTreeSet<u64>, BTreeSet<u64>) =
        request.remove.iter().partition(|sequence| view.is_other(**sequence));
    let is_ignored = |sequence: &u64| view.ignored().any(|ignored| ignored == *sequence);
    if let Some(sequence) = others.iter().find(|sequence| !is_ignored(sequence)) {
        return Err(refusal::not_ignored(*sequence));
    }
    let plan = match &request.rules {
        Some(rules) if request.is_by_rules() => planning::retain(&snapshots, rules, now),
        rules => planning::remove(&snapshots, rules.as_ref(), now, &counting),
    };
    let plan = plan.map_err(|error| refusal::no_plan(view, error))?;
    let removed = plan.removed().chain(others).collect();
    Ok((plan, removed))
}

/// Deletes the records, lists again, and deletes what the records that are still there do not need.
async fn carry_out(
    remote: &Remote,
    reader: &Reader,
    request: &RetainRequest,
    mut view: View,
    report: &mut RetainReport,
) -> Result<(), OperationError> {
    let (mut deleted, warnings) = (Deleted::default(), &mut report.warnings);
    let records: Vec<Key> = report.records.iter().copied().map(layout::record).collect();
    if !records.is_empty() {
        tracing::info!(records = records.len(), "deleting records");
        let sizes = view.sizes();
        // Before they go: after a crash they are still this machine's own removals. One that is there after all is no longer
        // missed at the next look.
        let dir = reader.state_dir(remote);
        let mut store = TrustStore::load(&dir)?;
        store.look(&remote.location).remove_here(report.records.iter().copied(), view.history.now);
        store.save(&dir)?;
        let failed = delete(remote, &records, warnings).await?;
        view = View::read(remote, reader).await?;
        let left = left_of(&records, failed, |key| view.lists(key));
        deleted.count(&records, &left, &sizes);
        let gone = left.len() < records.len();
        warnings.extend(tell_of_left(remote, left, gone).await?);
        let unlisted = view.unlisted(remote, &report.records).await?;
        report.prune = view.prune(&[], unlisted, request.grace);
        if let Some(blocker) = report.prune.blocked() {
            let blocked = Refusal::Blocked(blocker.clone());
            let what = format!("{} records were deleted; after that {}", deleted.records, blocked.why());
            return Err(OperationError::Refused { what, way_out: blocked.way_out() });
        }
    }
    let due: Vec<Key> = report.prune.due().into_iter().map(|object| object.key.clone()).collect();
    if !due.is_empty() {
        tracing::info!(objects = due.len(), "deleting what no snapshot needs");
        let failed = delete(remote, &due, warnings).await?;
        let after = View::names(remote).await?;
        let left = left_of(&due, failed, |key| after.contains(key));
        deleted.count(&due, &left, &view.sizes());
        let gone = deleted.records > 0 || left.len() < due.len();
        warnings.extend(tell_of_left(remote, left, gone).await?);
    }
    report.deleted = Some(deleted);
    Ok(())
}
