//! PostgreSQL: connection, catalog, types, COPY binary.
