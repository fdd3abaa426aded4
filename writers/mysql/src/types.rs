//! Arrow columns for MySQL columns: what an existing column takes, and what a new one is.

use arrow::datatypes::{DataType, Field, TimeUnit};
use weir_core::field::{DECIMAL, INTERVAL, JSON, NATIVE, TEXT, UUID, extension, native_type};
use weir_core::{MappedColumn, PlannedColumn};
use weir_mysql::{COLLATION, Kind, SYSTEM, Server, Shape};

/// How a column that exists takes its values.
pub(crate) fn for_existing(column: &MappedColumn, type_text: &str) -> Field {
    let kind = Kind::parse(type_text);
    let fallback = match &kind {
        Kind::Unknown => Field::new(&column.name, DataType::Utf8, true),
        kind => kind
            .canonical(&column.name, Shape::default())
            .unwrap_or_else(|| Field::new(&column.name, DataType::Utf8, true)),
    };
    PlannedColumn::choose(column, |f| takes(&kind, type_text, f), fallback)
}

/// Whether a column of `kind` takes values of `field` unchanged.
fn takes(kind: &Kind, type_text: &str, field: &Field) -> bool {
    let (ext, data_type) = (extension(field), field.data_type());
    if ext == Some(NATIVE) {
        return native_type(field)
            .is_some_and(|(system, from)| system == SYSTEM && same_type(&Kind::parse(from), kind, from, type_text));
    }
    let text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match kind {
        Kind::Int { bits, unsigned, .. } => match integer(data_type) {
            Some((more, other)) if other == *unsigned => more <= *bits,
            // An unsigned value fits into a wider signed column, a signed one into none without a sign.
            Some((more, true)) => more < *bits,
            _ => *data_type == DataType::Boolean,
        },
        Kind::Decimal { precision, scale } => match data_type {
            DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => {
                let digits = |p: u8, s: i8| i16::from(p) - i16::from(s);
                *s >= 0 && s <= scale && digits(*p, *s) <= digits(*precision, *scale)
            }
            _ => false,
        },
        Kind::Float => *data_type == DataType::Float32,
        Kind::Double => matches!(data_type, DataType::Float32 | DataType::Float64),
        Kind::Bit(1) => *data_type == DataType::Boolean,
        Kind::Bit(_) => *data_type == DataType::UInt64,
        Kind::Year => *data_type == DataType::Int16,
        Kind::Date => *data_type == DataType::Date32,
        Kind::DateTime(_) => matches!(
            data_type,
            DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond, None)
        ),
        Kind::Timestamp(_) => matches!(
            data_type,
            DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond, Some(_))
        ),
        Kind::Time(_) => {
            matches!(data_type, DataType::Duration(TimeUnit::Microsecond) | DataType::Time64(TimeUnit::Microsecond))
        }
        Kind::Char(_) | Kind::Text(_) | Kind::Enum | Kind::Set | Kind::Inet | Kind::Unknown => text,
        Kind::Json => text && matches!(ext, None | Some(JSON)),
        Kind::Uuid => ext == Some(UUID),
        Kind::Binary(_) => matches!(
            data_type,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
        ),
        Kind::Geometry => *data_type == DataType::Binary,
        Kind::Vector => matches!(data_type, DataType::List(item) if *item.data_type() == DataType::Float32),
    }
}

/// What MariaDB's uuid refuses of what other systems call one.
const NO_UUID: &str = "MariaDB's uuid takes no value whose 13th digit is 8 to f where its 17th is 0 to 7, as RFC 4122 has none; \
                       such a row is dirty";

/// What a user should know of an existing column of this kind.
pub(crate) fn existing_warning(column: &MappedColumn, kind: &Kind) -> Option<String> {
    let own =
        |f: &Field| native_type(f).is_some_and(|(system, text)| system == SYSTEM && Kind::parse(text) == Kind::Uuid);
    let foreign = column.offers.iter().any(|f| extension(f) == Some(UUID)) && !column.offers.iter().any(own);
    (*kind == Kind::Uuid && foreign).then(|| NO_UUID.into())
}

