//! The target's side of the contract.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::field::{NATIVE, extension, type_text};
use crate::{
    Account, Check, Evolve, Hold, Leases, Parameters, PublishTogether, Receipt, Refused, Result, TableDescription,
    TargetName, TargetSchema,
};

/// A target as one job sees it: one table, folder or stream.
///
/// The life of a job: `target` → `plan` → `prepare`, then per task `open` → `write`* → `finish`, then `commit` with all
/// receipts, or `abort`. Nothing is visible before `commit`, except in the append modes whose plan says so.
///
/// **Threads.** As for [`Reader`](crate::Reader): tasks run on runtimes of their own, everything else on the control
/// runtime. A connection belongs to the runtime that opened it, and may be kept there for the next call.
///
/// **Crashes.** `prepare`, `commit` and `abort` may be called again, from another process, with the same plan; each
/// must notice what has happened already. `prepare` then keeps what finished splits have staged, and runs preSql again
/// only while no split is recorded. `commit` publishes once and runs postSql at least once. All DDL happens in
/// `prepare`, for MySQL commits at DDL.
#[async_trait]
pub trait Writer: Send + Sync {
    /// What is there now. Reads only.
    async fn target(&self) -> Result<TargetSchema>;

    /// Reads what the writers of these tables ask about them before they plan, by as many queries as for one of them, and
    /// leaves it for those that are opened with the same [`ConnectorContext::shared`](crate::ConnectorContext), each answer for
    /// one use, until what is given is dropped. What is wrong with one table is told by its writer. `None`, by default, where
    /// each writer asks for itself.
    async fn look_ahead(&self, tables: &[TargetName]) -> Result<Option<Hold>> {
        let _ = tables;
        Ok(None)
    }

    /// Decides everything a run will do, and does nothing: which representation each column takes, what is created,
    /// how rows are published. The result is serialisable and goes to every task.
    ///
    /// # Errors
    /// [`Schema`](crate::ErrorKind::Schema) for columns that cannot be written, all of them named in one message.
    async fn plan(&self, request: &WriteRequest) -> Result<WritePlan>;

    /// Creates the table when missing, runs preSql, makes staging: whatever has to be there before the first task. By
    /// default nothing has to.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) where somebody else has made the table since it was planned, as far as tables
    /// have a shape that the plan may rest on; `commit` may be the one to find it. [`abort`](Self::abort) leaves it to them.
    async fn prepare(&self, plan: &WritePlan) -> Result<()> {
        let _ = plan;
        Ok(())
    }

    /// What the target recorded of the run, for a task whose `finish` failed and for a run that is resumed after a
    /// crash. Reads only; also right when `prepare` was never called. A split that is not in here may still be in a
    /// transaction that a lost connection left: whichever record comes second fails.
    async fn recorded(&self, plan: &WritePlan) -> Result<Recorded> {
        let _ = plan;
        Ok(Recorded::default())
    }

    /// Waits until no transaction that a lost connection left can still put rows of the run into the target, or ends it: what
    /// [`recorded`](Self::recorded) says from then on is all there will be. Called before a run of a process that is gone is
    /// given up. By default nothing is done, as where `recorded` waits by itself.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) where such a transaction neither ends in time nor can be ended.
    async fn settle(&self, plan: &WritePlan) -> Result<()> {
        let _ = plan;
        Ok(())
    }

    /// Begins one task.
    async fn open(&self, plan: &WritePlan, task: &TaskId) -> Result<Box<dyn TaskWriter>>;

