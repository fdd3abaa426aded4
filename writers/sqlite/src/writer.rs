//! The writer: plan, prepare, tasks, publish.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use weir_core::lease::run_of;
use weir_core::{
    Check, Committed, ConnectorContext, Error, Evolve, Faults, Hold, Leases, OnEmpty, Parameters, PublishTogether,
    Receipt, Recorded, Result, ResultExt, TargetColumn, TargetName, TargetSchema, TaskId, TaskWriter, WriteMode,
    WritePlan, WriteRequest, Writer,
};
use weir_sql::commits::{self, Records};
use weir_sql::{Seen, TableName, resolve_target_columns};
use weir_sqlite::catalog::{Table, schema_of};
use weir_sqlite::{Access, Database, File, QUOTING, path_of};

use crate::config::SqliteWriterConfig;
use crate::known::Known;
use crate::plan::{self, State};
use crate::publish::{self, Staged};
use crate::records;
use crate::task::SqliteTask;

/// Writes one table of an SQLite file.
pub struct SqliteWriter {
    config: SqliteWriterConfig,
    pub(crate) file: File,
    /// As the job wrote it.
    pub(crate) table: String,
    /// What that means.
    pub(crate) name: TableName,
    pub(crate) creates: bool,
    pub(crate) context: ConnectorContext,
    /// What `target` has just seen, for `plan`.
    pub(crate) seen: Seen<Known>,
}

impl SqliteWriter {
    /// Reads the parameters.
    ///
    /// # Errors
    /// Every fault, with its pointer.
    pub fn open(parameters: &Parameters, context: &ConnectorContext) -> Result<Self, Faults> {
        let config: SqliteWriterConfig = weir_core::config::parse(parameters)?;
        let destination = config.common.destination()?;
        let mut paths = Vec::new();
        let mut faults = Faults::default();
        for url in &destination.urls {
            match path_of(url) {
                Ok(path) => paths.push(path),
                Err(message) => faults.add("/path", message),
            }
        }
        let name = TableName::parse(&destination.table, QUOTING).unwrap_or_else(|error| {
            faults.add("/table", error.message());
            TableName::bare("")
        });
        let path = paths.iter().find(|path| path.is_file()).or(paths.first()).cloned().unwrap_or_default();
        if config.common.ledger.schema.is_some() {
            let message = "an SQLite file keeps the record of its splits itself, or one transaction could not hold both: \
                           remove it";
            faults.add("/ledger/schema", message);
        }
        let mut session = config.common.session.as_slice().to_vec();
        if config.common.exactly_once.unwrap_or(true) {
            // What is said to be committed has to outlast a power cut. EXTRA also syncs the folder, without which a journal
            // that was deleted could come back and undo the last transaction.
            session.push("PRAGMA synchronous = EXTRA".into());
        }
        let creates = config.common.creates(context.form);
        let table = destination.table;
        let file = File { path, session };
        file.mark_as_target(&context.shared);
        let seen = Seen::new(&context.shared, format!("sqlite targets of {}", file.identity()), name.clone());
        faults.or(Self { config, file, table, name, creates, context: context.clone(), seen })
    }

    pub(crate) async fn in_file<T: Send + 'static>(
        &self,
        access: Access,
        work: impl FnOnce(&Database<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.file.with(access, &self.context, work).await.context("table", &self.table)
    }

    /// Whether the plan's table has been made in this process: all that is known where the job does without records.
    fn made(&self, plan: &WritePlan, state: &State) -> Arc<AtomicBool> {
        let run = run_of(&plan.run_id);
        // Entries may name the one table in different letters.
        let table = format!("{}.{}", schema_of(&state.table), state.table.name).to_ascii_lowercase();
        let name = format!("sqlite made {} {table} {run}", self.file.identity());
        self.context.shared.find_or_leave(&name, AtomicBool::default)
    }
}

fn staged(plan: &WritePlan, receipts: &[Receipt]) -> Result<Staged> {
    Ok(Staged {
        state: state_of(plan)?,
        replaces: plan.mode == WriteMode::Overwrite,
        adds: plan.mode == WriteMode::Append,
        receipts: receipts.to_vec(),
        table: plan.table.clone(),
    })
}

