//! What can be called, and how: a struct for each command, made of the groups that commands share.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod groups;

pub(crate) use groups::{Format, JobArguments, LogFormat, LoggingArguments, RunningArguments, SourceArguments};

/// Moves tables between databases, files and lakehouses.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    about,
    max_term_width = 110,
    arg_required_else_help = true,
    after_help = "\
Examples:
  weir run shop.json -p dt=2025-10-31       run a job
  weir plan shop.json                       see what it would do
  weir copy shop.db lake/orders -t orders   copy a table without a job file
  weir connectors mysql                     every parameter of a connector

Exit codes: 0 success, 1 the job failed, 2 the call or the job file is wrong, 130 or 143 stopped by a signal."
)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a job file
    Run(RunArguments),
    /// Show everything a run would do, without writing anything
    Plan(PlanArguments),
    /// Test connections, credentials and privileges
    Check(CheckArguments),
    /// List the connectors, or one's parameters
    Connectors(ConnectorsArguments),
    /// Copy from one place to another without a job file
    Copy(CopyArguments),
    /// Print a job file to fill in
    New(NewArguments),
    /// List the tables of a system with their sizes
    Tables(TablesArguments),
    /// List the runs of this machine, or show one
    Runs(RunsArguments),
    /// List how tables of whole-database jobs have changed, and what was done about it
    Changes(ChangesArguments),
    /// Compare what the targets hold with what the sources have
    Verify(VerifyArguments),
    /// Write the mended rows of a quarantine file to the targets of their job
    Replay(ReplayArguments),
}

/// `weir run`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir run shop.json
  weir run shop.json -p dt=20251031 --report report.json
  weir run shop.json -p\"-Ddt=20251031 -Dchannels=4\"
  weir run shop.json --at 2025-11-01 --env prod
  weir run shop.json --limit 100 --error-limit unlimited
  weir run shop.json --resume                        go on where the last run ended
  weir run shop.json --run-id shop-20251031          start, continue or report that run
  weir run mirror.json --tables shop.orders,shop.i*  some tables of a whole-database job
  weir run mirror.json --failed-of RUN_ID            those that did not end well in that run
  generate-job | weir run -")]
pub(crate) struct RunArguments {
    /// The job file, in DataX's form or DataWorks' script mode; - is stdin
    #[arg(value_name = "JOB")]
    pub job: PathBuf,
    /// Continue the job's last run, if it did not succeed, with its parameters and time; else begin one
    #[arg(long, conflicts_with_all = ["run_id", "fresh", "limit"])]
    pub resume: bool,
    /// Name the run: a new name begins it, a known one continues it, or reports it when it has succeeded
    ///
    /// A scheduler may repeat the same call after any crash: the rows arrive once.
    #[arg(long, value_name = "ID", conflicts_with = "limit")]
    pub run_id: Option<String>,
    /// Begin anew although an earlier run has left rows at the target for good; they are written again
    #[arg(long)]
    pub fresh: bool,
    /// Of a whole-database job only these tables: names or patterns of source or target tables, with commas between them
    #[arg(long, value_name = "TABLES", value_delimiter = ',', conflicts_with_all = ["resume", "failed_of"])]
    pub tables: Vec<String>,
    /// Of a whole-database job only the tables that did not end well in this earlier run
    #[arg(long, value_name = "RUN_ID", conflicts_with_all = ["resume", "limit"])]
    pub failed_of: Option<String>,
    /// Read incremental sources as if for the first time, whatever was read before
    #[arg(long, conflicts_with = "resume")]
    pub full: bool,
    #[command(flatten)]
    pub reading: JobArguments,
    #[command(flatten)]
    pub running: RunningArguments,
}

/// `weir runs`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir runs
  weir runs 019a3c5e7d2f7c3f9f1f0f6f3c1d2e3f --format json
  weir runs --watermarks                             how far incremental jobs have come")]
