//! An application beside the backup: commits every few milliseconds, reads in between, and times both.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// The longest that a commit and a read took.
#[derive(Clone, Copy, Default)]
pub struct Waits {
    pub commit: Duration,
    pub read: Duration,
    pub commits: u32,
}

pub struct Application {
    stop: Arc<AtomicBool>,
    writer: JoinHandle<(Duration, u32)>,
    reader: JoinHandle<Duration>,
}

impl Application {
    pub fn start(database: &Path, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (path, flag) = (database.to_owned(), Arc::clone(&stop));
        let writer = std::thread::spawn(move || {
            let connection = open(&path);
            let mut longest = Duration::ZERO;
            let mut commits = 0;
            while !flag.load(Ordering::Relaxed) {
                let begun = Instant::now();
                connection
                    .execute("update system_settings set value = value || 'x' where key = (select min(key) from system_settings)", [])
                    .unwrap();
                longest = longest.max(begun.elapsed());
                commits += 1;
                std::thread::sleep(pause);
            }
            (longest, commits)
        });
        let (path, flag) = (database.to_owned(), Arc::clone(&stop));
        let reader = std::thread::spawn(move || {
            let connection = open(&path);
            let mut longest = Duration::ZERO;
            while !flag.load(Ordering::Relaxed) {
                let begun = Instant::now();
                connection.query_row("select count(*) from users", [], |row| row.get::<_, i64>(0)).unwrap();
                longest = longest.max(begun.elapsed());
                std::thread::sleep(pause);
            }
            longest
        });
        Self { stop, writer, reader }
    }

    pub fn stop(self) -> Waits {
        self.stop.store(true, Ordering::Relaxed);
        let (commit, commits) = self.writer.join().unwrap();
        Waits { commit, commits, read: self.reader.join().unwrap() }
    }
}

fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    connection
}
