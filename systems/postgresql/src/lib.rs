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
pub mod find;
pub mod keys;
mod nodelay;
mod objects;
mod options;
mod rows;
mod settings;
pub mod snapshot;
mod stopper;
pub mod structure;
pub mod types;
pub mod url;
mod wire;
pub mod written;

pub use connection::{Endpoint, Session, literal};
pub use options::TlsConfig;
pub use rows::RowSession;
pub use settings::LOCK_TIMEOUT;
pub use stopper::Stopper;
pub use types::{PgType, SYSTEM, Wire};
pub use wire::Next;

/// The parameters for a bare location of `weir copy`, if it is a PostgreSQL URL.
pub fn recognise(location: &str, table: Option<&str>) -> Option<serde_json::Value> {
    url::strip_scheme(location)?;
    let mut parameters = serde_json::json!({ "url": location });
    if let Some(table) = table {
        parameters["table"] = table.into();
    }
    Some(parameters)
}
