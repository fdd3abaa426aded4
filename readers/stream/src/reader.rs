//! The reader: splits are runs of row numbers, each with a random generator of its own.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use weir_core::{
    BatchSender, Check, ConnectorContext, Error, Faults, MAX_BATCH_BYTES, ReadRequest, Reader, Result, SourceColumn,
    SourceSchema, SourceTable, Split, SplitRequest,
};

use crate::column::Generator;
use crate::config::Config;

/// Making values is work that nothing breaks off: a stop is looked for once a batch, so a batch is a short piece of it.
const BATCH_ROWS: usize = 8 * 1024;

/// How many splits there are at most, about: each is kept in memory and in the ledger, and rows cost nothing to promise. Of
/// more rows each has more of them.
const MOST_SPLITS: u64 = 4_096;

/// What reports call the source.
const TABLE: &str = "stream";

/// Makes rows.
pub struct StreamReader {
    columns: Vec<Generator>,
    rows_per_channel: u64,
    seed: Option<u64>,
    context: ConnectorContext,
}

/// What a task needs to make the same rows again.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    seed: u64,
    /// The number of the first row in the whole job.
    start: u64,
    rows: u64,
}

impl StreamReader {
    /// Checks the columns.
    ///
    /// # Errors
    /// No column or count, or columns whose values cannot be made; all of them at once.
    pub fn new(config: &Config, context: ConnectorContext) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let mut columns = Vec::with_capacity(config.column.len());
        for (index, column) in config.column.iter().enumerate() {
            match Generator::new(index, column, context.form) {
                Ok(generator) => columns.push(generator),
                Err(more) => faults.0.extend(more.0),
            }
        }
        if config.column.is_empty() {
            faults.add(
                "",
                "`column` is missing: list the columns to make, like [{\"type\": \"long\", \"random\": \"1,9\"}]",
            );
        }
        let rows_per_channel = config.slice_record_count.unwrap_or(0);
        if rows_per_channel == 0 {
            faults.add("", "`sliceRecordCount` is missing: say how many rows each channel is to make");
        }
        faults.or(Self { columns, rows_per_channel, seed: config.seed, context })
    }

    fn row_width(&self) -> usize {
        self.columns.iter().map(Generator::width).sum::<usize>().max(1)
    }
}

#[async_trait]
impl Reader for StreamReader {
    async fn schema(&self) -> Result<SourceSchema> {
        let columns = self
            .columns
            .iter()
            .map(|column| SourceColumn {
                name: column.name.clone(),
                native_type: column.kind().into(),
                nullable: false,
                key: None,
                representations: vec![column.field()],
                comment: None,
            })
            .collect();
        // How many channels there will be is not known yet; the splits carry the real numbers.
        let table = SourceTable { name: TABLE.into(), rows: None, bytes: None };
        Ok(SourceSchema { columns, tables: vec![table], listed: true, warnings: Vec::new() })
    }

    fn repeats(&self) -> bool {
        self.seed.is_some() || !self.columns.iter().any(Generator::is_random)
    }

    async fn splits(&self, request: &SplitRequest) -> Result<Vec<Split>> {
        let seed = self.seed.unwrap_or_else(rand::random);
        let width = self.row_width() as u64;
        let channels = request.channels.max(1) as u64;
        let fewest = self.rows_per_channel.div_ceil((MOST_SPLITS / channels).max(1));
        let most = (request.max_bytes / width).max(fewest).max(1);
        let mut splits = Vec::new();
        let mut left = request.limit.unwrap_or(u64::MAX);
        for channel in 0..channels {
            let first = channel.saturating_mul(self.rows_per_channel);
            let mut done = 0;
            while done < self.rows_per_channel && left > 0 {
                let rows = most.min(self.rows_per_channel - done).min(left);
                let start = first + done;
                splits.push(Split {
                    id: 0,
                    table: TABLE.into(),
                    description: format!("rows {start} to {}", start + rows - 1),
                    rows: Some(rows),
                    bytes: Some(rows.saturating_mul(width)),
                    stable: true,
                    part: serde_json::to_value(Part { seed, start, rows })
                        .map_err(|e| Error::internal("a split cannot be written down").because(e))?,
                });
                done += rows;
                left -= rows;
            }
        }
        Ok(splits)
    }

