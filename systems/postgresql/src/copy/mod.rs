//! COPY's binary format, both ways, and its text format for types that have no binary form of ours.
//!
//! A stream is a header, tuples and a trailer. A tuple is a 16-bit count of fields, and for each a 32-bit length (-1
//! for NULL) and the bytes of the type's binary form.

mod column;
pub mod decode;
pub mod encode;
mod lists;
pub mod numeric;
mod show;
pub mod temporal;
pub mod text;

pub use decode::{Decoded, Decoder};
pub use encode::{Encoded, Encoder};

/// Signature, flags and the length of an empty header extension.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The tuple that ends the stream.
pub const TRAILER: [u8; 2] = (-1i16).to_be_bytes();
