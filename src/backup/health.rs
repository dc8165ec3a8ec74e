//! Whether SQLite finds a database sound that is being backed up.
//!
//! While there are no writes, the check runs during the end of pass 1, and its word is of the very instant of the
//! snapshot. Otherwise it comes afterwards, outside the hold, and is of a moment later, which is near enough for a
//! word.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Finding;
use super::sources::{Gentleness, SourceKind, SourceSpec};
use crate::format::Health;
use crate::source::{self, Checkup, Print};

/// Between the hold and the check's own read locks a busy application gets this long: its readers, held up together
/// with a waiting writer, sleep up to 100 ms between two tries.
const BREATH: Duration = Duration::from_millis(250);
/// The health check holds its read lock at most this long for one table; what is larger stays unchecked.
const CHECK_HOLD: Duration = Duration::from_millis(1000);
/// Damage is looked at once more after this.
const SECOND_LOOK: Duration = Duration::from_millis(500);

/// A check that runs while the database is still being read.
pub(super) struct EarlyCheck {
    /// What the file was recognised by before it began.
    print: Print,
    checking: JoinHandle<Option<Checkup>>,
}

impl EarlyCheck {
    pub fn begin(path: PathBuf, writer_hold: Duration, print: Print) -> Self {
        Self { print, checking: std::thread::spawn(move || check(&path, writer_hold)) }
    }

    /// Waits for its end.
    pub fn end(self) -> EarlyWord {
        let checkup = self.checking.join().ok().flatten();
        let longest_hold = checkup.as_ref().map_or(Duration::ZERO, |checkup| checkup.longest_hold);
        let sound = checkup.is_some_and(|checkup| checkup.health == source::Health::Ok);
        EarlyWord { print: self.print, sound, longest_hold }
    }
}

/// What came of an [`EarlyCheck`].
pub(super) struct EarlyWord {
    print: Print,
    sound: bool,
    /// The longest that one of its transactions lasted.
    pub longest_hold: Duration,
}

impl EarlyWord {
    /// Whether the database was found sound, and there was no write since before the check began. Otherwise it is worth
    /// another look.
    pub fn is_sound(&self, fixed: &Print) -> bool {
        self.sound && fixed.proves_unchanged(&self.print)
    }
}

fn check(path: &Path, writer_hold: Duration) -> Option<Checkup> {
    source::as_owner_of(path, || source::quick_check(path, writer_hold.min(CHECK_HOLD))).ok()
}

/// The health of a source whose instant is fixed, and how long the check's own transactions lasted at most. `busy`: the
/// application is at work right now.
pub(super) fn check_health(
    spec: &SourceSpec,
    gentleness: Gentleness,
    busy: bool,
    warnings: &mut Vec<Finding>,
) -> (Health, Duration) {
    if spec.kind != SourceKind::Database {
        return (Health::Ok, Duration::ZERO);
    }
    if busy {
        std::thread::sleep(BREATH);
    }
    let check = || check(&spec.path, gentleness.writer_hold);
    let mut checkup = check();
    let mut hold = checkup.as_ref().map_or(Duration::ZERO, |checkup| checkup.longest_hold);
    if checkup.as_ref().is_some_and(|checkup| checkup.health == source::Health::Damaged) {
        // It may just be overwritten by a copy; real damage stays.
        std::thread::sleep(SECOND_LOOK);
        checkup = check();
        hold = checkup.as_ref().map_or(hold, |checkup| hold.max(checkup.longest_hold));
    }
    let detail = checkup.as_ref().and_then(|checkup| checkup.detail.clone());
    let detail = detail.map_or_else(|| "no answer".to_owned(), |detail| format!("SQLite says: {detail}"));
    let health = match checkup.map(|checkup| checkup.health) {
        Some(source::Health::Ok) => Health::Ok,
        Some(source::Health::Damaged) => Health::Damaged,
        Some(source::Health::Unchecked) | None => Health::Unchecked,
    };
    warnings.extend(health_warning(&spec.path, health, &detail));
    (health, hold)
}

/// What a database's health is worth saying, with `detail` on how it is known.
pub(super) fn health_warning(path: &Path, health: Health, detail: &str) -> Option<Finding> {
    let (path, why) = (path.to_owned(), detail.to_owned());
    match health {
        Health::Damaged => Some(Finding::SourceDamaged { path, why }),
        Health::Unchecked => Some(Finding::HealthUnchecked { path, why }),
        Health::Ok | Health::Shrunk | Health::Missing => None,
    }
}
