//! What the parameters mean, after DataX's and our own defaults, and where files go.

use std::sync::Arc;

use parquet::basic::{Compression as ParquetCompression, ZstdLevel};
use weir_core::{Faults, Form, OnEmpty};
use weir_files::{Compression, Format, Location, Pattern, encoding, split_extension};

use crate::config::{Config, Header};
use crate::row_groups::RowGroups;

/// What happens to what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Truncate,
    Append,
    NonConflict,
}

/// Which fields are quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quotes {
    Necessary,
    All,
    None,
}

/// How and where files are written.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) location: Location,
    /// One file, by name, in `folder`; else many.
    pub(crate) single: Option<String>,
    /// The folder that files appear in.
    pub(crate) folder: String,
    /// DataX: what names begin with.
    pub(crate) prefix: Option<String>,
    pub(crate) suffix: String,
    pub(crate) format: Format,
    pub(crate) compression: Compression,
    pub(crate) parquet_compression: ParquetCompression,
    pub(crate) arrow_compression: Option<String>,
    pub(crate) mode: Mode,
    /// Whether there is a header, and names of its own for it.
    pub(crate) header: Option<Option<Vec<String>>>,
    pub(crate) delimiter: String,
    pub(crate) quote: char,
    pub(crate) quotes: Quotes,
    pub(crate) null_format: String,
    pub(crate) encoding: &'static encoding_rs::Encoding,
    pub(crate) date_pattern: Option<Pattern>,
    /// The same, as the job has it.
    pub(crate) date_text: Option<String>,
    pub(crate) line_end: String,
    pub(crate) target_size: u64,
    pub(crate) on_empty: OnEmpty,
    /// The key columns that the job names, none for the source's own; `None` where no keys are compared.
    pub(crate) compared: Option<Vec<String>>,
    pub(crate) table: Option<String>,
    /// What the row groups of the run may take together.
    pub(crate) row_groups: Arc<RowGroups>,
}

impl Rules {
    pub(crate) fn new(config: &Config, location: Location, form: Form, faults: &mut Faults) -> Self {
        let data_x = form == Form::DataX;
        let path = location.path.trim_end_matches('/').to_owned();
        let (by_name, packed, tabs) = split_extension(&path, form);
        let is_file = by_name.is_some() && !location.path.ends_with('/') && !data_x;
        // Old DataX jobs have the pattern of dates as `format`.
        let is_pattern = |text: &&String| data_x && Format::parse(text).is_err() && text.contains("yy");
        let old_pattern = config.format.as_ref().filter(is_pattern);
        let named = config.format.as_ref().filter(|_| old_pattern.is_none()).or(config.file_format.as_ref());
        let format = named.and_then(|t| Format::parse(t).map_err(|m| faults.add("/format", m)).ok());
        let format = format.or(by_name.filter(|_| is_file)).or(data_x.then_some(Format::Text));
        let compared = config.compared(format, faults);
        let format = format.unwrap_or_else(|| {
            if named.is_none() {
                faults.add("/format", "`path` is a folder: give the format of its files, csv, jsonl, parquet or arrow");
            }
            Format::Csv
        });
        let (folder, single) = match path.rsplit_once('/') {
            _ if !is_file => (if path.is_empty() { location.path.clone() } else { path }, None),
            Some((folder, name)) => (if folder.is_empty() { "/".into() } else { folder.into() }, Some(name.to_owned())),
            None => (String::new(), Some(path)),
        };
        if data_x && config.file_name.is_none() {
            faults.add("/fileName", "`fileName` is missing: the names of the files begin with it");
        }
        let compress = config.compress.as_deref().map(str::to_ascii_lowercase);
        let mut compression = if is_file { packed } else { Compression::None };
        let (mut parquet_compression, mut arrow_compression) = (ParquetCompression::ZSTD(ZstdLevel::default()), None);
        match (format, compress.as_deref()) {
            (Format::Parquet, Some(text)) => match text {
                "zstd" => {}
                "snappy" => parquet_compression = ParquetCompression::SNAPPY,
                "gzip" => parquet_compression = ParquetCompression::GZIP(Default::default()),
                "lz4" => parquet_compression = ParquetCompression::LZ4_RAW,
                "none" => parquet_compression = ParquetCompression::UNCOMPRESSED,
                _ => faults.add("/compress", "Parquet is compressed with zstd, snappy, gzip, lz4 or none"),
            },
            (Format::Arrow, Some("zstd" | "lz4")) => arrow_compression = compress,
            (Format::Arrow, Some("none")) => {}
            (Format::Arrow, Some(_)) => faults.add("/compress", "Arrow files are compressed with zstd, lz4 or none"),
            (_, Some(text)) => match Compression::parse(text) {
                Ok(found) => compression = found,
                Err(message) => faults.add("/compress", message),
            },
            _ => {}
        }
        if compression == Compression::Zip {
            faults.add("/compress", "ZIP archives are read and not written: use gzip, zstd, bzip2 or snappy");
        }
        if !format.is_text() && compression != Compression::None {
            faults.add("/path", "Parquet and Arrow files compress inside: leave the second extension out");
        }
        let extension = format!(".{}{}", format.extension(), compression.extension());
        let delimiter = config.delimiter.clone().or(config.field_delimiter.clone());
        let delimiter = delimiter.unwrap_or_else(|| if tabs { "\t".into() } else { ",".into() });
        let quote = one_char(config.quote.as_deref(), faults);
        if delimiter.is_empty() || delimiter.contains(['\n', '\r', quote]) {
            faults.add("/delimiter", "the delimiter may hold neither a line end nor the quote");
        }
        let quotes = match config.quote_style.as_deref().map(str::to_ascii_lowercase).as_deref() {
            _ if format == Format::Text => Quotes::None,
            None | Some("necessary" | "minimal") => Quotes::Necessary,
            Some("all" | "always") => Quotes::All,
            Some("none" | "never") => Quotes::None,
            Some(_) => {
                faults.add("/quoteStyle", "must be necessary, all or none");
                Quotes::Necessary
            }
        };
        let text = config.encoding.as_deref().unwrap_or("UTF-8");
        let encoding = encoding(text).map_err(|m| faults.add("/encoding", m)).unwrap_or(encoding_rs::UTF_8);
        let date_text = config.date_format.as_ref().or(old_pattern).cloned();
        let date = date_text.as_deref().map(Pattern::new);
        let date_pattern = date.and_then(|p| p.map_err(|m| faults.add("/dateFormat", m)).ok());
        if format == Format::Sql && config.table.is_none() {
            faults.add("/table", "`table` is missing: `sql` files insert into it");
        }
        if config.line_delimiter.as_deref().is_some_and(|d| !matches!(d, "\n" | "\r\n" | "\\n" | "\\r\\n")) {
            faults.add("/lineDelimiter", "must be \\n or \\r\\n");
        }
        let windows = config.line_delimiter.as_deref().is_some_and(|d| d.contains('r') || d.contains('\r'));
        let default_header = format == Format::Csv && !data_x;
        Self {
            mode: mode(config.write_mode.as_deref(), faults),
            header: match &config.header {
                None | Some(Header::On(true)) if default_header || config.header.is_some() => Some(None),
                Some(Header::Names(names)) => Some(Some(names.clone())),
                _ => None,
            },
            suffix: config.suffix.clone().unwrap_or_else(|| if data_x { String::new() } else { extension }),
            prefix: config.file_name.clone(),
            null_format: config
                .null_format
                .clone()
                .unwrap_or_else(|| if data_x { "null".into() } else { String::new() }),
            line_end: if windows { "\r\n".into() } else { "\n".into() },
            target_size: config.target_file_size.unwrap_or(256 << 20),
            on_empty: config.on_empty,
            table: config.table.clone(),
            row_groups: Arc::default(),
            location,
            single,
            folder,
            format,
            compression,
            compared,
            parquet_compression,
            arrow_compression,
            delimiter,
            quote,
            quotes,
            encoding,
            date_pattern,
            date_text,
        }
    }

