//! The protocol as far as reading needs it: log in, send a statement, take what COPY sends from the messages' own bytes.
//!
//! COPY sends a message a row, and the driver makes an object of each, hands it from task to task and counts its owners: of a
//! table of small rows that costs more than to decode them. Here a row is what lies in the receive buffer.
//!
//! Constraints: what has been received is never lost by a future that is dropped, for every wait stands in a `select!`;
//! memory is the buffer, as large as the largest row and `BLOCK`; nothing a server says makes a panic.
//!
//! The source of the format is PostgreSQL's documentation, "Frontend/Backend Protocol".

mod login;
mod messages;

use std::ops::Range;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_core::{Error, ErrorKind, Result};
use weir_sql::stream::Stream;

use crate::error::{of_io, of_server};
use messages::Fields;

pub(crate) use login::Login;

/// What a read asks for at least, while rows are on their way.
const BLOCK: usize = 256 * 1024;
/// What a read asks for else.
const LITTLE: usize = 4096;
/// A buffer that a large row made larger than this is given back.
const KEEP: usize = 8 * BLOCK;

/// What a call for pieces takes at most: so many, or so many bytes and one piece more.
const PIECES: usize = 1024;

/// What comes after the pieces of a COPY that are here.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// More of them.
    More,
    /// It has not been received yet.
    Wait,
    /// Nothing: those were the last ones.
    End,
}

/// A connection that has logged in.
pub(crate) struct Wire {
    stream: Stream,
    /// Received bytes; those before `at` have been read.
    buffer: Vec<u8>,
    at: usize,
    /// Whether the rows of a COPY are on their way.
    copies: bool,
}

impl Wire {
    fn new(stream: Stream) -> Self {
        Self { stream, buffer: Vec::with_capacity(4 * LITTLE), at: 0, copies: false }
    }

    /// Runs one or several statements; gives the first value of the last row, if there is one.
    ///
    /// # Errors
    /// The server's, after which it waits for the next statement; the connection's.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<Option<String>> {
        self.query(sql).await?;
        let (mut value, mut failure) = (None, None);
        loop {
            let (kind, body) = self.message().await?;
            let body = &self.buffer[body];
            match kind {
                b'Z' => return failure.map_or(Ok(value), Err),
                b'E' => failure = Some(of_server(&Fields::read(body).said())),
                b'D' => value = messages::first_value(body)?,
                b'T' | b'C' | b'I' => {}
                _ => return Err(out_of_step()),
            }
        }
    }

    /// Sends a COPY … TO STDOUT and waits until the server has begun it.
    ///
    /// # Errors
    /// The server's; the connection's. Neither leaves a connection that could be used again.
    pub(crate) async fn copy(&mut self, sql: &str) -> Result<()> {
        self.query(sql).await?;
        match self.message().await? {
            (b'H', _) => {
                self.copies = true;
                Ok(())
            }
            (b'E', body) => Err(of_server(&Fields::read(&self.buffer[body]).said())),
            _ => Err(out_of_step()),
        }
    }

    /// What pieces are ranges of, until more is received.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Puts the next pieces of the COPY that was begun into `pieces`, as far as they are here.
    ///
    /// # Errors
    /// The server's word that it goes no further; what is no message of a COPY.
    pub(crate) fn pieces(&mut self, pieces: &mut Vec<Range<usize>>) -> Result<Next> {
        pieces.clear();
        let first = self.at;
        while pieces.len() < PIECES && self.at - first < BLOCK {
            let Some((kind, body)) = self.take()? else { return Ok(Next::Wait) };
            match kind {
                b'd' => pieces.push(body),
                b'Z' => {
                    self.copies = false;
                    return Ok(Next::End);
                }
                b'E' => return Err(of_server(&Fields::read(&self.buffer[body]).said())),
                // The stream's end, and what the statement came to.
                b'c' | b'C' => {}
                _ => return Err(out_of_step()),
            }
        }
        Ok(Next::More)
    }

    /// Says goodbye, to which there is no answer; an error no longer matters.
    pub(crate) async fn quit(mut self) {
        let mut message = BytesMut::new();
        frontend::terminate(&mut message);
        if self.send(&message).await.is_ok() {
            let _ = self.stream.shutdown().await;
        }
    }

    async fn query(&mut self, sql: &str) -> Result<()> {
        let mut message = BytesMut::with_capacity(sql.len() + 6);
        frontend::query(sql, &mut message)
            .map_err(|e| Error::config("a statement holds a zero byte, or is too long").because(e))?;
        self.send(&message).await
    }

    async fn send(&mut self, message: &[u8]) -> Result<()> {
        self.stream.write_all(message).await.map_err(of_io)?;
        self.stream.flush().await.map_err(of_io)
    }

    /// Waits for the next message: its kind, and the place of its content in the buffer.
    async fn message(&mut self) -> Result<(u8, Range<usize>)> {
        loop {
            match self.take()? {
                Some(message) => return Ok(message),
                None => self.fill().await?,
            }
        }
    }

    /// The next message if it is here, but for those that may come at any time and mean nothing to us.
    #[inline]
    fn take(&mut self) -> Result<Option<(u8, Range<usize>)>> {
        loop {
            let Some(&[kind, a, b, c, d]) = self.buffer.get(self.at..self.at + 5) else { return Ok(None) };
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if !(4..=i32::MAX as usize).contains(&length) {
                return Err(out_of_step());
            }
            let body = self.at + 5..self.at + 1 + length;
            if body.end > self.buffer.len() {
                return Ok(None);
            }
            self.at = body.end;
            // Settings that changed, notices, notifications.
            if !matches!(kind, b'S' | b'N' | b'A') {
                return Ok(Some((kind, body)));
            }
        }
    }

    /// Waits until more has been received.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn fill(&mut self) -> Result<()> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            if self.buffer.capacity() > KEEP {
                self.buffer = Vec::new();
            }
        } else if self.at > 0 {
            self.buffer.drain(..self.at);
        }
        self.at = 0;
        // A large row is waited for with ever larger reads.
        let room = if self.copies { BLOCK.max(self.buffer.len()) } else { LITTLE };
        self.buffer.reserve(room.min(64 * BLOCK));
        match self.stream.read_buf(&mut self.buffer).await.map_err(of_io)? {
            0 => Err(of_io(std::io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }
}

fn out_of_step() -> Error {
    Error::new(ErrorKind::Remote, "the server's messages are not what the PostgreSQL protocol says")
}

#[cfg(test)]
mod tests;
