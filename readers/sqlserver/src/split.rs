//! Cutting tables into splits.

use serde::{Deserialize, Serialize};
use weir_core::{Error, Result, Split, SplitRequest};
use weir_sql::cuts::{Boundary, CutColumn, cut, even, key_column, pieces};
use weir_sqlserver::{Column, Kind, QUOTING, Session, Table, cell_hexadecimal, cell_number, cell_text, literal};

use crate::incremental::Narrowed;
use crate::source::{Cell, Described, Isolation};
use crate::tracking::Changes;

/// What a task needs to read its split: [`Split::part`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Which of the job's tables or statements, for the connection.
    pub(crate) source: usize,
    /// What follows FROM, or the statement.
    pub(crate) from: String,
    /// Whether `from` is a statement that stands for itself.
    #[serde(default)]
    pub(crate) bare: bool,
    /// Whether the job's `where` applies.
    #[serde(default)]
    pub(crate) table: bool,
    /// The range.
    pub(crate) condition: Option<String>,
    /// The window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<String>,
    /// The changes that it is known by, where they are not in a column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) changes: Option<Changes>,
    /// What the database allows.
    pub(crate) isolation: Isolation,
    /// Every column the reader offers.
    pub(crate) columns: Vec<Cell>,
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
    let column = column.map(|at| &table.columns[at]).filter(|column| cast_of(column).is_some());
    let pieces = pieces(table.bytes, split_pk.is_some(), tables, request);
    Ok(column.filter(|_| pieces > 1).map(|column| Cut { table, column, pieces }))
}

