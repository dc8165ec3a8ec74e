//! Log lines on standard error, which no work waits for: a thread of its own writes them. A terminal that was stopped
//! and a pipe without a reader hold up no backup, least of all while it keeps an application's writers waiting.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

/// So many lines wait to be written; more than that are left out.
const WAITING: usize = 256;
/// At the end of a command, standard error gets this long for what still waits.
const LAST_LINES: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<Sender<Item>> = OnceLock::new();
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

enum Item {
    Line(Vec<u8>),
    /// To be dropped when all before it is written.
    Mark(Sender<()>),
}

/// Takes whole lines and never waits.
pub struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if QUEUE.get_or_init(start).try_send(Item::Line(line.to_vec())).is_err() {
            LEFT_OUT.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Without a thread all lines count as left out.
fn start() -> Sender<Item> {
    let (queue, items) = bounded(WAITING);
    let _ = std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&items));
    queue
}

fn write_all(items: &Receiver<Item>) {
    for item in items {
        match item {
            Item::Line(line) => drop(io::stderr().write_all(&line)),
            Item::Mark(mark) => drop(mark),
        }
        let lines = LEFT_OUT.swap(0, Ordering::Relaxed);
        if lines > 0 {
            tracing::warn!(lines, "lines of this log were left out: they were not read in time");
        }
    }
}

/// Waits a moment for what was logged, so that what comes next stands below it.
pub fn settle() {
    let Some(queue) = QUEUE.get() else { return };
    let deadline = Instant::now() + LAST_LINES;
    let (mark, written) = bounded(0);
    if queue.send_deadline(Item::Mark(mark), deadline).is_ok() {
        let _ = written.recv_deadline(deadline);
    }
}
