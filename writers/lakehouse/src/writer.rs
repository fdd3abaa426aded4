//! The writer: plans, and publishes what the tasks wrote.

use std::sync::Arc;

use async_trait::async_trait;
use deltalake::DeltaTable;
use deltalake::kernel::StructField;
use deltalake::logstore::ObjectStoreRef;
use object_store::prefix::PrefixStore;
use weir_core::{
    Check, Committed, ConnectorContext, Error, ErrorKind, Faults, OnEmpty, PlannedColumn, Receipt, Result,
    TargetColumn, TargetSchema, TaskId, TaskWriter, WriteMode, WritePlan, WriteRequest, Writer,
};
use weir_lakehouse::{
    Location, arrow_schema, delta_error, ensure_writable, existing_input, key_position, new_column, on_io,
    partition_value, type_text,
};

use crate::commit::{self, adds, committed};
use crate::config::Config;
use crate::plan::{State, staging};
use crate::task::LakehouseTask;
use crate::upsert;

/// How often a merge starts again because another writer changed the table.
const MERGE_ATTEMPTS: usize = 5;

/// Writes a Delta table.
pub struct LakehouseWriter {
    config: Config,
    location: Location,
    context: ConnectorContext,
}

impl LakehouseWriter {
    /// Checks the parameters; touches nothing.
    ///
    /// # Errors
    /// See [`Location::new`] and [`Config::check`].
    pub fn new(config: Config, context: ConnectorContext) -> Result<Self, Faults> {
        config.check()?;
        let location = Location::new(&config.location)?;
        Ok(Self { config, location, context })
    }

    async fn open_table(&self) -> Result<Option<DeltaTable>> {
        let location = self.location.clone();
        on_io(&self.context, async move { location.open(None).await }).await
    }

    fn at(&self, error: Error) -> Error {
        error.with("table", self.location.name())
    }

    /// The store of the table's folder, or of the staging below it.
    fn store(&self, plan: &WritePlan) -> Result<ObjectStoreRef> {
        let store = self.location.log_store()?.object_store(None);
        Ok(match staging(plan) {
            Some(folder) => Arc::new(PrefixStore::new(store, folder)),
            None => store,
        })
    }

    /// The plan's columns for a table that is there.
    fn fit(&self, table: &DeltaTable, request: &WriteRequest) -> Result<(Vec<PlannedColumn>, State)> {
        ensure_writable(table)?;
        let snapshot = table.snapshot().map_err(delta_error)?;
        let fields: Vec<StructField> = snapshot.schema().fields().cloned().collect();
        let partition_columns = snapshot.metadata().partition_columns().to_vec();
        let mut wrong = Vec::new();
        let mut columns = Vec::new();
        for column in &request.columns {
            let Some(field) = fields.iter().find(|f| f.name == column.name) else {
                wrong.push(format!("it has no column `{}`", column.name));
                continue;
            };
            match existing_input(column, field) {
                Ok(input) => columns.push(PlannedColumn {
                    name: field.name.clone(),
                    native_type: type_text(&field.data_type),
                    input,
                    warning: None,
                }),
                Err(error) => wrong.push(format!("column `{}`: {}", column.name, error.message())),
            }
        }
        for name in self.config.partition.keys() {
            if !partition_columns.contains(name) {
                wrong.push(format!("it is not partitioned by `{name}`, which `partition` names"));
            }
        }
        let by = self.config.partition_by.as_slice();
        if let Some(name) = by.iter().find(|name| !partition_columns.contains(name)) {
            wrong.push(format!("it is not partitioned by `{name}`, which `partitionBy` names"));
        }
        for field in &fields {
            let written =
                columns.iter().any(|c| c.name == field.name) || self.config.partition.contains_key(&field.name);
            if !written && !field.nullable {
                wrong.push(format!("column `{}` does not take NULL and is not written", field.name));
            }
        }
        if !wrong.is_empty() {
            return Err(Error::new(ErrorKind::Schema, format!("the table does not fit: {}", wrong.join("; "))));
        }
        Ok((columns, State { fields, partition_columns, partition: self.config.partition.clone() }))
    }

