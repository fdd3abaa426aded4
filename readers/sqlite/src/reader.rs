//! The reader: schema, splits, and rows into batches.

use arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use tokio::sync::mpsc;
use weir_core::{
    BatchSender, Check, ConnectorContext, DirtyRow, Error, ErrorKind, Faults, Incremental, MAX_BATCH_BYTES,
    MAX_BATCH_ROWS, Parameters, ReadRequest, Reader, Result, Snapshot, SourceSchema, SourceTable, Split, SplitRequest,
    Window,
};
use weir_sql::{IncrementalConfig, Object, Sources, columns::is_all};
use weir_sqlite::{Access, Database, File, Statement, path_of};

use crate::config::{Consistency, SqliteReaderConfig};
use crate::decode::{Column, shown};
use crate::incremental::narrowed;
use crate::snapshot;
use crate::source::{self, Described};
use crate::split::{self, Part};

/// A batch is handed on at this size: half of what is allowed, so that one more row seldom goes over it.
const BATCH_BYTES: usize = MAX_BATCH_BYTES / 2;

/// Reads SQLite files.
pub struct SqliteReader {
    config: SqliteReaderConfig,
    sources: Vec<FileSource>,
    /// What was ignored.
    warnings: Vec<String>,
    context: ConnectorContext,
}

/// A table or query and the file it is in.
#[derive(Debug, Clone)]
pub(crate) struct FileSource {
    pub(crate) file: File,
    pub(crate) object: Object,
    pub(crate) name: String,
}

impl SqliteReader {
    /// Reads the parameters.
    ///
    /// # Errors
    /// Every fault, with its pointer.
    pub fn open(parameters: &Parameters, context: &ConnectorContext) -> Result<Self, Faults> {
        let mut config: SqliteReaderConfig = weir_core::config::parse(parameters)?;
        let Sources { list, warnings } = config.common.sources(context.form)?;
        let session = config.common.session.as_slice().to_vec();
        let mut faults = Faults::default();
        let mut sources: Vec<FileSource> = Vec::new();
        let mut queries = 0;
        for source in list {
            // Several URLs stand for the same database; the first whose file is there is used.
            let mut paths = Vec::new();
            for url in &source.urls {
                match path_of(url) {
                    Ok(path) => paths.push(path),
                    Err(message) => faults.add("/path", message),
                }
            }
            let found = paths.iter().find(|path| path.is_file()).or(paths.first()).cloned();
            let Some(path) = found else { continue };
            let name = match &source.object {
                Object::Table(table) => table.clone(),
                Object::Query(_) => {
                    queries += 1;
                    format!("query {queries}")
                }
            };
            sources.push(FileSource { file: File { path, session: session.clone() }, object: source.object, name });
        }
        // Tables of one name in several files are told apart by the file.
        let names: Vec<String> = sources.iter().map(|s| s.name.clone()).collect();
        for source in &mut sources {
            if names.iter().filter(|n| **n == source.name).count() > 1 {
                source.name = format!("{}:{}", source.file.path.display(), source.name);
            }
        }
        faults.or(Self { config, sources, warnings, context: context.clone() })
    }

    /// The files, one for each source.
    pub(crate) fn files(&self) -> impl Iterator<Item = &File> {
        self.sources.iter().map(|source| &source.file)
    }

    pub(crate) fn context(&self) -> &ConnectorContext {
        &self.context
    }

    pub(crate) fn consistency(&self) -> Consistency {
        self.config.consistency
    }

    async fn describe(&self, index: usize) -> Result<Described> {
        let source = self.sources[index].clone();
        let config = self.config.common.clone();
        let bytes = source.file.bytes();
        let file = source.file.clone();
        file.with(Access::Read, &self.context, move |database| {
            source::describe(database, &source.name, &source.object, &config, bytes)
        })
        .await
    }

    /// Cuts every source, or what of it lies in the windows.
    pub(crate) async fn cut(&self, request: &SplitRequest, windows: Option<&[Window]>) -> Result<Vec<Split>> {
        let mut splits = Vec::new();
        let tables = self.sources.len();
        let windows = match windows {
            Some(windows) => Some((windows.to_vec(), self.incremental_config()?.clone())),
            None => None,
        };
        for (index, source) in self.sources.iter().enumerate() {
            let (source, config, request) = (source.clone(), self.config.common.clone(), request.clone());
            let (windows, times) = (windows.clone(), self.config.integer_times);
            let bytes = source.file.bytes();
            let file = source.file.clone();
            let cut = file
                .with(Access::Read, &self.context, move |database| {
                    let mut described = source::describe(database, &source.name, &source.object, &config, bytes)?;
                    if let Some((windows, change)) = &windows {
                        described = narrowed(database, &described, windows, change, times)?;
                    }
                    let split_pk = config.split_pk.as_deref();
                    split::cut(database, index, &described, split_pk, &request, tables, bytes)
                })
                .await?;
            splits.extend(cut);
        }
        for (id, split) in (0..).zip(&mut splits) {
            split.id = id;
        }
        Ok(splits)
    }

