//! The table's foreign keys: found, dropped, made again.

use std::collections::HashMap;

use weir_core::{ForeignKey, KeyDefinition, Reference, Result, ResultExt, TargetName};
use weir_sql::TableName;
use weir_sqlserver::{QUOTING, Server, Session, cell_number, cell_text, exists_object, foreign_keys};

use crate::complete::LONGEST;
use crate::known::Known;

/// A foreign key that the table has.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    pub(crate) key: Reference,
    /// `None`: it is switched off.
    standing: Option<Standing>,
}

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
pub(crate) fn definitions(known: Known, meant: &[Reference]) -> Vec<KeyDefinition> {
    let Known { server, name, mut keys, .. } = known;
    keys.retain(|one| meant.iter().any(|meant| is(&one.key, meant, &server)));
    let of = |Own { key, standing }: Own| {
        Some(KeyDefinition { statement: statement(&name, &server, &key, true, standing?), key })
    };
    keys.into_iter().filter_map(of).collect()
}

/// Drops keys of the table, as far as it has them.
pub(crate) async fn drop(session: &mut Session, known: &Known, keys: &[KeyDefinition]) -> Result<()> {
    for there in known.keys.iter().filter(|there| keys.iter().any(|meant| meant.key.name == there.key.name)) {
        let name = QUOTING.quote(&there.key.name);
        session.run(&format!("ALTER TABLE {} DROP CONSTRAINT {name}", known.name.quoted(QUOTING))).await?;
    }
    Ok(())
}

/// Makes a key again, unless the table has it.
pub(crate) async fn restore(session: &mut Session, known: &Known, key: &KeyDefinition) -> Result<()> {
    if known.keys.iter().any(|there| is(&there.key, &key.key, &known.server)) {
        return Ok(());
    }
    session.run(&key.statement).await.context("statement", &key.statement)
}

/// Those keys that the table has not got, each with its statement; without a name where the server finds one.
pub(crate) async fn missing(
    session: &mut Session,
    known: &Known,
    wanted: &[Reference],
) -> Result<Vec<(Reference, String)>> {
    let (table, server) = (&known.name, &known.server);
    let mut statements = Vec::new();
    for key in wanted.iter().filter(|key| !known.keys.iter().any(|there| is(&there.key, key, server))) {
        // In a schema no two constraints have one name; without a name the server finds one.
        let name = TableName { schema: table.schema.clone(), name: key.name.clone() };
        let free =
            !key.name.is_empty() && key.name.chars().count() <= LONGEST && !exists_object(session, &name).await?;
        let sql = statement(table, server, key, free, Standing::default());
        let name = if free { key.name.clone() } else { String::new() };
        statements.push((Reference { name, ..key.clone() }, sql));
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
fn is(own: &Reference, wanted: &Reference, server: &Server) -> bool {
    // Names that differ in case alone are no good anywhere.
    let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
    let schema = wanted.to.schema.as_deref().unwrap_or(&server.schema);
    own.to.schema.as_deref().is_some_and(|own| same(own, schema))
        && same(&own.to.table, &wanted.to.table)
        && own.columns == wanted.columns
        && own.to_columns == wanted.to_columns
}

/// The foreign keys of tables by the numbers of these, of which there are some.
pub(crate) async fn of_tables(session: &mut Session, server: &Server, ids: &[i64]) -> Result<HashMap<i64, Vec<Own>>> {
    let found = foreign_keys(session, &server.database, ids).await?;
    if found.is_empty() {
        return Ok(HashMap::new());
    }
    let standing = standing(session, ids).await?;
    let own = |table: i64, key: ForeignKey| Own {
        standing: standing.get(&(table, key.name.clone())).copied(),
        key: Reference {
            name: key.name,
            columns: key.columns,
            to: TargetName { schema: key.to.schema, table: key.to.table },
            to_columns: key.to_columns,
            on_delete: key.on_delete,
            on_update: key.on_update,
        },
    };
    let of = |(id, keys): (i64, Vec<ForeignKey>)| (id, keys.into_iter().map(|key| own(id, key)).collect());
    Ok(found.into_iter().map(of).collect())
}

/// The keys that are switched on, by the numbers of their tables and their names.
async fn standing(session: &mut Session, ids: &[i64]) -> Result<HashMap<(i64, String), Standing>> {
    let rows = session
        .rows(&format!(
            "SELECT CAST(parent_object_id AS bigint), CAST(name AS nvarchar(128)), CAST(is_not_trusted AS bigint), \
             CAST(is_not_for_replication AS bigint) \
             FROM sys.foreign_keys WHERE parent_object_id IN ({}) AND is_disabled = 0",
            ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
        ))
        .await?;
    let is = |row, at| cell_number(row, at) == Some(1);
    let of = |row| {
        let standing = Standing { untrusted: is(row, 2), not_for_replication: is(row, 3) };
        Some(((cell_number(row, 0)?, cell_text(row, 1)?), standing))
    };
    Ok(rows.iter().filter_map(of).collect())
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
        let own = Reference {
            name: "other".into(),
            columns: wanted.columns.clone(),
            to: TargetName { schema: Some("dbo".into()), table: "t".into() },
            to_columns: wanted.to_columns.clone(),
            on_delete: String::new(),
            on_update: String::new(),
        };
        assert!(is(&own, &wanted, &server));
        assert!(!is(&Reference { columns: vec!["c".into()], ..own }, &wanted, &server));
    }
}