/// What a publication came to, which published so many rows; `None`: it had happened before.
fn came_to(plan: &WritePlan, receipts: &[Receipt], rows: Option<u64>) -> Result<Committed> {
    let mut committed = Committed::default();
    let Some(rows) = rows else {
        committed.description = "had been published before".into();
        return Ok(committed);
    };
    let written: u64 = receipts.iter().map(|r| r.rows).sum();
    let skipped: u64 = receipts.iter().map(|r| r.skipped).sum();
    let is_empty = written == 0 && plan.mode == WriteMode::Overwrite;
    committed.description = match plan.mode {
        _ if is_empty && state_of(plan)?.on_empty == OnEmpty::Keep => {
            committed.warnings.push(format!("the source is empty: {} is kept as it was", plan.table));
            "the source gave no rows: the table was left as it is".into()
        }
        WriteMode::Overwrite => {
            if is_empty {
                committed.warnings.push(format!("the source is empty, and so is {} now", plan.table));
            }
            committed.rows = Some(rows);
            format!("replaced the table's rows by {rows}")
        }
        WriteMode::Upsert => {
            committed.rows = Some(rows);
            format!("merged {rows} rows by key")
        }
        WriteMode::Ignore if !plan.commits_per_split => {
            committed.rows = Some(rows);
            committed.skipped = written.saturating_sub(rows);
            format!(
                "inserted {rows} rows in one transaction, {} skipped as their keys existed",
                skipped + committed.skipped
            )
        }
        WriteMode::Append | WriteMode::Replace if !plan.commits_per_split => {
            format!("inserted {rows} rows in one transaction")
        }
        WriteMode::Ignore => format!("{written} rows inserted, {skipped} skipped as their keys existed"),
        _ => format!("{written} rows in {} transactions", receipts.len()),
    };
    Ok(committed)
}

pub(crate) fn state_of(plan: &WritePlan) -> Result<State> {
    serde_json::from_value(plan.state.clone())
        .map_err(|error| Error::internal("the plan is not one of the SQLite writer's").because(error))
}

fn target_columns(table: &Table) -> Vec<TargetColumn> {
    let columns = table.columns.iter().map(|column| TargetColumn {
        name: column.name.clone(),
        native_type: column.declared.clone(),
        nullable: column.nullable,
        has_default: column.has_default,
        generated: column.generated,
        key: column.key,
    });
    columns.collect()
}

#[async_trait]
impl Writer for SqliteWriter {
    async fn target(&self) -> Result<TargetSchema> {
        let target = match self.seen.take_left() {
            Some(known) => known,
            None => self.ask().await?,
        };
        self.seen.note(target.clone());
        let Some(table) = target.table() else {
            let entries = self.config.common.column.as_slice();
            // Columns of a table to be created are those that the job lists.
            let names: Vec<String> = entries.iter().map(|e| QUOTING.unquote(e)).collect();
            let listed = (!weir_sql::columns::is_all(entries)).then_some(names);
            return Ok(TargetSchema { table: target.name.to_string(), exists: false, columns: vec![], listed });
        };
        let listed = resolve_target_columns(self.config.common.column.as_slice(), &table.column_names(), QUOTING)
            .context("table", &self.table)?;
        let columns = target_columns(table);
        Ok(TargetSchema { table: target.name.to_string(), exists: true, columns, listed })
    }

    async fn look_ahead(&self, tables: &[TargetName]) -> Result<Option<Hold>> {
        self.leave_known(tables).await.map(Some)
    }

    async fn plan(&self, request: &WriteRequest) -> Result<WritePlan> {
        let target = match self.seen.take() {
            Some(known) => known,
            None => self.ask().await?,
        };
        plan::plan(&target, &self.config.common, self.creates, request).context("file", self.file.path.display())
    }

    async fn prepare(&self, plan: &WritePlan) -> Result<()> {
        let state = state_of(plan)?;
        self.seen.forget();
        let table = plan.table.clone();
        let access = if plan.creates { Access::Create } else { Access::Write };
        let made = self.made(plan, &state);
        self.in_file(access, move |database| prepare(database, &state, &table, &made)).await
    }

