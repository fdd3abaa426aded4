//! What the reader and the writer of files share: where files are, how they are packed, and how text becomes values.
//!
//! ```text
//!   Location ──▶ Store ──▶ ByteStream ──▶ Unpack ──▶ Decode ──▶ text      (reader)
//!   Location ──▶ Store ◀── Sink       ◀── Pack   ◀── Encode ◀── text      (writer)
//!                  └────▶ RangeSource ──▶ Parquet, Arrow IPC
//! ```
//!
//! Nothing here holds a whole file: streams move in blocks, Parquet and Arrow IPC are read by ranges. What is large and
//! can only be had in one piece is put into a temporary file first (`spool.rs`).
//!
//! # Extending
//!
//! A new place for files is a scheme in [`open_store`]; a new packing is a variant of
//! [`Compression`] with its two ends in `pack.rs` and `unpack.rs`.

mod body;
mod column_encodings;
mod column_windows;
mod columnar;
mod durable;
mod encoding;
mod error;
mod exchange;
mod format;
mod ipc;
mod location;
mod manifest;
mod options;
mod pack;
mod parquet;
mod pattern;
mod remote;
mod row_groups;
mod silence;
mod sink;
mod spool;
mod store;
mod stream;
#[cfg(test)]
mod testing;
mod unpack;
mod unzip;
mod whole;

pub use column_encodings::column_encodings;
pub use columnar::{ColumnarReader, RangeSource, parquet_error};
pub use encoding::{Decode, Encode, encoding};
pub use error::{arrow_error, store_error};
pub use exchange::{dress, exchange, is_writable, nearest};
pub use format::{Compression, Format, split_extension};
pub use location::Location;
pub use manifest::{Hidden, MANIFEST, Manifest};
pub use options::StoreOptions;
pub use pack::Pack;
pub use parquet::{ParquetSource, RowGroups, unwound};
pub use pattern::{Moment, Pattern};
pub use remote::{Opened, open_store};
pub use silence::unanswered;
pub use sink::Sink;
pub use spool::{SPOOL, spool_error, spooled};
pub use store::{Entry, Found, Store};
pub use stream::{BLOCK, ByteStream, TextSource, is_pipe};
pub use unpack::Unpack;
