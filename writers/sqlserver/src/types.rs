//! Arrow columns for SQL Server columns: what an existing column takes, and what a new one is.

use arrow::datatypes::{DataType, Field, TimeUnit};
use weir_core::field::{DECIMAL, INTERVAL, JSON, NATIVE, TEXT, UUID, extension, native_type, with_extension};
use weir_core::{MappedColumn, PlannedColumn};
use weir_sqlserver::{COLLATION, Fractions, Kind, SYSTEM};

/// How a column that exists takes its values.
pub(crate) fn for_existing(column: &MappedColumn, type_text: &str) -> Field {
    let kind = Kind::parse(type_text);
    if let Some(offset) = with_offset(column, &kind) {
        return offset.clone().with_name(&column.name).with_nullable(true);
    }
    // Microseconds hold every year; where seven digits come, an offer has them.
    let fallback = kind.forms(&column.name, Fractions::Microseconds).into_iter().next();
    let fallback = fallback.unwrap_or_else(|| Field::new(&column.name, DataType::Utf8, true));
    PlannedColumn::choose(column, |f| takes(&kind, f), fallback)
}

/// The text of an instant with its offset, from this system to this system.
fn with_offset<'a>(column: &'a MappedColumn, kind: &Kind) -> Option<&'a Field> {
    let Kind::DateTimeOffset(digits) = kind else { return None };
    column.offers.iter().find(|f| {
        let native = native_type(f).filter(|(system, _)| extension(f) == Some(TEXT) && *system == SYSTEM);
        matches!(native.map(|(_, text)| Kind::parse(text)), Some(Kind::DateTimeOffset(n)) if n <= *digits)
    })
}

/// Whether a column of `kind` takes values of `field` unchanged, or refuses them one by one.
fn takes(kind: &Kind, field: &Field) -> bool {
    use DataType as D;
    let (ext, data_type) = (extension(field), field.data_type());
    if matches!(ext, Some(NATIVE)) {
        return false;
    }
    let text = matches!(data_type, D::Utf8 | D::LargeUtf8 | D::Utf8View);
    let digits = |p: u8, s: i8| i16::from(p) - i16::from(s);
    let decimal = |precision: u8, scale: i8| match data_type {
        D::Decimal128(p, s) => *s >= 0 && *s <= scale && digits(*p, *s) <= digits(precision, scale),
        _ => false,
    };
    match kind {
        Kind::Bit => *data_type == D::Boolean,
        Kind::TinyInt => matches!(data_type, D::UInt8 | D::Boolean),
        Kind::SmallInt => matches!(data_type, D::Int8 | D::UInt8 | D::Int16 | D::Boolean),
        Kind::Int => {
            matches!(data_type, D::Int8 | D::UInt8 | D::Int16 | D::UInt16 | D::Int32 | D::Boolean)
        }
        Kind::BigInt => matches!(
            data_type,
            D::Int8 | D::UInt8 | D::Int16 | D::UInt16 | D::Int32 | D::UInt32 | D::Int64 | D::Boolean
        ),
        Kind::Decimal { precision, scale } => decimal(*precision, *scale),
        Kind::Money => decimal(19, 4),
        Kind::SmallMoney => decimal(10, 4),
        Kind::Real => *data_type == D::Float32,
        Kind::Float => matches!(data_type, D::Float32 | D::Float64),
        Kind::Date => *data_type == D::Date32,
        Kind::Time(_) => matches!(data_type, D::Time32(_) | D::Time64(_)),
        Kind::DateTime | Kind::SmallDateTime | Kind::DateTime2(_) => matches!(data_type, D::Timestamp(_, None)),
        Kind::DateTimeOffset(_) => matches!(data_type, D::Timestamp(_, Some(_))),
        Kind::Json => text && matches!(ext, None | Some(JSON)),
        kind if kind.is_text() => text,
        Kind::Xml | Kind::HierarchyId => text,
        Kind::Uuid => ext == Some(UUID),
        Kind::Binary(_) | Kind::VarBinary(_) | Kind::Image => {
            matches!(data_type, D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_)) && ext != Some(UUID)
        }
        _ => false,
    }
}

