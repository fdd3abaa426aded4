//! The files writer.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use async_trait::async_trait;
use weir_core::field::{JSON, NATIVE, TEXT, extension, type_text, with_extension};
use weir_core::{
    Check, Committed, ConnectorContext, Error, ErrorKind, Faults, Leases, Parameters, PlannedColumn, Receipt, Recorded,
    Result, TargetSchema, TaskId, TaskWriter, WriteMode, WritePlan, WriteRequest, Writer, config,
};
use weir_files::{Entry, Format, Found, Location, is_writable, nearest};

use crate::columns;
use crate::commit;
use crate::config::Config;
use crate::database;
use crate::distinct;
use crate::header;
use crate::plan::{Mode, Quotes, Rules};
use crate::read_back::read_back;
use crate::record::Records;
use crate::render::is_renderable;
use crate::row_groups::RowGroups;
use crate::swap;
use crate::task::FilesTask;

pub(crate) fn open(parameters: &Parameters, context: &ConnectorContext) -> Result<Arc<dyn Writer>, Faults> {
    let config: Config = config::parse(parameters)?;
    let mut faults = Faults::default();
    let Some(path) = config.path.as_deref() else {
        return Err(Faults::one("/path", "`path` is missing: give a file or a folder"));
    };
    if path.contains(['*', '?']) {
        faults.add("/path", "a pattern cannot be written to: give a file or a folder");
    }
    let location = Location::parse(path, &config.storage_options, context).map_err(|m| Faults::one("/path", m))?;
    if location.store.is_web() {
        faults.add("/path", "a web server cannot be written to: give a path or the URL of an object store");
    }
    let mut rules = Rules::new(&config, location, context.form, &mut faults);
    rules.row_groups = context.shared.find_or_leave("files: row groups", RowGroups::default);
    faults.or(())?;
    Ok(Arc::new(FilesWriter { rules, context: context.clone() }))
}

pub(crate) struct FilesWriter {
    pub(crate) rules: Rules,
    pub(crate) context: ConnectorContext,
}

impl FilesWriter {
    fn conflict(&self, existing: &[Entry]) -> Result<()> {
        match existing.first() {
            Some(first) if self.rules.mode == Mode::NonConflict => {
                let message =
                    "the target exists already: remove it, choose another path, or set writeMode to truncate or append";
                Err(Error::new(ErrorKind::Conflict, message)
                    .with("file", self.rules.location.store.display(&first.path)))
            }
            _ => Ok(()),
        }
    }

    fn column(&self, column: &weir_core::MappedColumn) -> Result<PlannedColumn, String> {
        let text = self.rules.format.is_text();
        let nested = column.offers.iter().find(|f| f.data_type().is_nested());
        let accepts = |field: &Field| match self.rules.format {
            _ if extension(field) == Some(NATIVE) => false,
            Format::Parquet => {
                !matches!(field.data_type(), DataType::Interval(_) | DataType::Union(..) | DataType::Null)
            }
            Format::Arrow => true,
            // A list is a list in JSON, not its source's text of one.
            Format::Jsonl if nested.is_some() && extension(field) == Some(TEXT) => false,
            _ => is_renderable(field),
        };
        if !column.offers.iter().any(|f| extension(f) != Some(NATIVE)) {
            return Err(format!("`{}` ({})", column.name, column.source_type));
        }
        let mut fallback = Field::new(&column.name, DataType::Utf8, true);
        if nested.is_some() {
            fallback = with_extension(fallback, JSON);
        }
        let input = PlannedColumn::choose(column, accepts, fallback);
        let native_type = if text { "text".to_owned() } else { type_text(&input) };
        Ok(PlannedColumn { name: column.name.clone(), native_type, input, warning: None })
    }
}