pub(crate) struct RunsArguments {
    /// One run, with its tables
    #[arg(value_name = "RUN_ID")]
    pub run_id: Option<String>,
    /// List how far incremental jobs have read each table, instead of runs
    #[arg(long, conflicts_with = "run_id")]
    pub watermarks: bool,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    /// The most runs to list
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub last: u32,
    /// The folder with the ledger; WEIR_STATE_DIR or the user's state folder by default
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// `weir changes`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir changes
  weir changes --target shop.orders
  weir changes --run 019a3c5e7d2f7c3f9f1f0f6f3c1d2e3f --format json")]
pub(crate) struct ChangesArguments {
    /// Only changes of this target table, with its schema or without
    #[arg(long, value_name = "TABLE")]
    pub target: Option<String>,
    /// Only changes that this run saw
    #[arg(long, value_name = "RUN_ID")]
    pub run: Option<String>,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    /// The most changes to list, the latest first
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub last: u32,
    /// The folder with the ledger; WEIR_STATE_DIR or the user's state folder by default
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// `weir verify`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir verify shop.json
  weir verify shop.json -p dt=20251031 --sample 10000
  weir verify shop.json --format json

Exit codes: 0 equal, 1 something differs or cannot be compared, 2 the call or the job file is wrong.")]
pub(crate) struct VerifyArguments {
    /// The job file; - is stdin
    #[arg(value_name = "JOB")]
    pub job: PathBuf,
    /// Compare the values of about this many rows of each entry only; all rows are counted
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: Option<u64>,
    /// How to print the findings
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    /// The folder with the ledger, for incremental jobs; WEIR_STATE_DIR or the user's state folder by default
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub reading: JobArguments,
}

/// `weir replay`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir replay ~/.local/state/weir/quarantine/019a3c5e7d2f7c3f9f1f0f6f3c1d2e3f.jsonl
  weir replay dirty.jsonl shop.json -p dt=20251031
  weir replay dirty.jsonl shop.json --error-limit unlimited --quarantine still-dirty.jsonl

The same file is written once, however often it is replayed.")]
pub(crate) struct ReplayArguments {
    /// The quarantine file, with its values mended
    #[arg(value_name = "QUARANTINE")]
    pub file: PathBuf,
    /// The job file that the rows are of; by default the one of the run that left them
    #[arg(value_name = "JOB")]
    pub job: Option<PathBuf>,
    /// Write the rows although this file was replayed before
    #[arg(long)]
    pub fresh: bool,
    #[command(flatten)]
    pub reading: JobArguments,
    #[command(flatten)]
    pub running: RunningArguments,
}

/// `weir plan`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir plan shop.json
  weir plan shop.json -p dt=20251031 --format json")]
pub(crate) struct PlanArguments {
    /// The job file; - is stdin
    #[arg(value_name = "JOB")]
    pub job: PathBuf,
    /// How to print the plan
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    /// Plan for a run of this many rows a table
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<u64>,
    /// Of a whole-database job only these tables: names or patterns of source or target tables, with commas between them
    #[arg(long, value_name = "TABLES", value_delimiter = ',')]
    pub tables: Vec<String>,
    /// Plan for a run that reads incremental sources as if for the first time
    #[arg(long)]
    pub full: bool,
    /// The folder with the ledger, for incremental jobs; WEIR_STATE_DIR or the user's state folder by default
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub reading: JobArguments,
}

/// `weir check`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir check shop.json
  weir check --datasource shop --env prod

Exit codes: 0 all is well, 1 a fault was found, 2 the call or the job file is wrong.")]
pub(crate) struct CheckArguments {
    /// The job file; - is stdin
    #[arg(value_name = "JOB", required_unless_present = "datasource", conflicts_with = "datasource")]
    pub job: Option<PathBuf>,
    /// A named data source instead of a job
    #[arg(long, value_name = "NAME")]
    pub datasource: Option<String>,
    /// How to print the findings
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    /// The folder with the ledger, for whole databases; WEIR_STATE_DIR or the user's state folder by default
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub reading: JobArguments,
}

/// `weir connectors`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir connectors
  weir connectors mysql
  weir connectors txtfilereader --format json
  weir connectors mysql --format schema")]
pub(crate) struct ConnectorsArguments {
    /// A connector, by its own name or DataX's
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// How to print; schema is the JSON schema of the parameters
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: ConnectorFormat,
}

/// How to print connectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConnectorFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// The JSON schema of the parameters
    Schema,
}

/// `weir copy`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir copy shop.db lake/orders --table orders
  weir copy orders.csv postgresql://me@localhost/shop --to-table orders
  weir copy mysql://me@host/shop postgresql://me@host/shop --table orders --mode upsert
  weir copy shop lake/orders --table orders --env prod     (shop is a named data source)
  weir copy lake/orders - --limit 5                        (- prints the rows)
  weir copy shop.db orders.parquet --table orders --save orders.json")]
pub(crate) struct CopyArguments {
    /// From where: a URL, a path or a data source's name
    #[arg(value_name = "SRC")]
    pub source: String,
    /// To where: a URL, a path, a data source's name, or - for stdout
    #[arg(value_name = "DST")]
    pub target: String,
    /// The table to read, and to write unless --to-table says otherwise
    #[arg(short, long, value_name = "TABLE")]
    pub table: Option<String>,
    /// The table to write
    #[arg(long, value_name = "TABLE")]
    pub to_table: Option<String>,
    /// append, overwrite, upsert …; append by default, and for files: never over what is there
    #[arg(short, long, value_name = "MODE")]
    pub mode: Option<String>,
    /// A condition for the rows to read
    #[arg(long = "where", value_name = "CONDITION")]
    pub condition: Option<String>,
    /// The most channels at once
    #[arg(long, value_name = "N")]
    pub channels: Option<u32>,
    /// Keep the job in this file
    #[arg(long, value_name = "JOB")]
    pub save: Option<PathBuf>,
    #[command(flatten)]
    pub sources: SourceArguments,
    #[command(flatten)]
    pub running: RunningArguments,
}

/// `weir new`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir new mysql lakehouse > job.json
  weir new sqlite files
  weir new mysql lakehouse --database > mirror.json      a job for whole databases")]
pub(crate) struct NewArguments {
    /// The reader
    #[arg(value_name = "READER")]
    pub reader: String,
    /// The writer
    #[arg(value_name = "WRITER")]
    pub writer: String,
    /// A job for whole databases instead of one for single tables
    #[arg(long)]
    pub database: bool,
}

/// `weir tables`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir tables shop.db
  weir tables postgresql://me@localhost/shop 'public.order*'
  weir tables sqlserver://me@localhost/shop 'shop_*.dbo.*'
  weir tables shop --env prod --format json")]
pub(crate) struct TablesArguments {
    /// Where: a URL, a path or a data source's name
    #[arg(value_name = "SRC")]
    pub source: String,
    /// Only names that match: * is any text, ? one character
    #[arg(value_name = "PATTERN")]
    pub pattern: Option<String>,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    #[command(flatten)]
    pub sources: SourceArguments,
}
