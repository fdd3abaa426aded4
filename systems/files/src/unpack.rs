//! Decompression of a stream, fed block by block.

use std::io::{self, Read, Write};

use bzip2::{Decompress, Status};
use flate2::write::MultiGzDecoder;
use zstd::stream::raw::{Decoder as ZstdDecoder, Operation};

use crate::Compression;
use crate::unzip::Unzip;

/// A decompressor that is pushed packed bytes and never makes much more output than it is asked for.
pub struct Unpack(Kind);

enum Kind {
    Gzip { decoder: Box<MultiGzDecoder<Vec<u8>>>, fed: bool },
    Zstd { decoder: ZstdDecoder<'static>, inside: bool, output: Vec<u8> },
    Bzip2 { decoder: Decompress, inside: bool },
    Snappy { pending: Vec<u8>, started: bool },
    Zip { archive: Unzip, fed: bool },
}

const OUTPUT: usize = 128 * 1024;
const SNAPPY_START: &[u8] = b"\xff\x06\x00\x00sNaPpY";

impl Unpack {
    /// A decompressor, or none where there is nothing to do.
    pub fn new(compression: Compression) -> io::Result<Option<Self>> {
        Ok(Some(Self(match compression {
            Compression::None => return Ok(None),
            Compression::Gzip => Kind::Gzip { decoder: Box::new(MultiGzDecoder::new(Vec::new())), fed: false },
            Compression::Zstd => Kind::Zstd { decoder: ZstdDecoder::new()?, inside: false, output: vec![0; OUTPUT] },
            Compression::Bzip2 => Kind::Bzip2 { decoder: Decompress::new(false), inside: false },
            Compression::Snappy => Kind::Snappy { pending: Vec::new(), started: false },
            Compression::Zip => Kind::Zip { archive: Unzip::new(), fed: false },
        })))
    }

    /// Unpacks some of `input`, which is not empty, onto the end of `output`; says how much of it was used.
    pub fn push(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Gzip { decoder, fed } => {
                *fed = true;
                let used = decoder.write(input)?;
                output.append(decoder.get_mut());
                Ok(used)
            }
            Kind::Zstd { decoder, inside, output: block } => {
                let mut used = 0;
                loop {
                    let status = decoder.run_on_buffers(&input[used..], block)?;
                    used += status.bytes_read;
                    output.extend_from_slice(&block[..status.bytes_written]);
                    *inside = status.remaining != 0;
                    if !*inside {
                        decoder.reinit()?;
                    }
                    // A full block may mean that more output waits although the input is used up.
                    if used < input.len() || status.bytes_written < block.len() || !*inside {
                        return Ok(used);
                    }
                }
            }
            Kind::Bzip2 { decoder, inside } => {
                let mut used = 0;
                loop {
                    let before = decoder.total_in();
                    output.reserve(OUTPUT);
                    let status = decoder.decompress_vec(&input[used..], output).map_err(io::Error::from)?;
                    used += (decoder.total_in() - before) as usize;
                    *inside = status != Status::StreamEnd;
                    if !*inside {
                        *decoder = Decompress::new(false);
                    }
                    // No spare room may mean that more output waits although the input is used up.
                    if used < input.len() || output.len() < output.capacity() || !*inside {
                        return Ok(used);
                    }
                }
            }
            Kind::Zip { archive, fed } => {
                *fed = true;
                archive.push(input, output)
            }
            Kind::Snappy { pending, started } => {
                pending.extend_from_slice(input);
                let whole = whole_chunks(pending);
                if whole > 0 {
                    // The decoder wants a stream's start before each run of chunks; the first run brings its own.
                    let start: &[u8] = if *started { SNAPPY_START } else { &[] };
                    snap::read::FrameDecoder::new(start.chain(&pending[..whole])).read_to_end(output)?;
                    *started = true;
                    pending.drain(..whole);
                }
                Ok(input.len())
            }
        }
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// It was cut off.
    pub fn finish(&mut self, output: &mut Vec<u8>) -> io::Result<()> {
        let cut_off = || io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends in its middle");
        match &mut self.0 {
            // An empty file is an empty archive.
            Kind::Gzip { fed: false, .. } => Ok(()),
            Kind::Gzip { decoder, .. } => {
                decoder.try_finish().map_err(|_| cut_off())?;
                output.append(decoder.get_mut());
                Ok(())
            }
            Kind::Zstd { inside: true, .. } | Kind::Bzip2 { inside: true, .. } => Err(cut_off()),
            Kind::Snappy { pending, .. } if !pending.is_empty() => Err(cut_off()),
            Kind::Zip { archive, fed } if !archive.is_whole(*fed) => Err(cut_off()),
            _ => Ok(()),
        }
    }
}

/// The length of the whole chunks at the front of framed Snappy data.
fn whole_chunks(data: &[u8]) -> usize {
    let mut whole = 0;
    while let Some([_, a, b, c]) = data.get(whole..whole + 4) {
        let next = whole + 4 + u32::from_le_bytes([*a, *b, *c, 0]) as usize;
        if next > data.len() {
            break;
        }
        whole = next;
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pack;

    const ALL: [Compression; 4] = [Compression::Gzip, Compression::Zstd, Compression::Bzip2, Compression::Snappy];

    fn packed(compression: Compression, data: &[u8]) -> Vec<u8> {
        let mut pack = Pack::new(compression).unwrap();
        let mut out = Vec::new();
        for part in data.chunks(10_000) {
            pack.write(part, &mut out).unwrap();
        }
        pack.finish(&mut out).unwrap();
        out
    }

    fn unpacked(compression: Compression, data: &[u8], block: usize) -> io::Result<Vec<u8>> {
        let mut unpack = Unpack::new(compression)?.unwrap();
        let mut out = Vec::new();
        for mut part in data.chunks(block) {
            while !part.is_empty() {
                let used = unpack.push(part, &mut out)?;
                part = &part[used..];
            }
        }
        unpack.finish(&mut out)?;
        Ok(out)
    }

    #[test]
    fn two_archives_end_to_end_are_one_and_a_cut_one_is_noticed() {
        let data: Vec<u8> = (0..300_000u32).flat_map(|i| i.wrapping_mul(i).to_le_bytes()).collect();
        for compression in ALL {
            let mut archive = packed(compression, &data);
            archive.extend(packed(compression, b"the end"));
            let expected = [&data[..], b"the end"].concat();
            for block in [7, 1000, 1 << 20] {
                assert!(unpacked(compression, &archive, block).unwrap() == expected, "{compression:?} {block}");
            }
            for cut in [3, 100, archive.len() / 2] {
                let result = unpacked(compression, &archive[..archive.len() - cut], 4096);
                let Err(error) = result else { panic!("{compression:?} {cut} was taken for whole") };
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{compression:?} {cut} {error}");
            }
            assert_eq!(unpacked(compression, b"", 10).unwrap(), b"");
            assert!(unpacked(compression, b"a,b,c\n1,2,3\nno archive at all", 10).is_err(), "{compression:?}");
        }
    }
}
