//! Runs checks one after the other and tells all that failed at once.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;

use super::Cells;

/// What a check comes to: done, as a whole or but for a part, or left out for a reason; or the fault.
pub(super) type Outcome = Result<Done, String>;

pub(super) enum Done {
    Passed,
    PassedBut(String),
    LeftOut(String),
}

const PASSED: Outcome = Ok(Done::Passed);

/// The outcome of a check that came to its end.
pub(super) fn passed() -> Outcome {
    PASSED
}

/// The outcome of a check that the system has no notion of.
pub(super) fn left_out(reason: impl Into<String>) -> Outcome {
    Ok(Done::LeftOut(reason.into()))
}

/// The outcome of a check that passed but for a part, which was left out.
pub(super) fn passed_but(part: impl Into<String>) -> Outcome {
    Ok(Done::PassedBut(part.into()))
}

pub(super) struct Report {
    subject: String,
    faults: Vec<String>,
    left_out: Vec<String>,
    passed: usize,
    run: usize,
}

impl Report {
    pub(super) fn new(subject: String) -> Self {
        Self { subject, faults: Vec::new(), left_out: Vec::new(), passed: 0, run: 0 }
    }

    /// Runs one check, which must end within two minutes.
    pub(super) async fn run(&mut self, name: &str, check: impl Future<Output = Outcome>) {
        self.run_within(2, name, check).await;
    }

    /// Runs one check. A panic in it, of the connector or of a hook, is a fault like another.
    pub(super) async fn run_within(&mut self, minutes: u64, name: &str, check: impl Future<Output = Outcome>) {
        let limited = tokio::time::timeout(Duration::from_secs(minutes * 60), AssertUnwindSafe(check).catch_unwind());
        self.run += 1;
        match limited.await {
            Ok(Ok(Ok(Done::Passed))) => self.passed += 1,
            Ok(Ok(Ok(Done::PassedBut(part)))) => {
                self.passed += 1;
                self.left_out.push(format!("{name}, in part ({part})"));
            }
            Ok(Ok(Ok(Done::LeftOut(reason)))) => self.left_out.push(format!("{name} ({reason})")),
            Ok(Ok(Err(fault))) => self.faults.push(format!("{name}: {fault}")),
            Ok(Err(_)) => self.faults.push(format!("{name}: it panicked, see the message above")),
            Err(_) => self.faults.push(format!("{name}: no end within {minutes} minutes")),
        }
    }

    /// Fails the test when a check failed.
    pub(super) fn finish(self) {
        let Self { subject, faults, left_out, passed, run } = self;
        if !left_out.is_empty() {
            crate::not_run(&format!("{subject}: {} of {run} checks: {}", left_out.len(), left_out.join(", ")));
        }
        if !faults.is_empty() {
            panic!("{subject}: {} checks failed, {passed} passed\n- {}", faults.len(), faults.join("\n- "));
        }
        assert!(passed > 0, "{subject}: no check could be run");
    }
}

/// Compares tables as text and tells the first differences.
pub(super) fn same(found: &Cells, expected: &Cells) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let missing: Vec<_> = count_beyond(expected, found);
    let extra: Vec<_> = count_beyond(found, expected);
    let mut text = format!("{} rows instead of {}", found.len(), expected.len());
    for (what, rows) in [("missing", missing), ("too much", extra)] {
        if !rows.is_empty() {
            text += &format!("; {what} ({}): {:?}", rows.len(), &rows[..rows.len().min(3)]);
        }
    }
    Err(text)
}

/// The rows of `a` that `b` does not have as often.
fn count_beyond<'a>(a: &'a Cells, b: &Cells) -> Vec<&'a Vec<Option<String>>> {
    let mut counts = std::collections::HashMap::new();
    for row in b {
        *counts.entry(row).or_insert(0_usize) += 1;
    }
    a.iter()
        .filter(|row| match counts.get_mut(row) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        })
        .collect()
}
