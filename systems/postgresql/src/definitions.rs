//! Types that users define (enums, domains, composites, ranges): what makes them again in another database.
//!
//! A column's field carries the definitions under [`DEFINITIONS`], so that a file in the middle keeps them. What a field says
//! may come from anywhere: a type's text goes into statements only after the server or [`PgType::parse`] has read it, and an
//! expression only as a part of one statement, whose functions are looked at before it is kept (see [`volatile_functions`]).

use arrow::datatypes::Field;
use serde::{Deserialize, Serialize};
use weir_core::Result;
use weir_core::field::with_metadata;

use crate::catalog::get;
use crate::connection::{Session, literal};
use crate::types::PgType;

/// Metadata key: the types of the user that the column's type is made of, as JSON of [`Declared`].
pub const DEFINITIONS: &str = "weir.postgresql.types";

/// Oids below belong to the server itself.
const FIRST_OF_USERS: u32 = 16_384;

/// A column's type, and what it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// The column's type.
    pub of: Part,
    /// The types to make, each after those that it needs.
    pub types: Vec<Definition>,
}

/// A type that another one is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// As the server writes it, without the schema if that is the schema of the type that it is a part of.
    pub text: String,
    /// Schema and name, if it (or what it is an array of) is a type of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<(String, String)>,
    /// Whether it is an array of that type.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub array: bool,
    /// The collation, quoted and with its schema, where it is not the type's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
}

/// A type of the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether the source's session finds it without its schema.
    pub visible: bool,
    /// What it is.
    pub body: Body,
    /// What it uses that is no type, and has to be there before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Need>,
}

/// What a type is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Labels in their order.
    Enum {
        /// The labels.
        labels: Vec<String>,
    },
    /// Another type with conditions.
    Domain {
        /// The other type.
        base: Part,
        /// Whether it takes no NULL.
        not_null: bool,
        /// The default, an expression.
        default: Option<String>,
        /// Names and expressions of its checks.
        checks: Vec<(String, String)>,
    },
    /// Attributes with their names.
    Composite {
        /// The attributes.
        attributes: Vec<(String, Part)>,
    },
    /// Ranges of a type, and with it their multiranges.
    Range {
        /// What they are ranges of.
        subtype: Part,
        /// The operator class that orders it, where it is not the default one.
        opclass: Option<String>,
        /// The function that tells how far apart two values are.
        difference: Option<String>,
        /// The name of the multirange type.
        multirange: Option<String>,
    },
}

/// What a definition uses that is no type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// `function`, `operator`, `relation`, `type`; `volatile` is a function that may do anything.
    pub kind: String,
    /// As the server writes it, without the schema if that is the type's.
    pub text: String,
}

impl Declared {
    /// What a field's metadata tells.
    pub fn of_field(field: &Field) -> Option<Self> {
        serde_json::from_str(field.metadata().get(DEFINITIONS)?).ok()
    }

    /// The field with the definitions.
    pub fn on(&self, field: Field) -> Field {
        match serde_json::to_string(self) {
            Ok(text) => with_metadata(field, DEFINITIONS, &text),
            Err(_) => field,
        }
    }

    /// Widens the enum below the column's type to these labels: several tables read as one have those of all.
    pub fn relabel(&mut self, all: &[String]) {
        let mut part = self.of.clone();
        while let Some(found) = self.definition(&part).and_then(|d| self.types.iter().position(|t| t == d)) {
            match &mut self.types[found].body {
                Body::Domain { base, .. } => part = base.clone(),
                Body::Enum { labels } => return labels.clone_from(&all.to_vec()),
                _ => return,
            }
        }
    }

    /// The definition of a type, or of the range whose multirange it is.
    pub fn definition(&self, part: &Part) -> Option<&Definition> {
        let (schema, name) = part.own.as_ref()?;
        self.types.iter().find(|d| {
            let ranges_of = match &d.body {
                Body::Range { multirange, .. } => multirange.as_deref(),
                _ => None,
            };
            d.schema == *schema && (d.name == *name || ranges_of == Some(name))
        })
    }
}

/// A query for the functions of a domain's checks and default that may do anything when they are called, but for the
/// well-known sources of keys and times: `{}` is the domain's oid.
const VOLATILE_FUNCTIONS: &str = "SELECT DISTINCT p.oid::regprocedure::text FROM pg_catalog.pg_proc p \
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
    WHERE p.provolatile = 'v' AND NOT (n.nspname = 'pg_catalog' AND p.proname IN ('gen_random_uuid', 'clock_timestamp', \
      'random', 'nextval', 'timeofday')) \
    AND p.oid IN (SELECT m[1]::oid FROM ( \
      SELECT t.typdefaultbin::text FROM pg_catalog.pg_type t WHERE t.oid = {} UNION ALL \
      SELECT c.conbin::text FROM pg_catalog.pg_constraint c WHERE c.contypid = {}) e(tree), \
      regexp_matches(e.tree, ':(?:op)?funcid ([0-9]+)', 'g') m) ORDER BY 1";

