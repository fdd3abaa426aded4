//! SQL Server's types: read from their text, and as Arrow.

use arrow::datatypes::{DataType, Field, TimeUnit};
use weir_core::field::{JSON, TEXT, UUID, with_extension};

/// Metadata key: the collation of a text column at its source.
pub const COLLATION: &str = "weir.sqlserver.collation";

/// A column type, without what does not change how values look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `bit`.
    Bit,
    /// `tinyint`: 0 to 255.
    TinyInt,
    /// `smallint`.
    SmallInt,
    /// `int`.
    Int,
    /// `bigint`.
    BigInt,
    /// `decimal(p, s)`, `numeric(p, s)`.
    Decimal {
        /// Digits.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
    /// `money`.
    Money,
    /// `smallmoney`.
    SmallMoney,
    /// `real`.
    Real,
    /// `float`.
    Float,
    /// `date`.
    Date,
    /// `time(n)`.
    Time(u8),
    /// `datetime`: three-hundredths of a second.
    DateTime,
    /// `smalldatetime`: minutes.
    SmallDateTime,
    /// `datetime2(n)`.
    DateTime2(u8),
    /// `datetimeoffset(n)`: an instant, and the offset of a clock.
    DateTimeOffset(u8),
    /// `char(n)`: bytes of the collation's code page.
    Char(u32),
    /// `varchar(n)`, `None` for `max`.
    VarChar(Option<u32>),
    /// `nchar(n)`: pairs of bytes.
    NChar(u32),
    /// `nvarchar(n)`, `None` for `max`.
    NVarChar(Option<u32>),
    /// `text`.
    Text,
    /// `ntext`.
    NText,
    /// `binary(n)`.
    Binary(u32),
    /// `varbinary(n)`, `None` for `max`.
    VarBinary(Option<u32>),
    /// `image`.
    Image,
    /// `uniqueidentifier`.
    Uuid,
    /// `xml`.
    Xml,
    /// `json`, of the newest servers.
    Json,
    /// `rowversion`, also called `timestamp`: eight bytes that the server counts.
    RowVersion,
    /// `hierarchyid`.
    HierarchyId,
    /// `geography`, `geometry`.
    Spatial,
    /// `sql_variant`: a value of any type.
    Variant,
    /// A type that this version does not know.
    Unknown,
}

/// What becomes of times that are finer than a microsecond: `time(7)`, `datetime2(7)`, `datetimeoffset(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Fractions {
    /// They are kept, in nanoseconds where the target has them; elsewhere a value with a seventh digit is a dirty row.
    #[default]
    Exact,
    /// The server rounds them to microseconds.
    Microseconds,
}

/// A type as `sys.columns` has it, as text: `max_length` in bytes (-1 for `max`), precision and scale.
pub(crate) fn type_text(name: &str, max_length: i64, precision: i64, scale: i64) -> String {
    let lower = name.to_ascii_lowercase();
    let sized = |divisor: i64| match max_length {
        -1 => format!("{lower}(max)"),
        n => format!("{lower}({})", n / divisor),
    };
    match lower.as_str() {
        "char" | "varchar" | "binary" | "varbinary" => sized(1),
        "nchar" | "nvarchar" => sized(2),
        "decimal" | "numeric" => format!("{lower}({precision},{scale})"),
        "time" | "datetime2" | "datetimeoffset" => format!("{lower}({scale})"),
        "timestamp" => "rowversion".into(),
        _ => lower,
    }
}

