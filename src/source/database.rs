//! A live SQLite database, read page by page inside read transactions.
//!
//! Locks, recovery, page size and page count are SQLite's business, and in WAL mode its pager gives the pages
//! (`sqlite_dbpage`). In rollback mode the file itself *is* the pages for as long as SQLite holds the read lock, and is
//! read in large pieces: that halves the time for which a writer waits. What is added here: waiting that does not
//! starve, a bound on memory, and the proof that the file under the path stayed the same one, which SQLite does not
//! look for.

use std::cell::Cell;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::busy::Wait;
use super::claim::Claim;
use super::print::{FileMeta, Journal, Print, Stamp};
use super::{SourceError, place, wal};

/// Before 3.51.3 a reset of the write-ahead log could corrupt a database.
const OLDEST: (i32, &str) = (3_051_003, "it is older than 3.51.3");
/// What an empty database is taken to have; it has no page that could say.
const EMPTY_PAGE_SIZE: usize = 4096;
/// Where SQLite's locks lie in the file; the page there is never used (<https://sqlite.org/fileformat2.html>, "The
/// Lock-Byte Page").
const LOCK_BYTES: u64 = 1 << 30;
const PAGE: &str = "select data from sqlite_dbpage where pgno = ?1";

/// Whether the SQLite in this build can do what is asked of it here.
pub fn assert_sqlite() -> Result<(), SourceError> {
    let lacks = |lack| SourceError::Build { version: rusqlite::version().to_owned(), lack };
    if rusqlite::version_number() < OLDEST.0 {
        return Err(lacks(OLDEST.1));
    }
    let used = "select sqlite_compileoption_used('ENABLE_DBPAGE_VTAB')";
    let has = Connection::open_in_memory().and_then(|memory| memory.query_row(used, [], |row| row.get::<_, bool>(0)));
    if has.unwrap_or(false) { Ok(()) } else { Err(lacks("it has no sqlite_dbpage")) }
}

#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// How long to wait for writers, or for a crashed application to recover its database.
    pub busy: Duration,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { busy: Duration::from_secs(120) }
    }
}

/// One read-only connection. Open a fresh one for each run.
///
/// The connection is closed before the claim is given back: fields are dropped in this order.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    file: Arc<File>,
    path: PathBuf,
    opened: Stamp,
    journal: Option<Journal>,
    limits: ReadLimits,
    longest_hold: Cell<Duration>,
    _claim: Claim,
}

impl Database {
    /// Nothing is read yet, so no lock is taken: whether it is a database at all shows at [`Database::begin`].
    pub fn open(path: &Path, limits: &ReadLimits) -> Result<Self, SourceError> {
        let path = place::resolve(path)?;
        place::not_mounted(&path)?;
        place::readable(&path)?;
        let metadata = place::regular(&path)?;
        wal::guard(&path, &metadata, None)?;
        let opened = Stamp::of(&metadata);
        let (claim, file) = Claim::database(&path, &opened)?;
        let connection = connect(&path).map_err(|error| SourceError::sqlite(&path, error))?;
        let longest_hold = Cell::default();
        Ok(Self { connection, file, path, opened, journal: None, limits: *limits, longest_hold, _claim: claim })
    }

    /// Begins one read transaction, waiting for writers up to the limit.
    ///
    /// [`SourceError::Replaced`] here means that another file has taken the path: open a fresh `Database`.
    pub fn begin(&mut self) -> Result<DatabaseView<'_>, SourceError> {
        let wait = Wait::new(&self.path, self.limits.busy);
        loop {
            let metadata = self.still_there()?;
            wal::guard(&self.path, &metadata, self.journal)?;
            let waited = wait.waited();
            let since = Instant::now();
            match self.first_read() {
                Ok(first) => return self.view(first, since, waited),
                Err(error) => {
                    self.let_go();
                    wait.again(error)?;
                }
            }
        }
    }

    /// Takes the lock or the log's snapshot, and reads what the first page says.
    fn first_read(&self) -> rusqlite::Result<FirstRead> {
        // Pages kept from the last transaction count as current while the counters in page 1 stand still, and they do
        // stand still when a copy of the same age is put in place.
        self.connection.execute_batch("pragma shrink_memory; begin; pragma cache_size = -1024;")?;
        let mut first = FirstRead { journal: Journal::Rollback, page_size: EMPTY_PAGE_SIZE, page_count: 0, counter: 0 };
        let mut statement = self.connection.prepare_cached(PAGE)?;
        let mut rows = statement.query([1])?;
        let Some(row) = rows.next()? else { return Ok(first) };
        let page = row.get_ref(0)?.as_blob()?;
        first.page_size = page.len();
        if let Some(header) = page.first_chunk::<28>() {
            first.counter = u32::from_be_bytes([header[24], header[25], header[26], header[27]]);
            if header[18] > 1 || header[19] > 1 {
                first.journal = Journal::Wal;
            }
        }
        first.page_count = self.connection.query_row("pragma page_count", [], |row| row.get(0))?;
        // A log next to a database whose header does not ask for one is used all the same.
        let mode: String = self.connection.query_row("pragma journal_mode", [], |row| row.get(0))?;
        if mode == "wal" {
            first.journal = Journal::Wal;
        }
        Ok(first)
    }

    fn view(&mut self, first: FirstRead, since: Instant, waited: Duration) -> Result<DatabaseView<'_>, SourceError> {
        self.journal = Some(first.journal);
        match self.still_there() {
            Ok(metadata) => {
                let (stamp, meta) = (Stamp::of(&metadata), FileMeta::of(&metadata));
                Ok(DatabaseView { database: self, first, stamp, meta, since, waited })
            }
            Err(error) => {
                self.let_go();
                Err(error)
            }
        }
    }

    /// The path's `stat`, as long as the path leads to the file that was opened.
    fn still_there(&self) -> Result<Metadata, SourceError> {
        let metadata = place::regular(&self.path)?;
        if Stamp::of(&metadata).inode() == self.opened.inode() { Ok(metadata) } else { Err(self.replaced()) }
    }

    fn replaced(&self) -> SourceError {
        SourceError::Replaced { path: self.path.clone() }
    }

    /// Ends the transaction, if there is one. Nothing was written, so nothing can be lost by it.
    fn let_go(&self) {
        let _ = self.connection.execute_batch("rollback");
    }

    /// The longest that a transaction kept writers waiting so far, whatever came of it; zero in WAL mode.
    pub fn longest_hold(&self) -> Duration {
        self.longest_hold.get()
    }

    /// For the check-up, which reads through SQL what the pages cannot tell.
    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The real path, after symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::ZERO)?;
    // writable_schema lets truncated files and damaged schemas be read; with query_only it lets nothing be written.
    connection.execute_batch(
        "pragma mmap_size = 0; pragma writable_schema = on; pragma query_only = on; pragma temp_store = memory;",
    )?;
    Ok(connection)
}

