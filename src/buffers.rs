//! Buffers that are used again and again, because fresh memory costs more than writing into it: the system clears every
//! page of it, and halts the other threads for a moment when it is given back.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers of one kind. There are never more of them than were in use at once.
pub struct Buffers {
    least_bytes: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// Buffers that have room for at least so many bytes by the time they are given back.
    pub fn of(least_bytes: usize) -> Arc<Self> {
        Arc::new(Self { least_bytes, free: Mutex::default() })
    }

    /// One as it was given back, or a new one without room.
    pub fn take(&self) -> Vec<u8> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Smaller ones are dropped: they were not taken from here, and would grow, one more each time.
    pub fn give_back(&self, buffer: Vec<u8>) {
        if buffer.capacity() >= self.least_bytes {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }

    /// The bytes in `buffer`, which is given back when the last of those who share them is done.
    pub fn share(self: &Arc<Self>, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Shared { buffer, buffers: Arc::clone(self) })
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").field("least_bytes", &self.least_bytes).finish_non_exhaustive()
    }
}

struct Shared {
    buffer: Vec<u8>,
    buffers: Arc<Buffers>,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.buffers.give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_bytes_are_given_back_by_the_last_who_holds_them_and_small_ones_never() {
        let buffers = Buffers::of(1000);
        let shared = buffers.share(vec![7; 1000]);
        let part = shared.slice(10..20);
        drop(shared);
        assert_eq!(buffers.take().capacity(), 0, "a part of it is still held");
        assert_eq!(part[..], [7; 10]);
        drop(part);
        assert_eq!(buffers.take(), [7; 1000]);
        buffers.give_back(vec![7; 999]);
        assert_eq!(buffers.take().capacity(), 0);
    }
}