/// Whether the text of one type's values is right for the other: the same type, at least as wide.
fn same_type(from: &Kind, to: &Kind, from_text: &str, to_text: &str) -> bool {
    match (from, to) {
        (Kind::Int { bits, unsigned, .. }, Kind::Int { bits: more, unsigned: other, .. }) => {
            bits <= more && unsigned == other
        }
        (Kind::Char(a), Kind::Char(b)) => a <= b,
        (Kind::Char(_) | Kind::Text(_), Kind::Text(b)) => match from {
            Kind::Char(a) => u64::from(*a) * 4 <= *b,
            Kind::Text(a) => a <= b,
            _ => false,
        },
        (Kind::Binary(a), Kind::Binary(b)) => {
            // A fixed length is filled up with zero bytes.
            let fixed = |t: &str| t.trim_start().to_ascii_lowercase().starts_with("binary");
            a <= b && (!fixed(to_text) || (a == b && fixed(from_text)))
        }
        (Kind::DateTime(a), Kind::DateTime(b))
        | (Kind::Timestamp(a), Kind::Timestamp(b))
        | (Kind::Time(a), Kind::Time(b)) => a <= b,
        (Kind::Decimal { precision: p, scale: s }, Kind::Decimal { precision: q, scale: t }) => {
            s <= t && i16::from(*p) - i16::from(*s) <= i16::from(*q) - i16::from(*t)
        }
        (Kind::Enum | Kind::Set, Kind::Enum | Kind::Set) => from_text == to_text,
        (Kind::Bit(a), Kind::Bit(b)) => a <= b,
        (Kind::Unknown, _) | (_, Kind::Unknown) => from_text == to_text,
        _ => from == to,
    }
}

fn integer(data_type: &DataType) -> Option<(u8, bool)> {
    Some(match data_type {
        DataType::Int8 => (8, false),
        DataType::Int16 => (16, false),
        DataType::Int32 => (32, false),
        DataType::Int64 => (64, false),
        DataType::UInt8 => (8, true),
        DataType::UInt16 => (16, true),
        DataType::UInt32 => (32, true),
        DataType::UInt64 => (64, true),
        _ => return None,
    })
}

/// A column of a table to be created.
pub(crate) struct NewType {
    /// The type for `CREATE TABLE`, with character set and collation.
    pub(crate) ddl: String,
    /// The type alone.
    pub(crate) type_text: String,
    /// How values come.
    pub(crate) input: Field,
    /// What a user should know.
    pub(crate) warning: Option<String>,
}

