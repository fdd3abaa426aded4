//! The reader: one version of one table.

use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{filter_record_batch, not, or};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use deltalake::DeltaTable;
use deltalake::kernel::{StructField, StructType};
use tokio::sync::mpsc;
use weir_core::{
    BatchSender, Check, ConnectorContext, DirtyRow, Error, ErrorKind, Faults, ReadRequest, Reader, Result,
    SourceColumn, SourceSchema, SourceTable, Split, SplitRequest, within_bounds,
};
use weir_lakehouse::{
    Expression, Filter, Location, Scan, Scanned, active_files, arrow_schema, canonical, delta_error, ensure_readable,
    from_stored, key_position, on_io, own_style, type_text,
};
use weir_sql::{Quoting, find_name, resolve_source_columns};

use crate::config::Config;
use crate::split::{Part, group};

/// Reads a Delta table.
pub struct LakehouseReader {
    config: Config,
    location: Location,
    context: ConnectorContext,
    /// The version that `schema` saw first: everything after it sees the same one.
    version: OnceLock<u64>,
}

impl LakehouseReader {
    /// Checks the parameters; touches nothing.
    ///
    /// # Errors
    /// See [`Location::new`].
    pub fn new(config: Config, context: ConnectorContext) -> Result<Self, Faults> {
        let location = Location::new(&config.location, &context)?;
        Ok(Self { config, location, context, version: OnceLock::new() })
    }

    /// The table at the job's version, or at the newest one, which then is the job's.
    async fn table(&self) -> Result<DeltaTable> {
        let wanted = self.config.version.or_else(|| self.version.get().copied());
        let table = open(&self.context, &self.location, wanted).await?;
        if let Some(version) = table.version() {
            let _ = self.version.set(version);
        }
        Ok(table)
    }

    /// The columns that the job asks for, in its order, and whether it lists them.
    fn columns(&self, table: &DeltaTable) -> Result<(Vec<Column>, bool)> {
        let schema = table.snapshot().map_err(delta_error)?.schema();
        let stored: Vec<&StructField> = schema.fields().collect();
        let names: Vec<&str> = stored.iter().map(|f| f.name.as_str()).collect();
        let entries: Vec<String> = self.config.column.as_slice().iter().map(|entry| own_style(entry)).collect();
        let at = |e: Error| e.with("table", self.location.name());
        let selected = resolve_source_columns(&entries, &names, Quoting::DOUBLE).map_err(at)?;
        let known = computable(&schema)?;
        let mut columns = Vec::with_capacity(selected.len());
        for entry in selected {
            columns.push(match entry.column {
                Some(index) => Column::Stored(stored[index].clone()),
                None => match Expression::new(&entry.sql, &known) {
                    Ok(expression) => Column::Computed(Box::new(expression)),
                    // What looks like a name is more likely a misspelt one than an expression.
                    Err(_) if is_word(&entry.sql) => {
                        let missing = find_name("column", &entry.sql, names.iter().copied()).map(|_| ());
                        let error = missing.err().unwrap_or_else(|| Error::internal("a column is there and is not"));
                        return Err(at(error.with("column", &entry.sql)));
                    }
                    Err(error) => return Err(at(error)),
                },
            });
        }
        Ok((columns, !weir_sql::is_all(&entries)))
    }

    /// What a task reads from the files: the columns it delivers, and those that the condition and expressions look at.
    fn scanned(&self, table: &DeltaTable, delivered: &[Column]) -> Result<Scanned> {
        let schema = table.snapshot().map_err(delta_error)?.schema();
        let condition = self.config.condition.as_deref().map(|c| c.trim().trim_end_matches([';', ' ']));
        let condition = condition.filter(|c| !c.is_empty());
        let mut looked_at: Vec<String> = Vec::new();
        if let Some(condition) = condition {
            looked_at.extend(Filter::new(condition, &computable(&schema)?)?.columns().iter().cloned());
        }
        for column in delivered {
            match column {
                Column::Stored(field) => looked_at.push(field.name.clone()),
                Column::Computed(expression) => looked_at.extend(expression.columns().iter().cloned()),
            }
        }
        let fields = arrow_schema(schema.fields().filter(|field| looked_at.contains(&field.name)))?;
        // What another writer left out of a file is NULL, whatever the table says.
        let nullable: Vec<_> = fields.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let columns: SchemaRef = Arc::new(Schema::new(nullable));
        let filter = condition.map(|c| Filter::new(c, &columns)).transpose()?;
        let mut expressions: Vec<Expression> = Vec::new();
        for column in delivered {
            if let Column::Computed(expression) = column
                && !expressions.iter().any(|e| e.field().name() == expression.field().name())
            {
                expressions.push(Expression::new(expression.field().name(), &columns)?);
            }
        }
        Ok(Scanned { columns, filter, expressions })
    }
}

