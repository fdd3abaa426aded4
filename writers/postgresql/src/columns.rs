//! Which form each column is asked for in, and the type for values that come from another system.

use arrow::datatypes::{DataType, Field};
use weir_core::field::{DECIMAL, INTERVAL, JSON, NATIVE, TEXT, UUID, extension, native_type};
use weir_core::{MappedColumn, PlannedColumn};
use weir_postgresql::copy::encode::{Format, accepts};
use weir_postgresql::types::canonical;
use weir_postgresql::{PgType, SYSTEM, Wire};

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
    // From texts the server would round numbers: the runtime makes them, exactly or not at all.
    let rounds =
        matches!(target.wire(), Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Oid | Wire::Float4 | Wire::Float8);
    let takes = |field: &Field| match extension(field) {
        Some(NATIVE) => {
            format == Format::Binary
                && native_type(field).is_some_and(|(system, text)| {
                    system == SYSTEM && PgType::parse(text).is_some_and(|source| target.takes_native(&source))
                })
        }
        _ => accepts(field, target).is_some_and(|f| f == Format::Binary || (format == Format::Text && !rounds)),
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

/// The type that holds every value of a column's canonical form; `sized` is a text type with its length.
pub fn canonical_type(column: &MappedColumn, sized: Option<String>) -> PgType {
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
pub fn sized_text(native: &str) -> Option<String> {
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
