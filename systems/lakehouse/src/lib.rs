//! Delta Lake tables: location, types, log.
