//! Cells of the server's own views, and rows that it may not give.

use tiberius::{ColumnData, Row};
use weir_core::Result;

use crate::connection::Session;
use crate::databases::is_final;

/// A cell as an integer, whatever its width.
pub fn number(row: &Row, at: usize) -> Option<i64> {
    match row.cells().nth(at)?.1 {
        ColumnData::U8(n) => n.map(i64::from),
        ColumnData::I16(n) => n.map(i64::from),
        ColumnData::I32(n) => n.map(i64::from),
        ColumnData::I64(n) => *n,
        ColumnData::Bit(b) => b.map(i64::from),
        _ => None,
    }
}

/// A cell as text.
pub fn text(row: &Row, at: usize) -> Option<String> {
    match row.cells().nth(at)?.1 {
        ColumnData::String(Some(text)) => Some(text.to_string()),
        _ => None,
    }
}

/// A cell of bytes, in hexadecimal.
pub fn hexadecimal(row: &Row, at: usize) -> Option<String> {
    match row.cells().nth(at)?.1 {
        ColumnData::Binary(Some(bytes)) => Some(bytes.iter().map(|b| format!("{b:02X}")).collect()),
        _ => None,
    }
}

/// Rows of a query that a relative, or a user with few rights, may not be given an answer to.
pub(crate) async fn optional(session: &mut Session, sql: &str) -> Result<Vec<Row>> {
    match session.rows(sql).await {
        Err(error) if is_final(&error) => Err(error),
        rows => Ok(rows.unwrap_or_default()),
    }
}
