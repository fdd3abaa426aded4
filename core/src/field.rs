//! How a column says what it is beyond its Arrow type: metadata keys and extension types.
//!
//! | extension | storage | meaning |
//! |-|-|-|
//! | [`TEXT`] | Utf8 | the value in the source's own text form, where Arrow has no type for it |
//! | [`NATIVE`] | Binary | the value in the wire form of [`NATIVE_SYSTEM`]'s type [`NATIVE_TYPE`], passed on undecoded |
//! | [`DECIMAL`] | Utf8 | a decimal of any precision as digits; also `NaN`, `Infinity`, `-Infinity` |
//! | [`INTERVAL`] | Utf8 | an ISO 8601 duration, `P1Y2M3DT4H5M6.000007S`, each part with its own sign |
//! | [`JSON`] | Utf8 | a JSON text, its digits and key order as the source had them (Arrow's canonical extension) |
//! | [`UUID`] | FixedSizeBinary(16) | a UUID, big-endian (Arrow's canonical extension) |
//!
//! Canonical forms of the rest: Utf8 and Binary for text and bytes, Decimal128 to 38 digits, Decimal256 to 76,
//! Date32, Time64(µs), Timestamp(µs) without a zone for zone-less times and with zone `UTC` for instants,
//! Duration(µs) for MySQL's TIME, List for arrays of built-in types.

use arrow::datatypes::{DataType, Field, TimeUnit};

/// Metadata key: the source's own type text, `numeric(38,10)`, `varchar(20)`, `int unsigned`.
pub const NATIVE_TYPE: &str = "weir.native_type";
/// Metadata key: the system (wire family) whose type text [`NATIVE_TYPE`] is: `postgresql`, `mysql`, `sqlite`.
pub const NATIVE_SYSTEM: &str = "weir.native_system";
/// Metadata key: the column's position in the source's primary key, from 1.
pub const KEY: &str = "weir.key";
/// Metadata key under which Arrow keeps the name of an extension type.
pub const EXTENSION: &str = "ARROW:extension:name";

/// Extension: the source's own text form.
pub const TEXT: &str = "weir.text";
/// Extension: the wire form of the source's own type.
pub const NATIVE: &str = "weir.native";
/// Extension: a decimal of any precision, as text.
pub const DECIMAL: &str = "weir.decimal";
/// Extension: an ISO 8601 duration.
pub const INTERVAL: &str = "weir.interval";
/// Extension: a JSON text.
pub const JSON: &str = "arrow.json";
/// Extension: a UUID.
pub const UUID: &str = "arrow.uuid";

/// A field with an extension type.
pub fn with_extension(field: Field, extension: &str) -> Field {
    with_metadata(field, EXTENSION, extension)
}

/// A field with one more metadata pair.
pub fn with_metadata(field: Field, key: &str, value: &str) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(key.to_owned(), value.to_owned());
    field.with_metadata(metadata)
}

/// A field that remembers the source's own type.
pub fn with_native_type(field: Field, system: &str, native_type: &str) -> Field {
    with_metadata(with_metadata(field, NATIVE_SYSTEM, system), NATIVE_TYPE, native_type)
}

/// The extension type's name, if the field has one.
pub fn extension(field: &Field) -> Option<&str> {
    field.metadata().get(EXTENSION).map(String::as_str)
}

/// The source's own type as (system, type text), if the field knows it.
pub fn native_type(field: &Field) -> Option<(&str, &str)> {
    Some((field.metadata().get(NATIVE_SYSTEM)?.as_str(), field.metadata().get(NATIVE_TYPE)?.as_str()))
}

/// Whether values of `a` can stand in a column of `b` as they are: same Arrow type, same extension. Names,
/// nullability and other metadata do not matter; a `weir.native` column also needs the same system and type.
pub fn same_representation(a: &Field, b: &Field) -> bool {
    a.data_type() == b.data_type()
        && extension(a) == extension(b)
        && (extension(a) != Some(NATIVE) || native_type(a) == native_type(b))
}

/// The type as plans print it: `Decimal128(10, 2)`, `Timestamp(µs, UTC)`, `json`, `decimal text`.
pub fn type_text(field: &Field) -> String {
    match extension(field) {
        Some(TEXT) => "text form".into(),
        Some(NATIVE) => "native".into(),
        Some(DECIMAL) => "decimal text".into(),
        Some(INTERVAL) => "interval text".into(),
        Some(JSON) => "json".into(),
        Some(UUID) => "uuid".into(),
        _ => match field.data_type() {
            DataType::Timestamp(unit, zone) => {
                let unit = unit_text(unit);
                zone.as_ref().map_or_else(|| format!("Timestamp({unit})"), |z| format!("Timestamp({unit}, {z})"))
            }
            DataType::Time64(unit) | DataType::Time32(unit) => format!("Time({})", unit_text(unit)),
            DataType::Duration(unit) => format!("Duration({})", unit_text(unit)),
            DataType::List(item) => format!("List({})", type_text(item)),
            other => other.to_string(),
        },
    }
}

fn unit_text(unit: &TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "µs",
        TimeUnit::Nanosecond => "ns",
    }
}
