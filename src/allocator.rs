//! One setting of the GNU allocator, so that what was freed is no longer this process's memory.

/// From here on memory of 2 MiB and more goes back to the system as soon as it is free. To be called before there are
/// threads.
///
/// The GNU allocator raises that bound, up to 32 MiB, whenever something larger is freed. From then on every thread that
/// ever held a pack keeps room for one: a restore of incompressible data came to 191 MiB, and comes to 69 this way. Other
/// C libraries have no such habit.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)] // The one place: no safe function of any library sets this.
    // SAFETY: two numbers by value, both documented; only one thread runs.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 2 << 20);
    }
}
