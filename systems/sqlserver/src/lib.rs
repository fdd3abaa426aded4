//! # weir-sqlserver: SQL Server over TDS
//!
//! What the reader and the writer of SQL Server, Azure SQL and Babelfish share: URLs and TLS, sessions, errors, types and
//! the catalogue.
//!
//! ```text
//!   url + parameters ──▶ Options ──▶ Session (tiberius): catalogue, rows, DDL, INSERT BULK
//! ```
//!
//! **Sessions** are set explicitly, never inherited from the server: ANSI options on, XACT_ABORT and implicit transactions
//! off, no limit on rows or text. What the job's `session` says comes after, and the essential ones once more.
//!
//! **Types.** A column's own type text decides everything: its Arrow forms when reading, its DDL and its input when
//! writing. Where the driver would bend values on their way (money goes through doubles, texts of UTF-8 collations through
//! a code page), the select list asks the server for another form.
//!
//! **Silence.** A wait for the server ends when the run is stopped, and when another connection finds that the server is
//! gone or has forgotten the one that waits.

mod catalog;
mod connection;
mod error;
mod expressions;
mod family;
mod objects;
mod rights;
mod session;
mod structure;
mod times;
mod tls;
mod tracking;
mod types;
mod url;

pub use catalog::{
    Column, Reference, Server, SqlServerCatalog, Table, Unique, describe, exists, exists_object, find_schema,
    find_table, hexadecimal as cell_hexadecimal, leads_index, looked_ahead, number as cell_number, server,
    text as cell_text,
};
pub use connection::{Client, Session, Watch, connect_first, literal};
pub use error::{from_driver, is_row_fault};
pub use expressions::{Output, describe_query};
pub use rights::Rights;
pub use session::Setup;
pub use structure::describe_all;
pub use times::{DAYS_TO_1900, DAYS_TO_1970, show_offset};
pub use tls::TlsConfig;
pub use tracking::{Tracking, kept_since, tracking};
pub use types::{COLLATION, Fractions, Kind};
pub use url::{Encrypt, Options, recognise};

/// The system's name in field metadata.
pub const SYSTEM: &str = "sqlserver";

/// SQL Server's quotation marks.
pub const QUOTING: weir_sql::Quoting = weir_sql::Quoting::BRACKET;
