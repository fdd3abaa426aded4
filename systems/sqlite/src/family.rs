//! Which declared types may be widened into which others.

use weir_core::Family;

use crate::types::{field, form_of};

/// The family of a declared type; `None` for one under which SQLite takes values of any kind. SQLite keeps to no length.
pub fn family(declared: &str) -> Option<Family> {
    form_of(declared).map(|form| Family::of(&field("", &form, true)))
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
