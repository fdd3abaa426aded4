//! A file's bytes from front to back, in blocks, unpacked and decoded on the way.

use std::fs::File;
use std::io::Read;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::ObjectStoreExt;
use tokio_util::sync::CancellationToken;
use weir_core::{Error, ErrorKind, Result, ResultExt};

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
    Local(File),
    Remote(BoxStream<'static, object_store::Result<Bytes>>),
}

impl ByteStream {
    /// Opens the file `path` of `store`.
    pub async fn open(store: &Store, path: &str, cancel: &CancellationToken) -> Result<Self> {
        let name = store.display(path);
        let input = match store {
            Store::Local => Input::Local(File::open(path).context("file", path)?),
            Store::Remote { store: remote, .. } => {
                let found = remote.get(&store.key(path)?).await.map_err(|e| store_error(e, &name))?;
                Input::Remote(found.into_stream())
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
                let read = file.take(want as u64).read_to_end(buffer).context("file", &self.name)?;
                Ok(read > 0)
            }
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
        Ok(Self {
            bytes: ByteStream::open(store, path, cancel).await?,
            unpack: Unpack::new(compression)?,
            decode: Decode::new(encoding),
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

fn damaged(error: std::io::Error, name: &str) -> Error {
    let message = "the compressed file is damaged or was cut off: fetch it again, or check `compress`";
    Error::new(ErrorKind::Data, message).because(error).with("file", name)
}
