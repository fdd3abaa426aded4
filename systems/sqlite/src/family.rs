//! Which declared types may be widened into which others.

use arrow::datatypes::{DataType, TimeUnit};
use weir_core::Family;
use weir_core::field::DECIMAL;

use crate::types::form_of;

/// The family of a declared type; `None` for one under which SQLite takes values of any kind.
pub fn family(declared: &str) -> Option<Family> {
    let (data_type, extension) = form_of(declared)?;
    let integer = |bits, unsigned| Family::Integer { bits, unsigned };
    let zoned = |zone: &Option<std::sync::Arc<str>>| if zone.is_some() { "timestamp with zone" } else { "timestamp" };
    Some(match (&data_type, extension) {
        (DataType::Int8, _) => integer(8, false),
        (DataType::Int16, _) => integer(16, false),
        (DataType::Int32, _) => integer(32, false),
        (DataType::Int64, _) => integer(64, false),
        (DataType::UInt8, _) => integer(8, true),
        (DataType::UInt16, _) => integer(16, true),
        (DataType::UInt32, _) => integer(32, true),
        (DataType::UInt64, _) => integer(64, true),
        (DataType::Float32, _) => Family::Float { bits: 32 },
        (DataType::Float64, _) => Family::Float { bits: 64 },
        (DataType::Decimal128(p, s) | DataType::Decimal256(p, s), _) => {
            Family::Decimal { limits: Some((u32::from(*p), i32::from(*s))) }
        }
        (DataType::Utf8, Some(DECIMAL)) => Family::Decimal { limits: None },
        (DataType::Timestamp(unit, zone), _) => {
            Family::sized(zoned(zone), Some(if *unit == TimeUnit::Nanosecond { 9 } else { 6 }))
        }
        // SQLite keeps to no length.
        (other, extension) => Family::named(format!("{other} {}", extension.unwrap_or_default())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::Relation;

    #[test]
    fn types_are_widened_within_their_family() {
        for (now, wanted, expected) in [
            ("INT32", "INTEGER", Relation::Widens),
            ("INTEGER", "INT32", Relation::Holds),
            ("VARCHAR(10)", "TEXT", Relation::Same),
            ("FLOAT32", "REAL", Relation::Widens),
            ("INTEGER", "REAL", Relation::Apart),
            ("DECIMAL(10,2)", "DECIMAL_TEXT(20,2)", Relation::Widens),
            ("DECIMAL(10,2)", "DECIMAL_TEXT", Relation::Widens),
            ("DATETIME", "DATETIME(9)", Relation::Widens),
            ("DATETIME", "TIMESTAMPTZ", Relation::Apart),
            ("JSON_TEXT", "TEXT", Relation::Apart),
        ] {
            assert_eq!(family(now).unwrap().relation(&family(wanted).unwrap()), expected, "{now} → {wanted}");
        }
        assert_eq!(family(""), None);
    }
}