/// A column of a table to be created.
pub(crate) struct NewType {
    /// The type.
    pub(crate) type_text: String,
    /// The collation of a text, where it is not the database's own.
    pub(crate) collation: Option<String>,
    /// How values come.
    pub(crate) input: Field,
    /// What a user should know.
    pub(crate) warning: Option<String>,
}

/// The collation of new keys: those that the source holds different must not become equal.
pub(crate) const KEY_COLLATION: &str = "Latin1_General_BIN2";

/// The type of a new column. `collations` are those of the source that the server has too.
pub(crate) fn for_new(column: &MappedColumn, is_key: bool, collations: &[String]) -> NewType {
    let native = column.offers.iter().find_map(|f| {
        let (system, text) = native_type(f)?;
        (system == SYSTEM).then_some((f, text))
    });
    if let Some((field, text)) = native
        && let Some(type_text) = like_source(&Kind::parse(text), text, is_key)
    {
        let own = field.metadata().get(COLLATION).filter(|c| collations.contains(c)).cloned();
        let text = Kind::parse(&type_text).is_text();
        let collation = own.or_else(|| is_key.then(|| KEY_COLLATION.to_owned())).filter(|_| text);
        return NewType { input: for_existing(column, &type_text), type_text, collation, warning: None };
    }
    let offer = column
        .offers
        .iter()
        .find(|f| !matches!(extension(f), Some(NATIVE | TEXT)) && !matches!(f.data_type(), DataType::List(_)))
        .or_else(|| column.offers.iter().find(|f| extension(f) == Some(TEXT)))
        .or(column.offers.first());
    let fallback = Field::new(&column.name, DataType::Utf8, true);
    let offer = offer.unwrap_or(&fallback);
    let (type_text, input, warning) = arrow_type(offer, is_key);
    let kind = Kind::parse(&type_text);
    let collation = (is_key && kind.is_text()).then(|| KEY_COLLATION.to_owned());
    let input = match input {
        Some(data_type) => Field::new(&column.name, data_type, true),
        None if takes(&kind, offer) => offer.clone().with_name(&column.name).with_nullable(true),
        None => for_existing(column, &type_text),
    };
    NewType { type_text, collation, input, warning }
}

/// The source's own type, where a table of this system can have it.
fn like_source(kind: &Kind, text: &str, is_key: bool) -> Option<String> {
    Some(match kind {
        Kind::Unknown | Kind::Variant | Kind::Spatial => return None,
        // Another table's versions are bytes here.
        Kind::RowVersion => "binary(8)".into(),
        // The old names of these types are on their way out.
        Kind::Text if !is_key => "varchar(max)".into(),
        Kind::NText if !is_key => "nvarchar(max)".into(),
        Kind::Image if !is_key => "varbinary(max)".into(),
        Kind::Text | Kind::NText | Kind::Image | Kind::Xml | Kind::Json if is_key => return None,
        Kind::VarChar(None) | Kind::NVarChar(None) | Kind::VarBinary(None) if is_key => return None,
        _ => text.to_owned(),
    })
}

