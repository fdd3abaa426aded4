//! Which form each column is asked for in, and the types of columns to be created.

use arrow::datatypes::{DataType, Field};
use serde::{Deserialize, Serialize};
use weir_core::field::{DECIMAL, INTERVAL, JSON, NATIVE, TEXT, UUID, extension, native_type};
use weir_core::{MappedColumn, PlannedColumn, Result, ResultExt};
use weir_postgresql::catalog::resolve_types;
use weir_postgresql::copy::encode::{Format, accepts};
use weir_postgresql::error::{database_error, map};
use weir_postgresql::types::{canonical, labels};
use weir_postgresql::{PgType, SYSTEM, Session, Wire, literal};
use weir_sql::TableName;

use crate::plan::Q;

/// The form in which to ask for the values of each column, and COPY's format for all of them together.
pub fn inputs(columns: &[(&MappedColumn, &PgType)]) -> (Vec<Field>, Format) {
    let binary: Vec<_> = columns.iter().map(|(column, target)| input(column, target, Format::Binary)).collect();
    if binary.iter().zip(columns).all(|(field, (_, target))| accepts(field, target) == Some(Format::Binary)) {
        return (binary, Format::Binary);
    }
    // One column without a binary form of ours, and the whole table goes as text.
    (columns.iter().map(|(column, target)| input(column, target, Format::Text)).collect(), Format::Text)
}

fn input(column: &MappedColumn, target: &PgType, format: Format) -> Field {
    let takes = |field: &Field| match extension(field) {
        Some(NATIVE) => {
            format == Format::Binary
                && native_type(field).is_some_and(|(system, text)| {
                    system == SYSTEM && PgType::parse(text).is_some_and(|source| target.takes_native(&source))
                })
        }
        _ => accepts(field, target).is_some_and(|f| format == Format::Text || f == Format::Binary),
    };
    // Where rows go as text, the same type's own text holds what no Arrow type does: infinity, NaN, years before 1.
    let same = |field: &&Field| {
        extension(field) == Some(TEXT)
            && native_type(field).is_some_and(|(system, text)| {
                system == SYSTEM && PgType::parse(text).is_some_and(|source| target.takes_native(&source))
            })
    };
    if format == Format::Text
        && let Some(text) = column.offers.iter().find(same)
    {
        return text.clone().with_name(&column.name);
    }
    // What no offer fits: the runtime converts into the server type's own form, else into text that the server reads.
    let lists = column.offers.iter().any(|f| matches!(f.data_type(), DataType::List(_)));
    let own = match target.wire() {
        // The server rounds at a negative scale: only digits are checked against it.
        Wire::Numeric(Some((_, scale))) if scale < 0 => Some((DataType::Utf8, Some(DECIMAL))),
        wire => canonical(&wire),
    };
    let own = own.filter(|_| match target.wire() {
        Wire::Money => false,
        Wire::Array(_) => lists,
        _ => true,
    });
    let fallback = match own {
        Some((data_type, Some(extension))) => {
            weir_core::field::with_extension(Field::new(&column.name, data_type, true), extension)
        }
        Some((data_type, None)) => Field::new(&column.name, data_type, true),
        None => match column.offers.iter().find(|f| *f.data_type() == DataType::Utf8) {
            Some(text) => text.clone(),
            None => Field::new(&column.name, DataType::Utf8, true),
        },
    };
    PlannedColumn::choose(column, takes, fallback)
}

/// An enum that the target lacks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewType {
    /// Its name, in the schema of the table.
    pub name: TableName,
    /// Its labels in their order.
    pub labels: Vec<String>,
}

impl NewType {
    /// The statement that makes it.
    pub fn sql(&self) -> String {
        let labels: Vec<_> = self.labels.iter().map(|l| literal(l)).collect();
        format!("CREATE TYPE {} AS ENUM ({})", self.name.quoted(Q), labels.join(", "))
    }

