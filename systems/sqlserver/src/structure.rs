//! The structure of any number of tables, in a fixed number of questions to the server.

use std::collections::HashMap;

use tiberius::Row;
use weir_core::{
    ColumnDefault, ColumnDescription, ForeignKey, Identity, ObjectKind, ObjectName, Result, TableDescription, UniqueKey,
};

use crate::cells::{number, optional, text};
use crate::connection::{Session, literal};
use crate::server::Server;
use crate::table::{AT_ONCE, BASE_TYPE};
use crate::types::type_text;

/// Describes these tables and views of the session's database, in their order; those that are gone are left out.
///
/// # Errors
/// The server's.
pub async fn describe_all(
    session: &mut Session,
    server: &Server,
    names: &[ObjectName],
) -> Result<Vec<TableDescription>> {
    let mut all = Vec::with_capacity(names.len());
    for names in names.chunks(AT_ONCE) {
        let mut tables = heads(session, names, &server.database, &server.schema).await?;
        let ids: Vec<i64> = tables.keys().copied().collect();
        if ids.is_empty() {
            continue;
        }
        let among = ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
        columns(session, &among, &mut tables).await?;
        keys(session, &among, &mut tables).await?;
        for (id, keys) in foreign_keys(session, &server.database, &ids).await? {
            if let Some(table) = tables.get_mut(&id) {
                table.foreign_keys = keys;
            }
        }
        let mut by_name: HashMap<ObjectName, TableDescription> =
            tables.into_values().map(|t| (t.name.clone(), t)).collect();
        all.extend(names.iter().filter_map(|name| by_name.remove(name)));
    }
    Ok(all)
}

type Tables = HashMap<i64, TableDescription>;

async fn heads(session: &mut Session, names: &[ObjectName], database: &str, own: &str) -> Result<Tables> {
    let here = names.iter().filter(|n| n.database == database);
    let pairs: Vec<String> = here
        .map(|n| {
            let schema = literal(n.schema.as_deref().unwrap_or(own));
            format!("(s.name = {schema} AND o.name = {})", literal(&n.table))
        })
        .collect();
    if pairs.is_empty() {
        return Ok(Tables::new());
    }
    let rows = session
        .rows(&format!(
            "SELECT CAST(o.object_id AS bigint), CAST(s.name AS nvarchar(128)), CAST(o.name AS nvarchar(128)), \
             CAST(o.type AS nvarchar(2)) FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id \
             WHERE o.type IN ('U', 'V') AND ({})",
            pairs.join(" OR ")
        ))
        .await?;
    let of = |row: &Row| {
        let view = text(row, 3).is_some_and(|t| t.trim() == "V");
        let name =
            ObjectName { database: database.to_owned(), schema: text(row, 1), table: text(row, 2).unwrap_or_default() };
        let description = TableDescription {
            name,
            kind: if view { ObjectKind::View } else { ObjectKind::Table },
            columns: Vec::new(),
            primary_key: Vec::new(),
            unique: Vec::new(),
            foreign_keys: Vec::new(),
            comment: None,
        };
        Some((number(row, 0)?, description))
    };
    Ok(rows.iter().filter_map(of).collect())
}

