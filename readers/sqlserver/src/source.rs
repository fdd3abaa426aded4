//! What a job's tables and statements look like at their servers.

use arrow::datatypes::Field;
use serde::{Deserialize, Serialize};
use weir_core::field::{KEY, with_metadata, with_native_type};
use weir_core::{Error, ErrorKind, Result, ResultExt, Shared, SourceColumn};
use weir_sql::{Object, Selected, TableName, resolve_source_columns};
use weir_sqlserver::{
    COLLATION, Column, Fractions, Kind, Options, Output, QUOTING, SYSTEM, Server, Session, Table, describe,
    describe_query, find_table, looked_ahead, server,
};

/// One table or statement of the job, and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    /// Its servers; the first that answers is used.
    pub(crate) options: Vec<Options>,
    /// What to read there.
    pub(crate) object: Object,
    /// What messages call it.
    pub(crate) shown: String,
}

impl Location {
    /// The `number`th table or statement of a job, from 0. A table of another database than the connection's own,
    /// `database.schema.table`, is read by a connection to that one: isolation, versions and types are each database's own.
    pub(crate) fn new(options: Vec<Options>, object: Object, number: usize) -> Self {
        let name = match &object {
            Object::Table(name) => name.clone(),
            Object::Query(_) => return Self { options, object, shown: format!("query {}", number + 1) },
        };
        match QUOTING.parts(&name).as_deref() {
            Some([database, schema, table]) => {
                let table = TableName { schema: Some(schema.clone()), name: table.clone() };
                let options = Options::in_database(&options, database);
                Self { options, object: Object::Table(table.quoted(QUOTING)), shown: name }
            }
            _ => Self { options, object, shown: name },
        }
    }

    /// The database, as reports name it.
    pub(crate) fn place(&self) -> String {
        let Some(options) = self.options.first() else { return String::new() };
        format!("{}/{}", options.place(), options.database.as_deref().unwrap_or_default())
    }

    /// The table and its server, where a whole-database job has looked at all of its tables already.
    pub(crate) fn known(&self, shared: &Shared) -> Option<(Server, Table)> {
        let Object::Table(name) = &self.object else { return None };
        looked_ahead(shared, &self.options, &TableName::parse(name, QUOTING).ok()?)
    }
}

/// A table or statement after a look at the server.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    /// The name for reports.
    pub(crate) label: String,
    /// What follows FROM; for a statement that stands for itself the statement.
    pub(crate) from: String,
    /// Whether `from` is a statement that stands for itself.
    pub(crate) bare: bool,
    /// The columns to offer.
    pub(crate) columns: Vec<Offered>,
    /// The table, for splitting.
    pub(crate) table: Option<Table>,
    /// What the server's database allows, in a sentence for the plan.
    pub(crate) isolation: Isolation,
}

/// How the rows of a split are kept to one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Isolation {
    /// SNAPSHOT.
    Snapshot,
    /// READ COMMITTED from versions: one moment a statement.
    Versioned,
    /// READ COMMITTED under locks.
    Locking,
}

/// A column of the select list.
#[derive(Debug, Clone)]
pub(crate) struct Offered {
    pub(crate) cell: Cell,
    pub(crate) nullable: bool,
    pub(crate) key: Option<u32>,
    pub(crate) comment: Option<String>,
    pub(crate) collation: Option<String>,
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

    /// The text in the select list.
    pub(crate) fn selected(&self, fractions: Fractions) -> String {
        self.kind().expression(&self.sql, fractions).unwrap_or_else(|| self.sql.clone())
    }
}

/// Looks at one location; `known` is its table, where nobody needs to ask what it is.
pub(crate) async fn look(
    session: &mut Session,
    object: &Object,
    number: usize,
    columns: &[String],
    filter: Option<&str>,
    fractions: Fractions,
    known: Option<(Server, Table)>,
) -> Result<Described> {
    let (server, known) = match known {
        Some((server, table)) => (server, Some(table)),
        None => (server(session).await?, None),
    };
    let described = match object {
        Object::Table(name) => {
            let table = match known {
                Some(table) => table,
                None => {
                    let wanted = TableName::parse(name, QUOTING)?;
                    let found = find_table(session, &wanted, &server).await.context("table", name)?;
                    describe(session, &found).await.context("table", name)?
                }
            };
            look_at_table(session, table, columns, filter).await.context("table", name)?
        }
        Object::Query(sql) => {
            let label = format!("query {}", number + 1);
            look_at_query(session, sql, &label, fractions).await.context("query", number + 1)?
        }
    };
    Ok(Described { isolation: isolation(&server), ..described })
}

fn isolation(server: &Server) -> Isolation {
    match (server.snapshot, server.versioned) {
        (true, _) => Isolation::Snapshot,
        (_, true) => Isolation::Versioned,
        _ => Isolation::Locking,
    }
}

