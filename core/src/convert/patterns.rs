//! Date patterns in the notation of Java's SimpleDateFormat, which DataX jobs are written in: `yyyy-MM-dd HH:mm:ss.SSS`.

use std::fmt::Write;

use super::calendar::{civil, days};
use crate::{Error, Result};

/// A compiled pattern.
///
/// Known letters: `y` year, `M` month (`MMM` English short name, `MMMM` English name), `d` day, `H` hour 0–23, `k` hour
/// 1–24, `h` hour 1–12 with `a` AM/PM, `m` minute, `s` second, `S` decimals of the second, `E` weekday, `z`, `Z`, `X`
/// offset; text between apostrophes is literal. A letter repeated gives the least digits; a number is read as far as
/// its digits go, or exactly that many when another number follows at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field(char, usize),
}

/// What a text said of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// Days from 1970-01-01, where the text has a date.
    pub days: Option<i64>,
    /// Nanoseconds of the day, where the text has a time.
    pub nanos: Option<i64>,
    /// Seconds east of UTC, where the text has an offset.
    pub offset: Option<i64>,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) for an unknown letter or an open apostrophe.
    pub fn new(text: &str) -> Result<Self> {
        let mut parts: Vec<Part> = Vec::new();
        let literal = |parts: &mut Vec<Part>, c: char| match parts.last_mut() {
            Some(Part::Literal(text)) => text.push(c),
            _ => parts.push(Part::Literal(c.to_string())),
        };
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\'' if chars.next_if_eq(&'\'').is_some() => literal(&mut parts, '\''),
                '\'' => loop {
                    match chars.next() {
                        Some('\'') if chars.next_if_eq(&'\'').is_some() => literal(&mut parts, '\''),
                        Some('\'') => break,
                        Some(c) => literal(&mut parts, c),
                        None => {
                            return Err(Error::config(format!(
                                "the date format `{text}` has an apostrophe that is not closed"
                            )));
                        }
                    }
                },
                'y' | 'M' | 'd' | 'H' | 'k' | 'h' | 'K' | 'a' | 'm' | 's' | 'S' | 'E' | 'z' | 'Z' | 'X' | 'u' => {
                    let mut count = 1;
                    while chars.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    // No number has more digits; and a width has a limit, past which formatting panics.
                    parts.push(Part::Field(if c == 'u' { 'y' } else { c }, count.min(18)));
                }
                c if c.is_ascii_alphabetic() => {
                    return Err(Error::config(format!(
                        "the date format `{text}` has the letter `{c}`, which stands for nothing here; known are \
                         y M d H k h K a m s S E z Z X, and text between apostrophes"
                    )));
                }
                c => literal(&mut parts, c),
            }
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern shows an offset from UTC.
    pub(super) fn has_offset(&self) -> bool {
        self.parts.iter().any(|p| matches!(p, Part::Field('z' | 'Z' | 'X', _)))
    }

    /// Reads all of `text`; `None` where it does not fit the pattern.
    pub fn parse(&self, text: &str) -> Option<Moment> {
        let mut rest = text;
        let (mut year, mut month, mut day) = (None, None, None);
        let (mut hour, mut half, mut minute, mut second, mut fraction) = (None, None, None, None, None);
        let mut offset = None;
        for (i, part) in self.parts.iter().enumerate() {
            match part {
                Part::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Part::Field('a', _) => {
                    let (word, after) = rest.split_at_checked(2)?;
                    half = Some(if word.eq_ignore_ascii_case("am") {
                        0
                    } else if word.eq_ignore_ascii_case("pm") {
                        12
                    } else {
                        return None;
                    });
                    rest = after;
                }
                Part::Field('E', _) => {
                    let (_, after) = name(rest, &WEEKDAYS)?;
                    rest = after;
                }
                Part::Field('M', 3..) => {
                    let (index, after) = name(rest, &MONTHS)?;
                    month = Some(index as i64 + 1);
                    rest = after;
                }
                Part::Field('z' | 'Z' | 'X', _) => {
                    let (seconds, after) = read_offset(rest)?;
                    offset = Some(seconds);
                    rest = after;
                }
                Part::Field(letter, count) => {
                    let number = |part: Option<&Part>| matches!(part, Some(Part::Field(l, n)) if is_number(*l, *n));
                    // Numbers without anything between them are told apart by their widths.
                    let exact =
                        *letter != 'S' && (number(self.parts.get(i + 1)) || (i > 0 && number(self.parts.get(i - 1))));
                    let negative = *letter == 'y' && !exact && rest.starts_with('-');
                    let digits = &rest[usize::from(negative)..];
                    let most = if exact { *count } else { 18 };
                    let end = digits.bytes().take(most).take_while(u8::is_ascii_digit).count();
                    if end == 0 || (exact && end < *count) {
                        return None;
                    }
                    let mut value: i64 = digits[..end].parse().ok()?;
                    if negative {
                        value = -value;
                    }
                    match letter {
                        // Two digits of two mean this century or the last, as in Java: 80 years back, 20 ahead.
                        'y' if *count == 2 && end == 2 => year = Some(value + if value < 70 { 2000 } else { 1900 }),
                        'y' => year = Some(value),
                        'M' => month = Some(value),
                        'd' => day = Some(value),
                        'H' => hour = Some((value, 0..=23)),
                        'k' => hour = Some((value % 24, 0..=23)),
                        'h' => hour = Some((value % 12 + if value > 12 { 99 } else { 0 }, 0..=11)),
                        'K' => hour = Some((value, 0..=11)),
                        'm' => minute = Some(value),
                        's' => second = Some(value),
                        _ => {
                            let nanos = if end <= 9 { value * 10_i64.pow(9 - end as u32) } else { return None };
                            fraction = Some(nanos);
                        }
                    }
                    rest = &digits[end..];
                }
            }
        }
        if !rest.is_empty() {
            return None;
        }
        let mut moment = Moment { offset, ..Moment::default() };
        if let Some(year) = year {
            let (month, day) = (u32::try_from(month.unwrap_or(1)).ok()?, u32::try_from(day.unwrap_or(1)).ok()?);
            moment.days = Some(days(year, month, day)?);
        }
        if hour.is_some() || minute.is_some() || second.is_some() {
            let (hour, allowed) = hour.unwrap_or((0, 0..=23));
            let (minute, second) = (minute.unwrap_or(0), second.unwrap_or(0));
            if !allowed.contains(&hour) || minute > 59 || second > 59 {
                return None;
            }
            let seconds = (hour + half.unwrap_or(0)) * 3600 + minute * 60 + second;
            moment.nanos = Some(seconds * 1_000_000_000 + fraction.unwrap_or(0));
        }
        (moment.days.is_some() || moment.nanos.is_some()).then_some(moment)
    }

    /// Writes a local moment.
    pub(super) fn write(&self, day: i64, nanos: i64, offset: i64, out: &mut String) {
        let (year, month, day_of_month) = civil(day);
        let seconds = nanos / 1_000_000_000;
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        for part in &self.parts {
            let _ = match part {
                Part::Literal(text) => out.write_str(text),
                Part::Field(letter, count) => {
                    let width = *count;
                    match letter {
                        'y' if width == 2 => write!(out, "{:02}", year.rem_euclid(100)),
                        'y' => write!(out, "{year:0width$}"),
                        'M' if width >= 4 => out.write_str(MONTHS[month as usize - 1]),
                        'M' if width == 3 => out.write_str(&MONTHS[month as usize - 1][..3]),
                        'M' => write!(out, "{month:0width$}"),
                        'd' => write!(out, "{day_of_month:0width$}"),
                        'H' => write!(out, "{hour:0width$}"),
                        'k' => write!(out, "{:0width$}", if hour == 0 { 24 } else { hour }),
                        'h' => write!(out, "{:0width$}", if hour % 12 == 0 { 12 } else { hour % 12 }),
                        'K' => write!(out, "{:0width$}", hour % 12),
                        'a' => out.write_str(if hour < 12 { "AM" } else { "PM" }),
                        'm' => write!(out, "{minute:0width$}"),
                        's' => write!(out, "{second:0width$}"),
                        'S' => {
                            let digits = format!("{:09}", nanos % 1_000_000_000);
                            write!(out, "{:0<width$}", &digits[..width.min(9)])
                        }
                        'E' => {
                            let name = WEEKDAYS[day.rem_euclid(7) as usize];
                            out.write_str(if width >= 4 { name } else { &name[..3] })
                        }
                        _ => {
                            let (sign, size) = if offset < 0 { ('-', -offset) } else { ('+', offset) };
                            let colon = if *letter == 'X' && width == 3 || *letter == 'z' { ":" } else { "" };
                            match letter {
                                'X' if offset == 0 => out.write_str("Z"),
                                'X' if width == 1 => write!(out, "{sign}{:02}", size / 3600),
                                _ => write!(out, "{sign}{:02}{colon}{:02}", size / 3600, size / 60 % 60),
                            }
                        }
                    }
                }
            };
        }
    }
}

