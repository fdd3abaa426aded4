//! The in-memory reader.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use serde_json::json;
use weir_core::field::{KEY, type_text};
use weir_core::{
    BatchSender, Check, ConnectorContext, Error, ErrorKind, Faults, Parameters, ReadRequest, Reader, Result,
    SourceColumn, SourceSchema, SourceTable, Split, SplitRequest, config,
};

use super::source::{Source, find};
use super::{ReaderConfig, Step};

pub(super) fn open(parameters: &Parameters, context: &ConnectorContext) -> Result<Arc<dyn Reader>, Faults> {
    let config: ReaderConfig = config::parse(parameters)?;
    if config.key.is_empty() {
        return Err(Faults::one("/key", "say which source to read"));
    }
    Ok(Arc::new(MemoryReader { config, context: context.clone() }))
}

struct MemoryReader {
    config: ReaderConfig,
    context: ConnectorContext,
}

impl MemoryReader {
    fn source(&self) -> Result<Source> {
        find(&self.config.key).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "no source was put under this key").with("table", &self.config.key)
        })
    }

    /// The positions of the job's columns in the source.
    fn columns(&self, source: &Source) -> Result<Vec<usize>> {
        if self.config.column.is_empty() {
            return Ok((0..source.schema.fields().len()).collect());
        }
        let find = |name: &String| {
            source
                .schema
                .index_of(name)
                .map_err(|_| Error::new(ErrorKind::NotFound, "the source has no such column").with("column", name))
        };
        self.config.column.iter().map(find).collect()
    }
}

#[async_trait]
impl Reader for MemoryReader {
    async fn schema(&self) -> Result<SourceSchema> {
        let source = self.source()?;
        source.trouble.at(Step::Schema)?;
        let columns = self.columns(&source)?.into_iter().map(|index| {
            let field = source.schema.field(index);
            SourceColumn {
                name: field.name().clone(),
                native_type: type_text(field),
                nullable: field.is_nullable(),
                key: field.metadata().get(KEY).and_then(|k| k.parse().ok()),
                representations: vec![field.clone()],
                comment: None,
            }
        });
        let rows = source.splits.iter().flatten().map(|b| b.num_rows() as u64).sum();
        Ok(SourceSchema {
            columns: columns.collect(),
            tables: vec![SourceTable { name: self.config.key.clone(), rows: Some(rows), bytes: None }],
            listed: !self.config.column.is_empty(),
            warnings: Vec::new(),
        })
    }

    async fn splits(&self, _: &SplitRequest) -> Result<Vec<Split>> {
        let source = self.source()?;
        source.trouble.at(Step::Splits)?;
        let split = |(part, batches): (usize, &Vec<RecordBatch>)| Split {
            id: part as u32,
            table: self.config.key.clone(),
            description: format!("part {part}"),
            rows: Some(batches.iter().map(|b| b.num_rows() as u64).sum()),
            bytes: None,
            stable: true,
            part: json!(part),
        };
        Ok(source.splits.iter().enumerate().map(split).collect())
    }

    async fn read(&self, split: &Split, request: &ReadRequest, output: &mut dyn BatchSender) -> Result<()> {
        let source = self.source()?;
        let part = split.part.as_u64().unwrap_or(u64::MAX) as usize;
        let batches = source.splits.get(part).ok_or_else(|| Error::internal("the source has no such split"))?;
        let columns = self.columns(&source)?;
        let schema = request.arrow_schema();
        let mut row = 0;
        for batch in batches {
            let rows = batch.num_rows() as u64;
            let passage = source.trouble.before(row, rows, &self.context).await?;
            let (good, refused) = source.trouble.sort_out(row, &batch.slice(0, passage.rows))?;
            let wanted = request.columns.iter().map(|c| good.column(columns[c.index]).clone()).collect();
            let options = RecordBatchOptions::new().with_row_count(Some(good.num_rows()));
            output.send(RecordBatch::try_new_with_options(schema.clone(), wanted, &options)?).await?;
            for dirty in refused {
                output.reject(dirty).await?;
            }
            if let Some(error) = passage.error {
                return Err(error);
            }
            row += rows;
            if request.limit.is_some_and(|limit| row >= limit) {
                break;
            }
        }
        Ok(())
    }

    async fn check(&self) -> Vec<Check> {
        match self.source() {
            Ok(_) => vec![Check::ok("source", "it is there")],
            Err(error) => vec![Check::fault("source", error.to_string())],
        }
    }
}
