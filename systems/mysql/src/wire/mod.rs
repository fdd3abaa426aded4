//! The protocol as far as reading needs it: log in, send a statement, take rows from the packets' own bytes.
//!
//! The drivers make an object of every row, with a place for each cell, before anybody looks at it; of a table of small
//! cells that costs more than everything a reader does with them. Here a row is what lies in the receive buffer:
//! [`Wire::next_row`] notes where its cells are, and whoever wants columns takes them from there.
//!
//! Constraints: what has been received is never lost by a future that is dropped, for every wait stands in a `select!`;
//! memory is the buffer, as large as the largest row and `BLOCK`; nothing a server says makes a panic.
//!
//! The source of the format is the protocol's description by MySQL ("Client/Server Protocol") and by MariaDB.

mod login;
mod rows;

use std::ops::Range;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_core::{Error, ErrorKind, Result};
use weir_sql::stream::Stream;

use crate::error::{of_io, of_server};

pub use rows::{NULL, Next, Span};

/// What a read asks for at least, while rows are on their way.
const BLOCK: usize = 256 * 1024;
/// A buffer that a large row made larger than this is given back.
const KEEP: usize = 8 * BLOCK;
/// The most bytes of one packet; what is longer comes in several.
const MAX_PACKET: usize = 0xff_ff_ff;

const SERVER_MORE_RESULTS: u16 = 0x0008;

/// A connection that has logged in.
pub struct Wire {
    stream: Stream,
    /// Received bytes; those before `at` have been read.
    buffer: Vec<u8>,
    at: usize,
    /// The number of the last packet.
    sequence: u8,
    /// Whether the end of a list is a packet of its own (older servers and some proxies).
    marks_ends: bool,
    /// Cells of each row of the result that is being read.
    columns: usize,
    /// Whether another result follows the one that is being read.
    more: bool,
    awaits: Awaits,
}

/// What the server says next. Kept, so that whoever stops to wait can go on, or throw the rest away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    /// Nothing: it waits for us.
    Nothing,
    /// A statement is on its way.
    Sending,
    /// Its first word on a statement.
    Answer,
    /// So many packets more that describe columns.
    Columns(usize),
    /// Rows and their end.
    Rows,
}

/// The first word of the server on a statement.
pub(crate) enum Answer {
    /// It has no rows.
    Done,
    /// Rows follow.
    Rows,
}

