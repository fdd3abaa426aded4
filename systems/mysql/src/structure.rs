//! The structure of any number of tables, in a fixed number of questions to the server.

use std::collections::{HashMap, HashSet};

use mysql_async::Row;
use weir_core::{
    ColumnDefault, ColumnDescription, ForeignKey, Identity, ObjectKind, ObjectName, Result, TableDescription, UniqueKey,
};

use crate::catalog::{self, AT_ONCE, checked_json, is_generated, server};
use crate::connection::Session;
use crate::types::Kind;

/// Describes these tables and views, in their order; those that are gone are left out.
///
/// # Errors
/// The server's.
pub async fn describe_all(session: &mut Session, names: &[ObjectName]) -> Result<Vec<TableDescription>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    // Statistics of MySQL 8 and later, the next number among them, are cached for a day; other servers do not know it.
    let _ = session.raw("SET SESSION information_schema_stats_expiry = 0").await?;
    let mariadb = server(session).await?.mariadb;
    let mut all = Vec::with_capacity(names.len());
    for names in names.chunks(AT_ONCE) {
        let mut tables = heads(session, names).await?;
        columns(session, names, mariadb, &mut tables).await?;
        unique(session, names, &mut tables).await?;
        for (name, keys) in foreign_keys(session, names).await? {
            if let Some(found) = tables.get_mut(&name) {
                found.description.foreign_keys = keys;
            }
        }
        all.extend(names.iter().filter_map(|name| tables.remove(name)).map(|t| t.description));
    }
    Ok(all)
}

struct Found {
    description: TableDescription,
    next: Option<u64>,
}

type Tables = HashMap<ObjectName, Found>;

fn among(names: &[ObjectName], schema: &str, table: &str) -> String {
    let names: Vec<_> = names.iter().map(|n| (n.database.as_str(), n.table.as_str())).collect();
    catalog::among(&names, schema, table)
}

fn name(database: String, table: String) -> ObjectName {
    ObjectName { database, schema: None, table }
}

async fn heads(session: &mut Session, names: &[ObjectName]) -> Result<Tables> {
    type Head = (String, String, String, Option<u64>, Option<String>);
    let rows: Vec<Head> = session
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, AUTO_INCREMENT, TABLE_COMMENT FROM information_schema.TABLES \
             WHERE {}",
            among(names, "TABLE_SCHEMA", "TABLE_NAME")
        ))
        .await?;
    let of = |(database, table, kind, next, comment): Head| {
        let name = name(database, table);
        let view = kind.to_ascii_uppercase().contains("VIEW");
        let description = TableDescription {
            name: name.clone(),
            kind: if view { ObjectKind::View } else { ObjectKind::Table },
            columns: Vec::new(),
            primary_key: Vec::new(),
            unique: Vec::new(),
            foreign_keys: Vec::new(),
            // A view's is `VIEW`, whatever it was.
            comment: comment.filter(|c| !c.is_empty() && !view),
        };
        (name, Found { description, next })
    };
    Ok(rows.into_iter().map(of).collect())
}

