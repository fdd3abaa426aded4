//! Rows as lines: CSV, unquoted text, JSON lines, INSERT statements.

use arrow::array::RecordBatch;
use arrow::json::writer::EncoderOptions;
use memchr::memchr;
use serde::de::IgnoredAny;
use weir_core::{DirtyRow, Refused, Result, WritePlan};
use weir_files::{Encode, Format, Pack};

use crate::plan::{Quotes, Rules};
use crate::render::{Render, Shape};

/// Writes rows as lines of text.
pub(crate) struct TextEncoder {
    rules: Rules,
    names: Vec<String>,
    /// For JSON: what stands before each value; for SQL: what stands before each row.
    leads: Vec<String>,
    encode: Encode,
    pack: Pack,
    options: EncoderOptions,
}

impl TextEncoder {
    pub(crate) fn new(rules: &Rules, plan: &WritePlan) -> Result<Self> {
        let names: Vec<String> = plan.columns.iter().map(|c| c.name.clone()).collect();
        let leads = match rules.format {
            Format::Sql => {
                let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
                let columns: Vec<_> = names.iter().map(|n| quoted(n)).collect();
                let table = rules.table.as_deref().unwrap_or_default().split('.').map(quoted).collect::<Vec<_>>();
                vec![format!("INSERT INTO {} ({}) VALUES (", table.join("."), columns.join(", "))]
            }
            _ => names
                .iter()
                .enumerate()
                .map(|(i, name)| {
                    format!("{}{}:", if i == 0 { "{" } else { "," }, serde_json::Value::from(name.as_str()))
                })
                .collect(),
        };
        Ok(Self {
            names,
            leads,
            encode: Encode::new(rules.encoding),
            pack: Pack::new(rules.compression)?,
            options: EncoderOptions::default().with_explicit_nulls(true),
            rules: rules.clone(),
        })
    }

    /// Writes the header line, where there is one.
    pub(crate) fn header(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let names = match (&self.rules.header, self.rules.format) {
            (Some(names), Format::Csv | Format::Text) => names.as_ref().unwrap_or(&self.names),
            _ => return Ok(()),
        };
        let mut line = String::new();
        for (i, name) in names.iter().enumerate() {
            if i > 0 {
                line.push_str(&self.rules.delimiter);
            }
            if !self.field(name, &mut line) {
                line.push_str(name);
            }
        }
        line.push_str(&self.rules.line_end);
        let mut bytes = Vec::new();
        self.encode.encode(&line, &mut bytes).map_err(|c| {
            weir_core::Error::config(format!("the header has `{c}`, for which the encoding has no code: use UTF-8"))
        })?;
        Ok(self.pack.write(&bytes, out)?)
    }

    /// Writes rows; adds those that the format or the encoding cannot hold to `refused`.
    pub(crate) fn write(&mut self, batch: &RecordBatch, out: &mut Vec<u8>, refused: &mut Refused) -> Result<()> {
        let schema = batch.schema();
        let options = self.options.clone();
        let pattern = self.rules.date_pattern.clone();
        let mut columns = Vec::new();
        for (array, field) in batch.columns().iter().zip(schema.fields()) {
            columns.push(Render::new(array, field, pattern.as_ref(), &options)?);
        }
        let (mut bytes, mut line, mut value) = (Vec::new(), String::new(), String::new());
        for row in 0..batch.num_rows() {
            line.clear();
            let mut fault = None;
            if self.rules.format == Format::Sql {
                line.push_str(&self.leads[0]);
            }
            for (i, column) in columns.iter_mut().enumerate() {
                let result = match self.rules.format {
                    Format::Jsonl => self.json(column, i, row, &mut line, &mut value),
                    Format::Sql => sql(column, i, row, &mut line, &mut value),
                    _ => self.separated(column, i, row, &mut line, &mut value),
                };
                if let Err(reason) = result {
                    fault = Some((Some(schema.field(i).name().clone()), reason));
                    break;
                }
            }
            match self.rules.format {
                Format::Jsonl => line.push_str(if columns.is_empty() { "{}\n" } else { "}\n" }),
                Format::Sql => line.push_str(");\n"),
                _ => line.push_str(&self.rules.line_end),
            }
            if fault.is_none() {
                fault = self
                    .encode
                    .encode(&line, &mut bytes)
                    .err()
                    .map(|c| (None, format!("the encoding has no code for `{c}`: use UTF-8")));
            }
            if let Some((column, reason)) = fault {
                refused.add(DirtyRow::of_batch(batch, row, column, reason))?;
            }
        }
        Ok(self.pack.write(&bytes, out)?)
    }

