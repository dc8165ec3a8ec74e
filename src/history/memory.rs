//! What this machine saw of a repository before, against what lies there now.
//!
//! What is gone is told once and is then the new state of things: from the look that finds it until a command has printed
//! it, whatever becomes of those between. A repository that was set back is told until it has
//! gone on beyond the newest snapshot that was seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::{History, Warning};
use crate::crypto::{Digest, PublicSigner};
use crate::format::ranges::{Range, contains, ranges, without, written};
use crate::format::{Descriptor, Health, Retention, SignedRecord, TakeOver};
use crate::host::{Lineage, Pins, Remembered, StateError, Untold};
use crate::policy::effective::{Stated, effective_times};
use crate::policy::retain::{Snapshot, retain};

/// What does not agree with `pins`, which remember what is there now.
pub(super) fn compare(pins: &mut Pins, history: &History) -> Vec<Warning> {
    let there = ranges(history.listed.iter().map(|listed| listed.sequence));
    let newest = history.verified().next_back();
    pins.vanished.retain(|sequence, _| !contains(&there, *sequence));
    let mut warnings: Vec<Warning> = set_back(pins, newest, &there).into_iter().collect();
    let Some(newest) = newest else {
        warnings.extend(untold(pins, Vec::new(), &there));
        return warnings;
    };
    let mut news: Vec<Untold> = exchanged(pins, history).into_iter().collect();
    let now: Vec<Remembered> = history
        .listed
        .iter()
        .filter_map(|listed| {
            let signed = listed.record.as_ref().ok()?;
            Some(remembered(signed, Some(listed.stored)))
        })
        .collect();
    news.extend(gone(pins, newest, &there, &now));
    warnings.extend(untold(pins, news, &there));
    // What verified once and does not today, because another signer was named or other bytes lie there, is not forgotten.
    let verified = ranges(now.iter().map(|seen| seen.sequence));
    pins.seen.retain(|seen| contains(&there, seen.sequence) && !contains(&verified, seen.sequence));
    pins.seen.extend(now);
    pins.seen.sort_by_key(|seen| seen.sequence);
    if pins.newest.is_none_or(|before| before.0 <= newest.record.sequence) {
        pins.newest = Some((newest.record.sequence, newest.signed.digest()));
    }
    warnings
}

/// When each record was stored, as far as the server told it when it was first seen here.
pub(super) fn first_stored(pins: &Pins) -> HashMap<Digest, Timestamp> {
    pins.seen.iter().filter_map(|seen| Some((seen.record, seen.stored?))).collect()
}

/// What a reader says that sees what is there, and cannot keep it in mind.
pub(super) fn not_remembered(error: &StateError) -> Warning {
    let text = format!(
        "what was seen here cannot be remembered, so no later run notices what vanishes, is exchanged or set back: name a \
         directory that can be written and lasts with --state-dir ({error})"
    );
    Warning::standing("not-remembered", text)
}

/// The name of the warning that `repository.json` is another than it was.
pub(crate) const DESCRIPTOR_CHANGED: &str = "descriptor-changed";

/// What is to be made of `repository.json`, by what this machine remembers of it.
pub(super) struct KnownDescriptor {
    /// The longer one.
    pub grace_seconds: u64,
    pub warning: Option<Warning>,
}

/// It is created once and signed by nobody: the first one that was seen here is remembered for good.
pub(super) fn descriptor(pins: &mut Pins, now: &Descriptor) -> KnownDescriptor {
    let known = pins.descriptor.as_deref().and_then(|json| Descriptor::parse(json.as_bytes()).ok());
    let Some(known) = known else {
        pins.descriptor = now.to_json().ok();
        return KnownDescriptor { grace_seconds: now.grace_seconds, warning: None };
    };
    let warning = (known != *now).then(|| {
        let text = format!(
            "repository.json, which nothing should ever change, is another than this machine remembers; the longer grace \
             period of the two counts here. Put the old one back, from a recovery kit or this line: {}",
            pins.descriptor.as_deref().unwrap_or_default().trim_end()
        );
        Warning::doubt(DESCRIPTOR_CHANGED, text)
    });
    KnownDescriptor { grace_seconds: known.grace_seconds.max(now.grace_seconds), warning }
}

/// What a reader says that was not here before, or whose memory did not last.
pub(super) fn first_look() -> Warning {
    let text = "this machine remembers no snapshot of this repository from before, so it cannot tell what vanished, was \
                exchanged or set back until now: keep its state directory (--state-dir) from one run to the next";
    Warning::standing("first-look", text)
}

