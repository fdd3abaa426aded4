//! Large text files are cut where a record surely begins, so that several channels read them.
//!
//! | file | cut |
//! |-|-|
//! | JSON lines; CSV without quotes, or whose job says `multiline: false` | at the line end next to where a cut is wanted |
//! | CSV with quotes, on this machine | by going once over the file: between quotes a line end is looked for, around them records are taken apart as the reader does it, so that there is nothing to guess |
//! | compressed, in an encoding whose characters may hold the bytes of line ends, or CSV with quotes in an object store | not at all |

use std::fs::File;
use std::io::Read;

use memchr::{memchr, memchr_iter, memrchr};
use tokio_util::sync::CancellationToken;
use weir_core::{Error, Result, ResultExt};
use weir_files::{BLOCK, ByteStream, Compression, Format, Store};

use crate::csv::MAX_RECORD;
use crate::rules::Rules;
use crate::scan::{Dialect, Found};
use crate::split::Part;

/// Files below this are not cut.
pub(crate) const LEAST: u64 = 16 << 20;

/// Where a part of a file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) at: u64,
    /// The line that begins there, where lines were counted.
    pub(crate) line: Option<u64>,
}

/// Cuts a file of `size` bytes into pieces of about `bytes` bytes: where the second and later ones begin.
pub(crate) async fn cuts(
    rules: &Rules,
    part: &Part,
    store: &Store,
    size: u64,
    bytes: u64,
    cancel: &CancellationToken,
) -> Result<Vec<Cut>> {
    let bytes = bytes.max(1);
    if size < bytes.saturating_mul(2) || part.compression != Compression::None || store.is_web() {
        return Ok(Vec::new());
    }
    if !is_cuttable(rules, part, store, cancel).await? {
        return Ok(Vec::new());
    }
    let wanted: Vec<u64> = (1..).map(|i| i * bytes).take_while(|at| at + bytes / 2 <= size).collect();
    let dialect = rules.dialect(part.tabs, part.names.len());
    if part.format == Format::Jsonl || dialect.quote.is_none() || rules.one_line {
        let mut cuts = at_lines(part, store, rules.skip_lines, &wanted, cancel).await?;
        cuts.retain(|cut| cut.at < size);
        return Ok(cuts);
    }
    if !store.is_local() {
        return Ok(Vec::new());
    }
    let (path, skip, cancel) = (part.file.clone(), rules.skip_lines, cancel.clone());
    let found = tokio::task::spawn_blocking(move || {
        let file = File::open(&path).context("file", &path)?;
        at_records(file, &dialect, skip, &wanted, &cancel).context("file", &path)
    });
    let mut cuts = found.await.map_err(|e| Error::internal("the file could not be cut").because(e))??;
    cuts.retain(|cut| cut.at < size);
    Ok(cuts)
}

/// Whether a line end's byte is always a line end.
async fn is_cuttable(rules: &Rules, part: &Part, store: &Store, cancel: &CancellationToken) -> Result<bool> {
    if rules.encoding == encoding_rs::UTF_8 {
        return Ok(true);
    }
    if !rules.encoding.is_single_byte() {
        return Ok(false);
    }
    // A byte order mark says more than the job.
    let mut start = Vec::new();
    ByteStream::open_part(store, &part.file, Some(0..3), cancel).await?.fill(&mut start, 3).await?;
    Ok(!start.starts_with(b"\xff\xfe") && !start.starts_with(b"\xfe\xff") && !start.starts_with(b"\xef\xbb\xbf"))
}