/// A known table of which nothing but columns is read: the server need not be asked about anything.
pub(crate) fn plain(
    (server, table): &(Server, Table),
    entries: &[String],
    filter: Option<&str>,
) -> Result<Option<Described>> {
    let selected = select(table, entries).context("table", &table.name)?;
    if filter.is_some() || selected.iter().any(|s| s.column.is_none()) {
        return Ok(None);
    }
    let described = of_table(table.clone(), selected, Vec::new())?;
    Ok(Some(Described { isolation: isolation(server), ..described }))
}

fn select(table: &Table, entries: &[String]) -> Result<Vec<Selected>> {
    let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    resolve_source_columns(entries, &names, QUOTING)
}

async fn look_at_table(
    session: &mut Session,
    table: Table,
    entries: &[String],
    filter: Option<&str>,
) -> Result<Described> {
    let selected = select(&table, entries)?;
    let from = table.name.quoted(QUOTING);
    // Expressions need no names of their own in a result, but where they are described each has one.
    let expressions: Vec<String> = (selected.iter().filter(|s| s.column.is_none()).enumerate())
        .map(|(i, s)| format!("({}\n) AS weir_{i}", s.sql))
        .collect();
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
        let sql = weir_sql::statements::select(&["1 AS weir_0"], &from, &[filter]);
        describe_query(session, &sql).await.context("parameter", "where")?;
    }
    of_table(table, selected, outputs)
}

/// A table, of what is selected of it; `outputs` are the types of the expressions among that.
fn of_table(table: Table, selected: Vec<Selected>, outputs: Vec<Output>) -> Result<Described> {
    let mut outputs = outputs.into_iter();
    let mut columns = Vec::with_capacity(selected.len());
    for selected in selected {
        columns.push(match selected.column {
            Some(index) => of_column(&table.columns[index], selected.sql),
            None => {
                let output = outputs.next().ok_or_else(|| Error::internal("an expression has no column"))?;
                of_output(output, selected.name, format!("({}\n)", selected.sql))
            }
        });
    }
    let (label, from) = (table.name.to_string(), table.name.quoted(QUOTING));
    Ok(Described { label, from, bare: false, columns, table: Some(table), isolation: Isolation::Locking })
}

fn of_column(column: &Column, sql: String) -> Offered {
    Offered {
        cell: Cell { name: column.name.clone(), sql, type_text: column.type_text.clone() },
        nullable: column.nullable,
        key: column.key,
        comment: column.comment.clone(),
        collation: column.collation.clone(),
    }
}

fn of_output(output: Output, name: String, sql: String) -> Offered {
    Offered {
        cell: Cell { name, sql, type_text: output.type_text },
        nullable: output.nullable,
        key: None,
        comment: None,
        collation: output.collation,
    }
}

async fn look_at_query(session: &mut Session, sql: &str, label: &str, fractions: Fractions) -> Result<Described> {
    let outputs = describe_query(session, sql).await?;
    if outputs.is_empty() {
        return Err(Error::config("`querySql` gives no rows: write a SELECT"));
    }
    // Names in a result may be missing or come twice; aliases of our own cannot.
    let aliases: Vec<String> = (1..=outputs.len()).map(|i| format!("c{i}")).collect();
    // A comment at the end of the statement must not swallow the parenthesis.
    let wrapped = format!("({sql}\n) AS weir_query ({})", aliases.join(", "));
    let named = |(i, output): (usize, Output)| {
        let name = if output.name.is_empty() { aliases[i].clone() } else { output.name.clone() };
        of_output(output, name, aliases[i].clone())
    };
    let columns: Vec<Offered> = outputs.into_iter().enumerate().map(named).collect();
    let bent: Vec<&Offered> =
        columns.iter().filter(|c| c.cell.kind().expression(&c.cell.sql, fractions).is_some()).collect();
    let mut bare = bent.is_empty();
    if !bare {
        // What begins with WITH, or has an ORDER BY, stands in no other statement.
        let probe = format!("SELECT {} FROM {wrapped}", aliases.join(", "));
        match describe_query(session, &probe).await {
            Ok(found) => bare = found.len() != columns.len(),
            Err(e) if matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Unreachable | ErrorKind::Timeout) => {
                return Err(e);
            }
            Err(_) => bare = true,
        }
    }
    if bare && let Some(refused) = bent.iter().find(|c| !plain_enough(c)) {
        let Cell { name, type_text, .. } = &refused.cell;
        let cast = refused.cell.kind().expression(&QUOTING.quote(name), fractions).unwrap_or_default();
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "`{type_text}` cannot be read exactly from a statement that stands in no other one (it begins with WITH, \
                 or has an ORDER BY): write {cast} AS {} in it",
                QUOTING.quote(name)
            ),
        )
        .with("column", name));
    }
    let from = if bare { sql.into() } else { wrapped };
    Ok(Described { label: label.into(), from, bare, columns, table: None, isolation: Isolation::Locking })
}