/// The type text for an Arrow type, the input where it is not the offer itself, and a warning.
fn arrow_type(field: &Field, is_key: bool) -> (String, Option<DataType>, Option<String>) {
    use DataType as D;
    let same = |text: &str| (text.to_owned(), None, None);
    match extension(field) {
        Some(JSON) if !is_key => return same("nvarchar(max)"),
        Some(UUID) => return same("uniqueidentifier"),
        Some(DECIMAL) => {
            return (
                "decimal(38,8)".into(),
                Some(D::Decimal128(38, 8)),
                Some("SQL Server's widest decimal here has 30 digits before and 8 after the point; other values are dirty".into()),
            );
        }
        Some(INTERVAL) => return same("nvarchar(255)"),
        _ => {}
    }
    let decimals = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 7,
    };
    let hundreds = |unit: &TimeUnit| {
        (*unit == TimeUnit::Nanosecond).then(|| "SQL Server has steps of 100 ns: finer times are dirty".to_owned())
    };
    match field.data_type() {
        D::Boolean => same("bit"),
        D::Int8 | D::Int16 => same("smallint"),
        D::UInt8 => same("tinyint"),
        D::Int32 | D::UInt16 => same("int"),
        D::Int64 | D::UInt32 => same("bigint"),
        D::UInt64 => ("decimal(20,0)".into(), Some(D::Decimal128(20, 0)), None),
        D::Float16 | D::Float32 => ("real".into(), Some(D::Float32), None),
        D::Float64 => same("float"),
        D::Decimal32(p, s) | D::Decimal64(p, s) | D::Decimal128(p, s) | D::Decimal256(p, s)
            if *s >= 0 && (*p).max(*s as u8) <= 38 =>
        {
            let p = (*p).max(*s as u8).max(1);
            (format!("decimal({p},{s})"), Some(D::Decimal128(p, *s)), None)
        }
        D::Decimal32(p, s) | D::Decimal64(p, s) | D::Decimal128(p, s)
            if *s < 0 && i16::from(*p) - i16::from(*s) <= 38 =>
        {
            let p = (i16::from(*p) - i16::from(*s)) as u8;
            (format!("decimal({p},0)"), Some(D::Decimal128(p, 0)), None)
        }
        D::Decimal32(..) | D::Decimal64(..) | D::Decimal128(..) | D::Decimal256(..) => (
            "nvarchar(100)".into(),
            Some(D::Utf8),
            Some("SQL Server's decimals have 38 digits: the digits are kept as text".into()),
        ),
        D::Date32 | D::Date64 => ("date".into(), Some(D::Date32), None),
        D::Timestamp(unit, None) => (format!("datetime2({})", decimals(unit)), None, hundreds(unit)),
        D::Timestamp(unit, Some(_)) => (format!("datetimeoffset({})", decimals(unit)), None, hundreds(unit)),
        D::Time32(unit) | D::Time64(unit) => (format!("time({})", decimals(unit)), None, hundreds(unit)),
        // SQL Server's time ends with the day.
        D::Duration(_) => ("nvarchar(50)".into(), Some(D::Utf8), None),
        D::FixedSizeBinary(n) if (1..=8000).contains(n) && (!is_key || *n <= 900) => same(&format!("binary({n})")),
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) if is_key => {
            ("varbinary(900)".into(), None, Some("a key has a limited length: longer values are dirty".into()))
        }
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => same("varbinary(max)"),
        D::Utf8 | D::LargeUtf8 | D::Utf8View => text_type(field, is_key),
        _ => {
            let (text, _, warning) = text_type(&Field::new("", D::Utf8, true), is_key);
            (text, Some(D::Utf8), warning)
        }
    }
}

fn text_type(field: &Field, is_key: bool) -> (String, Option<DataType>, Option<String>) {
    let length =
        native_type(field).filter(|(_, text)| text.to_ascii_lowercase().contains("char")).and_then(|(_, text)| {
            let (_, rest) = text.split_once('(')?;
            rest.split_once(')')?.0.trim().parse::<u32>().ok().filter(|n| *n > 0)
        });
    // What others count as characters has up to two pairs of bytes here.
    let pairs = length.map(|n| n.saturating_mul(2));
    let longest = if is_key { 450 } else { 4000 };
    match (length, pairs) {
        (_, Some(n)) if n <= longest => (format!("nvarchar({n})"), None, None),
        (Some(n), _) if n <= longest && is_key => (format!("nvarchar({longest})"), None, None),
        _ if is_key => {
            (format!("nvarchar({longest})"), None, Some("a key has a limited length: longer values are dirty".into()))
        }
        _ => ("nvarchar(max)".into(), None, None),
    }
}

