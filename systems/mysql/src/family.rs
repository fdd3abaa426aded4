//! Which types may be widened into which others.

use weir_core::Family;

use crate::types::Kind;

impl Kind {
    /// The family of a type; `text` is the type as the server writes it.
    pub fn family(&self, text: &str) -> Family {
        let lower = text.trim().to_ascii_lowercase();
        match *self {
            Self::Int { bits, unsigned, .. } => Family::Integer { bits, unsigned },
            Self::Decimal { precision, scale } => {
                Family::Decimal { limits: Some((u32::from(precision), i32::from(scale))) }
            }
            Self::Float => Family::Float { bits: 32 },
            Self::Double => Family::Float { bits: 64 },
            Self::Bit(bits) => Family::sized("bit", Some(u64::from(bits))),
            Self::DateTime(digits) => Family::sized("datetime", Some(u64::from(digits))),
            Self::Timestamp(digits) => Family::sized("timestamp", Some(u64::from(digits))),
            Self::Time(digits) => Family::sized("time", Some(u64::from(digits))),
            Self::Char(length) if lower.starts_with("char") || lower.starts_with("nchar") => {
                Family::sized("char", Some(u64::from(length)))
            }
            // Lengths of these count characters, of which each may have four bytes, and those of texts bytes.
            Self::Char(length) => Family::sized("text", Some(u64::from(length) * 4)),
            Self::Text(bytes) => Family::sized("text", Some(bytes)),
            // A fixed length is filled up with zero bytes.
            Self::Binary(bytes) if lower.starts_with("binary") => Family::named(format!("binary({bytes})")),
            Self::Binary(bytes) => Family::sized("bytes", Some(bytes)),
            Self::Enum => Family::Labels(labels(text)),
            Self::Set => match labels(text) {
                labels if labels.is_empty() => Family::named(lower),
                // Not a list of values but of parts of values.
                labels => Family::Labels(labels.into_iter().map(|l| format!("set:{l}")).collect()),
            },
            Self::Unknown => Family::named(lower),
            Self::Year => Family::named("year"),
            Self::Date => Family::named("date"),
            Self::Json => Family::named("json"),
            Self::Uuid => Family::named("uuid"),
            Self::Inet | Self::Geometry => Family::named(lower),
            Self::Vector => Family::named(lower),
        }
    }
}

/// The labels of `enum('a','it''s')`.
fn labels(text: &str) -> Vec<String> {
    let mut labels = Vec::new();
    let Some((_, mut rest)) = text.split_once('(') else { return labels };
    while let Some(start) = rest.strip_prefix('\'') {
        let mut label = String::new();
        let mut chars = start.char_indices().peekable();
        let end = loop {
            match chars.next() {
                None => return labels,
                Some((_, '\'')) if chars.peek().is_some_and(|(_, c)| *c == '\'') => {
                    chars.next();
                    label.push('\'');
                }
                Some((at, '\'')) => break at + 1,
                Some((_, c)) => label.push(c),
            }
        };
        labels.push(label);
        rest = start[end..].strip_prefix(',').map_or("", str::trim_start);
    }
    labels
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
            ("tinyint(4)", "smallint", Relation::Widens),
            ("int(11)", "int", Relation::Same),
            ("int", "int unsigned", Relation::Crosses),
            ("int unsigned", "bigint", Relation::Widens),
            ("bigint", "double", Relation::Apart),
            ("float", "double", Relation::Widens),
            ("decimal(10,2)", "decimal(12,2)", Relation::Widens),
            ("varchar(10)", "varchar(20)", Relation::Widens),
            ("varchar(10)", "longtext", Relation::Widens),
            ("varchar(16383)", "text", Relation::Widens),
            ("longtext", "varchar(20)", Relation::Holds),
            ("char(4)", "varchar(4)", Relation::Apart),
            ("datetime", "datetime(6)", Relation::Widens),
            ("datetime(6)", "timestamp(6)", Relation::Apart),
            ("varbinary(20)", "longblob", Relation::Widens),
            ("enum('a','it''s')", "enum('a','it''s','b')", Relation::Widens),
            ("enum('a')", "set('a')", Relation::Crosses),
            ("json", "json", Relation::Same),
        ] {
            assert_eq!(relation(now, wanted), expected, "{now} → {wanted}");
        }
        assert_eq!(labels("enum('a,b','it''s','')"), ["a,b", "it's", ""]);
    }
}