/// A count of `per` parts a second as whole seconds and the parts beside, never negative.
pub(super) fn seconds_of(count: i64, per: i64) -> (i64, i64) {
    (count.div_euclid(per), count.rem_euclid(per))
}

fn is_number(letter: char, count: usize) -> bool {
    !matches!((letter, count), ('a' | 'E' | 'z' | 'Z' | 'X', _) | ('M', 3..))
}

/// The longest English name, or its first three letters, at the start of `text`.
fn name<'a>(text: &'a str, names: &[&str]) -> Option<(usize, &'a str)> {
    let starts = |n: &str| text.get(..n.len()).is_some_and(|t| t.eq_ignore_ascii_case(n));
    let (index, length) = names
        .iter()
        .enumerate()
        .flat_map(|(i, n)| [(i, *n), (i, &n[..3])])
        .filter(|(_, n)| starts(n))
        .map(|(i, n)| (i, n.len()))
        .max_by_key(|(_, length)| *length)?;
    Some((index, &text[length..]))
}

/// An offset at the start of `text`: `Z`, `UTC`, `GMT`, `+08`, `+0800`, `+08:00`, `+00:53:28`, in seconds.
pub(super) fn read_offset(text: &str) -> Option<(i64, &str)> {
    for (name, length) in [("UTC", 3), ("GMT", 3), ("Z", 1)] {
        if text.get(..length).is_some_and(|t| t.eq_ignore_ascii_case(name)) {
            let rest = &text[length..];
            return match rest.starts_with(['+', '-']) && length == 3 {
                true => read_offset(rest),
                false => Some((0, rest)),
            };
        }
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let bytes = text.as_bytes();
    let two = |at: usize| {
        let (a, b) = (*bytes.get(at)?, *bytes.get(at + 1)?);
        (a.is_ascii_digit() && b.is_ascii_digit()).then(|| i64::from(a - b'0') * 10 + i64::from(b - b'0'))
    };
    let hours = two(1)?;
    let mut seconds = hours * 3600;
    let mut at = 3;
    for unit in [60, 1] {
        let colon = usize::from(bytes.get(at) == Some(&b':'));
        let Some(value) = two(at + colon) else { break };
        if value > 59 {
            return None;
        }
        seconds += value * unit;
        at += colon + 2;
    }
    (hours <= 18).then_some((sign * seconds, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pattern: &str, text: &str) -> Option<String> {
        let moment = Pattern::new(pattern).unwrap().parse(text)?;
        let mut out = String::new();
        let iso = Pattern::new("yyyy-MM-dd HH:mm:ss.SSSSSSSSS").unwrap();
        iso.write(moment.days.unwrap_or(0), moment.nanos.unwrap_or(0), 0, &mut out);
        Some(out)
    }

    #[test]
    fn texts_are_read_to_their_end() {
        for (pattern, text, expected) in [
            ("yyyyMMdd", "20240229", Some("2024-02-29 00:00:00.000000000")),
            ("yyyyMMdd", "20230229", None),
            ("yyyyMMdd", "2024022", None),
            ("yyyyMMddHHmmss", "20240131123456", Some("2024-01-31 12:34:56.000000000")),
            ("dd/MM/yyyy", "31/01/2024", Some("2024-01-31 00:00:00.000000000")),
            ("dd/MM/yyyy", "31/01/2024 ", None),
            ("d.M.yy", "1.2.24", Some("2024-02-01 00:00:00.000000000")),
            ("d MMM yyyy", "5 may 1999", Some("1999-05-05 00:00:00.000000000")),
            ("d MMMM yyyy", "5 September 1999", Some("1999-09-05 00:00:00.000000000")),
            ("hh:mm a", "12:05 AM", Some("1970-01-01 00:05:00.000000000")),
            ("hh:mm a", "01:05 pm", Some("1970-01-01 13:05:00.000000000")),
            ("HH:mm", "24:00", None),
            ("yyyy-MM-dd'T'HH:mm:ss.SSS", "2024-01-31T01:02:03.45", Some("2024-01-31 01:02:03.450000000")),
            ("yyyy-MM-dd HH:mm:ss", "2024-01-31", None),
        ] {
            assert_eq!(shown(pattern, text).as_deref(), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn moments_are_written_as_java_writes_them() {
        let day = days(2024, 1, 31).unwrap();
        let nanos = (13 * 3600 + 4 * 60 + 5) * 1_000_000_000 + 6_000_000;
        for (pattern, expected) in [
            ("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "2024-01-31T13:04:05.006+01:00"),
            ("EEE, d MMM yy h:m:s a Z", "Wed, 31 Jan 24 1:4:5 PM +0100"),
            ("''yyyy''", "'2024'"),
        ] {
            let mut out = String::new();
            Pattern::new(pattern).unwrap().write(day, nanos, 3600, &mut out);
            assert_eq!(out, expected);
        }
        assert!(Pattern::new("yyyy-bb").unwrap_err().message().contains("`b`"));
        assert!(Pattern::new("yyyy'T").is_err());
    }

    #[test]
    fn offsets_are_read() {
        for (text, expected) in [
            ("Z", Some(0)),
            ("+08:00", Some(28_800)),
            ("-0330", Some(-12_600)),
            ("+05", Some(18_000)),
            ("UTC+1", None),
            ("GMT+01", Some(3_600)),
            ("+00:53:28", Some(3_208)),
            ("+25:00", None),
            ("CET", None),
        ] {
            assert_eq!(read_offset(text).map(|o| o.0), expected, "{text}");
        }
    }
}