impl Wire {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            buffer: Vec::with_capacity(16 * 1024),
            at: 0,
            sequence: 0,
            marks_ends: false,
            columns: 0,
            more: false,
            awaits: Awaits::Nothing,
        }
    }

    /// Runs a statement and throws its rows away.
    ///
    /// # Errors
    /// The server's; the connection's.
    pub async fn run(&mut self, sql: &str) -> Result<()> {
        self.query(sql).await?;
        self.drain().await
    }

    /// Receives the rest of what the server has to say on a statement, and throws it away.
    ///
    /// # Errors
    /// The server's or the connection's.
    pub async fn drain(&mut self) -> Result<()> {
        let mut cells = Vec::new();
        loop {
            match self.awaits {
                Awaits::Nothing if self.more => self.awaits = Awaits::Answer,
                Awaits::Nothing => return Ok(()),
                Awaits::Sending => return Err(out_of_step()),
                Awaits::Answer | Awaits::Columns(_) => self.answer().await.map(drop)?,
                Awaits::Rows => {
                    cells.clear();
                    if self.next_row(&mut cells)? == Next::Wait {
                        self.fill().await?;
                    }
                }
            }
        }
    }

    /// Sends a statement and waits for the first word on it.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Answer> {
        const COM_QUERY: u8 = 3;
        (self.sequence, self.more, self.awaits) = (0xff, false, Awaits::Sending);
        let mut payload = Vec::with_capacity(sql.len() + 1);
        payload.push(COM_QUERY);
        payload.extend_from_slice(sql.as_bytes());
        self.send(&payload).await?;
        self.awaits = Awaits::Answer;
        self.answer().await
    }

    /// Says goodbye, to which there is no answer; an error no longer matters.
    pub(crate) async fn quit(mut self) {
        const COM_QUIT: u8 = 1;
        self.sequence = 0xff;
        if self.send(&[COM_QUIT]).await.is_ok() {
            let _ = self.stream.shutdown().await;
        }
    }

    async fn answer(&mut self) -> Result<Answer> {
        loop {
            if self.awaits == Awaits::Columns(0) {
                self.awaits = Awaits::Rows;
                return Ok(Answer::Rows);
            }
            let packet = self.packet().await?;
            if let Awaits::Columns(left) = self.awaits {
                self.awaits = Awaits::Columns(left - 1);
                continue;
            }
            let mut body = Body(&self.buffer[packet]);
            match body.0.first() {
                Some(0x00) => {
                    self.more = ok_status(&mut body)? & SERVER_MORE_RESULTS != 0;
                    self.awaits = Awaits::Nothing;
                    return Ok(Answer::Done);
                }
                // Asks for a file of ours, which nobody offered.
                Some(0xfb) | None => return Err(out_of_step()),
                Some(_) => {}
            }
            self.columns = usize::try_from(body.length()?).map_err(|_| out_of_step())?;
            self.awaits = Awaits::Columns(self.columns.saturating_add(usize::from(self.marks_ends)));
        }
    }

    /// Sends a packet as the next in order.
    async fn send(&mut self, payload: &[u8]) -> Result<()> {
        if payload.len() >= MAX_PACKET {
            return Err(Error::new(ErrorKind::Config, "a statement has more than 16 MiB"));
        }
        self.sequence = self.sequence.wrapping_add(1);
        let [a, b, c, _] = (payload.len() as u32).to_le_bytes();
        let mut message = Vec::with_capacity(payload.len() + 4);
        message.extend_from_slice(&[a, b, c, self.sequence]);
        message.extend_from_slice(payload);
        self.stream.write_all(&message).await.map_err(of_io)?;
        self.stream.flush().await.map_err(of_io)
    }

    /// Waits for the next packet, and gives the place of its content in the buffer; a fault of the server is an error.
    async fn packet(&mut self) -> Result<Range<usize>> {
        loop {
            match self.take()? {
                Some(packet) => return Ok(packet),
                None => self.fill().await?,
            }
        }
    }

    /// The next packet if it is here.
    #[inline]
    fn take(&mut self) -> Result<Option<Range<usize>>> {
        let Some(&[a, b, c, sequence]) = self.buffer.get(self.at..self.at + 4) else { return Ok(None) };
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        let packet = self.at + 4..self.at + 4 + length;
        if length == MAX_PACKET {
            return self.take_parts();
        }
        if packet.end > self.buffer.len() {
            return Ok(None);
        }
        (self.at, self.sequence) = (packet.end, sequence);
        if self.buffer.get(packet.start) == Some(&0xff) && length > 0 {
            // Its last word on a statement.
            (self.more, self.awaits) = (false, Awaits::Nothing);
            return Err(server_error(&self.buffer[packet]));
        }
        Ok(Some(packet))
    }

    /// A packet in several parts, if all of them are here: the later ones are moved up to the first.
    #[cold]
    fn take_parts(&mut self) -> Result<Option<Range<usize>>> {
        let mut parts = Vec::new();
        let mut at = self.at;
        loop {
            let Some(&[a, b, c, sequence]) = self.buffer.get(at..at + 4) else { return Ok(None) };
            let length = u32::from_le_bytes([a, b, c, 0]) as usize;
            let part = at + 4..at + 4 + length;
            if part.end > self.buffer.len() {
                return Ok(None);
            }
            at = part.end;
            self.sequence = sequence;
            parts.push(part);
            if length < MAX_PACKET {
                break;
            }
        }
        let start = self.at + 4;
        let mut end = start;
        for part in parts {
            let length = part.len();
            self.buffer.copy_within(part, end);
            end += length;
        }
        self.at = at;
        Ok(Some(start..end))
    }

    /// Waits until more has been received. Spans of rows are worth nothing afterwards.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn fill(&mut self) -> Result<()> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            if self.buffer.capacity() > KEEP {
                self.buffer = Vec::with_capacity(BLOCK);
            }
        } else if self.at > 0 {
            self.buffer.drain(..self.at);
        }
        self.at = 0;
        // A large row is waited for with ever larger reads, a column list with small ones.
        let room = if self.columns > 0 { BLOCK.max(self.buffer.len()) } else { 4096 };
        self.buffer.reserve(room.min(64 * BLOCK));
        match self.stream.read_buf(&mut self.buffer).await.map_err(of_io)? {
            0 => Err(of_io(std::io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }
}

/// The fields of a packet, one after the other.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(out_of_step)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.bytes(1)?[0])
    }

    fn word(&mut self) -> Result<u16> {
        let bytes = self.bytes(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    /// Up to a zero byte, which is not part of it, or up to the end.
    fn text(&mut self) -> &'a [u8] {
        let length = self.0.iter().position(|b| *b == 0).unwrap_or(self.0.len());
        let text = &self.0[..length];
        self.0 = self.0.get(length + 1..).unwrap_or_default();
        text
    }

    /// A number that says itself how many bytes it has.
    fn length(&mut self) -> Result<u64> {
        let more = match self.byte()? {
            small @ 0..=0xfa => return Ok(small.into()),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            _ => return Err(out_of_step()),
        };
        let bytes = self.bytes(more)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

/// The status of an OK packet.
fn ok_status(body: &mut Body<'_>) -> Result<u16> {
    body.byte()?;
    body.length()?;
    body.length()?;
    body.word()
}

fn server_error(packet: &[u8]) -> Error {
    let mut body = Body(packet.get(1..).unwrap_or_default());
    let code = body.word().unwrap_or_default();
    let message = match body.0 {
        [b'#', rest @ ..] => rest.get(5..).unwrap_or_default(),
        rest => rest,
    };
    of_server(code, &String::from_utf8_lossy(message))
}

fn out_of_step() -> Error {
    Error::new(ErrorKind::Remote, "the server's packets are not what the MySQL protocol says")
}

#[cfg(test)]
mod tests;