/// A column of the table, or one that is computed from them.
#[derive(Clone)]
enum Column {
    Stored(StructField),
    Computed(Box<Expression>),
}

impl Column {
    fn name(&self) -> &str {
        match self {
            Self::Stored(field) => &field.name,
            Self::Computed(expression) => expression.field().name(),
        }
    }

    fn source(self) -> Result<SourceColumn> {
        Ok(match self {
            Self::Stored(field) => {
                let restored = canonical(&field)?;
                let stored = arrow_schema([&field])?.field(0).clone();
                let mut representations = vec![restored];
                if representations[0].data_type() != stored.data_type() {
                    representations.push(stored);
                }
                SourceColumn {
                    native_type: type_text(&field.data_type),
                    nullable: field.nullable,
                    key: key_position(&field),
                    representations,
                    comment: field.metadata.get("comment").map(|c| c.to_string().trim_matches('"').to_owned()),
                    name: field.name,
                }
            }
            Self::Computed(expression) => SourceColumn {
                name: expression.field().name().clone(),
                native_type: weir_core::field::type_text(expression.field()),
                nullable: true,
                key: None,
                representations: vec![expression.field().clone()],
                comment: None,
            },
        })
    }
}

fn is_word(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ' ') && text.starts_with(char::is_alphabetic)
}

/// The columns that can stand in SQL: all but those of types that Arrow has no place for.
fn computable(schema: &StructType) -> Result<SchemaRef> {
    arrow_schema(schema.fields().filter(|f| canonical(f).is_ok()))
}

async fn open(context: &ConnectorContext, location: &Location, version: Option<u64>) -> Result<DeltaTable> {
    let place = location.clone();
    let table = on_io(context, async move { place.open(version).await }).await?;
    let table = table.ok_or_else(|| {
        let message = "there is no Delta table at this place: check `path` (the folder that holds `_delta_log`)";
        Error::new(ErrorKind::NotFound, message).with("table", location.name())
    })?;
    ensure_readable(&table).map_err(|e| e.with("table", location.name()))?;
    Ok(table)
}

#[async_trait]
impl Reader for LakehouseReader {
    async fn schema(&self) -> Result<SourceSchema> {
        let table = self.table().await?;
        let (fields, listed) = self.columns(&table)?;
        self.scanned(&table, &[])?;
        let columns: Result<Vec<SourceColumn>> = fields.into_iter().map(Column::source).collect();
        let columns = columns.map_err(|e| e.with("table", self.location.name()))?;
        let files = active_files(&table).map_err(|e| e.with("table", self.location.name()))?;
        let source = SourceTable {
            name: self.location.name().to_owned(),
            rows: files.iter().map(|f| f.rows).sum(),
            bytes: Some(files.iter().map(|f| f.size).sum()),
        };
        Ok(SourceSchema { columns, tables: vec![source], listed, warnings: Vec::new() })
    }

    async fn splits(&self, request: &SplitRequest) -> Result<Vec<Split>> {
        let table = self.table().await?;
        let files = active_files(&table).map_err(|e| e.with("table", self.location.name()))?;
        group(self.location.name(), table.version().unwrap_or(0), files, request)
    }