    /// That the table will be created, and which table beside it may have been meant.
    fn creation_warning(&self) -> String {
        let near = || {
            let path = self.location.local_path()?;
            let beside = std::fs::read_dir(path.parent()?).ok()?.flatten();
            let tables = beside.filter(|entry| entry.path().join("_delta_log").is_dir());
            let names: Vec<String> = tables.filter_map(|entry| entry.file_name().into_string().ok()).collect();
            let name = weir_core::config::nearest(path.file_name()?.to_str()?, names.iter().map(String::as_str))?;
            Some(format!("; the nearest one is `{name}`"))
        };
        format!("there is no table `{}` yet: it will be created{}", self.location.name(), near().unwrap_or_default())
    }

    /// The plan's columns for a table to be created.
    fn make(&self, request: &WriteRequest) -> Result<(Vec<PlannedColumn>, State)> {
        let mut columns = Vec::new();
        let mut fields: Vec<StructField> = Vec::new();
        let mut wrong = Vec::new();
        for column in &request.columns {
            let made = new_column(column);
            if fields.iter().any(|f| f.name.to_lowercase() == made.field.name.to_lowercase()) {
                wrong.push(format!("column `{}` comes twice (Delta does not tell case apart)", column.name));
            }
            columns.push(PlannedColumn {
                name: column.name.clone(),
                native_type: type_text(&made.field.data_type),
                input: made.input,
                warning: made.warning,
            });
            fields.push(made.field);
        }
        let mut partition_columns: Vec<String> = self.config.partition.keys().cloned().collect();
        for name in &partition_columns {
            if !fields.iter().any(|f| &f.name == name) {
                fields.push(StructField::nullable(name, deltalake::kernel::DataType::STRING));
            }
        }
        for name in self.config.partition_by.as_slice() {
            if !fields.iter().any(|f| &f.name == name) {
                wrong.push(format!("`partitionBy` names `{name}`, which is no column"));
            }
            partition_columns.push(name.clone());
        }
        if partition_columns.len() == fields.len() && !fields.is_empty() {
            wrong.push("every column is a partition column: leave at least one out".into());
        }
        if !wrong.is_empty() {
            return Err(Error::new(ErrorKind::Schema, format!("the table cannot be created: {}", wrong.join("; "))));
        }
        Ok((columns, State { fields, partition_columns, partition: self.config.partition.clone() }))
    }

    /// The key of an upsert: the job's, else the one the columns had at their source.
    fn keys(&self, request: &WriteRequest, state: &State) -> Result<Vec<String>> {
        let named = self.config.key.as_slice();
        if !named.is_empty() {
            for name in named {
                let written = state.partition.contains_key(name) || request.columns.iter().any(|c| &c.name == name);
                if !written {
                    let message = format!("`key` names `{name}`, which is not among the columns to write");
                    return Err(Error::new(ErrorKind::Schema, message));
                }
            }
            return Ok(named.to_vec());
        }
        let mut keys: Vec<(u32, String)> =
            state.fields.iter().filter_map(|f| Some((key_position(f)?, f.name.clone()))).collect();
        let unwritten = |name: &String| !request.columns.iter().any(|c| &c.name == name);
        if keys.is_empty() {
            keys = request.columns.iter().filter_map(|c| Some((c.key?, c.name.clone()))).collect();
        }
        keys.sort();
        let keys: Vec<String> = keys.into_iter().map(|(_, name)| name).collect();
        if keys.is_empty() || keys.iter().any(unwritten) {
            let message =
                "an upsert needs a key, and neither the table nor the source has one: name the columns in `key`";
            return Err(Error::new(ErrorKind::Schema, message));
        }
        Ok(keys)
    }

