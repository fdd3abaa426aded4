//! Date patterns as Java's SimpleDateFormat has them, `yyyy-MM-dd HH:mm:ss.SSS`, for that is what DataX jobs write.
//!
//! Understood: `y M d H h m s S a E Z X z` (`z` reads UTC, GMT and offsets), quoted text, and any other sign as itself.
//! Digits are read as many as the letter is repeated when another letter follows at once (`yyyyMMdd`), else as many as
//! there are. `S` counts milliseconds when it stands three times or less; longer runs are fractions to nanoseconds.

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Letter { letter: char, count: usize },
    Literal(String),
}

/// A point in time as a text gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Date and time of day as written.
    pub local: NaiveDateTime,
    /// Seconds east of Greenwich, where the text says so.
    pub offset: Option<i32>,
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
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// A text that names the letter that is not understood.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text.chars().peekable();
        let literal = |parts: &mut Vec<Part>, c: char| match parts.last_mut() {
            Some(Part::Literal(text)) => text.push(c),
            _ => parts.push(Part::Literal(c.to_string())),
        };
        while let Some(c) = rest.next() {
            if c == '\'' {
                if rest.next_if_eq(&'\'').is_some() {
                    literal(&mut parts, '\'');
                    continue;
                }
                loop {
                    match rest.next() {
                        Some('\'') if rest.next_if_eq(&'\'').is_some() => literal(&mut parts, '\''),
                        Some('\'') => break,
                        Some(other) => literal(&mut parts, other),
                        None => return Err(format!("date pattern `{text}`: a quote is not closed")),
                    }
                }
            } else if c.is_ascii_alphabetic() {
                let mut count = 1;
                while rest.next_if_eq(&c).is_some() {
                    count += 1;
                }
                if !"yMdHhmsSaEZXz".contains(c) {
                    return Err(format!(
                        "date pattern `{text}`: the letter `{c}` is not understood; quote it as '{c}'"
                    ));
                }
                parts.push(Part::Letter { letter: c, count });
            } else {
                literal(&mut parts, c);
            }
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Whether it has a time of day.
    pub fn has_time(&self) -> bool {
        self.parts.iter().any(|p| matches!(p, Part::Letter { letter: 'H' | 'h' | 'm' | 's' | 'S', .. }))
    }

    /// Whether it has a zone or offset.
    pub fn has_zone(&self) -> bool {
        self.parts.iter().any(|p| matches!(p, Part::Letter { letter: 'Z' | 'X' | 'z', .. }))
    }

    /// Reads a value.
    ///
    /// # Errors
    /// A text that quotes the value and the pattern.
    pub fn parse(&self, value: &str) -> Result<Moment, String> {
        self.read(value).ok_or_else(|| format!("`{value}` does not fit the date pattern `{}`", self.text))
    }

    fn read(&self, value: &str) -> Option<Moment> {
        let mut rest = value.trim();
        let (mut year, mut month, mut day) = (1970, 1, 1);
        let (mut hour, mut minute, mut second, mut nanos) = (0, 0, 0, 0);
        let (mut afternoon, mut offset) = (None, None);
        for (i, part) in self.parts.iter().enumerate() {
            let (letter, count) = match part {
                Part::Literal(text) => {
                    rest = rest.strip_prefix(text.as_str())?;
                    continue;
                }
                Part::Letter { letter, count } => (*letter, *count),
            };
            let fixed =
                matches!(self.parts.get(i + 1), Some(Part::Letter { letter, .. }) if !"aEZXz".contains(*letter));
            let mut number = || {
                let most = if fixed { count } else { 9 };
                let digits = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
                let (text, after) = rest.split_at(digits);
                rest = after;
                Some((text.parse::<u32>().ok()?, digits))
            };
            match letter {
                'y' => {
                    let (n, digits) = number()?;
                    // Two digits mean the century around now, as Java has it: 80 years back, 20 ahead of 2026.
                    let full = match n {
                        _ if count > 2 || digits > 2 => n,
                        0..=45 => 2000 + n,
                        _ => 1900 + n,
                    };
                    year = i32::try_from(full).ok()?;
                }
                'M' if count > 2 => {
                    let found = MONTHS.iter().position(|m| starts_with(rest, m) || starts_with(rest, &m[..3]))?;
                    rest = &rest[if starts_with(rest, MONTHS[found]) { MONTHS[found].len() } else { 3 }..];
                    month = found as u32 + 1;
                }
                'M' => month = number()?.0,
                'd' => day = number()?.0,
                'H' => hour = number()?.0,
                'h' => hour = number()?.0 % 12,
                'm' => minute = number()?.0,
                's' => second = number()?.0,
                'S' => {
                    let (n, digits) = number()?;
                    // Three letters or fewer are a count of milliseconds where so many digits stand, else a fraction.
                    let digits = if count <= 3 && digits < 3 { 3 } else { digits };
                    nanos = n.checked_mul(10u32.checked_pow(9u32.checked_sub(digits as u32)?)?)?;
                }
                'a' => {
                    afternoon = Some(if starts_with(rest, "PM") { true } else { !starts_with(rest, "AM") });
                    rest = rest.get(2..)?;
                }
                'E' => {
                    let found = DAYS.iter().find(|d| starts_with(rest, d) || starts_with(rest, &d[..3]))?;
                    rest = &rest[if starts_with(rest, found) { found.len() } else { 3 }..];
                }
                _ => (offset, rest) = zone(rest)?,
            }
        }
        if !rest.is_empty() {
            return None;
        }
        if afternoon == Some(true) && hour < 12 {
            hour += 12;
        }
        let time = NaiveTime::from_hms_nano_opt(hour, minute, second, nanos)?;
        Some(Moment { local: NaiveDate::from_ymd_opt(year, month, day)?.and_time(time), offset })
    }

    /// Writes a moment; zone letters show UTC, in which instants are.
    ///
    /// # Errors
    /// A year that would not be read again as it was: before 0, or of more than four digits where another number follows.
    pub fn format(&self, at: NaiveDateTime, out: &mut String) -> Result<(), String> {
        use std::fmt::Write;
        if !(0..=9999).contains(&at.year()) && (at.year() < 0 || self.year_is_fixed()) {
            return Err(format!("the year {} has no form in the date pattern `{}`", at.year(), self.text));
        }
        for part in &self.parts {
            let (letter, count) = match part {
                Part::Literal(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::Letter { letter, count } => (*letter, *count),
            };
            // Writing to a String cannot fail.
            let _ = match letter {
                'y' if count == 2 => write!(out, "{:02}", at.year().rem_euclid(100)),
                'y' => write!(out, "{:0count$}", at.year()),
                'M' if count > 3 => write!(out, "{}", MONTHS[at.month0() as usize]),
                'M' if count == 3 => write!(out, "{}", &MONTHS[at.month0() as usize][..3]),
                'M' => write!(out, "{:0count$}", at.month()),
                'd' => write!(out, "{:0count$}", at.day()),
                'H' => write!(out, "{:0count$}", at.hour()),
                'h' => write!(out, "{:0count$}", if at.hour().is_multiple_of(12) { 12 } else { at.hour() % 12 }),
                'm' => write!(out, "{:0count$}", at.minute()),
                's' => write!(out, "{:0count$}", at.second()),
                'S' if count <= 3 => write!(out, "{:0count$}", at.nanosecond() / 1_000_000),
                'S' => {
                    let digits = count.min(9);
                    write!(out, "{:0digits$}", at.nanosecond() / 10u32.pow(9 - digits as u32))
                }
                'a' => write!(out, "{}", if at.hour() < 12 { "AM" } else { "PM" }),
                'E' => {
                    let day = DAYS[at.weekday().num_days_from_monday() as usize];
                    write!(out, "{}", if count > 3 { day } else { &day[..3] })
                }
                'X' => write!(out, "Z"),
                'Z' => write!(out, "+0000"),
                _ => write!(out, "UTC"),
            };
        }
        Ok(())
    }

    /// Whether the year is told by its width from the number that follows.
    fn year_is_fixed(&self) -> bool {
        let year = |p: &Part| matches!(p, Part::Letter { letter: 'y', .. });
        let number = |p: &Part| matches!(p, Part::Letter { letter, .. } if !"aEZXz".contains(*letter));
        self.parts.windows(2).any(|pair| year(&pair[0]) && number(&pair[1]))
    }
}

fn starts_with(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// Reads `Z`, `UTC`, `GMT`, `+08`, `+0800`, `+08:00`, `GMT+8`.
fn zone(text: &str) -> Option<(Option<i32>, &str)> {
    for word in ["UTC", "GMT", "Z"] {
        if starts_with(text, word) {
            let rest = &text[word.len()..];
            return if rest.starts_with(['+', '-']) { zone(rest) } else { Some((Some(0), rest)) };
        }
    }
    let sign = match text.bytes().next()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = text[1..].bytes().take_while(|b| b.is_ascii_digit() || *b == b':').count();
    let (number, rest) = text[1..].split_at(digits);
    let plain: String = number.chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = match plain.len() {
        1 | 2 => (plain.parse::<i32>().ok()?, 0),
        4 => (plain[..2].parse().ok()?, plain[2..].parse::<i32>().ok()?),
        _ => return None,
    };
    (hours <= 18 && minutes < 60).then_some((Some(sign * (hours * 3600 + minutes * 60)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let at = NaiveDate::from_ymd_opt(2024, 2, 29).unwrap().and_hms_nano_opt(17, 5, 9, 123_456_789).unwrap();
        for (pattern, text) in [
            ("yyyy-MM-dd HH:mm:ss.SSSSSSSSS", "2024-02-29 17:05:09.123456789"),
            ("yyyyMMddHHmmss", "20240229170509"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSSX", "2024-02-29T17:05:09.123Z"),
            ("dd/MMM/yy hh:mm:ss a", "29/Feb/24 05:05:09 PM"),
            ("EEE, d MMMM yyyy", "Thu, 29 February 2024"),
            ("yyyy'年'M'月'd'日'", "2024年2月29日"),
        ] {
            let compiled = Pattern::new(pattern).unwrap();
            let mut written = String::new();
            compiled.format(at, &mut written).unwrap();
            assert_eq!(written, text);
            let read = compiled.parse(text).unwrap();
            let mut again = String::new();
            compiled.format(read.local, &mut again).unwrap();
            assert_eq!(again, text);
        }
    }

    #[test]
    fn years_that_would_be_read_as_others_are_refused() {
        let at = |year| NaiveDate::from_ymd_opt(year, 3, 15).unwrap().and_time(NaiveTime::MIN);
        let shown = |pattern: &str, year| {
            let mut out = String::new();
            Pattern::new(pattern).unwrap().format(at(year), &mut out).map(|()| out)
        };
        assert_eq!(shown("yyyy-MM-dd", 12_345).unwrap(), "12345-03-15");
        assert!(shown("yyyyMMdd", 12_345).unwrap_err().contains("12345"));
        assert!(shown("yyyy-MM-dd", -43).is_err());
    }

    #[test]
    fn offsets_are_kept_and_nonsense_is_refused() {
        let pattern = Pattern::new("yyyy-MM-dd HH:mm:ss Z").unwrap();
        assert_eq!(pattern.parse("2024-01-01 00:00:00 +0530").unwrap().offset, Some(19800));
        assert_eq!(pattern.parse("2024-01-01 00:00:00 GMT+8").unwrap().offset, Some(28800));
        for wrong in ["2024-13-01 00:00:00 Z", "2024-01-01", "2024-01-01 00:00:00 Z!", "é", ""] {
            assert!(pattern.parse(wrong).is_err(), "{wrong}");
        }
        assert!(Pattern::new("yyyy-Q").unwrap_err().contains('Q'));
    }
}
