//! Declared types: what Arrow type their values should have, and which declaration gives that type back.
//!
//! | declared | Arrow |
//! |-|-|
//! | anything with `INT`, except the sized ones | Int64, for SQLite itself keeps to no width |
//! | `BYTEINT` `INT16` `INT32` `UINT8` `UINT16` `UINT32` `UINT64` | that width: how our own tables remember it |
//! | `UNSIGNED_TEXT` | UInt64: digits, for SQLite's own integers end at 2^63 |
//! | `REAL` `DOUBLE` `FLOAT` …; `FLOAT32` | Float64; Float32 |
//! | `CHAR` `CLOB` `TEXT` `STRING` … | Utf8 |
//! | `BLOB` `BINARY` `VARBINARY` `BYTEA` | Binary |
//! | `BOOLEAN` `BOOL` | Boolean |
//! | `DATE`; `TIME` | Date32; Time64(µs) |
//! | `DATETIME` `TIMESTAMP`; more than 6 digits | Timestamp(µs); Timestamp(ns) |
//! | `TIMESTAMPTZ` `TIMESTAMP WITH TIME ZONE` | the same in UTC |
//! | `DECIMAL(p,s)` `NUMERIC(p,s)` `DECIMAL_TEXT(p,s)` | Decimal128, Decimal256; without a precision decimal text |
//! | `JSON` `JSONB` `JSON_TEXT`; `UUID` `GUID` | json; uuid |
//! | `INTERVAL` `INTERVAL_TEXT`; `DURATION` | ISO 8601 text; Duration(µs) |
//! | none, or any other | by the values of the first rows |

use arrow::datatypes::{DataType, Field, TimeUnit};
use serde::{Deserialize, Serialize};
use weir_core::field::{DECIMAL, INTERVAL, JSON, NATIVE, TEXT, UUID, extension, native_type, with_extension};

use crate::SYSTEM;

/// The most digits of which a REAL keeps every one.
const REAL_DIGITS: u8 = 15;

/// What SQLite does to a value before it stores it in a column, decided by the declared type alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// Numbers in text become numbers; whole reals become integers.
    Integer,
    /// Numbers become text.
    Text,
    /// Nothing.
    Blob,
    /// Numbers in text become numbers; integers become reals.
    Real,
    /// As `Integer`.
    Numeric,
}

impl Affinity {
    /// SQLite's five rules, in its order.
    pub fn of(declared: &str) -> Self {
        let upper = declared.to_ascii_uppercase();
        let has = |words: &[&str]| words.iter().any(|word| upper.contains(word));
        if has(&["INT"]) {
            Self::Integer
        } else if has(&["CHAR", "CLOB", "TEXT"]) {
            Self::Text
        } else if upper.trim().is_empty() || has(&["BLOB"]) {
            Self::Blob
        } else if has(&["REAL", "FLOA", "DOUB"]) {
            Self::Real
        } else {
            Self::Numeric
        }
    }

    /// Whether text that looks like a number is stored as a number.
    pub fn is_numeric(self) -> bool {
        matches!(self, Self::Integer | Self::Real | Self::Numeric)
    }
}

