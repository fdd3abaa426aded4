//! The types of columns to be created, and the users' types that are made for them.

use serde::{Deserialize, Serialize};
use weir_core::field::native_type;
use weir_core::{Error, ErrorKind, MappedColumn, Result, ResultExt};
use weir_postgresql::catalog::{TableColumn, resolve_types};
use weir_postgresql::definitions::{Body, Declared, Definition, Part, volatile_functions};
use weir_postgresql::types::labels;
use weir_postgresql::{PgType, SYSTEM, Session, literal};
use weir_sql::TableName;

use crate::columns::{canonical_type, sized_text};
use crate::maker::Maker;
use crate::plan::Q;

/// A type of the user that the target lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewType {
    /// Its name, with its schema.
    pub name: TableName,
    /// The statement that makes it.
    pub statement: String,
    /// The labels that it has to have, as an enum, also where it is there before: another table may have brought some of them.
    #[serde(default)]
    pub labels: Vec<String>,
}

impl NewType {
    /// The statement that makes it.
    pub fn sql(&self) -> String {
        self.statement.clone()
    }

    /// Makes it, if it is not there.
    ///
    /// # Errors
    /// What the server says against it; a definition that calls functions which may do anything.
    pub async fn create(&self, session: &mut Session) -> Result<()> {
        let name = self.name.quoted(Q);
        if let Some(found) = find_type(session, &name).await? {
            return self.add_labels(session, &found).await;
        }
        session.execute("BEGIN").await?;
        match self.make(session, &name).await {
            Ok(()) => session.execute("COMMIT").await.map(drop),
            Err(error) => {
                if error.kind() == ErrorKind::Cancelled {
                    return Err(error);
                }
                session.execute("ROLLBACK").await?;
                // Another run has just made it.
                if let Some(found) = find_type(session, &name).await? {
                    return self.add_labels(session, &found).await;
                }
                Err(error).context("type", &self.name)
            }
        }
    }

    /// Gives the enum that is there the labels that it lacks.
    async fn add_labels(&self, session: &mut Session, found: &PgType) -> Result<()> {
        for statement in new_labels(found, &self.labels) {
            session.execute(&statement).await.context("type", &self.name)?;
        }
        Ok(())
    }

    async fn make(&self, session: &mut Session, name: &str) -> Result<()> {
        if let Some(schema) = &self.name.schema {
            session.rows(&search_path(schema)).await?;
        }
        // Parts of it may come from a file. This way of sending runs one statement, whatever they say.
        session.rows(&self.statement).await.map_err(|error| {
            Error::new(
                error.kind(),
                format!("a type of the source cannot be made here, create it before the run: {}", error.message()),
            )
            .because(error)
        })?;
        let volatile = volatile_functions(session, name).await?;
        if volatile.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "a type of the source calls {}, which may do anything: look at its definition and create it before the run",
                volatile.join(", ")
            ),
        ))
    }
}

/// Lets names be looked for in `schema` first, until the transaction ends.
pub(crate) fn search_path(schema: &str) -> String {
    format!(
        "SELECT set_config('search_path', concat_ws(', ', quote_ident({}), nullif(current_setting('search_path'), '')), true)",
        literal(schema)
    )
}

/// The type of a column to be created, and what a user should know of it.
pub struct Created {
    pub pg: PgType,
    pub warning: Option<String>,
    /// The labels that the type, an enum which is there, would need besides for the column's rows.
    pub lacks: Option<NewType>,
}

/// A type by the text that names it, if it is there.
pub(crate) async fn find_type(session: &mut Session, text: &str) -> Result<Option<PgType>> {
    let found: Option<i64> = session.value(&format!("SELECT to_regtype({})::oid::int8", literal(text))).await?;
    let Some(oid) = found else { return Ok(None) };
    Ok(resolve_types(session, &[(oid as u32, -1)]).await?.pop())
}