async fn columns(session: &mut Session, names: &[ObjectName], mariadb: bool, tables: &mut Tables) -> Result<()> {
    // MariaDB's json is a longtext with a check.
    let mut json: HashSet<(String, String, String)> = HashSet::new();
    if mariadb {
        let clauses: Vec<(String, String, String)> = session
            .rows(&format!(
                "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS WHERE {}",
                among(names, "CONSTRAINT_SCHEMA", "TABLE_NAME")
            ))
            .await?;
        json.extend(clauses.into_iter().map(|(schema, table, clause)| (schema, table, clause.to_ascii_lowercase())));
    }
    let rows: Vec<Row> = session
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, CAST(COLUMN_TYPE AS CHAR), IS_NULLABLE, \
             CAST(COLUMN_DEFAULT AS CHAR), EXTRA, COLUMN_COMMENT, CAST(GENERATION_EXPRESSION AS CHAR) \
             FROM information_schema.COLUMNS WHERE {} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
            among(names, "TABLE_SCHEMA", "TABLE_NAME")
        ))
        .await?;
    for row in &rows {
        let text = |i: usize| row.get_opt::<Option<String>, _>(i).and_then(|v| v.ok()).flatten();
        let (schema, table) = (text(0).unwrap_or_default(), text(1).unwrap_or_default());
        let Some(found) = tables.get_mut(&name(schema.clone(), table.clone())) else { continue };
        let column = text(2).unwrap_or_default();
        let mut native_type = text(3).unwrap_or_default();
        if native_type == "longtext" && json.contains(&(schema, table, checked_json(&column).to_ascii_lowercase())) {
            native_type = "json".into();
        }
        let extra = text(6).unwrap_or_default().to_ascii_lowercase();
        let generated = is_generated(&extra);
        let identity = extra.contains("auto_increment").then(|| Identity {
            always: false,
            next: found.next.and_then(|n| i64::try_from(n).ok()),
            increment: 1,
        });
        let default = text(5).filter(|_| !generated && identity.is_none());
        found.description.columns.push(ColumnDescription {
            labels: Vec::new(),
            default: default.and_then(|d| default_value(&d, &extra, &Kind::parse(&native_type), mariadb)),
            nullable: text(4).is_some_and(|t| t.eq_ignore_ascii_case("yes")),
            generated: generated.then(|| text(8).unwrap_or_default()),
            comment: text(7).filter(|c| !c.is_empty()),
            identity,
            name: column,
            native_type,
        });
    }
    Ok(())
}

async fn unique(session: &mut Session, names: &[ObjectName], tables: &mut Tables) -> Result<()> {
    let parts: Vec<(String, String, String, Option<String>)> = session
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, IF(SUB_PART IS NULL, COLUMN_NAME, NULL) \
             FROM information_schema.STATISTICS WHERE {} AND NON_UNIQUE = 0 \
             ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX",
            among(names, "TABLE_SCHEMA", "TABLE_NAME")
        ))
        .await?;
    // A key on an expression or on the beginning of a text is a key over something else than columns.
    let mut broken: HashSet<(ObjectName, String)> = HashSet::new();
    for (schema, table, index, column) in parts {
        let name = name(schema, table);
        let Some(found) = tables.get_mut(&name) else { continue };
        let Some(column) = column else {
            broken.insert((name, index));
            continue;
        };
        let description = &mut found.description;
        if index == "PRIMARY" {
            description.primary_key.push(column);
            continue;
        }
        match description.unique.last_mut().filter(|key| key.name == index) {
            Some(key) => key.columns.push(column),
            None => description.unique.push(UniqueKey { name: index, columns: vec![column] }),
        }
    }
    for (name, index) in broken {
        if let Some(found) = tables.get_mut(&name) {
            found.description.unique.retain(|key| key.name != index);
            if index == "PRIMARY" {
                found.description.primary_key.clear();
            }
        }
    }
    Ok(())
}

/// The foreign keys that tables have.
///
/// # Errors
/// The server's.
pub async fn foreign_keys(session: &mut Session, names: &[ObjectName]) -> Result<HashMap<ObjectName, Vec<ForeignKey>>> {
    type Part = (String, String, String, String, String, String, String, String, String);
    let mut all: HashMap<ObjectName, Vec<ForeignKey>> = HashMap::new();
    if names.is_empty() {
        return Ok(all);
    }
    let parts: Vec<Part> = session
        .rows(&format!(
            "SELECT k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.COLUMN_NAME, k.REFERENCED_TABLE_SCHEMA, \
             k.REFERENCED_TABLE_NAME, k.REFERENCED_COLUMN_NAME, r.DELETE_RULE, r.UPDATE_RULE \
             FROM information_schema.KEY_COLUMN_USAGE k JOIN information_schema.REFERENTIAL_CONSTRAINTS r \
             ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME \
               AND r.TABLE_NAME = k.TABLE_NAME \
             WHERE {} AND k.REFERENCED_TABLE_NAME IS NOT NULL \
             ORDER BY k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.ORDINAL_POSITION",
            among(names, "k.TABLE_SCHEMA", "k.TABLE_NAME")
        ))
        .await?;
    for (schema, table, constraint, column, to_schema, to_table, to_column, on_delete, on_update) in parts {
        let keys = all.entry(name(schema, table)).or_default();
        match keys.last_mut().filter(|key| key.name == constraint) {
            Some(key) => {
                key.columns.push(column);
                key.to_columns.push(to_column);
            }
            None => keys.push(ForeignKey {
                name: constraint,
                columns: vec![column],
                to: name(to_schema, to_table),
                to_columns: vec![to_column],
                on_delete: on_delete.to_ascii_uppercase(),
                on_update: on_update.to_ascii_uppercase(),
            }),
        }
    }
    Ok(all)
}