async fn columns(session: &mut Session, among: &str, tables: &mut Tables) -> Result<()> {
    let types = session.type_names().await?;
    let rows = session
        .rows(&format!(
            "SELECT CAST(c.object_id AS bigint), CAST(c.name AS nvarchar(128)), {BASE_TYPE}, \
             CAST(c.max_length AS bigint), CAST(c.precision AS bigint), CAST(c.scale AS bigint), \
             CAST(c.is_nullable AS bigint), CAST(c.is_identity AS bigint), CAST(c.column_id AS bigint), \
             CAST(d.definition AS nvarchar(max)), CAST(c.is_computed AS bigint) FROM sys.columns c \
             LEFT JOIN sys.default_constraints d ON d.object_id = c.default_object_id AND c.default_object_id <> 0 \
             WHERE c.object_id IN ({among}) ORDER BY c.object_id, c.column_id"
        ))
        .await?;
    let computed = format!(
        "SELECT CAST(object_id AS bigint), CAST(column_id AS bigint), CAST(definition AS nvarchar(max)) \
         FROM sys.computed_columns WHERE object_id IN ({among})"
    );
    let computed = optional(session, &computed).await?;
    let numbered = format!(
        "SELECT CAST(object_id AS bigint), CAST(column_id AS bigint), CAST(last_value AS bigint), \
         CAST(increment_value AS bigint), CAST(seed_value AS bigint) FROM sys.identity_columns WHERE object_id IN ({among})"
    );
    let numbered = optional(session, &numbered).await?;
    let comments = format!(
        "SELECT CAST(major_id AS bigint), CAST(minor_id AS bigint), CAST(value AS nvarchar(4000)) \
         FROM sys.extended_properties WHERE class = 1 AND major_id IN ({among}) AND name = 'MS_Description'"
    );
    let comments = optional(session, &comments).await?;
    let of = |rows: &[Row], table: i64, column: i64, get: &dyn Fn(&Row) -> Option<String>| {
        let found = rows.iter().find(|row| number(row, 0) == Some(table) && number(row, 1) == Some(column));
        found.and_then(get)
    };
    for row in &rows {
        let (Some(table), Some(id)) = (number(row, 0), number(row, 8)) else { continue };
        let Some(description) = tables.get_mut(&table) else { continue };
        let size = |at: usize| number(row, at).unwrap_or_default();
        let native_type = type_text(
            number(row, 2).and_then(|id| types.get(&id)).map_or("", String::as_str),
            size(3),
            size(4),
            size(5),
        );
        let version = native_type == "rowversion";
        let generated = (size(10) != 0 || version)
            .then(|| of(&computed, table, id, &|row| text(row, 2)).unwrap_or_else(|| native_type.clone()));
        let identity = (size(7) != 0).then(|| {
            let found = numbered.iter().find(|r| number(r, 0) == Some(table) && number(r, 1) == Some(id));
            let cell = |at| found.and_then(|row| number(row, at));
            let increment = cell(3).unwrap_or(1);
            // Before the first row there is no last number.
            let next = cell(2).and_then(|last| last.checked_add(increment)).or(cell(4));
            Identity { always: false, next, increment }
        });
        description.columns.push(ColumnDescription {
            labels: Vec::new(),
            name: text(row, 1).unwrap_or_default(),
            native_type,
            nullable: size(6) != 0,
            default: text(row, 9).filter(|_| generated.is_none()).and_then(|d| default_value(&d)),
            generated,
            identity,
            comment: of(&comments, table, id, &|row| text(row, 2)).filter(|c| !c.is_empty()),
        });
    }
    for (id, table) in tables.iter_mut() {
        table.comment = of(&comments, *id, 0, &|row| text(row, 2)).filter(|c| !c.is_empty());
    }
    Ok(())
}

async fn keys(session: &mut Session, among: &str, tables: &mut Tables) -> Result<()> {
    let rows = session
        .rows(&format!(
            "SELECT CAST(i.object_id AS bigint), CAST(i.name AS nvarchar(128)), CAST(i.is_primary_key AS bigint), \
             CAST(c.name AS nvarchar(128)) FROM sys.indexes i \
             JOIN sys.index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id \
             JOIN sys.columns c ON c.object_id = k.object_id AND c.column_id = k.column_id \
             WHERE i.object_id IN ({among}) AND i.is_unique = 1 AND i.is_disabled = 0 AND i.has_filter = 0 \
             AND k.is_included_column = 0 ORDER BY i.object_id, i.index_id, k.key_ordinal"
        ))
        .await?;
    for row in &rows {
        let Some(table) = number(row, 0).and_then(|id| tables.get_mut(&id)) else { continue };
        let column = text(row, 3).unwrap_or_default();
        if number(row, 2) == Some(1) {
            table.primary_key.push(column);
            continue;
        }
        let name = text(row, 1).unwrap_or_default();
        match table.unique.last_mut().filter(|key| key.name == name) {
            Some(key) => key.columns.push(column),
            None => table.unique.push(UniqueKey { name, columns: vec![column] }),
        }
    }
    Ok(())
}

