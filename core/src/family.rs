//! Families of types, within which a column may be widened and none of its values changes.
//!
//! Each system reads its own type texts into a family; two columns of one system are then compared without knowing the
//! system.

use arrow::datatypes::{DataType, Field, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::field::{DECIMAL, TEXT, extension, type_text};

/// What a column can hold, as far as it can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Whole numbers.
    Integer {
        /// 8, 16, 24, 32 or 64.
        bits: u8,
        /// Whether there are no negative ones.
        unsigned: bool,
    },
    /// Binary floating point.
    Float {
        /// 32 or 64.
        bits: u8,
    },
    /// Decimal numbers.
    Decimal {
        /// The digits in all and those after the point; `None` for any number of both.
        limits: Option<(u32, i32)>,
    },
    /// One of a list of texts.
    Labels(Vec<String>),
    /// Anything else that has a size: texts and bytes have a length, times have digits after the second.
    Sized {
        /// What is the same for all sizes: `text`, `binary`, `timestamp`.
        name: String,
        /// The largest size; `None` for any.
        size: Option<u64>,
    },
}

/// How the column that is there stands to the one that would be made today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// They hold the same values.
    Same,
    /// The column that is there holds more.
    Holds,
    /// The new one holds all values of the old one, and more.
    Widens,
    /// The same family, and each holds values that the other does not.
    Crosses,
    /// Two families.
    Apart,
}

impl Family {
    /// The family of a column's canonical Arrow form, for systems whose types say no more than that.
    pub fn of(field: &Field) -> Self {
        let integer = |bits, unsigned| Self::Integer { bits, unsigned };
        match (field.data_type(), extension(field)) {
            (DataType::Int8, _) => integer(8, false),
            (DataType::Int16, _) => integer(16, false),
            (DataType::Int32, _) => integer(32, false),
            (DataType::Int64, _) => integer(64, false),
            (DataType::UInt8, _) => integer(8, true),
            (DataType::UInt16, _) => integer(16, true),
            (DataType::UInt32, _) => integer(32, true),
            (DataType::UInt64, _) => integer(64, true),
            (DataType::Float32, _) => Self::Float { bits: 32 },
            (DataType::Float64, _) => Self::Float { bits: 64 },
            (DataType::Decimal128(p, s) | DataType::Decimal256(p, s), _) => {
                Self::Decimal { limits: Some((u32::from(*p), i32::from(*s))) }
            }
            (DataType::Utf8, Some(DECIMAL)) => Self::Decimal { limits: None },
            (DataType::Timestamp(unit, zone), _) => {
                let name = if zone.is_some() { "timestamp with time zone" } else { "timestamp" };
                let digits = match unit {
                    TimeUnit::Second => 0,
                    TimeUnit::Millisecond => 3,
                    TimeUnit::Microsecond => 6,
                    TimeUnit::Nanosecond => 9,
                };
                Self::sized(name, Some(digits))
            }
            // A source's own text is text.
            (DataType::Utf8, None | Some(TEXT)) => Self::named("text"),
            _ => Self::named(type_text(field)),
        }
    }

    /// A type without a size of its own: only the same name is the same.
    pub fn named(name: impl Into<String>) -> Self {
        Self::Sized { name: name.into(), size: None }
    }

    /// A type with a largest size.
    pub fn sized(name: impl Into<String>, size: Option<u64>) -> Self {
        Self::Sized { name: name.into(), size }
    }

    /// Compares the column that is there with the one that would be made today.
    pub fn relation(&self, wanted: &Self) -> Relation {
        let (old_in_new, new_in_old) = match (self, wanted) {
            (Self::Integer { .. }, Self::Integer { .. }) => (wanted.holds_integer(self), self.holds_integer(wanted)),
            (Self::Float { bits: now }, Self::Float { bits: new }) => (now <= new, new <= now),
            (Self::Decimal { limits: now }, Self::Decimal { limits: new }) => {
                (decimal_holds(*new, *now), decimal_holds(*now, *new))
            }
            (Self::Labels(now), Self::Labels(new)) => {
                let all = |some: &[String], of: &[String]| some.iter().all(|label| of.contains(label));
                (all(now, new), all(new, now))
            }
            (Self::Sized { name: a, size: now }, Self::Sized { name: b, size: new }) if a == b => {
                let fits = |small: &Option<u64>, large: &Option<u64>| match (small, large) {
                    (_, None) => true,
                    (None, Some(_)) => false,
                    (Some(small), Some(large)) => small <= large,
                };
                (fits(now, new), fits(new, now))
            }
            _ => return Relation::Apart,
        };
        match (old_in_new, new_in_old) {
            (true, true) => Relation::Same,
            (false, true) => Relation::Holds,
            (true, false) => Relation::Widens,
            (false, false) => Relation::Crosses,
        }
    }

    fn holds_integer(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Integer { bits, unsigned }, Self::Integer { bits: less, unsigned: other }) => {
                match (unsigned, other) {
                    (false, true) => bits > less,
                    (true, false) => false,
                    _ => bits >= less,
                }
            }
            _ => false,
        }
    }
}

fn decimal_holds(large: Option<(u32, i32)>, small: Option<(u32, i32)>) -> bool {
    match (large, small) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some((p, s)), Some((q, t))) => {
            let whole = |p: u32, s: i32| i64::from(p) - i64::from(s);
            s >= t && whole(p, s) >= whole(q, t)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_stays_within_a_family() {
        let int = |bits, unsigned| Family::Integer { bits, unsigned };
        let decimal = |p, s| Family::Decimal { limits: Some((p, s)) };
        let text = |size| Family::sized("text", size);
        let labels = |all: &[&str]| Family::Labels(all.iter().map(|l| (*l).to_owned()).collect());
        for (now, wanted, relation) in [
            (int(8, false), int(16, false), Relation::Widens),
            (int(32, false), int(64, false), Relation::Widens),
            (int(64, false), int(32, false), Relation::Holds),
            (int(32, false), int(32, true), Relation::Crosses),
            (int(16, true), int(32, false), Relation::Widens),
            (int(32, false), int(16, true), Relation::Holds),
            (int(32, false), Family::Float { bits: 64 }, Relation::Apart),
            (Family::Float { bits: 32 }, Family::Float { bits: 64 }, Relation::Widens),
            (decimal(10, 2), decimal(12, 2), Relation::Widens),
            (decimal(10, 2), decimal(12, 4), Relation::Widens),
            (decimal(10, 2), decimal(10, 4), Relation::Crosses),
            (decimal(10, 2), Family::Decimal { limits: None }, Relation::Widens),
            (text(Some(10)), text(Some(20)), Relation::Widens),
            (text(Some(20)), text(Some(10)), Relation::Holds),
            (text(Some(20)), text(None), Relation::Widens),
            (text(None), text(None), Relation::Same),
            (text(None), Family::sized("bytes", None), Relation::Apart),
            (labels(&["a"]), labels(&["b", "a"]), Relation::Widens),
            (labels(&["a", "c"]), labels(&["b", "a"]), Relation::Crosses),
            (Family::named("uuid"), Family::named("uuid"), Relation::Same),
        ] {
            assert_eq!(now.relation(&wanted), relation, "{now:?} → {wanted:?}");
        }
    }
}