#[async_trait]
impl Writer for FilesWriter {
    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }

    fn has_types(&self) -> bool {
        !self.rules.format.is_text()
    }

    async fn target(&self) -> Result<TargetSchema> {
        let existing = self.context.until_cancelled(commit::existing(&self.rules)).await?;
        Ok(TargetSchema { table: self.rules.display(), exists: !existing.is_empty(), ..TargetSchema::default() })
    }

    async fn plan(&self, request: &WriteRequest) -> Result<WritePlan> {
        let rules = &self.rules;
        if request.described.is_some() {
            database::not_its_partition(&rules.folder, &request.columns)?;
        }
        let existing = self.context.until_cancelled(commit::existing(rules)).await?;
        self.conflict(&existing)?;
        let planned: Vec<_> = request.columns.iter().map(|c| self.column(c)).collect();
        let wrong: Vec<&str> = planned.iter().filter_map(|c| c.as_ref().err().map(String::as_str)).collect();
        if !wrong.is_empty() {
            let message = format!("files cannot hold these columns in the form they come in: {}", wrong.join(", "));
            return Err(Error::new(ErrorKind::Schema, message));
        }
        if let Some(Some(names)) = &rules.header
            && names.len() != request.columns.len()
        {
            let message =
                format!("`header` has {} names and the rows have {} columns", names.len(), request.columns.len());
            return Err(Error::new(ErrorKind::Schema, message));
        }
        let keys = match &rules.compared {
            Some(named) => distinct::keys(named, &request.columns)?,
            None => Vec::new(),
        };
        let names: Vec<&str> = request.columns.iter().map(|c| c.name.as_str()).collect();
        self.context.until_cancelled(header::compare(rules, &names, &existing, &self.context.cancel)).await?;
        let columns: Vec<_> = planned.into_iter().flatten().collect();
        let compared = columns::compare(rules, &columns, &existing, &self.context.cancel);
        self.context.until_cancelled(compared).await?;
        let mut statements = Vec::new();
        if rules.mode == Mode::Truncate {
            statements
                .extend(existing.iter().take(20).map(|e| format!("replace {}", rules.location.store.display(&e.path))));
            if existing.len() > 20 {
                statements.push(format!("replace {} more files", existing.len() - 20));
            }
        }
        let mut warnings = Vec::new();
        let method = match (&rules.single, rules.mode) {
            (Some(_), _) if rules.location.store.is_local() => {
                "parts are staged in a hidden folder beside the file, joined, and put in its place by one rename"
            }
            (Some(_), _) => "parts are staged under a hidden prefix, joined, and seen when their upload is completed",
            (None, Mode::Truncate) => match swap::obstacle(rules, &request.run_id) {
                None => "files are staged in a hidden folder; then a folder with them takes the place of the old one",
                Some(obstacle) => {
                    warnings.push(format!(
                        "the folder cannot be exchanged as a whole ({obstacle}): programs that list it while the run \
                         publishes may see old and new files together; Weir's own readers go by a manifest and do not"
                    ));
                    "files are staged in a hidden folder and put in their places; a manifest says in one step that they \
                     count and the old ones do not"
                }
            },
            (None, _) if rules.location.store.is_local() => {
                "files are staged in a hidden folder and renamed into their places, one after the other"
            }
            (None, _) => "files are staged under a hidden prefix and copied into their places, one after the other",
        };
        let compared = if keys.is_empty() { "" } else { "; before that their keys are compared" };
        if rules.quotes == Quotes::None && rules.format.is_text() && rules.format != Format::Jsonl {
            let nullable = request.columns.iter().filter(|c| c.nullable).map(|c| format!("`{}`", c.name));
            let nullable: Vec<String> = nullable.collect();
            if rules.format != Format::Sql && !nullable.is_empty() {
                let null = if rules.null_format.is_empty() { "an empty text" } else { &rules.null_format };
                warnings.push(format!(
                    "without quotes NULL and {null} look alike in the file: write csv with quotes to keep them apart ({})",
                    nullable.join(", ")
                ));
            }
        }
        Ok(WritePlan {
            run_id: request.run_id.clone(),
            table: rules.display(),
            mode: if rules.mode == Mode::Truncate { WriteMode::Overwrite } else { WriteMode::Append },
            columns,
            creates: existing.is_empty(),
            statements,
            method: format!("{method}{compared}"),
            commits_per_split: false,
            records_splits: true,
            keys,
            warnings,
            state: serde_json::Value::Null,
        })
    }

    async fn prepare(&self, plan: &WritePlan) -> Result<()> {
        let store = &self.rules.location.store;
        if self.rules.single.is_none() && matches!(store.look(&self.rules.folder).await?, Found::File(_)) {
            let message = "the folder to write to is a file: give a path with an extension to write one file";
            return Err(Error::new(ErrorKind::Conflict, message).with("path", &self.rules.folder));
        }
        store.create_folder(&self.rules.staging(&plan.run_id)).map_err(|e| {
            if e.kind() == ErrorKind::Denied {
                let message = "the folder may not be written to: check its permissions";
                return Error::new(ErrorKind::Denied, message).with("folder", &self.rules.folder).because(e);
            }
            e
        })?;
        store.sync_folder(&self.rules.run_folder(&plan.run_id))?;
        store.sync_folder(&self.rules.folder)
    }

    async fn open(&self, plan: &WritePlan, task: &TaskId) -> Result<Box<dyn TaskWriter>> {
        Ok(Box::new(FilesTask::new(self.rules.clone(), plan.clone(), task.clone())))
    }

    async fn commit(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<Committed> {
        commit::commit(&self.rules, plan, receipts, &self.context.cancel).await
    }

    fn read_back(&self, plan: &WritePlan, parameters: Parameters) -> Result<Parameters> {
        read_back(&self.rules, plan, parameters)
    }

    async fn abort(&self, plan: &WritePlan, _: &[Receipt]) -> Result<()> {
        commit::take_back(&self.rules, &plan.run_id).await
    }

    async fn recorded(&self, plan: &WritePlan) -> Result<Recorded> {
        Records { rules: &self.rules, run_id: &plan.run_id }.recorded().await
    }

    async fn forget(&self, plan: &WritePlan) -> Result<()> {
        commit::clear(&self.rules, &plan.run_id).await
    }

    async fn check(&self) -> Vec<Check> {
        let what = self.rules.display();
        let store = &self.rules.location.store;
        let probe = self.rules.place(".weir-check");
        let result = async {
            // A folder that does not exist yet is made by the run: its nearest ancestor has to be writable then.
            if store.is_local()
                && store.look(&self.rules.folder).await? == Found::Nothing
                && !self.rules.folder.is_empty()
            {
                let above = nearest(Path::new(&self.rules.folder));
                if !is_writable(above) {
                    let message = "is not writable: check its permissions, and how its file system is mounted";
                    return Err(Error::new(ErrorKind::Denied, format!("{} {message}", above.display())));
                }
                return Ok(format!("{} will be created", self.rules.folder));
            }
            weir_files::Sink::create(store, &probe).await?.finish().await?;
            store.remove(&probe).await?;
            Ok("writable".to_owned())
        };
        match self.context.until_cancelled(result).await {
            Ok(detail) => vec![Check::ok(what, detail)],
            Err(e) => vec![Check::fault(what, e.full())],
        }
    }
}
