//! Groups of arguments that commands share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use weir::ErrorLimit;

/// A job file and what it is read with.
#[derive(Debug, Args)]
pub(crate) struct JobArguments {
    /// A parameter, as name=value; "-Da=1 -Db=2" is understood too
    #[arg(short = 'p', long = "parameter", value_name = "NAME=VALUE", allow_hyphen_values = true)]
    pub parameters: Vec<String>,
    /// The scheduled time that dates in the job refer to; now by default
    ///
    /// 2025-11-01, 2025-11-01T06:00, 2025-11-01T06:00:00+08:00 … Without an offset the zone is the job's
    /// setting.timeZone, else WEIR_TZ, else the machine's.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Unknown keys are errors in DataX's forms too
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub sources: SourceArguments,
}

/// Where named data sources come from.
#[derive(Debug, Args)]
pub(crate) struct SourceArguments {
    /// The file with named data sources; by default weir.datasources.json beside the job or in the config folder
    #[arg(long, value_name = "FILE")]
    pub datasources: Option<PathBuf>,
    /// The environment that chooses among a data source's configurations
    #[arg(long = "env", value_name = "NAME", env = "WEIR_ENV")]
    pub environment: Option<String>,
}

/// How to run.
#[derive(Debug, Args)]
pub(crate) struct RunningArguments {
    /// Stop each entry of the job after this many rows, for a try
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<u64>,
    /// Dirty rows to tolerate instead of the job's errorLimit: a number, a share such as 1%, or unlimited
    #[arg(long, value_name = "LIMIT")]
    pub error_limit: Option<ErrorLimit>,
    /// The file for dirty rows, or off; by default in the state folder
    #[arg(long, value_name = "PATH|off")]
    pub quarantine: Option<String>,
    /// Write the report as JSON to this file; - is stdout
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// The folder for what outlives a run; WEIR_STATE_DIR or the user's state folder by default
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub logging: LoggingArguments,
}

/// What to say meanwhile.
#[derive(Debug, Args)]
pub(crate) struct LoggingArguments {
    /// How to log, to stderr; WEIR_LOG sets levels, as in WEIR_LOG=debug
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log: LogFormat,
    /// Nothing but warnings and errors
    #[arg(short, long)]
    pub quiet: bool,
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

/// How to print a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}
