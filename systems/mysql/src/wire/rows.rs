//! Rows of the text protocol, where they lie in the receive buffer.

use weir_core::Result;

use super::{Awaits, Body, MAX_PACKET, SERVER_MORE_RESULTS, Wire, ok_status, out_of_step};

/// Where a cell lies in [`Wire::bytes`]: its first byte and its length, or [`NULL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// How many.
    pub length: u32,
}

/// The cell is NULL.
pub const NULL: Span = Span { start: 0, length: u32::MAX };

impl Span {
    /// The cell's bytes; `None` for NULL.
    #[inline]
    pub fn of<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        if *self == NULL {
            return None;
        }
        bytes.get(self.start as usize..self.start as usize + self.length as usize)
    }
}

/// What comes next in a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A row; its cells have been added to the list.
    Row,
    /// Nothing: that was the last one.
    End,
    /// It has not been received yet: see [`Wire::fill`].
    Wait,
}

impl Wire {
    /// What the spans of rows point into, until more is received.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Cells of each row of the result that is being read.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Notes where the cells of the next row are.
    ///
    /// # Errors
    /// The server's word that it goes no further; what is no row.
    #[inline]
    pub fn next_row(&mut self, cells: &mut Vec<Span>) -> Result<Next> {
        let Some(packet) = self.take()? else { return Ok(Next::Wait) };
        let (mut at, end) = (packet.start, packet.end);
        let bytes = &self.buffer[..end];
        // A first cell of 16 MiB begins with the same byte, but is no short packet.
        if bytes.get(at) == Some(&0xfe) && packet.len() < MAX_PACKET {
            return self.ended(at..end);
        }
        cells.reserve(self.columns);
        for _ in 0..self.columns {
            let length = match bytes.get(at) {
                Some(small @ 0..=0xfa) => {
                    at += 1;
                    usize::from(*small)
                }
                Some(0xfb) => {
                    at += 1;
                    cells.push(NULL);
                    continue;
                }
                _ => {
                    let mut body = Body(bytes.get(at..).unwrap_or_default());
                    let length = body.length()?;
                    at = end - body.0.len();
                    usize::try_from(length).map_err(|_| out_of_step())?
                }
            };
            if length > end - at {
                return Err(out_of_step());
            }
            let (start, length) = (u32::try_from(at), u32::try_from(length));
            let (Ok(start), Ok(length)) = (start, length) else { return Err(out_of_step()) };
            cells.push(Span { start, length });
            at += length as usize;
        }
        if at == end { Ok(Next::Row) } else { Err(out_of_step()) }
    }

    #[cold]
    fn ended(&mut self, packet: std::ops::Range<usize>) -> Result<Next> {
        let mut body = Body(&self.buffer[packet]);
        let status = if self.marks_ends {
            body.bytes(3)?;
            body.word()?
        } else {
            ok_status(&mut body)?
        };
        self.more = status & SERVER_MORE_RESULTS != 0;
        (self.columns, self.awaits) = (0, Awaits::Nothing);
        Ok(Next::End)
    }
}
