//! Reads tables of sqlite.
