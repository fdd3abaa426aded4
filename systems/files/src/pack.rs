//! Compression of a stream, fed piece by piece.

use std::io::{self, Write};

use crate::Compression;

/// A compressor whose output is taken from it after each piece.
pub struct Pack(Kind);

enum Kind {
    None,
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Bzip2(bzip2::write::BzEncoder<Vec<u8>>),
    Snappy(Box<snap::write::FrameEncoder<Vec<u8>>>),
}

impl Pack {
    /// A compressor at the level that each tool uses by default.
    pub fn new(compression: Compression) -> io::Result<Self> {
        Ok(Self(match compression {
            Compression::None => Kind::None,
            Compression::Gzip => Kind::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default())),
            Compression::Zstd => Kind::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 3)?),
            Compression::Bzip2 => Kind::Bzip2(bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default())),
            Compression::Zip => {
                return Err(io::Error::new(io::ErrorKind::Unsupported, "ZIP archives are read and not written"));
            }
            Compression::Snappy => Kind::Snappy(Box::new(snap::write::FrameEncoder::new(Vec::new()))),
        }))
    }

    /// Compresses `data`; what comes out of it now is added to `output`.
    pub fn write(&mut self, data: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.0 {
            Kind::None => output.extend_from_slice(data),
            Kind::Gzip(encoder) => {
                encoder.write_all(data)?;
                output.append(encoder.get_mut());
            }
            Kind::Zstd(encoder) => {
                encoder.write_all(data)?;
                output.append(encoder.get_mut());
            }
            Kind::Bzip2(encoder) => {
                encoder.write_all(data)?;
                output.append(encoder.get_mut());
            }
            Kind::Snappy(encoder) => {
                encoder.write_all(data)?;
                output.append(encoder.get_mut());
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(self, output: &mut Vec<u8>) -> io::Result<()> {
        match self.0 {
            Kind::None => {}
            Kind::Gzip(encoder) => output.append(&mut encoder.finish()?),
            Kind::Zstd(encoder) => output.append(&mut encoder.finish()?),
            Kind::Bzip2(encoder) => output.append(&mut encoder.finish()?),
            Kind::Snappy(encoder) => output.append(&mut encoder.into_inner().map_err(|e| e.into_error())?),
        }
        Ok(())
    }
}
