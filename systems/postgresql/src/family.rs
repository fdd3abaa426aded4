//! Which types may be widened into which others.

use weir_core::Family;

use crate::types::{PgType, Wire};

impl PgType {
    /// The type's family. An enum's labels are those that the type has at its server.
    pub fn family(&self) -> Family {
        let length = || u64::try_from(self.typmod - 4).ok().filter(|_| self.typmod > 4);
        let digits = |digits: i32| u64::try_from(digits).ok();
        if self.kind == 'e' {
            return Family::Labels(self.labels.clone());
        }
        match (self.wire(), self.oid) {
            (Wire::Int2, _) => Family::Integer { bits: 16, unsigned: false },
            (Wire::Int4, _) => Family::Integer { bits: 32, unsigned: false },
            (Wire::Int8, _) => Family::Integer { bits: 64, unsigned: false },
            (Wire::Float4, _) => Family::Float { bits: 32 },
            (Wire::Float8, _) => Family::Float { bits: 64 },
            (Wire::Numeric(limits), _) => Family::Decimal {
                limits: limits.and_then(|(precision, scale)| Some((u32::try_from(precision).ok()?, scale))),
            },
            (_, 25 | 1043) => Family::sized("text", length()),
            (_, 1042) => Family::sized("character", length()),
            (Wire::Time(d), _) => Family::sized("time", digits(d)),
            (Wire::Timestamp(d), _) => Family::sized("timestamp", digits(d)),
            (Wire::TimestampTz(d), _) => Family::sized("timestamp with time zone", digits(d)),
            (_, 1562) => Family::sized("bit varying", u64::try_from(self.typmod).ok()),
            _ => Family::named(&self.base),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::Relation;

    #[test]
    fn types_are_widened_within_their_family() {
        let relation = |now: &str, wanted: &str| {
            PgType::parse(now).unwrap().family().relation(&PgType::parse(wanted).unwrap().family())
        };
        for (now, wanted, expected) in [
            ("smallint", "bigint", Relation::Widens),
            ("bigint", "integer", Relation::Holds),
            ("integer", "double precision", Relation::Apart),
            ("real", "double precision", Relation::Widens),
            ("character varying(10)", "character varying(20)", Relation::Widens),
            ("character varying(10)", "text", Relation::Widens),
            ("character varying", "text", Relation::Same),
            ("character(4)", "text", Relation::Apart),
            ("numeric(10,2)", "numeric(12,2)", Relation::Widens),
            ("numeric(10,2)", "numeric", Relation::Widens),
            ("numeric(10,2)", "numeric(10,4)", Relation::Crosses),
            ("timestamp(3) without time zone", "timestamp without time zone", Relation::Widens),
            ("timestamp without time zone", "timestamp with time zone", Relation::Apart),
            ("integer[]", "bigint[]", Relation::Apart),
            ("jsonb", "jsonb", Relation::Same),
            ("jsonb", "json", Relation::Apart),
        ] {
            assert_eq!(relation(now, wanted), expected, "{now} → {wanted}");
        }
    }
}
