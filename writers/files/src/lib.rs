//! Writes CSV, JSON lines, Parquet and Arrow IPC files, to folders of this machine and to object stores.
//!
//! ```text
//!   task ─▶ parts and a receipt in .weir-<run>/, hidden in the target's folder
//!                  │ commit: first a journal of what is going to change, then
//!                  ├─ one file: parts are joined in split order, then take the target's place in one step
//!                  ├─ a folder, append: each part gets its place by a rename (in object stores: a copy)
//!                  └─ a folder, truncate: another folder takes its place in one step; where that cannot be, parts
//!                     get their places and a manifest says, in one step, which files count
//! ```
//!
//! Readers see a file whole or not at all, and of a folder that is overwritten the old files or the new ones. A plain
//! lister, which does not know the manifest, may see both for a moment; the plan says so. Everything the commit does can
//! be done again after a crash anywhere in it, or be taken back: `record.rs` has the records, `commit.rs` the order.
//!
//! # Text
//!
//! CSV: NULL is an empty field and an empty text `""`; quotes are doubled; bytes are `\x` and hexadecimal digits;
//! timestamps `2024-02-29 10:00:00.5`, instants with `Z`. JSON lines: decimals and 64-bit integers as numbers with all
//! their digits, JSON columns as they are, bytes as in CSV, times as strings.
//!
//! # Parquet
//!
//! Row groups are made column by column (`groups.rs`): `dictionary.rs` writes those whose values repeat, the library all
//! others; `parquet.rs` looks at the first rows to tell which is which, and joins finished files.
//!
//! # Extending
//!
//! A format is an `encode::Encoder`: batches in, bytes out.

#[doc(hidden)]
pub mod bench;
mod codec;
mod columns;
mod commit;
mod config;
mod database;
mod dictionary;
mod distinct;
mod encode;
mod gathered;
mod groups;
mod header;
mod hybrid;
mod interned;
mod lease;
mod many;
mod parquet;
mod plan;
mod read_back;
mod recognise;
mod recompressed;
mod record;
#[cfg(test)]
mod remote_faults;
mod render;
mod row_groups;
mod single;
mod splice;
mod swap;
mod task;
mod text;
mod writer;

pub use config::Config;

weir_core::inventory::submit! {
    weir_core::WriterPlugin {
        name: "files",
        aliases: &["txtfilewriter"],
        summary: "Writes CSV, JSON lines, Parquet and Arrow IPC files, local or in object stores",
        schema: || schemars::schema_for!(Config),
        ignored: &[("maxFileSize", "`targetFileSize` bounds the size of files")],
        refused: &[],
        open: writer::open,
        recognise: recognise::recognise,
    }
}

weir_core::inventory::submit! {
    weir_core::DatabaseWriter {
        name: "files",
        parameters: database::parameters,
        names: database::NAMES,
        finds_equal_keys: database::finds_equal_keys,
    }
}
