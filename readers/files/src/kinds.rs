//! What a column of a text file holds, and how a field becomes a value of it.

use arrow::datatypes::{DataType, Field, TimeUnit};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};
use weir_core::field::{DECIMAL, JSON, extension, with_extension, with_native_type};
use weir_files::Pattern;

/// The type of a column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Int64,
    UInt64,
    Float64,
    Bool,
    Date,
    /// Whether nanoseconds, whether an instant.
    Timestamp(bool, bool),
    Decimal128(u8, i8),
    Decimal256(u8, i8),
    DecimalText,
    Json,
    Bytes,
    Text,
}

impl Kind {
    /// Understands a `type` of the job's column list. `format` decides between a date and a timestamp.
    pub(crate) fn parse(text: &str, pattern: Option<&Pattern>, data_x: bool) -> Result<Self, String> {
        let lower = text.trim().to_ascii_lowercase();
        let timed = pattern.is_some_and(Pattern::has_time) || (pattern.is_none() && data_x);
        let zoned = pattern.is_some_and(Pattern::has_zone);
        Ok(match lower.as_str() {
            "long" | "int" | "integer" | "bigint" | "int64" => Self::Int64,
            "ulong" | "uint64" => Self::UInt64,
            "double" | "float" | "float64" => Self::Float64,
            "string" | "text" | "varchar" | "utf8" => Self::Text,
            "boolean" | "bool" => Self::Bool,
            "date" if timed => Self::Timestamp(false, zoned),
            "date" => Self::Date,
            "timestamp" | "datetime" => Self::Timestamp(false, zoned),
            "instant" | "timestamptz" => Self::Timestamp(false, true),
            "bytes" | "binary" => Self::Bytes,
            "json" => Self::Json,
            "decimal" | "numeric" => Self::DecimalText,
            _ => Self::decimal(&lower).ok_or_else(|| {
                format!(
                    "`{text}` is no known type: use long, double, string, boolean, date, bytes, decimal(p,s), timestamp, \
                     instant or json"
                )
            })?,
        })
    }

    fn decimal(text: &str) -> Option<Self> {
        let inner = text.strip_prefix("decimal(").or(text.strip_prefix("numeric("))?.strip_suffix(')')?;
        let (precision, scale) = inner.split_once(',').unwrap_or((inner, "0"));
        let (precision, scale) = (precision.trim().parse::<u8>().ok()?, scale.trim().parse::<i8>().ok()?);
        if precision == 0 || precision > 76 || scale < 0 || scale as u8 > precision {
            return None;
        }
        Some(if precision <= 38 { Self::Decimal128(precision, scale) } else { Self::Decimal256(precision, scale) })
    }

    /// The kind of a column that was planned as `field`: what a task knows is the field, not the job's text.
    pub(crate) fn of(field: &Field) -> Option<Self> {
        Some(match (field.data_type(), extension(field)) {
            (DataType::Int64, _) => Self::Int64,
            (DataType::UInt64, _) => Self::UInt64,
            (DataType::Float64, _) => Self::Float64,
            (DataType::Boolean, _) => Self::Bool,
            (DataType::Date32, _) => Self::Date,
            (DataType::Timestamp(TimeUnit::Microsecond, zone), _) => Self::Timestamp(false, zone.is_some()),
            (DataType::Timestamp(TimeUnit::Nanosecond, zone), _) => Self::Timestamp(true, zone.is_some()),
            (DataType::Decimal128(p, s), _) => Self::Decimal128(*p, *s),
            (DataType::Decimal256(p, s), _) => Self::Decimal256(*p, *s),
            (DataType::Binary, _) => Self::Bytes,
            (DataType::Utf8, Some(DECIMAL)) => Self::DecimalText,
            (DataType::Utf8, Some(JSON)) => Self::Json,
            (DataType::Utf8, _) => Self::Text,
            _ => return None,
        })
    }

