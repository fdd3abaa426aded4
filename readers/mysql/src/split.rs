//! Cutting tables into splits.

use serde::{Deserialize, Serialize};
use weir_core::{Error, Result, Split, SplitRequest};
use weir_mysql::{Column, Kind, QUOTING, RowSession, Session, Table, escape};
use weir_sql::{find_name, integer_boundaries, key_ranges};

use crate::source::{Cell, Described};

/// Below this, cutting costs more than it brings.
const SMALL: u64 = 8 * 1024 * 1024;

/// What a task needs to read its split: [`Split::part`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Which of the job's tables or statements, for the connection.
    pub(crate) source: usize,
    /// What follows FROM, or the statement.
    pub(crate) from: String,
    /// Whether `from` is a statement.
    #[serde(default)]
    pub(crate) query: bool,
    /// The range.
    pub(crate) condition: Option<String>,
    /// The window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<String>,
    /// Every column the reader offers.
    pub(crate) columns: Vec<Cell>,
}

/// A place to cut: as SQL, and for people.
struct Boundary {
    sql: String,
    shown: String,
}

/// A connection that a table is cut over.
pub(crate) enum Asked<'a> {
    /// One for the catalogue.
    Session(&'a mut Session),
    /// One that rows are read over.
    Rows(&'a mut RowSession),
}

impl Asked<'_> {
    /// The two texts of the first row of a query.
    async fn pair(&mut self, sql: &str) -> Result<Option<(Option<String>, Option<String>)>> {
        match self {
            Self::Session(session) => session.row(sql).await,
            Self::Rows(session) => Ok(session.cells(sql).await?.into_iter().next().and_then(|row| {
                let mut cells = row.into_iter();
                Some((cells.next()?, cells.next()?))
            })),
        }
    }
}

/// How a table is cut.
pub(crate) struct Cut<'a> {
    table: &'a Table,
    /// By the values of this column.
    column: &'a Column,
    pieces: usize,
}

/// How a table or statement is cut, if it is.
pub(crate) fn cuts<'a>(
    described: &'a Described,
    tables: usize,
    split_pk: Option<&str>,
    request: &SplitRequest,
) -> Result<Option<Cut<'a>>> {
    let Some(table) = &described.table else { return Ok(None) };
    let few = request.limit.is_some_and(|limit| limit <= 100_000);
    let column = key_column(table, split_pk)?;
    let pieces = pieces(table, split_pk.is_some(), tables, request);
    Ok(column.filter(|_| pieces > 1 && !few).map(|column| Cut { table, column, pieces }))
}

/// The splits of one table or statement, of the rows for which `window` holds; uncut where there is no `cut`.
pub(crate) async fn plan(
    cut: Option<(Asked<'_>, Cut<'_>)>,
    source: usize,
    described: &Described,
    window: Option<&str>,
) -> Result<Vec<Split>> {
    let part = |condition: Option<String>| Part {
        source,
        from: described.from.clone(),
        query: described.query,
        condition,
        window: window.map(str::to_owned),
        columns: described.columns.iter().map(|o| o.cell.clone()).collect(),
    };
    let (rows, bytes) = described.table.as_ref().map_or((None, None), |t| (t.rows, t.bytes));
    let Some((mut asked, Cut { table, column, pieces })) = cut else {
        return Ok(vec![Split {
            id: 0,
            table: described.label.clone(),
            description: if described.table.is_some() { "all rows" } else { "whole result" }.into(),
            rows,
            bytes,
            stable: true,
            part: to_value(&part(None))?,
        }]);
    };
    let quoted = QUOTING.quote(&column.name);
    let cuts = boundaries(&mut asked, table, column, (&described.from, window), pieces).await?;
    let sql: Vec<String> = cuts.iter().map(|b| b.sql.clone()).collect();
    let shown: Vec<String> = cuts.into_iter().map(|b| b.shown).collect();
    let ranges = key_ranges(&quoted, &column.name, &sql, column.nullable);
    let names = key_ranges(&column.name, &column.name, &shown, column.nullable);
    // Few rows have a NULL key, as a rule: the estimate is shared by the other ranges.
    let share = (ranges.len() - usize::from(column.nullable && ranges.len() > 1)).max(1) as u64;
    ranges
        .into_iter()
        .zip(names)
        .map(|(range, name)| {
            Ok(Split {
                id: 0,
                table: described.label.clone(),
                description: name.description,
                rows: rows.map(|n| n / share),
                bytes: bytes.map(|n| n / share),
                stable: true,
                part: to_value(&part(range.condition))?,
            })
        })
        .collect()
}

fn to_value(part: &Part) -> Result<serde_json::Value> {
    serde_json::to_value(part).map_err(|e| Error::internal("a split cannot be written down").because(e))
}

