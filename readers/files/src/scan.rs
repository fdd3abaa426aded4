//! Records and fields of separated values, found in a buffer without copying.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr2};

/// How a file separates and quotes.
#[derive(Debug, Clone)]
pub(crate) struct Dialect {
    /// One byte or more; its first byte is neither the quote nor a line end.
    pub(crate) delimiter: Vec<u8>,
    pub(crate) quote: Option<u8>,
    /// What stands before a quote inside quotes; `None`: the quote is doubled.
    pub(crate) escape: Option<u8>,
    pub(crate) comment: Option<u8>,
    pub(crate) trim: bool,
    pub(crate) skip_empty: bool,
    /// Bytes at which an unquoted field may end.
    stops: Box<[bool; 256]>,
}

/// Where a field stands in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) quoted: bool,
    /// Whether it holds quotes or escapes that are not part of the value.
    pub(crate) escaped: bool,
}

/// What stands at a position of the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A record, whose fields were added to the list; it ends before `next` and spans `lines` line ends.
    Record { next: usize, lines: u64, fault: Option<&'static str> },
    /// An empty line or a comment.
    Nothing { next: usize },
    /// The record's end is not in the buffer yet.
    More,
}

impl Dialect {
    pub(crate) fn new(delimiter: &[u8], quote: Option<u8>) -> Self {
        let mut stops = Box::new([false; 256]);
        stops[usize::from(delimiter.first().copied().unwrap_or(b','))] = true;
        stops[usize::from(b'\n')] = true;
        stops[usize::from(b'\r')] = true;
        Self { delimiter: delimiter.to_vec(), quote, escape: None, comment: None, trim: false, skip_empty: true, stops }
    }

    /// Scans the record at `start`. `end`: nothing follows after the buffer.
    pub(crate) fn scan(&self, buffer: &[u8], start: usize, end: bool, spans: &mut Vec<Span>) -> Found {
        let before = spans.len();
        let found = self.fields(buffer, start, end, spans);
        if !matches!(found, Found::Record { .. }) {
            spans.truncate(before);
        }
        found
    }

    fn fields(&self, buffer: &[u8], start: usize, end: bool, spans: &mut Vec<Span>) -> Found {
        match buffer.get(start) {
            None => return Found::More,
            Some(b'\n' | b'\r') if self.skip_empty => {
                return self.line_end(buffer, start, end).map_or(Found::More, |next| Found::Nothing { next });
            }
            Some(first) if self.comment == Some(*first) => {
                return match memchr(b'\n', &buffer[start..]) {
                    Some(at) => Found::Nothing { next: start + at + 1 },
                    None if end => Found::Nothing { next: buffer.len() },
                    None => Found::More,
                };
            }
            Some(_) => {}
        }
        let (mut at, mut lines, mut fault) = (start, 0, None);
        loop {
            let mut open = at;
            if self.trim {
                while matches!(buffer.get(open), Some(b' ' | b'\t')) && buffer[open] != self.delimiter[0] {
                    open += 1;
                }
            }
            let mut span = Span { start: at, end: at, quoted: false, escaped: false };
            if self.quote.is_some() && buffer.get(open).copied() == self.quote {
                match self.quoted(buffer, open + 1, end) {
                    Quoted::More => return Found::More,
                    Quoted::Open => {
                        fault = Some("a quote is opened and never closed");
                        span = Span { start: open + 1, end: buffer.len(), quoted: true, escaped: false };
                        at = buffer.len();
                    }
                    Quoted::Closed { close, escaped } => {
                        span = Span { start: open + 1, end: close, quoted: true, escaped };
                        at = close + 1;
                    }
                }
                lines += memchr_iter(b'\n', &buffer[span.start..span.end]).count() as u64;
            }
            // The rest of the field: all of it when unquoted, nothing or spaces after a closing quote.
            let rest = at;
            loop {
                while at < buffer.len() && !self.stops[usize::from(buffer[at])] {
                    at += 1;
                }
                let here = &buffer[at..];
                let partial = here.len() < self.delimiter.len() && self.delimiter.starts_with(here) && !end;
                if partial || (here.is_empty() && !end) {
                    return Found::More;
                }
                if here.is_empty() || matches!(here[0], b'\n' | b'\r') || self.delimits(here) {
                    break;
                }
                at += 1;
            }
            if !span.quoted {
                span.end = at;
                if self.trim {
                    let text = &buffer[span.start..at];
                    let left = text.len() - text.trim_ascii_start().len();
                    span.start += left;
                    span.end = span.start + text.trim_ascii().len();
                }
            } else if !buffer[rest..at].trim_ascii().is_empty() {
                fault = fault.or(Some("text stands after a closing quote"));
            }
            spans.push(span);
            if at < buffer.len() && self.delimits(&buffer[at..]) {
                at += self.delimiter.len();
                // A delimiter at the very end opens one more field, an empty one.
                if at == buffer.len() && !end {
                    return Found::More;
                }
                continue;
            }
            return match self.line_end(buffer, at, end) {
                Some(next) => Found::Record { next, lines: lines + 1, fault },
                None => Found::More,
            };
        }
    }

