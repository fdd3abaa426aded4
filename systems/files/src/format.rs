//! What a file's name says about its content.

use weir_core::Form;

/// The format of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Separated values, quoted where needed.
    Csv,
    /// Separated values without quotes: DataX's `text`.
    Text,
    /// INSERT statements: DataX's `sql`, written only.
    Sql,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, the file and the stream form.
    Arrow,
}

/// How a whole file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip, of one or more members.
    Gzip,
    /// Zstandard, of one or more frames.
    Zstd,
    /// bzip2, of one or more streams.
    Bzip2,
    /// Snappy in its framed form.
    Snappy,
    /// A ZIP archive of one file; read only.
    Zip,
}

impl Format {
    /// Understands a `format` parameter.
    ///
    /// # Errors
    /// A text that says which formats there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "csv" | "tsv" => Ok(Self::Csv),
            "text" | "txt" => Ok(Self::Text),
            "sql" => Ok(Self::Sql),
            "jsonl" | "ndjson" | "json" | "jsonlines" => Ok(Self::Jsonl),
            "parquet" => Ok(Self::Parquet),
            "arrow" | "ipc" | "feather" => Ok(Self::Arrow),
            "orc" | "avro" | "excel" | "xlsx" | "binary" => {
                Err(format!("format `{text}` is not supported: use csv, jsonl, parquet or arrow"))
            }
            _ => Err(format!("`{text}` is no known format: use csv, jsonl, parquet or arrow")),
        }
    }

    /// The extension of new files.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Text => "txt",
            Self::Sql => "sql",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }

    /// Whether rows are lines of text, so that whole files can be compressed and joined end to end.
    pub fn is_text(self) -> bool {
        !matches!(self, Self::Parquet | Self::Arrow)
    }
}

impl Compression {
    /// Understands a `compress` parameter of a text format.
    ///
    /// # Errors
    /// A text that says which compressions there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "none" | "" => Ok(Self::None),
            "gzip" | "gz" => Ok(Self::Gzip),
            "zstd" | "zst" => Ok(Self::Zstd),
            "bzip2" | "bz2" | "bzip" => Ok(Self::Bzip2),
            "snappy" | "sz" | "framing-snappy" => Ok(Self::Snappy),
            "zip" => Ok(Self::Zip),
            "lzo" | "lzo_deflate" | "hadoop-snappy" | "lz4" | "deflate" | "xz" => Err(format!(
                "compression `{text}` is not supported: unpack the files, or use gzip, zstd, bzip2, zip or snappy (framed)"
            )),
            _ => Err(format!("`{text}` is no known compression: use gzip, zstd, bzip2, zip or snappy")),
        }
    }

    /// The extension that files of this compression end in, with its dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
            Self::Bzip2 => ".bz2",
            Self::Snappy => ".sz",
            Self::Zip => ".zip",
        }
    }
}

/// What the end of a file name says: format, compression, and whether it is a `.tsv`.
pub fn split_extension(path: &str, form: Form) -> (Option<Format>, Compression, bool) {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let packed = [Compression::Gzip, Compression::Zstd, Compression::Bzip2, Compression::Snappy, Compression::Zip];
    let (stem, compression) = packed
        .into_iter()
        .find_map(|c| Some((name.strip_suffix(c.extension())?, c)))
        .unwrap_or((&name, Compression::None));
    let extension = stem.rsplit_once('.').map(|(_, e)| e);
    let format = match extension {
        Some("csv" | "tsv" | "tab") => Some(Format::Csv),
        Some("txt") => Some(if form == Form::DataX { Format::Text } else { Format::Csv }),
        Some("jsonl" | "ndjson") => Some(Format::Jsonl),
        Some("parquet") => Some(Format::Parquet),
        Some("arrow" | "ipc" | "feather" | "arrows") => Some(Format::Arrow),
        _ => None,
    };
    (format, compression, matches!(extension, Some("tsv" | "tab")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_inside() {
        assert_eq!(split_extension("a/b.csv.gz", Form::Native), (Some(Format::Csv), Compression::Gzip, false));
        assert_eq!(split_extension("B.TSV", Form::Native), (Some(Format::Csv), Compression::None, true));
        assert_eq!(split_extension("x.d/part-0.parquet", Form::Native).0, Some(Format::Parquet));
        assert_eq!(split_extension("x.csv/readme", Form::Native).0, None);
        assert_eq!(split_extension("x.csv.zip", Form::Native), (Some(Format::Csv), Compression::Zip, false));
        assert!(Compression::parse("lzo").unwrap_err().contains("lzo"));
    }
}
