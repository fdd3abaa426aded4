//! The table's foreign keys: found, dropped, made again.

use weir_core::{ForeignKey, KeyDefinition, ObjectName, Reference, Result, ResultExt, TargetName};
use weir_sql::TableName;
use weir_sqlserver::{QUOTING, Server, Session, cell_number, cell_text, describe_all, exists_object, literal};

use crate::complete::LONGEST;

/// How the server holds a key besides what it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Standing {
    /// Rows that were there before it were never compared.
    untrusted: bool,
    /// A replication agent's rows are not compared.
    not_for_replication: bool,
}

/// Those of the table's keys that are meant, each with the statement that makes it. One that is switched off is in nobody's
/// way.
pub(crate) async fn definitions(
    session: &mut Session,
    server: &Server,
    table: &TableName,
    meant: &[Reference],
) -> Result<Vec<KeyDefinition>> {
    let mut keys = own(session, server, table).await?;
    keys.retain(|key| meant.iter().any(|meant| is(key, meant, server)));
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let standing = standing(session, table).await?;
    let of = |key: ForeignKey| {
        let (_, standing) = standing.iter().find(|(name, _)| *name == key.name)?;
        let key = Reference {
            name: key.name,
            columns: key.columns,
            to: TargetName { schema: key.to.schema, table: key.to.table },
            to_columns: key.to_columns,
            on_delete: key.on_delete,
            on_update: key.on_update,
        };
        Some(KeyDefinition { statement: statement(table, server, &key, true, *standing), key })
    };
    Ok(keys.into_iter().filter_map(of).collect())
}

/// Drops keys of the table, as far as it has them.
pub(crate) async fn drop(
    session: &mut Session,
    server: &Server,
    table: &TableName,
    keys: &[KeyDefinition],
) -> Result<()> {
    let mut there = own(session, server, table).await?;
    there.retain(|key| keys.iter().any(|meant| meant.key.name == key.name));
    for key in there {
        let name = QUOTING.quote(&key.name);
        session.run(&format!("ALTER TABLE {} DROP CONSTRAINT {name}", table.quoted(QUOTING))).await?;
    }
    Ok(())
}

/// Makes a key again, unless the table has it.
pub(crate) async fn restore(
    session: &mut Session,
    server: &Server,
    table: &TableName,
    key: &KeyDefinition,
) -> Result<()> {
    if own(session, server, table).await?.iter().any(|there| is(there, &key.key, server)) {
        return Ok(());
    }
    session.run(&key.statement).await.context("statement", &key.statement)
}

/// The statements for those keys that the table has not got.
pub(crate) async fn missing(
    session: &mut Session,
    server: &Server,
    table: &TableName,
    wanted: &[Reference],
) -> Result<Vec<String>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let own = own(session, server, table).await?;
    let mut statements = Vec::new();
    for key in wanted.iter().filter(|key| !own.iter().any(|there| is(there, key, server))) {
        // In a schema no two constraints have one name; without a name the server finds one.
        let name = TableName { schema: table.schema.clone(), name: key.name.clone() };
        let free =
            !key.name.is_empty() && key.name.chars().count() <= LONGEST && !exists_object(session, &name).await?;
        statements.push(statement(table, server, key, free, Standing::default()));
    }
    Ok(statements)
}

fn statement(table: &TableName, server: &Server, key: &Reference, named: bool, standing: Standing) -> String {
    let to = TableName {
        schema: Some(key.to.schema.clone().unwrap_or_else(|| server.schema.clone())),
        name: key.to.table.clone(),
    };
    let named = if named { format!("CONSTRAINT {} ", QUOTING.quote(&key.name)) } else { String::new() };
    // At the end of a statement both mean the same, and only one of the words is known here.
    let action = |word: &str| if word == "RESTRICT" { "NO ACTION".to_owned() } else { word.to_owned() };
    format!(
        "ALTER TABLE {}{} ADD {named}FOREIGN KEY ({}) REFERENCES {} ({}) ON DELETE {} ON UPDATE {}{}",
        table.quoted(QUOTING),
        if standing.untrusted { " WITH NOCHECK" } else { "" },
        QUOTING.quote_all(&key.columns),
        to.quoted(QUOTING),
        QUOTING.quote_all(&key.to_columns),
        action(&key.on_delete),
        action(&key.on_update),
        if standing.not_for_replication { " NOT FOR REPLICATION" } else { "" }
    )
}

