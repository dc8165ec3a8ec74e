//! How an operation shows a person what it is doing. The cli draws it; nothing depends on it.

/// A part of an operation that may take a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Pass 1: bytes of the sources looked at.
    Reading,
    /// Pass 2, one instant: bytes of the sources.
    Fixing,
    /// Bytes put into the store.
    Uploading,
    /// Bytes of stored objects fetched to be looked at.
    Fetching,
    /// Bytes written to the target.
    Restoring,
    /// Bytes of restored files read back and compared.
    Verifying,
    /// SQLite's own check of a restored database.
    Checking,
}

impl Phase {
    pub const ALL: [Self; 7] = [
        Self::Reading,
        Self::Fixing,
        Self::Uploading,
        Self::Fetching,
        Self::Restoring,
        Self::Verifying,
        Self::Checking,
    ];
}

/// Watches an operation. Called from several threads, also while a lock keeps an application's writers waiting:
/// whatever implements it waits for nothing, above all not for a terminal.
pub trait Monitor: Send + Sync {
    /// `phase` begins; `bytes` is how much there is to do, where it is known.
    fn begin(&self, phase: Phase, bytes: Option<u64>);
    /// So many bytes more are done.
    fn advance(&self, phase: Phase, bytes: u64);
    /// `phase` is over.
    fn end(&self, phase: Phase);
}

/// Watches nothing.
pub struct Unwatched;

impl Monitor for Unwatched {
    fn begin(&self, _phase: Phase, _bytes: Option<u64>) {}
    fn advance(&self, _phase: Phase, _bytes: u64) {}
    fn end(&self, _phase: Phase) {}
}
