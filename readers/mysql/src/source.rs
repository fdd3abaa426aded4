//! What a job's tables and statements look like at their servers.

use serde::{Deserialize, Serialize};
use weir_core::field::{KEY, TEXT, with_extension, with_metadata, with_native_type};
use weir_core::{Error, ErrorKind, Result, ResultExt, Shared, SourceColumn};
use weir_mysql::{
    COLLATION, Column, Kind, Options, Output, QUOTING, SYSTEM, Session, Shape, Table, describe, describe_query,
    find_table, looked_ahead, native_field, server,
};
use weir_sql::{Object, Selected, TableName, resolve_source_columns};

use arrow::datatypes::{DataType, Field};

/// One table or statement of the job, and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    /// Its servers; the first that answers is used.
    pub(crate) options: Vec<Options>,
    /// What to read there.
    pub(crate) object: Object,
}

impl Location {
    /// The database, as reports name it.
    pub(crate) fn place(&self) -> String {
        let Some(options) = self.options.first() else { return String::new() };
        format!("{}/{}", options.place(), options.database.as_deref().unwrap_or_default())
    }

    /// The table, where a whole-database job has looked at all of its tables already.
    pub(crate) fn known(&self, shared: &Shared) -> Option<Table> {
        let Object::Table(name) = &self.object else { return None };
        looked_ahead(shared, &self.options, &TableName::parse(name, QUOTING).ok()?)
    }
}

/// A table or statement after a look at the server.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    /// The name for reports.
    pub(crate) label: String,
    /// What follows FROM; for a statement the statement itself.
    pub(crate) from: String,
    /// Whether `from` is a statement.
    pub(crate) query: bool,
    /// The columns to offer.
    pub(crate) columns: Vec<Offered>,
    /// The table, for splitting.
    pub(crate) table: Option<Table>,
}

/// A column of the select list.
#[derive(Debug, Clone)]
pub(crate) struct Offered {
    pub(crate) cell: Cell,
    pub(crate) nullable: bool,
    pub(crate) key: Option<u32>,
    pub(crate) comment: Option<String>,
    pub(crate) collation: Option<String>,
    /// Whether it is a table's column as it is.
    pub(crate) plain: bool,
}

/// What a task must know of a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) name: String,
    pub(crate) sql: String,
    #[serde(rename = "type")]
    pub(crate) type_text: String,
}

impl Cell {
    pub(crate) fn kind(&self) -> Kind {
        Kind::parse(&self.type_text)
    }
}

/// Looks at one location; `known` is its table, where nobody needs to ask what it is.
pub(crate) async fn look(
    session: &mut Session,
    object: &Object,
    number: usize,
    columns: &[String],
    filter: Option<&str>,
    known: Option<Table>,
) -> Result<Described> {
    match object {
        Object::Table(name) => look_at_table(session, name, columns, filter, known).await.context("table", name),
        Object::Query(sql) => {
            let label = format!("query {}", number + 1);
            look_at_query(session, sql, &label).await.context("query", number + 1)
        }
    }
}

/// A known table of which nothing but columns is read: the server need not be asked about anything.
pub(crate) fn plain(table: &Table, entries: &[String], filter: Option<&str>) -> Result<Option<Described>> {
    let selected = select(table, entries).context("table", &table.name)?;
    let plain = filter.is_none() && selected.iter().all(|s| s.column.is_some());
    plain.then(|| of_table(table.clone(), selected, Vec::new())).transpose()
}

fn select(table: &Table, entries: &[String]) -> Result<Vec<Selected>> {
    let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    resolve_source_columns(entries, &names, QUOTING)
}

async fn look_at_table(
    session: &mut Session,
    name: &str,
    entries: &[String],
    filter: Option<&str>,
    known: Option<Table>,
) -> Result<Described> {
    let table = match known {
        Some(table) => table,
        None => {
            let server = server(session).await?;
            let found = find_table(session, &TableName::parse(name, QUOTING)?, &server).await?;
            describe(session, &found).await?
        }
    };
    let selected = select(&table, entries)?;
    let from = table.name.quoted(QUOTING);
    let expressions: Vec<&str> = selected.iter().filter(|s| s.column.is_none()).map(|s| s.sql.as_str()).collect();
    let mut outputs = Vec::new();
    if !expressions.is_empty() {
        let sql = format!("SELECT {} FROM {from}", expressions.join(", "));
        outputs = describe_query(session, &sql).await.map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                let names: Vec<_> = table.columns.iter().take(30).map(|c| c.name.as_str()).collect();
                Error::new(ErrorKind::NotFound, format!("{}; the table has: {}", e.message(), names.join(", ")))
            }
            _ => e,
        })?;
        if outputs.len() != expressions.len() {
            return Err(Error::config("a `column` entry stands for more than one expression: list them one by one"));
        }
    }
    if let Some(filter) = filter {
        let sql = weir_sql::statements::select(&["1"], &from, &[filter]);
        describe_query(session, &sql).await.context("parameter", "where")?;
    }
    of_table(table, selected, outputs)
}

