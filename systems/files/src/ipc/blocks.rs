//! The form with a footer, which lists where each batch (*block*) lies.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::read_footer_length;
use arrow::ipc::{Block, MetadataVersion, root_as_footer};
use bytes::Bytes;
use weir_core::{Result, ResultExt};

use super::body::Body;
use super::layout::{Layout, Message};
use super::{Bounds, Decoder, HEAD, fault};
use crate::{RangeSource, arrow_error, spool};

/// A file, opened at its footer.
pub(crate) struct Blocks {
    pub(super) source: RangeSource,
    pub(super) version: MetadataVersion,
    pub(super) blocks: std::vec::IntoIter<Block>,
    pub(super) decoder: Decoder,
}

impl Blocks {
    /// Reads the footer, and the dictionaries.
    pub(crate) async fn open(mut source: RangeSource, name: &str, bounds: Bounds) -> Result<Self> {
        let size = source.size();
        let wrong = |e: &str| arrow_error(e.to_owned(), name);
        let tail = source.read(size.saturating_sub(10)..size).await?;
        let tail: [u8; 10] = tail.as_ref().try_into().map_err(|_| wrong("the file is too short"))?;
        let length = read_footer_length(tail).map_err(|e| arrow_error(e, name))? as u64;
        let start = (size - 10).checked_sub(length).ok_or_else(|| wrong("the footer is longer than the file"))?;
        let footer_bytes = source.read(start..size - 10).await?;
        let footer = root_as_footer(&footer_bytes).map_err(|e| wrong(&e.to_string()))?;
        let schema = Arc::new(fb_to_schema(footer.schema().ok_or_else(|| wrong("the footer has no schema"))?));
        let blocks: Vec<Block> = footer.recordBatches().iter().flatten().copied().collect();
        let dictionaries: Vec<Block> = footer.dictionaries().iter().flatten().copied().collect();
        let decoder = Decoder::new(schema, name, source.cancel().clone(), bounds);
        let mut all = Self { version: footer.version(), blocks: blocks.into_iter(), source, decoder };
        for block in dictionaries {
            let place = all.place(&block)?;
            if place.body <= bounds.whole {
                let (message, body) = all.read(place).await?;
                all.decoder.dictionary(&message, body).await?;
            } else {
                let message = all.head(place).await?;
                let layout = all.decoder.values(&message, place.body)?;
                let body = all.body(place, &layout).await?;
                all.decoder.put_away(&message, layout, body).await?;
            }
        }
        Ok(all)
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.decoder.schema
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
            let Some(block) = self.blocks.next() else { return Ok(None) };
            let place = self.place(&block)?;
            let batch = if place.body <= self.decoder.bounds.whole {
                let (message, body) = self.read(place).await?;
                self.decoder.small(&message, body).await?
            } else {
                self.large(place).await?;
                None
            };
            if batch.is_some() {
                return Ok(batch);
            }
        }
    }

    async fn read(&mut self, place: Extent) -> Result<(Message, Bytes)> {
        let data = self.source.read(place.start..place.body().end).await?;
        Ok((self.message(&data[..place.head as usize])?, data.slice(place.head as usize..)))
    }

    /// Opens a block to be read in windows.
    async fn large(&mut self, place: Extent) -> Result<()> {
        let message = self.head(place).await?;
        let layout = self.decoder.layout(&message, place.body)?;
        let body = self.body(place, &layout).await?;
        self.decoder.open(layout, body).await
    }

    async fn head(&mut self, place: Extent) -> Result<Message> {
        let head = self.source.read(place.start..place.body().start).await?;
        self.message(&head)
    }

    /// The body of a block, as far as `layout` needs it, where it can be looked up.
    async fn body(&self, place: Extent, layout: &Layout) -> Result<Body> {
        let start = place.body().start;
        let file = match &self.source.file {
            Some(file) => file.try_clone().context("file", &self.decoder.name)?,
            None => {
                let ranges = layout.places().map(|place| start + place.start..start + place.start + place.length);
                spool::fetch(&self.source, ranges.collect()).await?
            }
        };
        Ok(Body::File { file, start })
    }

    pub(super) fn message(&self, head: &[u8]) -> Result<Message> {
        // Since 0.15 a marker stands before the length.
        let bytes = head.get(if head.starts_with(&[0xff; 4]) { 8 } else { 4 }..).unwrap_or_default();
        let message = Message::parse(bytes.to_vec()).map_err(|e| fault(e, &self.decoder.name))?;
        // Old files of version 1 do not have their footer's set.
        if self.version != MetadataVersion::V1 && message.version() != self.version {
            return Err(arrow_error("a block is of another version than the footer", &self.decoder.name));
        }
        Ok(message)
    }

    pub(super) fn place(&self, block: &Block) -> Result<Extent> {
        let number = |n: i64| u64::try_from(n).ok();
        let head = number(i64::from(block.metaDataLength())).filter(|head| *head <= HEAD);
        let found = number(block.offset()).zip(head).zip(number(block.bodyLength()));
        found
            .map(|((start, head), body)| Extent { start, head, body })
            .filter(|place| {
                let head = place.start.checked_add(place.head);
                head.and_then(|head| head.checked_add(place.body)).is_some_and(|end| end <= self.source.size())
            })
            .ok_or_else(|| arrow_error("a block of the footer lies nowhere in the file", &self.decoder.name))
    }
}

/// Where a block lies, which is within the file.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub start: u64,
    pub head: u64,
    pub body: u64,
}

impl Extent {
    pub(super) fn body(&self) -> Range<u64> {
        self.start + self.head..self.start + self.head + self.body
    }
}
