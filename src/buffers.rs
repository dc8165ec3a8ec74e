//! Buffers that are used again and again, because fresh memory costs more than writing into it: the system clears every
//! page of it, and halts the other threads for a moment when it is given back.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Buffers of one kind, and a bound on what lies idle.
pub struct Buffers {
    /// Smaller ones are not kept.
    least_bytes: usize,
    /// All that are kept have no more room than this, and each no more than half of it.
    most_bytes: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// Buffers that have room for at least `least_bytes` by the time they are given back; no more than `most_bytes` in all
    /// are kept, and none that would take more than half of that: one that size is not the kind that is used in turn.
    pub fn new(least_bytes: usize, most_bytes: usize) -> Arc<Self> {
        Arc::new(Self { least_bytes, most_bytes, free: Mutex::default() })
    }

    /// None is kept: for what is done once.
    pub fn none() -> Arc<Self> {
        Self::new(0, 0)
    }

    /// One as it was given back, or a new one without room.
    pub fn take(&self) -> Vec<u8> {
        self.free().pop().unwrap_or_default()
    }

    /// For the next who takes one.
    pub fn give_back(&self, buffer: Vec<u8>) {
        let mut free = self.free();
        let idle: usize = free.iter().map(Vec::capacity).sum();
        let is_usual = (self.least_bytes..=self.most_bytes / 2).contains(&buffer.capacity());
        if is_usual && idle + buffer.capacity() <= self.most_bytes {
            free.push(buffer);
        }
    }

    /// The bytes in `buffer`, which is given back when the last of those who share them is done; at once if it is far too
    /// large for them, because who counts the bytes counts the memory.
    pub fn share(self: &Arc<Self>, buffer: Vec<u8>) -> Bytes {
        if buffer.len() < buffer.capacity() / 2 {
            let bytes = Bytes::copy_from_slice(&buffer);
            self.give_back(buffer);
            return bytes;
        }
        Bytes::from_owner(Shared { buffer, buffers: Arc::clone(self) })
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn what_lies_idle_is_bounded_and_small_and_huge_ones_are_never_kept() {
        let buffers = Buffers::new(1000, 4500);
        for bytes in [999, 2300, 2000, 1500, 1500, 1000, 1000] {
            buffers.give_back(Vec::with_capacity(bytes));
        }
        let kept: Vec<usize> = (0..4).map(|_| buffers.take().capacity()).collect();
        assert_eq!(kept, [1000, 1500, 2000, 0]);
    }

    #[test]
    fn few_bytes_do_not_hold_a_large_buffer() {
        let buffers = Buffers::new(0, 20_000);
        let mut buffer = Vec::with_capacity(10_000);
        buffer.extend_from_slice(&[7; 10]);
        let few = buffers.share(buffer);
        assert_eq!(buffers.take().capacity(), 10_000);
        assert_eq!(few[..], [7; 10]);
    }

    #[test]
    fn shared_bytes_are_given_back_by_the_last_who_holds_them() {
        let buffers = Buffers::new(0, 2000);
        let shared = buffers.share(vec![7; 1000]);
        let part = shared.slice(10..20);
        drop(shared);
        assert_eq!(buffers.take().capacity(), 0, "a part of it is still held");
        assert_eq!(part[..], [7; 10]);
        drop(part);
        assert_eq!(buffers.take(), [7; 1000]);
    }
}
