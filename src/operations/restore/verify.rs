//! Whether a restored file is what the manifest says, and whether SQLite finds it sound.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::{Connection, OpenFlags};

use crate::crypto::{Digest, PIECE_BYTES, file_digest, sha256};

/// The digest of `bytes` bytes of `file`, read back piece by piece on `threads` threads.
pub(super) fn digest_of(file: &File, bytes: u64, threads: usize, read: impl Fn(u64) + Sync) -> std::io::Result<Digest> {
    let pieces = bytes.div_ceil(PIECE_BYTES as u64) as usize;
    let digests = Mutex::new(vec![sha256(b""); pieces]);
    let next = AtomicUsize::new(0);
    let work = || -> std::io::Result<()> {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                return Ok(());
            }
            let offset = (piece * PIECE_BYTES) as u64;
            let length = (bytes - offset).min(PIECE_BYTES as u64) as usize;
            file.read_exact_at(&mut buffer[..length], offset)?;
            let digest = sha256(&buffer[..length]);
            digests.lock().unwrap_or_else(PoisonError::into_inner)[piece] = digest;
            read(length as u64);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(std::io::Error::other("a worker panicked"))))
    })?;
    Ok(file_digest(&*digests.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// SQLite's `integrity_check` of a file that nobody else knows of yet: `None` when sound, else its first finding.
///
/// `immutable`, because a database in WAL mode would otherwise get files beside it; here nobody can write to it.
pub(super) fn integrity_check(path: &Path) -> Option<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let uri = format!("file:{}?immutable=1", percent_encoded(path));
    let check = || -> rusqlite::Result<String> {
        let connection = Connection::open_with_flags(uri, flags)?;
        connection.query_row("pragma integrity_check(1)", [], |row| row.get(0))
    };
    match check() {
        Ok(answer) if answer == "ok" => None,
        Ok(finding) => Some(finding),
        // The application's own collation is not at hand here; the bytes are verified all the same.
        Err(error) if error.to_string().contains("no such collation sequence") => None,
        Err(error) => Some(error.to_string()),
    }
}

fn percent_encoded(path: &Path) -> String {
    let encode = |byte: &u8| match byte {
        b'/' | b'.' | b'-' | b'_' => char::from(*byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    path.as_os_str().as_bytes().iter().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_does_not_depend_on_the_number_of_threads() {
        let bytes: Vec<u8> = (0..3 * PIECE_BYTES as u32 / 2 + 17).map(|n| (n % 251) as u8).collect();
        let pieces: Vec<Digest> = bytes.chunks(PIECE_BYTES).map(sha256).collect();
        let file = tempfile::tempfile().expect("scratch");
        file.write_all_at(&bytes, 0).expect("written");
        for threads in [1, 3] {
            let digest = digest_of(&file, bytes.len() as u64, threads, |_| ()).expect("read");
            assert_eq!(digest, file_digest(&pieces));
        }
    }

    #[test]
    fn a_database_with_odd_characters_in_its_path_is_checked_and_nothing_appears_beside_it() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("50% off? #1.db");
        let connection = Connection::open(&path).expect("made");
        connection.execute_batch("pragma journal_mode=wal; create table t(x); insert into t values (1)").expect("made");
        drop(connection);
        assert_eq!(integrity_check(&path), None);
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
    }
}