    /// Publishes every split that has a receipt, at once, then runs postSql. Safe to call again. What the target refuses
    /// only now fails the whole, and nothing is published. A stop comes at once while the writer says that it can be taken
    /// back ([`Shared::revocable`](crate::Shared::revocable)), else after some time, for it would leave open what happened.
    async fn commit(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<Committed>;

    /// Takes back what `prepare` and finished tasks left behind and is not published. A failure here leaves litter,
    /// never wrong data. Where what is published would be doubled by a later run that does not know of it, that is a
    /// [`Conflict`](crate::ErrorKind::Conflict), and the records stay.
    async fn abort(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<()>;

    /// Drops the target's record of the run. Called once the run's final state is durable in the local ledger, so the
    /// record is needed no more. A failure leaves litter.
    async fn forget(&self, plan: &WritePlan) -> Result<()> {
        let _ = plan;
        Ok(())
    }

    /// How the table is changed when its source has changed; `None` where it cannot be.
    fn evolve(&self) -> Option<&dyn Evolve> {
        None
    }

    /// Looks at connection, credentials, privileges and the objects named by the job, without writing data. By default
    /// it is the target's present state that is looked at.
    async fn check(&self) -> Vec<Check> {
        let seen = self.target().await;
        let text = |target: TargetSchema| target.table + if target.exists { " is there" } else { " is not there yet" };
        vec![Check::of("target", seen.map(text))]
    }

    /// The most tasks the target takes at once; `None` for any number (SQLite: 1).
    fn max_channels(&self) -> Option<usize> {
        None
    }

    /// What tells the table apart from tables of the same full name elsewhere: a server of MySQL, a database of PostgreSQL or
    /// SQL Server, a file of SQLite. `None` by default, where no reader could be asked for the same. Connects to nothing.
    fn home(&self) -> Option<String> {
        None
    }

    /// The ability to publish several tables of a run at one moment.
    fn publishes_together(&self) -> Option<&dyn PublishTogether> {
        None
    }

    /// The ability to keep a second run of the job from beginning on another machine.
    fn leases(&self) -> Option<&dyn Leases> {
        None
    }

    /// Whether the rows go to the program's standard output, so that nothing else may be said there.
    fn prints(&self) -> bool {
        false
    }

    /// Whether what is written has types, so that rows of a column's old type and of its new one may not go together. Not where
    /// it is text. `true` by default.
    fn has_types(&self) -> bool {
        true
    }

    /// The parameters with which the reader of the same name reads what this writer wrote: exactly the plan's columns, in
    /// the plan's order. `parameters` are those of this writer that the reader knows too, secrets still as references,
    /// with the plan's column names as `column`; most systems need no others.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where nothing can be read back.
    fn read_back(&self, plan: &WritePlan, parameters: Parameters) -> Result<Parameters> {
        let _ = plan;
        Ok(parameters)
    }
}

/// One task's way into the target. Dropping it without `finish` undoes what it wrote.
#[async_trait]
pub trait TaskWriter: Send {
    /// Writes a batch whose columns are exactly [`WritePlan::input_schema`]. Each row that the target refuses is added to
    /// `refused` as soon as it is known to be, and the rest of the batch is written.
    ///
    /// # Errors
    /// Those of [`Refused::add`], after which no further row is tried, and all others that no row is to blame for: the task
    /// has failed, and is dropped.
    async fn write(&mut self, batch: &RecordBatch, refused: &mut Refused) -> Result<()>;

    /// Makes the split durable: the rows are staged or committed when this returns. Called once, after the last batch,
    /// also when there was none. No row can be refused any more.
    ///
    /// A writer whose plan says [`records_splits`](WritePlan::records_splits) writes the receipt, `account` included,
    /// in the same transaction as the rows; whoever finds the record already there has been overtaken by another
    /// attempt and fails with [`Conflict`](crate::ErrorKind::Conflict).
    ///
    /// # Errors
    /// After an error the split may be there or not: only [`Writer::recorded`] knows.
    async fn finish(self: Box<Self>, account: Account) -> Result<Receipt>;
}

/// What a target remembers of a run.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Receipts of the finished splits, in any order.
    pub receipts: Vec<Receipt>,
    /// Whether `commit` published them: nothing but postSql can be left to do.
    pub published: bool,
}

/// What became of the job.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Committed {
    /// Rows now at the target from this job, where they differ from the receipts' sum (an upsert of equal keys).
    pub rows: Option<u64>,
    /// Rows that were skipped by the mode's own meaning (`ignore`) only now; [`Receipt::skipped`] has those of the tasks.
    #[serde(default)]
    pub skipped: u64,
    /// What happened, for the log: `published 3 files as version 4`.
    pub description: String,
    /// What the user should know: a target emptied by an empty source, say.
    pub warnings: Vec<String>,
    /// What went wrong after the data was published (postSql): the job fails, the data stays.
    pub failures: Vec<String>,
}

