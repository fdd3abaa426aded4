//! One reading of one side, split by split, on threads of their own as in a run.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;
use weir_core::{
    BatchSender, ConnectorContext, DirtyRow, Error, ErrorKind, ReadRequest, Result, SnapshotGuard, Split, SplitRequest,
    batch_bytes, slice_rows,
};

use super::compare::Hashed;
use super::gather::Gather;
use super::hash::{RowHashes, column_hashes};
use super::sides::{Common, Side, to_common};
use crate::job::Retry;
use crate::limit::Limiter;
use crate::pipeline::Pipeline;
use crate::retry::Retries;
use crate::task::within_grace;
use crate::threads::Threads;

/// About the most bytes of a split, as in a run.
const MAX_SPLIT_BYTES: u64 = 1 << 30;

/// A side that is held at one moment, cut into splits.
pub struct Held<'a> {
    side: &'a Side,
    splits: Vec<Split>,
    request: ReadRequest,
    /// Dropped last.
    _guard: Option<SnapshotGuard>,
}

/// How passes are driven.
pub struct Drive<'a> {
    /// What both sides share.
    pub common: &'a Common,
    /// The connectors' context.
    pub context: &'a ConnectorContext,
    /// The job's budget.
    pub limiter: Arc<Limiter>,
    /// How faults that may pass are met.
    pub retry: Retry,
    /// The threads of its channels.
    pub threads: Threads,
}

/// What flowed in a pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// Rows that were compared.
    pub rows: u64,
    /// Rows that could not be read or converted.
    pub left_out: u64,
}

impl<'a> Held<'a> {
    /// Begins a snapshot where the side has one, and cuts it into splits.
    ///
    /// # Errors
    /// The connector's.
    pub async fn begin(side: &'a Side, drive: &Drive<'_>) -> Result<Self> {
        let context = drive.context;
        let guard = match side.reader.snapshot() {
            Some(snapshot) => Some(context.until_cancelled(snapshot.begin(side.channels)).await?),
            None => None,
        };
        let token = guard.as_ref().map(|guard| guard.token.clone());
        let wanted = SplitRequest {
            channels: side.channels,
            max_bytes: MAX_SPLIT_BYTES,
            snapshot: token.clone(),
            stable: false,
            limit: None,
        };
        let mut splits = match side.reader.incremental().filter(|_| !side.windows.is_empty()) {
            Some(incremental) => context.until_cancelled(incremental.splits_within(&wanted, &side.windows)).await?,
            None => context.until_cancelled(side.reader.splits(&wanted)).await?,
        };
        for (id, split) in splits.iter_mut().enumerate() {
            split.id = id as u32;
        }
        let request = ReadRequest { snapshot: token, ..side.request.clone() };
        Ok(Self { side, splits, request, _guard: guard })
    }

    /// Whether its rows come from more than one table.
    pub fn has_tables(&self) -> bool {
        self.splits.windows(2).any(|pair| pair[0].table != pair[1].table)
    }

    /// Reads all of the side into `gather`.
    ///
    /// # Errors
    /// The first fault that does not pass; [`Cancelled`](ErrorKind::Cancelled).
    pub async fn pass(&self, mut gather: Gather, drive: &Drive<'_>) -> Result<(Gather, Flow)> {
        let cancel = drive.context.cancel.child_token();
        // Boxed: the compiler cannot prove a stream of plain borrowing futures to be `Send`.
        let splits: Vec<_> =
            self.splits.iter().map(|split| self.patiently(split, gather.fresh(), drive, &cancel).boxed()).collect();
        let mut finished = futures::stream::iter(splits).buffer_unordered(self.side.channels);
        let (mut flow, mut failed) = (Flow::default(), None::<Error>);
        while let Some(result) = finished.next().await {
            match result {
                Ok((found, more)) => {
                    gather.merge(found);
                    flow.rows += more.rows;
                    flow.left_out += more.left_out;
                }
                Err(error) => {
                    cancel.cancel();
                    if failed.as_ref().is_none_or(|first| first.kind() == ErrorKind::Cancelled) {
                        failed = Some(error);
                    }
                }
            }
        }
        drop(finished);
        match failed {
            Some(error) => Err(error.with("side", self.side.name)),
            None => Ok((gather, flow)),
        }
    }

    /// Reads a split, again while the fault may pass.
    async fn patiently(
        &self,
        split: &Split,
        gather: Gather,
        drive: &Drive<'_>,
        cancel: &CancellationToken,
    ) -> Result<(Gather, Flow)> {
        let what = format!("reading split {} of {}", split.id, split.table);
        let read = || async {
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let read = self.read(split, gather.fresh().of_table(&split.table), drive, cancel).await;
            read.map_err(|error| error.with("split", split.id).with("table", &split.table))
        };
        let tell = |text: &str| tracing::warn!("{text}");
        let read = Retries::new(drive.retry).step(&what, cancel, tell, Error::is_retryable, read).await;
        // What the others say after the first fault is that they were stopped.
        read.map_err(|error| if cancel.is_cancelled() { Error::cancelled() } else { error })
    }

