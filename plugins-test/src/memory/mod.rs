//! An in-memory reader and writer, registered as `memory` in test programs only, that misbehave on demand.
//!
//! ```
//! use weir_plugins_test::memory::{self, Step, Trouble};
//!
//! memory::source("a").splits(3).numbers(10_000).put();
//! memory::target("b").trouble(Trouble::none().refuse_row(7).fail_once_at(Step::Commit)).put();
//! // … a job from {"name": "memory", "parameter": {"key": "a"}} to {"key": "b"} …
//! assert!(memory::published("b").is_empty());
//! ```
//!
//! Keys are global: each test takes its own.

mod reader;
mod source;
mod target;
mod trouble;
mod writer;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_core::WriteMode;

pub use source::{SourceBuilder, source};
pub use target::{TargetBuilder, aborts, commits, created, exists, inventory, published, target};
pub use trouble::{Step, Trouble};

/// The parameters of the reader.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
struct ReaderConfig {
    /// The source that the test has put under this key.
    key: String,
    /// The columns to read, all of them by default.
    column: Vec<String>,
}

/// The parameters of the writer.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
struct WriterConfig {
    /// The target that the test has put under this key; a missing one is created.
    key: String,
    /// How rows meet those that are there.
    write_mode: WriteMode,
    /// The columns to write, by position.
    column: Vec<String>,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self { key: String::new(), write_mode: WriteMode::Append, column: Vec::new() }
    }
}

weir_core::inventory::submit! {
    weir_core::ReaderPlugin {
        name: "memory",
        aliases: &["memoryreader"],
        summary: "Reads rows that a test has put into memory.",
        schema: || schemars::schema_for!(ReaderConfig),
        ignored: &[],
        refused: &[],
        open: reader::open,
        catalog: None,
        recognise: |location, _| {
            Some(serde_json::json!({ "key": location.strip_prefix("memory:")? }))
        },
    }
}

weir_core::inventory::submit! {
    weir_core::WriterPlugin {
        name: "memory",
        aliases: &["memorywriter"],
        summary: "Writes rows into memory, for a test to look at.",
        schema: || schemars::schema_for!(WriterConfig),
        ignored: &[],
        refused: &[],
        open: writer::open,
        recognise: |location, _| {
            Some(serde_json::json!({ "key": location.strip_prefix("memory:")? }))
        },
    }
}
