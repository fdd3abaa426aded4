//! Dates, timestamps and intervals: PostgreSQL counts from 2000, Arrow from 1970.
//!
//! Dates and timestamps up to the year 9999 have a canonical form, those before year 1 too: a target that has no such year
//! says so itself. Later ones and the infinities are refused by name and pass in native or text form.

use std::borrow::Cow;

/// Days from 1970-01-01 to 2000-01-01.
pub const EPOCH_DAYS: i32 = 10_957;
/// Microseconds from 1970-01-01 to 2000-01-01.
pub const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Microseconds of a day.
pub const DAY: i64 = 86_400_000_000;

const FIRST_DAY: i32 = -719_162;
const LAST_DAY: i32 = 2_932_896;
const FIRST_MICRO: i64 = FIRST_DAY as i64 * DAY;
const LAST_MICRO: i64 = (LAST_DAY as i64 + 1) * DAY - 1;

/// Days since 1970 of the server's days since 2000.
///
/// # Errors
/// Infinities and years outside 0001 to 9999: the value's text.
pub fn date(days: i32) -> Result<i32, String> {
    match days.checked_add(EPOCH_DAYS) {
        Some(day) if (FIRST_DAY..=LAST_DAY).contains(&day) => Ok(day),
        _ => Err(match days {
            i32::MAX => "infinity".into(),
            i32::MIN => "-infinity".into(),
            _ => date_text(i64::from(days) + i64::from(EPOCH_DAYS)),
        }),
    }
}

/// Microseconds since 1970 of the server's microseconds since 2000.
///
/// # Errors
/// Infinities and years outside 0001 to 9999: the value's text.
pub fn timestamp(micros: i64) -> Result<i64, String> {
    match micros.checked_add(EPOCH_MICROS) {
        Some(micro) if (FIRST_MICRO..=LAST_MICRO).contains(&micro) => Ok(micro),
        _ => Err(match micros {
            i64::MAX => "infinity".into(),
            i64::MIN => "-infinity".into(),
            _ => {
                let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
                let date = date_text(days + i64::from(EPOCH_DAYS));
                let (date, era) = date.strip_suffix(" BC").map_or((date.as_str(), ""), |d| (d, " BC"));
                format!("{date} {}{era}", time_text(rest))
            }
        }),
    }
}

/// As [`date`], of years before 1 too.
///
/// # Errors
/// Infinities and years after 9999: the value's text.
pub fn canonical_date(days: i32) -> Result<i32, String> {
    date(days).or_else(|text| if days < 0 && days != i32::MIN { Ok(days + EPOCH_DAYS) } else { Err(text) })
}

/// As [`timestamp`], of years before 1 too.
///
/// # Errors
/// Infinities and years after 9999: the value's text.
pub fn canonical_timestamp(micros: i64) -> Result<i64, String> {
    timestamp(micros)
        .or_else(|text| if micros < 0 && micros != i64::MIN { Ok(micros + EPOCH_MICROS) } else { Err(text) })
}

fn time_text(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match micros % 1_000_000 {
        0 => text,
        fraction => format!("{text}.{fraction:06}"),
    }
}

/// The Gregorian date of a day since 1970, with the era as PostgreSQL writes it.
fn date_text(day: i64) -> String {
    // Counted in 400-year cycles from 0000-03-01, so that the leap day ends each year.
    let shifted = day + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if year <= 0 { format!("{:04}-{month:02}-{day:02} BC", 1 - year) } else { format!("{year:04}-{month:02}-{day:02}") }
}

/// A date's or timestamp's text as the server reads it: it writes `0044-03-15 BC` where ISO 8601 writes `-0043-03-15`, and no
/// plus before a year of more than four digits.
pub fn with_era(text: &str) -> Cow<'_, str> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let (year, rest) = unsigned.split_at(digits);
    if digits < 4 || !rest.starts_with('-') {
        return Cow::Borrowed(text);
    }
    match (text.as_bytes()[0], year.parse::<u32>()) {
        (b'+', _) => Cow::Borrowed(unsigned),
        (b'-', Ok(year)) => Cow::Owned(format!("{:04}{rest} BC", u64::from(year) + 1)),
        (_, Ok(0)) if !rest.starts_with("-00") => Cow::Owned(format!("0001{rest} BC")),
        _ => Cow::Borrowed(text),
    }
}