/// Whether the driver reads a value right without the server's help: texts in a code page that it knows by the collation.
fn plain_enough(column: &Offered) -> bool {
    let utf8 = column.collation.as_ref().is_none_or(|c| c.to_ascii_uppercase().ends_with("_UTF8"));
    match column.cell.kind() {
        kind if kind.has_code_page() => !utf8,
        kind => matches!(kind, Kind::NText | Kind::Image | Kind::Xml | Kind::RowVersion),
    }
}

impl Offered {
    /// The column as the contract describes it.
    ///
    /// # Errors
    /// A type that cannot be read.
    pub(crate) fn source_column(&self, fractions: Fractions) -> Result<SourceColumn> {
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
        let representations: Vec<Field> = kind.forms(name, fractions).into_iter().map(dressed).collect();
        if representations.is_empty() {
            let what = if kind == Kind::Variant { "holds values of any type and " } else { "" };
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "type `{type_text}` {what}cannot be read: leave the column out, or write CAST({} AS nvarchar(4000)) \
                     for it",
                    QUOTING.quote(name)
                ),
            )
            .with("column", name));
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
            if a.cell.name.to_lowercase() != b.cell.name.to_lowercase() {
                differences.push(format!("`{}` against `{}`", a.cell.name, b.cell.name));
            } else if !fits(&a.cell.kind(), &b.cell.kind()) {
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

/// Types are equal but for lengths and decimals where Arrow has one form for all.
fn fits(a: &Kind, b: &Kind) -> bool {
    let fine = |kind: &Kind| kind.decimals() == Some(7);
    (a.is_text() && b.is_text())
        || (a.is_bytes() && b.is_bytes())
        || match (a, b) {
            (Kind::Time(_), Kind::Time(_))
            | (Kind::DateTime2(_), Kind::DateTime2(_))
            | (Kind::DateTimeOffset(_), Kind::DateTimeOffset(_)) => fine(a) == fine(b),
            _ => a == b,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::field::{TEXT, extension, native_type};

    #[test]
    fn a_table_of_another_database_is_read_by_a_connection_to_that_one() {
        let options = || Options::parse("sqlserver://u@h/shop", None, None, "/url").unwrap();
        let of = |name: &str| Location::new(options(), Object::Table(name.into()), 0);
        let here = of("dbo.[a.b]");
        assert_eq!((here.place().as_str(), here.object), ("h:1433/shop", Object::Table("dbo.[a.b]".into())));
        let there = of("[x.y]]].dbo.t");
        assert_eq!((there.place().as_str(), there.shown.as_str()), ("h:1433/x.y]", "[x.y]]].dbo.t"));
        assert_eq!(there.object, Object::Table("[dbo].[t]".into()));
        let query = Location::new(options(), Object::Query("SELECT 1 FROM a.b.c".into()), 1);
        assert_eq!((query.place().as_str(), query.shown.as_str()), ("h:1433/shop", "query 2"));
    }

    fn offered(type_text: &str, collation: Option<&str>) -> Offered {
        Offered {
            cell: Cell { name: "c".into(), sql: "[c]".into(), type_text: type_text.into() },
            nullable: true,
            key: Some(1),
            comment: None,
            collation: collation.map(str::to_owned),
        }
    }

    #[test]
    fn columns_offer_their_forms_and_say_what_cannot_be_read() {
        let column = offered("datetimeoffset(7)", None).source_column(Fractions::Exact).unwrap();
        assert_eq!(column.representations.len(), 3);
        assert_eq!(extension(column.representations.last().unwrap()), Some(TEXT));
        assert_eq!(native_type(column.canonical()), Some((SYSTEM, "datetimeoffset(7)")));
        let error = offered("sql_variant", None).source_column(Fractions::Exact).unwrap_err();
        assert!(error.to_string().contains("sql_variant") && error.to_string().contains("column c"), "{error}");
        assert_eq!(offered("varchar(5)", None).cell.selected(Fractions::Exact), "CAST([c] AS nvarchar(5))");
    }

    #[test]
    fn a_statement_that_stands_alone_gives_what_the_driver_reads_right() {
        assert!(plain_enough(&offered("varchar(5)", Some("Latin1_General_CI_AS"))));
        assert!(!plain_enough(&offered("varchar(5)", Some("Latin1_General_100_CI_AS_SC_UTF8"))));
        assert!(!plain_enough(&offered("money", None)) && plain_enough(&offered("image", None)));
    }

    #[test]
    fn shards_may_differ_in_length() {
        let fit = |a: &str, b: &str| fits(&Kind::parse(a), &Kind::parse(b));
        assert!(fit("varchar(5)", "nvarchar(max)") && fit("datetime2(3)", "datetime2(6)"));
        assert!(!fit("datetime2(3)", "datetime2(7)") && !fit("int", "bigint") && !fit("decimal(5,2)", "decimal(6,2)"));
    }
}
