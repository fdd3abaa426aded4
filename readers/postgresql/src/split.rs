//! How a table is cut: ranges of heap pages, else ranges of a key in the server's own order, else not at all.

use serde::{Deserialize, Serialize};
use serde_json::to_value;
use weir_core::{Error, Result, Split, SplitRequest};
use weir_postgresql::catalog::{Table, TableColumn};
use weir_postgresql::error::is_state;
use weir_postgresql::keys::unique_keys;
use weir_postgresql::{PgType, Session, Wire, literal};
use weir_sql::{KeyRange, Quoting, find_name, key_ranges};

use crate::source::{Column, Described};

/// Below this a table is read in one piece: a second connection costs more than it brings.
const SMALL: u64 = 8 << 20;
/// Pieces a channel, for balance.
const PER_CHANNEL: u64 = 4;
/// Keys to look at for boundaries.
const SAMPLE: u64 = 200_000;

/// The reader's own words in a [`Split`]: everything that reading it takes, so that no task asks the catalogue again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The index of the database among the job's.
    pub endpoint: usize,
    /// What stands after FROM.
    pub from: String,
    /// Conditions, joined by AND.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<String>,
    /// All columns of the source, as the schema has them.
    pub columns: Vec<PartColumn>,
}

/// A [`Column`], with the least of letters: each split has all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartColumn {
    /// Its name.
    #[serde(rename = "n")]
    pub name: String,
    /// The text in the select list, where that is not the quoted name.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    sql: Option<String>,
    #[serde(rename = "t")]
    base: String,
    #[serde(rename = "o")]
    oid: u32,
    #[serde(rename = "m")]
    typmod: i32,
    #[serde(rename = "k")]
    kind: char,
}

impl PartColumn {
    fn of(column: &Column) -> Self {
        let PgType { base, oid, typmod, kind, .. } = column.pg.clone();
        let sql = Some(column.sql.clone()).filter(|sql| *sql != Quoting::DOUBLE.quote(&column.name));
        Self { name: column.name.clone(), sql, base, oid, typmod, kind }
    }

    /// The text in the select list.
    pub fn sql(&self) -> String {
        self.sql.clone().unwrap_or_else(|| Quoting::DOUBLE.quote(&self.name))
    }

    /// The type; of a domain, what lies below.
    pub fn pg(&self) -> PgType {
        let (text, base) = (self.base.clone(), self.base.clone());
        PgType { text, base, oid: self.oid, typmod: self.typmod, kind: self.kind, labels: Vec::new() }
    }
}

impl Part {
    /// Whether a statement of the job's is read, and no table.
    pub fn is_query(&self) -> bool {
        self.from.starts_with('(')
    }

    /// The column that the schema had at `index`: by its name, if the schema in hand is a younger one.
    pub fn column(&self, index: usize, name: &str) -> Option<&PartColumn> {
        let named = |c: &&PartColumn| c.name == name;
        self.columns.get(index).filter(named).or_else(|| self.columns.iter().find(named)).or(self.columns.get(index))
    }
}

/// How a table is cut.
pub struct Cut<'a> {
    table: &'a Table,
    /// What stands after FROM.
    from: &'a str,
    /// By the values of this column, if the job says so.
    key: Option<&'a TableColumn>,
    pieces: u64,
}

/// How a source is cut, if it is. `key` is the job's `splitPk`.
pub fn cuts<'a>(described: &'a Described, key: Option<&str>, request: &SplitRequest) -> Result<Option<Cut<'a>>> {
    let Some(table) = &described.table else { return Ok(None) };
    // A wrong splitPk is wrong for a small table too.
    let key = match key {
        Some(key) => {
            let names = table.names();
            let index = find_name("column", &Quoting::DOUBLE.unquote(key), names.iter().copied())?;
            Some(&table.columns[index])
        }
        None => None,
    };
    let pieces = pieces(table, request, key.is_some());
    let few = request.limit.is_some_and(|limit| limit < 100_000);
    Ok((pieces > 1 && !few).then_some(Cut { table, from: &described.from, key, pieces }))
}

