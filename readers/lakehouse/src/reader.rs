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
    BatchSender, Check, ConnectorContext, DirtyRow, Error, ErrorKind, Faults, MAX_BATCH_BYTES, MAX_BATCH_ROWS,
    ReadRequest, Reader, Result, SourceColumn, SourceSchema, SourceTable, Split, SplitRequest, batch_bytes,
};
use weir_lakehouse::{
    Filter, Location, active_files, arrow_schema, canonical, delta_error, ensure_readable, from_stored, key_position,
    on_io, type_text,
};

use crate::config::Config;
use crate::scan::Scan;
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
        let location = Location::new(&config.location)?;
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
    fn columns(&self, table: &DeltaTable) -> Result<(Vec<StructField>, bool)> {
        let schema = table.snapshot().map_err(delta_error)?.schema();
        let listed = self.config.column.as_slice();
        if listed.is_empty() || listed == ["*"] {
            return Ok((schema.fields().cloned().collect(), false));
        }
        let mut columns = Vec::new();
        for name in listed {
            if name == "*" {
                columns.extend(schema.fields().cloned());
                continue;
            }
            columns.push(find(&schema, name).ok_or_else(|| {
                let names: Vec<&str> = schema.fields().map(|f| f.name.as_str()).collect();
                let near = weir_core::config::nearest(name, names.iter().copied());
                let hint =
                    near.map_or_else(|| format!("it has {}", names.join(", ")), |n| format!("did you mean `{n}`?"));
                Error::new(ErrorKind::NotFound, format!("the table has no column `{name}`: {hint}"))
                    .with("table", self.location.name())
                    .with("column", name)
            })?);
        }
        Ok((columns, true))
    }

    fn filter(&self, schema: &SchemaRef) -> Result<Option<Filter>> {
        let condition = self.config.condition.as_deref().map(|c| c.trim().trim_end_matches([';', ' ']));
        condition.filter(|c| !c.is_empty()).map(|c| Filter::new(c, schema)).transpose()
    }

    /// The columns that a task reads from the files: those it delivers and those the condition looks at.
    fn scanned(&self, table: &DeltaTable, delivered: &[StructField]) -> Result<(SchemaRef, Option<Filter>)> {
        let schema = table.snapshot().map_err(delta_error)?.schema();
        let mut fields: Vec<&StructField> = Vec::new();
        let looked_at = match self.config.condition.is_some() {
            true => {
                // Columns of types that Arrow has no place for cannot stand in a condition.
                let known = schema.fields().filter(|f| canonical(f).is_ok());
                self.filter(&arrow_schema(known)?)?.map(|f| f.columns().to_vec()).unwrap_or_default()
            }
            false => Vec::new(),
        };
        for field in schema.fields() {
            if delivered.iter().any(|d| d.name == field.name) || looked_at.contains(&field.name) {
                fields.push(field);
            }
        }
        let nullable = arrow_schema(fields)?;
        // What another writer left out of a file is NULL, whatever the table says.
        let nullable: Vec<_> = nullable.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let scanned: SchemaRef = Arc::new(Schema::new(nullable));
        let filter = self.filter(&scanned)?;
        Ok((scanned, filter))
    }
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

fn find(schema: &StructType, name: &str) -> Option<StructField> {
    let bare = name.trim().trim_matches(['`', '"']);
    if let Some(exact) = schema.field(bare) {
        return Some(exact.clone());
    }
    // Delta's names are unique without regard to case.
    schema.fields().find(|f| f.name.to_lowercase() == bare.to_lowercase()).cloned()
}

#[async_trait]
impl Reader for LakehouseReader {
    async fn schema(&self) -> Result<SourceSchema> {
        let table = self.table().await?;
        let (fields, listed) = self.columns(&table)?;
        self.scanned(&table, &[])?;
        let mut columns = Vec::with_capacity(fields.len());
        for field in fields {
            let restored = canonical(&field).map_err(|e| e.with("table", self.location.name()))?;
            let stored = arrow_schema([&field])?.field(0).clone();
            let mut representations = vec![restored];
            if representations[0].data_type() != stored.data_type() {
                representations.push(stored);
            }
            columns.push(SourceColumn {
                native_type: type_text(&field.data_type),
                nullable: field.nullable,
                key: key_position(&field),
                representations,
                comment: field.metadata.get("comment").map(|c| c.to_string().trim_matches('"').to_owned()),
                name: field.name,
            });
        }
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
        let table = open(&self.context, &self.location, Some(part.version)).await?;
        let (columns, _) = self.columns(&table)?;
        let delivered: Option<Vec<StructField>> =
            request.columns.iter().map(|c| columns.get(c.index).cloned()).collect();
        let delivered =
            delivered.ok_or_else(|| Error::internal("the job asks for a column that the source does not have"))?;
        let (scanned, filter) = self.scanned(&table, &delivered)?;
        let partition_columns = table.snapshot().map_err(delta_error)?.metadata().partition_columns().to_vec();
        let scan = Scan { store: table.object_store(), columns: scanned, partition_columns, filter };
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

/// Brings the columns into the chosen form and sends them; rows with a value that does not come along are rejected.
async fn deliver(
    batch: &RecordBatch,
    delivered: &[StructField],
    request: &ReadRequest,
    output: &mut dyn BatchSender,
) -> Result<()> {
    let schema = request.arrow_schema();
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(delivered.len());
    let mut bad: Option<BooleanArray> = None;
    for (source, target) in delivered.iter().zip(schema.fields()) {
        let values = batch.column_by_name(&source.name);
        let values = values.ok_or_else(|| Error::internal("a column was not read").with("column", &source.name))?;
        let (values, mut lost) = from_stored(values, target.data_type()).map_err(|e| e.with("column", &source.name))?;
        if !target.is_nullable() && values.null_count() > 0 && lost.is_none() {
            lost = Some(arrow::compute::is_null(&values)?);
        }
        if let Some(lost) = lost {
            for row in (0..lost.len()).filter(|row| lost.value(*row)) {
                let seen_before = bad.as_ref().is_some_and(|b| b.value(row));
                if !seen_before {
                    let reason = format!("the value is no {}", weir_core::field::type_text(target));
                    output.reject(DirtyRow::of_batch(batch, row, Some(source.name.clone()), reason)).await?;
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
    // Halves of halves, front first, until each is within bounds.
    let mut pieces = vec![batch];
    while let Some(piece) = pieces.pop() {
        let rows = piece.num_rows();
        if rows > 1 && (rows > MAX_BATCH_ROWS || batch_bytes(&piece) > MAX_BATCH_BYTES) {
            pieces.push(piece.slice(rows / 2, rows - rows / 2));
            pieces.push(piece.slice(0, rows / 2));
        } else if rows > 0 {
            output.send(piece).await?;
        }
    }
    Ok(())
}