/// The Arrow form of a column's values: data type and extension.
pub type Form = (DataType, Option<&'static str>);

/// The Arrow form of a declared type; `None` when only the values can tell.
pub fn form_of(declared: &str) -> Option<Form> {
    let (base, arguments) = parts(declared);
    let plain = |data_type| Some((data_type, None));
    let digits = arguments.first().copied().unwrap_or(6);
    let timestamp = |zone: Option<&str>| {
        let unit = if digits > 6 { TimeUnit::Nanosecond } else { TimeUnit::Microsecond };
        Some((DataType::Timestamp(unit, zone.map(Into::into)), None))
    };
    match base.as_str() {
        "" => None,
        "BOOLEAN" | "BOOL" => plain(DataType::Boolean),
        "DATE" => plain(DataType::Date32),
        "TIME" | "TIME WITHOUT TIME ZONE" => plain(DataType::Time64(TimeUnit::Microsecond)),
        "DATETIME" | "DATETIME2" | "SMALLDATETIME" | "TIMESTAMP" | "TIMESTAMP WITHOUT TIME ZONE" => timestamp(None),
        "TIMESTAMPTZ" | "TIMESTAMP WITH TIME ZONE" | "DATETIME WITH TIME ZONE" | "DATETIMEOFFSET" => {
            timestamp(Some("UTC"))
        }
        "DECIMAL" | "NUMERIC" | "DEC" | "NUMBER" | "DECIMAL_TEXT" => Some(decimal(&arguments)),
        "MONEY" | "SMALLMONEY" | "CURRENCY" => Some((DataType::Utf8, Some(DECIMAL))),
        "JSON" | "JSONB" | "JSON_TEXT" => Some((DataType::Utf8, Some(JSON))),
        "UUID" | "GUID" | "UNIQUEIDENTIFIER" => Some((DataType::FixedSizeBinary(16), Some(UUID))),
        "INTERVAL" | "INTERVAL_TEXT" => Some((DataType::Utf8, Some(INTERVAL))),
        "DURATION" => plain(DataType::Duration(TimeUnit::Microsecond)),
        "BYTEINT" => plain(DataType::Int8),
        "INT16" => plain(DataType::Int16),
        "INT32" => plain(DataType::Int32),
        "UINT8" => plain(DataType::UInt8),
        "UINT16" => plain(DataType::UInt16),
        "UINT32" => plain(DataType::UInt32),
        "UINT64" | "UNSIGNED_TEXT" => plain(DataType::UInt64),
        "FLOAT32" => plain(DataType::Float32),
        "BINARY" | "VARBINARY" | "LONGVARBINARY" | "BYTEA" | "RAW" => plain(DataType::Binary),
        "STRING" | "ENUM" => plain(DataType::Utf8),
        // SQLite's first rule finds an INT here, but nobody stores integers in it.
        _ if base.ends_with("POINT") => None,
        _ => match Affinity::of(&base) {
            Affinity::Integer => plain(DataType::Int64),
            Affinity::Text => plain(DataType::Utf8),
            Affinity::Blob => plain(DataType::Binary),
            Affinity::Real => plain(DataType::Float64),
            Affinity::Numeric => None,
        },
    }
}

fn decimal(arguments: &[u32]) -> Form {
    let precision = arguments.first().copied().unwrap_or(0);
    let scale = arguments.get(1).copied().unwrap_or(0);
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(p @ 1..=38), Ok(s)) if scale <= precision => (DataType::Decimal128(p, s), None),
        (Ok(p @ 39..=76), Ok(s)) if scale <= precision => (DataType::Decimal256(p, s), None),
        _ => (DataType::Utf8, Some(DECIMAL)),
    }
}

/// `Timestamp(6) with time zone` as (`TIMESTAMP WITH TIME ZONE`, [6]).
fn parts(declared: &str) -> (String, Vec<u32>) {
    let (before, inside, after) = match declared.split_once('(') {
        Some((before, rest)) => {
            let (inside, after) = rest.split_once(')').unwrap_or((rest, ""));
            (before, inside, after)
        }
        None => (declared, "", ""),
    };
    let base = format!("{before} {after}").split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_uppercase();
    (base, inside.split(',').map_while(|n| n.trim().parse().ok()).collect())
}

/// A field of a form.
pub fn field(name: &str, form: &Form, nullable: bool) -> Field {
    let field = Field::new(name, form.0.clone(), nullable);
    match form.1 {
        Some(name) => with_extension(field, name),
        None => field,
    }
}

