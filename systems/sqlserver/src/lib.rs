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
//! off, no limit on rows or text. What the job's `session` says comes after, and the essential ones once more. A session rests
//! between the calls of a run, if nothing went wrong in it; before it is used again, what calls set for themselves is set back,
//! and one that is in a transaction is not used.
//!
//! **Databases.** A session shows the catalogue of the database that it is in. The catalogue goes through those that somebody
//! looks into one after the other, by as many statements in each, however many tables there are; who reads a table connects
//! to its database.
//!
//! **Types.** A column's own type text decides everything: its Arrow forms when reading, its DDL and its input when
//! writing. Where the driver would bend values on their way (money goes through doubles, texts of UTF-8 collations through
//! a code page), the select list asks the server for another form.
//!
//! **Silence.** A wait for the server ends when the run is stopped, and when another connection finds that the server is
//! gone or has forgotten the one that waits.

mod catalog;
mod cells;
mod connection;
mod databases;
mod error;
mod expressions;
mod family;
mod find;
mod objects;
mod rights;
mod server;
mod session;
mod sizes;
mod structure;
mod table;
mod times;
mod tls;
mod tracking;
mod types;
mod url;

pub use catalog::{SqlServerCatalog, looked_ahead};
pub use cells::{hexadecimal as cell_hexadecimal, number as cell_number, text as cell_text};
pub use connection::{Client, Session, Watch, connect_first, literal};
pub use error::{from_driver, is_row_fault};
pub use expressions::{Output, describe_query};
pub use find::{exists, exists_object, find_table, find_tables, schemas, spelled};
pub use rights::Rights;
pub use server::{Server, server};
pub use session::Setup;
pub use structure::{describe_all, foreign_keys};
pub use table::{AT_ONCE, Column, Reference, Table, Unique, describe, describe_tables, leads_index};
pub use times::{DAYS_TO_1900, DAYS_TO_1970, show_offset};
pub use tls::TlsConfig;
pub use tracking::{Tracking, kept_since, tracking};
pub use types::{COLLATION, Fractions, Kind};
pub use url::{Encrypt, Options, recognise};

/// The system's name in field metadata.
pub const SYSTEM: &str = "sqlserver";

/// SQL Server's quotation marks.
pub const QUOTING: weir_sql::Quoting = weir_sql::Quoting::BRACKET;
