//! A file's bytes from front to back, in blocks, unpacked and decoded on the way.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;
use weir_core::{Error, ErrorKind, Result, ResultExt};

use crate::body::body;
use crate::whole::{Whole, gives_no_parts};
use crate::{Compression, Decode, Store, Unpack, store_error};

/// How many bytes are read at once.
pub const BLOCK: usize = 512 * 1024;

/// The bytes of one file in order.
pub struct ByteStream {
    name: String,
    cancel: CancellationToken,
    input: Input,
}

enum Input {
    // Read on the task's own thread: a block from the page cache takes microseconds, a hop to a pool takes longer.
    Local(std::io::Take<File>),
    // Nobody knows when its other end writes: waited for beside the cancellation.
    #[cfg(unix)]
    Pipe {
        pipe: tokio::net::unix::pipe::Receiver,
        started: bool,
    },
    Remote(BoxStream<'static, object_store::Result<Bytes>>),
    // Of a server that gives no parts.
    Whole(Whole),
}

impl ByteStream {
    /// Opens the file `path` of `store`.
    pub async fn open(store: &Store, path: &str, cancel: &CancellationToken) -> Result<Self> {
        Self::open_part(store, path, None, cancel).await
    }

    /// Opens some bytes of the file `path` of `store`, or all of them.
    pub async fn open_part(
        store: &Store,
        path: &str,
        range: Option<Range<u64>>,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let name = store.display(path);
        let input = match store {
            #[cfg(unix)]
            Store::Local if is_pipe(path) => {
                use tokio::net::unix::pipe::OpenOptions;
                let pipe = OpenOptions::new().open_receiver(path).context("file", path)?;
                Input::Pipe { pipe, started: false }
            }
            Store::Local => {
                let mut file = File::open(path).context("file", path)?;
                let length = match range {
                    Some(range) => {
                        file.seek(SeekFrom::Start(range.start)).context("file", path)?;
                        range.end.saturating_sub(range.start)
                    }
                    None => u64::MAX,
                };
                Input::Local(file.take(length))
            }
            Store::Remote { store: remote, is_web, io, .. } => {
                let key = store.key(path)?;
                let found = async {
                    match body(remote.clone(), key.clone(), range.clone(), *is_web).await {
                        Ok(stream) => Ok(Input::Remote(stream)),
                        Err(error) if *is_web && gives_no_parts(&error) => {
                            Whole::open(remote, &key, range, io, &name).await.map(Input::Whole)
                        }
                        Err(error) => Err(store_error(error, &name)),
                    }
                };
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => return Err(Error::cancelled()),
                    found = found => found?,
                }
            }
        };
        Ok(Self { name, cancel: cancel.clone(), input })
    }

    /// The file as reports show it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds the next bytes to `buffer`, about `want` of them; `false` at the end of the file.
    pub async fn fill(&mut self, buffer: &mut Vec<u8>, want: usize) -> Result<bool> {
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        match &mut self.input {
            Input::Local(file) => {
                let read = file.by_ref().take(want as u64).read_to_end(buffer).context("file", &self.name)?;
                Ok(read > 0)
            }
            #[cfg(unix)]
            Input::Pipe { pipe, started } => loop {
                // Without a writer a pipe reads as ended: its first bytes are waited for.
                tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => return Err(Error::cancelled()),
                    ready = pipe.readable() => ready.context("file", &self.name)?,
                }
                let from = buffer.len();
                buffer.resize(from + want.min(BLOCK), 0);
                let read = pipe.try_read(&mut buffer[from..]);
                buffer.truncate(from + read.as_ref().map_or(0, |n| *n));
                match read {
                    Ok(0) if !*started => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                    Ok(read) => {
                        *started = true;
                        return Ok(read > 0);
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(e) => return Err(e).context("file", &self.name),
                }
            },
            Input::Remote(stream) => {
                let next = tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => return Err(Error::cancelled()),
                    next = stream.next() => next,
                };
                match next {
                    Some(Ok(bytes)) => {
                        buffer.extend_from_slice(&bytes);
                        Ok(true)
                    }
                    Some(Err(e)) => Err(store_error(e, &self.name)),
                    None => Ok(false),
                }
            }
            Input::Whole(whole) => tokio::select! {
                biased;
                () = self.cancel.cancelled() => Err(Error::cancelled()),
                filled = whole.fill(buffer, want) => filled,
            },
        }
    }
}

