//! What an in-memory connector is to do wrong, and when.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use weir_core::{ConnectorContext, DirtyRow, Error, ErrorKind, Result};

/// A call of a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// `Reader::schema`.
    Schema,
    /// `Reader::splits`.
    Splits,
    /// `Writer::target`.
    Target,
    /// `Writer::plan`.
    Plan,
    /// `Writer::prepare`.
    Prepare,
    /// `Writer::open`.
    Open,
    /// `TaskWriter::finish`.
    Finish,
    /// `Writer::commit`, before anything is published.
    Commit,
    /// `Writer::commit`, after everything is published: the answer is lost.
    AfterCommit,
    /// `Writer::abort`.
    Abort,
}

type Refuse = Arc<dyn Fn(&RecordBatch, usize) -> Option<String> + Send + Sync>;

/// What goes wrong. Rows are counted from 0 within a split.
#[derive(Clone, Default)]
pub struct Trouble {
    fail_at_row: Option<u64>,
    fail_times: Option<u32>,
    kind: Option<ErrorKind>,
    steps: HashMap<Step, Option<u32>>,
    refused_rows: HashSet<u64>,
    refuse: Option<Refuse>,
    pause: Duration,
    hang_at_row: Option<u64>,
    panic_at_row: Option<u64>,
    forget_runs: bool,
    happened: Arc<Mutex<HashMap<Option<Step>, u32>>>,
}

impl Trouble {
    /// Everything goes well.
    pub fn none() -> Self {
        Self::default()
    }

    /// Fails, in every attempt, when row `row` of a split is reached; the rows before it are through.
    pub fn fail_at_row(mut self, row: u64) -> Self {
        self.fail_at_row = Some(row);
        self
    }

    /// As [`fail_at_row`](Self::fail_at_row), but only the first `times` times, over all splits: an attempt after them
    /// succeeds.
    pub fn fail_at_row_times(mut self, row: u64, times: u32) -> Self {
        self.fail_at_row = Some(row);
        self.fail_times = Some(times);
        self
    }

    /// The kind of the errors, `Unreachable` (worth another attempt) by default.
    pub fn kind(mut self, kind: ErrorKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Fails whenever `step` is called.
    pub fn fail_at(mut self, step: Step) -> Self {
        self.steps.insert(step, None);
        self
    }

    /// Fails when `step` is called for the first time.
    pub fn fail_once_at(mut self, step: Step) -> Self {
        self.steps.insert(step, Some(1));
        self
    }

    /// Refuses one row: a reader cannot decode it, a writer's target does not take it.
    pub fn refuse_row(mut self, row: u64) -> Self {
        self.refused_rows.insert(row);
        self
    }

    /// Refuses the rows for which `reason` gives a reason.
    pub fn refuse(mut self, reason: impl Fn(&RecordBatch, usize) -> Option<String> + Send + Sync + 'static) -> Self {
        self.refuse = Some(Arc::new(reason));
        self
    }

    /// Waits so long before each batch.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Waits at row `row` until the run is cancelled.
    pub fn hang_at_row(mut self, row: u64) -> Self {
        self.hang_at_row = Some(row);
        self
    }

    /// Panics at row `row`, which a connector must not.
    pub fn panic_at_row(mut self, row: u64) -> Self {
        self.panic_at_row = Some(row);
        self
    }

    /// A writer that does not notice that a run was committed already.
    pub fn forget_runs(mut self) -> Self {
        self.forget_runs = true;
        self
    }

    pub(super) fn forgets_runs(&self) -> bool {
        self.forget_runs
    }

    /// The fault of `step`, if it is its turn.
    pub(super) fn at(&self, step: Step) -> Result<()> {
        match self.steps.get(&step) {
            Some(times) if self.its_turn(Some(step), *times) => Err(self.error(format!("trouble at {step:?}"))),
            _ => Ok(()),
        }
    }

    /// What happens before rows `start ..` of a split pass. Gives how many of them still pass before the fault.
    pub(super) async fn before(&self, start: u64, rows: u64, context: &ConnectorContext) -> Result<Passage> {
        if !self.pause.is_zero() {
            let pause = async {
                tokio::time::sleep(self.pause).await;
                Ok(())
            };
            context.until_cancelled(pause).await?;
        }
        let inside = |row: Option<u64>| row.filter(|r| (start..start + rows).contains(r));
        if inside(self.hang_at_row).is_some() {
            context.until_cancelled(std::future::pending::<Result<()>>()).await?;
        }
        if let Some(row) = inside(self.panic_at_row) {
            panic!("trouble at row {row}");
        }
        Ok(match inside(self.fail_at_row) {
            Some(row) if self.its_turn(None, self.fail_times) => {
                Passage { rows: (row - start) as usize, error: Some(self.error(format!("trouble at row {row}"))) }
            }
            _ => Passage { rows: rows as usize, error: None },
        })
    }

    /// Parts the rows of a batch that starts at row `start` into those that pass and those that are refused.
    pub(super) fn sort_out(&self, start: u64, batch: &RecordBatch) -> Result<(RecordBatch, Vec<DirtyRow>)> {
        let mut refused = Vec::new();
        let passes: Vec<bool> = (0..batch.num_rows())
            .map(|row| {
                let reason = match &self.refuse {
                    _ if self.refused_rows.contains(&(start + row as u64)) => Some("this row was to be refused".into()),
                    Some(refuse) => refuse(batch, row),
                    None => None,
                };
                let passes = reason.is_none();
                refused.extend(reason.map(|reason| DirtyRow::of_batch(batch, row, None, reason)));
                passes
            })
            .collect();
        if refused.is_empty() {
            return Ok((batch.clone(), refused));
        }
        Ok((arrow::compute::filter_record_batch(batch, &passes.into())?, refused))
    }

    fn its_turn(&self, what: Option<Step>, times: Option<u32>) -> bool {
        let Some(times) = times else { return true };
        let mut happened = self.happened.lock().unwrap_or_else(PoisonError::into_inner);
        let count = happened.entry(what).or_default();
        *count += 1;
        *count <= times
    }

    fn error(&self, message: String) -> Error {
        Error::new(self.kind.unwrap_or(ErrorKind::Unreachable), message)
    }
}

/// How far a batch gets.
pub(super) struct Passage {
    pub rows: usize,
    pub error: Option<Error>,
}
