//! What a plan says of columns that pass as they are into columns that hold less.
//!
//! A conversion knows what may not fit; texts into a shorter text, or times into one of fewer decimals, need none: the
//! server's own types tell. Only their texts are looked at, in which the systems agree.

use arrow::datatypes::{DataType, Field, TimeUnit};
use weir_core::MappedColumn;
use weir_core::field::{JSON, NATIVE, TEXT, extension, native_type};

/// `timestamp(3) without time zone` as (`timestamp without time zone`, [3]).
fn parts(text: &str) -> (String, Vec<u64>) {
    let lower = text.trim().to_ascii_lowercase();
    match lower.split_once('(') {
        Some((before, rest)) => {
            let (inside, after) = rest.split_once(')').unwrap_or((rest, ""));
            let arguments = inside.split(',').map_while(|n| n.trim().parse().ok()).collect();
            (format!("{}{after}", before.trim_end()), arguments)
        }
        None => (lower, Vec::new()),
    }
}

fn is_text(base: &str) -> bool {
    ["char", "varchar", "character", "nchar", "nvarchar", "bpchar"].iter().any(|name| {
        base.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ') || *name == "character")
    })
}

/// The most characters of a value's text, where its type has a bound.
fn longest(source: &Field, native: &str) -> Option<u64> {
    let (base, arguments) = parts(native);
    if is_text(&base) {
        return arguments.first().copied().or((base == "character").then_some(1));
    }
    Some(match source.data_type() {
        DataType::Boolean => 5,
        DataType::Int8 => 4,
        DataType::Int16 | DataType::UInt16 => 6,
        DataType::Int32 | DataType::UInt32 => 11,
        DataType::Int64 | DataType::UInt64 => 20,
        DataType::UInt8 => 3,
        DataType::Float32 | DataType::Float64 => 25,
        DataType::Decimal128(digits, _) | DataType::Decimal256(digits, _) => u64::from(*digits) + 3,
        DataType::Date32 => 13,
        DataType::Time32(_) | DataType::Time64(_) => 18,
        DataType::Timestamp(..) => 40,
        DataType::FixedSizeBinary(16) => 36,
        _ => return None,
    })
}

/// How many decimals of a second a column's values have; `None` for what is no time.
fn decimals(source: &Field, native: &str) -> Option<u64> {
    let (DataType::Timestamp(unit, _) | DataType::Time32(unit) | DataType::Time64(unit) | DataType::Duration(unit)) =
        source.data_type()
    else {
        return None;
    };
    let (base, arguments) = parts(native);
    let named = base.contains("time");
    Some(match unit {
        _ if named && !arguments.is_empty() => arguments[0],
        // MySQL's types have none where they do not say.
        _ if named && native_type(source).is_some_and(|(system, _)| system == "mysql") => 0,
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    })
}

/// What may not fit an existing column of type `target` although its values need no conversion; a time type that does not
/// say has `decimals_unsaid` decimals of a second there.
pub fn warning(column: &MappedColumn, target: &str, decimals_unsaid: u64) -> Option<String> {
    let is_canonical = |form: &&Field| !matches!(extension(form), Some(NATIVE | TEXT));
    let source = column.offers.iter().find(is_canonical).or(column.offers.first())?;
    let native = &column.source_type;
    let dirty = |what: String| Some(format!("{native} becomes {target}: {what} is a dirty row"));
    let (base, arguments) = parts(target);
    if is_text(&base) {
        let most = arguments.first().copied().or((base == "character").then_some(1))?;
        if longest(source, native).is_none_or(|longest| longest > most) {
            return dirty(format!("a value of more than {most} characters"));
        }
    }
    if let Some(here) = decimals(source, native).filter(|_| base.contains("time") && !base.ends_with("[]")) {
        let there = arguments.first().copied().unwrap_or(decimals_unsaid);
        if here > there {
            return dirty(format!("a value with more than {there} decimals of a second"));
        }
    }
    if matches!(base.as_str(), "json" | "jsonb")
        && extension(source) != Some(JSON)
        && *source.data_type() == DataType::Utf8
    {
        return dirty("a text that is no JSON".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::field::with_native_type;

    #[test]
    fn narrower_columns_are_named() {
        let says = |data_type: &DataType, system: &str, native: &str, target: &str, decimals: u64| {
            let form = with_native_type(Field::new("c", data_type.clone(), true), system, native);
            let column = MappedColumn {
                name: "c".into(),
                offers: vec![form],
                source_type: native.into(),
                nullable: true,
                key: None,
                comment: None,
            };
            warning(&column, target, decimals).is_some()
        };
        let text = DataType::Utf8;
        assert!(says(&text, "postgresql", "text", "character varying(5)", 6));
        assert!(says(&text, "mysql", "varchar(6)", "varchar(5)", 0));
        assert!(!says(&text, "mysql", "varchar(5)", "varchar(5)", 0));
        assert!(!says(&text, "postgresql", "character(5)", "character varying(5)", 6));
        assert!(!says(&text, "postgresql", "text", "text", 6));
        assert!(says(&text, "postgresql", "text", "jsonb", 6));
        assert!(says(&DataType::Int64, "postgresql", "bigint", "varchar(3)", 0));
        assert!(!says(&DataType::Boolean, "postgresql", "boolean", "varchar(5)", 0));
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        assert!(says(&time, "postgresql", "timestamp without time zone", "datetime", 0));
        assert!(!says(&time, "mysql", "datetime", "datetime", 0));
        assert!(!says(&time, "mysql", "datetime", "timestamp(0) without time zone", 6));
        assert!(says(&time, "mysql", "datetime(6)", "timestamp(3) without time zone", 6));
        assert!(!says(&time, "sqlite", "DATETIME", "timestamp without time zone", 6));
    }
}