    async fn read(
        &self,
        split: &Split,
        gather: Gather,
        drive: &Drive<'_>,
        cancel: &CancellationToken,
    ) -> Result<(Gather, Flow)> {
        let endpoint = self.side.endpoint.clone();
        let shared = drive.context.shared.within(self.side.room.clone());
        let context = ConnectorContext { cancel: cancel.clone(), form: endpoint.form, shared, ..drive.context.clone() };
        let (split, request, pipeline) = (split.clone(), self.request.clone(), self.side.pipeline.clone());
        let Common { fields, key, options, .. } = drive.common;
        let hasher = Hasher {
            pipeline: None,
            conversions: self.side.conversions.clone(),
            fields: fields.clone(),
            key: key.clone(),
            options: options.clone(),
            salt: u64::from(self.side.pipeline.is_some()),
            gather,
            flow: Flow::default(),
            limiter: drive.limiter.clone(),
            cancel: cancel.clone(),
            done: false,
        };
        let work = move |kept| async move {
            let context = ConnectorContext { shared: context.shared.on(Some(kept)), ..context };
            let cancel = context.cancel.clone();
            let work = async {
                let mut hasher = hasher;
                if let Some((spec, plan)) = &pipeline {
                    hasher.pipeline = Some(Pipeline::new(spec, plan, Some(&split.table))?);
                }
                let reader = endpoint.open_reader(&context)?;
                let result = reader.read(&split, &request, &mut hasher).await;
                if !hasher.done {
                    result?;
                }
                Ok((hasher.gather, hasher.flow))
            };
            within_grace(&cancel, work).await
        };
        drive.threads.run(work).await?
    }
}

/// Hashes what a reader sends.
struct Hasher {
    /// From the source's columns to the written ones.
    pipeline: Option<Pipeline>,
    conversions: Arc<Vec<weir_core::convert::Conversion>>,
    fields: Arc<Vec<arrow::datatypes::Field>>,
    key: Arc<Vec<usize>>,
    options: weir_core::convert::ConvertOptions,
    /// Makes a cell without a common form unequal to any of the other side.
    salt: u64,
    gather: Gather,
    flow: Flow,
    limiter: Arc<Limiter>,
    cancel: CancellationToken,
    /// Set when nothing is left to look for: the reader was stopped because of that.
    done: bool,
}

impl Hasher {
    async fn slice(&mut self, batch: RecordBatch) -> Result<()> {
        let bytes = batch_bytes(&batch);
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(Error::cancelled()),
            () = self.limiter.acquire(batch.num_rows(), bytes) => {}
        }
        let batch = match &self.pipeline {
            None => batch,
            Some(pipeline) => {
                let left_out = |_, _| {
                    self.flow.left_out += 1;
                    Ok(())
                };
                pipeline.apply(batch, left_out)?.batch
            }
        };
        let common = to_common(&batch, &self.conversions, &self.fields)?;
        let rows = common.batch.num_rows();
        let mut hashes = Vec::with_capacity(self.fields.len());
        for (field, column) in self.fields.iter().zip(common.batch.columns()) {
            hashes.push(column_hashes(column, field, &self.options)?);
        }
        for (column, row) in common.faults {
            hashes[column][row] = hashes[column][row].rotate_left(17) ^ 0x5BE0_CD19_137E_2179 ^ self.salt;
        }
        let mut all = RowHashes::new(rows);
        hashes.iter().for_each(|column| all.add(column));
        let mut key = RowHashes::new(rows);
        self.key.iter().for_each(|index| key.add(&hashes[*index]));
        let hashed: Vec<Hashed> =
            key.finish().into_iter().zip(all.finish()).map(|(key, row)| Hashed { key, row }).collect();
        self.flow.rows += rows as u64;
        self.gather.take(&common.batch, &hashed);
        Ok(())
    }
}

#[async_trait]
impl BatchSender for Hasher {
    async fn send(&mut self, batch: RecordBatch) -> Result<()> {
        let most = self.limiter.slice(batch.num_rows(), batch_bytes(&batch)).unwrap_or(batch.num_rows());
        let most = self.pipeline.as_ref().map_or(most, |pipeline| most.min(pipeline.max_rows()));
        for slice in slice_rows(&batch, most) {
            self.slice(slice).await?;
        }
        self.done = self.gather.is_done();
        // The reader is told to stop in the one way it knows.
        if self.done { Err(Error::cancelled()) } else { Ok(()) }
    }

    async fn reject(&mut self, _: DirtyRow) -> Result<()> {
        self.flow.left_out += 1;
        Ok(())
    }
}
