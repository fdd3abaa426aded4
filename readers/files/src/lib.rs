//! Reads CSV, JSON lines, Parquet and Arrow IPC files.