/// The functions of a domain that may do anything when they are called. A domain that a stranger's file describes would
/// call them with our login's rights for each value: such a domain is not for us to make.
///
/// # Errors
/// Those of the connection.
pub async fn volatile_functions(session: &mut Session, domain: &str) -> Result<Vec<String>> {
    let oid = format!("{}::regtype::oid", literal(domain));
    let rows = session.rows(&VOLATILE_FUNCTIONS.replace("{}", &oid)).await?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// The definitions of the columns' types; `None` for a type that is the server's own or of an extension.
///
/// # Errors
/// Those of the connection.
pub async fn declared(session: &mut Session, types: &[&PgType]) -> Result<Vec<Option<Declared>>> {
    let mut all = vec![None; types.len()];
    // Relatives that call themselves old have no types to define.
    if session.version < 90_600 {
        return Ok(all);
    }
    let unknown: Vec<usize> = (0..types.len()).filter(|i| PgType::parse(&types[*i].text).is_none()).collect();
    if unknown.is_empty() {
        return Ok(all);
    }
    let found = needed(session, &unknown.iter().map(|i| types[*i].text.as_str()).collect::<Vec<_>>()).await?;
    if found.is_empty() {
        return Ok(all);
    }
    // Texts leave out the schema of the type that they belong to: it may be another one where it is made again.
    session.execute("BEGIN READ ONLY").await?;
    for (at, column) in unknown.into_iter().enumerate() {
        let below: Vec<Found> = found.iter().filter(|f| f.column == at).copied().collect();
        if below.is_empty() {
            continue;
        }
        let mut definitions = Vec::new();
        for one in &below {
            definitions.extend(definition(session, one, &below).await?);
        }
        let root = format!("SELECT '', to_regtype({})::oid, -1, 0::oid, 0", literal(&types[column].text));
        if let Some((_, of)) = parts(session, &root).await?.pop() {
            all[column] = Some(Declared { of, types: definitions });
        }
    }
    session.execute("COMMIT").await?;
    Ok(all)
}

/// A type of the user below a column's type.
#[derive(Clone, Copy)]
struct Found {
    column: usize,
    oid: u32,
    visible: bool,
}

/// The users' types below each of the types, each after those that it needs.
async fn needed(session: &mut Session, texts: &[&str]) -> Result<Vec<Found>> {
    let roots: Vec<_> =
        texts.iter().enumerate().map(|(i, t)| format!("({i}, to_regtype({})::oid)", literal(t))).collect();
    let multiranges = if session.version >= 140_000 {
        "UNION ALL SELECT g.rngtypid FROM pg_catalog.pg_range g WHERE g.rngmultitypid = t.oid"
    } else {
        ""
    };
    let rows = session
        .rows(&format!(
            "WITH RECURSIVE below(i, oid, depth) AS (SELECT w.i, w.oid, 0 FROM (VALUES {}) w(i, oid) UNION \
               SELECT b.i, r.oid, b.depth + 1 FROM below b JOIN pg_catalog.pg_type t ON t.oid = b.oid CROSS JOIN LATERAL ( \
                 SELECT t.typelem WHERE t.typtype = 'b' AND t.typlen = -1 AND t.typelem <> 0 \
                 UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd' \
                 UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a \
                   WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped \
                 UNION ALL SELECT g.rngsubtype FROM pg_catalog.pg_range g WHERE g.rngtypid = t.oid {multiranges}) r(oid) \
               WHERE t.oid >= {FIRST_OF_USERS} AND b.depth < 32 AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
                 WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')) \
             SELECT b.i, b.oid::int8, pg_type_is_visible(b.oid) FROM below b JOIN pg_catalog.pg_type t ON t.oid = b.oid \
             LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid \
             WHERE t.oid >= {FIRST_OF_USERS} AND t.typtype IN ('d', 'e', 'c', 'r') AND coalesce(c.relkind = 'c', true) \
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
                 WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e') \
             GROUP BY 1, 2, 3 ORDER BY 1, max(b.depth) DESC, 2",
            roots.join(", ")
        ))
        .await?;
    rows.iter()
        .map(|row| {
            let (column, oid) = (get::<i32>(row, 0)?.max(0) as usize, get::<i64>(row, 1)? as u32);
            Ok(Found { column, oid, visible: get(row, 2)? })
        })
        .collect()
}

/// Parts with their names. `query` gives name, type, modifier, collation and position of each.
async fn parts(session: &mut Session, query: &str) -> Result<Vec<(String, Part)>> {
    let rows = session
        .rows(&format!(
            "SELECT p.name::text, format_type(p.oid, p.typmod), n.nspname::text, e.typname::text, e.oid <> y.oid, \
               CASE WHEN p.sorts NOT IN (0, y.typcollation) THEN \
                 (SELECT quote_ident(cn.nspname) || '.' || quote_ident(c.collname) FROM pg_catalog.pg_collation c \
                  JOIN pg_catalog.pg_namespace cn ON cn.oid = c.collnamespace WHERE c.oid = p.sorts) END \
             FROM ({query}) p(name, oid, typmod, sorts, position) JOIN pg_catalog.pg_type y ON y.oid = p.oid \
             LEFT JOIN pg_catalog.pg_type e ON e.oid >= {FIRST_OF_USERS} \
               AND e.oid = CASE WHEN y.typtype = 'b' AND y.typlen = -1 AND y.typelem <> 0 THEN y.typelem ELSE y.oid END \
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
                 WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = e.oid AND d.deptype = 'e') \
             LEFT JOIN pg_catalog.pg_namespace n ON n.oid = e.typnamespace ORDER BY p.position"
        ))
        .await?;
    rows.iter()
        .map(|row| {
            let own = get::<Option<String>>(row, 2)?.zip(get::<Option<String>>(row, 3)?);
            let array = own.is_some() && get::<Option<bool>>(row, 4)?.unwrap_or(false);
            Ok((get(row, 0)?, Part { text: get(row, 1)?, own, array, collation: get(row, 5)? }))
        })
        .collect()
}

