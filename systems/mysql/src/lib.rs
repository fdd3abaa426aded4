//! The MySQL wire family: connection, catalog, types, LOAD DATA.
