//! Tests that could not run, counted and printed: a skip that passes in silence is no test.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

static NOT_RUN: AtomicUsize = AtomicUsize::new(0);

/// Says that the calling test does not run and why. Only for what nobody can install here; everything else fails.
pub fn not_run(reason: &str) {
    let count = NOT_RUN.fetch_add(1, Ordering::Relaxed) + 1;
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Past the capture of the test harness, so that it shows without --nocapture.
    let _ = writeln!(std::io::stderr(), "not run ({count} in this program): {test}: {reason}");
}

/// How many tests of this program were not run.
pub fn count_not_run() -> usize {
    NOT_RUN.load(Ordering::Relaxed)
}
