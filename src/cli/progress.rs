//! Progress: bars with bytes, rate and time left on a terminal; JSON lines for a script; nothing for anybody else.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::operations::{Monitor, Phase, Unwatched};

/// A script hears of each phase at most this often.
const JSON_INTERVAL: Duration = Duration::from_millis(500);

pub struct Progress;

impl Progress {
    pub fn start(json: bool) -> Arc<dyn Monitor> {
        if json {
            return Arc::new(JsonLines::default());
        }
        if std::io::stderr().is_terminal() {
            return Arc::new(Bars::new());
        }
        Arc::new(Unwatched)
    }
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Reading => "reading",
        Phase::Fixing => "fixing one instant",
        Phase::Uploading => "uploading",
        Phase::Fetching => "fetching",
        Phase::Restoring => "restoring",
        Phase::Verifying => "verifying",
        Phase::Checking => "checking integrity",
    }
}

struct Bars {
    all: MultiProgress,
    bars: Mutex<HashMap<&'static str, ProgressBar>>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        Self { all, bars: Mutex::default() }
    }

    fn bar(phase: Phase, bytes: Option<u64>) -> ProgressBar {
        let template = match (phase, bytes) {
            (Phase::Checking, _) => "{msg:<18} {spinner} {elapsed}",
            (_, None) => "{msg:<18} {decimal_bytes:>10} {decimal_bytes_per_sec:>12}",
            (_, Some(_)) => {
                "{msg:<18} {bar:20} {decimal_bytes:>9} of {decimal_total_bytes} {decimal_bytes_per_sec:>11}, {eta} left"
            }
        };
        // Hidden until it has its place among the others: otherwise it draws itself once somewhere else.
        let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::hidden());
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(word(phase));
        bar
    }
}

impl Monitor for Bars {
    fn begin(&self, phase: Phase, bytes: Option<u64>) {
        let bar = self.all.add(Self::bar(phase, bytes));
        bar.enable_steady_tick(Duration::from_millis(100));
        let earlier = self.bars.lock().unwrap_or_else(PoisonError::into_inner).insert(word(phase), bar);
        if let Some(earlier) = earlier {
            earlier.finish_and_clear();
        }
    }

    fn advance(&self, phase: Phase, bytes: u64) {
        if let Some(bar) = self.bars.lock().unwrap_or_else(PoisonError::into_inner).get(word(phase)) {
            bar.inc(bytes);
        }
    }

    fn end(&self, phase: Phase) {
        if let Some(bar) = self.bars.lock().unwrap_or_else(PoisonError::into_inner).remove(word(phase)) {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        let _ = self.all.clear();
    }
}

/// One line of JSON a phase and half second on standard error.
#[derive(Default)]
struct JsonLines {
    phases: Mutex<HashMap<&'static str, Reported>>,
}

struct Reported {
    done: u64,
    total: Option<u64>,
    last: Instant,
}

impl JsonLines {
    fn print(phase: Phase, reported: &Reported) {
        let line = serde_json::json!({
            "progress": word(phase), "bytes": reported.done, "total_bytes": reported.total
        });
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

impl Monitor for JsonLines {
    fn begin(&self, phase: Phase, total: Option<u64>) {
        let reported = Reported { done: 0, total, last: Instant::now() };
        Self::print(phase, &reported);
        self.phases.lock().unwrap_or_else(PoisonError::into_inner).insert(word(phase), reported);
    }

    fn advance(&self, phase: Phase, bytes: u64) {
        let mut phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reported) = phases.get_mut(word(phase)) {
            reported.done += bytes;
            if reported.last.elapsed() >= JSON_INTERVAL {
                reported.last = Instant::now();
                Self::print(phase, reported);
            }
        }
    }

    fn end(&self, phase: Phase) {
        if let Some(reported) = self.phases.lock().unwrap_or_else(PoisonError::into_inner).remove(word(phase)) {
            Self::print(phase, &reported);
        }
    }
}
