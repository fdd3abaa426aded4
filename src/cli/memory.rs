//! How glibc's allocator is told to give memory back.

/// Sets the allocator up; to be called before there is a second thread.
///
/// Batches are made in pieces of all sizes, by one thread, and let go by another. By itself glibc gives up to eight arenas a
/// core to the threads, each of which keeps what was let go in it, and takes ever larger pieces from them rather than
/// from the kernel. Two arenas, and pieces of a megabyte from the kernel, took a run of 16 columns from 264 MB to 173, at the
/// same or less CPU time.
pub(super) fn set_up() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const MEGABYTE: std::ffi::c_int = 1 << 20;
        for (parameter, value) in [(libc::M_ARENA_MAX, 2), (libc::M_MMAP_THRESHOLD, MEGABYTE)] {
            // SAFETY: the call takes two numbers and touches nothing of ours. It must not run beside itself: there is one
            // thread so far. What glibc does not know it refuses by returning 0, and all stays as it was.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}
