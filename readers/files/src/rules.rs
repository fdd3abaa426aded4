//! What the parameters mean, after DataX's and our own defaults.

use serde_json::Value;
use weir_core::{Faults, Form};
use weir_files::{Compression, Format, Pattern, encoding};

use crate::cells::NullRule;
use crate::config::{ColumnEntry, Config, CsvReaderConfig, ListedColumn};
use crate::csv::Header;
use crate::kinds::Kind;
use crate::scan::Dialect;

/// A column of the job's list.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) index: Option<usize>,
    pub(crate) name: Option<String>,
    pub(crate) kind: Option<Kind>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) hex: bool,
    pub(crate) value: Option<String>,
}

impl Listed {
    /// Whether nothing about it is left to the files.
    pub(crate) fn is_complete(&self) -> bool {
        self.kind.is_some() && (self.value.is_some() || self.index.is_some())
    }
}

/// How files are read.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) format: Option<Format>,
    pub(crate) compression: Option<Compression>,
    pub(crate) listed: Option<Vec<Listed>>,
    pub(crate) header: Header,
    pub(crate) encoding: &'static encoding_rs::Encoding,
    pub(crate) skip_lines: u64,
    pub(crate) sample_rows: u64,
    pub(crate) nulls: NullRule,
    pub(crate) trim: bool,
    /// Every line end ends a record, quoted or not.
    pub(crate) one_line: bool,
    /// DataX: columns without a type are text.
    pub(crate) untyped_is_text: bool,
    /// DataX: more fields than the list names are no fault.
    pub(crate) lenient_width: bool,
    pub(crate) warnings: Vec<String>,
    delimiter: Option<String>,
    quote: Option<u8>,
    escape: Option<u8>,
    comment: Option<u8>,
    skip_empty: Option<bool>,
}

impl Rules {
    pub(crate) fn new(config: &Config, form: Form, faults: &mut Faults) -> Self {
        let data_x = form == Form::DataX;
        let csv = config.csv_reader_config.clone().unwrap_or_default();
        let format = [("/format", &config.format), ("/fileFormat", &config.file_format)];
        let format = format.into_iter().find_map(|(p, text)| Some(kept(faults, p, Format::parse(text.as_ref()?))));
        if format == Some(Some(Format::Sql)) {
            faults.add("/format", "files of SQL statements cannot be read: run them with the database's own tool");
        }
        let compression = config.compress.as_ref().and_then(|t| kept(faults, "/compress", Compression::parse(t)));
        let text = config.encoding.as_deref().unwrap_or("UTF-8");
        let encoding = kept(faults, "/encoding", encoding(text)).unwrap_or(encoding_rs::UTF_8);
        let header = match (config.header, config.skip_header) {
            (Some(true), _) => Header::Names,
            (_, Some(true)) if !data_x => Header::Names,
            (_, Some(true)) => Header::Skip,
            (Some(false), _) => Header::None,
            (None, Some(false)) => Header::None,
            (None, None) if data_x => Header::None,
            (None, None) => Header::Names,
        };
        let (quote, escape, comment) = signs(config, &csv, faults);
        Self {
            format: format.flatten(),
            compression,
            listed: listed(config, data_x, faults),
            header,
            encoding,
            skip_lines: config.skip_lines,
            sample_rows: config.sample_rows.unwrap_or(1000),
            nulls: NullRule {
                null_format: config.null_format.clone(),
                empty_as_null: config.empty_as_null.unwrap_or(false),
                empty_is_text: data_x,
            },
            trim: config.trim.or(csv.trim_whitespace).unwrap_or(data_x),
            one_line: config.multiline == Some(false),
            untyped_is_text: data_x,
            lenient_width: data_x,
            warnings: Vec::new(),
            delimiter: config.delimiter.clone().or(config.field_delimiter.clone()).or(csv.delimiter),
            quote,
            escape,
            comment,
            skip_empty: csv.skip_empty_records,
        }
        .checked(faults)
    }

    fn checked(self, faults: &mut Faults) -> Self {
        let delimiter = self.delimiter.as_deref().unwrap_or(",");
        let first = delimiter.bytes().next();
        if delimiter.is_empty() || delimiter.contains(['\n', '\r']) || (self.quote.is_some() && first == self.quote) {
            faults.add("/delimiter", "the delimiter may be neither a line end nor the quote");
        }
        self
    }

