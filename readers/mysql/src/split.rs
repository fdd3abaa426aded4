//! Cutting tables into splits.

use serde::{Deserialize, Serialize};
use weir_core::{Error, Result, Split, SplitRequest};
use weir_mysql::{Column, Kind, QUOTING, RowSession, Session, Table, escape};
use weir_sql::cuts::{Boundary, CutColumn, cut, even, key_column, pieces};

use crate::source::{Cell, Described};

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
    let names = table.columns.iter().map(|c| c.name.as_str());
    let column = key_column(split_pk, names, table.primary_key().first().map(|name| &**name), QUOTING)?;
    let column = column.map(|at| &table.columns[at]).filter(|column| is_cut_by(&column.kind));
    let pieces = pieces(table.bytes, split_pk.is_some(), tables, request);
    Ok(column.filter(|_| pieces > 1).map(|column| Cut { table, column, pieces }))
}

/// The splits of one table or statement, of the rows for which `window` holds; uncut where that is not `planned`.
pub(crate) async fn plan(
    planned: Option<(Asked<'_>, Cut<'_>)>,
    source: usize,
    described: &Described,
    window: Option<&str>,
) -> Result<Vec<Split>> {
    let part = |condition: Option<String>| {
        let part = Part {
            source,
            from: described.from.clone(),
            query: described.query,
            condition,
            window: window.map(str::to_owned),
            columns: described.columns.iter().map(|o| o.cell.clone()).collect(),
        };
        serde_json::to_value(part).map_err(|e| Error::internal("a split cannot be written down").because(e))
    };
    let (rows, bytes) = described.table.as_ref().map_or((None, None), |t| (t.rows, t.bytes));
    let whole = Split {
        id: 0,
        table: described.label.clone(),
        description: if described.table.is_some() { "all rows" } else { "whole result" }.into(),
        rows,
        bytes,
        stable: true,
        part: part(None)?,
    };
    let Some((mut asked, Cut { table, column, pieces })) = planned else { return Ok(vec![whole]) };
    let boundaries = boundaries(&mut asked, table, column, (&described.from, window), pieces).await?;
    let column = CutColumn { name: &column.name, nullable: column.nullable };
    cut(&whole, column, QUOTING, boundaries, part)
}

/// What the server orders by something else than it compares by is not cut.
fn is_cut_by(kind: &Kind) -> bool {
    matches!(
        kind,
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
        if let Some(cuts) = even(min, max, table.rows, pieces) {
            return Ok(cuts);
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
