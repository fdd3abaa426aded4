//! A job as every front door delivers it: one model, whatever the file looked like.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::DateTime;
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_core::{Form, OnTypeLoss};

use crate::database::{DatabaseJob, TableJob};
use crate::mapping::MappingPair;
use crate::transform::TransformerSpec;

/// A job file, read, substituted and validated; nothing has been connected to.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its own name, else its file's absolute path, else `job`.
    pub name: String,
    /// The file it came from.
    pub path: Option<PathBuf>,
    /// Every `content` entry or pair of steps, in order; all of them run.
    pub entries: Vec<Entry>,
    /// The whole-database job that the file is; its entries are known only when the source has been asked.
    pub database: Option<Box<DatabaseJob>>,
    /// Of a whole-database job, once its entries are known: a reader of each database that it reads, whichever tables a run
    /// moves.
    pub places: Vec<Endpoint>,
    /// Limits and tolerances.
    pub setting: Setting,
    /// The scheduled time that parameters were evaluated against.
    pub at: DateTime<Tz>,
    /// Where the time zone of `at` came from: `--at`, `setting.timeZone`, `WEIR_TZ`, `machine`.
    pub time_zone_from: &'static str,
    /// Whose clocks zone-less times of the data show where an end does not say: `setting.timeZone`, else `WEIR_TZ`, else
    /// UTC. Not the machine's, for the same job moves the same data everywhere.
    pub data_zone: Tz,
    /// Parameters as given (`-p`), for the report.
    pub parameters: BTreeMap<String, String>,
    /// What was accepted with a warning: unknown or ignored keys of DataX jobs.
    pub warnings: Vec<String>,
}

/// One reader, one writer, and what lies between them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// The source.
    pub reader: Endpoint,
    /// The target.
    pub writer: Endpoint,
    /// Transformers in order.
    pub transformers: Vec<TransformerSpec>,
    /// Explicit pairs of columns (`mapping` of the writer); empty for none.
    pub mapping: Vec<MappingPair>,
    /// What to do with conversions that alter every value (`onTypeLoss` of the writer).
    pub on_type_loss: OnTypeLoss,
    /// Whether an empty text is NULL where anything but text is wanted (`emptyAsNull` of the writer; on under DataX's
    /// names).
    pub empty_as_null: bool,
    /// Whose clocks the source's zone-less times show (`timeZone` of the reader), if it says so.
    #[serde(default)]
    pub source_zone: Option<String>,
    /// Whose clocks the target's zone-less times show (`timeZone` of the writer), if it says so.
    #[serde(default)]
    pub target_zone: Option<String>,
    /// In a whole-database job: which of its tables this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Box<TableJob>>,
}

/// A connector and its parameters.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Endpoint {
    /// The plugin's plain name.
    pub plugin: String,
    /// Whose defaults hold.
    pub form: Form,
    /// The parameters: valid against the plugin's schema, named data sources merged in, secrets still as references
    /// (`${env:NAME}`, `${file:PATH}`).
    pub parameter: Value,
    /// Where they stand in the file: `/job/content/0/reader/parameter`.
    pub pointer: String,
}

/// `setting` (and the parts of `core` that count).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setting {
    /// The most channels at once; `None` for automatic.
    pub channels: Option<usize>,
    /// Rows per second for the whole job.
    pub rows_per_second: Option<u64>,
    /// Bytes per second for the whole job.
    pub bytes_per_second: Option<u64>,
    /// Dirty rows that are tolerated.
    pub error_limit: ErrorLimit,
    /// How often a split is tried again.
    pub retry: Retry,
    /// How long the run may take, in seconds.
    pub timeout: Option<u64>,
    /// Whether target and source are compared when the run has succeeded.
    #[serde(default)]
    pub verify: bool,
    /// DataX's `common.column.*` formats, as they stand.
    pub column_formats: Value,
}

/// How many dirty rows a run tolerates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ErrorLimit {
    /// The run fails as soon as there are more; `None` for any number.
    pub record: Option<u64>,
    /// The run fails at its end if dirty ÷ read is greater (0 to 1).
    pub percentage: Option<f64>,
}

/// How a fault that may pass (a lost connection, a deadlock, a server that restarts) is met: the split is tried again from
/// its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// How many times after the first.
    pub times: u32,
    /// The wait before the first time; each further one is twice as long.
    pub interval: Duration,
    /// The longest wait.
    pub max_interval: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { times: 5, interval: Duration::from_secs(1), max_interval: Duration::from_secs(30) }
    }
}

impl ErrorLimit {
    /// The share that decides at the end of an entry whether its rows stay: a number of rows decides sooner, and a share of
    /// 1 never says no.
    pub fn decides_at_end(&self) -> Option<f64> {
        self.percentage.filter(|most| self.record.is_none() && *most < 1.0)
    }
}

impl Default for ErrorLimit {
    fn default() -> Self {
        Self { record: Some(0), percentage: None }
    }
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            channels: None,
            rows_per_second: None,
            bytes_per_second: None,
            error_limit: ErrorLimit::default(),
            retry: Retry::default(),
            timeout: None,
            verify: false,
            column_formats: Value::Null,
        }
    }
}