/// The type of a new column.
pub(crate) fn for_new(column: &MappedColumn, is_key: bool, server: &Server, collations: &[String]) -> NewType {
    let native = column.offers.iter().find_map(|f| {
        let (system, text) = native_type(f)?;
        (system == SYSTEM).then_some((f, text))
    });
    if let Some((field, text)) = native
        && has_type(server, &Kind::parse(text), text)
        && let Some(new) = like_source(column, field, text, is_key, collations)
    {
        return new;
    }
    let offer = column
        .offers
        .iter()
        .find(|f| !matches!(extension(f), Some(NATIVE | TEXT)) && !matches!(f.data_type(), DataType::List(_)))
        .or_else(|| column.offers.iter().find(|f| extension(f) == Some(TEXT)))
        .or(column.offers.first());
    let fallback = Field::new(&column.name, DataType::Utf8, true);
    let offer = offer.unwrap_or(&fallback);
    let (type_text, input, warning) = arrow_type(offer, is_key, server);
    let mut ddl = type_text.clone();
    if is_key && Kind::parse(&type_text).is_text() {
        // Keys that the source holds different must not become equal.
        ddl.push_str(" CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
    }
    let input = Field::new(&column.name, input.unwrap_or_else(|| offer.data_type().clone()), true)
        .with_metadata(offer.metadata().clone());
    NewType { ddl, type_text, input, warning }
}

fn like_source(
    column: &MappedColumn,
    field: &Field,
    text: &str,
    is_key: bool,
    collations: &[String],
) -> Option<NewType> {
    let kind = Kind::parse(text);
    let too_long = matches!(kind, Kind::Text(_) | Kind::Json) || matches!(kind, Kind::Binary(n) if n > 3072);
    if is_key && too_long {
        return None;
    }
    let mut ddl = text.to_owned();
    if kind.is_text() {
        match field.metadata().get(COLLATION).filter(|c| collations.contains(c)) {
            Some(collation) => {
                // A collation's name begins with its character set's.
                let charset = collation.split('_').next().unwrap_or(collation);
                ddl.push_str(&format!(" CHARACTER SET {charset} COLLATE {collation}"));
            }
            None if is_key => ddl.push_str(" CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
            None => {}
        }
    }
    Some(NewType { ddl, type_text: text.to_owned(), input: for_existing(column, text), warning: None })
}

/// Whether the server has the type.
fn has_type(server: &Server, kind: &Kind, text: &str) -> bool {
    let version = version(&server.version);
    match kind {
        Kind::Unknown => false,
        Kind::Uuid => server.mariadb && version >= (10, 7),
        Kind::Inet if text.starts_with("inet4") => server.mariadb && version >= (10, 10),
        Kind::Inet => server.mariadb && version >= (10, 5),
        Kind::Vector => version >= if server.mariadb { (11, 7) } else { (9, 0) },
        _ => true,
    }
}

fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The type text for an Arrow type, the input where it is not the offer itself, and a warning.
fn arrow_type(field: &Field, is_key: bool, server: &Server) -> (String, Option<DataType>, Option<String>) {
    let same = |text: &str| (text.to_owned(), None, None);
    match extension(field) {
        Some(JSON) if !is_key => return same("json"),
        Some(UUID) if server.mariadb && version(&server.version) >= (10, 7) => {
            return ("uuid".into(), None, Some(NO_UUID.into()));
        }
        Some(UUID) => return same("char(36)"),
        Some(DECIMAL) => {
            return (
                "decimal(65,30)".into(),
                None,
                Some(
                    "MySQL's widest decimal has 35 digits before and 30 after the point; other values are dirty".into(),
                ),
            );
        }
        Some(INTERVAL) => return same("varchar(255)"),
        _ => {}
    }
    match field.data_type() {
        DataType::Boolean => same("tinyint(1)"),
        DataType::Int8 => same("tinyint"),
        DataType::Int16 => same("smallint"),
        DataType::Int32 => same("int"),
        DataType::Int64 => same("bigint"),
        DataType::UInt8 => same("tinyint unsigned"),
        DataType::UInt16 => same("smallint unsigned"),
        DataType::UInt32 => same("int unsigned"),
        DataType::UInt64 => same("bigint unsigned"),
        DataType::Float16 | DataType::Float32 => ("float".into(), Some(DataType::Float32), None),
        DataType::Float64 => same("double"),
        DataType::Decimal128(p, s) | DataType::Decimal256(p, s) if *s >= 0 && *p <= 65 && *s <= 30 => {
            same(&format!("decimal({},{s})", (*p).max(*s as u8).max(1)))
        }
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) if *s >= 0 => {
            (format!("decimal({p},{s})"), Some(DataType::Decimal128(*p, *s)), None)
        }
        DataType::Decimal128(..) | DataType::Decimal256(..) => (
            "varchar(100)".into(),
            Some(DataType::Utf8),
            Some("MySQL's decimals are too narrow: the digits are kept as text".into()),
        ),
        DataType::Date32 | DataType::Date64 => ("date".into(), Some(DataType::Date32), None),
        DataType::Timestamp(unit, None) => (
            "datetime(6)".into(),
            (*unit == TimeUnit::Nanosecond).then_some(DataType::Timestamp(TimeUnit::Microsecond, None)),
            nanoseconds(unit),
        ),
        DataType::Timestamp(unit, Some(zone)) => (
            "timestamp(6)".into(),
            (*unit == TimeUnit::Nanosecond).then(|| DataType::Timestamp(TimeUnit::Microsecond, Some(zone.clone()))),
            Some(
                "MySQL's timestamp holds 1970 to 2038; other instants are dirty, unless the column is made a datetime"
                    .into(),
            ),
        ),
        DataType::Time32(_) | DataType::Time64(_) => {
            ("time(6)".into(), Some(DataType::Time64(TimeUnit::Microsecond)), None)
        }
        DataType::Duration(_) => ("time(6)".into(), Some(DataType::Duration(TimeUnit::Microsecond)), None),
        DataType::FixedSizeBinary(n) if (1..=255).contains(n) => same(&format!("binary({n})")),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) if is_key => {
            ("varbinary(767)".into(), None, Some("a key has a limited length: longer values are dirty".into()))
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            same("longblob")
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => text_type(field, is_key),
        _ => {
            let (text, _, warning) = text_type(&Field::new("", DataType::Utf8, true), is_key);
            (text, Some(DataType::Utf8), warning)
        }
    }
}

fn nanoseconds(unit: &TimeUnit) -> Option<String> {
    (*unit == TimeUnit::Nanosecond).then(|| "MySQL has microseconds: finer times are dirty".into())
}

fn text_type(field: &Field, is_key: bool) -> (String, Option<DataType>, Option<String>) {
    let input = (!matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View))
        .then_some(DataType::Utf8);
    let length =
        native_type(field).filter(|(_, text)| text.to_ascii_lowercase().contains("char")).and_then(|(_, text)| {
            let (_, rest) = text.split_once('(')?;
            rest.split_once(')')?.0.trim().parse::<u32>().ok().filter(|n| *n > 0)
        });
    let longest = if is_key { 768 } else { 16_383 };
    match length.filter(|n| *n <= longest) {
        Some(n) => (format!("varchar({n})"), input, None),
        None if is_key => {
            ("varchar(255)".into(), input, Some("a key has a limited length: longer values are dirty".into()))
        }
        None => ("longtext".into(), input, None),
    }
}

/// The input of a new decimal column for unconstrained decimals, and others whose offer is not what is written.
pub(crate) fn settle(input: Field, type_text: &str) -> Field {
    let name = input.name().clone();
    if extension(&input) == Some(DECIMAL) {
        return Field::new(name, DataType::Decimal256(65, 30), true);
    }
    match Kind::parse(type_text) {
        // A text that stands in for another type keeps no extension.
        kind if kind.is_text() && !matches!(extension(&input), None | Some(UUID | INTERVAL | TEXT | JSON | NATIVE)) => {
            Field::new(name, DataType::Utf8, true)
        }
        _ => input.with_nullable(true),
    }
}
