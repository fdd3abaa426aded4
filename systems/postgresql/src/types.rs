//! PostgreSQL's types: what a column is, and the Arrow forms it can be read in.

use arrow::datatypes::{DataType, Field, TimeUnit};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use weir_core::field::{DECIMAL, INTERVAL, JSON, NATIVE, TEXT, UUID, with_extension, with_metadata, with_native_type};

/// The wire family's name in field metadata.
pub const SYSTEM: &str = "postgresql";

/// A column's type, domains looked through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PgType {
    /// As the server writes it: `numeric(10,2)`, `shop.colour`.
    pub text: String,
    /// The type below all domains, as the server writes it; else the same as `text`.
    pub base: String,
    /// The oid of the base type.
    pub oid: u32,
    /// The base type's modifier; -1 for none.
    pub typmod: i32,
    /// `typtype` of the base type: b, e (enum), c (composite), r (range), m (multirange), p (pseudo).
    pub kind: char,
    /// The labels of an enum, or of the enum that it is an array of, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// Metadata key: the labels of an enum (or of an array's enum), as a JSON list.
pub const LABELS: &str = "weir.postgresql.labels";

/// The labels that a field's metadata tells of.
pub fn labels(field: &Field) -> Option<Vec<String>> {
    serde_json::from_str(field.metadata().get(LABELS)?).ok()
}

/// How values of a type look in COPY's binary format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wire {
    /// One byte.
    Bool,
    /// Big-endian integers.
    Int2,
    /// 32 bits.
    Int4,
    /// 64 bits.
    Int8,
    /// Unsigned 32 bits.
    Oid,
    /// IEEE 754.
    Float4,
    /// IEEE 754.
    Float8,
    /// Groups of four digits; with precision and scale where the column has them.
    Numeric(Option<(i32, i32)>),
    /// The text itself: text, varchar, char, name, citext, enum labels.
    Text,
    /// JSON text.
    Json,
    /// A version byte and JSON text.
    Jsonb,
    /// The bytes themselves.
    Bytea,
    /// Days since 2000.
    Date,
    /// Microseconds of the day, with the column's digits after the second.
    Time(i32),
    /// Microseconds since 2000.
    Timestamp(i32),
    /// Microseconds since 2000 in UTC.
    TimestampTz(i32),
    /// Microseconds, days, months.
    Interval,
    /// Sixteen bytes.
    Uuid,
    /// Cents of the server's locale: never moved in this form.
    Money,
    /// An array of one of the others.
    Array(Box<Wire>),
    /// Anything else: moved as native bytes or as text.
    Other,
}

/// Built-in types whose oid and binary form are the same on every server: oid, name, oid of the array type.
const BUILT_IN: &[(u32, &str, u32)] = &[
    (16, "boolean", 1000),
    (17, "bytea", 1001),
    (19, "name", 1003),
    (20, "bigint", 1016),
    (21, "smallint", 1005),
    (23, "integer", 1007),
    (25, "text", 1009),
    (26, "oid", 1028),
    (114, "json", 199),
    (142, "xml", 143),
    (600, "point", 1017),
    (601, "lseg", 1018),
    (602, "path", 1019),
    (603, "box", 1020),
    (604, "polygon", 1027),
    (628, "line", 629),
    (650, "cidr", 651),
    (700, "real", 1021),
    (701, "double precision", 1022),
    (718, "circle", 719),
    (774, "macaddr8", 775),
    (829, "macaddr", 1040),
    (869, "inet", 1041),
    (1042, "character", 1014),
    (1043, "character varying", 1015),
    (1082, "date", 1182),
    (1083, "time without time zone", 1183),
    (1114, "timestamp without time zone", 1115),
    (1184, "timestamp with time zone", 1185),
    (1186, "interval", 1187),
    (1266, "time with time zone", 1270),
    (1560, "bit", 1561),
    (1562, "bit varying", 1563),
    (1700, "numeric", 1231),
    (2950, "uuid", 2951),
    (3220, "pg_lsn", 3221),
    (3614, "tsvector", 3643),
    (3615, "tsquery", 3645),
    (3802, "jsonb", 3807),
    (3904, "int4range", 3905),
    (3906, "numrange", 3907),
    (3908, "tsrange", 3909),
    (3910, "tstzrange", 3911),
    (3912, "daterange", 3913),
    (3926, "int8range", 3927),
];