    /// A path in the folder.
    pub(crate) fn place(&self, name: &str) -> String {
        match self.folder.as_str() {
            "" => name.to_owned(),
            "/" => format!("/{name}"),
            folder => format!("{folder}/{name}"),
        }
    }

    /// The hidden folder of a run, shared by all its targets in the same folder.
    pub(crate) fn run_folder(&self, run_id: &str) -> String {
        self.place(&format!(".weir-{run_id}"))
    }

    /// Where this target's parts are staged.
    pub(crate) fn staging(&self, run_id: &str) -> String {
        let own = self.single.as_deref().or(self.prefix.as_deref()).unwrap_or("parts");
        format!("{}/{own}", self.run_folder(run_id))
    }

    /// The name that a part gets in the folder.
    pub(crate) fn part_name(&self, run_id: &str, split: u32, number: u32) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}__{run_id}_{split}_{number}{}", self.suffix),
            None => format!("part-{run_id}-{split:05}-{number}{}", self.suffix),
        }
    }

    /// Whether a file of the folder, by name, is what this target's rows live in.
    pub(crate) fn owns(&self, name: &str) -> bool {
        match (&self.single, &self.prefix) {
            (Some(single), _) => name == single,
            (None, Some(prefix)) => name.starts_with(prefix.as_str()),
            (None, None) => split_extension(name, Form::Native).0 == Some(self.format),
        }
    }

    /// The target as reports show it.
    pub(crate) fn display(&self) -> String {
        match &self.prefix {
            Some(prefix) if self.single.is_none() => self.location.store.display(&self.place(&format!("{prefix}__*"))),
            _ => self.location.display(),
        }
    }
}

fn one_char(text: Option<&str>, faults: &mut Faults) -> char {
    match text.unwrap_or("\"").as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => *byte as char,
        _ => {
            faults.add("/quote", "must be one ASCII character");
            '"'
        }
    }
}

fn mode(text: Option<&str>, faults: &mut Faults) -> Mode {
    let Some(text) = text else {
        faults.add("/writeMode", "`writeMode` is missing: write truncate, append or nonConflict");
        return Mode::NonConflict;
    };
    match text.trim().to_ascii_lowercase().as_str() {
        "truncate" | "overwrite" => return Mode::Truncate,
        "append" | "insert" => return Mode::Append,
        "nonconflict" => return Mode::NonConflict,
        "upsert" | "update" | "replace" | "ignore" | "insert ignore" => {
            faults.add(
                "/writeMode",
                format!("files cannot do `{text}`, for their rows have no keys: use truncate, append or nonConflict"),
            );
        }
        _ => faults.add("/writeMode", format!("`{text}` is no write mode: use truncate, append or nonConflict")),
    }
    Mode::NonConflict
}
