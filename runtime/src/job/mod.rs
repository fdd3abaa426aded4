//! Job files: two forms in, one model out.
//!
//! ```text
//!   text ─▶ variables replaced ─▶ JSON with comments ─▶ DataX form ──┐
//!           (parameters, dates)     (lines kept)       script mode ──┴▶ raw job ─▶ data sources merged,
//!                                                                                  parameters validated,
//!                                                                                  tables paired ─▶ Job
//! ```
//!
//! Every fault of a file is found before anything is connected to, and all of them are reported at once.

mod datasources;
mod datax;
mod endpoint;
mod explain;
mod expression;
#[cfg(test)]
mod fakes;
mod load;
mod loader;
mod merge;
mod model;
mod notes;
mod parameters;
mod plugins;
mod reference;
mod schema;
mod script;
mod secrets;
mod setting;
mod tables;
#[cfg(test)]
mod tests;
mod text;
mod validate;
pub(crate) mod writer_keys;
mod zone;

/// What another front door, outside of this folder, is built from.
pub(crate) mod front {
    pub(crate) use super::loader::{Loader, RawEnd};
    pub(crate) use super::plugins::Side;
    pub(crate) use super::text::child;
    pub(crate) use super::validate::{Rules, is_empty, show, validate};
}

pub(crate) use zone::parse as parse_zone;

pub use datasources::{DataSource, DataSourceInfo, DataSources, FILE_NAME as DATA_SOURCES_FILE};
pub use endpoint::Ends;
pub use load::{LoadOptions, UNNAMED, endpoint, load, load_file, name, read_file, scheduled, shown_parameters};
pub use model::{Endpoint, Entry, ErrorLimit, Job, Retry, Setting};
pub use parameters::parse_parameters;
pub use plugins::{Plugin, Side, find_plugin, plugins};
pub use reference::{ParameterInfo, parameters};
pub use secrets::{HIDDEN, redact, redact_text};