impl Kind {
    /// Reads a type: `nvarchar(20)`, `decimal(10,2)`, `varchar(max)`.
    pub fn parse(text: &str) -> Self {
        let lower = text.trim().to_ascii_lowercase();
        let end = lower.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(lower.len());
        let arguments = lower[end..].trim_start().strip_prefix('(').and_then(|r| r.split_once(')')).map_or("", |a| a.0);
        let number = |i: usize| arguments.split(',').nth(i).and_then(|a| a.trim().parse::<u32>().ok());
        let max = arguments.trim() == "max";
        // Without an argument a declared type has one character, and seven digits.
        let length = || number(0).unwrap_or(1).max(1);
        let sized = || (!max).then(length);
        let digits = number(0).unwrap_or(7).min(7) as u8;
        match &lower[..end] {
            "bit" => Self::Bit,
            "tinyint" => Self::TinyInt,
            "smallint" => Self::SmallInt,
            "int" | "integer" => Self::Int,
            "bigint" => Self::BigInt,
            "decimal" | "numeric" | "dec" => {
                let precision = number(0).unwrap_or(18).clamp(1, 38) as u8;
                Self::Decimal { precision, scale: number(1).unwrap_or(0).min(u32::from(precision)) as i8 }
            }
            "money" => Self::Money,
            "smallmoney" => Self::SmallMoney,
            "real" => Self::Real,
            "float" if number(0).is_some_and(|bits| bits <= 24) => Self::Real,
            "float" => Self::Float,
            "date" => Self::Date,
            "time" => Self::Time(digits),
            "datetime" => Self::DateTime,
            "smalldatetime" => Self::SmallDateTime,
            "datetime2" => Self::DateTime2(digits),
            "datetimeoffset" => Self::DateTimeOffset(digits),
            "char" | "character" => Self::Char(length()),
            "varchar" => Self::VarChar(sized()),
            "nchar" => Self::NChar(length()),
            "nvarchar" => Self::NVarChar(sized()),
            "sysname" => Self::NVarChar(Some(128)),
            "text" => Self::Text,
            "ntext" => Self::NText,
            "binary" => Self::Binary(length()),
            "varbinary" => Self::VarBinary(sized()),
            "image" => Self::Image,
            "uniqueidentifier" => Self::Uuid,
            "xml" => Self::Xml,
            "json" => Self::Json,
            "rowversion" | "timestamp" => Self::RowVersion,
            "hierarchyid" => Self::HierarchyId,
            "geography" | "geometry" => Self::Spatial,
            "sql_variant" => Self::Variant,
            _ => Self::Unknown,
        }
    }

    /// The forms in which values can be delivered, best first; none for a type that cannot be read.
    pub fn forms(&self, name: &str, fractions: Fractions) -> Vec<Field> {
        let field = |data_type| Field::new(name, data_type, true);
        let one = |data_type| vec![field(data_type)];
        let text = || with_extension(field(DataType::Utf8), TEXT);
        // Finer times have nanoseconds, which end in 2262, and microseconds for every year.
        let units: &[TimeUnit] = match self {
            Self::Time(7) | Self::DateTime2(7) | Self::DateTimeOffset(7) if fractions == Fractions::Exact => {
                &[TimeUnit::Nanosecond, TimeUnit::Microsecond]
            }
            _ => &[TimeUnit::Microsecond],
        };
        match *self {
            Self::Bit => one(DataType::Boolean),
            Self::TinyInt => one(DataType::UInt8),
            Self::SmallInt => one(DataType::Int16),
            Self::Int => one(DataType::Int32),
            Self::BigInt => one(DataType::Int64),
            Self::Decimal { precision, scale } => one(DataType::Decimal128(precision, scale)),
            Self::Money => one(DataType::Decimal128(19, 4)),
            Self::SmallMoney => one(DataType::Decimal128(10, 4)),
            Self::Real => one(DataType::Float32),
            Self::Float => one(DataType::Float64),
            Self::Date => one(DataType::Date32),
            Self::Time(_) => units.iter().map(|unit| field(DataType::Time64(*unit))).collect(),
            Self::DateTime | Self::SmallDateTime | Self::DateTime2(_) => {
                units.iter().map(|unit| field(DataType::Timestamp(*unit, None))).collect()
            }
            Self::DateTimeOffset(_) => {
                let instant = |unit: &TimeUnit| field(DataType::Timestamp(*unit, Some("UTC".into())));
                // The text alone has the offset.
                units.iter().map(instant).chain([text()]).collect()
            }
            Self::Char(_) | Self::VarChar(_) | Self::NChar(_) | Self::NVarChar(_) | Self::Text | Self::NText => {
                one(DataType::Utf8)
            }
            Self::Xml | Self::HierarchyId | Self::Spatial => one(DataType::Utf8),
            Self::Json => vec![with_extension(field(DataType::Utf8), JSON)],
            Self::Binary(_) | Self::VarBinary(_) | Self::Image | Self::RowVersion => one(DataType::Binary),
            Self::Uuid => vec![with_extension(field(DataType::FixedSizeBinary(16)), UUID)],
            Self::Variant | Self::Unknown => Vec::new(),
        }
    }