#[derive(Debug, Clone, Copy)]
struct FirstRead {
    journal: Journal,
    page_size: usize,
    page_count: u32,
    counter: u32,
}

/// One read transaction: one instant of the database. Dropping it lets go of the lock.
#[derive(Debug)]
pub struct DatabaseView<'a> {
    database: &'a Database,
    first: FirstRead,
    stamp: Stamp,
    meta: FileMeta,
    since: Instant,
    waited: Duration,
}

impl DatabaseView<'_> {
    pub fn journal(&self) -> Journal {
        self.first.journal
    }

    /// Bytes a page, 512 to 65,536; of an empty database, 4,096.
    pub fn page_size(&self) -> usize {
        self.first.page_size
    }

    /// Pages in the database; 0 for an empty one. Where the file was cut short, as many as are left, the last one
    /// whole.
    pub fn page_count(&self) -> u32 {
        self.first.page_count
    }

    pub fn bytes(&self) -> u64 {
        self.page_size() as u64 * u64::from(self.page_count())
    }

    /// Bytes 24 to 28 of page 1, which each commit in rollback mode moves.
    pub fn change_counter(&self) -> u32 {
        self.first.counter
    }

    pub fn meta(&self) -> FileMeta {
        self.meta
    }

    pub fn held_for(&self) -> Duration {
        self.since.elapsed()
    }

    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Fills `out`, a multiple of the page size, with the pages from number `first` on.
    ///
    /// The lock page at 1 GiB and what a truncated file lacks of its last page are zeros. A page beyond the page count
    /// is an error: the caller asked for what is not there.
    pub fn read(&self, first: u32, out: &mut [u8]) -> Result<(), SourceError> {
        debug_assert_eq!(out.len() % self.page_size(), 0);
        let path = &self.database.path;
        match self.first.journal {
            Journal::Wal => self.copy_pages(first, out).map_err(|error| SourceError::sqlite(path, error)),
            Journal::Rollback => self.read_file(first, out).map_err(|error| SourceError::io(path, error)),
        }
    }

    /// What the file holds, under the read lock.
    fn read_file(&self, first: u32, out: &mut [u8]) -> io::Result<()> {
        let pages = out.len() / self.page_size();
        if u64::from(first) + pages as u64 > u64::from(self.page_count()) + 1 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a page beyond the last one was asked for"));
        }
        let start = u64::from(first.saturating_sub(1)) * self.page_size() as u64;
        let mut filled = 0;
        while filled < out.len() {
            match self.database.file.read_at(&mut out[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        out[filled..].fill(0);
        if let Some(page) = LOCK_BYTES.checked_sub(start).and_then(|at| out.get_mut(at as usize..)) {
            page.iter_mut().take(self.page_size()).for_each(|byte| *byte = 0);
        }
        Ok(())
    }

    /// What the pager gives: the log's pages where there are any.
    fn copy_pages(&self, first: u32, out: &mut [u8]) -> rusqlite::Result<()> {
        let mut statement = self.database.connection.prepare_cached(PAGE)?;
        for (number, slot) in (i64::from(first)..).zip(out.chunks_mut(self.page_size())) {
            let mut rows = statement.query([number])?;
            let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            let page = row.get_ref(0)?.as_blob()?;
            if page.len() != slot.len() {
                return Err(rusqlite::Error::InvalidColumnType(0, "data".to_owned(), rusqlite::types::Type::Blob));
            }
            slot.copy_from_slice(page);
        }
        Ok(())
    }

    /// Confirms, still under the lock, that the file stayed the same one, then lets go.
    ///
    /// In rollback mode nothing about it may have changed: the lock keeps writers out, unless it does not bind. In WAL
    /// mode a checkpoint may write to the file meanwhile, and only its place is compared.
    pub fn finish(self) -> Result<Print, SourceError> {
        let stamp = Stamp::of(&self.database.still_there()?);
        if self.first.journal == Journal::Rollback && stamp != self.stamp {
            return Err(self.database.replaced());
        }
        Ok(Print {
            journal: Some(self.first.journal),
            change_counter: self.first.counter,
            blocks: self.first.page_count,
            stamp: self.stamp,
        })
    }
}

impl Drop for DatabaseView<'_> {
    fn drop(&mut self) {
        self.database.let_go();
        if self.first.journal == Journal::Rollback {
            let longest_hold = &self.database.longest_hold;
            longest_hold.set(longest_hold.get().max(self.held_for()));
        }
    }
}
