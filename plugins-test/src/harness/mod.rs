//! Drives one reader or one writer the way the engine does, without the engine.
//!
//! Control calls (`schema`, `splits`, `plan`, `prepare`, `commit` …) run on one multi-thread runtime, `read` and
//! `open`/`write`/`finish` on threads with a current-thread runtime of their own, several at once. Splits, plans and
//! receipts pass through JSON on the way, as they do in a real run.
//!
//! ```no_run
//! # async fn test() -> weir_core::Result<()> {
//! use serde_json::json;
//! use weir_plugins_test::harness::{self, WriteOptions};
//!
//! let reader = harness::open_reader("sqlite", json!({ "path": "a.db", "table": "t" }))?;
//! let read = harness::read_all(&reader).await?;
//! assert_eq!(read.cells(), [[Some("1".to_owned()), None]]);
//!
//! let writer = harness::open_writer("sqlite", json!({ "path": "b.db", "table": "t" }))?;
//! let written = harness::write_all(&writer, read.batches(), WriteOptions::default()).await?;
//! assert_eq!(written.rows(), 1);
//! # Ok(()) }
//! ```

mod fit;
mod open;
mod read;
mod write;

use std::sync::OnceLock;

use arrow::array::{Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tokio::runtime::Runtime;
use weir_core::{Error, Result};

pub use open::{context, open_catalog, open_reader, open_reader_in, open_writer, open_writer_in, split_request};
pub use read::{Read, ReadOptions, SplitRows, read_all, read_windows, read_with};
pub use write::{
    Staged, WriteOptions, Written, columns_of, fitted, plan_for, run_task, stage, stage_splits, write_all,
};

/// The runtime of control calls; it lives as long as the test program, for connections belong to it.
pub fn control_runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("control")
            .enable_all()
            .build()
            .unwrap_or_else(|e| panic!("no runtime for control calls: {e}"))
    })
}

/// Runs a control call where the engine would run it.
///
/// # Errors
/// Those of the call; a panic in it becomes an error of kind `Internal`.
pub async fn control<T: Send + 'static>(call: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    control_runtime().spawn(call).await.unwrap_or_else(|e| Err(Error::internal("a control call panicked").because(e)))
}

/// Runs a task on a thread with a current-thread runtime of its own.
///
/// # Errors
/// Those of the task; a panic in it becomes an error of kind `Internal`.
pub async fn on_thread<T: Send + 'static>(task: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let thread = std::thread::current().name().unwrap_or("test").to_owned();
    std::thread::Builder::new().name(format!("task of {thread}")).spawn(move || {
        let result = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(task),
            Err(error) => Err(error.into()),
        };
        // Nobody waits any more when the test has failed meanwhile.
        let _ = sender.send(result);
    })?;
    receiver.await.unwrap_or_else(|_| Err(Error::internal("a task panicked, see its message above")))
}

/// Every value of `batches` as text, row by row; NULL as `None`, bytes as hexadecimal.
pub fn cells<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Vec<Vec<Option<String>>> {
    let options = FormatOptions::new().with_display_error(true);
    let mut rows = Vec::new();
    for batch in batches {
        let formatters: Vec<_> =
            batch.columns().iter().map(|column| (column, ArrayFormatter::try_new(column, &options).ok())).collect();
        for row in 0..batch.num_rows() {
            rows.push(
                formatters
                    .iter()
                    .map(|(column, formatter)| match formatter {
                        _ if column.is_null(row) => None,
                        Some(formatter) => Some(formatter.value(row).to_string()),
                        None => Some(format!("<{} cannot be shown>", column.data_type())),
                    })
                    .collect(),
            );
        }
    }
    rows
}

/// The same thing after a way through JSON: what a contract calls serialisable must survive it.
fn through_json<T: serde::Serialize + serde::de::DeserializeOwned>(thing: &T) -> Result<T> {
    let text = serde_json::to_string(thing).map_err(|e| Error::internal("it cannot be written as JSON").because(e))?;
    serde_json::from_str(&text).map_err(|e| Error::internal("it cannot be read back from JSON").because(e))
}
