//! The writer: printing happens at once, a file is put together from the tasks' parts and appears whole.

use std::path::{Path, PathBuf};

use arrow::datatypes::{DataType, Field};
use async_trait::async_trait;
use serde_json::Value;
use tokio::fs;
use weir_core::field::{NATIVE, extension};
use weir_core::{
    Check, Committed, ConnectorContext, Error, ErrorKind, Faults, Form, Parameters, PlannedColumn, Receipt, Result,
    ResultExt, TargetSchema, TaskId, TaskWriter, WriteMode, WritePlan, WriteRequest, Writer,
};

use crate::config::Config;
use crate::printer::Printer;
use crate::task::{Output, Part, StreamTask};

/// Counts, prints or writes rows as text.
pub struct StreamWriter {
    config: Config,
    print: bool,
    /// Folder and file name, when the rows go into a file.
    file: Option<(PathBuf, String)>,
    context: ConnectorContext,
}

impl StreamWriter {
    /// Checks the rules across parameters.
    ///
    /// # Errors
    /// `path` without `fileName` or the other way round.
    pub fn new(config: Config, context: ConnectorContext) -> Result<Self, Faults> {
        let file = match (&config.path, &config.file_name) {
            (Some(path), Some(name)) => {
                if Path::new(name).components().count() != 1 || matches!(name.as_str(), "." | "..") {
                    return Err(Faults::one("/fileName", "`fileName` is a plain name; put folders into `path`"));
                }
                Some((path.clone(), name.clone()))
            }
            (None, None) => None,
            (Some(_), None) => return Err(Faults::one("/path", "`path` needs `fileName`: the file to write in it")),
            (None, Some(_)) => return Err(Faults::one("/fileName", "`fileName` needs `path`: the folder to write in")),
        };
        let print = config.print.unwrap_or(context.form == Form::DataX);
        Ok(Self { config, print, file, context })
    }

    fn name(&self) -> String {
        match &self.file {
            Some((folder, name)) => folder.join(name).display().to_string(),
            None if self.print => "standard output".into(),
            None => "stream".into(),
        }
    }
}

#[async_trait]
impl Writer for StreamWriter {
    async fn target(&self) -> Result<TargetSchema> {
        Ok(TargetSchema { table: self.name(), exists: true, columns: Vec::new(), listed: None })
    }

    async fn plan(&self, request: &WriteRequest) -> Result<WritePlan> {
        let columns = request
            .columns
            .iter()
            .map(|column| PlannedColumn {
                name: column.name.clone(),
                native_type: "text".into(),
                input: PlannedColumn::choose(
                    column,
                    |f| extension(f) != Some(NATIVE),
                    Field::new(&column.name, DataType::Utf8, true),
                ),
                warning: None,
            })
            .collect();
        let (mode, method) = match &self.file {
            Some(_) => (WriteMode::Overwrite, "parts, then put together as one file that replaces the old one"),
            None if self.print => (WriteMode::Append, "printed as they come"),
            None => (WriteMode::Append, "counted only"),
        };
        Ok(WritePlan {
            run_id: request.run_id.clone(),
            table: self.name(),
            mode,
            columns,
            creates: false,
            statements: Vec::new(),
            method: method.into(),
            commits_per_split: self.file.is_none(),
            records_splits: false,
            keys: Vec::new(),
            warnings: Vec::new(),
            state: Value::Null,
        })
    }

    async fn prepare(&self, _plan: &WritePlan) -> Result<()> {
        if let Some((folder, _)) = &self.file {
            fs::create_dir_all(folder).await.context("file", folder.display())?;
        }
        Ok(())
    }

