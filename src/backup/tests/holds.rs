//! What holds up the application's writers, and whether that is reported.

use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

use super::*;
use crate::format::Health;

/// What a backup does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Advanced(Phase),
    Ended(Phase),
}

/// Watches a backup, and does something at each moment.
struct Meddler {
    deed: Mutex<Box<dyn FnMut(Moment) + Send>>,
    /// Transactions of pass 1 that read anything.
    short_reads: AtomicU64,
    /// Bytes read under the lock of pass 2.
    fixed: AtomicU64,
}

impl Meddler {
    fn who(deed: impl FnMut(Moment) + Send + 'static) -> Arc<Self> {
        Arc::new(Self { deed: Mutex::new(Box::new(deed)), short_reads: AtomicU64::new(0), fixed: AtomicU64::new(0) })
    }

    fn come(&self, moment: Moment) {
        self.deed.lock().expect("whole")(moment);
    }
}

/// Does it the first time that the moment comes.
fn once(when: Moment, deed: impl FnOnce()) -> impl FnMut(Moment) {
    let mut deed = Some(deed);
    move |moment| {
        if let Some(deed) = deed.take_if(|_| moment == when) {
            deed();
        }
    }
}

impl Monitor for Meddler {
    fn begin(&self, _phase: Phase, _bytes: Option<u64>) {}

    fn advance(&self, phase: Phase, bytes: u64) {
        match phase {
            Phase::Reading => self.short_reads.fetch_add(1, Ordering::Relaxed),
            Phase::Fixing => self.fixed.fetch_add(bytes, Ordering::Relaxed),
            _ => 0,
        };
        self.come(Moment::Advanced(phase));
    }

    fn end(&self, phase: Phase) {
        self.come(Moment::Ended(phase));
    }
}

/// A database of some megabytes, and the small file.
fn database(scratch: &Scratch, megabytes: u32) -> PathBuf {
    let path = scratch.path("a.db");
    let connection = Connection::open(&path).expect("a database");
    let rows = "create table t (body blob);
                with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000 * MEGABYTES)
                insert into t select randomblob(900) from n";
    connection.execute_batch(&rows.replace("MEGABYTES", &megabytes.to_string())).expect("rows");
    path
}

fn write_to(database: &std::path::Path) {
    let connection = Connection::open(database).expect("a database");
    connection.busy_timeout(Duration::from_secs(60)).expect("patience");
    connection.execute("insert into t values (randomblob(900))", []).expect("a row");
}

/// Until no print of the file can hide a write any more.
fn wait_for_rest(path: &std::path::Path) {
    let age = || path.metadata().expect("there").modified().expect("a time").elapsed().unwrap_or_default();
    while age() < Duration::from_millis(200) {
        std::thread::yield_now();
    }
}

fn request(scratch: &Scratch, database: &std::path::Path, writer_hold: Duration) -> BackupRequest {
    let mut request = scratch.request();
    let source = SourceSpec { name: "a.db".to_owned(), path: database.to_owned(), kind: SourceKind::Database };
    request.sources.push(source);
    request.gentleness.writer_hold = writer_hold;
    request
}

async fn run(
    scratch: &Scratch,
    request: BackupRequest,
    meddler: &Arc<Meddler>,
) -> Result<BackupReport, OperationError> {
    let monitor: Arc<dyn Monitor> = Arc::<Meddler>::clone(meddler);
    backup(&scratch.remote, &scratch.state(), request, monitor).await
}

/// A disk that is slow once stands for whatever makes a hold long.
#[tokio::test]
async fn the_hold_of_a_round_that_failed_is_the_one_that_is_reported() {
    let scratch = Scratch::sealed_for(&Person::new()).await;
    let path = database(&scratch, 1);
    let limit = Duration::from_millis(1200);
    let slow = limit + Duration::from_millis(100);
    let written = path.clone();
    let mut write = once(Moment::Ended(Phase::Reading), move || write_to(&written));
    let mut dawdle = once(Moment::Advanced(Phase::Fixing), move || std::thread::sleep(slow));
    let meddler = Meddler::who(move |moment| {
        write(moment);
        dawdle(moment);
    });
    let report = run(&scratch, request(&scratch, &path, limit), &meddler).await.expect("a snapshot");
    let fixed = meddler.fixed.load(Ordering::Relaxed);
    assert!(fixed > path.metadata().expect("there").len(), "there was no second round: {fixed}");
    assert!(report.writer_hold >= slow, "{:?}", report.writer_hold);
}

#[tokio::test]
async fn a_limit_below_the_usual_span_of_pass_1_binds_it_too() {
    let scratch = Scratch::sealed_for(&Person::new()).await;
    let path = database(&scratch, 6);
    let meddler = Meddler::who(|_| ());
    let error =
        run(&scratch, request(&scratch, &path, Duration::from_nanos(1)), &meddler).await.expect_err("no instant");
    let OperationError::NoInstant { longest_hold, rounds, .. } = error else { panic!("{error}") };
    assert!(longest_hold > Duration::ZERO);
    let megabytes = path.metadata().expect("there").len() / (1 << 20);
    let short_reads = meddler.short_reads.load(Ordering::Relaxed);
    assert!(
        short_reads >= megabytes * rounds as u64,
        "{short_reads} transactions for {megabytes} MB in {rounds} rounds"
    );
}

#[tokio::test]
async fn a_small_file_that_changes_meanwhile_does_not_make_a_database_at_rest_be_read_under_the_lock() {
    let scratch = Scratch::sealed_for(&Person::new()).await;
    let path = database(&scratch, 2);
    wait_for_rest(&path);
    let file = scratch.path("source");
    let change = once(Moment::Ended(Phase::Fixing), move || fs::write(file, "second").expect("written"));
    let meddler = Meddler::who(change);
    run(&scratch, request(&scratch, &path, Duration::from_secs(60)), &meddler).await.expect("a snapshot");
    assert_eq!(meddler.fixed.load(Ordering::Relaxed), 0);
}

/// The check that ran during the end of pass 1 knows nothing of it.
#[tokio::test]
async fn what_becomes_of_a_database_at_rest_once_it_was_checked_is_checked_again() {
    let scratch = Scratch::sealed_for(&Person::new()).await;
    let path = database(&scratch, 2);
    wait_for_rest(&path);
    let damaged = path.clone();
    let damage = once(Moment::Ended(Phase::Reading), move || {
        let file = fs::OpenOptions::new().write(true).open(damaged).expect("there");
        file.write_all_at(&[0xff; 100], 3 * 4096).expect("damaged");
    });
    let request = request(&scratch, &path, Duration::from_secs(60));
    let report = run(&scratch, request.clone(), &Meddler::who(|_| ())).await.expect("a snapshot");
    assert_eq!(report.health, [Health::Ok, Health::Ok]);
    write_to(&path);
    wait_for_rest(&path);
    let report = run(&scratch, request, &Meddler::who(damage)).await.expect("a snapshot");
    assert_eq!(report.health, [Health::Ok, Health::Damaged]);
}
