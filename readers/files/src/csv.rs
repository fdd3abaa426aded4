//! Files of separated values.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use weir_core::{BatchSender, DirtyRow, Error, ErrorKind, ReadRequest, Result};
use weir_files::{BLOCK, Compression, Store, TextSource};

use crate::cells::{Assembler, Cell, Cells};
use crate::scan::{Dialect, Found, Span};

/// The largest record that is read, some cells of 64 MiB with all their bytes escaped: a longer one is more likely a quote
/// that was never closed.
pub(crate) const MAX_RECORD: usize = 512 * 1024 * 1024;

/// What the first line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// Data.
    None,
    /// The names of the columns.
    Names,
    /// Not to be read.
    Skip,
}

/// How many fields a record has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Width {
    /// So many.
    Exact(usize),
    /// So many or more, DataX's way.
    AtLeast(usize),
}

/// A text file and how to read it.
#[derive(Clone)]
pub(crate) struct TextFile<'a> {
    pub(crate) store: &'a Store,
    pub(crate) path: &'a str,
    pub(crate) compression: Compression,
    pub(crate) encoding: &'static encoding_rs::Encoding,
    pub(crate) skip_lines: u64,
    /// Bytes of the file that begin behind its first line, and the line they begin with.
    pub(crate) inside: Option<(Range<u64>, Option<u64>)>,
    /// Where the bytes end that begin with the file.
    pub(crate) end: Option<u64>,
    pub(crate) cancel: &'a CancellationToken,
}

/// The text of a file in a window that moves over it.
pub(crate) struct Window {
    source: TextSource,
    pub(crate) text: Vec<u8>,
    /// Where the next record starts.
    pub(crate) at: usize,
    /// Whether the window reaches to the file's end.
    pub(crate) end: bool,
    /// The line of `at`, from 1.
    pub(crate) line: u64,
    /// Where lines are counted from, when not from the file's start: ` after byte 1000`.
    pub(crate) origin: String,
}

impl Window {
    /// Opens a file, behind the lines to skip.
    pub(crate) async fn open(file: &TextFile<'_>) -> Result<Self> {
        let range = file.inside.as_ref().map(|(range, _)| range.clone()).or(file.end.map(|end| 0..end));
        let (store, path, encoding) = (file.store, file.path, file.encoding);
        let source = TextSource::open_part(store, path, file.compression, encoding, range, file.cancel).await?;
        let mut window = Self { source, text: Vec::new(), at: 0, end: false, line: 1, origin: String::new() };
        window.more().await?;
        if let Some((range, line)) = &file.inside {
            match line {
                Some(line) => window.line = *line,
                None => window.origin = format!(" after byte {}", range.start),
            }
            return Ok(window);
        }
        while window.line <= file.skip_lines {
            match memchr(b'\n', &window.text[window.at..]) {
                Some(next) => {
                    window.at += next + 1;
                    window.line += 1;
                }
                None if window.end => {
                    window.at = window.text.len();
                    break;
                }
                None => window.more().await?,
            }
        }
        Ok(window)
    }

    /// Drops what is read and adds more; as much again as a record that does not fit already has.
    pub(crate) async fn more(&mut self) -> Result<()> {
        self.text.drain(..self.at);
        self.at = 0;
        if self.text.len() > MAX_RECORD {
            let message = format!(
                "a record is larger than {} MiB: check for a quote that is never closed, and `quote`",
                MAX_RECORD >> 20
            );
            let error = Error::new(ErrorKind::Data, message);
            return Err(error.with("file", self.source.name()).with("line", self.line));
        }
        let want = BLOCK.max(self.text.len());
        self.end = !self.source.fill(&mut self.text, want).await?;
        Ok(())
    }

    /// The next record as values, for headers and samples; `None` at the end. Values that were quoted say so.
    pub(crate) async fn record(&mut self, dialect: &Dialect) -> Result<Option<Vec<(String, bool)>>> {
        let mut spans = Vec::new();
        loop {
            match dialect.scan(&self.text, self.at, self.end, &mut spans) {
                Found::Record { next, lines, .. } => {
                    let values = spans.iter().map(|span| {
                        let text = String::from_utf8_lossy(&self.text[span.start..span.end]);
                        (dialect.value(&text, *span).into_owned(), span.quoted)
                    });
                    let values = values.collect();
                    self.at = next;
                    self.line += lines;
                    return Ok(Some(values));
                }
                Found::Nothing { next } => {
                    self.at = next;
                    self.line += 1;
                }
                Found::More if self.end => return Ok(None),
                Found::More => self.more().await?,
            }
        }
    }
}

/// Names for a header's fields: empty ones by position, repeated ones numbered.
pub(crate) fn header_names(fields: Vec<(String, bool)>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (i, (field, _)) in fields.into_iter().enumerate() {
        let base = if field.trim().is_empty() { format!("column_{i}") } else { field.trim().to_owned() };
        let mut name = base.clone();
        let mut n = 2;
        while names.contains(&name) {
            name = format!("{base}_{n}");
            n += 1;
        }
        names.push(name);
    }
    names
}

struct Row {
    line: u64,
    start: usize,
    end: usize,
}

/// Scanned records of a window.
struct Records<'a> {
    dialect: &'a Dialect,
    text: Text<'a>,
    width: usize,
    spans: &'a [Span],
    rows: usize,
}

/// Text of which all is known to be UTF-8, or only each record by itself.
enum Text<'a> {
    Whole(&'a str, usize),
    Parts(&'a [u8]),
}

impl Text<'_> {
    fn get(&self, span: Span) -> &str {
        match self {
            Self::Whole(text, offset) => text.get(span.start - offset..span.end - offset).unwrap_or_default(),
            Self::Parts(bytes) => std::str::from_utf8(&bytes[span.start..span.end]).unwrap_or_default(),
        }
    }
}

