//! Columns of texts and bytes: cells end to end, checked as UTF-8 some hundred at a time.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, NullBufferBuilder, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use weir_core::{Error, Result};

use crate::decode::Cells;
use crate::numbers::Bad;

/// Texts or bytes of a column.
pub(crate) struct Var {
    /// Where each cell ends; the first is 0.
    offsets: Vec<i32>,
    data: Vec<u8>,
    nulls: NullBufferBuilder,
}

impl Var {
    pub(crate) fn new() -> Self {
        Self { offsets: vec![0], data: Vec::new(), nulls: NullBufferBuilder::new(1024) }
    }

    #[inline]
    fn push(&mut self, cell: Option<&[u8]>) {
        match cell {
            Some(bytes) => {
                self.data.extend_from_slice(bytes);
                self.nulls.append_non_null();
            }
            None => self.nulls.append_null(),
        }
        // More than an array may hold is found when it is finished.
        self.offsets.push(self.data.len() as i32);
    }

    /// Appends bytes as they are.
    pub(crate) fn bytes(&mut self, cells: Cells<'_>) {
        cells.iter().for_each(|cell| self.push(cell));
    }

    /// Appends texts; of one that is no UTF-8 `fail` is told.
    pub(crate) fn texts(&mut self, cells: Cells<'_>, fail: &mut dyn FnMut(usize, Bad)) {
        let (rows, bytes) = (self.offsets.len(), self.data.len());
        self.bytes(cells);
        if self.data[bytes..].is_ascii() {
            return;
        }
        self.offsets.truncate(rows);
        self.data.truncate(bytes);
        self.nulls.truncate(rows - 1);
        for (row, cell) in cells.iter().enumerate() {
            let broken = cell.is_some_and(|bytes| std::str::from_utf8(bytes).is_err());
            if broken {
                fail(row, Bad::Value("it is no valid UTF-8"));
            }
            self.push(cell.filter(|_| !broken));
        }
    }

    fn take(&mut self) -> Result<(OffsetBuffer<i32>, Buffer, Option<NullBuffer>)> {
        if i32::try_from(self.data.len()).is_err() {
            return Err(Error::internal("a batch has more text than an array may hold"));
        }
        // The next batch will be much like this one.
        let mut offsets = Vec::with_capacity(self.offsets.len());
        offsets.push(0);
        let data = Vec::with_capacity(self.data.len());
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.offsets, offsets).into());
        let data = Buffer::from_vec(std::mem::replace(&mut self.data, data));
        Ok((offsets, data, self.nulls.finish()))
    }

    /// The texts so far; the column starts again.
    pub(crate) fn finish_texts(&mut self) -> Result<ArrayRef> {
        let (offsets, data, nulls) = self.take()?;
        Ok(Arc::new(StringArray::try_new(offsets, data, nulls)?))
    }

    /// The bytes so far; the column starts again.
    pub(crate) fn finish_bytes(&mut self) -> Result<ArrayRef> {
        let (offsets, data, nulls) = self.take()?;
        Ok(Arc::new(BinaryArray::try_new(offsets, data, nulls)?))
    }
}