/// Names one attempt at one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskId {
    /// New for each run, kept by a resume.
    pub run_id: String,
    /// The split.
    pub split: u32,
    /// The source table of the split.
    pub table: String,
    /// From 1.
    pub attempt: u32,
}

/// What the runtime asks a writer to plan for.
#[derive(Debug, Clone)]
pub struct WriteRequest {
    /// New for each run; names staging objects.
    pub run_id: String,
    /// The columns to write, in the order of the batches.
    pub columns: Vec<MappedColumn>,
    /// The source, for comments and names of staging.
    pub source: String,
    /// What to do with a column that could only be written with a loss in every value.
    pub on_type_loss: OnTypeLoss,
    /// The source table's structure, columns by their names at the target: what a table to be created takes over besides
    /// types, keys and comments. Only whole-database jobs have it.
    pub described: Option<TableDescription>,
    /// Whether the run decides only when all rows are read whether they may stay: a share of dirty rows is tolerated, and no
    /// number of them. What is at the target by then cannot be taken back, so a writer that else lets each split commit by
    /// itself stages the rows and publishes them in `commit`: its plan does not say
    /// [`commits_per_split`](WritePlan::commits_per_split). One that cannot stage for this table or this login refuses, and
    /// names `errorLimit.record` as the way on. Rows that the target would refuse are found while they are staged wherever
    /// that can be seen there, equal keys at the target among them; `commit` can refuse the run, but no row of it. A target
    /// that keeps nothing (printed rows) need not care.
    pub decides_at_end: bool,
}

/// A column that the job maps onto the target.
#[derive(Debug, Clone)]
pub struct MappedColumn {
    /// The target column's name.
    pub name: String,
    /// The forms in which the values can come, best first; never empty. Native forms are left out where a transformer
    /// or a constant touches the column.
    pub offers: Vec<Field>,
    /// The source's type text, for messages.
    pub source_type: String,
    /// Whether NULLs may come.
    pub nullable: bool,
    /// The position in the source's key, from 1, for a table to be created.
    pub key: Option<u32>,
    /// The source's comment, for a table to be created.
    pub comment: Option<String>,
}

/// Everything a run will do at the target, decided beforehand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WritePlan {
    /// New for each run.
    pub run_id: String,
    /// The target as reports show it.
    pub table: String,
    /// The mode.
    pub mode: WriteMode,
    /// The columns, in the order of the batches.
    pub columns: Vec<PlannedColumn>,
    /// Whether the run creates the target.
    pub creates: bool,
    /// The statements `prepare` will run, in order, for a person to read; secrets never stand in them.
    pub statements: Vec<String>,
    /// How rows become visible, in a sentence: `each split commits by itself`, `staged, then published in one
    /// transaction`.
    pub method: String,
    /// Whether a split's rows are at the target for good as soon as it is finished, whatever becomes of the job.
    pub commits_per_split: bool,
    /// Whether the target records finished splits in a way that survives a crash, see [`Writer::recorded`]. Without
    /// it, a split whose outcome is unknown cannot be tried again, and a run that died starts from its beginning.
    pub records_splits: bool,
    /// The key columns by which rows are compared: of an upsert, or of an overwrite that looks for rows of equal keys.
    pub keys: Vec<String>,
    /// What a user should know before a run.
    pub warnings: Vec<String>,
    /// The writer's own words; never a secret.
    pub state: Value,
}

