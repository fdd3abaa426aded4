//! Counts or prints the rows it is given.