    /// The canonical Arrow field of a column.
    pub(crate) fn field(&self, name: &str) -> Field {
        let (data_type, extension) = match self {
            Self::Int64 => (DataType::Int64, None),
            Self::UInt64 => (DataType::UInt64, None),
            Self::Float64 => (DataType::Float64, None),
            Self::Bool => (DataType::Boolean, None),
            Self::Date => (DataType::Date32, None),
            Self::Timestamp(nanos, zone) => {
                let unit = if *nanos { TimeUnit::Nanosecond } else { TimeUnit::Microsecond };
                (DataType::Timestamp(unit, zone.then(|| "UTC".into())), None)
            }
            Self::Decimal128(p, s) => (DataType::Decimal128(*p, *s), None),
            Self::Decimal256(p, s) => (DataType::Decimal256(*p, *s), None),
            Self::DecimalText => (DataType::Utf8, Some(DECIMAL)),
            Self::Json => (DataType::Utf8, Some(JSON)),
            Self::Bytes => (DataType::Binary, None),
            Self::Text => (DataType::Utf8, None),
        };
        let field = Field::new(name, data_type, true);
        let field = extension.map_or(field.clone(), |e| with_extension(field, e));
        with_native_type(field, "files", &self.name())
    }

    /// The type as the plan shows it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Int64 => "long".into(),
            Self::UInt64 => "ulong".into(),
            Self::Float64 => "double".into(),
            Self::Bool => "boolean".into(),
            Self::Date => "date".into(),
            Self::Timestamp(_, false) => "timestamp".into(),
            Self::Timestamp(_, true) => "instant".into(),
            Self::Decimal128(p, s) => format!("decimal({p},{s})"),
            Self::Decimal256(p, s) => format!("decimal({p},{s})"),
            Self::DecimalText => "decimal".into(),
            Self::Json => "json".into(),
            Self::Bytes => "bytes".into(),
            Self::Text => "string".into(),
        }
    }

    /// Bytes of a value in a batch, beside the text itself.
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Decimal128(..) => 16,
            Self::Decimal256(..) => 32,
            Self::Bool => 1,
            Self::Date | Self::DecimalText | Self::Json | Self::Bytes | Self::Text => 4,
            _ => 8,
        }
    }
}

pub(crate) fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| match text.strip_prefix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit()) {
        true if !text.is_empty() => {
            format!("`{text}` is beyond 64-bit integers: give the column the type decimal or string")
        }
        _ => format!("`{}` is no integer", short(text)),
    })
}

