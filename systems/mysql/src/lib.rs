//! # weir-mysql: the MySQL wire family
//!
//! What the reader and the writer of MySQL, MariaDB, TiDB, Aurora and their relatives share: URLs and TLS, sessions,
//! errors, types and the catalogue.
//!
//! ```text
//!   url + parameters ──▶ Options ──▶ Session (mysql_async): catalogue, DDL, LOAD DATA, writes
//!                           └──────▶ RowSession (wire): rows, as the bytes of the text protocol
//! ```
//!
//! **Sessions** are set explicitly, never inherited from the server: strict SQL mode that still takes zero dates and a
//! zero in an auto-increment column, UTC, utf8mb4, long timeouts. What the job's `session` says comes after.
//!
//! **Types.** A column's own type text decides everything: its Arrow forms when reading, its DDL and its input when
//! writing. The native form of a value is its text-protocol bytes.
//!
//! **Silence.** A wait for the server ends when the run is stopped, and when another connection finds that the server is
//! gone or has forgotten the one that waits.

mod catalog;
mod checks;
mod connection;
mod error;
mod expressions;
mod family;
mod find;
mod grants;
mod objects;
mod position;
mod session;
mod show;
mod structure;
mod types;
mod url;
pub mod wire;
pub mod written;

pub use catalog::{
    AT_ONCE, Column, MySqlCatalog, Reference, Server, Table, describe, describe_tables, looked_ahead, looked_ahead_all,
    server,
};
pub use checks::{Constraint, check_constraints};
pub use connection::{RowSession, Session, Watch, connect, connect_first, connect_rows, escape};
pub use error::{from_async, is_row_fault};
pub use expressions::{Output, describe_query};
pub use find::{databases, find_table, find_tables, spelled};
pub use grants::{Grants, grants};
pub use position::{Committed, committed, position};
pub use session::Setup;
pub use structure::{describe_all, foreign_keys};
pub use types::{COLLATION, Kind, Shape, native_field};
pub use url::{Options, Tls, ZeroDate, recognise};

/// The system's name in field metadata.
pub const SYSTEM: &str = "mysql";

/// MySQL's quotation marks.
pub const QUOTING: weir_sql::Quoting = weir_sql::Quoting::BACKTICK;