    /// The sources' number.
    pub(crate) fn source_count(&self) -> usize {
        self.sources.len()
    }

    /// One source.
    pub(crate) fn source(&self, index: usize) -> FileSource {
        self.sources[index].clone()
    }

    /// The parameters.
    pub(crate) fn config(&self) -> &SqliteReaderConfig {
        &self.config
    }

    pub(crate) fn incremental_config(&self) -> Result<&IncrementalConfig> {
        self.config.common.incremental.as_ref().ok_or_else(|| Error::internal("the job asks for no window"))
    }
}

#[async_trait]
impl Reader for SqliteReader {
    async fn schema(&self) -> Result<SourceSchema> {
        let listed = !is_all(self.config.common.column.as_slice());
        let mut schema = SourceSchema { listed, warnings: self.warnings.clone(), ..SourceSchema::default() };
        for index in 0..self.sources.len() {
            let described = self.describe(index).await?;
            if index == 0 {
                schema.columns = described.columns;
            } else {
                unite(&mut schema, described.columns, &described.name, &self.sources[0].name)?;
            }
            schema.tables.push(SourceTable { name: described.name, rows: described.rows, bytes: described.bytes });
        }
        Ok(schema)
    }

    async fn splits(&self, request: &SplitRequest) -> Result<Vec<Split>> {
        self.cut(request, None).await
    }

    async fn read(&self, split: &Split, request: &ReadRequest, output: &mut dyn BatchSender) -> Result<()> {
        let part: Part = serde_json::from_value(split.part.clone())
            .map_err(|error| Error::internal("the split is not one of the SQLite reader's").because(error))?;
        let Some(source) = self.sources.get(part.source) else {
            return Err(Error::config("the split belongs to a source that the job no longer has"));
        };
        let wanted: Vec<usize> = request.columns.iter().map(|c| c.index).collect();
        let (sql, indexes) = match (&part.select, &source.object) {
            (Some(select), _) => (source::sql_of(select, Some(&wanted)), (0..wanted.len()).collect()),
            (None, Object::Query(sql)) => (sql.clone(), wanted),
            (None, Object::Table(_)) => return Err(Error::internal("the split has no select list")),
        };
        let columns = request.columns.iter().map(|c| Column::new(&c.field, self.config.integer_times));
        let mut rows = Rows {
            columns: columns.collect::<Result<_>>()?,
            names: request.columns.iter().map(|c| c.field.name().clone()).collect(),
            indexes,
            schema: request.arrow_schema(),
            limit: request.limit.unwrap_or(u64::MAX),
            bad: Vec::new(),
            rows: 0,
            bytes: 0,
        };
        let moment = snapshot::of_split(request.snapshot.as_ref(), &source.file, &self.context)?;
        let lease = match moment {
            Some(moment) => Some(moment.take(&source.file, &self.context).await?),
            None => None,
        };
        let (sender, mut receiver) = mpsc::channel(1);
        let read = move |database: &Database<'_>| rows.read(database, &sql, &sender);
        let work = async {
            match lease {
                Some(lease) => lease.run(read).await,
                None => source.file.open(Access::Read, &self.context).await?.run(read).await.map(drop),
            }
        };
        let forward = async {
            while let Some(message) = receiver.recv().await {
                match message {
                    Message::Batch(batch) => output.send(batch).await?,
                    Message::Reject(row) => output.reject(row).await?,
                }
            }
            Ok(())
        };
        // When one fails the other is dropped: `work` then interrupts its statement, however long a step takes.
        let result = self.context.until_cancelled(async { tokio::try_join!(forward, work) }).await;
        let at_split = |error: Error| error.with("table", &split.table).with("split", &split.description);
        result.map(drop).map_err(at_split)
    }

    fn snapshot(&self) -> Option<&dyn Snapshot> {
        (self.config.consistency != Consistency::None).then_some(self)
    }

    fn homes(&self) -> Vec<String> {
        self.sources.iter().map(|source| source.file.home()).collect()
    }

    fn incremental(&self) -> Option<&dyn Incremental> {
        self.config.common.incremental.as_ref().map(|_| self as &dyn Incremental)
    }

    async fn check(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        for (index, source) in self.sources.iter().enumerate() {
            let what = format!("read {} in {}", source.name, source.file.path.display());
            checks.push(match self.describe(index).await {
                Ok(described) => {
                    let rows = described.rows.map_or_else(String::new, |rows| format!(", about {rows} rows"));
                    Check::ok(what, format!("{} columns{rows}", described.columns.len()))
                }
                Err(error) => Check::fault(what, error.full()),
            });
        }
        checks
    }
}

