//! The source's side of the contract.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{BatchSender, Error, Incremental, Result, SourceSchema, Split};

/// A source as one job sees it: one logical table, made of one or more tables, files or queries with equal columns.
///
/// A reader is opened without connecting, from parameters that were validated against its schema.
///
/// **Threads.** `schema`, `splits`, `snapshot` and `check` are called on the job's control runtime, `read` on the
/// current-thread runtime of a task, many tasks at once. A connection belongs to the runtime that opened it, so
/// `read` opens its own. What it leaves behind in [`Shared::kept`](crate::Shared::kept), as good as new, the next call on
/// the same runtime finds there, be it of another table: so a run of many tables opens few connections.
///
/// **Cancellation.** Every wait ends within a second of [`ConnectorContext::cancel`](crate::ConnectorContext), with
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled); a statement still running on the server is cancelled there.
#[async_trait]
pub trait Reader: Send + Sync {
    /// The columns and the tables behind them.
    ///
    /// # Errors
    /// A table or listed file that does not exist, tables whose columns differ, columns that cannot be read.
    async fn schema(&self) -> Result<SourceSchema>;

    /// Cuts the source into splits that together cover every row exactly once, whatever the collation, the skew or
    /// the NULLs of the key; an empty source gives one split or none. Each is bounded by `request.max_bytes` where the
    /// source can be cut at all. By default each table is one split.
    async fn splits(&self, request: &SplitRequest) -> Result<Vec<Split>> {
        let _ = request;
        let tables = self.schema().await?.tables;
        Ok((0..).zip(&tables).map(|(id, table)| Split { id, ..Split::whole(table) }).collect())
    }

    /// Reads one split into `output`, in batches whose columns are exactly `request.columns`, each within
    /// [`MAX_BATCH_ROWS`](crate::MAX_BATCH_ROWS) and [`MAX_BATCH_BYTES`](crate::MAX_BATCH_BYTES).
    ///
    /// A row that cannot be decoded goes to [`BatchSender::reject`], with what could be read of it; the rows around it
    /// are sent. An error of `send` or `reject` is passed on at once. Returning `Ok` says that the split was read to
    /// its end.
    async fn read(&self, split: &Split, request: &ReadRequest, output: &mut dyn BatchSender) -> Result<()>;

    /// Looks at connection, credentials, privileges and the objects named by the job, without reading data. By default
    /// it is the columns that are looked at.
    async fn check(&self) -> Vec<Check> {
        let seen = self.schema().await.map(|schema| format!("{} columns", schema.columns.len()));
        vec![Check::of("columns", seen)]
    }

    /// For each of its tables, what tells it apart from tables of the same full name elsewhere, as
    /// [`Writer::home`](crate::Writer::home) of the same system says it; none where nothing does. Connects to nothing.
    fn homes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether the source can be read again, and then gives the same rows as far as nobody changed them: a pipe cannot,
    /// and random rows do not.
    fn repeats(&self) -> bool {
        true
    }

    /// The ability to let all splits of all tables see one moment.
    fn snapshot(&self) -> Option<&dyn Snapshot> {
        None
    }

    /// The ability to read only what changed since an earlier run, where the job asks for it.
    fn incremental(&self) -> Option<&dyn Incremental> {
        None
    }
}

/// The ability to show every split the same moment of the source.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// Begins a snapshot that lasts until the guard is dropped. Called before [`Reader::splits`], on the control
    /// runtime; the guard's token goes into [`ReadRequest::snapshot`] of every task. At most `channels` splits are read
    /// at once: where each reading connection has to be there from the beginning, so many are opened.
    async fn begin(&self, channels: usize) -> Result<SnapshotGuard>;

    /// How many sessions with one server a snapshot keeps to itself, in each of which one split at a time is read: they are
    /// among those that the job may read with. None, by default.
    fn keeps(&self) -> usize {
        0
    }
}