pub(crate) fn unsigned(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{}` is no unsigned 64-bit integer", short(text)))
}

/// A float, exactly as far as a double goes: up to 17 significant digits always identify one.
pub(crate) fn float(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().map_err(|_| format!("`{}` is no number", short(text)))?;
    if text.len() > 18 && significant(text) > 17 {
        return Err(format!("`{}` has more digits than a double holds: give the column the type decimal", short(text)));
    }
    Ok(value)
}

fn significant(text: &str) -> usize {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).skip_while(|b| *b == b'0').collect();
    digits.iter().rposition(|b| *b != b'0').map_or(0, |last| last + 1)
}

pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "t" => Ok(true),
        "false" | "0" | "f" => Ok(false),
        _ if text.eq_ignore_ascii_case("true") => Ok(true),
        _ if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(format!("`{}` is neither true nor false", short(text))),
    }
}

/// The digits of a decimal as an integer of `scale`; nothing is rounded.
pub(crate) fn decimal(text: &str, precision: u8, scale: i8) -> Result<i128, String> {
    let wrong = || format!("`{}` is no decimal", short(text));
    let misfit = || format!("`{}` does not fit decimal({precision},{scale})", short(text));
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (mut value, mut decimals, mut point, mut any) = (0i128, 0i8, false, false);
    for &b in digits {
        match b {
            b'0'..=b'9' => {
                any = true;
                if point && decimals == scale {
                    if b != b'0' {
                        return Err(misfit());
                    }
                    continue;
                }
                decimals += i8::from(point);
                value = value.checked_mul(10).and_then(|v| v.checked_add(i128::from(b - b'0'))).ok_or_else(misfit)?;
            }
            b'.' if !point => point = true,
            _ => return Err(wrong()),
        }
    }
    if !any {
        return Err(wrong());
    }
    let value = 10i128.checked_pow((scale - decimals) as u32).and_then(|f| value.checked_mul(f)).ok_or_else(misfit)?;
    if precision < 38 && value >= 10i128.pow(u32::from(precision)) || precision == 38 && value >= 10i128.pow(38) {
        return Err(misfit());
    }
    Ok(if negative { -value } else { value })
}

/// Digits without an exponent, to be kept as they are.
pub(crate) fn decimal_text(text: &str) -> Result<&str, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if (plain(whole) && plain(fraction)) || matches!(text, "NaN" | "Infinity" | "-Infinity") {
        return Ok(text);
    }
    Err(format!("`{}` is no decimal", short(text)))
}

/// `2024-02-29`, as days since 1970.
pub(crate) fn date(text: &str, pattern: Option<&Pattern>) -> Result<i32, String> {
    let date = match pattern {
        Some(pattern) => Some(pattern.parse(text)?.local.date()),
        None => iso_date(text.as_bytes()).filter(|(_, rest)| rest.is_empty()).map(|(date, _)| date),
    };
    let date = date.ok_or_else(|| format!("`{}` is no date like 2024-02-29", short(text)))?;
    Ok((date - NaiveDate::default()).num_days() as i32)
}

/// The date at the start of a text, and what follows it. A year before 0 or after 9999 has a sign, as ISO 8601 has it; no
/// other year has, so that each date has one text.
fn iso_date(text: &[u8]) -> Option<(NaiveDate, &[u8])> {
    let number =
        |digits: &[u8]| digits.iter().try_fold(0u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')));
    let (year, rest) = match text {
        [sign @ (b'-' | b'+'), rest @ ..] => {
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let (year, rest) = rest.split_at(digits);
            let plain = match sign {
                b'-' => digits == 4 && year != b"0000" || digits > 4 && year[0] != b'0',
                _ => digits > 4 && year[0] != b'0',
            };
            let year = number(year).filter(|_| plain && digits <= 6)? as i32;
            (if *sign == b'-' { -year } else { year }, rest)
        }
        [a, b, c, d, rest @ ..] => (number(&[*a, *b, *c, *d])? as i32, rest),
        _ => return None,
    };
    let [b'-', e, f, b'-', g, h, rest @ ..] = rest else { return None };
    Some((NaiveDate::from_ymd_opt(year, number(&[*e, *f])?, number(&[*g, *h])?)?, rest))
}

/// `2024-02-29 17:05:09.123456`, also with `T`, an offset, or without a time of day.
pub(crate) fn moment(text: &str) -> Option<(NaiveDateTime, Option<i32>, usize)> {
    let (day, rest) = iso_date(text.as_bytes())?;
    if rest.is_empty() {
        return Some((day.and_time(NaiveTime::MIN), None, 0));
    }
    let [b' ' | b'T' | b't', a, b, b':', c, d, rest @ ..] = rest else { return None };
    let number = |a: u8, b: u8| {
        (a.is_ascii_digit() && b.is_ascii_digit()).then(|| u32::from(a - b'0') * 10 + u32::from(b - b'0'))
    };
    let (hour, minute) = (number(*a, *b)?, number(*c, *d)?);
    let (second, mut rest) = match rest {
        [b':', a, b, rest @ ..] => (number(*a, *b)?, rest),
        rest => (0, rest),
    };
    let (mut nanos, mut digits) = (0, 0);
    if let [b'.' | b',', fraction @ ..] = rest {
        digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 || digits > 9 {
            return None;
        }
        let value = fraction[..digits].iter().fold(0u32, |n, b| n * 10 + u32::from(b - b'0'));
        nanos = value * 10u32.pow(9 - digits as u32);
        rest = &fraction[digits..];
    }
    let offset = match rest {
        [] => None,
        [b'Z' | b'z'] | b" UTC" | b"UTC" => Some(0),
        _ => {
            let rest = rest.strip_prefix(b" ").unwrap_or(rest);
            let (sign, a, b, c, d) = match rest {
                [sign, a, b] => (sign, a, b, &b'0', &b'0'),
                [sign, a, b, c, d] | [sign, a, b, b':', c, d] => (sign, a, b, c, d),
                _ => return None,
            };
            let seconds = (number(*a, *b)? * 3600 + number(*c, *d)? * 60) as i32;
            Some(match sign {
                b'+' => seconds,
                b'-' => -seconds,
                _ => return None,
            })
        }
    };
    Some((day.and_time(NaiveTime::from_hms_nano_opt(hour, minute, second, nanos)?), offset, digits))
}

/// A timestamp in micro- or nanoseconds. An instant without an offset is read as UTC.
pub(crate) fn timestamp(text: &str, pattern: Option<&Pattern>, nanos: bool, instant: bool) -> Result<i64, String> {
    let wrong = || format!("`{}` is no timestamp like 2024-02-29 17:05:09", short(text));
    let (local, offset) = match pattern {
        Some(pattern) => {
            let moment = pattern.parse(text)?;
            (moment.local, moment.offset)
        }
        None => moment(text).map(|(local, offset, _)| (local, offset)).ok_or_else(wrong)?,
    };
    if offset.is_some() && !instant {
        return Err(format!("`{}` has an offset: give the column the type instant", short(text)));
    }
    let offset = chrono::TimeDelta::seconds(i64::from(offset.unwrap_or(0)));
    let at: DateTime<chrono::Utc> = local.and_utc().checked_sub_signed(offset).ok_or_else(wrong)?;
    if nanos {
        return at.timestamp_nanos_opt().ok_or_else(|| format!("`{}` is beyond nanosecond timestamps", short(text)));
    }
    if !at.timestamp_subsec_nanos().is_multiple_of(1000) {
        return Err(format!("`{}` is finer than microseconds", short(text)));
    }
    Ok(at.timestamp_micros())
}

/// Bytes as hexadecimal digits, `\x6869` or `6869`.
pub(crate) fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.strip_prefix("\\x").or(text.strip_prefix("0x")).unwrap_or(text).as_bytes();
    let wrong = || format!("`{}` is no hexadecimal text", short(text));
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(wrong());
    }
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8).ok_or_else(wrong);
    pairs.iter().map(|[a, b]| Ok(digit(*a)? << 4 | digit(*b)?)).collect()
}

/// The start of a text, for messages.
pub(crate) fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_exact_or_refused() {
        assert_eq!(decimal("-12.340", 5, 2), Ok(-1234));
        assert_eq!(decimal("7", 5, 2), Ok(700));
        for (text, p, s) in [("1.234", 9, 2), ("1000", 5, 2), ("1e3", 9, 0), ("", 9, 0), (".", 9, 2), ("1.2.3", 9, 2)] {
            assert!(decimal(text, p, s).is_err(), "{text}");
        }
        assert!(decimal(&"9".repeat(39), 38, 0).is_err());
        assert!(float("0.1234567890123456789").is_err());
        assert_eq!(float("0.30000000000000004"), Ok(0.1 + 0.2));
        assert_eq!(date("2024-02-29", None), Ok(19782));
        assert!(date("2023-02-29", None).is_err() && date("2024-02-29x", None).is_err());
        assert_eq!(date("-0043-03-15", None), Ok(-735_160));
        assert_eq!((date("0000-01-01", None), date("+10000-01-01", None)), (Ok(-719_528), Ok(2_932_897)));
        for odd in
            ["+2024-01-01", "-0000-01-01", "-43-03-15", "-00043-03-15", "+262143-01-01", "10000-01-01", "-0043-03-15 "]
        {
            assert!(date(odd, None).is_err() && timestamp(odd, None, false, false).is_err(), "{odd}");
        }
        assert_eq!(timestamp("-0043-03-15 12:00:00", None, false, false), Ok(-63_517_780_800_000_000));
        assert!(timestamp("+262142-12-31 23:59:59-18:00", None, false, true).is_err());
        assert_eq!(timestamp("1970-01-01 00:00:01.5", None, false, false), Ok(1_500_000));
        assert_eq!(timestamp("1970-01-01T01:00:00+01:00", None, true, true), Ok(0));
        assert!(timestamp("1970-01-01T01:00:00Z", None, false, false).is_err());
        assert!(timestamp("1970-01-01 00:00:00.1234567", None, false, false).is_err());
        assert_eq!(hex("\\x00fF"), Ok(vec![0, 255]));
        assert!(hex("abc").is_err() && hex("zz").is_err());
        assert!(integer("9223372036854775808").unwrap_err().contains("decimal"));
    }
}