async fn at_lines(
    part: &Part,
    store: &Store,
    skip_lines: u64,
    wanted: &[u64],
    cancel: &CancellationToken,
) -> Result<Vec<Cut>> {
    // The lines to skip and the header belong to the first part.
    let least = line_end(store, &part.file, 0, skip_lines + 1, cancel).await?;
    let mut cuts: Vec<Cut> = Vec::new();
    for at in wanted {
        let from = (*at).max(least.unwrap_or(u64::MAX));
        if cuts.last().is_some_and(|c| c.at >= from) || from == u64::MAX {
            continue;
        }
        // The line end before it counts too.
        let Some(next) = line_end(store, &part.file, from - 1, 1, cancel).await? else { break };
        if cuts.last().is_none_or(|c| c.at < next) {
            cuts.push(Cut { at: next, line: None });
        }
    }
    Ok(cuts)
}

/// The position after the `count`-th line end from `from` on.
async fn line_end(
    store: &Store,
    path: &str,
    from: u64,
    mut count: u64,
    cancel: &CancellationToken,
) -> Result<Option<u64>> {
    let mut bytes = ByteStream::open_part(store, path, Some(from..u64::MAX / 2), cancel).await?;
    let (mut block, mut before) = (Vec::new(), from);
    while bytes.fill(&mut block, BLOCK).await? {
        for at in memchr_iter(b'\n', &block) {
            count -= 1;
            if count == 0 {
                return Ok(Some(before + at as u64 + 1));
            }
        }
        before += block.len() as u64;
        block.clear();
        tokio::task::yield_now().await;
    }
    Ok(None)
}

