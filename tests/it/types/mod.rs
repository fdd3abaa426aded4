//! Types and values on every route, compared inside the databases: equal, refused in plain words, or in a text form,
//! and never silently other.
//!
//! `cases_*.rs` say what is moved, `matrix.rs` moves every type from every database to every target and back, `compare.rs`
//! says whether it is the same, `random.rs` moves random tables, and `page.rs` writes down what came of it.

mod canon;
mod cases_mysql;
mod cases_postgresql;
mod cases_sqlite;
mod compare;
mod json;
mod literals;
mod matrix;
mod page;
mod place;
mod random;
mod target;
#[cfg(feature = "cli")]
mod zones;

/// What values of a type mean, so that two systems' spellings of them can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Bool,
    Number,
    Single,
    Double,
    Text,
    Bytes,
    Date,
    Time,
    Timestamp,
    Instant,
    Duration,
    Json,
    Uuid,
    /// Only the system that has the type knows what its values mean.
    Other,
}

/// A type as its system writes it, what it means, and SQL literals of its values.
#[derive(Debug, Clone, Copy)]
pub struct Type(pub &'static str, pub Class, pub &'static [&'static str]);
