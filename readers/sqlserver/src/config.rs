//! The reader's parameters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_core::{ConnectorContext, Faults, Secret};
use weir_sql::ReaderConfig;
use weir_sqlserver::{Fractions, Options, Setup, SqlServerCatalog, TlsConfig};

/// Parameters of the SQL Server reader.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct SqlServerReaderConfig {
    /// What all relational readers have.
    #[serde(flatten)]
    pub common: ReaderConfig,
    /// Encryption.
    #[serde(flatten)]
    pub tls: TlsConfig,
    /// What the rows of a split show. `auto` (default): one moment, that at which the split's own read begins, where the
    /// database allows snapshot isolation; else what is committed when each row is met. `lock`: all splits show one moment,
    /// for shared locks keep writers out of the tables until the last split has been read. `none`: READ COMMITTED.
    pub consistency: Consistency,
    /// What becomes of `time(7)`, `datetime2(7)` and `datetimeoffset(7)`, whose steps are 100 nanoseconds. `exact` (default)
    /// keeps every digit: in nanoseconds, from 1677 to 2262, where the target has them; in microseconds else, and a value
    /// with a seventh digit is a dirty row. `microseconds` lets the server round them, in every year.
    pub fractions: Fractions,
}

/// What the rows of a split show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Consistency {
    /// Snapshot isolation where the database allows it.
    #[default]
    Auto,
    /// One moment for all splits, under shared locks.
    Lock,
    /// What is committed.
    None,
}

impl SqlServerReaderConfig {
    /// The servers behind some URLs, with this reader's own parameters.
    pub(crate) fn options(
        &self,
        urls: &[String],
        username: Option<&str>,
        password: Option<&Secret>,
        pointer: &str,
    ) -> Result<Vec<Options>, Faults> {
        self.tls.options(urls, username, password, pointer)
    }

    /// What every session says.
    pub(crate) fn setup(&self) -> Setup {
        Setup { session: self.common.session.as_slice().to_vec() }
    }

    /// The catalogue behind the first URL; a table is not needed.
    ///
    /// # Errors
    /// No URL, or a wrong one.
    pub(crate) fn catalog(&self, context: &ConnectorContext) -> Result<SqlServerCatalog, Faults> {
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
        Ok(SqlServerCatalog { options, setup: self.setup(), context: context.clone() })
    }
}