    /// Whether a delimiter stands here. It nearly always is one byte, for which a call to compare memory is dear.
    #[inline]
    fn delimits(&self, here: &[u8]) -> bool {
        match self.delimiter.as_slice() {
            [only] => here.first() == Some(only),
            all => here.starts_with(all),
        }
    }

    /// The position after the line end at `at`; `None` when the buffer must show more first.
    fn line_end(&self, buffer: &[u8], at: usize, end: bool) -> Option<usize> {
        match (buffer.get(at), buffer.get(at + 1)) {
            (Some(b'\r'), Some(b'\n')) => Some(at + 2),
            (Some(b'\r'), None) if !end => None,
            (Some(_), _) => Some(at + 1),
            (None, _) => end.then_some(at),
        }
    }

    fn quoted(&self, buffer: &[u8], start: usize, end: bool) -> Quoted {
        let Some(quote) = self.quote else { return Quoted::More };
        let (mut at, mut escaped) = (start, false);
        loop {
            let rest = &buffer[at..];
            let next = match self.escape {
                Some(escape) if escape != quote => memchr2(quote, escape, rest),
                _ => memchr(quote, rest),
            };
            let Some(next) = next.map(|n| at + n) else {
                return if end { Quoted::Open } else { Quoted::More };
            };
            let after = buffer.get(next + 1);
            if after.is_none() && !end {
                return Quoted::More;
            }
            let doubled = buffer[next] == quote && after == Some(&quote) && self.escape.is_none_or(|e| e == quote);
            if buffer[next] != quote || doubled {
                escaped = true;
                at = (next + 2).min(buffer.len());
            } else {
                return Quoted::Closed { close: next, escaped };
            }
        }
    }

    /// The value of a field.
    pub(crate) fn value<'a>(&self, text: &'a str, span: Span) -> Cow<'a, str> {
        if !span.escaped {
            return Cow::Borrowed(text);
        }
        let (quote, escape) = (self.quote.unwrap_or(b'"') as char, self.escape.map(|e| e as char));
        let mut value = String::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match escape {
                Some(escape) if escape != quote && c == escape => match chars.next() {
                    // Only quotes and escapes are escaped; `\n` and `\N` stay as they are.
                    Some(next) if next == quote || next == escape => value.push(next),
                    Some(next) => value.extend([c, next]),
                    None => value.push(c),
                },
                _ => {
                    value.push(c);
                    if c == quote {
                        chars.next();
                    }
                }
            }
        }
        Cow::Owned(value)
    }
}

enum Quoted {
    Closed { close: usize, escaped: bool },
    Open,
    More,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(dialect: &Dialect, text: &str) -> Vec<Vec<String>> {
        // Every prefix length must lead to the same records as the whole: cut the input at each byte.
        let all = scan_in(dialect, text, text.len());
        for size in 1..text.len() {
            assert_eq!(scan_in(dialect, text, size), all, "{size}");
        }
        all
    }

    fn scan_in(dialect: &Dialect, text: &str, size: usize) -> Vec<Vec<String>> {
        let (mut seen, mut at, mut records) = (size.min(text.len()), 0, Vec::new());
        loop {
            let end = seen == text.len();
            if end && at == seen {
                return records;
            }
            let mut spans = Vec::new();
            match dialect.scan(&text.as_bytes()[..seen], at, end, &mut spans) {
                Found::Record { next, fault, .. } => {
                    let value = |s: &Span| dialect.value(&text[s.start..s.end], *s).into_owned();
                    let mut record: Vec<_> = spans.iter().map(value).collect();
                    record.extend(fault.map(|f| format!("! {f}")));
                    records.push(record);
                    at = next;
                }
                Found::Nothing { next } => at = next,
                Found::More => seen = (seen + size).min(text.len()),
            }
        }
    }

    #[test]
    fn fields_are_found_wherever_the_block_ends() {
        let comma = Dialect::new(b",", Some(b'"'));
        assert_eq!(
            records(&comma, "a,b\r\n\n1,\"x\"\"y\n,z\"\n,\r3,"),
            [vec!["a", "b"], vec!["1", "x\"y\n,z"], vec!["", ""], vec!["3", ""]]
        );
        assert_eq!(
            records(&comma, "1,\"a\"b,c\n2,\"open\n"),
            [
                vec!["1", "a", "c", "! text stands after a closing quote"],
                vec!["2", "open\n", "! a quote is opened and never closed"]
            ]
        );
        let wide = Dialect { trim: true, comment: Some(b'#'), ..Dialect::new("||".as_bytes(), None) };
        assert_eq!(records(&wide, "# no\n a |b || \"c\"\n"), [vec!["a |b", "\"c\""]]);
        let escaped = Dialect { escape: Some(b'\\'), ..Dialect::new(b"\t", Some(b'"')) };
        assert_eq!(records(&escaped, "\"a\\\"b\\\\\"\t\"\\n\""), [vec!["a\"b\\", "\\n"]]);
    }
}