    async fn merge(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<Committed> {
        let staged = adds(receipts)?;
        let (location, plan) = (self.location.clone(), plan.clone());
        on_io(&self.context, async move {
            let mut attempt = 1;
            loop {
                let Some(table) = location.open(None).await? else {
                    let (files, rows) = upsert::first(&location.log_store()?, &plan, &staged).await?;
                    let version = commit::create(&location, &plan, files).await?;
                    return Ok(Committed {
                        rows: Some(rows),
                        description: format!("created with {rows} rows as version {version}"),
                        ..Committed::default()
                    });
                };
                if committed(&table, &plan).await? {
                    return Ok(already());
                }
                not_made_by_others(&plan)?;
                if staged.is_empty() {
                    return Ok(Committed {
                        rows: Some(0),
                        description: "no rows to merge".into(),
                        ..Committed::default()
                    });
                }
                match upsert::merge(table, &plan, &staged).await {
                    Ok(done) => {
                        return Ok(Committed {
                            rows: Some((done.updated + done.inserted) as u64),
                            description: format!(
                                "merged as version {}: {} rows updated, {} inserted",
                                done.version, done.updated, done.inserted
                            ),
                            ..Committed::default()
                        });
                    }
                    Err(error) if error.kind() == ErrorKind::Conflict && attempt < MERGE_ATTEMPTS => attempt += 1,
                    Err(error) => return Err(error),
                }
            }
        })
        .await
    }

    async fn publish(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<Committed> {
        let files = adds(receipts)?;
        let rows: u64 = receipts.iter().map(|r| r.rows).sum();
        let mut warnings = Vec::new();
        let overwrite = plan.mode == WriteMode::Overwrite;
        let (location, plan) = (self.location.clone(), plan.clone());
        let on_empty = self.config.on_empty;
        on_io(&self.context, async move {
            let table = location.open(None).await?;
            if let Some(table) = &table {
                if committed(table, &plan).await? {
                    return Ok(already());
                }
                not_made_by_others(&plan)?;
            }
            if overwrite && rows == 0 && table.is_some() {
                match on_empty {
                    OnEmpty::Overwrite => warnings.push(format!("the source is empty, and so is {} now", plan.table)),
                    OnEmpty::Keep => {
                        return Ok(Committed {
                            rows: Some(0),
                            description: "the source was empty: the target was left as it is".into(),
                            warnings: vec![format!("the source is empty: {} is kept as it was", plan.table)],
                            ..Committed::default()
                        });
                    }
                    OnEmpty::Error => {
                        let message = "the source is empty, and `onEmpty` is error: the target was left as it is";
                        return Err(Error::new(ErrorKind::Data, message));
                    }
                }
            }
            let count = files.len();
            let version = match &table {
                Some(_) if count == 0 && !overwrite => {
                    return Ok(Committed {
                        rows: Some(0),
                        description: "no rows to publish".into(),
                        ..Committed::default()
                    });
                }
                Some(table) => commit::publish(table, &plan, files).await?,
                None => commit::create(&location, &plan, files).await?,
            };
            let made = if table.is_none() { "created and " } else { "" };
            let description = format!("{made}published {count} files as version {version}");
            tracing::debug!(table = location.name(), version, "committed");
            Ok(Committed { description, warnings, ..Committed::default() })
        })
        .await
    }

    /// Removes the folders that deleting files has left empty, on a local disk.
    fn tidy(&self, paths: &[String], root_too: bool) {
        let Some(root) = self.location.local_path() else { return };
        for path in paths {
            let mut folder = root.join(path);
            // A folder with anything in it stays, so an error ends the climb.
            while folder.pop() && folder != root && folder.starts_with(root) && std::fs::remove_dir(&folder).is_ok() {}
        }
        if root_too {
            let _ = std::fs::remove_dir(root);
        }
    }

    /// Deletes the files of the receipts and whatever lies in the staging.
    async fn discard(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<()> {
        let paths: Vec<String> = adds(receipts)?.into_iter().map(|add| add.path).collect();
        let store = self.store(plan)?;
        let staged = staging(plan);
        let (gone, list) = (paths.clone(), staged.is_some());
        let listed = on_io(&self.context, async move {
            commit::delete(&store, gone.iter().map(String::as_str)).await;
            let mut more = Vec::new();
            if list {
                let listed = store.list_with_delimiter(None).await;
                more = listed.map(|l| l.objects.iter().map(|o| o.location.to_string()).collect()).unwrap_or_default();
                commit::delete(&store, more.iter().map(String::as_str)).await;
            }
            Ok(more)
        })
        .await?;
        let full = |path: &String| staged.as_ref().map_or_else(|| path.clone(), |folder| format!("{folder}/{path}"));
        let mut all: Vec<String> = paths.iter().chain(&listed).map(full).collect();
        all.extend(staged.map(|folder| format!("{folder}/x")));
        self.tidy(&all, plan.creates);
        Ok(())
    }
}

/// Files made for a table of this run's own must not go into one that somebody else made meanwhile: its columns may
/// be others.
fn not_made_by_others(plan: &WritePlan) -> Result<()> {
    if plan.creates {
        let message = "another writer created the table while this run wrote its files: run the job again";
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    Ok(())
}

fn already() -> Committed {
    Committed { description: "this run was published already".into(), ..Committed::default() }
}

#[async_trait]
impl Writer for LakehouseWriter {
    async fn target(&self) -> Result<TargetSchema> {
        let table = self.open_table().await?;
        let mut target = TargetSchema {
            table: self.location.name().to_owned(),
            exists: table.is_some(),
            columns: Vec::new(),
            listed: None,
        };
        let listed = self.config.column.as_slice();
        let all = listed.is_empty() || listed == ["*"];
        if let Some(table) = &table {
            let schema = table.snapshot().map_err(delta_error)?.schema();
            for field in schema.fields() {
                // A constant fills the column, so the job's columns map onto the others.
                let constant = self.config.partition.contains_key(&field.name);
                target.columns.push(TargetColumn {
                    name: field.name.clone(),
                    native_type: type_text(&field.data_type),
                    nullable: field.nullable,
                    has_default: constant,
                    generated: constant,
                    key: key_position(field),
                });
            }
        }
        if !all {
            let resolve = |name: &String| {
                let found = target.columns.iter().find(|c| &c.name == name);
                let found =
                    found.or_else(|| target.columns.iter().find(|c| c.name.to_lowercase() == name.to_lowercase()));
                match found {
                    Some(column) => Ok(column.name.clone()),
                    None if target.exists => {
                        let names: Vec<&str> = target.columns.iter().map(|c| c.name.as_str()).collect();
                        let message = format!("the table has no column `{name}`: it has {}", names.join(", "));
                        Err(self.at(Error::new(ErrorKind::NotFound, message).with("column", name)))
                    }
                    None => Ok(name.clone()),
                }
            };
            let names: Result<Vec<String>> = listed.iter().map(resolve).collect();
            target.listed = Some(names?);
        }
        Ok(target)
    }

    async fn plan(&self, request: &WriteRequest) -> Result<WritePlan> {
        let table = self.open_table().await?;
        let creates = table.is_none();
        if creates && self.config.create_table == Some(false) {
            let message = "there is no Delta table at this place, and `createTable` is off";
            return Err(self.at(Error::new(ErrorKind::NotFound, message)));
        }
        let (columns, state) = match &table {
            Some(table) => self.fit(table, request),
            None => self.make(request),
        }
        .map_err(|e| self.at(e))?;
        for (name, text) in &state.partition {
            if let Some(field) = state.field(name) {
                let arrow = arrow_schema([field])?;
                partition_value(Some(text), arrow.field(0).data_type())
                    .map_err(|e| self.at(Error::config(e.message()).with("column", name)))?;
            }
        }
        let mode = self.config.mode();
        let keys = match mode {
            WriteMode::Upsert => self.keys(request, &state).map_err(|e| self.at(e))?,
            _ => Vec::new(),
        };
        let mut statements = Vec::new();
        if creates {
            statements.push(create_text(&self.location, &state));
        }
        let part: Vec<String> = state.partition.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let method = match mode {
            WriteMode::Upsert => "staged, then merged by key as one version".to_owned(),
            WriteMode::Overwrite if !part.is_empty() => {
                format!("data files, published as one version that replaces partition {}", part.join("/"))
            }
            WriteMode::Overwrite => "data files, published as one version that replaces the table's rows".to_owned(),
            _ => "data files, published as one version".to_owned(),
        };
        Ok(WritePlan {
            run_id: request.run_id.clone(),
            table: self.location.name().to_owned(),
            mode,
            columns,
            creates,
            statements,
            method,
            commits_per_split: false,
            records_splits: false,
            keys,
            warnings: creates.then(|| self.creation_warning()).into_iter().collect(),
            state: serde_json::to_value(state)
                .map_err(|e| Error::internal("the plan cannot be written down").because(e))?,
        })
    }

    async fn prepare(&self, plan: &WritePlan) -> Result<()> {
        // The table itself comes with the first commit, so that a failed run leaves none.
        State::of(plan)?;
        if let Some(path) = self.location.local_path() {
            std::fs::create_dir_all(path).map_err(|e| self.at(e.into()))?;
        }
        Ok(())
    }

    async fn open(&self, plan: &WritePlan, task: &TaskId) -> Result<Box<dyn TaskWriter>> {
        let store = self.store(plan)?;
        let staged = plan.mode == WriteMode::Upsert;
        let size = self.config.target_file_size;
        let task = LakehouseTask::open(&self.context, store, plan, task.split, size, staged);
        Ok(Box::new(task.map_err(|e| self.at(e))?))
    }

    async fn commit(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<Committed> {
        if plan.mode == WriteMode::Upsert {
            let committed = self.merge(plan, receipts).await.map_err(|e| self.at(e))?;
            self.discard(plan, receipts).await?;
            return Ok(committed);
        }
        self.publish(plan, receipts).await.map_err(|e| self.at(e))
    }

    async fn abort(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<()> {
        // After a crash between commit and its report the files belong to the table.
        if let Some(table) = self.open_table().await? {
            let plan = plan.clone();
            if on_io(&self.context, async move { committed(&table, &plan).await }).await? {
                return Ok(());
            }
        }
        self.discard(plan, receipts).await
    }

    async fn check(&self) -> Vec<Check> {
        let what = format!("table {}", self.location.name());
        let table = match self.open_table().await {
            Ok(table) => table,
            Err(error) => return vec![Check::fault(what, error.full())],
        };
        let mut checks = vec![match &table {
            Some(table) => match ensure_writable(table) {
                Ok(()) => Check::ok(what, format!("is at version {}", table.version().unwrap_or(0))),
                Err(error) => Check::fault(what, error.full()),
            },
            None if self.config.create_table == Some(false) => {
                Check::fault(what, "is missing, and `createTable` is off")
            }
            None => Check::ok(what, "will be created"),
        }];
        if let Some(path) = self.location.local_path() {
            let mut folder = path;
            while !folder.exists() {
                let Some(parent) = folder.parent() else { break };
                folder = parent;
            }
            let what = format!("write to {}", folder.display());
            checks.push(match std::fs::metadata(folder) {
                Ok(found) if found.permissions().readonly() => {
                    Check::fault(what, "is read-only: check its permissions")
                }
                Ok(_) => Check::ok(what, "is there"),
                Err(error) => Check::fault(what, error.to_string()),
            });
        }
        checks
    }
}

/// The table to be created, for a person to read.
fn create_text(location: &Location, state: &State) -> String {
    let columns: Vec<String> = state
        .fields
        .iter()
        .map(|f| format!("  {} {}{}", f.name, type_text(&f.data_type), if f.nullable { "" } else { " NOT NULL" }))
        .collect();
    let mut text = format!("CREATE TABLE delta.`{}` (\n{}\n)", location.name(), columns.join(",\n"));
    if !state.partition_columns.is_empty() {
        text.push_str(&format!(" PARTITIONED BY ({})", state.partition_columns.join(", ")));
    }
    text
}
