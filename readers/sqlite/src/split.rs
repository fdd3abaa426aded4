//! Cutting a table into ranges of its row ids or of a key.

use serde::{Deserialize, Serialize};
use weir_core::{Error, Result, Split, SplitRequest};
use weir_sql::{integer_boundaries, key_ranges};
use weir_sqlite::catalog::SMALL_FILE;
use weir_sqlite::{Database, QUOTING, Value};

use crate::source::Described;

/// No split is cut smaller than this on our own account.
const LEAST_BYTES: u64 = 16 * 1024 * 1024;

/// What a split's `part` holds: all that `read` needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The source, by index.
    pub source: usize,
    /// The select list, one entry for each column of the schema; `None` for a query, which is run as it is.
    pub select: Option<Select>,
}

/// A SELECT that is put together from the columns a task wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Select {
    /// One entry for each column of the schema.
    pub columns: Vec<String>,
    /// The quoted table.
    pub from: String,
    /// All of them must hold.
    pub conditions: Vec<String>,
}

/// The splits of one source. `tables` is how many sources the job has.
pub fn cut(
    database: &Database<'_>,
    index: usize,
    source: &Described,
    split_pk: Option<&str>,
    request: &SplitRequest,
    tables: usize,
    file_bytes: u64,
) -> Result<Vec<Split>> {
    let split = |condition: Option<String>, description: String, share: u64| {
        let mut select = source.select.clone();
        if let Some(select) = &mut select {
            select.conditions.extend(condition);
        }
        let part = serde_json::to_value(Part { source: index, select })
            .map_err(|error| Error::internal("a split could not be written down").because(error))?;
        let (rows, bytes) = (source.rows.map(|n| n.div_ceil(share)), source.bytes.map(|n| n.div_ceil(share)));
        Ok(Split { id: 0, table: source.name.clone(), description, rows, bytes, stable: true, part })
    };
    let pieces = pieces(source, split_pk.is_some(), request, tables, file_bytes);
    let keys = if pieces > 1 { keys(database, source, split_pk, pieces)? } else { None };
    let Some(keys) = keys.filter(|keys| !keys.boundaries.is_empty()) else {
        let description = if source.select.is_some() { "all rows" } else { "the whole query" };
        return Ok(vec![split(None, description.into(), 1)?]);
    };
    let ranges = key_ranges(&keys.sql, &keys.name, &keys.boundaries, keys.nullable);
    let share = ranges.len() as u64;
    ranges.into_iter().map(|range| split(range.condition, range.description, share)).collect()
}

fn pieces(source: &Described, by_user: bool, request: &SplitRequest, tables: usize, file_bytes: u64) -> usize {
    if source.table.is_none() || request.limit.is_some_and(|limit| limit <= 100_000) {
        return 1;
    }
    let bytes = source.bytes.unwrap_or(file_bytes);
    let mut pieces = usize::try_from(bytes.div_ceil(request.max_bytes.max(1))).unwrap_or(1);
    let share = request.channels.div_ceil(tables.max(1));
    if by_user {
        pieces = pieces.max(share);
    } else if bytes > SMALL_FILE && request.channels > 1 {
        let most = usize::try_from(bytes / LEAST_BYTES).unwrap_or(1);
        pieces = pieces.max((share * 3).min(most));
    }
    pieces.clamp(1, 10_000)
}

/// A key and the literals that cut it.
struct Keys {
    sql: String,
    name: String,
    boundaries: Vec<String>,
    nullable: bool,
}

fn keys(database: &Database<'_>, source: &Described, split_pk: Option<&str>, pieces: usize) -> Result<Option<Keys>> {
    let Some(table) = &source.table else { return Ok(None) };
    let quoted = table.name.quoted(QUOTING);
    let own = QUOTING.quote(&table.name.name);
    let qualified = |column: &str| format!("{own}.{}", QUOTING.quote(column));
    let first_key = || table.key().into_iter().next();
    let (sql, name, nullable) = match (split_pk, table.rowid()) {
        (Some(written), _) => {
            let index = weir_sql::find_name("column", &QUOTING.unquote(written), table.column_names().into_iter())
                .map_err(|error| error.with("parameter", "splitPk"))?;
            let column = &table.columns[index];
            (qualified(&column.name), column.name.clone(), column.nullable)
        }
        (None, Some(rowid)) => (format!("{own}.{rowid}"), rowid.to_owned(), false),
        (None, None) if table.kind == "table" => match first_key() {
            Some(key) => (qualified(&key), key, false),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    // Ranges of equal width cost two look-ups; they are only as even as the keys lie. When most of the span is empty,
    // or the key is no integer, the keys themselves are walked once.
    let edge = |function: &str| database.integer(&format!("SELECT {function}({sql}) FROM {quoted}"), &[]);
    let others = format!("SELECT 1 FROM {quoted} WHERE typeof({sql}) NOT IN ('integer', 'null') LIMIT 1");
    let is_rowid = split_pk.is_none() && table.rowid().is_some();
    let integers = is_rowid || database.integer(&others, &[])?.is_none();
    let rows = match source.rows {
        Some(rows) if source.counted => rows,
        _ => database
            .integer(&format!("SELECT count(*) FROM {quoted}"), &[])?
            .map_or(0, |n| u64::try_from(n).unwrap_or(0)),
    };
    if integers && let (Some(min), Some(max)) = (edge("min")?, edge("max")?) {
        let width = i128::from(max) - i128::from(min) + 1;
        if width <= i128::from(rows) * 4 {
            let boundaries = integer_boundaries(i128::from(min), i128::from(max), pieces);
            return Ok(Some(Keys { sql, name, boundaries, nullable }));
        }
    }
    let step = (rows / pieces as u64).max(1);
    let walk = format!(
        "SELECT DISTINCT k FROM (SELECT {sql} AS k, row_number() OVER (ORDER BY {sql}) AS n FROM {quoted} \
         WHERE {sql} IS NOT NULL) WHERE n % ?1 = 0 AND n < ?2 ORDER BY k"
    );
    let end = i64::try_from(rows).unwrap_or(i64::MAX);
    let step = i64::try_from(step).unwrap_or(i64::MAX);
    let mut boundaries = Vec::new();
    database.query(&walk, &[Value::Integer(step), Value::Integer(end)], |row| {
        boundaries.push(literal(row.value(0)));
    })?;
    Ok(Some(Keys { sql, name, boundaries, nullable }))
}

/// A boundary as an SQL literal. It need not be a key that exists: it only has to be the same text on both of its sides.
fn literal(value: Value<'_>) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02X}")).collect::<String>();
    match value {
        Value::Null => "NULL".into(),
        Value::Integer(i64::MIN) => "(-9223372036854775807 - 1)".into(),
        Value::Integer(n) => n.to_string(),
        Value::Real(x) if x.is_infinite() => if x > 0.0 { "9e999" } else { "-9e999" }.into(),
        Value::Real(x) => format!("{x:?}"),
        Value::Text(text) => match std::str::from_utf8(text) {
            Ok(text) if !text.contains('\0') => format!("'{}'", text.replace('\'', "''")),
            _ => format!("CAST(X'{}' AS TEXT)", hex(text)),
        },
        Value::Blob(bytes) => format!("X'{}'", hex(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_literals() {
        assert_eq!(literal(Value::Text(b"O'Hara")), "'O''Hara'");
        assert_eq!(literal(Value::Text(b"a\0b")), "CAST(X'610062' AS TEXT)");
        assert_eq!(literal(Value::Real(1.0)), "1.0");
        assert_eq!(literal(Value::Blob(b"\x01\xff")), "X'01FF'");
    }
}
