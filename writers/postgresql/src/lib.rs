//! Writes tables of postgresql.
