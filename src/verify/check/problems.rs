//! What a check finds, an object a line: what is wrong with it, and which snapshots need it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::format::layout;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProblemKind {
    /// A record needs it, and it is not there.
    Missing,
    /// It has another size than the record says.
    Size,
    /// Its bytes are not those of its name, or not those that this host keeps a copy of.
    Hash,
    /// A record that cannot be verified.
    Record,
    /// A record that a newer sealift made.
    Newer,
    /// The records do not follow on each other, or some are gone.
    History,
    /// A key file that holds no data key which the records name.
    Key,
    /// A receipt that cannot be verified.
    Receipt,
    /// It opens, and what is in it is not what it should be.
    Content,
}

impl ProblemKind {
    /// Whether a hash says nothing about it.
    pub(super) fn is_of_contents(self) -> bool {
        matches!(self, Self::Key | Self::Content)
    }
}

/// One object that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub object: String,
    pub kind: ProblemKind,
    pub why: String,
    /// The snapshots that cannot be restored in full because of it.
    pub snapshots: BTreeSet<u64>,
    /// Names of the sources in them that need it; known with an identity only.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub files: BTreeSet<String>,
    /// Every source in them needs it: without a manifest or a key file nothing of a snapshot can be restored.
    pub all_files: bool,
    /// Every snapshot can be restored in full although this is wrong.
    pub restorable: bool,
}

/// By object. What was found first about an object is what is reported.
#[derive(Debug, Default)]
pub(super) struct Problems(BTreeMap<String, Problem>);

impl Problems {
    pub fn add(
        &mut self,
        object: impl Into<String>,
        kind: ProblemKind,
        why: impl Into<String>,
        snapshots: impl IntoIterator<Item = u64>,
    ) -> &mut Problem {
        let object = object.into();
        let new = || Problem {
            object: object.clone(),
            kind,
            why: why.into(),
            snapshots: BTreeSet::new(),
            files: BTreeSet::new(),
            all_files: false,
            restorable: true,
        };
        let problem = self.0.entry(object.clone()).or_insert_with(new);
        problem.snapshots.extend(snapshots);
        problem
    }

    pub fn of(&mut self, object: &str) -> Option<&mut Problem> {
        self.0.get_mut(object)
    }

    pub fn has(&self, object: &str) -> bool {
        self.0.contains_key(object)
    }

    /// Drops those whose snapshots are all gone meanwhile: retention removed them.
    pub fn forget_gone(&mut self, listed: &BTreeSet<u64>) {
        self.0.retain(|_, problem| {
            problem.snapshots.is_empty() || problem.snapshots.iter().any(|snapshot| listed.contains(snapshot))
        });
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.values()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn into_vec(self) -> Vec<Problem> {
        let whole = |object: &str| [layout::MANIFESTS, layout::KEYS].iter().any(|kind| object.starts_with(kind));
        let judged = |problem: Problem| {
            let all_files = whole(&problem.object) && problem.files.is_empty();
            Problem { all_files, restorable: problem.snapshots.is_empty(), ..problem }
        };
        self.0.into_values().map(judged).collect()
    }
}