/// The text of one file in order, as UTF-8. What was no valid text comes as bytes that are no valid UTF-8 either, so
/// that the row they stand in can be told from the others.
pub struct TextSource {
    bytes: ByteStream,
    unpack: Option<Unpack>,
    decode: Decode,
    packed: Vec<u8>,
    /// How much of `packed` is used up.
    used: usize,
    plain: Vec<u8>,
    packed_end: bool,
    ended: bool,
}

impl TextSource {
    /// Opens the file `path` of `store`.
    pub async fn open(
        store: &Store,
        path: &str,
        compression: Compression,
        encoding: &'static encoding_rs::Encoding,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        Self::open_part(store, path, compression, encoding, None, cancel).await
    }

    /// Opens some bytes of the file `path` of `store`, or all of them. Only of a file that is not compressed can there be
    /// some, and they have to begin and end between two characters.
    pub async fn open_part(
        store: &Store,
        path: &str,
        compression: Compression,
        encoding: &'static encoding_rs::Encoding,
        range: Option<Range<u64>>,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let inside = range.as_ref().is_some_and(|range| range.start > 0);
        Ok(Self {
            bytes: ByteStream::open_part(store, path, range, cancel).await?,
            unpack: Unpack::new(compression)?,
            decode: if inside { Decode::inside(encoding) } else { Decode::new(encoding) },
            packed: Vec::new(),
            used: 0,
            plain: Vec::new(),
            packed_end: false,
            ended: false,
        })
    }

    /// The file as reports show it.
    pub fn name(&self) -> &str {
        self.bytes.name()
    }

    /// Adds more text to `text`, about `want` bytes; `false` when the file is at its end and nothing was added.
    ///
    /// # Errors
    /// [`Data`](ErrorKind::Data) for a damaged or truncated archive.
    pub async fn fill(&mut self, text: &mut Vec<u8>, want: usize) -> Result<bool> {
        let before = text.len();
        while !self.ended && text.len() < before + want {
            self.plain.clear();
            let end = self.fill_plain(want).await?;
            self.decode.decode(&self.plain, end, text);
            self.ended = end;
        }
        Ok(text.len() > before)
    }

    /// Fills `plain`; `true` after the last byte.
    async fn fill_plain(&mut self, want: usize) -> Result<bool> {
        let Some(unpack) = &mut self.unpack else {
            return Ok(!self.bytes.fill(&mut self.plain, want.max(BLOCK)).await?);
        };
        // A small archive may unpack to any size: stop at `want` and keep the rest packed.
        while self.plain.len() < want {
            if self.used == self.packed.len() {
                self.packed.clear();
                self.used = 0;
                if !self.packed_end && !self.bytes.fill(&mut self.packed, BLOCK).await? {
                    self.packed_end = true;
                }
                if self.packed_end {
                    unpack.finish(&mut self.plain).map_err(|e| damaged(e, self.bytes.name()))?;
                    return Ok(true);
                }
            }
            let step = unpack.push(&self.packed[self.used..], &mut self.plain);
            self.used += step.map_err(|e| damaged(e, self.bytes.name()))?;
        }
        Ok(false)
    }
}

/// Whether a local path leads to a pipe, which is read once and may never be written to.
#[cfg(unix)]
pub fn is_pipe(path: &str) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|data| data.file_type().is_fifo())
}

/// Whether a local path leads to a pipe: not here.
#[cfg(not(unix))]
pub fn is_pipe(_: &str) -> bool {
    false
}

fn damaged(error: std::io::Error, name: &str) -> Error {
    let message = "the compressed file is damaged or was cut off: fetch it again, or check `compress`";
    Error::new(ErrorKind::Data, message).because(error).with("file", name)
}
