//! Types and values on every route, compared inside the databases: equal, refused in plain words, or in a text form,
//! and never silently other.
//!
//! `cases_*.rs` say what is moved, `matrix.rs` moves every type from every database to every target and back, `compare.rs`
//! says whether it is the same, `random.rs` moves random tables, and `page.rs` writes down what came of it.

mod canon;
mod cases_mysql;
mod cases_postgresql;
mod cases_sqlite;
mod cases_sqlserver;
mod clocks;
mod compare;
mod edges;
mod json;
mod literals;
mod losses;
mod matrix;
mod narrow;
mod own;
mod page;
mod place;
mod random;
mod sqlserver;
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

/// Every byte once, in the spelling of all but PostgreSQL.
pub const ALL_BYTES: &str = "x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f\
    808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff'";