    /// Whether values are text with a collation.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Char(_) | Self::VarChar(_) | Self::NChar(_) | Self::NVarChar(_) | Self::Text | Self::NText)
    }

    /// Whether text is kept in the bytes of a code page.
    pub fn has_code_page(&self) -> bool {
        matches!(self, Self::Char(_) | Self::VarChar(_) | Self::Text)
    }

    /// Whether values are bytes.
    pub fn is_bytes(&self) -> bool {
        matches!(self, Self::Binary(_) | Self::VarBinary(_) | Self::Image | Self::RowVersion)
    }

    /// How many decimals of a second values have; `None` for what is no time.
    pub fn decimals(&self) -> Option<u8> {
        match self {
            Self::Time(n) | Self::DateTime2(n) | Self::DateTimeOffset(n) => Some(*n),
            Self::DateTime => Some(3),
            Self::SmallDateTime => Some(0),
            _ => None,
        }
    }

    /// The expression that brings values over the wire unchanged; `None` where the column itself does.
    ///
    /// The driver reads texts by the code page of their collation, which is wrong for UTF-8 ones, and money as a double.
    pub fn expression(&self, column: &str, fractions: Fractions) -> Option<String> {
        let cast = |to: &str| Some(format!("CAST({column} AS {to})"));
        let micros = fractions == Fractions::Microseconds;
        match self {
            Self::Char(n) | Self::VarChar(Some(n)) if *n <= 4000 => cast(&format!("nvarchar({n})")),
            Self::Char(_) | Self::VarChar(_) | Self::Text | Self::NText | Self::Xml | Self::Json => {
                cast("nvarchar(max)")
            }
            Self::Image => cast("varbinary(max)"),
            Self::RowVersion => cast("binary(8)"),
            Self::Money => cast("decimal(19,4)"),
            Self::SmallMoney => cast("decimal(10,4)"),
            Self::Time(7) if micros => cast("time(6)"),
            Self::DateTime2(7) if micros => cast("datetime2(6)"),
            Self::DateTimeOffset(7) if micros => cast("datetimeoffset(6)"),
            Self::HierarchyId => Some(format!("{column}.ToString()")),
            Self::Spatial => Some(format!(
                "CASE WHEN {column} IS NOT NULL THEN CONCAT(N'SRID=', {column}.STSrid, N';', {column}.ToString()) END"
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_texts_are_read() {
        assert_eq!(Kind::parse("decimal(38, 10)"), Kind::Decimal { precision: 38, scale: 10 });
        assert_eq!(Kind::parse("NVARCHAR(max)"), Kind::NVarChar(None));
        assert_eq!(Kind::parse("varchar(20)"), Kind::VarChar(Some(20)));
        assert_eq!(Kind::parse("datetime2(3)"), Kind::DateTime2(3));
        assert_eq!((Kind::parse("time"), Kind::parse("float(24)")), (Kind::Time(7), Kind::Real));
        assert_eq!((Kind::parse("timestamp"), Kind::parse("hologram")), (Kind::RowVersion, Kind::Unknown));
        assert_eq!(Kind::parse("decimal(5,9)"), Kind::Decimal { precision: 5, scale: 5 });
    }

    #[test]
    fn the_catalogues_numbers_become_type_texts() {
        assert_eq!(type_text("nvarchar", 40, 0, 0), "nvarchar(20)");
        assert_eq!(type_text("varbinary", -1, 0, 0), "varbinary(max)");
        assert_eq!(type_text("numeric", 17, 38, 0), "numeric(38,0)");
        assert_eq!(type_text("datetimeoffset", 10, 34, 7), "datetimeoffset(7)");
        assert_eq!(
            (type_text("timestamp", 8, 0, 0).as_str(), type_text("INT", 4, 10, 0).as_str()),
            ("rowversion", "int")
        );
    }

    #[test]
    fn fine_times_come_in_two_units_and_other_values_in_one() {
        let units = |text: &str, fractions| {
            let forms = Kind::parse(text).forms("c", fractions);
            forms.iter().map(|f| f.data_type().clone()).collect::<Vec<_>>()
        };
        let of = |unit| DataType::Timestamp(unit, None);
        let both = [of(TimeUnit::Nanosecond), of(TimeUnit::Microsecond)];
        assert_eq!(units("datetime2(7)", Fractions::Exact), both);
        assert_eq!(units("datetime2(7)", Fractions::Microseconds), both[1..]);
        assert_eq!(units("datetime2(6)", Fractions::Exact), both[1..]);
        assert_eq!(units("money", Fractions::Exact), [DataType::Decimal128(19, 4)]);
        assert!(units("sql_variant", Fractions::Exact).is_empty());
    }

    #[test]
    fn what_the_driver_would_bend_is_asked_for_in_another_form() {
        let ask = |text: &str| Kind::parse(text).expression("[c]", Fractions::Exact);
        assert_eq!(ask("varchar(8000)").unwrap(), "CAST([c] AS nvarchar(max))");
        assert_eq!(ask("char(5)").unwrap(), "CAST([c] AS nvarchar(5))");
        assert_eq!(ask("money").unwrap(), "CAST([c] AS decimal(19,4))");
        assert_eq!((ask("int"), ask("datetime2(7)")), (None, None));
        let micros = Kind::parse("time(7)").expression("[c]", Fractions::Microseconds);
        assert_eq!(micros.unwrap(), "CAST([c] AS time(6))");
    }
}
