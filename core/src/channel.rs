//! The bounded channel between a reader's thread and a writer's thread, and the traits of its two ends.
//!
//! Each end is driven by a current-thread Tokio runtime of its own, so nothing here may block: both ends use the
//! non-blocking calls of a crossbeam channel and wait on a [`Notify`] in each direction. Limits, metering, conversion
//! and cancellation are decorators around [`BatchSender`] and [`BatchReceiver`], not code in connectors.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use tokio::sync::Notify;

use crate::{DirtyRow, Error, Result};

/// Where a reader sends its rows.
#[async_trait]
pub trait BatchSender: Send {
    /// Hands over a batch; waits while the target is slower than the source.
    ///
    /// # Errors
    /// The run was stopped or the other side failed: the reader passes the error on at once.
    async fn send(&mut self, batch: RecordBatch) -> Result<()>;

    /// Hands over a row that could not be decoded.
    ///
    /// # Errors
    /// As `send`; [`DirtyLimit`](crate::ErrorKind::DirtyLimit) when the job allows no more of them.
    async fn reject(&mut self, row: DirtyRow) -> Result<()>;
}

/// Where the writer's side gets its rows.
#[async_trait]
pub trait BatchReceiver: Send {
    /// The next batch, or `None` after the last one.
    async fn receive(&mut self) -> Result<Option<RecordBatch>>;
}

/// The sending end of [`bounded_channel`].
pub struct ChannelSender {
    // `None` only while dropping: the channel must be closed before the receiver is woken.
    sender: Option<Sender<RecordBatch>>,
    shared: Arc<Shared>,
}

/// The receiving end of [`bounded_channel`].
pub struct ChannelReceiver {
    receiver: Option<Receiver<RecordBatch>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    not_full: Notify,
    not_empty: Notify,
}

/// A channel that holds at most `capacity` batches. One sender, one receiver.
pub fn bounded_channel(capacity: usize) -> (ChannelSender, ChannelReceiver) {
    let (sender, receiver) = bounded(capacity.max(1));
    let shared = Arc::new(Shared::default());
    (
        ChannelSender { sender: Some(sender), shared: shared.clone() },
        ChannelReceiver { receiver: Some(receiver), shared },
    )
}

impl ChannelSender {
    /// Sends a batch, waiting for room.
    ///
    /// # Errors
    /// [`Cancelled`](crate::ErrorKind::Cancelled) when the receiving end is gone.
    pub async fn send(&mut self, mut batch: RecordBatch) -> Result<()> {
        let sender = self.sender.as_ref().ok_or_else(Error::cancelled)?;
        loop {
            // `notify_one` stores a permit, and each direction has one waiter: no wake-up is lost between try and wait.
            match sender.try_send(batch) {
                Ok(()) => {
                    self.shared.not_empty.notify_one();
                    return Ok(());
                }
                Err(TrySendError::Full(back)) => batch = back,
                Err(TrySendError::Disconnected(_)) => return Err(Error::cancelled()),
            }
            self.shared.not_full.notified().await;
        }
    }
}

impl Drop for ChannelSender {
    fn drop(&mut self) {
        self.sender = None;
        self.shared.not_empty.notify_one();
    }
}

#[async_trait]
impl BatchReceiver for ChannelReceiver {
    async fn receive(&mut self) -> Result<Option<RecordBatch>> {
        let receiver = self.receiver.as_ref().ok_or_else(Error::cancelled)?;
        loop {
            match receiver.try_recv() {
                Ok(batch) => {
                    self.shared.not_full.notify_one();
                    return Ok(Some(batch));
                }
                Err(TryRecvError::Disconnected) => return Ok(None),
                Err(TryRecvError::Empty) => {}
            }
            self.shared.not_empty.notified().await;
        }
    }
}

impl Drop for ChannelReceiver {
    fn drop(&mut self) {
        self.receiver = None;
        self.shared.not_full.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Schema;

    fn batch(rows: usize) -> RecordBatch {
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap()
    }

    fn on_thread<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> std::thread::JoinHandle<T> {
        std::thread::spawn(|| tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future))
    }

    #[test]
    fn every_batch_arrives_in_order_across_two_runtimes() {
        let (mut sender, mut receiver) = bounded_channel(2);
        let sending = on_thread(async move {
            for i in 0..10_000 {
                sender.send(batch(i)).await.unwrap();
            }
        });
        let receiving = on_thread(async move {
            let mut next = 0;
            while let Some(batch) = receiver.receive().await.unwrap() {
                assert_eq!(batch.num_rows(), next);
                next += 1;
            }
            next
        });
        sending.join().unwrap();
        assert_eq!(receiving.join().unwrap(), 10_000);
    }

    #[test]
    fn a_sender_that_waits_learns_that_the_receiver_is_gone() {
        let (mut sender, receiver) = bounded_channel(1);
        let sending = on_thread(async move {
            sender.send(batch(1)).await.unwrap();
            sender.send(batch(2)).await
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(receiver);
        assert_eq!(sending.join().unwrap().unwrap_err().kind(), crate::ErrorKind::Cancelled);
    }
}