/// A modifier that stands in a type's text in a way we do not take apart (`interval day to second(3)`).
const OPAQUE: i32 = -2;

impl PgType {
    /// Reads the text of a built-in type as `format_type` writes it; `None` for all others.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (single, array) = text.strip_suffix("[]").map_or((text, false), |t| (t, true));
        let (name, arguments) = match single.split_once('(') {
            Some((before, rest)) => {
                let (inside, after) = rest.split_once(')')?;
                (format!("{}{after}", before.trim_end()), Some(inside))
            }
            None => (single.to_owned(), None),
        };
        // Such a text may come from a file's metadata, and it goes into statements.
        if !text.chars().all(|c| c.is_alphanumeric() || " (),-_\"[]".contains(c)) {
            return None;
        }
        let name = match name.as_str() {
            "bpchar" => "character",
            "\"bit\"" => "bit",
            other => other,
        };
        let (name, opaque) = if name.starts_with("interval ") { ("interval", true) } else { (name, false) };
        let (oid, _, array_oid) = *BUILT_IN.iter().find(|(_, n, _)| *n == name)?;
        let numbers: Vec<i32> =
            arguments.map(|a| a.split(',').map(|n| n.trim().parse()).collect()).transpose().ok()?.unwrap_or_default();
        let typmod = match (oid, numbers.as_slice()) {
            _ if opaque => OPAQUE,
            // `character` alone is character(1); `bpchar` has no limit.
            (1042, []) if single.trim() == "character" => 5,
            (1560, []) if single.trim() == "bit" => 1,
            (_, []) => -1,
            (1700, [p]) => (p << 16).checked_add(4)?,
            (1700, [p, s]) => ((p << 16) | (s & 0x7ff)).checked_add(4)?,
            (1042 | 1043, [n]) => n.checked_add(4)?,
            (1083 | 1114 | 1184 | 1266 | 1560 | 1562, [n]) => *n,
            _ => OPAQUE,
        };
        let oid = if array { array_oid } else { oid };
        Some(Self { text: text.into(), base: text.into(), oid, typmod, kind: 'b', labels: Vec::new() })
    }

    /// What `format_type` says of the built-in types that most columns have.
    pub fn built_in(oid: u32, typmod: i32) -> Option<Self> {
        let (_, name, _) = *BUILT_IN.iter().find(|(known, ..)| *known == oid)?;
        let text = match (oid, typmod) {
            // Without a length these have names of their own.
            (1042 | 1560, -1) => return None,
            (_, -1) => name.to_owned(),
            (1043, 5..) => format!("{name}({})", typmod - 4),
            (1700, 4..) => {
                let (precision, scale) = numeric_typmod(typmod).filter(|(_, scale)| *scale >= 0)?;
                format!("{name}({precision},{scale})")
            }
            (1114 | 1184, 0..=6) => format!("timestamp({typmod}){}", name.strip_prefix("timestamp")?),
            _ => return None,
        };
        Some(Self { text: text.clone(), base: text, oid, typmod, kind: 'b', labels: Vec::new() })
    }

    /// The type's oid below an array, if it is an array of a built-in type.
    pub fn element(&self) -> Option<u32> {
        BUILT_IN.iter().find(|(_, _, array)| *array == self.oid).map(|(oid, _, _)| *oid)
    }

    /// Whether oid and binary form are the same on every server.
    pub fn is_built_in(&self) -> bool {
        BUILT_IN.iter().any(|(oid, _, array)| *oid == self.oid || *array == self.oid)
    }

    /// How values look in COPY's binary format.
    pub fn wire(&self) -> Wire {
        if self.kind == 'e' || (self.kind == 'b' && self.base.trim_matches('"').rsplit('.').next() == Some("citext")) {
            return Wire::Text;
        }
        match self.element() {
            Some(element) => match wire_of(element, self.typmod) {
                Wire::Other => Wire::Other,
                item => Wire::Array(Box::new(item)),
            },
            None => wire_of(self.oid, self.typmod),
        }
    }

    /// Whether the wire form of a `source` column fits this type's column without the server altering a value unseen.
    pub fn takes_native(&self, source: &PgType) -> bool {
        const TEXTS: [u32; 2] = [25, 1043];
        if TEXTS.contains(&source.oid) && TEXTS.contains(&self.oid) {
            // The server cuts blanks off that stand beyond the length.
            return self.typmod == -1 || (source.typmod > 4 && source.typmod <= self.typmod);
        }
        if source.oid != self.oid || !self.is_built_in() {
            return false;
        }
        if self.typmod == source.typmod || self.typmod == -1 {
            return self.typmod != OPAQUE || self.base == source.base;
        }
        match (self.wire(), source.wire()) {
            (Wire::Numeric(Some((p, s))), Wire::Numeric(Some((from_p, from_s)))) => {
                from_s <= s && from_p - from_s <= p - s
            }
            (Wire::Time(to), Wire::Time(from))
            | (Wire::Timestamp(to), Wire::Timestamp(from))
            | (Wire::TimestampTz(to), Wire::TimestampTz(from)) => from <= to,
            // The server pads, and refuses what is too long.
            (Wire::Text, Wire::Text) => true,
            _ => false,
        }
    }

    /// The forms a column of this type can be read in, best first.
    pub fn representations(&self, name: &str) -> Vec<Field> {
        let listed = (!self.labels.is_empty()).then(|| serde_json::Value::from(self.labels.clone()).to_string());
        let field = |data_type: DataType| {
            let field = with_native_type(Field::new(name, data_type, true), SYSTEM, &self.text);
            listed.iter().fold(field, |field, labels| with_metadata(field, LABELS, labels))
        };
        let extended = |data_type: DataType, extension: &str| with_extension(field(data_type), extension);
        let mut forms = Vec::with_capacity(3);
        if self.is_built_in() {
            // On the wire a domain's values are its base type's.
            let wire = with_extension(Field::new(name, DataType::Binary, true), NATIVE);
            forms.push(with_native_type(wire, SYSTEM, &self.base));
        }
        let wire = self.wire();
        if let Some((data_type, extension)) = canonical(&wire) {
            forms.push(extension.map_or_else(|| field(data_type.clone()), |e| extended(data_type.clone(), e)));
        }
        if wire == Wire::Money {
            // Money's text follows the server's locale; its number does not.
            forms.push(extended(DataType::Utf8, DECIMAL));
        } else if wire != Wire::Text {
            forms.push(extended(DataType::Utf8, TEXT));
        }
        forms
    }
}

