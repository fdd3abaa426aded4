//! Reads Delta Lake tables.
