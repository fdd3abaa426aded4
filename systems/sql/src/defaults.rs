//! Default values that go from one system to another.
//!
//! A source tells a default as its plain text. Whether a column of another type at another system takes it is decided
//! here by that column's kind, so that no table fails to be made for a default that does not carry over.

use weir_core::ColumnDefault;

/// What kind of values a column takes, as far as its default is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultKind {
    /// Truth values.
    Boolean,
    /// Whole numbers.
    Integer,
    /// Numbers.
    Number,
    /// Texts, at most of so many characters.
    Text(Option<u64>),
    /// Days.
    Date,
    /// Times of day.
    Time,
    /// Days with a time of day.
    DateTime,
    /// Anything else: no default carries over.
    Other,
}

/// A default that a column takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlainDefault {
    /// A truth value.
    Boolean(bool),
    /// A number as its digits, to stand as it is.
    Number(String),
    /// A text to stand in quotes.
    Quoted(String),
    /// The moment, the day or the time of the insert, as the column's kind is.
    Now,
}

/// What a column of `kind` takes of a source's default; `None` when it does not carry over.
pub fn carried(default: &ColumnDefault, kind: DefaultKind) -> Option<PlainDefault> {
    let text = match default {
        ColumnDefault::Expression(_) => return None,
        ColumnDefault::Now => {
            let timed = matches!(kind, DefaultKind::Date | DefaultKind::Time | DefaultKind::DateTime);
            return timed.then_some(PlainDefault::Now);
        }
        ColumnDefault::Literal(text) => text,
    };
    let quoted = || Some(PlainDefault::Quoted(text.clone()));
    match kind {
        DefaultKind::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Some(PlainDefault::Boolean(true)),
            "false" | "f" | "0" => Some(PlainDefault::Boolean(false)),
            _ => None,
        },
        DefaultKind::Integer => match text.as_str() {
            "true" => Some(PlainDefault::Number("1".into())),
            "false" => Some(PlainDefault::Number("0".into())),
            _ => text.parse::<i128>().ok().map(|n| PlainDefault::Number(n.to_string())),
        },
        DefaultKind::Number => is_number(text).then(|| PlainDefault::Number(text.clone())),
        DefaultKind::Text(longest) => longest.is_none_or(|n| text.chars().count() as u64 <= n).then(quoted).flatten(),
        DefaultKind::Date => is_date(text).then(quoted).flatten(),
        DefaultKind::Time => is_time(text).then(quoted).flatten(),
        DefaultKind::DateTime => {
            let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
            (is_date(date) && is_time(time)).then(quoted).flatten()
        }
        DefaultKind::Other => None,
    }
}

fn is_number(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    plain && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// `2024-02-29`; no day or month 0, which only MySQL has.
fn is_date(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut next = |digits: usize, range: std::ops::RangeInclusive<u32>| {
        parts.next().is_some_and(|p| p.len() == digits && p.parse().is_ok_and(|n| range.contains(&n)))
    };
    next(4, 1..=9999) && next(2, 1..=12) && next(2, 1..=31) && parts.next().is_none()
}

/// `12:00`, `12:00:00`, `12:00:00.5`.
fn is_time(text: &str) -> bool {
    let mut parts = text.split(':');
    let whole =
        |part: Option<&str>, most: u32| part.is_some_and(|p| p.len() == 2 && p.parse::<u32>().is_ok_and(|n| n <= most));
    let hours = whole(parts.next(), 23) && whole(parts.next(), 59);
    let seconds = match parts.next() {
        None => true,
        Some(text) => {
            let (seconds, rest) = text.split_once('.').unwrap_or((text, "0"));
            whole(Some(seconds), 59) && !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit())
        }
    };
    hours && seconds && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_carry_over_where_the_column_takes_them() {
        let of = |text: &str, kind| carried(&ColumnDefault::Literal(text.into()), kind);
        let quoted = |text: &str| Some(PlainDefault::Quoted(text.into()));
        let number = |text: &str| Some(PlainDefault::Number(text.into()));
        assert_eq!(of("1", DefaultKind::Boolean), Some(PlainDefault::Boolean(true)));
        assert_eq!(of("true", DefaultKind::Integer), number("1"));
        assert_eq!(of("+5", DefaultKind::Integer), number("5"));
        assert_eq!(of("5.0", DefaultKind::Integer), None);
        assert_eq!(of("4.99", DefaultKind::Number), number("4.99"));
        assert_eq!(of("nan", DefaultKind::Number), None);
        assert_eq!(of("new", DefaultKind::Text(Some(3))), quoted("new"));
        assert_eq!(of("newer", DefaultKind::Text(Some(3))), None);
        assert_eq!(of("2024-02-29", DefaultKind::Date), quoted("2024-02-29"));
        assert_eq!(of("0000-00-00", DefaultKind::Date), None);
        assert_eq!(of("2024-02-29 12:00:00.5", DefaultKind::DateTime), quoted("2024-02-29 12:00:00.5"));
        assert_eq!(of("infinity", DefaultKind::DateTime), None);
        assert_eq!(of("24:00", DefaultKind::Time), None);
        assert_eq!(of("{}", DefaultKind::Other), None);
        assert_eq!(carried(&ColumnDefault::Now, DefaultKind::Date), Some(PlainDefault::Now));
        assert_eq!(carried(&ColumnDefault::Now, DefaultKind::Text(None)), None);
        assert_eq!(carried(&ColumnDefault::Expression("uuid()".into()), DefaultKind::Text(None)), None);
    }
}