impl Cells for Records<'_> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cell(&self, row: usize, column: usize, _: bool) -> Cell<'_> {
        let span = self.spans[row * self.width + column];
        let value = match span.escaped {
            false => Cow::Borrowed(self.text.get(span)),
            true => self.dialect.value(self.text.get(span), span),
        };
        if span.quoted { Cell::Quoted(value) } else { Cell::Plain(value) }
    }
}

/// Reads the records of one file.
pub(crate) struct CsvTask<'a> {
    pub(crate) dialect: &'a Dialect,
    pub(crate) width: Width,
    /// The names of the file's columns, for rejected rows.
    pub(crate) names: Vec<String>,
    pub(crate) request: &'a ReadRequest,
    pub(crate) assembler: Assembler,
    /// See [`Window::origin`].
    pub(crate) origin: String,
}

impl CsvTask<'_> {
    /// Reads from the window's place to the file's end.
    pub(crate) async fn run(mut self, mut window: Window, output: &mut dyn BatchSender) -> Result<()> {
        let (mut spans, mut rows) = (Vec::new(), Vec::new());
        let (mut waiting, mut sent) = (0, 0u64);
        let width = match self.width {
            Width::Exact(n) | Width::AtLeast(n) => n,
        };
        loop {
            let before = spans.len();
            match self.dialect.scan(&window.text, window.at, window.end, &mut spans) {
                Found::Record { next, lines, fault } => {
                    let count = spans.len() - before;
                    let row = Row { line: window.line, start: window.at, end: next };
                    let fits = match self.width {
                        Width::Exact(n) => count == n,
                        Width::AtLeast(n) => count >= n,
                    };
                    if fault.is_some() || !fits {
                        let ragged = || format!("the row has {count} fields and not {width}");
                        let reason = fault.map_or_else(ragged, str::to_owned);
                        output.reject(self.dirty(&window.text, &row, &spans[before..], None, &reason)).await?;
                        spans.truncate(before);
                    } else {
                        spans.truncate(before + width);
                        let bytes = next - window.at;
                        if self.assembler.is_full(rows.len(), waiting, bytes) {
                            let own = spans.split_off(before);
                            self.convert(&window.text, &mut rows, &mut spans, width, output).await?;
                            sent += self.send(output).await?;
                            (spans, waiting) = (own, 0);
                        }
                        rows.push(row);
                        waiting += bytes;
                    }
                    window.at = next;
                    window.line += lines;
                }
                Found::Nothing { next } => {
                    window.at = next;
                    window.line += 1;
                }
                Found::More => {
                    self.convert(&window.text, &mut rows, &mut spans, width, output).await?;
                    waiting = 0;
                    let enough = self.request.limit.is_some_and(|limit| sent + self.assembler.rows() as u64 >= limit);
                    if window.end || enough {
                        self.send(output).await?;
                        return Ok(());
                    }
                    window.more().await?;
                }
            }
        }
    }

    async fn send(&mut self, output: &mut dyn BatchSender) -> Result<u64> {
        match self.assembler.take()? {
            Some(batch) => {
                let rows = batch.num_rows() as u64;
                output.send(batch).await?;
                Ok(rows)
            }
            None => Ok(0),
        }
    }

    async fn convert(
        &mut self,
        text: &[u8],
        rows: &mut Vec<Row>,
        spans: &mut Vec<Span>,
        width: usize,
        output: &mut dyn BatchSender,
    ) -> Result<()> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
        let (start, end) = (first.start, last.end);
        let whole = std::str::from_utf8(&text[start..end]).ok();
        if whole.is_none() {
            let good: Vec<bool> = rows.iter().map(|r| std::str::from_utf8(&text[r.start..r.end]).is_ok()).collect();
            for (i, row) in rows.iter().enumerate().filter(|(i, _)| !good[*i]) {
                let fields = &spans[i * width..(i + 1) * width];
                let bad = fields.iter().position(|s| std::str::from_utf8(&text[s.start..s.end]).is_err());
                let column = bad.and_then(|b| self.names.get(b).cloned());
                let reason = "the text is not valid UTF-8: if the file has another encoding, name it as `encoding`";
                output.reject(self.dirty(text, row, fields, column, reason)).await?;
            }
            let mut keep = good.iter();
            rows.retain(|_| *keep.next().unwrap_or(&false));
            let mut at = 0;
            spans.retain(|_| {
                at += 1;
                good[(at - 1) / width.max(1)]
            });
        }
        let records = Records {
            dialect: self.dialect,
            text: whole.map_or(Text::Parts(text), |whole| Text::Whole(whole, start)),
            width,
            spans,
            rows: rows.len(),
        };
        for misfit in self.assembler.add(&records, end - start) {
            let row = &rows[misfit.row];
            let fields = &spans[misfit.row * width..(misfit.row + 1) * width];
            let column = self.request.columns.get(misfit.column).map(|c| c.field.name().clone());
            output.reject(self.dirty(text, row, fields, column, &misfit.reason)).await?;
        }
        rows.clear();
        spans.clear();
        Ok(())
    }

    fn dirty(&self, text: &[u8], row: &Row, fields: &[Span], column: Option<String>, reason: &str) -> DirtyRow {
        let mut values = Map::new();
        for (i, span) in fields.iter().enumerate() {
            let name = self.names.get(i).cloned().unwrap_or_else(|| format!("column_{i}"));
            let value = String::from_utf8_lossy(&text[span.start..span.end]);
            values.insert(name, Value::String(self.dialect.value(&value, *span).into_owned()));
        }
        DirtyRow { values, column, reason: format!("line {}{}: {reason}", row.line, self.origin) }
    }
}
