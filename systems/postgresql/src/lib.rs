//! PostgreSQL: connection, catalog, types, COPY binary.
//!
//! What the reader and the writer of PostgreSQL share. One crate for the wire family: relatives that speak the
//! protocol come in here as variants.

pub mod catalog;
pub mod connection;
pub mod copy;
pub mod definitions;
pub mod error;
mod family;
mod nodelay;
mod objects;
pub mod snapshot;
pub mod structure;
pub mod types;
pub mod url;
pub mod written;

pub use connection::{Endpoint, Session, Stopper, TlsConfig, literal};
pub use types::{PgType, SYSTEM, Wire};

/// The parameters for a bare location of `weir copy`, if it is a PostgreSQL URL.
pub fn recognise(location: &str, table: Option<&str>) -> Option<serde_json::Value> {
    url::strip_scheme(location)?;
    let mut parameters = serde_json::json!({ "url": location });
    if let Some(table) = table {
        parameters["table"] = table.into();
    }
    Some(parameters)
}
