//! The digest of a file, piece by piece on several threads, wherever its bytes come from.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::crypto::{Digest, PIECE_BYTES, file_digest, sha256};

/// The digest of `bytes` bytes on `threads` threads. `read_at` fills its buffer from an offset, a multiple of
/// [`PIECE_BYTES`]; `read` hears of the bytes. The first failure ends it.
pub(crate) fn digest_of<E: Send>(
    bytes: u64,
    threads: usize,
    read_at: impl Fn(&mut [u8], u64) -> Result<(), E> + Sync,
    read: impl Fn(u64) + Sync,
) -> Result<Digest, E> {
    digest_alongside(|| (), bytes, threads, read_at, read)
}

/// The same, and at the same time `other` work, which one of the threads does before it helps the others; where there
/// is but one, afterwards.
pub(crate) fn digest_alongside<E: Send>(
    other: impl FnOnce() + Send,
    bytes: u64,
    threads: usize,
    read_at: impl Fn(&mut [u8], u64) -> Result<(), E> + Sync,
    read: impl Fn(u64) + Sync,
) -> Result<Digest, E> {
    let pieces = bytes.div_ceil(PIECE_BYTES as u64) as usize;
    let digests = Mutex::new(vec![sha256(b""); pieces]);
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
    let work = || -> Result<(), E> {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                return Ok(());
            }
            let offset = (piece * PIECE_BYTES) as u64;
            let length = (bytes - offset).min(PIECE_BYTES as u64) as usize;
            read_at(&mut buffer[..length], offset)?;
            let digest = sha256(&buffer[..length]);
            digests.lock().unwrap_or_else(PoisonError::into_inner)[piece] = digest;
            read(length as u64);
        }
    };
    let work = || {
        if let Err(error) = work() {
            next.store(pieces, Ordering::Relaxed);
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    };
    std::thread::scope(|scope| {
        let others = threads.min(pieces).saturating_sub(1);
        for _ in 0..others {
            scope.spawn(work);
        }
        if others > 0 {
            other();
            work();
        } else {
            work();
            other();
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(file_digest(&*digests.lock().unwrap_or_else(PoisonError::into_inner))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_does_not_depend_on_the_number_of_threads() {
        let bytes: Vec<u8> = (0..3 * PIECE_BYTES as u32 / 2 + 17).map(|n| (n % 251) as u8).collect();
        let pieces: Vec<Digest> = bytes.chunks(PIECE_BYTES).map(sha256).collect();
        let read_at = |buffer: &mut [u8], offset: u64| -> Result<(), ()> {
            buffer.copy_from_slice(&bytes[offset as usize..][..buffer.len()]);
            Ok(())
        };
        for threads in [1, 3] {
            assert_eq!(digest_of(bytes.len() as u64, threads, read_at, |_| ()), Ok(file_digest(&pieces)));
        }
    }

    #[test]
    fn a_failed_read_ends_it_with_its_error() {
        let bytes = 5 * PIECE_BYTES as u64;
        let read_at = |_: &mut [u8], offset: u64| if offset == 0 { Err("torn") } else { Ok(()) };
        assert_eq!(digest_of(bytes, 2, read_at, |_| ()), Err("torn"));
    }
}
