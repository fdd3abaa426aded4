//! ZIP archives with one file in them, read from front to back. The layout is that of PKWARE's APPNOTE, section 4.3.

use std::io;

use flate2::{Crc, Decompress, FlushDecompress, Status};

/// A local file header, without name and extra field.
const HEADER: usize = 30;
const OUTPUT: usize = 128 * 1024;

/// Takes the one file out of an archive that is pushed in pieces.
pub(crate) struct Unzip {
    state: State,
    /// What is not yet enough to go on.
    pending: Vec<u8>,
    crc: Crc,
    wanted: Option<u32>,
}

enum State {
    /// Before a local file header.
    Header,
    Deflated(Decompress),
    Stored(u64),
    /// After the data: its checksum, when the header could not have it.
    Descriptor,
    /// After the file: only the directory may come.
    Behind,
    /// In the directory, which says nothing that is still needed.
    Directory,
}

fn wrong(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    bytes[at..at + size].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

impl Unzip {
    pub(crate) fn new() -> Self {
        Self { state: State::Header, pending: Vec::new(), crc: Crc::new(), wanted: None }
    }

    /// Unpacks some of `input` onto the end of `output`; says how much of it was used.
    pub(crate) fn push(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
        match &mut self.state {
            State::Deflated(inflate) => {
                let mut used = 0;
                loop {
                    let (before, from) = (inflate.total_in(), output.len());
                    output.reserve(OUTPUT);
                    let status = inflate.decompress_vec(&input[used..], output, FlushDecompress::None)?;
                    used += (inflate.total_in() - before) as usize;
                    self.crc.update(&output[from..]);
                    if status == Status::StreamEnd {
                        self.state = State::Descriptor;
                        return self.check().map(|()| used);
                    }
                    // No spare room may mean that more output waits although the input is used up.
                    if used < input.len() || output.len() < output.capacity() {
                        return Ok(used);
                    }
                }
            }
            State::Stored(left) => {
                let taken = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                output.extend_from_slice(&input[..taken]);
                self.crc.update(&input[..taken]);
                *left -= taken as u64;
                if *left == 0 {
                    self.state = State::Descriptor;
                    self.check()?;
                }
                Ok(taken)
            }
            State::Directory => Ok(input.len()),
            _ => {
                self.pending.extend_from_slice(input);
                let before = self.pending.len();
                while self.step()? {
                    if matches!(self.state, State::Deflated(_) | State::Stored(_) | State::Directory) {
                        // What is left over belongs to the data: it is not used yet, and comes again.
                        let left = self.pending.len();
                        self.pending.clear();
                        debug_assert!(left <= before);
                        return Ok(input.len() - left.min(input.len()));
                    }
                }
                Ok(input.len())
            }
        }
    }

    /// The checksum, where the header had it.
    fn check(&mut self) -> io::Result<()> {
        if let Some(wanted) = self.wanted {
            self.state = State::Behind;
            if wanted != self.crc.sum() {
                return Err(wrong("the checksum of the file in the archive is another one"));
            }
        }
        Ok(())
    }

    /// Goes on by what is pending; `false` when that is not enough.
    fn step(&mut self) -> io::Result<bool> {
        let pending = &self.pending;
        if pending.len() < 4 {
            return Ok(false);
        }
        let sign = &pending[..4];
        match self.state {
            State::Header if sign == b"PK\x03\x04" => {
                if pending.len() < HEADER {
                    return Ok(false);
                }
                let (flags, method) = (number(pending, 6, 2), number(pending, 8, 2));
                let (crc, packed) = (number(pending, 14, 4) as u32, number(pending, 18, 4));
                let name = number(pending, 26, 2) as usize;
                let length = HEADER + name + number(pending, 28, 2) as usize;
                if pending.len() < length {
                    return Ok(false);
                }
                if flags & 1 != 0 {
                    return Err(wrong("the archive is encrypted"));
                }
                let is_folder = pending[HEADER..HEADER + name].ends_with(b"/");
                let later = flags & 8 != 0;
                self.wanted = (!later).then_some(crc);
                self.state = match method {
                    _ if is_folder && packed == 0 && !later => State::Header,
                    0 if later || packed == u64::from(u32::MAX) => {
                        return Err(wrong("the archive holds a file that is neither compressed nor says its size"));
                    }
                    0 if packed == 0 => State::Behind,
                    0 => State::Stored(packed),
                    8 => State::Deflated(Decompress::new(false)),
                    _ => return Err(wrong("the archive is compressed in another way than deflate")),
                };
                self.pending.drain(..length);
                Ok(true)
            }
            State::Descriptor => {
                // Its signature may be left out.
                let at = if sign == b"PK\x07\x08" { 4 } else { 0 };
                // Sizes have 8 bytes in an archive beyond 4 GB: the signature that follows tells.
                if pending.len() < at + 4 + 16 + 4 {
                    return Ok(false);
                }
                if number(pending, at, 4) as u32 != self.crc.sum() {
                    return Err(wrong("the checksum of the file in the archive is another one"));
                }
                let small = pending[at + 12..].starts_with(b"PK");
                self.pending.drain(..at + if small { 12 } else { 20 });
                self.state = State::Behind;
                Ok(true)
            }
            // An archive of nothing is a directory, or its end, alone.
            State::Behind | State::Header if sign == b"PK\x01\x02" || sign == b"PK\x05\x06" => {
                self.state = State::Directory;
                Ok(true)
            }
            State::Behind if sign == b"PK\x03\x04" => {
                Err(wrong("the archive holds more than one file: unpack it, and read the files"))
            }
            State::Header => Err(wrong("this is no ZIP archive")),
            State::Behind => Err(wrong("the archive has something else than its directory after the file")),
            State::Deflated(_) | State::Stored(_) | State::Directory => Ok(false),
        }
    }

    /// Whether the archive was seen to its directory.
    pub(crate) fn is_whole(&self, fed: bool) -> bool {
        matches!(self.state, State::Directory) || !fed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive with one file, made by hand; `later` puts the sizes behind the data.
    fn archive(text: &[u8], method: u16, later: bool) -> Vec<u8> {
        let mut crc = Crc::new();
        crc.update(text);
        let data = match method {
            0 => text.to_vec(),
            _ => {
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
                io::Write::write_all(&mut encoder, text).unwrap();
                encoder.finish().unwrap()
            }
        };
        let sizes =
            |crc: u32| [crc.to_le_bytes(), (data.len() as u32).to_le_bytes(), (text.len() as u32).to_le_bytes()];
        let mut out = b"PK\x03\x04\x14\0".to_vec();
        out.extend(u16::from(later as u8 * 8).to_le_bytes());
        out.extend(method.to_le_bytes());
        out.extend([0; 4]);
        out.extend(if later { [0; 12].to_vec() } else { sizes(crc.sum()).concat() });
        out.extend([5, 0, 2, 0]);
        out.extend(b"a.csvxx");
        out.extend(&data);
        if later {
            out.extend(b"PK\x07\x08");
            out.extend(sizes(crc.sum()).concat());
        }
        out.extend(b"PK\x01\x02");
        out.extend([7; 60]);
        out
    }

    fn unpacked(archive: &[u8], block: usize) -> io::Result<(Vec<u8>, bool)> {
        let (mut unzip, mut out) = (Unzip::new(), Vec::new());
        for mut part in archive.chunks(block) {
            while !part.is_empty() {
                let used = unzip.push(part, &mut out)?;
                part = &part[used..];
            }
        }
        Ok((out, unzip.is_whole(true)))
    }

    #[test]
    fn the_one_file_comes_out_and_faults_are_seen() {
        let text: Vec<u8> = (0..200_000u32).flat_map(|i| i.wrapping_mul(i).to_le_bytes()).collect();
        for (method, later) in [(8, false), (8, true), (0, false)] {
            let whole = archive(&text, method, later);
            for block in [1, 7, 1000, 1 << 20] {
                assert!(unpacked(&whole, block).unwrap() == (text.clone(), true), "{method} {later} {block}");
            }
            assert!(!unpacked(&whole[..whole.len() - 70], 4096).unwrap().1);
            let mut damaged = whole.clone();
            damaged[5000] ^= 1;
            assert!(unpacked(&damaged, 4096).is_err(), "{method} {later}");
            let two = [&whole[..whole.len() - 64], &whole].concat();
            assert!(unpacked(&two, 4096).unwrap_err().to_string().contains("more than one"));
        }
        assert!(unpacked(b"a,b\n1,2\n", 100).is_err());
    }
}