    /// Makes it, if it is not there.
    pub async fn create(&self, session: &mut Session) -> Result<()> {
        if find_type(session, &self.name.quoted(Q)).await?.is_some() {
            return Ok(());
        }
        match session.try_execute(&self.sql()).await? {
            // Another run has just made it.
            Err(error) if database_error(&error).is_some_and(|e| matches!(e.code(), "42710" | "23505")) => Ok(()),
            Err(error) => Err(map(error)).context("type", &self.name),
            Ok(_) => Ok(()),
        }
    }
}

/// The type of a column to be created, and what a user should know of it.
pub struct Created {
    pub pg: PgType,
    pub warning: Option<String>,
}

async fn find_type(session: &mut Session, text: &str) -> Result<Option<PgType>> {
    let found: Option<i64> = session.value(&format!("SELECT to_regtype({})::oid::int8", literal(text))).await?;
    let Some(oid) = found else { return Ok(None) };
    Ok(resolve_types(session, &[(oid as u32, -1)]).await?.pop())
}

/// The type of a column to be created: the source's own where it is one of PostgreSQL's that exists here or, as an enum,
/// can be made; else the one that holds every value of its canonical form.
pub async fn created_type(
    session: &mut Session,
    column: &MappedColumn,
    table: &TableName,
    new_types: &mut Vec<NewType>,
) -> Result<Created> {
    // The first form of a domain's values names its base type, the last the domain.
    let native = column.offers.iter().rev().find_map(native_type);
    let Some((SYSTEM, text)) = native else {
        return Ok(Created {
            pg: canonical_type(column, native.and_then(|(_, text)| sized_text(text))),
            warning: None,
        });
    };
    if let Some(pg) = PgType::parse(text) {
        return Ok(Created { pg, warning: None });
    }
    // A type of an extension or of the user, if this database has it too; an enum may also be in the table's schema.
    let labels = column.offers.iter().find_map(labels).unwrap_or_default();
    let (single, array) = text.strip_suffix("[]").map_or((text, ""), |single| (single, "[]"));
    let own = TableName::parse(single, Q).ok().map(|name| table.sibling(name.name));
    let mut found = find_type(session, text).await?;
    if let (None, Some(own), false) = (&found, &own, labels.is_empty()) {
        found = find_type(session, &format!("{}{array}", own.quoted(Q))).await?;
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
        return Ok(Created { pg, warning });
    }
    if let (Some(name), false) = (own, labels.is_empty()) {
        let text = format!("{}{array}", name.quoted(Q));
        let kind = if array.is_empty() { 'e' } else { 'b' };
        let new = NewType { name, labels: labels.clone() };
        if !new_types.contains(&new) {
            new_types.push(new);
        }
        return Ok(Created {
            pg: PgType { base: text.clone(), text, oid: 0, typmod: -1, kind, labels },
            warning: None,
        });
    }
    let base = column.offers.iter().filter_map(native_type).find_map(|(_, text)| PgType::parse(text));
    let pg = base.unwrap_or_else(|| canonical_type(column, None));
    let warning = format!(
        "column `{}`: type {text} does not exist here, the column is created as {}; create the type first to keep it",
        column.name, pg.text
    );
    Ok(Created { pg, warning: Some(warning) })
}

fn canonical_type(column: &MappedColumn, sized: Option<String>) -> PgType {
    let canonical = column
        .offers
        .iter()
        .find(|f| extension(f) != Some(NATIVE) && extension(f) != Some(weir_core::field::TEXT))
        .or(column.offers.last());
    let text = match (canonical, sized) {
        (Some(field), Some(sized)) if *field.data_type() == DataType::Utf8 && extension(field).is_none() => sized,
        (Some(field), _) => arrow_type(field),
        (None, _) => "text".into(),
    };
    let unknown =
        || PgType { base: text.clone(), text: text.clone(), oid: 25, typmod: -1, kind: 'b', labels: Vec::new() };
    PgType::parse(&text).unwrap_or_else(unknown)
}

/// `varchar(20)` and `char(20)` of another system keep their length, which counts characters here too.
fn sized_text(native: &str) -> Option<String> {
    let lower = native.to_ascii_lowercase();
    let (name, rest) = lower.split_once('(')?;
    let length: u32 = rest.split_once(')')?.0.trim().parse().ok()?;
    // PostgreSQL's own limit. A char that is padded at one end only would compare differently: varchar for both.
    let text = matches!(name.trim(), "varchar" | "character varying" | "nvarchar" | "char" | "character" | "nchar");
    (text && (1..=10_485_760).contains(&length)).then(|| format!("character varying({length})"))
}

