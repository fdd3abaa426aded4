//! Writes Delta Lake tables.