    async fn read(&self, split: &Split, request: &ReadRequest, output: &mut dyn BatchSender) -> Result<()> {
        let part: Part = serde_json::from_value(split.part.clone())
            .map_err(|e| Error::internal("the split was not made by the stream reader").because(e))?;
        // The first row's number makes the generators of the splits differ.
        let mut random = StdRng::seed_from_u64(part.seed ^ part.start.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let schema = request.arrow_schema();
        let most = (MAX_BATCH_BYTES / self.row_width()).clamp(1, BATCH_ROWS);
        let wanted = part.rows.min(request.limit.unwrap_or(u64::MAX));
        let mut constants: Vec<Option<ArrayRef>> = vec![None; self.columns.len()];
        let mut done = 0;
        while done < wanted {
            if self.context.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let rows = (wanted - done).min(most as u64) as usize;
            let mut arrays = Vec::with_capacity(request.columns.len());
            for column in &request.columns {
                let generator = self
                    .columns
                    .get(column.index)
                    .ok_or_else(|| Error::internal("the job asks for a column that the source does not have"))?;
                arrays.push(if generator.is_constant() {
                    // The first batch is the longest.
                    let whole = constants[column.index].get_or_insert_with(|| generator.make(0, rows, &mut random));
                    whole.slice(0, rows)
                } else {
                    generator.make(part.start + done, rows, &mut random)
                });
            }
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            output.send(RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?).await?;
            done += rows as u64;
        }
        Ok(())
    }

    async fn check(&self) -> Vec<Check> {
        vec![Check::ok("stream", format!("makes {} rows a channel", self.rows_per_channel))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use weir_core::{DirtyRow, Form, MAX_BATCH_ROWS, ReadColumn, batch_bytes};

    #[derive(Default)]
    struct Collect(Vec<RecordBatch>);

    #[async_trait]
    impl BatchSender for Collect {
        async fn send(&mut self, batch: RecordBatch) -> Result<()> {
            self.0.push(batch);
            Ok(())
        }

        async fn reject(&mut self, row: DirtyRow) -> Result<()> {
            Err(Error::internal(row.reason))
        }
    }

    fn reader(parameters: serde_json::Value) -> Result<StreamReader, Faults> {
        let context = ConnectorContext {
            cancel: Default::default(),
            io: tokio::runtime::Handle::current(),
            form: Form::DataX,
            time_zone: "UTC".parse().unwrap(),
            shared: Default::default(),
        };
        StreamReader::new(&weir_core::config::parse(&parameters)?, context)
    }

    async fn read_all(reader: &StreamReader, channels: usize, max_bytes: u64) -> Vec<RecordBatch> {
        let schema = reader.schema().await.unwrap();
        let columns = schema.columns.iter().enumerate();
        let columns = columns.map(|(index, c)| ReadColumn { index, field: c.canonical().clone() }).collect();
        let request = ReadRequest { columns, snapshot: None, limit: None };
        let mut output = Collect::default();
        let splits = SplitRequest { channels, max_bytes, snapshot: None, stable: false, limit: None };
        for split in reader.splits(&splits).await.unwrap() {
            let before = output.0.len();
            reader.read(&split, &request, &mut output).await.unwrap();
            let rows: usize = output.0[before..].iter().map(RecordBatch::num_rows).sum();
            assert_eq!(Some(rows as u64), split.rows);
        }
        output.0
    }

    #[tokio::test]
    async fn each_channel_makes_its_rows_and_a_seed_makes_them_again() {
        let job = json!({"sliceRecordCount": 20_000, "seed": 5, "column": [
            {"incr": "0,1"}, {"random": "0,200"}, {"type": "long", "random": "0,9"}, "x", 1.5
        ]});
        let batches = read_all(&reader(job.clone()).unwrap(), 3, 1 << 20).await;
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 60_000);
        assert!(batches.iter().all(|b| batch_bytes(b) <= MAX_BATCH_BYTES && b.num_rows() <= MAX_BATCH_ROWS));
        assert_eq!(batches, read_all(&reader(job.clone()).unwrap(), 3, 1 << 20).await);
        assert_ne!(batches[0].column(1), batches[1].column(1));

        let mut other = job;
        other["seed"] = json!(6);
        assert_ne!(batches, read_all(&reader(other).unwrap(), 3, 1 << 20).await);
    }

    #[tokio::test]
    async fn however_many_rows_there_are_the_splits_are_few() {
        let job = json!({"sliceRecordCount": 100_000_000, "column": ["x".repeat(1_000_000)]});
        let splits = SplitRequest { channels: 4, max_bytes: 1 << 30, snapshot: None, stable: false, limit: None };
        let splits = reader(job).unwrap().splits(&splits).await.unwrap();
        assert!(splits.len() as u64 <= MOST_SPLITS, "{}", splits.len());
        let mut next = 0;
        for split in &splits {
            let part: Part = serde_json::from_value(split.part.clone()).unwrap();
            assert_eq!(part.start, next);
            next += part.rows;
        }
        assert_eq!(next, 400_000_000);
    }

    #[tokio::test]
    async fn faults_come_all_at_once() {
        let faults = reader(json!({"column": [{"type": "long", "value": "x"}, {"random": "9,1"}]})).err().unwrap();
        let pointers: Vec<_> = faults.0.iter().map(|f| f.pointer.as_str()).collect();
        assert_eq!(pointers, ["/column/0/value", "/column/1/random", ""]);
        assert!(reader(json!({"sliceRecordCount": 1})).is_err());
    }
}
