//! Reads tables of postgresql.
