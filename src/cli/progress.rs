//! Progress: bars with bytes, rate and time left on a terminal; JSON lines for a script; nothing for anybody else.
//!
//! Workers only count; a thread of its own shows, and it alone waits for a terminal that was stopped or a pipe that
//! has no reader.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::events::{Monitor, Phase, Unwatched};

/// A script hears of each phase this often.
const JSON_INTERVAL: Duration = Duration::from_millis(500);
/// Bars move this often.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
/// At the end, what is shown gets this long to be taken away.
const LAST_LOOK: Duration = Duration::from_secs(1);

pub struct Progress;

impl Progress {
    pub fn start(json: bool) -> Arc<dyn Monitor> {
        if json {
            return Arc::new(Counters::shown_by(JsonLines::default, JSON_INTERVAL));
        }
        if std::io::stderr().is_terminal() {
            return Arc::new(Counters::shown_by(Bars::new, BAR_INTERVAL));
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

/// Bytes done, phase by phase.
#[derive(Default)]
struct Done([AtomicU64; Phase::ALL.len()]);

impl Done {
    fn of(&self, phase: Phase) -> &AtomicU64 {
        &self.0[phase as usize]
    }
}

enum Event {
    Begin(Phase, Option<u64>),
    /// With the bytes that were done.
    End(Phase, u64),
}

/// Draws on standard error, and may be held up by it.
trait Show {
    fn begin(&mut self, phase: Phase, total: Option<u64>);
    fn move_on(&mut self, done: &Done);
    fn end(&mut self, phase: Phase, done: u64);
}

struct Counters {
    done: Arc<Done>,
    /// Always there until this is dropped.
    events: Option<Sender<Event>>,
    /// Ends when all is shown.
    shown: Receiver<()>,
}

impl Counters {
    fn shown_by<S: Show>(show: impl FnOnce() -> S + Send + 'static, interval: Duration) -> Self {
        let done = Arc::new(Done::default());
        let counts = Arc::clone(&done);
        let (events, happened) = unbounded();
        let (showing, shown) = bounded(0);
        let thread = move || {
            let _showing: Sender<()> = showing;
            watch(&happened, &counts, show(), interval);
        };
        // Without a thread nothing is shown, and all else goes on.
        let _ = std::thread::Builder::new().name("progress".to_owned()).spawn(thread);
        Self { done, events: Some(events), shown }
    }

    fn tell(&self, event: Event) {
        if let Some(events) = &self.events {
            let _ = events.send(event);
        }
    }
}

fn watch(events: &Receiver<Event>, done: &Done, mut show: impl Show, interval: Duration) {
    loop {
        match events.recv_timeout(interval) {
            Ok(Event::Begin(phase, total)) => show.begin(phase, total),
            Ok(Event::End(phase, bytes)) => show.end(phase, bytes),
            Err(RecvTimeoutError::Timeout) => show.move_on(done),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Monitor for Counters {
    fn begin(&self, phase: Phase, bytes: Option<u64>) {
        self.done.of(phase).store(0, Ordering::Relaxed);
        self.tell(Event::Begin(phase, bytes));
    }

    fn advance(&self, phase: Phase, bytes: u64) {
        self.done.of(phase).fetch_add(bytes, Ordering::Relaxed);
    }

    fn end(&self, phase: Phase) {
        self.tell(Event::End(phase, self.done.of(phase).load(Ordering::Relaxed)));
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        drop(self.events.take());
        let _ = self.shown.recv_timeout(LAST_LOOK);
    }
}

struct Bars {
    all: MultiProgress,
    bars: HashMap<Phase, ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        Self { all, bars: HashMap::new() }
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

impl Show for Bars {
    fn begin(&mut self, phase: Phase, total: Option<u64>) {
        let bar = self.all.add(Self::bar(phase, total));
        bar.tick();
        if let Some(earlier) = self.bars.insert(phase, bar) {
            earlier.finish_and_clear();
        }
    }

    fn move_on(&mut self, done: &Done) {
        for (phase, bar) in &self.bars {
            bar.set_position(done.of(*phase).load(Ordering::Relaxed));
            bar.tick();
        }
    }

    fn end(&mut self, phase: Phase, _done: u64) {
        if let Some(bar) = self.bars.remove(&phase) {
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
    totals: HashMap<Phase, Option<u64>>,
}

impl JsonLines {
    fn print(phase: Phase, done: u64, total: Option<u64>) {
        let line = serde_json::json!({ "progress": word(phase), "bytes": done, "total_bytes": total });
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

impl Show for JsonLines {
    fn begin(&mut self, phase: Phase, total: Option<u64>) {
        Self::print(phase, 0, total);
        self.totals.insert(phase, total);
    }

    fn move_on(&mut self, done: &Done) {
        for (phase, total) in &self.totals {
            Self::print(*phase, done.of(*phase).load(Ordering::Relaxed), *total);
        }
    }

    fn end(&mut self, phase: Phase, done: u64) {
        if let Some(total) = self.totals.remove(&phase) {
            Self::print(phase, done, total);
        }
    }
}