/// The type of a column to be created: the source's own where it is one of PostgreSQL's that exists here or can be made;
/// else the one that holds every value of its canonical form. A type that a column of a table that is there has is known.
///
/// # Errors
/// Those of the connection.
pub async fn created_type(
    session: &mut Session,
    column: &MappedColumn,
    (table, present): (&TableName, &[TableColumn]),
    new_types: &mut Vec<NewType>,
) -> Result<Created> {
    // The first form of a domain's values names its base type, the last the domain.
    let native = column.offers.iter().rev().find_map(native_type);
    let Some((SYSTEM, text)) = native else {
        return Ok(Created {
            pg: canonical_type(column, native.and_then(|(_, text)| sized_text(text))),
            warning: None,
            lacks: None,
        });
    };
    if let Some(pg) = PgType::parse(text) {
        return Ok(Created { pg, warning: None, lacks: None });
    }
    // A type of an extension or of the user, if this database has it too; one that can be made may also be in the table's
    // schema.
    let labels = column.offers.iter().find_map(labels).unwrap_or_default();
    let declared = column.offers.iter().find_map(Declared::of_field).or_else(|| labelled(text, &labels));
    let mut found = present.iter().find(|there| there.pg.text == text).map(|there| there.pg.clone());
    if found.is_none() {
        found = find_type(session, text).await?;
    }
    if let (None, Some((_, own))) = (&found, declared.as_ref().and_then(|d| d.of.own.as_ref())) {
        let array = if text.ends_with("[]") { "[]" } else { "" };
        found = find_type(session, &format!("{}{array}", table.sibling(own).quoted(Q))).await?;
    }
    if let Some(mut pg) = found {
        let missing: Vec<_> = labels.iter().filter(|l| !pg.labels.contains(l)).map(String::as_str).collect();
        let warning = (!missing.is_empty()).then(|| {
            format!(
                "column `{}`: type {} lacks {}: rows with them will be refused",
                column.name,
                pg.text,
                missing.join(", ")
            )
        });
        // A modifier of an extension's own, as geometry(Point,4326).
        if text.contains('(') && pg.labels.is_empty() {
            pg.text = text.to_owned();
        }
        let lacks = missing_labels(&pg, &labels);
        return Ok(Created { pg, warning, lacks });
    }
    let fault = match declared {
        None => String::new(),
        Some(declared) => match Maker::new(&declared, table).make(session, new_types).await? {
            Ok(pg) => return Ok(Created { pg, warning: None, lacks: None }),
            Err(fault) => format!(" and cannot be made here ({fault})"),
        },
    };
    let base = column.offers.iter().filter_map(native_type).find_map(|(_, text)| PgType::parse(text));
    let pg = base.unwrap_or_else(|| canonical_type(column, None));
    let warning = format!(
        "column `{}`: type {text} does not exist here{fault}, the column is created as {}; create the type first to keep it",
        column.name, pg.text
    );
    Ok(Created { pg, warning: Some(warning), lacks: None })
}

/// What an enum that is there lacks of these labels, if anything.
fn missing_labels(found: &PgType, labels: &[String]) -> Option<NewType> {
    let statements = new_labels(found, labels);
    let name = TableName::parse(&found.text, Q).ok().filter(|_| found.kind == 'e' && !statements.is_empty())?;
    Some(NewType { name, statement: statements.join("; "), labels: labels.to_vec() })
}

/// The statements that give an enum the labels it lacks, each in the place that it has at the source.
pub(crate) fn new_labels(found: &PgType, wanted: &[String]) -> Vec<String> {
    let mut statements = Vec::new();
    for (at, label) in wanted.iter().enumerate().filter(|(_, label)| !found.labels.contains(label)) {
        let place = match (at.checked_sub(1), found.labels.first()) {
            (Some(before), _) => format!(" AFTER {}", literal(&wanted[before])),
            (None, Some(first)) => format!(" BEFORE {}", literal(first)),
            (None, None) => String::new(),
        };
        statements.push(format!("ALTER TYPE {} ADD VALUE IF NOT EXISTS {}{place}", found.text, literal(label)));
    }
    statements
}

/// An enum, or an array of it, of which no more is known than its labels.
fn labelled(text: &str, labels: &[String]) -> Option<Declared> {
    let single = text.strip_suffix("[]").unwrap_or(text);
    let TableName { schema, name } = TableName::parse(single, Q).ok().filter(|_| !labels.is_empty())?;
    let (visible, schema) = (schema.is_none(), schema.unwrap_or_default());
    let own = Some((schema.clone(), name.clone()));
    let of = Part { text: text.to_owned(), own, array: single != text, collation: None };
    let body = Body::Enum { labels: labels.to_vec() };
    Some(Declared { of, types: vec![Definition { schema, name, visible, body, needs: Vec::new() }] })
}
