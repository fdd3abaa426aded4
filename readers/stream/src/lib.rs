//! Reads random and constant rows.
