//! MySQL's types: read from their text, and as Arrow.

use arrow::datatypes::{DataType, Field, TimeUnit};
use weir_core::field;

use crate::SYSTEM;

/// Metadata key: the collation of a text column at its source.
pub const COLLATION: &str = "weir.mysql.collation";

/// A column type, without what does not change how values look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `tinyint` … `bigint`.
    Int {
        /// 8, 16, 24, 32 or 64.
        bits: u8,
        /// Whether it is unsigned.
        unsigned: bool,
        /// Whether it is `tinyint(1)`, which some read as a boolean.
        one: bool,
    },
    /// `decimal(p, s)`.
    Decimal {
        /// Digits.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
    /// `float`.
    Float,
    /// `double`.
    Double,
    /// `bit(n)`.
    Bit(u8),
    /// `year`.
    Year,
    /// `date`.
    Date,
    /// `datetime(n)`: no zone.
    DateTime(u8),
    /// `timestamp(n)`: an instant.
    Timestamp(u8),
    /// `time(n)`: a signed duration.
    Time(u8),
    /// `char(n)`, `varchar(n)`.
    Char(u32),
    /// `text` and its sizes: the most bytes.
    Text(u64),
    /// `binary(n)`, `varbinary(n)`, `blob` and its sizes: the most bytes.
    Binary(u64),
    /// `json`; MariaDB's `longtext` with a `json_valid` check.
    Json,
    /// `enum(…)`.
    Enum,
    /// `set(…)`.
    Set,
    /// MariaDB's `uuid`.
    Uuid,
    /// MariaDB's `inet4` and `inet6`.
    Inet,
    /// `geometry`, `point` and the others.
    Geometry,
    /// `vector(n)`.
    Vector,
    /// A type that this version does not know.
    Unknown,
}

/// What a job or its URL says of types that can be read in two ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// `tinyint(1)` is a boolean.
    pub tiny_is_bool: bool,
    /// `year` is a date.
    pub year_is_date: bool,
}