fn wire_of(oid: u32, typmod: i32) -> Wire {
    let digits = if (0..=6).contains(&typmod) { typmod } else { 6 };
    match oid {
        16 => Wire::Bool,
        17 => Wire::Bytea,
        20 => Wire::Int8,
        21 => Wire::Int2,
        23 => Wire::Int4,
        26 => Wire::Oid,
        19 | 25 | 705 | 1042 | 1043 => Wire::Text,
        114 => Wire::Json,
        700 => Wire::Float4,
        701 => Wire::Float8,
        790 => Wire::Money,
        1082 => Wire::Date,
        1083 => Wire::Time(digits),
        1114 => Wire::Timestamp(digits),
        1184 => Wire::TimestampTz(digits),
        1186 => Wire::Interval,
        1700 => Wire::Numeric(numeric_typmod(typmod)),
        2950 => Wire::Uuid,
        3802 => Wire::Jsonb,
        _ => Wire::Other,
    }
}

/// Precision and scale of a numeric's modifier. Scales may be negative, and larger than the precision.
fn numeric_typmod(typmod: i32) -> Option<(i32, i32)> {
    let bits = typmod.checked_sub(4).filter(|b| *b >= 0)?;
    Some(((bits >> 16) & 0xffff, ((bits & 0x7ff) ^ 1024) - 1024))
}

