//! Files: formats, compression, object stores.
