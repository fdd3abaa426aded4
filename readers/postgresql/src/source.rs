//! What the job's tables and queries are on the server.

use arrow::datatypes::Field;
use weir_core::field::{DECIMAL, NATIVE, TEXT, extension};
use weir_core::{Error, ErrorKind, Result, ResultExt};
use weir_postgresql::catalog::{Table, describe_query};
use weir_postgresql::definitions::{Declared, declared};
use weir_postgresql::find::{Wanted, require_table};
use weir_postgresql::{PgType, Session, Wire};
use weir_sql::{Object, Quoting, Selected, Source, resolve_source_columns, statements};

/// A table or query, described.
#[derive(Debug, Clone)]
pub struct Described {
    /// The name as reports show it.
    pub name: String,
    /// What stands after FROM.
    pub from: String,
    /// The columns to read.
    pub columns: Vec<Column>,
    /// The table; `None` for a query.
    pub table: Option<Table>,
}

/// A column to read.
#[derive(Debug, Clone)]
pub struct Column {
    /// The name in the batch.
    pub name: String,
    /// The text in the select list.
    pub sql: String,
    /// The type.
    pub pg: PgType,
    /// Whether NULLs may come.
    pub nullable: bool,
    /// The position in the primary key.
    pub key: Option<u32>,
    /// The comment.
    pub comment: Option<String>,
    /// What makes a type of the user again.
    pub declared: Option<Declared>,
}

impl Column {
    /// The result of an expression or a query, of which nothing but the type is known.
    fn computed(name: String, sql: String, pg: PgType) -> Self {
        Self { name, sql, pg, nullable: true, key: None, comment: None, declared: None }
    }

    /// The forms it can be read in, best first; those with a type of the user say how to make it again.
    pub fn representations(&self) -> Vec<Field> {
        let forms = self.pg.representations(&self.name);
        let Some(declared) = &self.declared else { return forms };
        // The wire's own form names the type below.
        let on = |form: Field| if extension(&form) == Some(NATIVE) { form } else { declared.on(form) };
        forms.into_iter().map(on).collect()
    }
}

/// Asks the server about a table or query; `only` leaves out what inherits from a table, and `known` is the table, where nobody needs to ask what it is.
pub async fn describe(
    session: &mut Session,
    source: &Source,
    index: usize,
    (entries, only): (&[String], bool),
    known: Option<Table>,
) -> Result<Described> {
    let mut described = match &source.object {
        Object::Table(text) => {
            let wanted = Wanted::parse(text).context("table", text)?;
            let table = match known {
                Some(table) => table,
                None => require_table(session, &wanted).await.context("table", text)?,
            };
            of_table(session, table, (entries, only)).await.context("table", text)?
        }
        Object::Query(sql) => of_query(session, sql, index).await.context("querySql", index + 1)?,
    };
    let types: Vec<_> = described.columns.iter().map(|c| &c.pg).collect();
    let declared = declared(session, &types).await?;
    for (column, declared) in described.columns.iter_mut().zip(declared) {
        column.declared = declared;
    }
    Ok(described)
}

/// A known table of which nothing but columns of the server's own types is read: it need not be asked about anything.
pub fn plain(table: &Table, (entries, only): (&[String], bool)) -> Result<Option<Described>> {
    let selected = resolve_source_columns(entries, &table.names(), Quoting::DOUBLE).context("table", &table.name)?;
    let own = |column: usize| PgType::parse(&table.columns[column].pg.text).is_some();
    let plain = selected.iter().all(|selected| selected.column.is_some_and(own));
    plain.then(|| of_columns((table.clone(), only), selected, Vec::new())).transpose()
}

