//! How a type of the user is made again: which of the types below it are there, where the others go, and by what statements.

use weir_core::{ErrorKind, Result};
use weir_postgresql::definitions::{Body, Declared, Definition, Part};
use weir_postgresql::{PgType, Session, literal};
use weir_sql::TableName;

use crate::created::{NewType, find_type, search_path};
use crate::plan::Q;

/// Makes one column's type.
pub struct Maker<'a> {
    declared: &'a Declared,
    table: &'a TableName,
    /// What became of each definition; `None` for one that is not needed, for what needs it is there.
    known: Vec<Option<Result<PgType, String>>>,
    new: Vec<NewType>,
}

impl<'a> Maker<'a> {
    /// For a column of `table`, whose schema is known.
    pub fn new(declared: &'a Declared, table: &'a TableName) -> Self {
        Self { declared, table, known: vec![None; declared.types.len()], new: Vec::new() }
    }

    /// The column's type, and in `new_types` what has to be made before it; or why it cannot be made.
    pub async fn make(mut self, session: &mut Session, new_types: &mut Vec<NewType>) -> Result<Result<PgType, String>> {
        let missing = self.look(session).await?;
        for index in missing {
            let made = self.one(session, &self.declared.types[index], new_types).await?;
            self.known[index] = Some(made);
        }
        let of = self.part(session, &self.declared.of).await?;
        if of.is_ok() {
            self.new.retain(|new| !new_types.contains(new));
            new_types.append(&mut self.new);
        }
        Ok(of)
    }

    /// Finds the types that are there; gives those to be made, each after those that it needs.
    async fn look(&mut self, session: &mut Session) -> Result<Vec<usize>> {
        let types = &self.declared.types;
        let mut wanted: Vec<&Part> = vec![&self.declared.of];
        let mut missing = Vec::new();
        for (index, one) in types.iter().enumerate().rev() {
            if !wanted.iter().any(|part| self.declared.definition(part).is_some_and(|d| std::ptr::eq(d, one))) {
                continue;
            }
            match self.find(session, one).await? {
                Some(found) => self.known[index] = Some(Ok(found)),
                None => {
                    missing.insert(0, index);
                    match &one.body {
                        Body::Enum { .. } => {}
                        Body::Domain { base, .. } => wanted.push(base),
                        Body::Composite { attributes } => wanted.extend(attributes.iter().map(|(_, part)| part)),
                        Body::Range { subtype, .. } => wanted.push(subtype),
                    }
                }
            }
        }
        Ok(missing)
    }

