//! The parameters of the stream writer.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of the stream writer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// Whether to print the rows to standard output. Off under the plain name, on under DataX's.
    pub print: Option<bool>,
    /// What stands between the values of a row.
    pub field_delimiter: String,
    /// What stands for NULL.
    #[schemars(extend("x-keep-empty" = true))]
    pub null_format: String,
    /// A folder: the rows go into the file `fileName` in it, replacing one that is there, instead of being printed.
    pub path: Option<PathBuf>,
    /// The name of the file in `path`.
    pub file_name: Option<String>,
    /// After so many rows each task sleeps for `sleepTime`; 0 for never.
    pub record_num_before_sleep: u64,
    /// How many milliseconds to sleep.
    pub sleep_time: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            print: None,
            field_delimiter: "\t".into(),
            null_format: "null".into(),
            path: None,
            file_name: None,
            record_num_before_sleep: 0,
            sleep_time: 0,
        }
    }
}
