//! What the workspace's benches measure; no part of the connector.

use arrow::array::ArrayRef;
use weir_core::{Error, Result};
use weir_mysql::wire::Span;
use weir_mysql::{Kind, Shape, ZeroDate};

use crate::decode::{Cells, Decoder};

/// The column whose cells are the spans.
///
/// # Errors
/// A type that is none, a cell that is none of its values.
pub fn decode(type_text: &str, bytes: &[u8], spans: &[Span]) -> Result<ArrayRef> {
    let kind = Kind::parse(type_text);
    let field = kind.canonical("c", Shape::default()).ok_or_else(|| Error::internal("no such type"))?;
    let mut decoder = Decoder::new(&kind, &field, ZeroDate::Error)?;
    let mut failed = None;
    for spans in spans.chunks(256) {
        decoder.append(Cells { bytes, spans, width: 1, place: 0 }, &mut |row, bad| failed = Some((row, bad)));
    }
    match failed {
        Some((row, bad)) => Err(Error::internal(format!("row {row}: {bad:?}"))),
        None => decoder.finish(),
    }
}