/// What a default means, where other systems can say the same. MariaDB writes an expression, with texts in quotes;
/// MySQL writes a literal's value, and says beside it when it is an expression.
fn default_value(text: &str, extra: &str, kind: &Kind, mariadb: bool) -> Option<ColumnDefault> {
    let lower = text.trim().to_ascii_lowercase();
    let expression = || Some(ColumnDefault::Expression(text.to_owned()));
    let timed = matches!(kind, Kind::DateTime(_) | Kind::Timestamp(_) | Kind::Date | Kind::Time(_));
    let now = ["current_timestamp", "now(", "curdate(", "current_date", "localtime"];
    let is_now = now.iter().any(|word| lower.starts_with(word)) && !lower.contains(['+', '-', '*', '/']);
    if timed && is_now {
        return Some(ColumnDefault::Now);
    }
    if let Some(bits) = lower.strip_prefix("b'").and_then(|b| b.strip_suffix('\'')) {
        return match u64::from_str_radix(bits, 2) {
            Ok(number) => Some(ColumnDefault::Literal(number.to_string())),
            Err(_) => expression(),
        };
    }
    if !mariadb {
        let is_expression = extra.contains("default_generated");
        return if is_expression { expression() } else { Some(ColumnDefault::Literal(text.to_owned())) };
    }
    if lower == "null" {
        return None;
    }
    if let Some(inner) = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
        let plain = !inner.replace("''", "").replace("\\'", "").contains('\'');
        let value = inner.replace("''", "'").replace("\\'", "'").replace("\\\\", "\\");
        return if plain { Some(ColumnDefault::Literal(value)) } else { expression() };
    }
    match lower.parse::<f64>() {
        Ok(number) if number.is_finite() => Some(ColumnDefault::Literal(lower)),
        _ => expression(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_servers_defaults_are_understood() {
        let of = |text: &str, extra: &str, kind: &str, mariadb| default_value(text, extra, &Kind::parse(kind), mariadb);
        let literal = |text: &str| Some(ColumnDefault::Literal(text.into()));
        assert_eq!(of("'new'", "", "varchar(5)", true), literal("new"));
        assert_eq!(of("'it''s'", "", "varchar(5)", true), literal("it's"));
        assert_eq!(of("'it\\'s'", "", "varchar(5)", true), literal("it's"));
        assert_eq!(of("4.99", "", "decimal(4,2)", true), literal("4.99"));
        assert_eq!(of("NULL", "", "int", true), None);
        assert_eq!(of("current_timestamp()", "", "datetime", true), Some(ColumnDefault::Now));
        assert_eq!(of("current_timestamp(6)", "on update", "timestamp(6)", true), Some(ColumnDefault::Now));
        assert_eq!(of("b'101'", "", "bit(3)", true), literal("5"));
        assert_eq!(of("uuid()", "", "uuid", true), Some(ColumnDefault::Expression("uuid()".into())));
        assert_eq!(of("new", "", "varchar(5)", false), literal("new"));
        assert_eq!(
            of("uuid()", "default_generated", "char(36)", false),
            Some(ColumnDefault::Expression("uuid()".into()))
        );
        assert_eq!(of("CURRENT_TIMESTAMP", "default_generated", "datetime", false), Some(ColumnDefault::Now));
        assert_eq!(of("now or never", "", "varchar(20)", false), literal("now or never"));
    }
}