fn key_column<'a>(table: &'a Table, split_pk: Option<&str>) -> Result<Option<&'a Column>> {
    let column = match split_pk {
        Some(name) => {
            let names = table.columns.iter().map(|c| c.name.as_str());
            let index =
                find_name("column", &QUOTING.unquote(name), names).map_err(|e| e.with("parameter", "splitPk"))?;
            Some(&table.columns[index])
        }
        None => table.primary_key().first().and_then(|name| table.column(name)),
    };
    // What the server orders by something else than it compares by is not cut.
    Ok(column.filter(|c| {
        matches!(
            c.kind,
            Kind::Int { .. }
                | Kind::Decimal { .. }
                | Kind::Char(_)
                | Kind::Text(_)
                | Kind::Binary(_)
                | Kind::Date
                | Kind::DateTime(_)
                | Kind::Timestamp(_)
                | Kind::Year
                | Kind::Uuid
                | Kind::Inet
        )
    }))
}

fn pieces(table: &Table, asked: bool, tables: usize, request: &SplitRequest) -> usize {
    let bytes = table.bytes.unwrap_or(0);
    let bounded = bytes.div_ceil(request.max_bytes.max(1)) as usize;
    let channels = request.channels.max(1);
    let wanted = if asked {
        channels.div_ceil(tables.max(1))
    } else if bytes < SMALL {
        1
    } else {
        // Several for each channel, so that the last one does not leave the others idle.
        (4 * channels).div_ceil(tables.max(1)).min((bytes / SMALL) as usize)
    };
    wanted.max(bounded).clamp(1, 10_000)
}

async fn boundaries(
    asked: &mut Asked<'_>,
    table: &Table,
    column: &Column,
    (from, window): (&str, Option<&str>),
    pieces: usize,
) -> Result<Vec<Boundary>> {
    let quoted = &QUOTING.quote(&column.name);
    let within = window.map(|window| format!(" AND ({window})")).unwrap_or_default();
    if matches!(column.kind, Kind::Int { .. } | Kind::Year) {
        let range = asked
            .pair(&format!(
                "SELECT CAST(MIN({quoted}) AS CHAR), CAST(MAX({quoted}) AS CHAR) FROM {from} WHERE 1 = 1{within}"
            ))
            .await?;
        let Some((Some(min), Some(max))) = range else { return Ok(Vec::new()) };
        let parse = |text: &str| text.parse::<i128>().map_err(|_| Error::internal("a key is no integer"));
        let (min, max) = (parse(&min)?, parse(&max)?);
        // Where most numbers are unused, ranges of equal width would not hold equally many rows.
        let rows = i128::from(table.rows.unwrap_or(u64::MAX));
        if (max - min) / 16 <= rows.max(1000) {
            let cuts = integer_boundaries(min, max, pieces);
            return Ok(cuts.into_iter().map(|sql| Boundary { shown: sql.clone(), sql }).collect());
        }
    }
    let Some(rows) = table.rows else { return Ok(Vec::new()) };
    let step = (rows / pieces as u64).max(1);
    let text = format!("CAST({quoted} AS CHAR)");
    let raw = match column.kind {
        Kind::Char(_) | Kind::Text(_) | Kind::Binary(_) => format!("HEX({quoted})"),
        _ => text.clone(),
    };
    let shown = if column.kind.is_bytes() { raw.clone() } else { text };
    let mut cuts: Vec<Boundary> = Vec::new();
    while cuts.len() + 1 < pieces {
        // Each boundary is greater than the one before by the server's own comparison, so equal keys are never parted.
        let after = match cuts.last() {
            Some(last) => format!("{quoted} > {}", last.sql),
            None => format!("{quoted} IS NOT NULL"),
        };
        let next = asked
            .pair(&format!(
                "SELECT {raw}, {shown} FROM {from} WHERE {after}{within} ORDER BY {quoted} LIMIT 1 OFFSET {step}"
            ))
            .await?;
        let Some((Some(raw), shown)) = next else { break };
        let shown: String = shown.unwrap_or_else(|| raw.clone()).chars().take(60).collect();
        cuts.push(Boundary { sql: literal(column, &raw), shown: escape(&shown) });
    }
    Ok(cuts)
}

/// A literal that is compared by the column's own collation: a literal's yields to it, and the introducer says in which
/// character set the bytes are.
fn literal(column: &Column, raw: &str) -> String {
    match column.kind {
        Kind::Int { .. } | Kind::Year | Kind::Decimal { .. } => raw.to_owned(),
        Kind::Binary(_) => format!("X'{raw}'"),
        Kind::Char(_) | Kind::Text(_) => {
            format!("_{} X'{raw}'", column.charset.as_deref().unwrap_or("utf8mb4"))
        }
        _ => escape(raw),
    }
}
