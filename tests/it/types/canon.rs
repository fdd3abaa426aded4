//! One spelling for each value, whichever server spelled it.

use super::Class;
use super::place::System;

/// The value in a form that is the same in all systems; `None` where only the system itself knows.
pub fn canonical(class: Class, system: System, type_text: &str, text: &str) -> Option<String> {
    let (storage, text) = match system {
        System::Sqlite => text.split_once(':')?,
        _ => ("", text),
    };
    let lower = type_text.to_lowercase();
    match class {
        Class::Other => None,
        // Only a char's length says how many spaces follow.
        Class::Text if system == System::PostgreSql && lower.starts_with("character(") => Some(text.trim_end().into()),
        Class::Text => Some(text.into()),
        Class::Bool => Some(match text {
            "t" | "true" | "1" | "01" => "true".into(),
            "f" | "false" | "0" | "00" | "" => "false".into(),
            other => other.into(),
        }),
        Class::Number if lower.starts_with("bit(") && system.is_mysql() => {
            u64::from_str_radix(text, 16).ok().map(|n| n.to_string())
        }
        Class::Number if lower == "money" => number(&text.replace(['$', ','], "")),
        // SQLite keeps up to 15 digits in a real, of which the shortest text has them all.
        Class::Number if storage == "real" => text.parse::<f64>().ok().and_then(|f| number(&format!("{f:e}"))),
        Class::Number => number(text),
        Class::Single if !text.contains("0x") => float(text).map(|f| format!("{:08x}", (f as f32).to_bits())),
        Class::Double => float(text).map(|f| format!("{:016x}", f.to_bits())),
        Class::Single => None,
        // MySQL puts the number of the reference system before a geometry.
        Class::Bytes if system.is_mysql() && ["point", "geometry"].contains(&lower.as_str()) => {
            Some(text.strip_prefix("00000000").unwrap_or(text).to_lowercase())
        }
        Class::Bytes => Some(text.strip_prefix("\\x").unwrap_or(text).to_lowercase()),
        Class::Date | Class::Time | Class::Timestamp | Class::Duration => Some(time(text)),
        Class::Instant => {
            let text = text.strip_suffix('Z').or(text.strip_suffix("+00:00")).unwrap_or(text);
            Some(time(&text.replacen("+00", "", 1)))
        }
        Class::Json => super::json::canonical(text),
        Class::Uuid => Some(text.to_lowercase().replace('-', "")),
    }
}

fn float(text: &str) -> Option<f64> {
    match text.trim() {
        "NaN" | "nan" => Some(f64::NAN),
        text => text.parse().ok(),
    }
}

/// Digits without an exponent and without zeros that say nothing.
pub fn number(text: &str) -> Option<String> {
    match text {
        "NaN" | "Infinity" | "-Infinity" => return Some(text.into()),
        "t" | "true" => return Some("1".into()),
        "f" | "false" => return Some("0".into()),
        _ => {}
    }
    let (sign, rest) = text.strip_prefix('-').map_or(("", text.strip_prefix('+').unwrap_or(text)), |rest| ("-", rest));
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let point = whole.len() as i64 + exponent.strip_prefix('+').unwrap_or(exponent).parse::<i64>().ok()?;
    let digits = format!("{whole}{fraction}");
    let (head, tail) = if point <= 0 {
        (String::new(), format!("{}{digits}", "0".repeat(usize::try_from(-point).ok()?)))
    } else if point as usize >= digits.len() {
        (format!("{digits}{}", "0".repeat(point as usize - digits.len())), String::new())
    } else {
        (digits[..point as usize].into(), digits[point as usize..].into())
    };
    let (head, tail) = (head.trim_start_matches('0'), tail.trim_end_matches('0'));
    let head = if head.is_empty() { "0" } else { head };
    let sign = if head == "0" && tail.is_empty() { "" } else { sign };
    Some(if tail.is_empty() { format!("{sign}{head}") } else { format!("{sign}{head}.{tail}") })
}

/// A date or time: no zeros after the decimals, midnight left out after a date, BC as a year below 1.
fn time(text: &str) -> String {
    let (text, bc) = text.strip_suffix(" BC").map_or((text, false), |t| (t, true));
    let text = text.replacen('T', " ", 1);
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let text = text.strip_suffix(" 00:00:00").unwrap_or(text).trim_start_matches('+');
    if !bc {
        return text.into();
    }
    match text.split_once('-') {
        Some((year, rest)) => {
            let year = 1 - year.parse::<i64>().unwrap_or(0);
            if year == 0 { format!("0000-{rest}") } else { format!("-{:04}-{rest}", -year) }
        }
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_spelled_alike_and_others_not() {
        let same = |class, a: (System, &str, &str), b: (System, &str, &str)| {
            canonical(class, a.0, a.1, a.2) == canonical(class, b.0, b.1, b.2)
        };
        use System::{MySql, PostgreSql, Sqlite};
        assert!(same(Class::Number, (PostgreSql, "numeric", "1.100"), (Sqlite, "DECIMAL", "real:1.1")));
        assert!(!same(Class::Number, (PostgreSql, "numeric", "1.1"), (MySql, "decimal", "1.11")));
        assert!(same(Class::Number, (MySql, "bit(8)", "AA"), (PostgreSql, "bigint", "170")));
        assert!(same(Class::Number, (PostgreSql, "numeric", "-0.00"), (MySql, "decimal", "0")));
        assert!(same(
            Class::Timestamp,
            (PostgreSql, "", "0044-03-15 12:00:00 BC"),
            (Sqlite, "", "text:-0043-03-15 12:00:00")
        ));
        assert!(!same(Class::Timestamp, (PostgreSql, "", "2024-01-01 00:00:01"), (MySql, "", "2024-01-01 00:00:00")));
        assert!(same(
            Class::Instant,
            (PostgreSql, "", "2024-01-01 00:00:01+00"),
            (Sqlite, "", "text:2024-01-01 00:00:01Z")
        ));
        assert!(!same(Class::Double, (PostgreSql, "", "-0"), (MySql, "", "0")));
        assert!(same(Class::Json, (PostgreSql, "", r#"{"b":1e2, "a":[]}"#), (MySql, "", r#"{"a": [], "b": 100.0}"#)));
        assert!(!same(Class::Json, (PostgreSql, "", "12345678901234567890123"), (MySql, "", "1.2345678901234568e22")));
    }
}