fn arrow_type(field: &Field) -> String {
    match extension(field) {
        Some(DECIMAL) => return "numeric".into(),
        Some(INTERVAL) => return "interval".into(),
        Some(JSON) => return "json".into(),
        Some(UUID) => return "uuid".into(),
        _ => {}
    }
    match field.data_type() {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => "smallint".into(),
        DataType::UInt16 | DataType::Int32 => "integer".into(),
        DataType::UInt32 | DataType::Int64 => "bigint".into(),
        DataType::UInt64 => "numeric(20,0)".into(),
        DataType::Float16 | DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => {
            // A negative scale is older servers' trouble: keep the digits.
            if *s < 0 { format!("numeric({},0)", i32::from(*p) - i32::from(*s)) } else { format!("numeric({p},{s})") }
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "bytea".into()
        }
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Time32(_) | DataType::Time64(_) => "time without time zone".into(),
        DataType::Timestamp(_, None) => "timestamp without time zone".into(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".into(),
        DataType::Duration(_) | DataType::Interval(_) => "interval".into(),
        DataType::List(item) | DataType::LargeList(item) => match PgType::parse(&format!("{}[]", arrow_type(item))) {
            Some(array) if array.element().is_some() => array.text,
            _ => "json".into(),
        },
        DataType::Struct(_) | DataType::Map(..) => "json".into(),
        _ => "text".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;
    use weir_core::field::with_extension;

    fn mapped(offers: Vec<Field>) -> MappedColumn {
        MappedColumn { name: "c".into(), offers, source_type: "?".into(), nullable: true, key: None, comment: None }
    }

    fn pg(text: &str) -> PgType {
        PgType::parse(text).unwrap()
    }

    #[test]
    fn the_servers_own_form_is_asked_for() {
        let from = |source: &str, target: &str| {
            let column = mapped(pg(source).representations("s"));
            let (mut fields, format) = inputs(&[(&column, &pg(target))]);
            let field = fields.remove(0);
            assert_eq!(field.name(), "c");
            (field.data_type().clone(), extension(&field).map(str::to_owned), format)
        };
        let native = Some(NATIVE.to_owned());
        assert_eq!(from("integer", "integer"), (DataType::Binary, native.clone(), Format::Binary));
        assert_eq!(from("bigint", "integer"), (DataType::Int32, None, Format::Binary));
        assert_eq!(from("numeric(10,4)", "numeric(10,2)"), (DataType::Decimal128(10, 2), None, Format::Binary));
        assert_eq!(from("int4range", "int4range"), (DataType::Binary, native, Format::Binary));
        assert_eq!(from("text", "inet"), (DataType::Utf8, None, Format::Text));
        let time = from("timestamp without time zone", "timestamp(3) without time zone");
        assert_eq!(time.0, DataType::Timestamp(TimeUnit::Microsecond, None));
    }

    #[test]
    fn one_text_column_makes_all_of_them_text() {
        let int = mapped(pg("integer").representations("a"));
        let range = mapped(vec![with_extension(Field::new("b", DataType::Utf8, true), TEXT)]);
        let (fields, format) = inputs(&[(&int, &pg("integer")), (&range, &pg("int4range"))]);
        assert_eq!(format, Format::Text);
        // The same type's own text holds every value.
        assert_eq!(extension(&fields[0]), Some(TEXT));
    }

    #[test]
    fn lengths_of_other_systems_are_kept() {
        assert_eq!(sized_text("VARCHAR(20)").as_deref(), Some("character varying(20)"));
        assert_eq!(sized_text("int(11)"), None);
        assert_eq!(arrow_type(&Field::new("c", DataType::UInt64, true)), "numeric(20,0)");
        let item = Field::new("item", DataType::Int32, true);
        assert_eq!(arrow_type(&Field::new("c", DataType::List(item.into()), true)), "integer[]");
    }
}
