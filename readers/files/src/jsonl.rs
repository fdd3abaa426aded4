//! Files with one JSON object a line.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use memchr::{memchr, memchr2};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use weir_core::{BatchSender, DirtyRow, ReadRequest, Result};

use crate::cells::{Assembler, Cell, Cells};
use crate::csv::Window;

/// The members of an object whose text is known to be JSON: each key as written between its quotes, and where the
/// value stands. `None` when the text is no object.
pub(crate) fn members(text: &str) -> Option<Vec<(&str, Range<usize>)>> {
    let bytes = text.as_bytes();
    let space = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        at
    };
    let mut at = space(0);
    if bytes.get(at) != Some(&b'{') {
        return None;
    }
    let mut found = Vec::new();
    at = space(at + 1);
    while bytes.get(at) == Some(&b'"') {
        let key_end = string_end(bytes, at)?;
        let key = text.get(at + 1..key_end - 1)?;
        // Past the colon.
        let start = space(space(key_end) + 1);
        let end = value_end(bytes, start)?;
        found.push((key, start..end));
        at = space(end);
        if bytes.get(at) == Some(&b',') {
            at = space(at + 1);
        }
    }
    Some(found)
}

/// The position after the string that opens at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

fn value_end(bytes: &[u8], start: usize) -> Option<usize> {
    match bytes.get(start)? {
        b'"' => string_end(bytes, start),
        b'{' | b'[' => {
            let (mut at, mut depth) = (start, 0usize);
            loop {
                match bytes.get(at)? {
                    b'"' => {
                        at = string_end(bytes, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let rest = bytes[start..].iter().position(|b| matches!(b, b',' | b'}' | b']') || b.is_ascii_whitespace());
            Some(start + rest.unwrap_or(bytes.len() - start))
        }
    }
}

/// A key or string as it reads, without escapes.
pub(crate) fn unescaped(inner: &str) -> Cow<'_, str> {
    if memchr(b'\\', inner.as_bytes()).is_none() {
        return Cow::Borrowed(inner);
    }
    // A lone surrogate is valid by the grammar and has no text: the escape stays as written.
    serde_json::from_str::<String>(&format!("\"{inner}\"")).map_or(Cow::Borrowed(inner), Cow::Owned)
}

/// The next line of a window, without its end and blank lines left out: its number and where it stands.
pub(crate) async fn line(window: &mut Window) -> Result<Option<(u64, Range<usize>)>> {
    let mut searched = window.at;
    loop {
        let start = window.at;
        let end = match memchr(b'\n', &window.text[searched..]) {
            Some(at) => searched + at,
            None if window.end && start < window.text.len() => window.text.len(),
            None if window.end => return Ok(None),
            None => {
                searched = window.text.len() - start;
                window.more().await?;
                continue;
            }
        };
        let number = window.line;
        window.at = (end + 1).min(window.text.len());
        window.line += 1;
        searched = window.at;
        if !window.text[start..end].trim_ascii().is_empty() {
            return Ok(Some((number, start..end)));
        }
    }
}

/// Lines of one window, and where their values stand.
#[derive(Default)]
struct Lines {
    text: String,
    columns: usize,
    /// For each row and column the value's place in `text`; empty where there is none.
    values: Vec<Range<usize>>,
    /// Line number and place in `text`.
    rows: Vec<(u64, Range<usize>)>,
}

impl Cells for Lines {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn cell(&self, row: usize, column: usize, raw: bool) -> Cell<'_> {
        let place = self.values[row * self.columns + column].clone();
        let text = self.text.get(place).unwrap_or_default();
        match text.as_bytes().first() {
            None => Cell::Null,
            Some(b'n') => Cell::Null,
            Some(b'"') if !raw => Cell::Quoted(unescaped(text.get(1..text.len() - 1).unwrap_or_default())),
            Some(_) => Cell::Plain(Cow::Borrowed(text)),
        }
    }
}

/// Reads the lines of one file.
pub(crate) struct JsonTask<'a> {
    /// The keys of the columns, in the order of their positions.
    pub(crate) keys: Vec<String>,
    /// Keys that are known and not read; `None`: any other key may be there.
    pub(crate) known: Option<Vec<String>>,
    pub(crate) request: &'a ReadRequest,
    pub(crate) assembler: Assembler,
}

impl JsonTask<'_> {
    /// Reads from the window's place to the file's end.
    pub(crate) async fn run(mut self, mut window: Window, output: &mut dyn BatchSender) -> Result<()> {
        let mut positions: HashMap<String, Option<usize>> =
            self.known.iter().flatten().map(|key| (key.clone(), None)).collect();
        positions.extend(self.keys.iter().cloned().enumerate().map(|(i, key)| (key, Some(i))));
        let mut lines = Lines { columns: self.keys.len(), ..Lines::default() };
        let mut sent = 0;
        let origin = window.origin.clone();
        while let Some((number, place)) = line(&mut window).await? {
            let bytes = place.len();
            if self.assembler.is_full(lines.rows.len(), lines.text.len(), bytes) || lines.text.len() > weir_files::BLOCK
            {
                self.convert(&mut lines, &origin, output).await?;
                if self.assembler.is_full(0, 0, bytes) {
                    sent += self.send(output).await?;
                }
                if self.request.limit.is_some_and(|limit| sent + self.assembler.rows() as u64 >= limit) {
                    break;
                }
            }
            if let Err(reason) = self.scan(&window.text[place.clone()], number, &positions, &mut lines) {
                let text = String::from_utf8_lossy(&window.text[place]).into_owned();
                output.reject(dirty(&text, number, &origin, None, &reason)).await?;
            }
        }
        self.convert(&mut lines, &origin, output).await?;
        self.send(output).await?;
        Ok(())
    }

    fn scan(
        &self,
        line: &[u8],
        number: u64,
        positions: &HashMap<String, Option<usize>>,
        lines: &mut Lines,
    ) -> std::result::Result<(), String> {
        let text = std::str::from_utf8(line).map_err(|_| {
            "the text is not valid UTF-8: if the file has another encoding, name it as `encoding`".to_owned()
        })?;
        serde_json::from_str::<IgnoredAny>(text).map_err(|e| format!("the line is no JSON: {e}"))?;
        let members = members(text).ok_or("the line is no JSON object")?;
        let (start, first) = (lines.text.len(), lines.values.len());
        lines.values.resize(first + lines.columns, 0..0);
        let mut next = 0;
        for (key, place) in members {
            let place = start + place.start..start + place.end;
            // Objects of one file mostly have the same keys in the same order.
            if self.keys.get(next).is_some_and(|k| k == key) {
                lines.values[first + next] = place;
                next += 1;
                continue;
            }
            let key = unescaped(key);
            match positions.get(key.as_ref()) {
                Some(Some(column)) => {
                    lines.values[first + column] = place;
                    next = column + 1;
                }
                Some(None) => {}
                None if self.known.is_none() => {}
                None => {
                    lines.values.truncate(first);
                    return Err(format!(
                        "the key `{key}` was in none of the sampled rows: raise sampleRows, or list the keys to read in `column`"
                    ));
                }
            }
        }
        lines.text.push_str(text);
        lines.rows.push((number, start..lines.text.len()));
        Ok(())
    }

    async fn convert(&mut self, lines: &mut Lines, origin: &str, output: &mut dyn BatchSender) -> Result<()> {
        for misfit in self.assembler.add(&*lines, lines.text.len()) {
            let (number, place) = lines.rows[misfit.row].clone();
            let column = self.request.columns.get(misfit.column).map(|c| c.field.name().clone());
            output.reject(dirty(&lines.text[place], number, origin, column, &misfit.reason)).await?;
        }
        lines.text.clear();
        lines.values.clear();
        lines.rows.clear();
        Ok(())
    }

    async fn send(&mut self, output: &mut dyn BatchSender) -> Result<u64> {
        let Some(batch) = self.assembler.take()? else { return Ok(0) };
        let rows = batch.num_rows() as u64;
        output.send(batch).await?;
        Ok(rows)
    }
}

