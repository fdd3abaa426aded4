//! The structure of any number of tables, in a fixed number of questions to the server.

use std::collections::HashMap;

use weir_core::{
    ColumnDefault, ColumnDescription, Identity, ObjectKind, ObjectName, Result, TableDescription, UniqueKey,
};

use crate::catalog::{get, letter, resolve_types};
use crate::connection::{Session, literal};
use crate::keys::foreign_keys;

/// Describes these tables and views, in their order; those that are gone are left out.
///
/// # Errors
/// The server's.
pub async fn describe(session: &mut Session, names: &[ObjectName]) -> Result<Vec<TableDescription>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let listed: Vec<_> = names
        .iter()
        .map(|n| format!("({}, {})", literal(n.schema.as_deref().unwrap_or("public")), literal(&n.table)))
        .collect();
    // Everything that is asked about is joined with these relations.
    let wanted = format!("(n.nspname::text, c.relname::text) IN ({})", listed.join(", "));
    let (mut tables, oids) = relations(session, &wanted).await?;
    columns(session, &wanted, &mut tables, &oids).await?;
    unique(session, &wanted, &mut tables, &oids).await?;
    let mut foreign = foreign_keys(session, &oids.keys().copied().collect::<Vec<_>>()).await?;
    for (oid, at) in &oids {
        tables[*at].foreign_keys = foreign.remove(oid).unwrap_or_default();
    }
    let mut found: HashMap<ObjectName, TableDescription> = tables.into_iter().map(|t| (t.name.clone(), t)).collect();
    Ok(names.iter().filter_map(|name| found.remove(name)).collect())
}

const FROM: &str = "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace";

type Places = HashMap<i64, usize>;

async fn relations(session: &mut Session, wanted: &str) -> Result<(Vec<TableDescription>, Places)> {
    let rows = session
        .rows(&format!(
            "SELECT c.oid::int8, current_database()::text, n.nspname::text, c.relname::text, c.relkind::text, \
             obj_description(c.oid, 'pg_class') \
             FROM {FROM} WHERE c.relkind IN ('r','p','v','m','f') AND {wanted}"
        ))
        .await?;
    let (mut tables, mut places) = (Vec::with_capacity(rows.len()), Places::with_capacity(rows.len()));
    for row in &rows {
        places.insert(get(row, 0)?, tables.len());
        tables.push(TableDescription {
            name: ObjectName { database: get(row, 1)?, schema: Some(get(row, 2)?), table: get(row, 3)? },
            kind: match letter(&get::<String>(row, 4)?) {
                'v' | 'm' => ObjectKind::View,
                'f' => ObjectKind::Other,
                _ => ObjectKind::Table,
            },
            columns: Vec::new(),
            primary_key: Vec::new(),
            unique: Vec::new(),
            foreign_keys: Vec::new(),
            comment: get(row, 5)?,
        });
    }
    Ok((tables, places))
}

async fn columns(session: &mut Session, wanted: &str, tables: &mut [TableDescription], at: &Places) -> Result<()> {
    let generated = if session.version >= 120_000 { "a.attgenerated::text" } else { "''::text" };
    // The sequence behind an identity or a serial, and the number that it gives next.
    let (identity, sequence) = if session.version >= 100_000 {
        (
            "a.attidentity::text, q.oid IS NOT NULL, p.seqincrement, \
             CASE WHEN p.seqrelid IS NOT NULL THEN coalesce( \
               least(greatest(pg_sequence_last_value(q.oid)::numeric + p.seqincrement, -9223372036854775808), 9223372036854775807)::int8, \
               p.seqstart) END",
            "LEFT JOIN LATERAL (SELECT s.oid FROM pg_catalog.pg_depend o \
               JOIN pg_catalog.pg_class s ON s.oid = o.objid AND s.relkind = 'S' \
               WHERE o.classid = 'pg_catalog.pg_class'::regclass AND o.refclassid = 'pg_catalog.pg_class'::regclass \
                 AND o.refobjid = a.attrelid AND o.refobjsubid = a.attnum AND o.deptype IN ('a', 'i') LIMIT 1) q ON true \
             LEFT JOIN pg_catalog.pg_sequence p ON p.seqrelid = q.oid AND has_sequence_privilege(q.oid, 'SELECT,USAGE')",
        )
    } else {
        ("''::text, false, NULL::int8, NULL::int8", "")
    };
    let rows = session
        .rows(&format!(
            "SELECT c.oid::int8, a.attname::text, a.atttypid::int8, a.atttypmod, a.attnotnull, \
             pg_get_expr(d.adbin, d.adrelid), {generated}, {identity}, col_description(c.oid, a.attnum::int4) \
             FROM {FROM} JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum {sequence} \
             WHERE {wanted} ORDER BY c.oid, a.attnum"
        ))
        .await?;
    // Hundreds of tables have some dozens of types between them.
    let mut types: HashMap<(u32, i32), usize> = HashMap::new();
    let mut distinct = Vec::new();
    for row in &rows {
        let key = (get::<i64>(row, 2)? as u32, get::<i32>(row, 3)?);
        types.entry(key).or_insert_with(|| {
            distinct.push(key);
            distinct.len() - 1
        });
    }
    let resolved = resolve_types(session, &distinct).await?;
    for row in &rows {
        let Some(table) = at.get(&get::<i64>(row, 0)?).map(|i| &mut tables[*i]) else { continue };
        let key = (get::<i64>(row, 2)? as u32, get::<i32>(row, 3)?);
        let of_type = types.get(&key).and_then(|i| resolved.get(*i));
        let native_type = of_type.map_or_else(String::new, |t| t.text.clone());
        let expression: Option<String> = get(row, 5)?;
        let generated = !get::<String>(row, 6)?.is_empty();
        let identity: String = get(row, 7)?;
        let numbers_itself = !identity.is_empty()
            || (get::<bool>(row, 8)? && expression.as_deref().is_some_and(|e| e.starts_with("nextval(")));
        let own = if generated || numbers_itself { None } else { expression.clone() };
        table.columns.push(ColumnDescription {
            name: get(row, 1)?,
            native_type,
            labels: of_type.map(|t| t.labels.clone()).unwrap_or_default(),
            nullable: !get::<bool>(row, 4)?,
            default: own.map(|text| default_value(&text)),
            comment: get(row, 11)?,
            generated: expression.filter(|_| generated),
            identity: match numbers_itself {
                true => Some(Identity {
                    always: identity == "a",
                    next: get(row, 10)?,
                    increment: get::<Option<i64>>(row, 9)?.unwrap_or(1),
                }),
                false => None,
            },
        });
    }
    Ok(())
}

