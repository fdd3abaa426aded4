//! The form without a footer: one message after the other, the schema first.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::MessageHeader;
use arrow::ipc::convert::fb_to_schema;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use weir_core::Result;

use super::body::Body;
use super::layout::{Layout, Message};
use super::{Bounds, Decoder, HEAD, fault};
use crate::{BLOCK, ByteStream, arrow_error, spool};

/// A stream, opened at its schema.
pub(crate) struct Messages {
    input: Input,
    decoder: Decoder,
}

impl Messages {
    /// Reads the schema.
    pub(crate) async fn open(
        bytes: ByteStream,
        name: &str,
        cancel: &CancellationToken,
        bounds: Bounds,
    ) -> Result<Self> {
        let mut input = Input { bytes, waiting: Vec::new(), used: 0 };
        let message = input.message().await?.ok_or_else(|| arrow_error("the file holds no schema", name))?;
        let schema = message.schema(fb_to_schema).map_err(|e| fault(e, name))?;
        let body = message.body().map_err(|e| fault(e, name))?;
        input.skip(body, |_, _| Ok(())).await?;
        Ok(Self { input, decoder: Decoder::new(Arc::new(schema), name, cancel.clone(), bounds) })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.decoder.schema
    }

    /// Whether a dictionary is in a file.
    #[cfg(test)]
    pub(super) fn away(&self) -> bool {
        !self.decoder.dictionaries.all_here()
    }

    /// Chooses columns, by their indexes in ascending order.
    pub(crate) fn choose(&mut self, columns: &[usize]) {
        self.decoder.columns = columns.to_vec();
    }

    /// The next batch, with the chosen columns.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.decoder.next()? {
                return Ok(Some(batch));
            }
            let Some(message) = self.input.message().await? else { return Ok(None) };
            let body = message.body().map_err(|e| fault(e, &self.decoder.name))?;
            let batch = match message.kind() {
                MessageHeader::RecordBatch if body <= self.decoder.bounds.whole => {
                    let body = self.input.take(body).await?;
                    self.decoder.small(&message, body).await?
                }
                MessageHeader::RecordBatch => {
                    let layout = self.decoder.layout(&message, body)?;
                    let file = self.input.spool(&layout, body).await?;
                    self.decoder.open(layout, Body::File { file, start: 0 }).await?;
                    None
                }
                MessageHeader::DictionaryBatch if body <= self.decoder.bounds.whole => {
                    let body = self.input.take(body).await?;
                    self.decoder.dictionary(&message, body).await?;
                    None
                }
                MessageHeader::DictionaryBatch => {
                    let layout = self.decoder.values(&message, body)?;
                    let file = self.input.spool(&layout, body).await?;
                    self.decoder.put_away(&message, layout, Body::File { file, start: 0 }).await?;
                    None
                }
                MessageHeader::NONE => {
                    self.input.skip(body, |_, _| Ok(())).await?;
                    None
                }
                other => return Err(arrow_error(format!("a message is a {other:?}"), &self.decoder.name)),
            };
            if batch.is_some() {
                return Ok(batch);
            }
        }
    }
}

/// The bytes of the stream.
struct Input {
    bytes: ByteStream,
    waiting: Vec<u8>,
    /// How much of `waiting` is used up.
    used: usize,
}

impl Input {
    /// The next message without its body; `None` at the end.
    async fn message(&mut self) -> Result<Option<Message>> {
        if self.used == self.waiting.len() && !self.fill(BLOCK).await? {
            return Ok(None);
        }
        let mut length = self.number().await?;
        // Since 0.15 a marker stands before the length.
        if length == u32::MAX {
            length = self.number().await?;
        }
        if length == 0 {
            return Ok(None);
        }
        if u64::from(length) > HEAD {
            return Err(arrow_error("a message is larger than can be", self.bytes.name()));
        }
        let bytes = self.take(u64::from(length)).await?;
        Message::parse(bytes.to_vec()).map(Some).map_err(|e| fault(e, self.bytes.name()))
    }

    async fn number(&mut self) -> Result<u32> {
        let bytes = self.take(4).await?;
        Ok(bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
    }

    /// So many bytes.
    async fn take(&mut self, count: u64) -> Result<Bytes> {
        let count = count as usize;
        while self.waiting.len() - self.used < count {
            let more = count - (self.waiting.len() - self.used);
            if !self.fill(more.max(BLOCK)).await? {
                return Err(self.ended());
            }
        }
        let start = self.used;
        self.used += count;
        if start == 0 && self.used == self.waiting.len() {
            self.used = 0;
            return Ok(std::mem::take(&mut self.waiting).into());
        }
        Ok(Bytes::copy_from_slice(&self.waiting[start..self.used]))
    }

    /// Passes over so many bytes, and shows them with their offset.
    async fn skip(&mut self, count: u64, mut show: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let mut at = 0;
        while at < count {
            if self.used == self.waiting.len() && !self.fill(BLOCK).await? {
                return Err(self.ended());
            }
            let most = (count - at).min((self.waiting.len() - self.used) as u64);
            show(at, &self.waiting[self.used..self.used + most as usize])?;
            self.used += most as usize;
            at += most;
        }
        Ok(())
    }

    /// Puts a body into a temporary file, as far as `layout` needs it.
    async fn spool(&mut self, layout: &Layout, body: u64) -> Result<File> {
        let mut file = spool::create()?;
        self.skip(body, |at, bytes| {
            let end = at + bytes.len() as u64;
            if !layout.places().any(|place| place.start < end && at < place.start + place.length) {
                return Ok(());
            }
            file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(bytes)).map_err(spool::spool_error)
        })
        .await?;
        Ok(file)
    }

    async fn fill(&mut self, want: usize) -> Result<bool> {
        if self.used > 0 {
            self.waiting.drain(..self.used);
            self.used = 0;
        }
        // No more than is read at once of an honest file: how long a message is says only itself.
        self.waiting.reserve_exact(want.min(16 << 20));
        self.bytes.fill(&mut self.waiting, want).await
    }

    fn ended(&self) -> weir_core::Error {
        arrow_error("the file ends within a message", self.bytes.name())
    }
}