/// A snapshot that is held open.
pub struct SnapshotGuard {
    /// What `read` needs to join it; serialisable, so that another machine can.
    pub token: Value,
    /// For the plan and the report: `exported snapshot 00000003-1`.
    pub description: String,
    /// Which moment of which server it shows. The tables of a run that share a server's snapshot say the same, until that
    /// is lost and another one takes its place; a server of which each table has a moment of its own is left out.
    pub moments: BTreeMap<String, String>,
    /// Whatever keeps it alive: the exporting connection.
    pub hold: Box<dyn std::any::Any + Send + Sync>,
}

/// What to plan splits for.
#[derive(Debug, Clone)]
pub struct SplitRequest {
    /// How many channels will read at once. DataX cuts each table into `ceil(channels ÷ tables)` pieces where the job
    /// has a `splitPk`; automatic splits aim at a few times as many, for balance.
    pub channels: usize,
    /// About the most bytes a split should hold, for each split is one transaction at the target.
    pub max_bytes: u64,
    /// The snapshot that is held, if any.
    pub snapshot: Option<Value>,
    /// Whether each split is committed at the target by itself, so that a resume can go on only with
    /// [stable](crate::Split::stable) ones: worth a slower way of cutting.
    pub stable: bool,
    /// The most rows wanted in total (`--limit`): splitting is not worth it for a few.
    pub limit: Option<u64>,
}

/// Which columns to read and in which form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadRequest {
    /// The columns to deliver, in this order; a column may come twice, or not at all.
    pub columns: Vec<ReadColumn>,
    /// The snapshot to join, if one is held.
    pub snapshot: Option<Value>,
    /// Stop after about this many rows (`--limit`); the runtime cuts off the rest.
    pub limit: Option<u64>,
}

impl ReadRequest {
    /// The schema of the batches to send.
    pub fn arrow_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(|c| c.field.clone()).collect::<Vec<_>>()))
    }

    /// A batch of `rows` rows with the columns that are asked for, out of all that the source has, in the order of
    /// [`SourceSchema::columns`].
    ///
    /// # Errors
    /// [`Internal`](crate::ErrorKind::Internal) when a column is missing, or is of another type or length.
    pub fn batch(&self, all: &[ArrayRef], rows: usize) -> Result<RecordBatch> {
        let wanted = self.columns.iter().map(|column| all.get(column.index).cloned());
        let wanted = wanted.collect::<Option<Vec<_>>>();
        let wanted = wanted.ok_or_else(|| Error::internal("a column is asked for that the source does not have"))?;
        // A job of constants asks for no column, but for as many rows.
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.arrow_schema(), wanted, &options)?)
    }
}

/// A column to deliver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadColumn {
    /// Its index in [`SourceSchema::columns`].
    pub index: usize,
    /// The chosen one of its representations.
    pub field: Field,
}

/// One line of `weir check`.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was looked at: `connect`, `login`, `SELECT on shop.orders`.
    pub what: String,
    /// How it went.
    pub outcome: CheckOutcome,
    /// What was found, and for a fault what to do.
    pub detail: String,
}

impl Check {
    /// What a line is about that says how all splits see one moment of the source.
    pub const ONE_SNAPSHOT: &str = "one snapshot";

    /// A line that found everything in order.
    pub fn ok(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { what: what.into(), outcome: CheckOutcome::Ok, detail: detail.into() }
    }

    /// A line that found a fault.
    pub fn fault(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { what: what.into(), outcome: CheckOutcome::Fault, detail: detail.into() }
    }

    /// A line that found either.
    pub fn of(what: impl Into<String>, found: Result<impl Into<String>>) -> Self {
        match found {
            Ok(detail) => Self::ok(what, detail),
            Err(error) => Self::fault(what, error.full()),
        }
    }

    /// A line that found something worth knowing that stops no run.
    pub fn warning(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { what: what.into(), outcome: CheckOutcome::Warning, detail: detail.into() }
    }
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// In order.
    Ok,
    /// Works, with a drawback.
    Warning,
    /// A run would fail.
    Fault,
}