/// Appends an interval as an ISO 8601 duration, each part with its own sign.
pub fn interval_text(micros: i64, days: i32, months: i32, text: &mut Vec<u8>) {
    use std::io::Write;
    text.push(b'P');
    let start = text.len();
    // Writing into a Vec cannot fail.
    for (value, unit) in [(months / 12, 'Y'), (months % 12, 'M'), (days, 'D')] {
        if value != 0 {
            let _ = write!(text, "{value}{unit}");
        }
    }
    let seconds = micros / 1_000_000;
    let fraction = (micros % 1_000_000).unsigned_abs();
    if micros != 0 || text.len() == start {
        text.push(b'T');
        for (value, unit) in [(seconds / 3600, 'H'), (seconds / 60 % 60, 'M')] {
            if value != 0 {
                let _ = write!(text, "{value}{unit}");
            }
        }
        let rest = seconds % 60;
        if rest != 0 || fraction != 0 || text.ends_with(b"T") {
            let sign = if micros < 0 && (rest != 0 || fraction != 0) { "-" } else { "" };
            let _ = write!(text, "{sign}{}", rest.unsigned_abs());
            if fraction != 0 {
                let digits = format!("{fraction:06}");
                let _ = write!(text, ".{}", digits.trim_end_matches('0'));
            }
            text.push(b'S');
        }
    }
}

/// Reads an ISO 8601 duration into microseconds, days and months.
///
/// # Errors
/// What is no duration, or is finer than a microsecond.
pub fn parse_interval(text: &str) -> Result<(i64, i32, i32), String> {
    let wrong = || format!("`{}` is no ISO 8601 duration", text.chars().take(60).collect::<String>());
    let (negative, body) = match text.trim().strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.trim()),
    };
    let mut rest = body.strip_prefix('P').filter(|r| !r.is_empty()).ok_or_else(wrong)?;
    let (mut months, mut days, mut micros) = (0i64, 0i64, 0i128);
    let mut time = false;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('T') {
            (time, rest) = (true, after);
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let (number, unit) = (&rest[..end], rest.as_bytes()[end]);
        rest = &rest[end + 1..];
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let minus = whole.starts_with('-');
        let whole: i64 = match whole {
            "" | "-" | "+" if !fraction.is_empty() => 0,
            digits => digits.parse().map_err(|_| wrong())?,
        };
        let seconds = time && unit == b'S';
        if !fraction.is_empty() && !seconds {
            return Err(wrong());
        }
        let overflow = || format!("`{text}` is too long for an interval");
        let add =
            |sum: i64, factor: i64| whole.checked_mul(factor).and_then(|n| sum.checked_add(n)).ok_or_else(overflow);
        match (time, unit) {
            (false, b'Y') => months = add(months, 12)?,
            (false, b'M') => months = add(months, 1)?,
            (false, b'W') => days = add(days, 7)?,
            (false, b'D') => days = add(days, 1)?,
            (true, b'H') => micros += i128::from(whole) * 3_600_000_000,
            (true, b'M') => micros += i128::from(whole) * 60_000_000,
            (true, b'S') => {
                let kept = fraction.trim_end_matches('0');
                if kept.len() > 6 || !kept.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(format!("`{text}` is finer than a microsecond"));
                }
                let part = format!("{kept:0<6}").parse::<i128>().map_err(|_| wrong())?;
                micros += i128::from(whole) * 1_000_000 + if minus { -part } else { part };
            }
            _ => return Err(wrong()),
        }
    }
    let sign = if negative { -1 } else { 1 };
    let overflow = |_| format!("`{text}` is too long for an interval");
    Ok((
        i64::try_from(micros * i128::from(sign)).map_err(overflow)?,
        i32::try_from(days * sign).map_err(overflow)?,
        i32::try_from(months * sign).map_err(overflow)?,
    ))
}

/// What an interval column keeps of its values: `interval day to minute`, `interval(3)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntervalLimit {
    months: i32,
    days: bool,
    micros: i64,
}

impl IntervalLimit {
    /// Everything is kept.
    pub const NONE: Self = Self { months: 1, days: true, micros: 1 };