    /// The type itself, where the source has it, where a session finds it, or beside the table.
    async fn find(&self, session: &mut Session, one: &Definition) -> Result<Option<PgType>> {
        let bare = Q.quote(&one.name);
        let places = [
            one.visible.then_some(bare),
            (!one.schema.is_empty()).then(|| own_name(one).quoted(Q)),
            Some(self.table.sibling(&one.name).quoted(Q)),
        ];
        for place in places.into_iter().flatten() {
            if let Some(found) = find_type(session, &place).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Where a type is made: in the schema that it has at the source, if its name there says it and it is here too; else
    /// beside the table.
    async fn place(&self, session: &mut Session, one: &Definition) -> Result<TableName> {
        let beside = self.table.sibling(&one.name);
        if one.visible || one.schema.is_empty() {
            return Ok(beside);
        }
        let may = format!(
            "SELECT FROM pg_catalog.pg_namespace WHERE nspname = {} AND has_schema_privilege(oid, 'CREATE')",
            literal(&one.schema)
        );
        Ok(if session.rows(&may).await?.is_empty() { beside } else { own_name(one) })
    }

    async fn one(
        &mut self,
        session: &mut Session,
        one: &Definition,
        planned: &[NewType],
    ) -> Result<Result<PgType, String>> {
        let place = self.place(session, one).await?;
        if let Some(fault) = missing(session, one, &place).await? {
            return Ok(Err(fault));
        }
        let name = place.quoted(Q);
        let pg = |base: &str, kind: char| PgType {
            text: name.clone(),
            base: base.to_owned(),
            oid: 0,
            typmod: -1,
            kind,
            labels: Vec::new(),
        };
        let (sql, pg) = match &one.body {
            Body::Enum { labels } => {
                let texts: Vec<_> = labels.iter().map(|l| literal(l)).collect();
                let sql = format!("CREATE TYPE {name} AS ENUM ({})", texts.join(", "));
                (sql, PgType { labels: labels.clone(), ..pg(&name, 'e') })
            }
            Body::Domain { base, not_null, default, checks } => {
                let below = match self.part(session, base).await? {
                    Ok(below) => below,
                    Err(fault) => return Ok(Err(fault)),
                };
                let mut sql = format!("CREATE DOMAIN {name} AS {}{}", below.text, collate(base));
                if let Some(default) = default {
                    sql.push_str(&format!(" DEFAULT {default}"));
                }
                if *not_null {
                    sql.push_str(" NOT NULL");
                }
                for (check, expression) in checks {
                    sql.push_str(&format!(" CONSTRAINT {} CHECK ({expression})", Q.quote(check)));
                }
                // On the wire a domain's values are its base type's.
                (sql, PgType { text: name.clone(), ..below })
            }
            Body::Composite { attributes } => {
                let mut list = Vec::with_capacity(attributes.len());
                for (attribute, part) in attributes {
                    match self.part(session, part).await? {
                        Ok(of) => list.push(format!("{} {}{}", Q.quote(attribute), of.text, collate(part))),
                        Err(fault) => return Ok(Err(fault)),
                    }
                }
                (format!("CREATE TYPE {name} AS ({})", list.join(", ")), pg(&name, 'c'))
            }
            Body::Range { subtype, opclass, difference, multirange } => {
                let below = match self.part(session, subtype).await? {
                    Ok(below) => below,
                    Err(fault) => return Ok(Err(fault)),
                };
                let multirange = multirange.as_ref().filter(|_| session.version >= 140_000);
                let options = [
                    Some(format!("SUBTYPE = {}", below.text)),
                    opclass.as_ref().map(|o| format!("SUBTYPE_OPCLASS = {o}")),
                    subtype.collation.as_ref().map(|c| format!("COLLATION = {c}")),
                    difference.as_ref().map(|d| format!("SUBTYPE_DIFF = {d}")),
                    multirange.map(|m| format!("MULTIRANGE_TYPE_NAME = {}", place.sibling(m).quoted(Q))),
                ];
                let options: Vec<_> = options.into_iter().flatten().collect();
                (format!("CREATE TYPE {name} AS RANGE ({})", options.join(", ")), pg(&name, 'r'))
            }
        };
        let labels = if let Body::Enum { labels } = &one.body { labels.clone() } else { Vec::new() };
        let new = NewType { name: place, statement: sql, labels };
        if planned.iter().chain(&self.new).any(|p| p.name == new.name && p.statement != new.statement) {
            return Ok(Err(format!("another column's type is made under the name {}", new.name)));
        }
        if !self.new.contains(&new) {
            self.new.push(new);
        }
        Ok(Ok(pg))
    }

    /// The type of a part, with the text that names it here.
    async fn part(&self, session: &mut Session, part: &Part) -> Result<Result<PgType, String>> {
        let absent = || format!("type {} does not exist here", part.text);
        let position = |one: &Definition| self.declared.types.iter().position(|d| std::ptr::eq(d, one));
        let Some(index) = self.declared.definition(part).and_then(position) else {
            // The server's own, or an extension's.
            if let Some(pg) = PgType::parse(&part.text) {
                return Ok(Ok(pg));
            }
            // The server has read the text, so that a modifier of an extension's own (`geometry(Point,4326)`) may stay.
            let found = find_type(session, &part.text).await?;
            let found =
                found.map(|pg| if part.text.contains('(') { PgType { text: part.text.clone(), ..pg } } else { pg });
            return Ok(found.ok_or_else(absent));
        };
        let mut pg = match &self.known[index] {
            Some(Ok(pg)) => pg.clone(),
            Some(Err(fault)) => return Ok(Err(fault.clone())),
            None => return Ok(Err(absent())),
        };
        let one = &self.declared.types[index];
        if let Some((_, name)) = part.own.as_ref().filter(|(_, name)| *name != one.name) {
            // The multirange beside its range.
            let range = TableName::parse(&pg.text, Q)?;
            pg.text = range.sibling(name).quoted(Q);
            pg = PgType { base: pg.text.clone(), kind: 'm', ..pg };
        }
        if part.array {
            pg.text.push_str("[]");
            pg = PgType { base: pg.text.clone(), oid: 0, typmod: -1, kind: 'b', ..pg };
        }
        Ok(Ok(pg))
    }
}

/// The name at the source.
fn own_name(one: &Definition) -> TableName {
    TableName { schema: Some(one.schema.clone()), name: one.name.clone() }
}

fn collate(part: &Part) -> String {
    part.collation.as_ref().map_or_else(String::new, |c| format!(" COLLATE {c}"))
}

/// What a definition uses that is not here, as a fault in words.
async fn missing(session: &mut Session, one: &Definition, place: &TableName) -> Result<Option<String>> {
    if let Some(volatile) = one.needs.iter().find(|n| n.kind == "volatile") {
        return Ok(Some(format!("{} calls {}, which may do anything", one.name, volatile.text)));
    }
    let mut questions: Vec<(String, String)> = Vec::new();
    for need in &one.needs {
        let lookup = match need.kind.as_str() {
            "function" => "to_regprocedure",
            "operator" => "to_regoperator",
            "relation" => "to_regclass",
            _ => "to_regtype",
        };
        questions.push((
            format!("{} uses {} {}, which does not exist here", one.name, need.kind, need.text),
            format!("{lookup}({}) IS NOT NULL", literal(&need.text)),
        ));
    }
    let collations: Vec<&String> = match &one.body {
        Body::Enum { .. } => Vec::new(),
        Body::Domain { base: part, .. } | Body::Range { subtype: part, .. } => part.collation.iter().collect(),
        Body::Composite { attributes } => attributes.iter().filter_map(|(_, part)| part.collation.as_ref()).collect(),
    };
    for collation in collations {
        questions.push((
            format!("{} uses the collation {collation}, which does not exist here", one.name),
            format!(
                "EXISTS (SELECT FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace \
                 WHERE quote_ident(n.nspname) || '.' || quote_ident(c.collname) = {} \
                 AND c.collencoding IN (-1, pg_char_to_encoding(getdatabaseencoding())))",
                literal(collation)
            ),
        ));
    }
    if questions.is_empty() {
        return Ok(None);
    }
    session.execute("BEGIN READ ONLY").await?;
    if let Some(schema) = &place.schema {
        session.rows(&search_path(schema)).await?;
    }
    let mut fault = None;
    for (text, question) in questions {
        let there = match session.value::<bool>(&format!("SELECT {question}")).await {
            // Older servers refuse a function whose arguments' types they do not know.
            Err(error)
                if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Unreachable | ErrorKind::Timeout) =>
            {
                return Err(error);
            }
            answer => answer.unwrap_or(false),
        };
        if !there {
            fault = Some(text);
            break;
        }
    }
    session.execute("ROLLBACK").await?;
    Ok(fault)
}