/// Whether a foreign key that is there is the one that is meant, whatever it is called and does.
fn is(own: &ForeignKey, wanted: &Reference, server: &Server) -> bool {
    // Names that differ in case alone are no good anywhere.
    let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
    let schema = wanted.to.schema.as_deref().unwrap_or(&server.schema);
    own.to.schema.as_deref().is_some_and(|own| same(own, schema))
        && same(&own.to.table, &wanted.to.table)
        && own.columns == wanted.columns
        && own.to_columns == wanted.to_columns
}

async fn own(session: &mut Session, server: &Server, table: &TableName) -> Result<Vec<ForeignKey>> {
    let name =
        ObjectName { database: server.database.clone(), schema: table.schema.clone(), table: table.name.clone() };
    Ok(describe_all(session, server, &[name]).await?.into_iter().flat_map(|table| table.foreign_keys).collect())
}

/// The table's keys that are switched on.
async fn standing(session: &mut Session, table: &TableName) -> Result<Vec<(String, Standing)>> {
    let rows = session
        .rows(&format!(
            "SELECT CAST(name AS nvarchar(128)), CAST(is_not_trusted AS bigint), CAST(is_not_for_replication AS bigint) \
             FROM sys.foreign_keys WHERE parent_object_id = OBJECT_ID({}) AND is_disabled = 0",
            literal(&table.quoted(QUOTING))
        ))
        .await?;
    let is = |row, at| cell_number(row, at) == Some(1);
    let of = |row| {
        let standing = Standing { untrusted: is(row, 1), not_for_replication: is(row, 2) };
        (cell_text(row, 0).unwrap_or_default(), standing)
    };
    Ok(rows.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_keys_are_told_apart_by_what_they_say() {
        let server = Server {
            version: String::new(),
            babelfish: false,
            database: "d".into(),
            schema: "dbo".into(),
            snapshot: false,
            versioned: false,
            collation: None,
        };
        let wanted = Reference {
            name: "fk".into(),
            columns: vec!["b".into()],
            to: TargetName { schema: None, table: "T".into() },
            to_columns: vec!["a".into()],
            on_delete: "RESTRICT".into(),
            on_update: "CASCADE".into(),
        };
        let table = TableName::parse("dbo.t", QUOTING).unwrap();
        let key = "FOREIGN KEY ([b]) REFERENCES [dbo].[T] ([a]) ON DELETE NO ACTION ON UPDATE CASCADE";
        assert_eq!(
            statement(&table, &server, &wanted, true, Standing::default()),
            format!("ALTER TABLE [dbo].[t] ADD CONSTRAINT [fk] {key}")
        );
        assert_eq!(
            statement(&table, &server, &wanted, false, Standing { untrusted: true, not_for_replication: true }),
            format!("ALTER TABLE [dbo].[t] WITH NOCHECK ADD {key} NOT FOR REPLICATION")
        );
        let own = ForeignKey {
            name: "other".into(),
            columns: wanted.columns.clone(),
            to: ObjectName { database: "d".into(), schema: Some("dbo".into()), table: "t".into() },
            to_columns: wanted.to_columns.clone(),
            on_delete: String::new(),
            on_update: String::new(),
        };
        assert!(is(&own, &wanted, &server));
        assert!(!is(&ForeignKey { columns: vec!["c".into()], ..own }, &wanted, &server));
    }
}