    /// How records look in a file of `width` columns (0: not known yet).
    pub(crate) fn dialect(&self, tabs: bool, width: usize) -> Dialect {
        let delimiter = self.delimiter.as_deref().unwrap_or(if tabs { "\t" } else { "," });
        let mut dialect = Dialect::new(delimiter.as_bytes(), self.quote);
        dialect.escape = self.escape;
        dialect.comment = self.comment;
        dialect.trim = self.trim;
        // Where there is one column, an empty line is a row with a NULL.
        dialect.skip_empty = self.skip_empty.unwrap_or(width != 1 || self.untyped_is_text);
        dialect
    }
}

fn kept<T>(faults: &mut Faults, pointer: &str, result: Result<T, String>) -> Option<T> {
    result.map_err(|message| faults.add(pointer, message)).ok()
}

fn signs(config: &Config, csv: &CsvReaderConfig, faults: &mut Faults) -> (Option<u8>, Option<u8>, Option<u8>) {
    let mut sign = |pointer: &str, text: Option<&String>| match text.map(|t| t.as_bytes()) {
        None => None,
        Some([byte]) if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Some(*byte),
        Some(_) => {
            faults.add(pointer, "must be one ASCII character");
            None
        }
    };
    let quote = config.quote.as_ref().or(csv.text_qualifier.as_ref());
    let none = quote.is_some_and(|q| q == "none") || csv.use_text_qualifier == Some(false);
    let quote = if none { None } else { Some(sign("/quote", quote).unwrap_or(b'"')) };
    let escape = sign("/escape", config.escape.as_ref()).or((csv.escape_mode == Some(2)).then_some(b'\\'));
    let comments = csv.comment.as_ref().filter(|_| csv.use_comments == Some(true));
    let comment = sign("/comment", config.comment.as_ref().or(comments));
    let comment = comment.or((csv.use_comments == Some(true)).then_some(b'#'));
    if csv.record_delimiter.as_deref().is_some_and(|d| !matches!(d, "\n" | "\r\n" | "\r")) {
        faults.add(
            "/csvReaderConfig/recordDelimiter",
            "records end at line ends: other record delimiters are not supported",
        );
    }
    (quote, escape, comment)
}

fn listed(config: &Config, data_x: bool, faults: &mut Faults) -> Option<Vec<Listed>> {
    let entries = config.column.as_slice();
    if entries.is_empty() || matches!(entries, [ColumnEntry::Name(name)] if name == "*") {
        return None;
    }
    let resolve = |(i, entry): (usize, &ColumnEntry)| {
        let column = match entry {
            ColumnEntry::Name(name) if name == "*" => {
                faults.add(format!("/column/{i}"), "`*` stands for all columns and must stand alone");
                ListedColumn::default()
            }
            ColumnEntry::Name(name) => ListedColumn { name: Some(name.clone()), ..Default::default() },
            ColumnEntry::Column(column) => column.clone(),
        };
        if column.index.is_none() && column.name.is_none() && column.value.is_none() {
            faults.add(format!("/column/{i}"), "the column needs `index`, `name` or `value`");
        }
        let is_bytes =
            column.kind.as_deref().is_some_and(|k| matches!(k.to_ascii_lowercase().as_str(), "bytes" | "binary"));
        let mut hex = !data_x;
        let mut pattern = None;
        match column.format.as_deref() {
            Some(format) if is_bytes => match format.to_ascii_lowercase().as_str() {
                "hex" => hex = true,
                "text" => hex = false,
                _ => faults.add(format!("/column/{i}/format"), "bytes are written as `hex` or `text`"),
            },
            Some(format) => pattern = kept(faults, &format!("/column/{i}/format"), Pattern::new(format)),
            None => {}
        }
        let kind = column.kind.as_deref().map(|k| Kind::parse(k, pattern.as_ref(), data_x));
        let kind = kind.and_then(|k| kept(faults, &format!("/column/{i}/type"), k));
        let value = column.value.map(|value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        });
        Listed {
            index: column.index.map(|i| i as usize),
            name: column.name,
            kind: kind.or(data_x.then_some(Kind::Text)),
            pattern,
            hex,
            value,
        }
    };
    Some(entries.iter().enumerate().map(resolve).collect())
}
