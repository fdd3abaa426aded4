//! Writes tables of sqlite.
