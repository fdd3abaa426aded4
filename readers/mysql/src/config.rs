//! The reader's parameters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_core::{ConnectorContext, Faults, Form, Secret};
use weir_mysql::{MySqlCatalog, Options, Setup, Tls, ZeroDate};
use weir_sql::ReaderConfig;

/// Parameters of the MySQL reader.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MySqlReaderConfig {
    /// What all relational readers have.
    #[serde(flatten)]
    pub common: ReaderConfig,
    /// How the connection is encrypted: disabled, preferred (default), required, verify-ca or verify-identity.
    pub ssl_mode: Option<String>,
    /// A PEM file with the certificates that verify-ca and verify-identity trust.
    pub ssl_ca: Option<String>,
    /// What becomes of dates that no calendar has (`0000-00-00`): `error` makes the row dirty, `null` makes the value
    /// NULL. By default error under our name and null under DataX's.
    pub zero_date: Option<ZeroDate>,
    /// Whether all splits of a run see one moment of the source. `auto` (default) needs no more than SELECT: it opens the
    /// snapshots of all connections together and compares the server's binlog position before and after, where that is
    /// readable; with MySQL's `gtid_mode` off, that passes over transactions in the midst of their commit. The plan says
    /// what was achieved. `snapshot` makes sure, with FLUSH TABLES WITH READ LOCK or LOCK TABLES … READ until all
    /// connections have begun, else with one connection for all splits. `none` lets each split see the moment at which its
    /// own read begins.
    pub consistency: Consistency,
    /// Whether `tinyint(1)` is read as a boolean; every value but 0 is then true.
    #[serde(rename = "tinyInt1isBit")]
    pub tiny_int1is_bit: Option<bool>,
    /// Whether `year` is read as the first of January.
    pub year_is_date_type: Option<bool>,
}

/// Whether splits see one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Consistency {
    /// As near as SELECT alone can bring it.
    #[default]
    Auto,
    /// For certain, or not at all.
    Snapshot,
    /// Each split its own.
    None,
}

impl MySqlReaderConfig {
    /// The servers behind some URLs, with this reader's own parameters.
    pub(crate) fn options(
        &self,
        urls: &[String],
        username: Option<&str>,
        password: Option<&Secret>,
        pointer: &str,
    ) -> Result<Vec<Options>, Faults> {
        let mut all = Vec::new();
        let mut faults = Faults::default();
        for url in urls {
            match Options::parse(url, username, password, pointer) {
                Ok(options) => all.extend(options),
                Err(more) => faults.0.extend(more.0),
            }
        }
        for options in &mut all {
            if let Some(mode) = &self.ssl_mode {
                match Tls::parse(mode) {
                    Some(tls) => options.tls = tls,
                    None => faults.add(
                        "/sslMode",
                        format!("`{mode}` is none of disabled, preferred, required, verify-ca and verify-identity"),
                    ),
                }
            }
            if self.ssl_ca.is_some() {
                options.ca.clone_from(&self.ssl_ca);
            }
            if let Some(tiny) = self.tiny_int1is_bit {
                options.tiny_is_bool = tiny;
            }
            if let Some(year) = self.year_is_date_type {
                options.year_is_date = year;
            }
        }
        faults.0.dedup();
        faults.or(all)
    }

    /// What zero dates become.
    pub(crate) fn zero_date(&self, url: Option<ZeroDate>, form: Form) -> ZeroDate {
        let default = if form == Form::DataX { ZeroDate::Null } else { ZeroDate::Error };
        self.zero_date.or(url).unwrap_or(default)
    }

    /// What every session says.
    pub(crate) fn setup(&self) -> Setup {
        Setup { session: self.common.session.as_slice().to_vec() }
    }

    /// The catalogue behind the first URL; a table is not needed.
    ///
    /// # Errors
    /// No URL, or a wrong one.
    pub(crate) fn catalog(&self, context: &ConnectorContext) -> Result<MySqlCatalog, Faults> {
        let common = &self.common;
        let first = common.connection.as_slice().first();
        let urls = match first.map(|c| c.jdbc_url.as_slice()).filter(|u| !u.is_empty()) {
            Some(urls) => urls.to_vec(),
            None => common.url.iter().cloned().collect(),
        };
        if urls.is_empty() {
            return Err(Faults::one("/url", "no `url`: say where the database is (or name a `datasource`)"));
        }
        let username = first.and_then(|c| c.username.as_deref()).or(common.username.as_deref());
        let password = first.and_then(|c| c.password.as_ref()).or(common.password.as_ref());
        let options = self.options(&urls, username, password, "/url")?;
        Ok(MySqlCatalog { options, setup: self.setup(), context: context.clone() })
    }
}