async fn of_table(session: &mut Session, table: Table, (entries, only): (&[String], bool)) -> Result<Described> {
    let from = from(&table, only);
    let selected = resolve_source_columns(entries, &table.names(), Quoting::DOUBLE)?;
    let expressions: Vec<&str> = selected.iter().filter(|s| s.column.is_none()).map(|s| s.sql.as_str()).collect();
    let mut types = Vec::new();
    if !expressions.is_empty() {
        let sql = statements::select(&expressions, &from, &[]);
        types = describe_query(session, &sql).await.map_err(|error| wrong_expression(error, &expressions, &table))?;
        if types.len() != expressions.len() {
            return Err(Error::config("an entry of `column` stands for several columns: list them one by one"));
        }
    }
    of_columns((table, only), selected, types)
}

/// What stands after FROM: partitions belong to their table, tables that inherit from it only where both are read as one.
fn from(table: &Table, only: bool) -> String {
    let name = table.name.quoted(Quoting::DOUBLE);
    if only && table.kind == 'r' { format!("ONLY {name}") } else { name }
}

/// A table, of what is selected of it; `types` are those of the expressions among that.
fn of_columns(
    (table, only): (Table, bool),
    selected: Vec<Selected>,
    types: Vec<(String, PgType)>,
) -> Result<Described> {
    let from = from(&table, only);
    let mut types = types.into_iter();
    let mut columns = Vec::with_capacity(selected.len());
    for selected in selected {
        columns.push(match selected.column.map(|i| &table.columns[i]) {
            Some(column) => Column {
                name: selected.name,
                sql: selected.sql,
                pg: column.pg.clone(),
                nullable: column.nullable,
                key: column.key,
                comment: column.comment.clone(),
                declared: None,
            },
            None => {
                let (_, pg) = types.next().ok_or_else(|| Error::internal("an expression has no type"))?;
                Column::computed(selected.name, selected.sql, pg)
            }
        });
    }
    Ok(Described { name: table.name.to_string(), from, columns, table: Some(table) })
}

/// A name that is no column is taken for an expression; when the server does not know it either, say both.
fn wrong_expression(error: Error, expressions: &[&str], table: &Table) -> Error {
    if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Config) {
        return error;
    }
    let near = expressions
        .iter()
        .filter_map(|e| {
            weir_core::config::nearest(e, table.names()).map(|n| format!("; did you mean `{n}` for `{e}`?"))
        })
        .collect::<String>();
    Error::new(
        error.kind(),
        format!(
            "an entry of `column` is neither a column of the table nor an SQL expression: {}{near}",
            error.message()
        ),
    )
}

async fn of_query(session: &mut Session, sql: &str, index: usize) -> Result<Described> {
    let described = describe_query(session, sql).await?;
    if described.is_empty() {
        return Err(Error::config("the querySql gives no columns: write a SELECT"));
    }
    // Names in a result may be missing or come twice; aliases of our own cannot.
    let aliases: Vec<_> = (1..=described.len()).map(|i| format!("c{i}")).collect();
    let from = format!("({sql}\n) AS weir_query ({})", aliases.join(", "));
    let columns = described.into_iter().zip(&aliases);
    let columns = columns.map(|((name, pg), alias)| Column::computed(name, alias.clone(), pg)).collect();
    Ok(Described { name: format!("query {}", index + 1), from, columns, table: None })
}

/// The select list's entry that delivers a column in the chosen form: `sql` as it stands, or cast.
pub fn select_entry(sql: &str, pg: &PgType, field: &Field) -> String {
    let cast = match extension(field) {
        Some(NATIVE) => None,
        // A cast writes the mask of every address; the type itself leaves it out where it says nothing.
        Some(TEXT) if pg.base == "inet" => return format!("pg_catalog.abbrev({sql})"),
        Some(TEXT) => Some("text"),
        // Money's binary form counts the cents of the server's locale.
        _ if pg.wire() == Wire::Money => Some("numeric"),
        Some(DECIMAL) => None,
        // Enums and citext send their text, but relatives may not: the cast costs nothing.
        _ if pg.wire() == Wire::Text && !pg.is_built_in() => Some("text"),
        _ => None,
    };
    cast.map_or_else(|| sql.to_owned(), |cast| format!("({sql})::{cast}"))
}