    async fn recorded(&self, plan: &WritePlan) -> Result<Recorded> {
        let state = state_of(plan)?;
        let Some(commits) = state.commits.filter(|_| self.file.exists()) else { return Ok(Recorded::default()) };
        self.in_file(Access::Read, move |database| Ok(records::read(database, &commits)?.recorded)).await
    }

    async fn open(&self, plan: &WritePlan, task: &TaskId) -> Result<Box<dyn TaskWriter>> {
        let connection = self.file.open(Access::Write, &self.context).await.context("table", &self.table)?;
        Ok(Box::new(SqliteTask::new(connection, state_of(plan)?, plan.input_schema(), task.split)))
    }

    async fn commit(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<Committed> {
        let staged = staged(plan, receipts)?;
        let publish = move |database: &Database<'_>| publish::publish(database, &staged);
        let published = self.in_file(Access::Write, publish).await?;
        Ok(Committed { failures: published.failures, ..came_to(plan, receipts, published.rows)? })
    }

    async fn abort(&self, plan: &WritePlan, _receipts: &[Receipt]) -> Result<()> {
        let state = state_of(plan)?;
        self.seen.forget();
        if !self.file.exists() {
            return Ok(());
        }
        let table = state.table.quoted(QUOTING);
        let stage = state.stage.as_ref().map(|stage| state.table.sibling(stage));
        let stage = stage.map(|name| (name.clone(), name.quoted(QUOTING)));
        let (creates, made_here) = (plan.creates, self.made(plan, &state));
        // The run may have been stopped, and must still be able to clean up.
        let context = ConnectorContext { cancel: Default::default(), ..self.context.clone() };
        let commits = state.commits;
        let clean_up = move |database: &Database<'_>| {
            database.execute("BEGIN IMMEDIATE")?;
            let mut made = made_here.load(Ordering::Relaxed);
            if let Some(commits) = &commits {
                let known = records::read(database, commits)?;
                // What is published stays as it is.
                if known.recorded.published {
                    return Ok(database.execute("ROLLBACK")?);
                }
                made = known.prepared || known.making;
                records::delete(database, commits)?;
            }
            if let Some((name, stage)) = stage {
                // What is staged is so after the making.
                made |= records::has_table(database, schema_of(&name), &name.name)?;
                database.execute(&format!("DROP TABLE IF EXISTS {stage}"))?;
            }
            // A table that this run made, and that nobody has put rows into, goes with it. Where it is not there any more
            // there is nothing to ask.
            let filled = database.integer(&format!("SELECT EXISTS (SELECT 1 FROM {table})"), &[]);
            if creates && made && matches!(filled, Ok(Some(0))) {
                database.execute(&format!("DROP TABLE {table}"))?;
            }
            database.execute("COMMIT")?;
            // Where others' rows keep it, it stays the run's.
            if !records::has_table(database, schema_of(&state.table), &state.table.name)? {
                made_here.store(false, Ordering::Relaxed);
            }
            Ok(())
        };
        self.file.with(Access::Write, &context, clean_up).await
    }

    async fn forget(&self, plan: &WritePlan) -> Result<()> {
        let state = state_of(plan)?;
        let Some(commits) = state.commits.filter(|_| self.file.exists()) else { return Ok(()) };
        self.in_file(Access::Write, move |database| records::delete(database, &commits)).await
    }