/// The declared type for a column with values of `field`: the source's own where that is SQLite too, else one that
/// [`form_of`] reads back as the same form. `None` for what must be converted to text first.
pub fn declared_for(field: &Field) -> Option<String> {
    if let Some((SYSTEM, declared)) = native_type(field) {
        return Some(declared.to_owned());
    }
    let text = match (field.data_type(), extension(field)) {
        (_, Some(NATIVE)) => return None,
        (DataType::Utf8, Some(DECIMAL)) => "DECIMAL_TEXT".into(),
        (DataType::Utf8, Some(JSON)) => "JSON_TEXT".into(),
        (DataType::Utf8, Some(INTERVAL)) => "INTERVAL_TEXT".into(),
        (DataType::Utf8, None | Some(TEXT)) | (DataType::Null, _) => "TEXT".into(),
        (DataType::FixedSizeBinary(16), Some(UUID)) => "UUID".into(),
        (DataType::Binary, None) => "BLOB".into(),
        (DataType::Boolean, _) => "BOOLEAN".into(),
        (DataType::Int8, _) => "BYTEINT".into(),
        (DataType::Int16, _) => "INT16".into(),
        (DataType::Int32, _) => "INT32".into(),
        // Exactly this word makes a single primary key the row id itself.
        (DataType::Int64, _) => "INTEGER".into(),
        (DataType::UInt8, _) => "UINT8".into(),
        (DataType::UInt16, _) => "UINT16".into(),
        (DataType::UInt32, _) => "UINT32".into(),
        // Under any name with INT or without TEXT the upper half would be stored as the nearest double.
        (DataType::UInt64, _) => "UNSIGNED_TEXT".into(),
        (DataType::Float32, _) => "FLOAT32".into(),
        (DataType::Float64, _) => "REAL".into(),
        // SQLite would keep more digits as a REAL and lose some; a type with TEXT in its name keeps them as they are.
        (DataType::Decimal128(p, s), _) | (DataType::Decimal256(p, s), _) if *s >= 0 && *s as u8 <= *p => {
            let name = if *p <= REAL_DIGITS { "DECIMAL" } else { "DECIMAL_TEXT" };
            format!("{name}({p},{s})")
        }
        (DataType::Date32, _) => "DATE".into(),
        (DataType::Time64(TimeUnit::Microsecond), _) => "TIME".into(),
        (DataType::Duration(TimeUnit::Microsecond), _) => "DURATION".into(),
        (DataType::Timestamp(unit, zone), _) => {
            let name = if zone.is_some() { "TIMESTAMPTZ" } else { "DATETIME" };
            match unit {
                TimeUnit::Microsecond => name.into(),
                TimeUnit::Nanosecond => format!("{name}(9)"),
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_have_arrow_forms() {
        let form = |declared| form_of(declared).map(|(t, e)| (t.to_string(), e));
        for (declared, arrow) in [
            ("integer", "Int64"),
            ("UNSIGNED BIG INT", "Int64"),
            ("tinyint(1)", "Int64"),
            ("double precision", "Float64"),
            ("VARCHAR(20)", "Utf8"),
            ("Decimal ( 12 , 2 )", "Decimal128(12, 2)"),
            ("numeric(50,10)", "Decimal256(50, 10)"),
            ("DATETIME", "Timestamp(µs)"),
            ("timestamp(9)", "Timestamp(ns)"),
            ("TIMESTAMP(6) WITH TIME ZONE", "Timestamp(µs, \"UTC\")"),
        ] {
            assert_eq!(form(declared).unwrap().0, arrow, "{declared}");
        }
        assert_eq!(form("NUMERIC").unwrap().1, Some(DECIMAL));
        assert_eq!(form("numeric(5,9)").unwrap().1, Some(DECIMAL));
        assert_eq!(form("json").unwrap().1, Some(JSON));
        for unknown in ["", "POINT", "GEOGRAPHY", "ANY"] {
            assert_eq!(form(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn created_columns_read_back_as_the_same_type() {
        let utc = Some("UTC".into());
        let forms: Vec<Form> = vec![
            (DataType::Boolean, None),
            (DataType::Int8, None),
            (DataType::Int16, None),
            (DataType::Int32, None),
            (DataType::Int64, None),
            (DataType::UInt8, None),
            (DataType::UInt16, None),
            (DataType::UInt32, None),
            (DataType::UInt64, None),
            (DataType::Float32, None),
            (DataType::Float64, None),
            (DataType::Decimal128(12, 2), None),
            (DataType::Decimal128(38, 10), None),
            (DataType::Decimal256(76, 0), None),
            (DataType::Utf8, None),
            (DataType::Utf8, Some(DECIMAL)),
            (DataType::Utf8, Some(JSON)),
            (DataType::Utf8, Some(INTERVAL)),
            (DataType::Binary, None),
            (DataType::FixedSizeBinary(16), Some(UUID)),
            (DataType::Date32, None),
            (DataType::Time64(TimeUnit::Microsecond), None),
            (DataType::Duration(TimeUnit::Microsecond), None),
            (DataType::Timestamp(TimeUnit::Microsecond, None), None),
            (DataType::Timestamp(TimeUnit::Nanosecond, None), None),
            (DataType::Timestamp(TimeUnit::Microsecond, utc.clone()), None),
            (DataType::Timestamp(TimeUnit::Nanosecond, utc), None),
        ];
        for form in forms {
            let declared = declared_for(&field("c", &form, true)).unwrap();
            assert_eq!(form_of(&declared), Some(form), "{declared}");
        }
    }

    #[test]
    fn wide_decimals_are_declared_as_text() {
        let declared = |p, s| declared_for(&Field::new("c", DataType::Decimal128(p, s), true)).unwrap();
        assert!(Affinity::of(&declared(15, 2)).is_numeric());
        assert_eq!(Affinity::of(&declared(16, 2)), Affinity::Text);
        assert_eq!(Affinity::of("UUID"), Affinity::Numeric);
        assert_eq!(Affinity::of("CHARINT"), Affinity::Integer);
    }
}