/// A table, of what is selected of it; `outputs` are the types of the expressions among that.
fn of_table(table: Table, selected: Vec<Selected>, outputs: Vec<Output>) -> Result<Described> {
    let mut outputs = outputs.into_iter();
    let mut columns = Vec::with_capacity(selected.len());
    for selected in selected {
        let offered = match selected.column {
            Some(index) => of_column(&table.columns[index], selected.sql),
            None => {
                let output = outputs.next().ok_or_else(|| Error::internal("an expression has no column"))?;
                Offered {
                    cell: Cell { name: selected.name, sql: format!("({})", selected.sql), type_text: output.type_text },
                    nullable: output.nullable,
                    key: None,
                    comment: None,
                    collation: None,
                    plain: false,
                }
            }
        };
        columns.push(offered);
    }
    let (label, from) = (table.name.to_string(), table.name.quoted(QUOTING));
    Ok(Described { label, from, query: false, columns, table: Some(table) })
}

fn of_column(column: &Column, sql: String) -> Offered {
    Offered {
        cell: Cell { name: column.name.clone(), sql, type_text: column.type_text.clone() },
        nullable: column.nullable,
        key: column.key,
        comment: column.comment.clone(),
        collation: column.collation.clone(),
        plain: true,
    }
}

async fn look_at_query(session: &mut Session, sql: &str, label: &str) -> Result<Described> {
    let outputs = describe_query(session, sql).await?;
    if outputs.is_empty() {
        return Err(Error::config("`querySql` gives no rows: write a SELECT"));
    }
    let columns = outputs
        .into_iter()
        .map(|o| Offered {
            cell: Cell { sql: QUOTING.quote(&o.name), name: o.name, type_text: o.type_text },
            nullable: o.nullable,
            key: None,
            comment: None,
            collation: None,
            plain: false,
        })
        .collect();
    Ok(Described { label: label.into(), from: sql.into(), query: true, columns, table: None })
}

impl Offered {
    /// The column as the contract describes it.
    ///
    /// # Errors
    /// A type that cannot be read.
    pub(crate) fn source_column(&self, shape: Shape) -> Result<SourceColumn> {
        let Cell { name, type_text, .. } = &self.cell;
        let kind = self.cell.kind();
        let dressed = |field: Field| {
            let field = with_native_type(field, SYSTEM, type_text);
            let field = match self.key {
                Some(key) => with_metadata(field, KEY, &key.to_string()),
                None => field,
            };
            match &self.collation {
                Some(collation) if kind.is_text() => with_metadata(field, COLLATION, collation),
                _ => field,
            }
        };
        let Some(canonical) = kind.canonical(name, shape) else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("type `{type_text}` cannot be read: leave the column out, or write CAST(… AS CHAR) for it"),
            )
            .with("column", name));
        };
        let mut representations = Vec::new();
        if self.plain {
            representations.push(dressed(native_field(name, type_text)));
        }
        representations.push(dressed(canonical));
        if !kind.is_bytes() && !kind.is_text() {
            representations.push(dressed(with_extension(Field::new(name, DataType::Utf8, true), TEXT)));
        }
        Ok(SourceColumn {
            name: name.clone(),
            native_type: type_text.clone(),
            nullable: self.nullable,
            key: self.key,
            representations,
            comment: self.comment.clone(),
        })
    }
}

/// Checks that the tables of several shards have equal columns.
///
/// # Errors
/// Every difference of one table, in one message.
pub(crate) fn check_equal(first: &Described, other: &Described) -> Result<()> {
    let mut differences = Vec::new();
    if first.columns.len() != other.columns.len() {
        differences.push(format!("{} columns against {}", first.columns.len(), other.columns.len()));
    } else {
        for (a, b) in first.columns.iter().zip(&other.columns) {
            if !a.cell.name.eq_ignore_ascii_case(&b.cell.name) {
                differences.push(format!("`{}` against `{}`", a.cell.name, b.cell.name));
            } else if !fits(&a.cell.type_text, &b.cell.type_text) {
                differences.push(format!("`{}`: {} against {}", a.cell.name, a.cell.type_text, b.cell.type_text));
            }
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Schema,
        format!(
            "the columns of `{}` and `{}` differ ({}): make them equal, or list `column`",
            first.label,
            other.label,
            differences.join("; ")
        ),
    ))
}

/// Types are equal but for display widths and, where Arrow has one form for all, lengths.
fn fits(a: &str, b: &str) -> bool {
    let (a, b) = (Kind::parse(a), Kind::parse(b));
    match (&a, &b) {
        (
            Kind::Char(_) | Kind::Text(_) | Kind::Enum | Kind::Set,
            Kind::Char(_) | Kind::Text(_) | Kind::Enum | Kind::Set,
        )
        | (Kind::Binary(_), Kind::Binary(_))
        | (Kind::DateTime(_), Kind::DateTime(_))
        | (Kind::Timestamp(_), Kind::Timestamp(_))
        | (Kind::Time(_), Kind::Time(_)) => true,
        (Kind::Bit(a), Kind::Bit(b)) => (*a == 1) == (*b == 1),
        (Kind::Int { bits, unsigned, .. }, Kind::Int { bits: more, unsigned: other, .. }) => {
            bits == more && unsigned == other
        }
        _ => a == b,
    }
}
