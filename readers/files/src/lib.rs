//! Reads CSV, JSON lines, Parquet and Arrow IPC files, from folders of this machine, object stores and web servers.
//!
//! ```text
//!   path ─▶ files ─▶ splits: a file each; large ones by row groups (Parquet) or at records (text)
//!                      │
//!      csv  ─▶ records ─┐
//!      jsonl ─▶ values ─┴▶ columns, one after the other ─▶ batches
//!      parquet, arrow ──▶ canonical types ───────────────▶ batches
//! ```
//!
//! A split says which file it was planned for, by size and time or tag: a file that changed meanwhile is not read. What
//! a run of the files writer has not published yet, or has replaced, is not seen.
//!
//! # Types
//!
//! CSV and JSON lines have no types, so the first rows decide (`sampleRows`): integers, decimals (exact, when all have
//! the same number of decimals), floats, booleans, dates, timestamps; whatever is not surely one of these is text:
//! `007` stays `007`. A later value that does not fit is a dirty row with its line. `column` gives the types instead.
//! JSON objects and lists stay JSON text exactly as written, strings stay text.
//!
//! # Extending
//!
//! A text format is a scanner that yields `cells::Cells`; the columns are built in `cells.rs` for all of them.

mod canonical;
mod cells;
mod columnar;
mod config;
mod csv;
mod cut;
mod infer;
mod jsonl;
mod kinds;
mod reader;
mod recognise;
mod rules;
mod scan;
mod split;

pub use config::Config;

weir_core::inventory::submit! {
    weir_core::ReaderPlugin {
        name: "files",
        aliases: &["txtfilereader"],
        summary: "Reads CSV, JSON lines, Parquet and Arrow IPC files, local, in object stores or on web servers",
        schema: || schemars::schema_for!(Config),
        ignored: &[
            ("bufferSize", "files are read in blocks of a fixed size"),
            ("maxTraversalLevel", "folders are read to any depth"),
        ],
        refused: &[],
        open: reader::open,
        catalog: None,
        recognise: recognise::recognise,
    }
}

weir_core::inventory::submit! {
    weir_core::LinesReader {
        plugin: "files",
        parameters: |file, columns| {
            serde_json::json!({"path": file.display().to_string(), "format": "jsonl", "column": columns})
        },
    }
}
