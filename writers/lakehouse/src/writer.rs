//! The writer: what is there, what will be done, and who does it.

use std::path::Path;

use async_trait::async_trait;
use deltalake::DeltaTable;
use weir_core::{
    Check, Committed, ConnectorContext, Error, ErrorKind, Evolve, Faults, Leases, Receipt, Recorded, Result,
    TargetColumn, TargetSchema, TaskId, TaskWriter, WriteMode, WritePlan, WriteRequest, Writer,
};
use weir_files::{is_writable, nearest};
use weir_lakehouse::{
    Location, arrow_schema, delta_error, ensure_writable, key_position, on_io, own_style, partition_value, type_text,
    unquoted,
};
use weir_sql::{Quoting, is_all, resolve_target_columns};

use crate::columns::{constants, fit, keys, make};
use crate::commit::committed;
use crate::config::Config;
use crate::pending::Pending;
use crate::plan::{State, staging};
use crate::publish::{Publication, forget, take_back};
use crate::record;
use crate::task::LakehouseTask;

/// Writes a Delta table.
pub struct LakehouseWriter {
    pub(crate) config: Config,
    pub(crate) location: Location,
    pub(crate) context: ConnectorContext,
}

impl LakehouseWriter {
    /// Checks the parameters; touches nothing.
    ///
    /// # Errors
    /// See [`Location::new`] and [`Config::check`].
    pub fn new(config: Config, context: ConnectorContext) -> Result<Self, Faults> {
        config.check()?;
        let location = Location::new(&config.location, &context)?;
        Ok(Self { config, location, context })
    }

    pub(crate) async fn open_table(&self) -> Result<Option<DeltaTable>> {
        let location = self.location.clone();
        on_io(&self.context, async move { location.open(None).await }).await
    }

    pub(crate) fn at(&self, error: Error) -> Error {
        error.with("table", self.location.name())
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

    pub(crate) async fn is_published(&self, plan: &WritePlan) -> Result<bool> {
        match self.open_table().await? {
            Some(table) => {
                let plan = plan.clone();
                on_io(&self.context, async move { committed(&table, &plan).await }).await
            }
            None => Ok(false),
        }
    }

    /// Removes the folders that deleting files has left empty, on a local disk.
    pub(crate) fn tidy(&self, plan: &WritePlan, paths: &[String], root_too: bool) {
        let Some(root) = self.location.local_path() else { return };
        let staging = format!("{}/x", staging(plan));
        for path in paths.iter().chain([&staging]) {
            let mut folder = root.join(path);
            // A folder with anything in it stays, which ends the climb.
            let gone = |folder: &Path| match std::fs::remove_dir(folder) {
                Err(error) => error.kind() == std::io::ErrorKind::NotFound,
                Ok(()) => true,
            };
            while folder.pop() && folder != root && folder.starts_with(root) && gone(&folder) {}
        }
        if root_too {
            let _ = std::fs::remove_dir(root);
        }
    }
}

#[async_trait]
impl Writer for LakehouseWriter {
    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }

    async fn target(&self) -> Result<TargetSchema> {
        let table = self.open_table().await?;
        let mut target = TargetSchema {
            table: self.location.name().to_owned(),
            exists: table.is_some(),
            columns: Vec::new(),
            listed: None,
        };
        if let Some(table) = &table {
            let schema = table.snapshot().map_err(delta_error)?.schema();
            let names: Vec<&str> = schema.fields().map(|f| f.name.as_str()).collect();
            let constants = constants(&self.config, names.iter().copied());
            let constants = constants.map_err(|e| self.at(e))?;
            for field in schema.fields() {
                // A constant fills the column, so the job's columns map onto the others.
                let constant = constants.contains_key(&field.name);
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
        let entries: Vec<String> = self.config.column.as_slice().iter().map(|entry| own_style(entry)).collect();
        if target.exists {
            let names: Vec<&str> = target.columns.iter().map(|c| c.name.as_str()).collect();
            let listed = resolve_target_columns(&entries, &names, Quoting::DOUBLE);
            target.listed = listed.map_err(|e| self.at(e))?;
        } else if !is_all(&entries) {
            target.listed = Some(entries.iter().map(|entry| unquoted(entry)).collect());
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
            Some(table) => fit(&self.config, table, request),
            None => make(&self.config, request),
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
        let keys = match self.config.compares_keys() {
            true => keys(&self.config, request, &state).map_err(|e| self.at(e))?,
            false => Vec::new(),
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
            WriteMode::Overwrite if !keys.is_empty() => {
                "data files, compared by key and published as one version that replaces the table's rows".to_owned()
            }
            WriteMode::Overwrite => "data files, published as one version that replaces the table's rows".to_owned(),
            _ if !keys.is_empty() => "data files, compared by key and published as one version".to_owned(),
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
            records_splits: true,
            keys,
            // A whole-database job means to create its tables.
            warnings: (creates && request.described.is_none()).then(|| self.creation_warning()).into_iter().collect(),
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

    async fn recorded(&self, plan: &WritePlan) -> Result<Recorded> {
        let (folder, of) = (self.location.folder(), plan.clone());
        let receipts = on_io(&self.context, async move { record::kept(&folder, &of).await }).await;
        Ok(Recorded { receipts: receipts.map_err(|e| self.at(e))?, published: self.is_published(plan).await? })
    }

    async fn open(&self, plan: &WritePlan, task: &TaskId) -> Result<Box<dyn TaskWriter>> {
        Pending::of(&self.context, &self.location, plan).begin();
        let size = self.config.target_file_size;
        let task = LakehouseTask::open(&self.context, self.location.folder(), plan, task, size);
        Ok(Box::new(task.map_err(|e| self.at(e))?))
    }

    async fn commit(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<Committed> {
        let pending = Pending::of(&self.context, &self.location, plan);
        let publication = Publication::new(&self.location, plan, &self.config, pending, receipts)?;
        let done = on_io(&self.context, publication.run()).await.map_err(|e| self.at(e))?;
        tracing::debug!(table = self.location.name(), done = done.description, "committed");
        Ok(done)
    }

    async fn abort(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<()> {
        // After a crash between commit and its report the files belong to the table.
        if self.is_published(plan).await? {
            return Ok(());
        }
        let (location, of, receipts) = (self.location.clone(), plan.clone(), receipts.to_vec());
        let pending = Pending::of(&self.context, &self.location, plan);
        let gone = on_io(&self.context, async move { take_back(&location, &of, &pending, &receipts).await }).await;
        if let Some(gone) = gone.map_err(|e| self.at(e))? {
            Pending::forget(&self.context, &self.location, plan);
            self.tidy(plan, &gone, plan.creates);
        }
        Ok(())
    }

    async fn forget(&self, plan: &WritePlan) -> Result<()> {
        let (location, of) = (self.location.clone(), plan.clone());
        let gone = on_io(&self.context, async move { forget(&location, &of).await }).await;
        Pending::forget(&self.context, &self.location, plan);
        self.tidy(plan, &gone.map_err(|e| self.at(e))?, false);
        Ok(())
    }

    fn evolve(&self) -> Option<&dyn Evolve> {
        Some(self)
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
            let folder = nearest(path);
            let what = format!("write to {}", folder.display());
            checks.push(match is_writable(folder) {
                true => Check::ok(what, "is writable"),
                false => {
                    Check::fault(what, "is not writable: check its permissions, and how its file system is mounted")
                }
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