/// For the host itself, which reads no older record than its `parent`: what that names, or this machine saw, and is not
/// `listed`.
pub(crate) fn missing(pins: &mut Pins, parent: &SignedRecord, listed: impl Iterator<Item = u64>) -> Vec<Warning> {
    let there = ranges(listed);
    let news = gone(pins, parent, &there, &[]);
    pins.seen.retain(|seen| contains(&there, seen.sequence));
    untold(pins, news, &there)
}

/// What is told once and then remembered: a second look would not find it again.
pub(crate) const TOLD_ONCE: [&str; 3] = ["record-exchanged", "record-vanished", "record-removed"];

/// All that nobody was told yet, with these `news`, which are kept until then.
fn untold(pins: &mut Pins, news: Vec<Untold>, there: &[Range]) -> Vec<Warning> {
    pins.untold.retain(|untold| untold.gone.is_empty() || !without(&untold.gone, there).is_empty());
    for new in news {
        if !pins.untold.contains(&new) {
            pins.untold.push(new);
        }
    }
    let warning = |untold: &Untold| {
        let name = TOLD_ONCE.into_iter().find(|name| *name == untold.name)?;
        Some(Warning { name, text: untold.text.clone(), doubt: untold.doubt })
    };
    pins.untold.iter().filter_map(warning).collect()
}

/// To be called once these `texts` were printed: what is told once is not told again. If this cannot be remembered, it is.
pub fn told<'a>(state_dir: &Path, texts: impl IntoIterator<Item = &'a str>) {
    let texts: BTreeSet<&str> = texts.into_iter().collect();
    let settle = || {
        let mut pins = Pins::load(state_dir)?;
        let before = pins.untold.len();
        pins.untold.retain(|untold| !texts.contains(untold.text.as_str()));
        if pins.untold.len() < before { pins.save(state_dir) } else { Ok(()) }
    };
    if let Err(error) = settle() {
        tracing::debug!(%error, "what was told cannot be remembered, and is told again");
    }
}

/// That these `removed` ones are gone is no news to this machine: it takes them out itself.
pub(crate) fn expect_gone(pins: &mut Pins, removed: &BTreeSet<u64>) {
    let new = without(&ranges(removed.iter().copied()), &pins.gone);
    pins.gone = joined(std::mem::take(&mut pins.gone), new);
    pins.vanished.retain(|sequence, _| !removed.contains(sequence));
    if pins.newest.is_some_and(|newest| removed.contains(&newest.0)) {
        let left = pins.seen.iter().filter(|seen| !removed.contains(&seen.sequence));
        pins.newest = left.map(|seen| (seen.sequence, seen.record)).max_by_key(|newest| newest.0);
    }
}

/// The take-overs that led to `signer`, where they are remembered.
pub(crate) fn take_overs_of(pins: &Pins, signer: &PublicSigner) -> Option<Vec<TakeOver>> {
    let known = pins.lineage.as_ref().filter(|lineage| lineage.signer == *signer)?;
    serde_json::from_str(&known.take_overs).ok()
}

pub(super) fn remember_take_overs(pins: &mut Pins, signer: &PublicSigner, take_overs: &[TakeOver]) {
    let json = serde_json::to_string(take_overs).ok();
    pins.lineage = json.map(|take_overs| Lineage { signer: signer.clone(), take_overs });
}

/// This machine's own new record is the newest that it saw.
pub(crate) fn remember_own(pins: &mut Pins, own: &SignedRecord) {
    let signer = own.signed.signer().clone();
    remember_take_overs(pins, &signer, &own.record.take_overs);
    pins.signer = Some(signer);
    pins.newest = Some((own.record.sequence, own.signed.digest()));
    pins.seen.push(remembered(own, None));
}

/// `stored` is the server's time of the record.
fn remembered(signed: &SignedRecord, stored: Option<Timestamp>) -> Remembered {
    let record = &signed.record;
    Remembered {
        sequence: record.sequence,
        record: signed.signed.digest(),
        time: stored.map_or(record.time, |stored| record.time.min(stored)),
        stored,
        tags: record.tags.clone(),
        good: record.worst_health() <= Health::Unchecked,
        epochs: record.epochs.iter().map(|epoch| epoch.epoch).collect(),
    }
}

fn set_back(pins: &mut Pins, newest: Option<&Arc<SignedRecord>>, there: &[Range]) -> Option<Warning> {
    let (before, _) = pins.newest?;
    let lower = newest.is_none_or(|newest| newest.record.sequence < before);
    let is_set_back = lower && !contains(there, before);
    if is_set_back {
        let above = pins.seen.iter().map(|seen| seen.sequence).filter(|sequence| !contains(there, *sequence));
        let above = above.filter(|sequence| newest.is_none_or(|newest| newest.record.sequence < *sequence));
        let lost: Vec<u64> = above.chain([before]).collect();
        remember_vanished(pins, lost);
    }
    is_set_back.then(|| {
        let text = format!("snapshot {before} was here before and is gone: the repository was set back");
        Warning::doubt("repository-set-back", text)
    })
}