/// The splits of one source, of the rows for which all `filters` hold; uncut where there is no `cut`.
pub async fn splits(
    cut: Option<(&mut Session, Cut<'_>)>,
    endpoint: usize,
    described: &Described,
    filters: &[String],
    request: &SplitRequest,
) -> Result<Vec<Split>> {
    let filters = if described.table.is_some() { filters } else { &[] };
    let (ranges, stable) = match cut {
        Some((session, cut)) => ranges(session, cut, filters, request).await?,
        None => (Vec::new(), true),
    };
    let ranges = if ranges.is_empty() { key_ranges("", "", &[], false) } else { ranges };
    let (rows, bytes) = described.table.as_ref().map_or((None, None), |t| (t.rows, t.bytes));
    // Ranges are made about equal; that of NULL keys is unknown, and as likely none.
    let share = |total: Option<u64>| total.map(|n| n / ranges.len() as u64);
    let columns: Vec<_> = described.columns.iter().map(PartColumn::of).collect();
    ranges
        .iter()
        .map(|range| {
            let part = Part {
                endpoint,
                from: described.from.clone(),
                conditions: filters.iter().cloned().chain(range.condition.clone()).collect(),
                columns: columns.clone(),
            };
            Ok(Split {
                id: 0,
                table: described.name.clone(),
                description: range.description.clone(),
                rows: share(rows),
                bytes: share(bytes),
                stable,
                part: to_value(part).map_err(|e| Error::internal("a split cannot be written").because(e))?,
            })
        })
        .collect()
}

/// The ranges, and whether they mean the same rows in every snapshot.
async fn ranges(
    session: &mut Session,
    Cut { table, from, key, pieces }: Cut<'_>,
    filters: &[String],
    request: &SplitRequest,
) -> Result<(Vec<KeyRange>, bool)> {
    let mut chosen = key;
    if chosen.is_none() && request.stable {
        chosen = lasting_key(session, table).await?;
    }
    // Rows stay where they are only for a snapshot whose tables are locked; and before version 14 each range of pages
    // was a scan of the whole table.
    if chosen.is_none() && table.heap && session.version >= 140_000 && request.snapshot.is_some() {
        return Ok((page_ranges(table.pages, pieces), false));
    }
    match chosen.or_else(|| table.key().first().copied()) {
        Some(column) => Ok((by_key(session, (table, from), column, filters, pieces).await?, true)),
        None => Ok((Vec::new(), true)),
    }
}

/// The column whose ranges last: the primary key, else a unique key that is never NULL, else the first column of a wider
/// primary key; of a type whose values are many and cheap to compare.
async fn lasting_key<'a>(session: &mut Session, table: &'a Table) -> Result<Option<&'a TableColumn>> {
    let fits = |column: &&TableColumn| {
        column.pg.kind == 'b'
            && matches!(column.pg.wire(), Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Uuid | Wire::Text)
    };
    let key = table.key();
    if let [column] = key.as_slice()
        && fits(column)
    {
        return Ok(Some(*column));
    }
    for unique in unique_keys(session, table).await? {
        if let [name] = unique.as_slice()
            && let Some(column) = table.column(name).filter(fits)
            && !column.nullable
        {
            return Ok(Some(column));
        }
    }
    Ok(key.first().copied().filter(|c| fits(c)))
}

fn pieces(table: &Table, request: &SplitRequest, asked: bool) -> u64 {
    let channels = request.channels.max(1) as u64;
    let Some(bytes) = table.bytes else {
        // A view or foreign table says nothing of its size: cut it only where the job asks for it.
        return if asked { channels * PER_CHANNEL } else { 1 };
    };
    let bounded = bytes.div_ceil(request.max_bytes.max(1));
    let balanced = if bytes < SMALL { 1 } else { (channels * PER_CHANNEL).min(bytes / (SMALL / 2)) };
    // DataX's users see as many tasks as they ask channels, whatever the size.
    let asked = if asked && bytes > 1 << 20 { channels } else { 1 };
    bounded.max(balanced).max(asked).min(100_000)
}

/// Ranges of heap pages. The last one has no end: pages may be added while splits are planned.
fn page_ranges(pages: u64, pieces: u64) -> Vec<KeyRange> {
    let pieces = pieces.min(pages).max(1);
    let edge = |i: u64| pages * i / pieces;
    (0..pieces)
        .map(|i| {
            let (start, end) = (edge(i), edge(i + 1));
            let from = format!("ctid >= '({start},0)'::tid");
            if i + 1 == pieces {
                KeyRange { condition: Some(from), description: format!("pages {start}–") }
            } else {
                let to = format!("ctid < '({end},0)'::tid");
                KeyRange {
                    condition: Some(format!("{from} AND {to}")),
                    description: format!("pages {start}–{}", end - 1),
                }
            }
        })
        .collect()
}