    async fn open(&self, plan: &WritePlan, task: &TaskId) -> Result<Box<dyn TaskWriter>> {
        let output = match &self.file {
            Some((folder, name)) => {
                let part = format!(".{name}.{}.{}.{}", plan.run_id, task.split, task.attempt);
                Output::Part(Part::create(folder, part).await?)
            }
            None if self.print => Output::Print(Printer::start(std::io::stdout)?),
            None => Output::Nowhere,
        };
        Ok(Box::new(StreamTask {
            config: self.config.clone(),
            context: self.context.clone(),
            output,
            split: task.split,
            rows: 0,
            text: String::new(),
        }))
    }

    async fn commit(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<Committed> {
        let rows: u64 = receipts.iter().map(|r| r.rows).sum();
        let Some((folder, name)) = &self.file else {
            let done = if self.print { "printed" } else { "counted" };
            return Ok(Committed { description: format!("{done} {rows} rows"), ..Committed::default() });
        };
        let parts = parts(folder, receipts);
        let target = folder.join(name);
        if !all_there(&parts).await {
            // Parts are removed only after the file is in its place, so a missing one says that this happened.
            if !fs::try_exists(&target).await? {
                return Err(
                    Error::internal("parts of the file are missing: run the job again").with("file", self.name())
                );
            }
            remove(&parts).await;
            return Ok(Committed {
                description: format!("{} was in its place already", self.name()),
                ..Committed::default()
            });
        }
        let whole = folder.join(format!(".{name}.{}", plan.run_id));
        let put_together = async {
            let mut file = fs::File::create(&whole).await.context("file", whole.display())?;
            for part in &parts {
                let mut part_file = fs::File::open(part).await.context("file", part.display())?;
                tokio::io::copy(&mut part_file, &mut file).await.context("file", whole.display())?;
            }
            file.sync_all().await.context("file", whole.display())
        };
        self.context.until_cancelled(put_together).await?;
        fs::rename(&whole, &target).await.context("file", target.display())?;
        remove(&parts).await;
        Ok(Committed { description: format!("wrote {rows} rows to {}", self.name()), ..Committed::default() })
    }

    async fn abort(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<()> {
        if let Some((folder, name)) = &self.file {
            remove(&parts(folder, receipts)).await;
            remove(&[folder.join(format!(".{name}.{}", plan.run_id))]).await;
        }
        Ok(())
    }

    fn read_back(&self, _plan: &WritePlan, _parameters: Parameters) -> Result<Parameters> {
        let text = "the stream writer keeps no rows that could be read back: there is nothing to verify";
        Err(Error::new(ErrorKind::Unsupported, text))
    }

    fn prints(&self) -> bool {
        self.print && self.file.is_none()
    }

    async fn check(&self) -> Vec<Check> {
        let Some((folder, _)) = &self.file else {
            return vec![Check::ok("stream", if self.print { "prints the rows" } else { "counts the rows" })];
        };
        let what = format!("folder {}", folder.display());
        match fs::metadata(folder).await {
            Ok(found) if !found.is_dir() => {
                vec![Check::fault(what, "is not a folder: `path` names the folder, `fileName` the file")]
            }
            Ok(found) if found.permissions().readonly() => {
                vec![Check::fault(what, "may not be written: check its permissions")]
            }
            Ok(_) => vec![Check::ok(what, "is there")],
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => vec![Check::ok(what, "will be made")],
            Err(error) => vec![Check::fault(what, error.to_string())],
        }
    }
}

/// The part files in the order of the splits.
fn parts(folder: &Path, receipts: &[Receipt]) -> Vec<PathBuf> {
    let mut receipts: Vec<_> = receipts.iter().collect();
    receipts.sort_by_key(|r| r.split);
    receipts.iter().filter_map(|r| r.data.get("part")?.as_str()).map(|part| folder.join(part)).collect()
}

async fn all_there(files: &[PathBuf]) -> bool {
    for file in files {
        if !fs::try_exists(file).await.unwrap_or(false) {
            return false;
        }
    }
    true
}

async fn remove(files: &[PathBuf]) {
    for file in files {
        if let Err(error) = fs::remove_file(file).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(file = %file.display(), %error, "a part file could not be removed");
        }
    }
}