fn remember_vanished(pins: &mut Pins, sequences: impl IntoIterator<Item = u64>) {
    for sequence in sequences {
        pins.vanished.entry(sequence).or_default();
    }
}

/// One number, two records that verify.
fn exchanged(pins: &Pins, history: &History) -> Option<Untold> {
    let seen = pins.seen.iter().map(|seen| (seen.sequence, seen.record)).chain(pins.newest);
    let known: HashMap<u64, _> = seen.collect();
    let other = |record: &&Arc<SignedRecord>| {
        known.get(&record.record.sequence).is_some_and(|digest| *digest != record.signed.digest())
    };
    let numbers = ranges(history.verified().filter(other).map(|record| record.record.sequence));
    (!numbers.is_empty()).then(|| {
        let text = format!(
            "snapshot {} is another one than this machine saw under that number, with a valid signature, too: a copy \
             of the host writes here, or the repository was set back and went on",
            written(&numbers)
        );
        Untold { name: "record-exchanged".to_owned(), text, doubt: true, gone: Vec::new() }
    })
}

/// What `newest` names, or this machine saw, and is no longer there.
fn gone(pins: &mut Pins, newest: &SignedRecord, there: &[Range], now: &[Remembered]) -> Vec<Untold> {
    let named = without(&newest.record.earlier, there);
    let seen = pins.seen.iter().map(|seen| seen.sequence).filter(|sequence| *sequence < newest.record.sequence);
    let known = without(&without(&ranges(seen), there), &pins.gone);
    let unknown = without(&without(&named, &pins.gone), &known);
    let (vanished, unexplained) = match &newest.record.retention {
        Some(rules) => (without(&known, &removed_by(rules, &pins.seen, now)), unknown),
        None => (joined(known, unknown), Vec::new()),
    };
    pins.gone = named;
    // What was never seen here may have been removed long ago, by whoever had to.
    let lost: Vec<u64> = pins.seen.iter().map(|seen| seen.sequence).filter(|it| contains(&vanished, *it)).collect();
    remember_vanished(pins, lost);
    let mut news = Vec::new();
    if !vanished.is_empty() {
        let text = format!("snapshot {} was there and is gone, and no retention rule explains it", written(&vanished));
        news.push(Untold { name: "record-vanished".to_owned(), text, doubt: true, gone: vanished });
    }
    if !unexplained.is_empty() {
        let text = format!(
            "snapshot {} was removed after snapshot {} was made. Retention is in force, but this machine never saw what \
             was removed, so it cannot tell whether the rules did it",
            written(&unexplained),
            newest.record.sequence
        );
        news.push(Untold { name: "record-removed".to_owned(), text, doubt: false, gone: unexplained });
    }
    news
}

/// What `rules` let go of all that was ever seen here. What was drilled or proved since is not known here, so the rules
/// are taken to protect no more than they must.
fn removed_by(rules: &Retention, before: &[Remembered], now: &[Remembered]) -> Vec<Range> {
    let all: BTreeMap<u64, &Remembered> = before.iter().chain(now).map(|seen| (seen.sequence, seen)).collect();
    let stated = all.values().map(|seen| Stated {
        sequence: seen.sequence,
        signed: seen.time,
        modified: seen.stored.unwrap_or(Timestamp::MAX),
    });
    let snapshots: Vec<Snapshot> = all
        .values()
        .zip(effective_times(stated))
        .map(|(seen, effective)| Snapshot {
            sequence: seen.sequence,
            effective,
            tags: seen.tags.clone(),
            healthy: seen.good,
            whole: true,
            drilled: false,
            epochs: seen.epochs.iter().copied().collect(),
        })
        .collect();
    let proved = snapshots.iter().flat_map(|snapshot| snapshot.epochs.iter().copied()).collect();
    match retain(&snapshots, rules, &proved) {
        Ok(plan) => ranges(plan.removed()),
        Err(error) => {
            tracing::debug!(%error, "the rules in the newest record explain nothing");
            Vec::new()
        }
    }
}

/// Both, which have no number in common.
fn joined(a: Vec<Range>, b: Vec<Range>) -> Vec<Range> {
    let mut all = [a, b].concat();
    all.sort_unstable();
    all
}