/// The canonical Arrow form, with its extension; `None` where only text will do.
pub fn canonical(wire: &Wire) -> Option<(DataType, Option<&'static str>)> {
    let plain = |t| Some((t, None));
    match wire {
        Wire::Bool => plain(DataType::Boolean),
        Wire::Int2 => plain(DataType::Int16),
        Wire::Int4 => plain(DataType::Int32),
        Wire::Int8 | Wire::Oid => plain(DataType::Int64),
        Wire::Float4 => plain(DataType::Float32),
        Wire::Float8 => plain(DataType::Float64),
        Wire::Numeric(limits) => match limits.and_then(|(p, s)| decimal(p, s)) {
            Some(decimal) => plain(decimal),
            None => Some((DataType::Utf8, Some(DECIMAL))),
        },
        Wire::Text => plain(DataType::Utf8),
        Wire::Json | Wire::Jsonb => Some((DataType::Utf8, Some(JSON))),
        Wire::Bytea => plain(DataType::Binary),
        Wire::Date => plain(DataType::Date32),
        Wire::Time(_) => plain(DataType::Time64(TimeUnit::Microsecond)),
        Wire::Timestamp(_) => plain(DataType::Timestamp(TimeUnit::Microsecond, None)),
        Wire::TimestampTz(_) => plain(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        Wire::Interval => Some((DataType::Utf8, Some(INTERVAL))),
        Wire::Uuid => Some((DataType::FixedSizeBinary(16), Some(UUID))),
        Wire::Money => plain(DataType::Decimal128(19, 2)),
        Wire::Array(item) => {
            let (data_type, extension) = canonical(item).filter(|_| !matches!(**item, Wire::Money))?;
            let item = Field::new("item", data_type, true);
            let item = extension.map_or(item.clone(), |e| with_extension(item, e));
            plain(DataType::List(Arc::new(item)))
        }
        Wire::Other => None,
    }
}

/// Arrow's decimal for numeric(p,s); `None` beyond 76 digits.
pub fn decimal(precision: i32, scale: i32) -> Option<DataType> {
    // numeric(2,-3) holds 99000, numeric(2,4) holds 0.0099.
    let (p, s) = if scale < 0 { (precision - scale, 0) } else { (precision.max(scale), scale) };
    match p {
        1..=38 => Some(DataType::Decimal128(p as u8, s as i8)),
        39..=76 => Some(DataType::Decimal256(p as u8, s as i8)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::field::{extension, type_text};

    fn parse(text: &str) -> PgType {
        PgType::parse(text).unwrap()
    }

    #[test]
    fn type_texts_are_taken_apart() {
        assert_eq!(parse("numeric(10,2)").wire(), Wire::Numeric(Some((10, 2))));
        assert_eq!(parse("numeric(5,-2)").wire(), Wire::Numeric(Some((5, -2))));
        assert_eq!(parse("numeric").wire(), Wire::Numeric(None));
        assert_eq!(parse("timestamp(3) without time zone").wire(), Wire::Timestamp(3));
        assert_eq!(parse("character varying(20)[]").wire(), Wire::Array(Box::new(Wire::Text)));
        assert_eq!(parse("bit varying(5)").typmod, 5);
        assert_eq!(parse("interval day to second(3)").oid, 1186);
        assert_eq!(PgType::parse("shop.colour"), None);
    }

    #[test]
    fn native_bytes_pass_only_where_the_server_alters_nothing() {
        let takes = |to: &str, from: &str| parse(to).takes_native(&parse(from));
        assert!(takes("numeric(12,4)", "numeric(10,2)"));
        assert!(!takes("numeric(10,2)", "numeric(10,4)"));
        assert!(!takes("numeric(10,2)", "numeric"));
        assert!(takes("numeric", "numeric(10,2)"));
        assert!(takes("text", "character varying(20)") && takes("character varying(30)", "character varying(20)"));
        assert!(!takes("character varying(10)", "character varying(20)") && !takes("character varying(10)", "text"));
        assert!(!takes("timestamp(3) without time zone", "timestamp without time zone"));
        assert!(!takes("bigint", "integer"));
        assert!(takes("bigint[]", "bigint[]"));
    }

    #[test]
    fn representations_come_best_first() {
        let texts = |t: &str| parse(t).representations("c").iter().map(type_text).collect::<Vec<_>>();
        assert_eq!(texts("numeric(40,2)"), ["native", "Decimal256(40, 2)", "text form"]);
        assert_eq!(texts("numeric"), ["native", "decimal text", "text form"]);
        assert_eq!(texts("text"), ["native", "Utf8"]);
        assert_eq!(texts("int4range"), ["native", "text form"]);
        let colour = PgType {
            text: "colour".into(),
            base: "colour".into(),
            oid: 99_999,
            typmod: -1,
            kind: 'e',
            labels: vec!["red".into()],
        };
        assert_eq!(colour.representations("c").len(), 1);
        assert_eq!(extension(&colour.representations("c")[0]), None);
        assert_eq!(labels(&colour.representations("c")[0]).unwrap(), ["red"]);
    }
}