/// An input that a text stands in for keeps no extension but those that are texts themselves.
pub(crate) fn settled(input: Field, type_text: &str) -> Field {
    let text = Kind::parse(type_text).is_text();
    match extension(&input) {
        Some(DECIMAL) if text => Field::new(input.name(), DataType::Utf8, true),
        Some(UUID) if text => with_extension(Field::new(input.name(), DataType::Utf8, true), TEXT),
        _ => input.with_nullable(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::field::with_native_type;

    fn column(offers: Vec<Field>) -> MappedColumn {
        MappedColumn { name: "c".into(), offers, source_type: "?".into(), nullable: true, key: None, comment: None }
    }

    fn own(type_text: &str) -> MappedColumn {
        let forms = Kind::parse(type_text).forms("c", Fractions::Exact);
        column(forms.into_iter().map(|f| with_native_type(f, SYSTEM, type_text)).collect())
    }

    #[test]
    fn the_same_systems_types_are_kept() {
        for text in ["decimal(38,10)", "datetimeoffset(7)", "nvarchar(20)", "money", "xml", "uniqueidentifier"] {
            assert_eq!(for_new(&own(text), false, &[]).type_text, text);
        }
        assert_eq!(for_new(&own("ntext"), false, &[]).type_text, "nvarchar(max)");
        assert_eq!(for_new(&own("rowversion"), false, &[]).type_text, "binary(8)");
        let key = for_new(&own("varchar(20)"), true, &[]);
        assert_eq!((key.type_text.as_str(), key.collation.as_deref()), ("varchar(20)", Some(KEY_COLLATION)));
        assert_eq!(for_new(&own("nvarchar(max)"), true, &[]).type_text, "nvarchar(450)");
    }

    #[test]
    fn offsets_travel_as_text_and_instants_as_instants() {
        let text = for_existing(&own("datetimeoffset(3)"), "datetimeoffset(7)");
        assert_eq!((extension(&text), text.data_type()), (Some(TEXT), &DataType::Utf8));
        let coarse = for_existing(&own("datetimeoffset(7)"), "datetimeoffset(3)");
        assert!(matches!(coarse.data_type(), DataType::Timestamp(..)));
        let fine = for_existing(&own("datetime2(7)"), "datetime2(7)");
        assert_eq!(fine.data_type(), &DataType::Timestamp(TimeUnit::Nanosecond, None));
    }

    #[test]
    fn other_systems_types_find_one_that_holds_them() {
        let new = |field: Field| for_new(&column(vec![field]), false, &[]);
        let plain = |data_type| Field::new("c", data_type, true);
        assert_eq!(new(plain(DataType::UInt64)).type_text, "decimal(20,0)");
        assert_eq!(new(plain(DataType::Int8)).input.data_type(), &DataType::Int8);
        assert_eq!(new(plain(DataType::Decimal256(50, 10))).type_text, "nvarchar(100)");
        let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        assert_eq!(new(plain(zoned)).type_text, "datetimeoffset(6)");
        let char20 = with_native_type(plain(DataType::Utf8), "postgresql", "character varying(20)");
        assert_eq!(new(char20).type_text, "nvarchar(40)");
        assert_eq!(new(plain(DataType::Utf8)).type_text, "nvarchar(max)");
        let list = DataType::List(Field::new("item", DataType::Int32, true).into());
        assert_eq!(new(plain(list)).input.data_type(), &DataType::Utf8);
    }

    #[test]
    fn an_existing_column_takes_what_fits_it() {
        let into = |data_type: DataType, target: &str| {
            for_existing(&column(vec![Field::new("c", data_type, true)]), target).data_type().clone()
        };
        assert_eq!(into(DataType::Int16, "bigint"), DataType::Int16);
        assert_eq!(into(DataType::Int64, "int"), DataType::Int32);
        assert_eq!(into(DataType::Decimal128(10, 2), "money"), DataType::Decimal128(10, 2));
        assert_eq!(into(DataType::Decimal128(10, 5), "money"), DataType::Decimal128(19, 4));
        assert_eq!(
            into(DataType::Timestamp(TimeUnit::Second, None), "datetime"),
            DataType::Timestamp(TimeUnit::Second, None)
        );
        assert_eq!(into(DataType::Utf8, "bit"), DataType::Boolean);
    }
}
