//! Writes CSV, JSON lines, Parquet and Arrow IPC files, to folders of this machine and to S3-compatible stores.
//!
//! ```text
//!   task ─▶ parts in .weir-<run>/, hidden beside the target
//!                  │ commit
//!                  ├─ a folder: each part gets its place by a rename
//!                  └─ one file: parts are joined in split order, then renamed over the target
//! ```
//!
//! Readers see a file whole or not at all. In a folder the files of a run appear one after the other within `commit`,
//! and with `truncate` the old ones go after the last new one is in place. Object stores know no rename: there a
//! file is copied by the store and the staged one deleted.
//!
//! # Text
//!
//! CSV: NULL is an empty field and an empty text `""`; quotes are doubled; bytes are `\x` and hexadecimal digits;
//! timestamps `2024-02-29 10:00:00.5`, instants with `Z`. JSON lines: decimals and 64-bit integers as numbers with all
//! their digits, JSON columns as they are, bytes as in CSV, times as strings.
//!
//! # Extending
//!
//! A format is an `encode::Encoder`: batches in, bytes out.

mod commit;
mod config;
mod encode;
mod parquet;
mod plan;
mod recognise;
mod render;
mod task;
mod text;
mod writer;

pub use config::Config;

weir_core::inventory::submit! {
    weir_core::WriterPlugin {
        name: "files",
        aliases: &["txtfilewriter"],
        summary: "Writes CSV, JSON lines, Parquet and Arrow IPC files, local or in S3-compatible stores",
        schema: || schemars::schema_for!(Config),
        ignored: &[("maxFileSize", "`targetFileSize` bounds the size of files")],
        refused: &[],
        open: writer::open,
        recognise: recognise::recognise,
    }
}
