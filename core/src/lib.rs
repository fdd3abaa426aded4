//! # weir-core: the contracts between sources, the runtime and targets
//!
//! What every connector needs and nothing else. No driver, no SQL client and no job file lives here.
//!
//! ```text
//!            schema(), splits()                       target(), plan(), prepare(), commit()
//!   source ──────── Reader                                        Writer ──────── target
//!                     │ read(split)                       open(split) │
//!                     ▼                                               ▼
//!                BatchSender ══▶ limits, conversion, channel ══▶ TaskWriter
//!                     │ reject(row)                         refused rows │
//!                     └───────────────▶ quarantine ◀──────────────────────┘
//! ```
//!
//! A [`Reader`] offers its columns in one or more *representations* and cuts its tables into [`Split`]s. The
//! [`Writer`] says for each column which representation it takes. Every split then becomes one task: a pure function
//! of serialisable input, run on two threads joined by a [`channel`], ending in a [`Receipt`]. All receipts together
//! are committed once.
//!
//! # Extending
//!
//! A connector is a crate that implements [`Reader`] or [`Writer`], declares its parameters as one struct with `serde`
//! and `schemars`, and submits a [`ReaderPlugin`] or [`WriterPlugin`]:
//!
//! ```text
//! weir_core::inventory::submit! {
//!     weir_core::ReaderPlugin { name: "kv", open: |parameter, context| …, …}
//! }
//! ```
//!
//! The crate must be linked (`use my_connector as _;`), or nothing is registered. `examples/connector-kv` is a whole one.

mod batch;
mod catalog;
pub mod channel;
pub mod config;
mod context;
pub mod convert;
mod database;
mod describe;
mod digits;
mod dirty;
mod error;
mod evolve;
mod family;
pub mod field;
mod glob;
pub mod incremental;
mod kept;
pub mod lease;
mod reader;
mod registry;
mod rested;
mod revocable;
mod room;
mod schema;
mod secret;
mod split;
pub mod tables;
mod together;
mod writer;
pub mod zone;

pub use batch::{Gather, MAX_BATCH_BYTES, MAX_BATCH_ROWS, batch_bytes, slice_rows, within_bounds};
pub use catalog::{
    Catalog, Hold, LooksInto, Object, ObjectKind, ObjectName, Objects, OtherDatabase, Seen, SourceSnapshot, TableInfo,
};
pub use channel::{BatchReceiver, BatchSender};
pub use config::{Fault, Faults};
pub use context::{ConnectorContext, Form, Shared};
pub use database::{
    DatabaseReader, DatabaseWriter, NameRules, Shard, SourceTables, TargetName, TargetTable, database_reader,
    database_writer,
};
pub use describe::{ColumnDefault, ColumnDescription, ForeignKey, Identity, TableDescription, UniqueKey};
pub use digits::Digits;
pub use dirty::{Bisect, DirtyRow, Refusal, Refused, bisect, row_values};
pub use error::{Error, ErrorKind, Result, ResultExt};
pub use evolve::{Completed, Completion, Evolve, Fit, KeyDefinition, PresentColumn, Reference, TableChange};
pub use family::{Family, Relation};
pub use glob::{LetterCase, glob};
pub use incremental::{Incremental, Watermark, Window, WindowRequest};
pub use kept::{Keep, Kept};
pub use lease::{Lease, Leases, Renewal, Standing};
pub use reader::{Check, CheckOutcome, ReadColumn, ReadRequest, Reader, Snapshot, SnapshotGuard, SplitRequest};
pub use registry::{LinesReader, NativeText, Parameters, ReaderPlugin, WriterPlugin, lines_reader, readers, writers};
pub use rested::{Home, Rests, Woken};
pub use revocable::Revocable;
pub use room::{Room, Seat};
pub use schema::{SourceColumn, SourceSchema, SourceTable, TargetColumn, TargetSchema};
pub use secret::Secret;
pub use split::{Account, Counts, Receipt, Split};
pub use together::PublishTogether;
pub use writer::{
    Committed, DuplicateKeys, MappedColumn, OnEmpty, OnTypeLoss, PlannedColumn, Recorded, TaskId, TaskWriter,
    WriteMode, WritePlan, WriteRequest, Writer,
};

pub use inventory;
