//! The parameters of the files reader.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_core::config::OneOrMany;
use weir_files::StoreOptions;

/// Parameters of the files reader. Under the name `txtfilereader` DataX's defaults hold: no header, `fieldDelimiter`
/// a comma, every column text unless `column` says otherwise, and no text that means NULL.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// A file, a folder (read to any depth, names that start with `.` or `_` left out), a pattern with `*`, `?` and
    /// `**`, or a list of them. Paths of this machine, `file://`, and URLs: `s3://bucket/key`, `gs://bucket/key`,
    /// `az://container/key`, `abfss://container@account.dfs.core.windows.net/key`, `https://host/file.csv`.
    pub path: OneOrMany<String>,
    /// csv, jsonl, parquet or arrow (IPC, Feather 2). By default the files' extension says it.
    pub format: Option<String>,
    /// DataX's name for `format`: text or csv.
    pub file_format: Option<String>,
    /// gzip, zstd, bzip2, zip (of one file), snappy (framed) or none, for csv and jsonl. By default the extension says it.
    pub compress: Option<String>,
    /// The columns in order; none or `*` for all. A name, or an object with `index` or `name`, `type`, `format`; or with
    /// `value` for a constant.
    pub column: OneOrMany<ColumnEntry>,
    /// CSV: whether the first line holds the names. True by default, under DataX's name false.
    pub header: Option<bool>,
    /// DataX: whether to skip a header line. Columns then still go by index.
    pub skip_header: Option<bool>,
    /// CSV: what stands between fields, one character or more; a comma, and a tab for `.tsv`.
    pub delimiter: Option<String>,
    /// DataX's name for `delimiter`.
    pub field_delimiter: Option<String>,
    /// CSV: the quote, an ASCII character; `none` for files without quotes. `"` by default.
    pub quote: Option<String>,
    /// CSV: the character that makes a quote part of a quoted field; by default the quote is doubled.
    pub escape: Option<String>,
    /// CSV: the unquoted text that means NULL. By default an empty unquoted field is NULL and `""` an empty text; with
    /// this set, empty fields of text columns are empty texts.
    #[schemars(extend("x-keep-empty" = true))]
    pub null_format: Option<String>,
    /// Whether empty texts, quoted ones too, are NULL.
    pub empty_as_null: Option<bool>,
    /// The encoding of csv and jsonl files: UTF-8 (a byte order mark is left out), GBK, ISO-8859-1, UTF-16LE …
    pub encoding: Option<String>,
    /// CSV and JSON lines: lines to skip at the start of each file, before the header.
    pub skip_lines: u64,
    /// CSV: whether quoted fields may hold line ends; true by default. Large files of this machine are read by several
    /// channels all the same, those in object stores only where this is false.
    pub multiline: Option<bool>,
    /// CSV: an ASCII character; lines that start with it are comments.
    pub comment: Option<String>,
    /// CSV: whether to cut white space around unquoted fields. Off by default, under DataX's name on.
    pub trim: Option<bool>,
    /// How many rows decide on the types of columns without one.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub sample_rows: Option<u64>,
    /// DataX's settings of its CSV parser.
    pub csv_reader_config: Option<CsvReaderConfig>,
    /// Options of the object store, by name: accessKeyId, secretAccessKey, region, endpoint, pathStyle, anonymous (S3);
    /// serviceAccountPath or serviceAccountKey (Google); accountName, accountKey, sasToken, clientId, clientSecret,
    /// tenantId (Azure); allowHttp, timeout, proxyUrl (all). Write secrets as `${env:NAME}` or `${file:PATH}`.
    #[schemars(extend("x-aliases" = ["options"]))]
    pub storage_options: StoreOptions,
}

/// A column of the job's own list.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum ColumnEntry {
    /// Its name.
    Name(String),
    /// More than a name.
    Column(ListedColumn),
}

/// A column with its type.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline)]
pub struct ListedColumn {
    /// Its position in the file, from 0.
    pub index: Option<u64>,
    /// Its name: in the file where there is a header, else only the name to give it.
    pub name: Option<String>,
    /// long, double, string, boolean, date, bytes (DataX); also decimal(p,s), timestamp, instant, json.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The pattern of a date, `yyyy-MM-dd HH:mm:ss`; for bytes `hex` (with or without `\x`) or `text`.
    pub format: Option<String>,
    /// A constant instead of a column of the file.
    pub value: Option<Value>,
}

/// The settings of DataX's CSV parser that mean something here.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline)]
pub struct CsvReaderConfig {
    /// The quote.
    pub text_qualifier: Option<String>,
    /// Whether there are quotes.
    pub use_text_qualifier: Option<bool>,
    /// Whether to cut white space around fields.
    pub trim_whitespace: Option<bool>,
    /// The delimiter.
    pub delimiter: Option<String>,
    /// Only line ends are read: anything else is refused.
    pub record_delimiter: Option<String>,
    /// The character that starts comments.
    pub comment: Option<String>,
    /// Whether there are comments.
    pub use_comments: Option<bool>,
    /// 1: a quote is doubled; 2: a backslash stands before it.
    pub escape_mode: Option<u64>,
    /// DataX's bound on the length of a field; fields of any length are read here.
    pub safety_switch: Option<bool>,
    /// Whether empty lines are skipped.
    pub skip_empty_records: Option<bool>,
    /// Whether the case of header names matters; no effect, as DataX goes by index.
    pub case_sensitive: Option<bool>,
    /// No effect: fields are never copied more than once.
    pub capture_raw_record: Option<bool>,
}
