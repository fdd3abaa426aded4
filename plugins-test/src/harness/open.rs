//! Opening connectors by name, as a job does.

use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use weir_core::{
    Catalog, ConnectorContext, Form, Reader, ReaderPlugin, Result, SplitRequest, Writer, WriterPlugin, readers, writers,
};

use super::control_runtime;

/// A context of a test's own: our defaults, UTC, a token that nobody else cancels.
pub fn context() -> ConnectorContext {
    ConnectorContext {
        cancel: CancellationToken::new(),
        io: control_runtime().handle().clone(),
        form: Form::Native,
        time_zone: chrono_tz::UTC,
        shared: Default::default(),
    }
}

/// Splits for a few channels, far larger than any test's table.
pub fn split_request(channels: usize) -> SplitRequest {
    SplitRequest { channels, max_bytes: 1 << 30, snapshot: None, stable: false, limit: None }
}

/// Opens the reader called `name`. Under one of its DataX names, DataX's defaults hold. The parameters are handed over
/// as they are: the runtime's lenient reading of them is not done here.
///
/// # Errors
/// The faults of the parameters, as kind `Config`.
///
/// # Panics
/// When no linked reader has the name.
pub fn open_reader(name: &str, parameters: Value) -> Result<Arc<dyn Reader>> {
    open_reader_in(name, parameters, &context())
}

/// As [`open_reader`], in a context that the test made: to cancel, for another zone.
pub fn open_reader_in(name: &str, parameters: Value, context: &ConnectorContext) -> Result<Arc<dyn Reader>> {
    let plugin = reader_plugin(name);
    let context = in_words_of(context, plugin.name == name);
    Ok((plugin.open)(&parameters, &context)?)
}

/// Opens the writer called `name`, see [`open_reader`].
///
/// # Errors
/// The faults of the parameters, as kind `Config`.
///
/// # Panics
/// When no linked writer has the name.
pub fn open_writer(name: &str, parameters: Value) -> Result<Arc<dyn Writer>> {
    open_writer_in(name, parameters, &context())
}

/// As [`open_writer`], in a context that the test made.
pub fn open_writer_in(name: &str, parameters: Value, context: &ConnectorContext) -> Result<Arc<dyn Writer>> {
    let plugin = writer_plugin(name);
    let context = in_words_of(context, plugin.name == name);
    Ok((plugin.open)(&parameters, &context)?)
}

/// Opens the catalogue of the reader called `name`.
///
/// # Errors
/// The faults of the parameters, as kind `Config`.
///
/// # Panics
/// When no linked reader has the name, or it has no catalogue.
pub fn open_catalog(name: &str, parameters: Value) -> Result<Arc<dyn Catalog>> {
    let plugin = reader_plugin(name);
    let Some(open) = plugin.catalog else { panic!("the reader `{name}` has no catalogue") };
    Ok(open(&parameters, &in_words_of(&context(), plugin.name == name))?)
}

fn reader_plugin(name: &str) -> &'static ReaderPlugin {
    let found = readers().into_iter().find(|p| p.name == name || p.aliases.contains(&name));
    found.unwrap_or_else(|| panic!("no reader `{name}` is linked: the test needs `use its_crate as _;`"))
}

fn writer_plugin(name: &str) -> &'static WriterPlugin {
    let found = writers().into_iter().find(|p| p.name == name || p.aliases.contains(&name));
    found.unwrap_or_else(|| panic!("no writer `{name}` is linked: the test needs `use its_crate as _;`"))
}

fn in_words_of(context: &ConnectorContext, plain: bool) -> ConnectorContext {
    let form = if plain { context.form } else { Form::DataX };
    ConnectorContext { form, ..context.clone() }
}