/// Goes over a file from its start and says where the first record begins at or behind each wanted place.
fn at_records(
    mut file: impl Read,
    dialect: &Dialect,
    skip_lines: u64,
    wanted: &[u64],
    cancel: &CancellationToken,
) -> Result<Vec<Cut>> {
    let mut cuts = Vec::new();
    let mut wanted = wanted.iter().copied().peekable();
    let Some(quote) = dialect.quote else { return Ok(cuts) };
    // `base`: where the buffer stands in the file; `at`: the start of a record in it; `line`: the line of `at`, from 1.
    let (mut buffer, mut base, mut at, mut line) = (Vec::<u8>::new(), 0u64, 0usize, 1u64);
    let mut spans = Vec::new();
    let mut searched = 0;
    loop {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        buffer.drain(..at);
        base += at as u64;
        searched -= at;
        at = 0;
        if buffer.len() > MAX_RECORD {
            // A quote that is never closed: whoever reads the part will say so.
            return Ok(cuts);
        }
        let more = buffer.len().max(4 * BLOCK) as u64;
        let end = file.by_ref().take(more).read_to_end(&mut buffer)? == 0;
        if base == 0 && at == 0 && line == 1 && buffer.starts_with(b"\xef\xbb\xbf") {
            at = 3;
            searched = searched.max(at);
        }
        while line <= skip_lines {
            match memchr(b'\n', &buffer[at..]) {
                Some(next) => {
                    at += next + 1;
                    line += 1;
                }
                None => break,
            }
        }
        if line <= skip_lines {
            if end {
                return Ok(cuts);
            }
            searched = buffer.len();
            at = buffer.len();
            continue;
        }
        searched = searched.max(at);
        loop {
            let found = memchr(quote, &buffer[searched..]).map(|next| searched + next);
            let plain = found.unwrap_or(buffer.len());
            // Up to the next quote every line end is a record's.
            while let Some(target) = wanted.peek().copied() {
                let from = (target.max(base + at as u64 + 1) - base - 1) as usize;
                if from >= plain {
                    break;
                }
                let Some(next) = memchr(b'\n', &buffer[from..plain]) else { break };
                let cut = from + next + 1;
                line += memchr_iter(b'\n', &buffer[at..cut]).count() as u64;
                at = cut;
                cuts.push(Cut { at: base + at as u64, line: Some(line) });
                while wanted.next_if(|w| *w <= base + at as u64).is_some() {}
            }
            if wanted.peek().is_none() {
                return Ok(cuts);
            }
            if let Some(last) = memrchr(b'\n', &buffer[at..plain]) {
                line += memchr_iter(b'\n', &buffer[at..=at + last]).count() as u64;
                at += last + 1;
            }
            searched = plain;
            if found.is_none() {
                break;
            }
            spans.clear();
            match dialect.scan(&buffer, at, end, &mut spans) {
                Found::Record { next, lines, .. } => {
                    at = next;
                    line += lines;
                }
                Found::Nothing { next } => {
                    at = next;
                    line += 1;
                }
                Found::More => break,
            }
            searched = at;
            if wanted.peek().is_some_and(|target| base + at as u64 >= *target) && at < buffer.len() {
                cuts.push(Cut { at: base + at as u64, line: Some(line) });
                while wanted.next_if(|w| *w <= base + at as u64).is_some() {}
            }
        }
        if end {
            return Ok(cuts);
        }
        // A record that the buffer does not hold whole is scanned again from its first quote on.
        if spans.is_empty() && searched < buffer.len() {
            searched = memchr(quote, &buffer[at..]).map_or(buffer.len(), |next| at + next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records by the reader's own scanner, with where they start and their lines.
    fn records(dialect: &Dialect, text: &[u8], from: usize) -> Vec<(usize, u64)> {
        let (mut at, mut line, mut found) = (from, 1, Vec::new());
        while at < text.len() {
            found.push((at, line));
            match dialect.scan(text, at, true, &mut Vec::new()) {
                Found::Record { next, lines, .. } => (at, line) = (next, line + lines),
                Found::Nothing { next } => (at, line) = (next, line + 1),
                Found::More => break,
            }
        }
        found
    }

    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = buffer.len().min(self.1).min(self.0.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    #[test]
    fn cuts_stand_where_records_begin() {
        let pieces: [&[u8]; 12] = [
            b"1,plain,x\n",
            b"\"a\"\"b\n\",2\n",
            b"a\"b,\"c\n",
            b"d\"\r\n",
            b"\n",
            b"# it's \"one\n",
            b"\"\",\"\n\n\n\"\n",
            b"x \"y\",z\n",
            b"\"open\" late,\"\n\"\n",
            b",\n",
            b"\"a\",\"b\",\"c\"\n",
            b"\r",
        ];
        let mut seed = 7u64;
        for round in 0..300 {
            let mut text = if round % 5 == 0 { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
            let from = text.len();
            for _ in 0..60 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                text.extend(pieces[(seed >> 33) as usize % pieces.len()]);
            }
            let mut dialect = Dialect::new(b",", Some(b'"'));
            dialect.comment = (round % 2 == 0).then_some(b'#');
            dialect.trim = round % 3 == 0;
            let known = records(&dialect, &text, from);
            for step in [1, 13, 100] {
                let wanted: Vec<u64> = (1..).map(|i| i * step).take_while(|w| *w < text.len() as u64).collect();
                let cuts = at_records(Slow(&text, 11), &dialect, 0, &wanted, &CancellationToken::new()).unwrap();
                assert!(!cuts.is_empty());
                for pair in cuts.windows(2) {
                    assert!(pair[0].at < pair[1].at);
                }
                for cut in &cuts {
                    // A lone carriage return ends a line, too, and counts as none where the text before has no quotes.
                    let is_start = known.iter().any(|(at, _)| *at as u64 == cut.at) || cut.at == text.len() as u64;
                    assert!(is_start, "{round} {step} {cut:?} {:?}", String::from_utf8_lossy(&text));
                }
            }
        }
    }

    #[test]
    fn lines_are_counted_and_the_first_ones_skipped() {
        let text = b"\"skipped\nid,name\n1,\"a\nb\"\n2,c\n3,d\n4,e\n";
        let dialect = Dialect::new(b",", Some(b'"'));
        let cuts = at_records(&text[..], &dialect, 1, &[20, 28, 30], &CancellationToken::new()).unwrap();
        let lines: Vec<_> = cuts.iter().map(|c| (&text[c.at as usize..][..1], c.line.unwrap())).collect();
        assert_eq!(lines, [(&b"2"[..], 5), (b"3", 6), (b"4", 7)]);
    }
}
