//! Compression of pages, by one compressor for all of a file's.

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::errors::{ParquetError, Result};

/// A file's compression, with what it keeps from page to page.
pub(crate) struct Codec {
    compression: Compression,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Codec {
    /// `None` for the rarer compressions, which only the library has.
    ///
    /// # Errors
    /// A level that there is not.
    pub(crate) fn new(compression: Compression) -> Result<Option<Self>> {
        let zstd = match compression {
            Compression::UNCOMPRESSED | Compression::SNAPPY => None,
            Compression::ZSTD(level) => {
                let made = zstd::bulk::Compressor::new(level.compression_level());
                Some(made.map_err(|e| ParquetError::External(Box::new(e)))?)
            }
            _ => return Ok(None),
        };
        Ok(Some(Self { compression, zstd }))
    }

    pub(crate) fn name(&self) -> Compression {
        self.compression
    }

    /// # Errors
    /// The compression's.
    pub(crate) fn compress(&mut self, page: Bytes) -> Result<Bytes> {
        let compressed = match (&mut self.zstd, self.compression) {
            (Some(zstd), _) => zstd.compress(&page).map_err(|e| ParquetError::External(Box::new(e)))?,
            (None, Compression::SNAPPY) => {
                let made = snap::raw::Encoder::new().compress_vec(&page);
                made.map_err(|e| ParquetError::External(Box::new(e)))?
            }
            _ => return Ok(page),
        };
        // What is compressed lies in memory until its row group is written: no longer than it is.
        Ok(Bytes::from(compressed.into_boxed_slice()))
    }
}