/// Ranges between keys that the server itself picked, sorted and holds different.
async fn by_key(
    session: &mut Session,
    (table, from): (&Table, &str),
    column: &TableColumn,
    filters: &[String],
    pieces: u64,
) -> Result<Vec<KeyRange>> {
    let name = Quoting::DOUBLE.quote(&column.name);
    // A sample is enough: boundaries need not cut evenly, only exactly.
    let sample = match table.rows {
        Some(rows) if rows > 4 * SAMPLE && matches!(table.kind, 'r' | 'p' | 'm') => {
            format!(" TABLESAMPLE SYSTEM ({:.6})", (100.0 * SAMPLE as f64 / rows as f64).clamp(0.0001, 100.0))
        }
        // Never analysed: by its pages, some twenty rows each at least.
        None if table.pages > SAMPLE / 10 && matches!(table.kind, 'r' | 'm') => {
            format!(" TABLESAMPLE SYSTEM ({:.6})", (10.0 * SAMPLE as f64 / table.pages as f64).clamp(0.0001, 100.0))
        }
        _ => String::new(),
    };
    let filter: String = filters.iter().map(|f| format!(" AND ({f}\n)")).collect();
    let found = session
        .rows(&format!(
            "SELECT b.k::text AS boundary FROM (SELECT DISTINCT k FROM ( \
               SELECT k, row_number() OVER (ORDER BY k) AS i, count(*) OVER () AS n FROM ( \
                 SELECT {name} AS k FROM {from}{sample} WHERE {name} IS NOT NULL{filter}) s) o \
             WHERE i > 1 AND (i - 1) * {pieces} / n > (i - 2) * {pieces} / n) b ORDER BY b.k"
        ))
        .await;
    let rows = match found {
        // Keys of a database in SQL_ASCII that are no UTF-8: uncut, each of their rows is dirty by itself.
        Err(error) if is_state(&error, &["22021"]) => return Ok(Vec::new()),
        found => found.map_err(|e| e.with("column", &column.name))?,
    };
    let mut boundaries = Vec::with_capacity(rows.len());
    // The type without its modifier: `'ab'::character(1)` would cut the boundary.
    let bare = session.value::<String>(&format!("SELECT format_type({}::oid, -1)", column.pg.oid)).await?;
    for row in &rows {
        let text: String = sqlx::Row::try_get(row, 0).map_err(weir_postgresql::error::map)?;
        boundaries.push(format!("{}::{bare}", literal(&text)));
    }
    Ok(key_ranges(&name, &column.name, &boundaries, column.nullable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_columns_place_may_move_but_not_its_name() {
        let column = |name: &str| PartColumn {
            name: name.into(),
            sql: None,
            base: "integer".into(),
            oid: 23,
            typmod: -1,
            kind: 'b',
        };
        let columns = vec![column("a"), column("b"), column("b")];
        let part = Part { endpoint: 0, from: "t".into(), conditions: Vec::new(), columns };
        assert_eq!(part.column(0, "a").unwrap().name, "a");
        assert_eq!(part.column(0, "b").unwrap().name, "b");
        assert_eq!(part.column(2, "c").unwrap().name, "b", "renamed on the way to the target");
        assert!(part.column(3, "c").is_none());
        assert_eq!(part.columns[0].sql(), "\"a\"");
        assert_eq!(
            serde_json::to_string(&part.columns[0]).unwrap(),
            r#"{"n":"a","t":"integer","o":23,"m":-1,"k":"b"}"#
        );
    }

    #[test]
    fn page_ranges_touch_and_the_last_is_open() {
        let conditions: Vec<_> = page_ranges(10, 3).into_iter().map(|r| r.condition.unwrap()).collect();
        assert_eq!(
            conditions,
            [
                "ctid >= '(0,0)'::tid AND ctid < '(3,0)'::tid",
                "ctid >= '(3,0)'::tid AND ctid < '(6,0)'::tid",
                "ctid >= '(6,0)'::tid"
            ]
        );
        assert_eq!(page_ranges(2, 8).len(), 2);
        assert_eq!(page_ranges(0, 8).len(), 1);
    }
}
