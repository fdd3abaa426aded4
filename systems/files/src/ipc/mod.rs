//! Arrow IPC, the form with a footer (*file*) and the form without (*stream*), read one record batch after the other.
//!
//! The format is <https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc>:
//! a batch is a message that says where each buffer of each column lies, then a body with the buffers. Their writer
//! chooses how many rows a batch has, so it may be of any size. What is small is read whole and decoded by arrow; what
//! is large is read in windows of rows, each about half a batch of Weir's:
//!
//! ```text
//!   message ──▶ layout: where each column's buffers are        (layout.rs)
//!   body ─────▶ a file in which they can be looked up          (body.rs)
//!                ├ of a local file, uncompressed   that file
//!                ├ of a stream or a remote file    a temporary file
//!                └ compressed                      a temporary file, unpacked in pieces
//!   rows a..b ──▶ what they need of each buffer ──▶ arrays     (window.rs)
//! ```
//!
//! Only the chosen columns are fetched, unpacked and read. What a window makes is validated as arrow does it, so a file
//! that lies about itself is an error. Any row may need any value of a dictionary: those that are too many for memory go
//! to a temporary file as well, and a window looks up what it needs of them (dictionary.rs).

mod blocks;
mod body;
mod dictionary;
mod layout;
mod messages;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::read_record_batch;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use weir_core::{Error, MAX_BATCH_BYTES, Result};

use crate::arrow_error;
pub(crate) use blocks::Blocks;
use body::Body;
use dictionary::Dictionaries;
use layout::{Layout, Message};
pub(crate) use messages::Messages;
use window::Windows;

/// The largest message, without its body. One of a thousand columns has some 100 KB.
const HEAD: u64 = 64 << 20;

/// What is read whole, and what at once of what is not.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// The bytes, packed and unpacked, of the largest body that is read whole, and of all dictionaries in memory.
    pub whole: u64,
    /// The bytes of a window.
    pub window: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { whole: 16 << 20, window: MAX_BATCH_BYTES as u64 / 2 }
    }
}

/// What both forms have in common: it makes batches of messages and bodies.
struct Decoder {
    name: String,
    cancel: CancellationToken,
    schema: SchemaRef,
    dictionaries: Dictionaries,
    columns: Vec<usize>,
    bounds: Bounds,
    /// The batch that is being read in windows.
    open: Option<Windows>,
}

impl Decoder {
    fn new(schema: SchemaRef, name: &str, cancel: CancellationToken, bounds: Bounds) -> Self {
        let (name, columns) = (name.to_owned(), (0..schema.fields().len()).collect());
        let dictionaries = Dictionaries::new(schema.clone());
        Self { name, cancel, schema, dictionaries, columns, bounds, open: None }
    }

    /// The next window of the batch that is open.
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(windows) = &mut self.open else { return Ok(None) };
        check(&self.cancel)?;
        let batch = windows.next().map_err(|e| fault(e, &self.name))?;
        if batch.is_none() {
            self.open = None;
        }
        Ok(batch)
    }

    /// Decodes a batch, or opens it if it unpacks to something large.
    async fn small(&mut self, message: &Message, body: Bytes) -> Result<Option<RecordBatch>> {
        let unpacked = message.batch().and_then(|batch| Message::unpacked(batch, &body));
        let small = unpacked.map_err(|e| fault(e, &self.name))? <= self.bounds.whole;
        if !small || !self.dictionaries.all_here() {
            let layout = self.layout(message, body.len() as u64)?;
            self.open(layout, Body::Memory(body)).await?;
            return Ok(None);
        }
        self.whole(message, body).map(Some)
    }

    fn layout(&self, message: &Message, body: u64) -> Result<Layout> {
        Layout::of(message, &self.schema, &self.columns, &self.dictionaries, body).map_err(|e| fault(e, &self.name))
    }

    async fn open(&mut self, mut layout: Layout, body: Body) -> Result<()> {
        let body = body.unpacked(&mut layout, &self.cancel, &self.name).await?;
        let schema = Arc::new(self.schema.project(&self.columns).map_err(|e| fault(e, &self.name))?);
        self.open = Some(Windows::new(layout, body, schema, self.bounds.window));
        Ok(())
    }

    fn whole(&self, message: &Message, body: Bytes) -> Result<RecordBatch> {
        let batch = message.batch().map_err(|e| fault(e, &self.name))?;
        inside(batch, body.len()).map_err(|e| fault(e, &self.name))?;
        let schema = self.schema.clone();
        let batch = read_record_batch(&body.into(), batch, schema, &self.dictionaries.here, None, &message.version());
        batch.and_then(|batch| batch.project(&self.columns)).map_err(|e| fault(e, &self.name))
    }

    async fn dictionary(&mut self, message: &Message, body: Bytes) -> Result<()> {
        let (cancel, most) = (self.cancel.clone(), self.bounds.whole);
        self.dictionaries.take(message, body, most, (&cancel, &self.name)).await
    }

    /// Where the values of a dictionary are that is too large for that.
    fn values(&self, message: &Message, body: u64) -> Result<Layout> {
        self.dictionaries.layout(message, body).map_err(|e| fault(e, &self.name))
    }

    async fn put_away(&mut self, message: &Message, layout: Layout, body: Body) -> Result<()> {
        let cancel = self.cancel.clone();
        self.dictionaries.put_away(message, layout, body, (&cancel, &self.name)).await
    }
}

/// Refuses a batch whose buffers do not lie in its body, which arrow takes for granted.
fn inside(batch: arrow::ipc::RecordBatch<'_>, body: usize) -> std::result::Result<(), ArrowError> {
    for buffer in batch.buffers().iter().flatten() {
        let end = buffer.offset().checked_add(buffer.length()).filter(|_| buffer.offset() >= 0 && buffer.length() >= 0);
        if end.and_then(|end| usize::try_from(end).ok()).is_none_or(|end| end > body) {
            return Err(ArrowError::IpcError("a buffer does not lie in its batch".into()));
        }
    }
    Ok(())
}

fn check(cancel: &CancellationToken) -> Result<()> {
    if cancel.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
}

/// A fault of what the file holds, or of reading it.
fn fault(error: ArrowError, name: &str) -> Error {
    match error {
        ArrowError::IoError(_, error) => Error::from(error).with("file", name),
        other => arrow_error(other, name),
    }
}