    /// Ends the file.
    pub(crate) fn finish(self, out: &mut Vec<u8>) -> Result<()> {
        Ok(self.pack.finish(out)?)
    }

    fn separated(
        &self,
        column: &mut Render<'_>,
        index: usize,
        row: usize,
        line: &mut String,
        value: &mut String,
    ) -> Result<(), String> {
        if index > 0 {
            line.push_str(&self.rules.delimiter);
        }
        if column.is_null(row) {
            line.push_str(&self.rules.null_format);
            return Ok(());
        }
        let text = match column.borrowed(row) {
            Some(text) => text,
            None => {
                value.clear();
                column.write(row, value).map_err(|e| e.to_string())?;
                value.as_str()
            }
        };
        if self.field(text, line) {
            return Ok(());
        }
        Err("the value holds a delimiter or line end, which unquoted text cannot: write csv (fileFormat csv)".into())
    }

    /// Adds a field with the quotes it needs; `false` when it needs quotes and may have none.
    fn field(&self, text: &str, line: &mut String) -> bool {
        let rules = &self.rules;
        let first = rules.delimiter.as_bytes()[0];
        let quote = rules.quote as u8;
        let mut special = text.bytes().any(|b| b == first || b == quote || b == b'\n' || b == b'\r');
        // At a file's start this would be taken for a byte order mark.
        special |= text.starts_with('\u{feff}');
        match rules.quotes {
            Quotes::None => {
                let breaks = special && (text.contains(rules.delimiter.as_str()) || text.contains(['\n', '\r']));
                if !breaks {
                    line.push_str(text);
                }
                return !breaks;
            }
            // A text that reads as NULL is quoted, so that both survive.
            Quotes::Necessary if !special && text != rules.null_format && !text.is_empty() => {
                line.push_str(text);
                return true;
            }
            _ => {}
        }
        line.push(rules.quote);
        if memchr(quote, text.as_bytes()).is_none() {
            line.push_str(text);
        } else {
            for part in text.split_inclusive(rules.quote) {
                line.push_str(part);
                if part.ends_with(rules.quote) {
                    line.push(rules.quote);
                }
            }
        }
        line.push(rules.quote);
        true
    }

    fn json(
        &self,
        column: &mut Render<'_>,
        index: usize,
        row: usize,
        line: &mut String,
        value: &mut String,
    ) -> Result<(), String> {
        line.push_str(&self.leads[index]);
        if column.is_null(row) {
            line.push_str("null");
            return Ok(());
        }
        value.clear();
        column.write(row, value).map_err(|e| e.to_string())?;
        match column.shape {
            Shape::Json if value.trim() == "null" => {
                return Err("a JSON null would be read as NULL from JSON lines".into());
            }
            Shape::Json => {
                serde_json::from_str::<IgnoredAny>(value).map_err(|e| format!("the value is no JSON: {e}"))?;
                // Line ends outside strings are mere space, and inside strings they are escaped.
                line.extend(value.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }));
            }
            Shape::Plain if is_json_scalar(value) => line.push_str(value),
            // NaN and infinities have no JSON number.
            _ => escape(value, line),
        }
        Ok(())
    }
}

fn sql(column: &mut Render<'_>, index: usize, row: usize, line: &mut String, value: &mut String) -> Result<(), String> {
    if index > 0 {
        line.push_str(", ");
    }
    if column.is_null(row) {
        line.push_str("NULL");
        return Ok(());
    }
    value.clear();
    column.write(row, value).map_err(|e| e.to_string())?;
    if column.shape == Shape::Plain && is_json_scalar(value) {
        line.push_str(value);
    } else {
        line.push('\'');
        line.push_str(&value.replace('\'', "''"));
        line.push('\'');
    }
    Ok(())
}

fn is_json_scalar(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let ends = [digits.as_bytes().first(), digits.as_bytes().last()];
    // `007` is a number nowhere else.
    let padded = digits.len() > 1 && digits.starts_with('0') && !matches!(digits.as_bytes()[1], b'.' | b'e' | b'E');
    let number = !padded && ends.iter().all(|end| end.is_some_and(u8::is_ascii_digit));
    number || matches!(text, "true" | "false")
}

fn escape(text: &str, out: &mut String) {
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[from..at]);
        from = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => out.push_str(&format!("\\u{byte:04x}")),
        }
    }
    out.push_str(&text[from..]);
    out.push('"');
}
