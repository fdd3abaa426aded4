//! The parameters of the files writer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_core::config::OneOrMany;
use weir_core::{DuplicateKeys, Faults, OnEmpty};
use weir_files::{Format, StoreOptions};

/// Parameters of the files writer. Under the name `txtfilewriter` DataX's defaults hold: `path` is a folder, files are
/// called `fileName__<unique>`, there is no header, and NULL is written as `null`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// A file with its extension, written as one file; or a folder, for as many files as there are splits. Paths of this
    /// machine, `file://`, and `s3://bucket/key`.
    pub path: Option<String>,
    /// DataX: what the names of the files in the folder begin with.
    pub file_name: Option<String>,
    /// csv, text (unquoted), jsonl, parquet, arrow or sql (INSERT statements). By default the extension of `path`.
    pub format: Option<String>,
    /// DataX's name for `format`: text (the default there), csv or sql.
    pub file_format: Option<String>,
    /// For text formats gzip, zstd, bzip2 or snappy (framed), by default by the extension of `path`. For Parquet zstd
    /// (the default), snappy, gzip, lz4 or none; for Arrow zstd, lz4 or none (the default).
    pub compress: Option<String>,
    /// truncate (overwrite): replaces the file, or the folder's files of this format, or DataX's files with the prefix.
    /// append: adds rows to the file, or files to the folder. nonConflict: fails if there is anything already.
    pub write_mode: Option<String>,
    /// CSV: whether the first line holds the names (true by default), or the names to write there.
    pub header: Option<Header>,
    /// CSV: what stands between fields; a comma, and a tab for `.tsv`.
    pub delimiter: Option<String>,
    /// DataX's name for `delimiter`.
    pub field_delimiter: Option<String>,
    /// CSV: the quote, one ASCII character; `"` by default.
    pub quote: Option<String>,
    /// CSV: `necessary` (the default) quotes fields that need it, `all` every field but NULLs, `none` nothing: a row whose
    /// values would need quotes is a dirty row then.
    pub quote_style: Option<String>,
    /// The text for NULL; by default an empty unquoted field, under DataX's name `null`.
    #[schemars(extend("x-keep-empty" = true))]
    pub null_format: Option<String>,
    /// The encoding of text formats: UTF-8, GBK, ISO-8859-1, UTF-16LE … A row it has no code for is a dirty row.
    pub encoding: Option<String>,
    /// CSV: the pattern of dates and timestamps, `yyyy-MM-dd HH:mm:ss`.
    pub date_format: Option<String>,
    /// CSV: the line end; `\n` by default.
    pub line_delimiter: Option<String>,
    /// What the names of files in a folder end in; by default the extension of format and compression, under DataX's
    /// name nothing.
    pub suffix: Option<String>,
    /// Bytes after which the next file of a folder begins; 256 MiB by default.
    #[schemars(range(min = 1024))]
    pub target_file_size: Option<u64>,
    /// What truncate does when the source is empty: overwrite, keep or error.
    pub on_empty: OnEmpty,
    /// The columns by which `duplicateKeys` compares rows; by default the key that they had at their source.
    pub key: OneOrMany<String>,
    /// Parquet and Arrow: with `error` the job fails before anything is published when two of the rows that it brings have
    /// the same `key`; a NULL in a key equals nothing. `last` means that nobody looks.
    pub duplicate_keys: DuplicateKeys,
    /// The table that `sql` files insert into.
    pub table: Option<String>,
    /// Options of the object store, by name: accessKeyId, secretAccessKey, region, endpoint, pathStyle, anonymous (S3);
    /// serviceAccountPath or serviceAccountKey (Google); accountName, accountKey, sasToken, clientId, clientSecret,
    /// tenantId (Azure); allowHttp, timeout, proxyUrl (all). Write secrets as `${env:NAME}` or `${file:PATH}`.
    #[schemars(extend("x-aliases" = ["options"]))]
    pub storage_options: StoreOptions,
}

impl Config {
    /// The key columns that the job names for a look for rows of equal keys; `None` where nobody looks.
    pub(crate) fn compared(&self, format: Option<Format>, faults: &mut Faults) -> Option<Vec<String>> {
        let looks = self.duplicate_keys == DuplicateKeys::Error;
        if looks && format.is_some_and(Format::is_text) {
            let message = "keys are compared in Parquet and Arrow files only: write `format` parquet or arrow";
            faults.add("/duplicateKeys", message);
        }
        if !looks && !self.key.is_empty() {
            faults.add("/key", "`key` is for `duplicateKeys` error");
        }
        looks.then(|| self.key.as_slice().to_vec())
    }
}

/// Whether there is a header, or what it says.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Header {
    /// The columns' names, or none.
    On(bool),
    /// These names.
    Names(Vec<String>),
}