    async fn check(&self) -> Vec<Check> {
        let what = format!("write {} in {}", self.table, self.file.path.display());
        let target = match self.ask().await {
            Ok(target) => target,
            Err(error) => return vec![Check::fault(what, error.full())],
        };
        let table = match target.table() {
            Some(table) => Check::ok(what, format!("{} columns", table.columns.len())),
            None if self.creates => Check::ok(what, "the table will be created"),
            None => Check::fault(what, "there is no such table: create it, or set `createTable` to true"),
        };
        let mut checks = vec![table];
        if !self.file.exists() {
            let folder = self.file.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            let probe = folder.join(".weir-check");
            let made = std::fs::write(&probe, []).and_then(|()| std::fs::remove_file(&probe));
            let what = format!("write to {}", folder.display());
            checks.push(match made.context("file", probe.display()) {
                Ok(()) => Check::ok(what, "writable"),
                Err(error) => Check::fault(what, error.full()),
            });
        } else {
            // A transaction that changes nothing begins in a read-only file, too.
            let begin = |database: &Database<'_>| {
                Ok(database.execute("BEGIN IMMEDIATE; CREATE TABLE \".weir-check\" (x); ROLLBACK")?)
            };
            checks.push(match self.file.with(Access::Write, &self.context, begin).await {
                Ok(()) => Check::ok("lock for writing", "free"),
                Err(error) => Check::fault("lock for writing", error.full()),
            });
        }
        checks
    }

    fn home(&self) -> Option<String> {
        Some(self.file.home())
    }

    fn publishes_together(&self) -> Option<&dyn PublishTogether> {
        Some(self)
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }

    fn evolve(&self) -> Option<&dyn Evolve> {
        Some(self)
    }

    fn max_channels(&self) -> Option<usize> {
        Some(1)
    }
}

#[async_trait]
impl PublishTogether for SqliteWriter {
    async fn publish_together(&self, tables: &[(&WritePlan, &[Receipt])]) -> Result<Vec<Committed>> {
        let all: Vec<Staged> = tables.iter().map(|(plan, receipts)| staged(plan, receipts)).collect::<Result<_>>()?;
        let publish = move |database: &Database<'_>| publish::together(database, &all);
        // Not `in_file`, which would blame this writer's own table.
        let published = self.file.with(Access::Write, &self.context, publish).await?;
        tables.iter().zip(published).map(|((plan, receipts), rows)| came_to(plan, receipts, rows)).collect()
    }
}

/// Makes what a run needs, once: not again when splits of it are recorded.
fn prepare(database: &Database<'_>, state: &State, table: &str, made: &AtomicBool) -> Result<()> {
    let mut known = Records::default();
    if let Some(commits) = &state.commits {
        records::create(database, commits)?;
        known = records::read(database, commits)?;
    }
    if known.recorded.published {
        return Ok(());
    }
    if !known.recorded.receipts.is_empty() {
        return match &state.stage {
            Some(stage) if !records::has_table(database, schema_of(&state.table), stage)? => Err(publish::gone(stage)),
            _ => Ok(()),
        };
    }
    // Nothing to do is still a write: a file that cannot be written is found before the first row is read.
    database.execute("BEGIN IMMEDIATE")?;
    if !known.prepared {
        make_table(database, state, table, &known, made)?;
        if !state.pre.is_empty() {
            if let (Some(commits), Some(_), false) = (&state.commits, &state.create, known.making) {
                records::add(database, commits, commits::MAKING, table, None)?;
            }
            database.execute("COMMIT")?;
            made.store(state.create.is_some(), Ordering::Relaxed);
            // Each by itself: some statements, like VACUUM, refuse to run within a transaction.
            for statement in &state.pre {
                database.execute(statement).context("statement", statement)?;
            }
            database.execute("BEGIN IMMEDIATE")?;
        }
    }
    for statement in &state.make_stage {
        database.execute(statement).context("statement", statement)?;
    }
    match &state.commits {
        Some(commits) if !known.prepared => records::add(database, commits, commits::PREPARED, table, None)?,
        _ => {}
    }
    database.execute("COMMIT")?;
    made.store(state.create.is_some(), Ordering::Relaxed);
    Ok(())
}

/// Creates the target in the transaction that records it. One that is there, and that the run has not made, is somebody else's.
fn make_table(database: &Database<'_>, state: &State, table: &str, known: &Records, made: &AtomicBool) -> Result<()> {
    let Some(create) = &state.create else { return Ok(()) };
    if !records::has_table(database, schema_of(&state.table), &state.table.name)? {
        return database.execute(create).context("statement", create);
    }
    let other = || state.commits.as_ref().map_or(Ok(false), |commits| records::has_other(database, commits, table));
    if known.making || made.load(Ordering::Relaxed) || other()? { Ok(()) } else { Err(commits::made_by_others()) }
}
