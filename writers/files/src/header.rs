//! Rows that are appended stand under the header that is there: it has to be theirs.

use tokio_util::sync::CancellationToken;
use weir_core::{Error, ErrorKind, Result};
use weir_files::{Entry, Format, TextSource, split_extension};

use crate::plan::{Mode, Rules};

/// The longest header that is looked for.
const MAX: usize = 4 << 20;

/// Compares the header of the first file that is there with the columns to append.
///
/// # Errors
/// [`Schema`](ErrorKind::Schema) when they differ.
pub(crate) async fn compare(
    rules: &Rules,
    columns: &[&str],
    existing: &[Entry],
    cancel: &CancellationToken,
) -> Result<()> {
    let (Mode::Append, Some(own), Format::Csv | Format::Text) = (rules.mode, &rules.header, rules.format) else {
        return Ok(());
    };
    let Some(file) = existing.iter().find(|e| e.size > 0) else { return Ok(()) };
    let compression = match rules.single {
        Some(_) => rules.compression,
        None => split_extension(&file.path, weir_core::Form::Native).1,
    };
    let store = &rules.location.store;
    let mut source = TextSource::open(store, &file.path, compression, rules.encoding, cancel).await?;
    let mut text = Vec::new();
    let found = loop {
        let more = source.fill(&mut text, 64 << 10).await?;
        let known = String::from_utf8_lossy(&text);
        if let Some(fields) = fields(&known, rules, !more) {
            break fields;
        }
        if !more || text.len() > MAX {
            break Vec::new();
        }
    };
    let wanted: Vec<&str> =
        own.as_ref().map_or_else(|| columns.to_vec(), |own| own.iter().map(String::as_str).collect());
    if found == wanted {
        return Ok(());
    }
    let message = format!(
        "the file's first line is not the header of these rows: it has {}, and the rows have {}; map the columns onto it, \
         set `header` to false for a file without one, or write to another file",
        list(&found),
        list(&wanted)
    );
    Err(Error::new(ErrorKind::Schema, message).with("file", store.display(&file.path)))
}

fn list<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<String> = names.iter().take(20).map(|n| format!("`{}`", n.as_ref())).collect();
    if names.len() > 20 { format!("{} and {} more", shown.join(", "), names.len() - 20) } else { shown.join(", ") }
}

/// The fields of the first line; `None` when it does not end in `text` and there is more.
fn fields(text: &str, rules: &Rules, end: bool) -> Option<Vec<String>> {
    let (mut fields, mut field, mut rest, mut quoted) = (Vec::new(), String::new(), text, false);
    loop {
        if quoted {
            let close = rest.find(rules.quote);
            let Some(close) = close else {
                return end.then_some(fields);
            };
            field.push_str(&rest[..close]);
            rest = &rest[close + 1..];
            if rest.starts_with(rules.quote) {
                field.push(rules.quote);
                rest = &rest[1..];
            } else {
                quoted = false;
            }
            continue;
        }
        if let Some(after) = rest.strip_prefix(rules.delimiter.as_str()) {
            fields.push(std::mem::take(&mut field));
            rest = after;
            continue;
        }
        match rest.chars().next() {
            Some('\n') => break,
            Some('\r') => rest = &rest[1..],
            Some(c) if c == rules.quote && field.is_empty() && rules.format == Format::Csv => {
                quoted = true;
                rest = &rest[1..];
            }
            Some(c) => {
                field.push(c);
                rest = &rest[c.len_utf8()..];
            }
            None if end => break,
            None => return None,
        }
    }
    fields.push(field);
    Some(fields)
}
