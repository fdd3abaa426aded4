//! The buffers of a block, looked up where they lie.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use arrow::buffer::{Buffer, MutableBuffer};
use arrow::ipc::CompressionType;
use bytes::Bytes;
use lz4_flex::frame::FrameDecoder;
use tokio_util::sync::CancellationToken;
use weir_core::ResultExt;

use super::layout::{Layout, Place, Result, wrong};
use super::{check, fault};
use crate::{arrow_error, spool};

/// The bytes that are unpacked between two looks at whether the run was stopped.
const BREATH: usize = 1 << 20;

/// The body of a block.
pub(super) enum Body {
    Memory(Bytes),
    /// From `start` on.
    File {
        file: File,
        start: u64,
    },
}

impl Body {
    /// Some bytes of a buffer.
    pub(super) fn read(&mut self, place: Place, range: Range<u64>) -> Result<Buffer> {
        if range.start > range.end || range.end > place.length {
            return wrong("a buffer is shorter than its rows need");
        }
        let mut bytes = MutableBuffer::from_len_zeroed((range.end - range.start) as usize);
        self.fill(place.start + range.start, bytes.as_slice_mut())?;
        Ok(bytes.into())
    }

    /// Puts bytes into a body of its own file.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
            Self::File { file, start } => {
                file.seek(SeekFrom::Start(*start + at))?;
                file.write_all(bytes)
            }
        }
    }

    fn fill(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => {
                let found = bytes.get(at as usize..).and_then(|from| from.get(..into.len()));
                into.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Self::File { file, start } => {
                file.seek(SeekFrom::Start(*start + at))?;
                file.read_exact(into)
            }
        }
    }

    /// This body, or if its buffers are packed one with the same unpacked, to which `layout` points then.
    pub(super) async fn unpacked(
        mut self,
        layout: &mut Layout,
        cancel: &CancellationToken,
        name: &str,
    ) -> weir_core::Result<Self> {
        let Some(packing) = layout.packing else { return Ok(self) };
        let mut file = BufWriter::with_capacity(BREATH, spool::create()?);
        let mut end = 0;
        for place in layout.places_mut().into_iter().filter(|place| place.length > 0) {
            let length = self.length(*place).map_err(|e| fault(e, name))?;
            if length == Some(0) {
                *place = Place::default();
                continue;
            }
            let packed = Section { at: place.start + 8, left: place.length - 8, body: &mut self };
            let expected = length.unwrap_or(packed.left);
            let mut unpack: Box<dyn Read + Send> = match (length, packing) {
                (None, _) => Box::new(packed),
                (_, CompressionType::LZ4_FRAME) => Box::new(FrameDecoder::new(BufReader::new(packed))),
                (_, CompressionType::ZSTD) => Box::new(zstd::Decoder::new(packed).context("file", name)?),
                _ => return Err(arrow_error("the packing of a block is not known", name)),
            };
            let mut left = expected;
            let mut bytes = vec![0; BREATH.min(left as usize)];
            while left > 0 {
                check(cancel)?;
                // Others have their turn: a block may take seconds.
                tokio::task::yield_now().await;
                let most = bytes.len().min(left as usize);
                unpack.read_exact(&mut bytes[..most]).map_err(|e| arrow_error(e, name))?;
                file.write_all(&bytes[..most]).map_err(spool::spool_error)?;
                left -= most as u64;
            }
            if !matches!(unpack.read(&mut [0]), Ok(0)) {
                return Err(arrow_error("a buffer is longer than it says", name));
            }
            *place = Place { start: end, length: expected };
            end += expected;
        }
        let file = file.into_inner().map_err(|e| spool::spool_error(e.into_error()))?;
        Ok(Self::File { file, start: 0 })
    }

    /// The unpacked bytes of a buffer as its prefix says; `None` if it is not packed.
    fn length(&mut self, place: Place) -> Result<Option<u64>> {
        if place.length < 8 {
            return wrong("a packed buffer is too short");
        }
        let mut prefix = [0; 8];
        self.fill(place.start, &mut prefix)?;
        match i64::from_le_bytes(prefix) {
            -1 => Ok(None),
            length => {
                u64::try_from(length).map_or_else(|_| wrong("a packed buffer has a negative length"), |n| Ok(Some(n)))
            }
        }
    }
}

/// A part of a body, read from its beginning to its end.
struct Section<'a> {
    body: &'a mut Body,
    at: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = (into.len() as u64).min(self.left) as usize;
        self.body.fill(self.at, &mut into[..most])?;
        self.at += most as u64;
        self.left -= most as u64;
        Ok(most)
    }
}
