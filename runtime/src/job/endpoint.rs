//! From the parameters of a job to an open connector.

use std::sync::Arc;

use serde_json::Value;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use weir_core::{Catalog, ConnectorContext, Error, ErrorKind, Faults, Reader, ReaderPlugin, Writer, WriterPlugin};

use super::model::{Endpoint, Entry};
use super::plugins::{Plugin, Side, find_plugin};
use super::{secrets, validate};

/// Both ends of an entry, open.
pub type Ends = (Arc<dyn Reader>, Arc<dyn Writer>);

impl Endpoint {
    /// Resolves the secrets and opens the reader. Connects to nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming every fault with its pointer.
    pub fn open_reader(&self, context: &ConnectorContext) -> weir_core::Result<Arc<dyn Reader>> {
        Ok(self.try_open_reader(context)?)
    }

    /// Resolves the secrets and opens the writer. Connects to nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming every fault with its pointer.
    pub fn open_writer(&self, context: &ConnectorContext) -> weir_core::Result<Arc<dyn Writer>> {
        Ok(self.try_open_writer(context)?)
    }

    /// The catalogue of the system that a reader's parameters name.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the system has none; [`ErrorKind::Config`] as for the reader.
    pub fn open_catalog(&self, io: Handle, cancel: CancellationToken) -> weir_core::Result<Arc<dyn Catalog>> {
        // Names and sizes have no time zone.
        let context =
            ConnectorContext { cancel, io, form: self.form, time_zone: chrono_tz::Tz::UTC, shared: Default::default() };
        self.open_catalog_in(&context)
    }

    /// As [`open_catalog`](Self::open_catalog), beside the connectors of a run.
    ///
    /// # Errors
    /// The same.
    pub fn open_catalog_in(&self, context: &ConnectorContext) -> weir_core::Result<Arc<dyn Catalog>> {
        let plugin = self.reader_plugin()?;
        let open = plugin.catalog.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, format!("{} has no tables that could be listed", plugin.name))
        })?;
        let parameters = self.resolved(&plugin.into())?;
        Ok(open(&parameters, &self.context(context)).map_err(|faults| faults.under(&self.pointer))?)
    }

    /// Whether this writer puts its rows on the program's standard output. Connects to nothing.
    pub fn prints(&self, io: Handle) -> bool {
        let (form, time_zone) = (self.form, chrono_tz::Tz::UTC);
        let context =
            ConnectorContext { cancel: CancellationToken::new(), io, form, time_zone, shared: Default::default() };
        self.try_open_writer(&context).is_ok_and(|writer| writer.prints())
    }

    /// The parameters as they may be shown: secrets stand as `***`.
    pub fn redacted(&self) -> Value {
        // An endpoint does not say which side it is; what is secret at either is shown at neither.
        let plugins = [Side::Reader, Side::Writer].into_iter().filter_map(|side| find_plugin(&self.plugin, side).ok());
        plugins.fold(secrets::redact(&self.parameter, None), |shown, (plugin, _)| {
            secrets::redact(&shown, Some(&plugin.schema()))
        })
    }

    pub(crate) fn try_open_reader(&self, context: &ConnectorContext) -> Result<Arc<dyn Reader>, Faults> {
        let plugin = self.reader_plugin()?;
        let parameters = self.resolved(&plugin.into())?;
        (plugin.open)(&parameters, &self.context(context)).map_err(|faults| faults.under(&self.pointer))
    }

    pub(crate) fn try_open_writer(&self, context: &ConnectorContext) -> Result<Arc<dyn Writer>, Faults> {
        let plugin: &'static WriterPlugin = weir_core::writers()
            .into_iter()
            .find(|p| p.name == self.plugin)
            .ok_or_else(|| self.unknown(Side::Writer))?;
        let parameters = self.resolved(&plugin.into())?;
        // Only a source's connections are counted.
        let context = ConnectorContext { shared: context.shared.within(None), ..self.context(context) };
        (plugin.open)(&parameters, &context).map_err(|faults| faults.under(&self.pointer))
    }

    fn reader_plugin(&self) -> Result<&'static ReaderPlugin, Faults> {
        weir_core::readers().into_iter().find(|p| p.name == self.plugin).ok_or_else(|| self.unknown(Side::Reader))
    }

    fn unknown(&self, side: Side) -> Faults {
        let message = find_plugin(&self.plugin, side).err().unwrap_or_else(|| "use its plain name".into());
        Faults::one(&self.pointer, message)
    }

    /// The same context, in this endpoint's words.
    fn context(&self, context: &ConnectorContext) -> ConnectorContext {
        ConnectorContext { form: self.form, ..context.clone() }
    }

    fn resolved(&self, plugin: &Plugin) -> Result<Value, Faults> {
        let mut parameters = secrets::resolve(&self.parameter).map_err(|faults| faults.under(&self.pointer))?;
        if parameters != self.parameter {
            validate::settle(&mut parameters, &plugin.schema()).map_err(|faults| faults.under(&self.pointer))?;
        }
        Ok(parameters)
    }
}

impl Entry {
    /// Opens both ends, and names the faults of both at once. Connects to nothing.
    ///
    /// # Errors
    /// Every fault with its pointer.
    pub fn open(&self, context: &ConnectorContext) -> Result<Ends, Faults> {
        match (self.reader.try_open_reader(context), self.writer.try_open_writer(context)) {
            (Ok(reader), Ok(writer)) => Ok((reader, writer)),
            (Err(faults), Ok(_)) | (Ok(_), Err(faults)) => Err(faults),
            (Err(mut faults), Err(more)) => {
                faults.0.extend(more.0);
                Err(faults)
            }
        }
    }
}