/// The splits of one table or statement, of the rows in its window; uncut where that is not `planned`.
pub(crate) async fn plan(
    planned: Option<(&mut Session, Cut<'_>)>,
    source: usize,
    described: &Described,
    narrow: Option<&Narrowed>,
) -> Result<Vec<Split>> {
    let window = narrow.map(|narrow| narrow.condition.as_str());
    let part = |condition: Option<String>| {
        let part = Part {
            source,
            from: described.from.clone(),
            bare: described.bare,
            table: described.table.is_some(),
            condition,
            window: window.map(str::to_owned),
            changes: narrow.and_then(|narrow| narrow.changes.clone()),
            isolation: described.isolation,
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
    let Some((session, Cut { table, column, pieces })) = planned else { return Ok(vec![whole]) };
    let boundaries = boundaries(session, table, column, (&described.from, window), pieces).await?;
    let column = CutColumn { name: &column.name, nullable: column.nullable };
    cut(&whole, column, QUOTING, boundaries, part)
}

/// The type that a boundary is cast to, so that the server compares it by the column's own rules; `None` for what is not
/// cut: values without an order, or that a text does not hold exactly.
fn cast_of(column: &Column) -> Option<String> {
    let sortable = matches!(
        column.kind,
        Kind::TinyInt
            | Kind::SmallInt
            | Kind::Int
            | Kind::BigInt
            | Kind::Decimal { .. }
            | Kind::Date
            | Kind::Time(_)
            | Kind::DateTime
            | Kind::SmallDateTime
            | Kind::DateTime2(_)
            | Kind::Uuid
            | Kind::Char(_)
            | Kind::VarChar(Some(_))
            | Kind::NChar(_)
            | Kind::NVarChar(Some(_))
            | Kind::Binary(_)
            | Kind::VarBinary(Some(_))
    );
    sortable.then(|| column.type_text.clone())
}

async fn boundaries(
    session: &mut Session,
    table: &Table,
    column: &Column,
    (from, window): (&str, Option<&str>),
    pieces: usize,
) -> Result<Vec<Boundary>> {
    let quoted = &QUOTING.quote(&column.name);
    let within = window.map(|window| format!(" AND ({window})")).unwrap_or_default();
    let whole = matches!(column.kind, Kind::TinyInt | Kind::SmallInt | Kind::Int | Kind::BigInt);
    let mut rows = table.rows;
    if whole {
        let range = session
            .row(&format!(
                "SELECT CAST(MIN({quoted}) AS bigint), CAST(MAX({quoted}) AS bigint) FROM {from} WHERE 1 = 1{within}"
            ))
            .await?;
        let cell = |at| range.as_ref().and_then(|row| cell_number(row, at)).map(i128::from);
        let (Some(min), Some(max)) = (cell(0), cell(1)) else { return Ok(Vec::new()) };
        if let Some(cuts) = even(min, max, rows, pieces) {
            return Ok(cuts);
        }
    }
    if rows.is_none() {
        let counted = session.row(&format!("SELECT COUNT_BIG(*) FROM {from} WHERE 1 = 1{within}")).await?;
        rows = counted.as_ref().and_then(|row| cell_number(row, 0)).map(|n| n.max(0) as u64);
    }
    let step = (rows.unwrap_or(0) / pieces as u64).max(1);
    let raw = raw_text(&column.kind, quoted);
    let mut cuts: Vec<Boundary> = Vec::new();
    while cuts.len() + 1 < pieces {
        // Each boundary is greater than the one before by the server's own comparison, so equal keys are never parted.
        let after = match cuts.last() {
            Some(last) => format!("{quoted} > {}", last.sql),
            None => format!("{quoted} IS NOT NULL"),
        };
        let next = session
            .row(&format!(
                "SELECT {raw} FROM {from} WHERE {after}{within} ORDER BY {quoted} OFFSET {step} ROWS FETCH NEXT 1 ROWS \
                 ONLY"
            ))
            .await?;
        let raw = next.as_ref().and_then(|row| cell_text(row, 0).or_else(|| cell_hexadecimal(row, 0)));
        let Some(raw) = raw else { break };
        let shown: String = raw.chars().take(60).collect();
        cuts.push(Boundary { sql: boundary(column, &raw), shown: format!("'{shown}'") });
    }
    Ok(cuts)
}

/// A key as a text that says it exactly; bytes as they are.
fn raw_text(kind: &Kind, quoted: &str) -> String {
    match kind {
        Kind::Binary(_) | Kind::VarBinary(_) => quoted.to_owned(),
        Kind::Date | Kind::Time(_) | Kind::DateTime | Kind::SmallDateTime | Kind::DateTime2(_) => {
            format!("CAST(CONVERT(varchar(40), {quoted}, 126) AS nvarchar(40))")
        }
        Kind::Char(_) | Kind::VarChar(_) | Kind::NChar(_) | Kind::NVarChar(_) => {
            format!("CAST({quoted} AS nvarchar(max))")
        }
        _ => format!("CAST({quoted} AS nvarchar(60))"),
    }
}

/// A literal of the column's own type and collation, so that it is compared as the column's values are, by its index too.
fn boundary(column: &Column, raw: &str) -> String {
    let cast = &column.type_text;
    match column.kind {
        Kind::TinyInt | Kind::SmallInt | Kind::Int | Kind::BigInt => raw.to_owned(),
        Kind::Binary(_) | Kind::VarBinary(_) => format!("0x{raw}"),
        Kind::Char(_) | Kind::VarChar(_) | Kind::NChar(_) | Kind::NVarChar(_) => {
            let collate = column.collation.as_ref().map(|c| format!(" COLLATE {c}")).unwrap_or_default();
            format!("CAST({}{collate} AS {cast})", literal(raw))
        }
        _ => format!("CAST({} AS {cast})", literal(raw)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(type_text: &str, collation: Option<&str>) -> Column {
        Column {
            name: "k".into(),
            type_text: type_text.into(),
            kind: Kind::parse(type_text),
            nullable: false,
            has_default: false,
            identity: false,
            generated: false,
            key: Some(1),
            collation: collation.map(str::to_owned),
            comment: None,
        }
    }

    #[test]
    fn boundaries_are_of_the_columns_own_type() {
        let cut = |type_text: &str, raw: &str| boundary(&column(type_text, Some("Latin1_General_BIN2")), raw);
        assert_eq!(cut("bigint", "-5"), "-5");
        assert_eq!(cut("varchar(5)", "a'b"), "CAST(N'a''b' COLLATE Latin1_General_BIN2 AS varchar(5))");
        assert_eq!(cut("varbinary(4)", "00FF"), "0x00FF");
        assert_eq!(cut("datetime2(7)", "2024-01-01T00:00:00.1"), "CAST(N'2024-01-01T00:00:00.1' AS datetime2(7))");
        assert_eq!(cut("decimal(38,2)", "1.10"), "CAST(N'1.10' AS decimal(38,2))");
    }

    #[test]
    fn what_has_no_order_or_no_exact_text_is_not_cut() {
        for uncut in ["float", "xml", "nvarchar(max)", "sql_variant", "bit", "datetimeoffset(7)"] {
            assert!(cast_of(&column(uncut, None)).is_none(), "{uncut}");
        }
        assert_eq!(raw_text(&Kind::Binary(4), "[k]"), "[k]", "bytes are spelt here");
    }
}
