//! The decorator between a reader and its channel: meters, limits, transforms, converts.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use weir_core::channel::ChannelSender;
use weir_core::{BatchSender, DirtyRow, Error, Result, batch_bytes, slice_rows};

use crate::dirty::{DirtyPart, Side};
use crate::limit::{Limiter, claim};
use crate::pipeline::Pipeline;
use crate::progress::Counters;

/// What a reader sends into.
pub struct TaskSender {
    /// The channel to the writer's thread.
    pub channel: ChannelSender,
    /// From the reader's columns to the writer's.
    pub pipeline: Pipeline,
    /// The job's budget.
    pub limiter: Arc<Limiter>,
    /// The attempt's counters.
    pub counters: Arc<Counters>,
    /// The attempt's dirty rows.
    pub dirty: Arc<DirtyPart>,
    /// Stops the task.
    pub cancel: CancellationToken,
    /// Rows that the entry may still read (`--limit`). What an attempt took of them is exactly what it counted as read,
    /// so whoever tries a split again gives that back first.
    pub left: Option<Arc<AtomicI64>>,
    /// Set when `left` ran out: the reader was stopped because it is done, not because of a fault.
    pub enough: bool,
}

impl TaskSender {
    /// How many of `rows` may still be read, and whether these are the last.
    fn claim(&self, rows: usize) -> (usize, bool) {
        let Some(left) = &self.left else { return (rows, false) };
        claim(left, rows)
    }

    /// Gives back what was claimed and then not read.
    fn unclaim(&self, rows: usize) {
        if let Some(left) = &self.left {
            left.fetch_add(i64::try_from(rows).unwrap_or_default(), Relaxed);
        }
    }

    /// Waits until so much may be read, or the task is stopped.
    async fn acquire(&self, rows: usize, bytes: usize) -> Result<()> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::cancelled()),
            () = self.limiter.acquire(rows, bytes) => Ok(()),
        }
    }

    async fn send_slices(&mut self, batch: &RecordBatch, most: usize) -> Result<()> {
        for slice in slice_rows(batch, most) {
            self.send_slice(slice).await?;
        }
        Ok(())
    }

    async fn send_slice(&mut self, batch: RecordBatch) -> Result<()> {
        let bytes = batch_bytes(&batch);
        self.acquire(batch.num_rows(), bytes).await?;
        self.counters.rows_read.fetch_add(batch.num_rows() as u64, Relaxed);
        self.counters.bytes_read.fetch_add(bytes as u64, Relaxed);
        let moved = self.pipeline.apply(batch, |side, row| self.dirty.add(side, row))?;
        self.counters.rows_filtered.fetch_add(moved.filtered, Relaxed);
        if moved.batch.num_rows() == 0 {
            return Ok(());
        }
        let cancel = self.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::cancelled()),
            sent = self.channel.send(moved.batch) => sent,
        }
    }
}

#[async_trait]
impl BatchSender for TaskSender {
    async fn send(&mut self, batch: RecordBatch) -> Result<()> {
        let (rows, last) = self.claim(batch.num_rows());
        let batch = if rows < batch.num_rows() { batch.slice(0, rows) } else { batch };
        if rows > 0 {
            let budget = self.limiter.slice(rows, batch_bytes(&batch)).unwrap_or(rows);
            let most = budget.min(self.pipeline.max_rows());
            let before = self.counters.counts().rows_read;
            let sent = self.send_slices(&batch, most).await;
            if sent.is_err() {
                let read = self.counters.counts().rows_read - before;
                self.unclaim(rows.saturating_sub(read as usize));
            }
            sent?;
        }
        // Only now, when all that was claimed has gone: a fault before this point is the task's.
        self.enough = last;
        // The reader is told to stop in the one way it knows; the task looks at `enough` and calls it a success.
        if self.enough { Err(Error::cancelled()) } else { Ok(()) }
    }

    async fn reject(&mut self, row: DirtyRow) -> Result<()> {
        // A reader whose rows are all refused waits for nothing else: here others get their turn, and a stop is heard.
        tokio::task::consume_budget().await;
        let (rows, last) = self.claim(1);
        if rows > 0 {
            let width = row.values.values().map(|value| value.as_str().map_or(1, str::len)).sum();
            if let Err(stopped) = self.acquire(1, width).await {
                self.unclaim(1);
                return Err(stopped);
            }
            self.counters.rows_read.fetch_add(1, Relaxed);
            self.dirty.add(Side::Reader, row)?;
        }
        self.enough = last;
        if self.enough { Err(Error::cancelled()) } else { Ok(()) }
    }
}