async fn unique(session: &mut Session, wanted: &str, tables: &mut [TableDescription], at: &Places) -> Result<()> {
    // Relatives from before covering indexes have no number of key columns.
    let count = if session.version >= 110_000 { "i.indnkeyatts" } else { "i.indnatts" };
    let rows = session
        .rows(&format!(
            "SELECT c.oid::int8, x.relname::text, i.indisprimary, \
             (SELECT array_agg(a.attname::text ORDER BY k.position) \
               FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, position) \
               JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum WHERE k.position <= {count}) \
             FROM {FROM} JOIN pg_catalog.pg_index i ON i.indrelid = c.oid \
             JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
             WHERE {wanted} AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL ORDER BY 1, 2"
        ))
        .await?;
    for row in &rows {
        let Some(table) = at.get(&get::<i64>(row, 0)?).map(|i| &mut tables[*i]) else { continue };
        let columns = get::<Option<Vec<String>>>(row, 3)?.unwrap_or_default();
        if get::<bool>(row, 2)? {
            table.primary_key = columns;
        } else {
            table.unique.push(UniqueKey { name: get(row, 1)?, columns });
        }
    }
    Ok(())
}

/// What a default's expression means, where other systems can say the same: `'new'::text`, `(-1)`, `now()`.
fn default_value(text: &str) -> ColumnDefault {
    let expression = || ColumnDefault::Expression(text.to_owned());
    // A cast behind a value says only which type the value has here.
    let (value, cast) = parts(text.trim());
    if let Some(inner) = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')) {
        let plain = !inner.replace("''", "").contains('\'');
        // An array's or a byte string's text is PostgreSQL's own.
        return match plain && !cast.ends_with(']') && cast != "bytea" {
            true => ColumnDefault::Literal(inner.replace("''", "'")),
            false => expression(),
        };
    }
    let number = value.strip_prefix('(').and_then(|v| v.strip_suffix(')')).unwrap_or(value);
    match value.to_ascii_lowercase().as_str() {
        "true" | "false" => ColumnDefault::Literal(value.to_ascii_lowercase()),
        "now()" | "current_timestamp" | "localtimestamp" | "transaction_timestamp()" | "current_date" => {
            ColumnDefault::Now
        }
        _ if number.parse::<f64>().is_ok_and(f64::is_finite) => ColumnDefault::Literal(number.to_owned()),
        _ => expression(),
    }
}

/// `'a::b'::character varying(5)` as the value and the name that it is cast to; what is no such text is all value.
fn parts(text: &str) -> (&str, &str) {
    let end = match text.strip_prefix('\'') {
        // The closing quote: one that is not doubled.
        Some(rest) => {
            let bytes = rest.as_bytes();
            let mut at = 0;
            loop {
                match bytes.get(at) {
                    None => return (text, ""),
                    Some(b'\'') if bytes.get(at + 1) == Some(&b'\'') => at += 2,
                    Some(b'\'') => break at + 2,
                    Some(_) => at += 1,
                }
            }
        }
        None => text.find("::").unwrap_or(text.len()),
    };
    match text.get(end..) {
        Some("") => (text, ""),
        Some(rest) if rest.starts_with("::") && !rest.contains(['\'', '|', '+', '*', '/', '-']) => {
            (&text[..end], rest.rsplit("::").next().unwrap_or(rest))
        }
        _ => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_understood_where_others_can_say_the_same() {
        for (expression, value) in [
            ("'new'::text", "new"),
            ("'it''s'::character varying(10)", "it's"),
            ("''::text", ""),
            ("'a::b'::text", "a::b"),
            ("'g'::public.mood", "g"),
            ("'2020-01-01'::date", "2020-01-01"),
            ("0", "0"),
            ("(-1)", "-1"),
            ("'-1'::integer", "-1"),
            ("0.50", "0.50"),
            ("4.99::numeric", "4.99"),
            ("true", "true"),
        ] {
            assert_eq!(default_value(expression), ColumnDefault::Literal(value.into()), "{expression}");
        }
        for expression in ["now()", "CURRENT_TIMESTAMP", "CURRENT_DATE"] {
            assert_eq!(default_value(expression), ColumnDefault::Now, "{expression}");
        }
        for expression in [
            "('now'::text)::date",
            "gen_random_uuid()",
            "'{}'::text[]",
            "('a'::text || 'b'::text)",
            "'a'::text || 'b'",
            "date_trunc('day'::text, now())",
            "'infinity'::float8 * 2",
        ] {
            assert_eq!(default_value(expression), ColumnDefault::Expression(expression.into()), "{expression}");
        }
    }
}
