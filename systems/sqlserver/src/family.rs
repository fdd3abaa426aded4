//! Which types may be widened into which others.

use weir_core::Family;

use crate::types::Kind;

impl Kind {
    /// The family of a type; `text` is the type as the server writes it.
    pub fn family(&self, text: &str) -> Family {
        let length = |length: Option<u32>| length.map(u64::from);
        let signed = |bits| Family::Integer { bits, unsigned: false };
        let decimal = |precision, scale| Family::Decimal { limits: Some((precision, scale)) };
        match *self {
            Self::TinyInt => Family::Integer { bits: 8, unsigned: true },
            Self::SmallInt => signed(16),
            Self::Int => signed(32),
            Self::BigInt => signed(64),
            Self::Decimal { precision, scale } => decimal(u32::from(precision), i32::from(scale)),
            Self::Money => decimal(19, 4),
            Self::SmallMoney => decimal(10, 4),
            Self::Real => Family::Float { bits: 32 },
            Self::Float => Family::Float { bits: 64 },
            Self::Time(digits) => Family::sized("time", Some(u64::from(digits))),
            Self::DateTime2(digits) => Family::sized("datetime2", Some(u64::from(digits))),
            Self::DateTimeOffset(digits) => Family::sized("datetimeoffset", Some(u64::from(digits))),
            // Fixed lengths are filled up with spaces.
            Self::Char(n) => Family::sized("char", Some(u64::from(n))),
            Self::NChar(n) => Family::sized("nchar", Some(u64::from(n))),
            // A code page lacks what Unicode has, and a length in bytes is none in characters.
            Self::VarChar(n) => Family::sized("varchar", length(n)),
            Self::Text => Family::sized("varchar", None),
            Self::NVarChar(n) => Family::sized("nvarchar", length(n)),
            Self::NText => Family::sized("nvarchar", None),
            // A fixed length is filled up with zero bytes.
            Self::Binary(n) => Family::named(format!("binary({n})")),
            Self::VarBinary(n) => Family::sized("varbinary", length(n)),
            Self::Image => Family::sized("varbinary", None),
            Self::Bit
            | Self::Date
            | Self::DateTime
            | Self::SmallDateTime
            | Self::Uuid
            | Self::Xml
            | Self::Json
            | Self::RowVersion
            | Self::HierarchyId
            | Self::Spatial
            | Self::Variant
            | Self::Unknown => Family::named(text.trim().to_ascii_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::Relation;

    #[test]
    fn types_are_widened_within_their_family() {
        let relation =
            |now: &str, wanted: &str| Kind::parse(now).family(now).relation(&Kind::parse(wanted).family(wanted));
        for (now, wanted, expected) in [
            ("tinyint", "smallint", Relation::Widens),
            ("int", "INT", Relation::Same),
            ("bigint", "int", Relation::Holds),
            ("smallint", "tinyint", Relation::Holds),
            ("bigint", "float", Relation::Apart),
            ("real", "float", Relation::Widens),
            ("decimal(10,2)", "decimal(12,2)", Relation::Widens),
            ("money", "decimal(20,4)", Relation::Widens),
            ("nvarchar(10)", "nvarchar(20)", Relation::Widens),
            ("nvarchar(10)", "nvarchar(max)", Relation::Widens),
            ("varchar(10)", "nvarchar(20)", Relation::Apart),
            ("text", "varchar(max)", Relation::Same),
            ("char(4)", "varchar(4)", Relation::Apart),
            ("datetime2(3)", "datetime2(7)", Relation::Widens),
            ("datetime", "datetime2(3)", Relation::Apart),
            ("varbinary(20)", "varbinary(max)", Relation::Widens),
            ("binary(4)", "binary(8)", Relation::Apart),
            ("bit", "bit", Relation::Same),
        ] {
            assert_eq!(relation(now, wanted), expected, "{now} → {wanted}");
        }
    }
}