impl WritePlan {
    /// The plainest plan: every column in the first form offered that is not one system's own, nothing created, no
    /// statements, all rows published by the commit, no splits recorded. A writer says what it does otherwise.
    pub fn new(request: &WriteRequest, table: impl Into<String>, mode: WriteMode) -> Self {
        let columns = request.columns.iter().map(|column| {
            let foreign = |field: &Field| extension(field) != Some(NATIVE);
            let text = Field::new(&column.name, DataType::Utf8, true);
            let input = PlannedColumn::choose(column, foreign, text);
            PlannedColumn { native_type: type_text(&input), name: column.name.clone(), input, warning: None }
        });
        Self {
            run_id: request.run_id.clone(),
            table: table.into(),
            mode,
            columns: columns.collect(),
            creates: false,
            statements: Vec::new(),
            method: "published all at once".into(),
            commits_per_split: false,
            records_splits: false,
            keys: Vec::new(),
            warnings: Vec::new(),
            state: Value::Null,
        }
    }

    /// The schema of the batches a task will be given.
    pub fn input_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(|c| c.input.clone()).collect::<Vec<_>>()))
    }
}

/// A column as the writer wants it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedColumn {
    /// The target column's name.
    pub name: String,
    /// The target's own type text, present or to be created.
    pub native_type: String,
    /// The form in which the writer wants the values. When it is none of the offers, the runtime converts: each value
    /// exactly, and one that does not fit is a dirty row.
    pub input: Field,
    /// What a user should know of this column before a run.
    pub warning: Option<String>,
}

impl PlannedColumn {
    /// A column that is wanted in one Arrow type, whatever is offered: the runtime converts.
    pub fn new(column: &MappedColumn, native_type: &str, input: DataType) -> Self {
        let name = column.name.clone();
        let input = Field::new(&name, input, true);
        Self { name, native_type: native_type.to_owned(), input, warning: None }
    }

    /// Takes the first offer that `accepts`; else asks the runtime to convert into `fallback`.
    pub fn choose(column: &MappedColumn, accepts: impl Fn(&Field) -> bool, fallback: Field) -> Field {
        let field = column.offers.iter().find(|f| accepts(f)).cloned().unwrap_or(fallback);
        field.with_name(&column.name).with_nullable(true)
    }
}

/// How rows meet what the target holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// Add rows (`insert`).
    Append,
    /// Replace the whole table, or one partition.
    Overwrite,
    /// Update rows with an equal key, insert the others (`update`).
    Upsert,
    /// MySQL's REPLACE: a row with any equal unique key is deleted first, unlisted columns fall to their defaults.
    Replace,
    /// Skip and count rows whose key exists (`insert ignore`).
    Ignore,
}

impl WriteMode {
    /// The mode's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Overwrite => "overwrite",
            Self::Upsert => "upsert",
            Self::Replace => "replace",
            Self::Ignore => "ignore",
        }
    }

    /// Understands our names and DataX's, in any case and spacing.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase().as_str() {
            "append" | "insert" | "insert into" | "copy" => Some(Self::Append),
            "overwrite" | "insert overwrite" => Some(Self::Overwrite),
            "upsert" | "update" | "on duplicate key update" => Some(Self::Upsert),
            "replace" | "replace into" => Some(Self::Replace),
            "ignore" | "insert ignore" | "insert ignore into" => Some(Self::Ignore),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for WriteMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{text}` is no write mode: use append (insert), overwrite, upsert (update), replace or ignore (insert ignore)"
            ))
        })
    }
}

impl JsonSchema for WriteMode {
    fn schema_name() -> Cow<'static, str> {
        "WriteMode".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        // Free text with examples: DataX jobs spell the modes in many ways, and `parse` names the known ones.
        json_schema!({ "type": "string", "examples": ["append", "overwrite", "upsert", "replace", "ignore"] })
    }
}

/// What an overwrite does when the source turns out to be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnEmpty {
    /// Empty the target too, with a warning.
    #[default]
    Overwrite,
    /// Leave the target as it is, with a warning.
    Keep,
    /// Fail the job.
    Error,
}

/// What a writer that compares keys does with input rows of equal ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum DuplicateKeys {
    /// The last row wins. Where rows are compared only to refuse them: nobody looks.
    #[default]
    Last,
    /// The job fails.
    Error,
}

/// What to do with a conversion that would alter every value of a column unseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnTypeLoss {
    /// Refuse it when planning.
    #[default]
    Error,
    /// Do it.
    Cast,
}