    /// By the column's modifier: fields in the high bits, decimals of a second in the low ones.
    pub fn of(typmod: i32) -> Self {
        const YEAR: i32 = 1 << 2;
        const MONTH: i32 = 1 << 1;
        const DAY: i32 = 1 << 3;
        const HOUR: i32 = 1 << 10;
        const MINUTE: i32 = 1 << 11;
        const SECOND: i32 = 1 << 12;
        if typmod < 0 {
            return Self::NONE;
        }
        let (fields, digits) = ((typmod >> 16) & 0x7fff, (typmod & 0xffff) as u32);
        let fraction = 10_i64.pow(6 - digits.min(6));
        let has = |field: i32| fields == 0x7fff || fields & field != 0;
        match () {
            () if has(SECOND) => Self { micros: fraction, ..Self::NONE },
            () if has(MINUTE) => Self { micros: 60_000_000, ..Self::NONE },
            () if has(HOUR) => Self { micros: 3_600_000_000, ..Self::NONE },
            () if has(DAY) => Self { micros: 0, ..Self::NONE },
            () if has(MONTH) => Self { months: 1, days: false, micros: 0 },
            () if has(YEAR) => Self { months: 12, days: false, micros: 0 },
            () => Self::NONE,
        }
    }

    /// The interval, if the column keeps all of it.
    ///
    /// # Errors
    /// It has parts that the server would cut off or round.
    pub fn check(self, (micros, days, months): (i64, i32, i32)) -> Result<(i64, i32, i32), String> {
        let kept = if self.micros == 0 { micros == 0 } else { micros % self.micros == 0 };
        if kept && (self.days || days == 0) && months % self.months == 0 {
            return Ok((micros, days, months));
        }
        Err("the interval has parts that the column's fields or decimals do not keep".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_before_one_are_written_with_their_era() {
        for (iso, server) in [
            ("-0043-03-15", "0044-03-15 BC"),
            ("0000-12-31 23:59:59.5Z", "0001-12-31 23:59:59.5Z BC"),
            ("-4712-01-01T00:00:00", "4713-01-01T00:00:00 BC"),
            ("+12345-06-07", "12345-06-07"),
            ("2024-02-29", "2024-02-29"),
            ("0000-00-00", "0000-00-00"),
            ("-infinity", "-infinity"),
            ("-12:30", "-12:30"),
            ("", ""),
        ] {
            assert_eq!(with_era(iso), server);
        }
    }

    #[test]
    fn dates_outside_are_named() {
        assert_eq!(date(0), Ok(10_957));
        assert_eq!(date(i32::MAX), Err("infinity".into()));
        assert_eq!(date(-730_119), Ok(-719_162));
        assert_eq!(date(-730_120), Err("0001-12-31 BC".into()));
        assert_eq!(date(LAST_DAY - EPOCH_DAYS + 1), Err("10000-01-01".into()));
        assert_eq!((canonical_date(-730_120), canonical_date(i32::MIN)), (Ok(-719_163), Err("-infinity".into())));
        assert_eq!(canonical_date(LAST_DAY - EPOCH_DAYS + 1), Err("10000-01-01".into()));
        assert_eq!(canonical_timestamp(-730_120 * DAY), Ok(-719_163 * DAY));
        assert_eq!(canonical_timestamp(i64::MIN), Err("-infinity".into()));
        assert_eq!(timestamp(0), Ok(EPOCH_MICROS));
        assert_eq!(timestamp(i64::MIN), Err("-infinity".into()));
        assert_eq!(timestamp(-730_120 * DAY + 1), Err("0001-12-31 00:00:00.000001 BC".into()));
    }

    #[test]
    fn intervals_are_iso_durations() {
        let text = |micros, days, months| {
            let mut out = Vec::new();
            interval_text(micros, days, months, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(14_706_000_007, 3, 14), "P1Y2M3DT4H5M6.000007S");
        assert_eq!(text(0, 0, 0), "PT0S");
        assert_eq!(text(-1, -3, -14), "P-1Y-2M-3DT-0.000001S");
        assert_eq!(text(3_600_000_000, 0, 0), "PT1H");
        for parts in
            [(14_706_000_007, 3, 14), (0, 0, 0), (-1, -3, -14), (-3_661_500_000, 0, 5), (i64::MAX, i32::MIN, 7)]
        {
            assert_eq!(parse_interval(&text(parts.0, parts.1, parts.2)), Ok(parts));
        }
        assert!(parse_interval("1 day").is_err() && parse_interval("P").is_err());
        assert!(parse_interval("PT0.0000001S").is_err());
    }
}