    async fn read(&self, split: &Split, request: &ReadRequest, output: &mut dyn BatchSender) -> Result<()> {
        let part: Part = serde_json::from_value(split.part.clone())
            .map_err(|e| Error::internal("the split was not made by the lakehouse reader").because(e))?;
        // The version of the split, not the newest: another process may have planned it.
        let table = open(&self.context, &self.location, Some(part.version)).await;
        let table = table.map_err(|error| gone(error, part.version))?;
        let (columns, _) = self.columns(&table)?;
        let delivered: Option<Vec<Column>> = request.columns.iter().map(|c| columns.get(c.index).cloned()).collect();
        let delivered =
            delivered.ok_or_else(|| Error::internal("the job asks for a column that the source does not have"))?;
        let scanned = self.scanned(&table, &delivered)?;
        let partition_columns = table.snapshot().map_err(delta_error)?.metadata().partition_columns().to_vec();
        let scan = Scan { store: table.object_store(), scanned, partition_columns, version: part.version };
        let (sender, mut receiver) = mpsc::channel(2);
        // Ends by itself once the receiver is dropped.
        self.context.io.spawn(async move { scan.run(part.files, &sender).await });

        let mut left = request.limit.unwrap_or(u64::MAX);
        while left > 0 {
            let next = self.context.until_cancelled(async { Ok(receiver.recv().await) }).await?;
            let Some(batch) = next else { break };
            let batch = batch.map_err(|e| e.with("table", self.location.name()))?;
            let batch = batch.slice(0, usize::try_from(left).unwrap_or(usize::MAX).min(batch.num_rows()));
            left -= batch.num_rows() as u64;
            deliver(&batch, &delivered, request, output).await?;
        }
        Ok(())
    }

    async fn check(&self) -> Vec<Check> {
        let what = format!("table {}", self.location.name());
        match self.schema().await {
            Ok(schema) => {
                let version = self.version.get().copied().unwrap_or(0);
                vec![Check::ok(what, format!("version {version} can be read, {} columns", schema.columns.len()))]
            }
            Err(error) => vec![Check::fault(what, error.full())],
        }
    }
}

/// What a version that could be read when the run began, and now cannot, means.
fn gone(error: Error, version: u64) -> Error {
    match error.kind() {
        ErrorKind::NotFound => {
            let message = format!(
                "version {version} of the table cannot be read any more: its log or its files were removed (VACUUM, log \
                 retention); run the job anew to read the newest version"
            );
            Error::new(ErrorKind::NotFound, message).because(error)
        }
        _ => error,
    }
}

/// Brings the columns into the chosen form and sends them; rows with a value that does not come along are rejected.
async fn deliver(
    batch: &RecordBatch,
    delivered: &[Column],
    request: &ReadRequest,
    output: &mut dyn BatchSender,
) -> Result<()> {
    let schema = request.arrow_schema();
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(delivered.len());
    let mut bad: Option<BooleanArray> = None;
    for (source, target) in delivered.iter().zip(schema.fields()) {
        let name = source.name();
        let values = batch.column_by_name(name);
        let values = values.ok_or_else(|| Error::internal("a column was not read").with("column", name))?;
        let (values, mut lost) = from_stored(values, target.data_type()).map_err(|e| e.with("column", name))?;
        if !target.is_nullable() && values.null_count() > 0 && lost.is_none() {
            lost = Some(arrow::compute::is_null(&values)?);
        }
        if let Some(lost) = lost {
            for row in (0..lost.len()).filter(|row| lost.value(*row)) {
                let seen_before = bad.as_ref().is_some_and(|b| b.value(row));
                if !seen_before {
                    let reason = format!("the value is no {}", weir_core::field::type_text(target));
                    output.reject(DirtyRow::of_batch(batch, row, Some(name.to_owned()), reason)).await?;
                }
            }
            bad = Some(match bad {
                Some(bad) => or(&bad, &lost)?,
                None => lost,
            });
        }
        arrays.push(values);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let batch = match bad {
        None => RecordBatch::try_new_with_options(schema, arrays, &options)?,
        Some(bad) => {
            // Rejected rows may hold NULL where the schema has none, so filter before the schema is applied.
            let loose: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
            let loose = RecordBatch::try_new_with_options(Arc::new(Schema::new(loose)), arrays, &options)?;
            let good = filter_record_batch(&loose, &not(&bad)?)?;
            let options = RecordBatchOptions::new().with_row_count(Some(good.num_rows()));
            RecordBatch::try_new_with_options(schema, good.columns().to_vec(), &options)?
        }
    };
    for piece in within_bounds(batch) {
        output.send(piece).await?;
    }
    Ok(())
}