/// One type of the user; `None` for one that no statement of ours can make.
async fn definition(session: &mut Session, one: &Found, all: &[Found]) -> Result<Option<Definition>> {
    let Found { oid, visible, .. } = *one;
    let row = session
        .one(&format!(
            "SELECT n.nspname::text, t.typname::text, t.typtype::text, t.typnotnull, \
               set_config('search_path', quote_ident(n.nspname), true) \
             FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = {oid}"
        ))
        .await?;
    let (schema, name, kind): (String, String, String) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
    let not_null: bool = get(&row, 3)?;
    let body = match kind.as_str() {
        "e" => {
            let sql = format!(
                "SELECT enumlabel::text FROM pg_catalog.pg_enum WHERE enumtypid = {oid} ORDER BY enumsortorder"
            );
            let rows = session.rows(&sql).await?;
            Some(Body::Enum { labels: rows.iter().map(|row| get(row, 0)).collect::<Result<_>>()? })
        }
        "d" => domain(session, oid, not_null).await?,
        "c" => {
            let attributes = format!(
                "SELECT a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attnum FROM pg_catalog.pg_type t \
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid \
                 WHERE t.oid = {oid} AND a.attnum > 0 AND NOT a.attisdropped"
            );
            Some(Body::Composite { attributes: parts(session, &attributes).await? })
        }
        _ => range(session, oid).await?,
    };
    let needs = needs(session, oid, all).await?;
    Ok(body.map(|body| Definition { schema, name, visible, body, needs }))
}

async fn domain(session: &mut Session, oid: u32, not_null: bool) -> Result<Option<Body>> {
    // The default as the domain's own schema sees it: the search path is set by now.
    let default = session
        .value(&format!(
            "SELECT coalesce(pg_get_expr(typdefaultbin, 0), quote_literal(typdefault)) FROM pg_catalog.pg_type WHERE oid = {oid}"
        ))
        .await?;
    let base = format!("SELECT '', typbasetype, typtypmod, typcollation, 0 FROM pg_catalog.pg_type WHERE oid = {oid}");
    let Some((_, base)) = parts(session, &base).await?.pop() else { return Ok(None) };
    let rows = session
        .rows(&format!(
            "SELECT conname::text, pg_get_expr(conbin, 0) FROM pg_catalog.pg_constraint \
             WHERE contypid = {oid} AND contype = 'c' ORDER BY conname"
        ))
        .await?;
    let checks = rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect::<Result<_>>()?;
    Ok(Some(Body::Domain { base, not_null, default, checks }))
}