impl Kind {
    /// Reads a column type as `information_schema` writes it: `int(10) unsigned`, `varchar(20)`, `enum('a','b')`.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let lower = text.to_ascii_lowercase();
        let end = lower.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(lower.len());
        let name = &lower[..end];
        let rest = lower[end..].trim_start();
        let (arguments, suffix) = match rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            Some((arguments, suffix)) => (arguments, suffix),
            None => ("", rest),
        };
        let number = |i: usize| arguments.split(',').nth(i).and_then(|a| a.trim().parse::<u64>().ok());
        let unsigned = suffix.contains("unsigned") || suffix.contains("zerofill");
        let fsp = number(0).unwrap_or(0).min(6) as u8;
        let int = |bits| Self::Int { bits, unsigned, one: bits == 8 && !unsigned && number(0) == Some(1) };
        match name {
            "tinyint" => int(8),
            "bool" | "boolean" => Self::Int { bits: 8, unsigned: false, one: true },
            "smallint" => int(16),
            "mediumint" => int(24),
            "int" | "integer" => int(32),
            "bigint" => int(64),
            "serial" => Self::Int { bits: 64, unsigned: true, one: false },
            "decimal" | "numeric" | "dec" | "fixed" => Self::Decimal {
                precision: number(0).unwrap_or(10).clamp(1, 76) as u8,
                scale: number(1).unwrap_or(0).min(76) as i8,
            },
            "float" => Self::Float,
            "double" | "real" => Self::Double,
            "bit" => Self::Bit(number(0).unwrap_or(1).clamp(1, 64) as u8),
            "year" => Self::Year,
            "date" => Self::Date,
            "datetime" => Self::DateTime(fsp),
            "timestamp" => Self::Timestamp(fsp),
            "time" => Self::Time(fsp),
            "char" | "varchar" | "nchar" | "nvarchar" => Self::Char(number(0).unwrap_or(1).min(65_535) as u32),
            "tinytext" => Self::Text(255),
            "text" => Self::Text(65_535),
            "mediumtext" => Self::Text(16_777_215),
            "longtext" => Self::Text(u64::from(u32::MAX)),
            "binary" | "varbinary" => Self::Binary(number(0).unwrap_or(1)),
            "tinyblob" => Self::Binary(255),
            "blob" => Self::Binary(65_535),
            "mediumblob" => Self::Binary(16_777_215),
            "longblob" => Self::Binary(u64::from(u32::MAX)),
            "json" => Self::Json,
            "enum" => Self::Enum,
            "set" => Self::Set,
            "uuid" => Self::Uuid,
            "inet4" | "inet6" => Self::Inet,
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
            | "geometrycollection" | "geomcollection" => Self::Geometry,
            "vector" => Self::Vector,
            _ => Self::Unknown,
        }
    }

    /// The canonical Arrow field; `None` for a type that cannot be read.
    pub fn canonical(&self, name: &str, shape: Shape) -> Option<Field> {
        let plain = |data_type| Some(Field::new(name, data_type, true));
        match *self {
            Self::Int { one: true, .. } if shape.tiny_is_bool => plain(DataType::Boolean),
            Self::Int { bits, unsigned, .. } => plain(match (bits, unsigned) {
                (8, false) => DataType::Int8,
                (8, true) => DataType::UInt8,
                (16, false) => DataType::Int16,
                (16, true) => DataType::UInt16,
                (24 | 32, false) => DataType::Int32,
                (24 | 32, true) => DataType::UInt32,
                (_, false) => DataType::Int64,
                (_, true) => DataType::UInt64,
            }),
            Self::Decimal { precision, scale } if precision <= 38 => plain(DataType::Decimal128(precision, scale)),
            Self::Decimal { precision, scale } => plain(DataType::Decimal256(precision, scale)),
            Self::Float => plain(DataType::Float32),
            Self::Double => plain(DataType::Float64),
            Self::Bit(1) => plain(DataType::Boolean),
            Self::Bit(_) => plain(DataType::UInt64),
            Self::Year if shape.year_is_date => plain(DataType::Date32),
            Self::Year => plain(DataType::Int16),
            Self::Date => plain(DataType::Date32),
            Self::DateTime(_) => plain(DataType::Timestamp(TimeUnit::Microsecond, None)),
            Self::Timestamp(_) => plain(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
            Self::Time(_) => plain(DataType::Duration(TimeUnit::Microsecond)),
            Self::Char(_) | Self::Text(_) | Self::Enum | Self::Set | Self::Inet => plain(DataType::Utf8),
            Self::Binary(_) | Self::Geometry => plain(DataType::Binary),
            Self::Json => plain(DataType::Utf8).map(|f| field::with_extension(f, field::JSON)),
            Self::Uuid => plain(DataType::FixedSizeBinary(16)).map(|f| field::with_extension(f, field::UUID)),
            Self::Vector => plain(DataType::List(std::sync::Arc::new(Field::new("item", DataType::Float32, true)))),
            Self::Unknown => None,
        }
    }

    /// Whether values are bytes that no character set applies to.
    pub fn is_bytes(&self) -> bool {
        matches!(self, Self::Binary(_) | Self::Geometry | Self::Vector | Self::Bit(_))
    }

    /// Whether values are text with a collation.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Char(_) | Self::Text(_) | Self::Enum | Self::Set)
    }

    /// The expression that brings values over the wire unchanged. The text protocol shortens a float to six digits, and
    /// the driver that reads does not know vectors.
    pub fn select(&self, column: &str) -> String {
        match self {
            Self::Float => format!("{column} * 1E0"),
            Self::Vector => format!("CAST({column} AS BINARY)"),
            _ => column.to_owned(),
        }
    }

    /// Whether `select` is more than the column.
    pub fn needs_expression(&self) -> bool {
        matches!(self, Self::Float | Self::Vector)
    }

    /// Whether one value can be 16 MiB or longer.
    pub fn is_huge(&self) -> bool {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => *bytes >= 16_777_215,
            Self::Json | Self::Geometry | Self::Unknown => true,
            _ => false,
        }
    }
}

/// The native form of a column: the bytes of the text protocol, with the type text.
pub fn native_field(name: &str, type_text: &str) -> Field {
    let native = field::with_extension(Field::new(name, DataType::Binary, true), field::NATIVE);
    field::with_native_type(native, SYSTEM, type_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_texts_are_read() {
        assert_eq!(Kind::parse("int(10) unsigned"), Kind::Int { bits: 32, unsigned: true, one: false });
        assert_eq!(Kind::parse("tinyint(1)"), Kind::Int { bits: 8, unsigned: false, one: true });
        assert_eq!(Kind::parse("DECIMAL(65, 30) unsigned"), Kind::Decimal { precision: 65, scale: 30 });
        assert_eq!(Kind::parse("datetime(3)"), Kind::DateTime(3));
        assert_eq!(Kind::parse("enum('a)','b')"), Kind::Enum);
        assert_eq!(Kind::parse("double precision"), Kind::Double);
        assert_eq!(Kind::parse("hologram"), Kind::Unknown);
    }

    #[test]
    fn tinyint_1_holds_seven_unless_the_job_says_otherwise() {
        let tiny = Kind::parse("tinyint(1)");
        assert_eq!(tiny.canonical("c", Shape::default()).unwrap().data_type(), &DataType::Int8);
        let shape = Shape { tiny_is_bool: true, ..Shape::default() };
        assert_eq!(tiny.canonical("c", shape).unwrap().data_type(), &DataType::Boolean);
    }
}