fn dirty(line: &str, number: u64, origin: &str, column: Option<String>, reason: &str) -> DirtyRow {
    let parsed = serde_json::from_str::<IgnoredAny>(line).ok().and_then(|_| members(line));
    let values = match parsed {
        Some(members) => members
            .into_iter()
            .map(|(key, place)| {
                let raw = &line[place];
                let value = match raw.as_bytes().first() {
                    Some(b'n') => Value::Null,
                    Some(b'"') => Value::String(unescaped(&raw[1..raw.len() - 1]).into_owned()),
                    _ => Value::String(raw.to_owned()),
                };
                (unescaped(key).into_owned(), value)
            })
            .collect(),
        None => Map::from_iter([("line".to_owned(), Value::String(line.to_owned()))]),
    };
    DirtyRow { values, column, reason: format!("line {number}{origin}: {reason}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_as_written() {
        let text = r#" { "a" : 1.10 ,"b\"c":"x\\\"}","d":{"e":[1,"]}"]}, "f":null}"#;
        let found: Vec<_> = members(text).unwrap().into_iter().map(|(k, v)| (unescaped(k), &text[v])).collect();
        assert_eq!(
            found.iter().map(|(k, v)| (k.as_ref(), *v)).collect::<Vec<_>>(),
            [("a", "1.10"), ("b\"c", r#""x\\\"}""#), ("d", r#"{"e":[1,"]}"]}"#), ("f", "null")]
        );
        assert!(members("[1]").is_none());
        assert_eq!(members("{}").unwrap().len(), 0);
    }
}
