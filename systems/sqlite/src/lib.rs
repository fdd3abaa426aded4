//! SQLite: connection, catalog, types.
