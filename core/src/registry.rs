//! Which connectors are linked into this program.
//!
//! # The schema of the parameters
//!
//! It is derived with `schemars` from the configuration struct, and the runtime validates against it before a connector
//! sees anything. Serde knows two things that `schemars` cannot see, so they are said twice, as extensions:
//!
//! ```ignore
//! /// Where the database is.
//! #[serde(alias = "jdbcUrl")]
//! #[schemars(extend("x-aliases" = ["jdbcUrl"]))]   // another name of the key; it is renamed to the main one
//! pub url: Option<String>,
//!
//! /// The text that stands for NULL.
//! #[schemars(extend("x-keep-empty" = true))]       // here `""` is a value of its own and does not mean absent
//! pub null_format: Option<String>,
//! ```
//!
//! A key without `x-aliases` is unknown under its alias, however serde would read it.

use std::sync::Arc;

use schemars::Schema;
use serde_json::Value;

use crate::{Catalog, ConnectorContext, Faults, Reader, Writer};

/// A connector's parameters: an object that was validated against the plugin's schema, with lenient numbers and
/// booleans made strict, empty values removed, and secret references resolved.
pub type Parameters = Value;

/// How a plugin opens what it has to offer.
pub type Open<T> = fn(&Parameters, &ConnectorContext) -> Result<Arc<T>, Faults>;

/// How a system's native values look to people, in messages and the quarantine. Submitted by the crate of the system.
pub struct NativeText {
    /// The system that native fields name.
    pub system: &'static str,
    /// The text of one value; `None` where there is none, then its bytes are shown.
    pub show: fn(&arrow::datatypes::Field, &[u8]) -> Option<String>,
}

inventory::collect!(NativeText);

/// A reader of files of JSON lines, for what Weir itself has put down as such: the mended rows of a quarantine. Submitted by
/// the crate of the reader; the first one is taken.
pub struct LinesReader {
    /// The reader's name.
    pub plugin: &'static str,
    /// Its parameters for the columns of one local file: a list of objects with `name`, and a `type` of CSV's.
    pub parameters: fn(file: &std::path::Path, columns: Value) -> Value,
}

inventory::collect!(LinesReader);

/// A reader that this program knows. Submitted once by its crate:
/// `weir_core::inventory::submit! { ReaderPlugin { … } }`.
pub struct ReaderPlugin {
    /// The plain name, also the name of the crate's folder: `mysql`.
    pub name: &'static str,
    /// DataX's names for it: `mysqlreader`. A DataWorks `stepType` is one of these without `reader`.
    pub aliases: &'static [&'static str],
    /// What it reads, in a sentence.
    pub summary: &'static str,
    /// The JSON schema of its parameters.
    pub schema: fn() -> Schema,
    /// Parameters that other tools know and we do not follow: accepted with one warning that gives the reason.
    pub ignored: &'static [(&'static str, &'static str)],
    /// Parameters that would change the result if they were ignored: refused with the reason.
    pub refused: &'static [(&'static str, &'static str)],
    /// Opens it. Connects to nothing; checks rules across parameters.
    pub open: Open<dyn Reader>,
    /// Opens the catalogue of the system that `parameters` name (a table is not needed), where there is one.
    pub catalog: Option<Open<dyn Catalog>>,
    /// The parameters for a bare location of `weir copy` (URL or path, perhaps a table), if it is one of this system's.
    /// A location is claimed by one connector at most.
    pub recognise: fn(location: &str, table: Option<&str>) -> Option<Value>,
}

/// A writer that this program knows, see [`ReaderPlugin`].
pub struct WriterPlugin {
    /// The plain name, also the name of the crate's folder.
    pub name: &'static str,
    /// DataX's names for it: `mysqlwriter`.
    pub aliases: &'static [&'static str],
    /// What it writes, in a sentence.
    pub summary: &'static str,
    /// The JSON schema of its parameters.
    pub schema: fn() -> Schema,
    /// Accepted with one warning.
    pub ignored: &'static [(&'static str, &'static str)],
    /// Refused with the reason.
    pub refused: &'static [(&'static str, &'static str)],
    /// Opens it. Connects to nothing; checks rules across parameters.
    pub open: Open<dyn Writer>,
    /// The parameters for a bare location, see [`ReaderPlugin::recognise`].
    pub recognise: fn(location: &str, table: Option<&str>) -> Option<Value>,
}

impl ReaderPlugin {
    /// A reader with no other names, that ignores and refuses nothing, lists no tables and knows no bare location. A
    /// connector that has more says so with `..ReaderPlugin::new(…)`.
    pub const fn new(
        name: &'static str,
        summary: &'static str,
        schema: fn() -> Schema,
        open: Open<dyn Reader>,
    ) -> Self {
        let recognise = nowhere;
        Self { name, aliases: &[], summary, schema, ignored: &[], refused: &[], open, catalog: None, recognise }
    }
}

impl WriterPlugin {
    /// As [`ReaderPlugin::new`].
    pub const fn new(
        name: &'static str,
        summary: &'static str,
        schema: fn() -> Schema,
        open: Open<dyn Writer>,
    ) -> Self {
        Self { name, aliases: &[], summary, schema, ignored: &[], refused: &[], open, recognise: nowhere }
    }
}

fn nowhere(_: &str, _: Option<&str>) -> Option<Value> {
    None
}

inventory::collect!(ReaderPlugin);
inventory::collect!(WriterPlugin);

/// All linked readers, in name order.
pub fn readers() -> Vec<&'static ReaderPlugin> {
    let mut all: Vec<_> = inventory::iter::<ReaderPlugin>.into_iter().collect();
    all.sort_by_key(|plugin| plugin.name);
    all
}

/// The reader of JSON lines, where one is linked.
pub fn lines_reader() -> Option<&'static LinesReader> {
    inventory::iter::<LinesReader>.into_iter().min_by_key(|lines| lines.plugin)
}

/// All linked writers, in name order.
pub fn writers() -> Vec<&'static WriterPlugin> {
    let mut all: Vec<_> = inventory::iter::<WriterPlugin>.into_iter().collect();
    all.sort_by_key(|plugin| plugin.name);
    all
}