async fn range(session: &mut Session, oid: u32) -> Result<Option<Body>> {
    let multirange = if session.version >= 140_000 {
        "(SELECT m.typname::text FROM pg_catalog.pg_type m WHERE m.oid = g.rngmultitypid)"
    } else {
        "NULL::text"
    };
    let row = session
        .one(&format!(
            "SELECT g.rngcanonical::oid::int8, nullif(g.rngsubdiff::oid, 0)::regproc::text, \
               (SELECT quote_ident(n.nspname) || '.' || quote_ident(o.opcname) FROM pg_catalog.pg_opclass o \
                JOIN pg_catalog.pg_namespace n ON n.oid = o.opcnamespace WHERE o.oid = g.rngsubopc AND NOT o.opcdefault), \
               {multirange} FROM pg_catalog.pg_range g WHERE g.rngtypid = {oid}"
        ))
        .await?;
    // Its function takes the type itself: no one statement makes both.
    if get::<i64>(&row, 0)? != 0 {
        return Ok(None);
    }
    let subtype = format!("SELECT '', rngsubtype, -1, rngcollation, 0 FROM pg_catalog.pg_range WHERE rngtypid = {oid}");
    let Some((_, subtype)) = parts(session, &subtype).await?.pop() else { return Ok(None) };
    Ok(Some(Body::Range { subtype, difference: get(&row, 1)?, opclass: get(&row, 2)?, multirange: get(&row, 3)? }))
}

/// What a type uses beside the types that are made with it, as its own schema sees it.
async fn needs(session: &mut Session, oid: u32, all: &[Found]) -> Result<Vec<Need>> {
    let made: Vec<_> = all.iter().map(|found| found.oid.to_string()).collect();
    let made = made.join(", ");
    let rows = session
        .rows(&format!(
            "SELECT DISTINCT CASE d.refclassid WHEN 'pg_catalog.pg_proc'::regclass THEN 'function' \
                WHEN 'pg_catalog.pg_operator'::regclass THEN 'operator' WHEN 'pg_catalog.pg_class'::regclass THEN 'relation' \
                ELSE 'type' END, \
               CASE d.refclassid WHEN 'pg_catalog.pg_proc'::regclass THEN d.refobjid::regprocedure::text \
                WHEN 'pg_catalog.pg_operator'::regclass THEN d.refobjid::regoperator::text \
                WHEN 'pg_catalog.pg_class'::regclass THEN d.refobjid::regclass::text ELSE d.refobjid::regtype::text END \
             FROM pg_catalog.pg_depend d \
             WHERE ((d.classid = 'pg_catalog.pg_constraint'::regclass \
                 AND d.objid IN (SELECT oid FROM pg_catalog.pg_constraint WHERE contypid = {oid})) \
               OR (d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = {oid} \
                 AND d.refclassid <> 'pg_catalog.pg_type'::regclass)) \
               AND d.deptype = 'n' AND d.refobjid >= {FIRST_OF_USERS} \
               AND d.refclassid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass, \
                 'pg_catalog.pg_class'::regclass, 'pg_catalog.pg_type'::regclass) \
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_type t WHERE \
                 (d.refclassid = 'pg_catalog.pg_type'::regclass AND t.oid = d.refobjid AND ARRAY[t.oid, t.typelem] && ARRAY[{made}]::oid[]) \
                 OR (d.refclassid = 'pg_catalog.pg_class'::regclass AND t.typrelid = d.refobjid AND t.oid IN ({made}))) ORDER BY 1, 2"
        ))
        .await?;
    let mut needs: Vec<Need> =
        rows.iter().map(|row| Ok(Need { kind: get(row, 0)?, text: get(row, 1)? })).collect::<Result<_>>()?;
    let volatile = session.rows(&VOLATILE_FUNCTIONS.replace("{}", &oid.to_string())).await?;
    for row in &volatile {
        needs.push(Need { kind: "volatile".into(), text: get(row, 0)? });
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::DataType;

    #[test]
    fn a_field_carries_what_its_type_is_made_of() {
        let part = |text: &str, own: Option<&str>| Part {
            text: text.into(),
            own: own.map(|name| ("shop".into(), name.into())),
            array: false,
            collation: None,
        };
        let range = Definition {
            schema: "shop".into(),
            name: "span".into(),
            visible: true,
            body: Body::Range {
                subtype: part("double precision", None),
                opclass: None,
                difference: Some("float8mi".into()),
                multirange: Some("spans".into()),
            },
            needs: Vec::new(),
        };
        let declared = Declared { of: part("spans", Some("spans")), types: vec![range] };
        let field = declared.on(Field::new("c", DataType::Utf8, true));
        assert_eq!(Declared::of_field(&field).as_ref(), Some(&declared));
        assert_eq!(declared.definition(&declared.of).unwrap().name, "span");
        assert!(declared.definition(&part("text", None)).is_none());
        let wrong = with_metadata(Field::new("c", DataType::Utf8, true), DEFINITIONS, "{\"of\": 1}");
        assert_eq!(Declared::of_field(&wrong), None);
    }
}