/// The foreign keys of tables by the numbers of these, of which there are some.
///
/// # Errors
/// The server's.
pub async fn foreign_keys(session: &mut Session, database: &str, ids: &[i64]) -> Result<HashMap<i64, Vec<ForeignKey>>> {
    let among = ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    // Also those onto tables that the login may not see, whose names are empty then: they are not gone.
    let rows = session
        .rows(&format!(
            "SELECT CAST(f.parent_object_id AS bigint), CAST(f.name AS nvarchar(128)), CAST(a.name AS nvarchar(128)), \
             CAST(SCHEMA_NAME(o.schema_id) AS nvarchar(128)), CAST(o.name AS nvarchar(128)), \
             CAST(b.name AS nvarchar(128)), CAST(f.delete_referential_action AS bigint), \
             CAST(f.update_referential_action AS bigint) FROM sys.foreign_keys f \
             JOIN sys.foreign_key_columns k ON k.constraint_object_id = f.object_id \
             LEFT JOIN sys.objects o ON o.object_id = f.referenced_object_id \
             JOIN sys.columns a ON a.object_id = k.parent_object_id AND a.column_id = k.parent_column_id \
             LEFT JOIN sys.columns b ON b.object_id = k.referenced_object_id AND b.column_id = k.referenced_column_id \
             WHERE f.parent_object_id IN ({among}) ORDER BY f.parent_object_id, f.name, k.constraint_column_id"
        ))
        .await?;
    let action = |row: &Row, at: usize| {
        let words = ["NO ACTION", "CASCADE", "SET NULL", "SET DEFAULT"];
        let at = number(row, at).and_then(|n| usize::try_from(n).ok()).unwrap_or_default();
        words.get(at).copied().unwrap_or("NO ACTION").to_owned()
    };
    let mut all: HashMap<i64, Vec<ForeignKey>> = HashMap::new();
    for row in &rows {
        let Some(id) = number(row, 0) else { continue };
        let keys = all.entry(id).or_default();
        let name = text(row, 1).unwrap_or_default();
        let (column, to_column) = (text(row, 2).unwrap_or_default(), text(row, 5).unwrap_or_default());
        match keys.last_mut().filter(|key| key.name == name) {
            Some(key) => {
                key.columns.push(column);
                key.to_columns.push(to_column);
            }
            None => keys.push(ForeignKey {
                name,
                columns: vec![column],
                to: ObjectName {
                    database: database.to_owned(),
                    schema: text(row, 3),
                    table: text(row, 4).unwrap_or_default(),
                },
                to_columns: vec![to_column],
                on_delete: action(row, 6),
                on_update: action(row, 7),
            }),
        }
    }
    Ok(all)
}

/// What a default means, where other systems can say the same; the server writes it in parentheses: `((0))`, `(N'new')`,
/// `(getdate())`.
fn default_value(definition: &str) -> Option<ColumnDefault> {
    let mut text = definition.trim();
    while let Some(inner) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
        // `(a)+(b)` has parentheses of its own.
        let balanced = inner.chars().try_fold(0, |depth, c| match c {
            '(' => Some(depth + 1),
            ')' if depth == 0 => None,
            ')' => Some(depth - 1),
            _ => Some(depth),
        });
        if balanced != Some(0) {
            break;
        }
        text = inner.trim();
    }
    let lower = text.to_ascii_lowercase();
    if lower == "null" {
        return None;
    }
    let now =
        ["getdate()", "current_timestamp", "sysdatetime()", "getutcdate()", "sysutcdatetime()", "sysdatetimeoffset()"];
    if now.contains(&lower.as_str()) {
        return Some(ColumnDefault::Now);
    }
    if text.parse::<f64>().is_ok() && text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.') {
        return Some(ColumnDefault::Literal(text.to_owned()));
    }
    let quoted = text.strip_prefix(['N', 'n']).unwrap_or(text);
    if let Some(inner) = quoted.strip_prefix('\'').and_then(|t| t.strip_suffix('\''))
        && !inner.replace("''", "").contains('\'')
    {
        return Some(ColumnDefault::Literal(inner.replace("''", "'")));
    }
    Some(ColumnDefault::Expression(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_read_out_of_their_parentheses() {
        let literal = |text: &str| Some(ColumnDefault::Literal(text.into()));
        assert_eq!(default_value("((0))"), literal("0"));
        assert_eq!(default_value("((-1.50))"), literal("-1.50"));
        assert_eq!(default_value("(N'it''s')"), literal("it's"));
        assert_eq!(default_value("(getdate())"), Some(ColumnDefault::Now));
        assert_eq!(default_value("(NULL)"), None);
        assert_eq!(default_value("((1)+(2))"), Some(ColumnDefault::Expression("(1)+(2)".into())));
        assert_eq!(default_value("(newid())"), Some(ColumnDefault::Expression("newid()".into())));
        assert_eq!(default_value("('a'+'b')"), Some(ColumnDefault::Expression("'a'+'b'".into())));
    }
}