/// Holds the columns of a further source against those of the first, and lets both be NULL where one may be.
fn unite(schema: &mut SourceSchema, columns: Vec<weir_core::SourceColumn>, name: &str, first: &str) -> Result<()> {
    let fault = |message: String| Error::new(ErrorKind::Schema, message);
    if columns.len() != schema.columns.len() {
        let (a, b) = (schema.columns.len(), columns.len());
        return Err(fault(format!("`{first}` has {a} columns and `{name}` has {b}: list the common ones in `column`")));
    }
    for (known, column) in schema.columns.iter_mut().zip(columns) {
        if known.name != column.name {
            let (a, b) = (&known.name, &column.name);
            return Err(fault(format!("`{first}` has a column `{a}` where `{name}` has `{b}`: list them in `column`")));
        }
        let same = weir_core::field::same_representation(known.canonical(), column.canonical());
        if !same {
            let (a, b) = (&known.native_type, &column.native_type);
            let message = format!("column `{}` is {a} in `{first}` and {b} in `{name}`", column.name);
            return Err(fault(format!("{message}: cast it to one type in `column`")));
        }
        if column.nullable && !known.nullable {
            known.nullable = true;
            for field in &mut known.representations {
                *field = field.clone().with_nullable(true);
            }
        }
    }
    Ok(())
}

enum Message {
    Batch(RecordBatch),
    Reject(DirtyRow),
}

/// Rows on their way into a batch.
struct Rows {
    columns: Vec<Column>,
    names: Vec<String>,
    indexes: Vec<usize>,
    schema: SchemaRef,
    limit: u64,
    /// Rows of the batch with a value that did not fit.
    bad: Vec<usize>,
    rows: usize,
    bytes: usize,
}

impl Rows {
    fn read(&mut self, database: &Database<'_>, sql: &str, output: &mpsc::Sender<Message>) -> Result<()> {
        let mut statement = database.prepare(sql)?;
        let mut more = database.patiently(|| statement.start(&[]))?;
        let mut left = self.limit;
        while more && left > 0 {
            left -= 1;
            self.take(&statement, output)?;
            if self.rows >= MAX_BATCH_ROWS || self.bytes >= BATCH_BYTES {
                self.flush(output)?;
            }
            more = statement.step()?;
        }
        self.flush(output)
    }

    fn take(&mut self, statement: &Statement<'_>, output: &mpsc::Sender<Message>) -> Result<()> {
        let mut fault: Option<(usize, String)> = None;
        for (i, (column, index)) in self.columns.iter_mut().zip(&self.indexes).enumerate() {
            let value = statement.value(*index);
            self.bytes += column.width;
            if let weir_sqlite::Value::Text(bytes) | weir_sqlite::Value::Blob(bytes) = value {
                if bytes.is_empty() && statement.out_of_memory() {
                    return Err(Error::new(ErrorKind::Io, "SQLite ran out of memory"));
                }
                self.bytes += bytes.len();
            }
            if let Err(reason) = column.push(value)
                && fault.is_none()
            {
                fault = Some((i, reason));
            }
        }
        self.rows += 1;
        if let Some((i, reason)) = fault {
            self.bad.push(self.rows - 1);
            let value = |index: usize| match statement.value(index) {
                weir_sqlite::Value::Null => serde_json::Value::Null,
                value => shown(value).into(),
            };
            let values = self.names.iter().zip(&self.indexes).map(|(name, i)| (name.clone(), value(*i))).collect();
            let row = DirtyRow { values, column: self.names.get(i).cloned(), reason };
            output.blocking_send(Message::Reject(row)).map_err(|_| Error::cancelled())?;
        }
        // A row that makes the batch too large goes on in a batch of its own.
        if self.bytes > MAX_BATCH_BYTES && self.rows > 1 {
            let is_bad = self.bad.last() == Some(&(self.rows - 1));
            let batch = self.build()?;
            let before = batch.num_rows() - usize::from(!is_bad);
            send(output, batch.slice(0, before))?;
            send(output, batch.slice(before, batch.num_rows() - before))?;
        }
        Ok(())
    }

    fn flush(&mut self, output: &mpsc::Sender<Message>) -> Result<()> {
        let batch = self.build()?;
        send(output, batch)
    }

    fn build(&mut self) -> Result<RecordBatch> {
        let columns = self.columns.iter_mut().map(Column::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let mut batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        if !self.bad.is_empty() {
            let mut keep = vec![true; self.rows];
            for row in self.bad.drain(..) {
                keep[row] = false;
            }
            batch = filter_record_batch(&batch, &BooleanArray::from(keep))?;
        }
        (self.rows, self.bytes) = (0, 0);
        Ok(batch)
    }
}

fn send(output: &mpsc::Sender<Message>, batch: RecordBatch) -> Result<()> {
    if batch.num_rows() == 0 {
        return Ok(());
    }
    output.blocking_send(Message::Batch(batch)).map_err(|_| Error::cancelled())
}
