//! Dates and times as SQLite's own functions write and understand them.
//!
//! TEXT is ISO 8601, with a space or a `T`; a zone is applied, as SQLite applies it. INTEGER is seconds since 1970, REAL
//! a Julian day, exact to the millisecond. Years may lie outside SQLite's 0000–9999: a sign and all digits then stand
//! there.

use std::fmt::Write;

/// Nanoseconds of a day.
pub const DAY_NANOS: i64 = 86_400_000_000_000;

/// A date and a time of day, without a zone or in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Days since 1970-01-01.
    pub days: i64,
    /// Nanoseconds since midnight.
    pub nanos: i64,
}

impl Moment {
    /// Since 1970, in units of `1 / per_second`, if that is a whole number of 64 bits.
    pub fn since_epoch(self, per_second: i64) -> Option<i64> {
        let unit = 1_000_000_000 / per_second;
        if self.nanos % unit != 0 {
            return None;
        }
        let total = i128::from(self.days) * i128::from(86_400 * per_second) + i128::from(self.nanos / unit);
        i64::try_from(total).ok()
    }

    /// `count` units of `1 / per_second` since 1970.
    pub fn from_epoch(count: i64, per_second: i64) -> Self {
        let day = 86_400 * per_second;
        Self { days: count.div_euclid(day), nanos: count.rem_euclid(day) * (1_000_000_000 / per_second) }
    }

    /// A Julian day, to the millisecond as SQLite's own functions take it, within its years.
    pub fn from_julian(day: f64) -> Option<Self> {
        if !(0.0..5_373_484.5).contains(&day) {
            return None;
        }
        let millis = (day * 86_400_000.0 + 0.5) as i64 - 210_866_760_000_000;
        Some(Self::from_epoch(millis, 1000))
    }

    /// Reads `YYYY-MM-DD`, with or without a time of day and a zone.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (days, rest) = parse_date(text.trim_ascii())?;
        let rest = match rest {
            [] => return Some(Self { days, nanos: 0 }),
            [b' ' | b'T' | b't', rest @ ..] => rest,
            _ => return None,
        };
        let (nanos, rest) = parse_clock(rest)?;
        let nanos = nanos - i64::from(parse_zone(rest)?) * 1_000_000_000;
        Some(Self { days: days + nanos.div_euclid(DAY_NANOS), nanos: nanos.rem_euclid(DAY_NANOS) })
    }

    /// Writes `YYYY-MM-DD HH:MM:SS`, with as many digits of the second as it has, in groups of three.
    pub fn write(self, text: &mut String) {
        write_date(self.days, text);
        text.push(' ');
        write_clock(self.nanos, text);
    }
}

/// Reads `HH:MM`, with or without seconds and a fraction, as nanoseconds since midnight.
pub fn parse_time(text: &[u8]) -> Option<i64> {
    let (nanos, rest) = parse_clock(text.trim_ascii())?;
    rest.is_empty().then_some(nanos)
}

/// Reads `[-]H…:MM:SS[.f]` as nanoseconds.
pub fn parse_duration(text: &[u8]) -> Option<i64> {
    let text = text.trim_ascii();
    let (sign, rest) = text.strip_prefix(b"-").map_or((1, text), |rest| (-1, rest));
    let colon = rest.iter().position(|b| *b == b':')?;
    let hours = digits(&rest[..colon])?;
    // The rest has the form of a time of day in hour 0.
    let mut clock = [b'0'; 32];
    let tail = clock.get_mut(2..2 + rest.len() - colon)?;
    tail.copy_from_slice(&rest[colon..]);
    let nanos = parse_time(&clock[..2 + rest.len() - colon])?;
    hours.checked_mul(3_600_000_000_000)?.checked_add(nanos)?.checked_mul(sign)
}

/// Writes nanoseconds as `[-]HH:MM:SS[.f]`.
pub fn write_duration(nanos: i64, text: &mut String) {
    if nanos < 0 {
        text.push('-');
    }
    let nanos = nanos.unsigned_abs();
    let hours = nanos / 3_600_000_000_000;
    let _ = write!(text, "{hours:02}");
    let mut clock = String::new();
    write_clock((nanos % 3_600_000_000_000) as i64, &mut clock);
    text.push_str(&clock[2..]);
}

/// Writes `YYYY-MM-DD`.
pub fn write_date(days: i64, text: &mut String) {
    // Days to a civil date in the proleptic Gregorian calendar; eras of 400 years begin on 1 March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let _ = match year {
        0..=9999 => write!(text, "{year:04}-{month:02}-{day:02}"),
        ..0 => write!(text, "-{:04}-{month:02}-{day:02}", -year),
        _ => write!(text, "+{year}-{month:02}-{day:02}"),
    };
}

/// Writes `HH:MM:SS` with a fraction of 3, 6 or 9 digits where there is one.
pub fn write_clock(nanos: i64, text: &mut String) {
    let seconds = nanos / 1_000_000_000;
    let _ = write!(text, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = nanos % 1_000_000_000;
    let _ = match (fraction % 1_000_000, fraction % 1000) {
        _ if fraction == 0 => Ok(()),
        (0, _) => write!(text, ".{:03}", fraction / 1_000_000),
        (_, 0) => write!(text, ".{:06}", fraction / 1000),
        _ => write!(text, ".{fraction:09}"),
    };
}

fn parse_date(text: &[u8]) -> Option<(i64, &[u8])> {
    let (sign, rest) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    let width = rest.iter().position(|b| !b.is_ascii_digit())?;
    if !(4..=7).contains(&width) || (width > 4 && rest.len() == text.len()) {
        return None;
    }
    let year = sign * digits(&rest[..width])?;
    let [b'-', m1, m2, b'-', d1, d2, rest @ ..] = &rest[width..] else { return None };
    let (month, day) = (digits(&[*m1, *m2])?, digits(&[*d1, *d2])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    let march_year = year - i64::from(month <= 2);
    let era = march_year.div_euclid(400);
    let year_of_era = march_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era - 719_468, rest))
}

fn parse_clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let [h1, h2, b':', m1, m2, rest @ ..] = text else { return None };
    let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
    let (mut seconds, mut nanos, mut rest) = (0, 0, rest);
    if let [b':', s1, s2, after @ ..] = rest {
        seconds = digits(&[*s1, *s2])?;
        rest = after;
        if let [b'.', after @ ..] = rest {
            let width = after.iter().position(|b| !b.is_ascii_digit()).unwrap_or(after.len());
            // Digits beyond the nanosecond may only be zeros: nothing is cut off.
            let (kept, cut) = after[..width].split_at(width.min(9));
            if width == 0 || cut.iter().any(|b| *b != b'0') {
                return None;
            }
            nanos = digits(kept)? * 10_i64.pow(9 - kept.len() as u32);
            rest = &after[width..];
        }
    }
    let fits = hours < 24 && minutes < 60 && seconds < 60;
    fits.then_some((((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000 + nanos, rest))
}

/// The zone's offset in seconds east of UTC.
fn parse_zone(text: &[u8]) -> Option<i32> {
    let (sign, rest) = match text.trim_ascii() {
        [] | b"Z" | b"z" | b"UTC" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest {
        [h1, h2] => (digits(&[*h1, *h2])?, 0),
        [h1, h2, b':', m1, m2] | [h1, h2, m1, m2] => (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?),
        _ => return None,
    };
    (hours <= 18 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60) as i32)
}

fn digits(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 12 {
        return None;
    }
    text.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> String {
        let mut out = String::new();
        Moment::parse(text.as_bytes()).unwrap().write(&mut out);
        out
    }

    #[test]
    fn moments_round_trip() {
        for text in [
            "1970-01-01 00:00:00",
            "2024-02-29 23:59:59.999999",
            "2024-02-29 23:59:59.000000001",
            "0000-03-01 01:02:03.004",
            "9999-12-31 00:00:00",
            "-0044-03-15 12:00:00",
            "+12024-03-15 12:00:00",
        ] {
            assert_eq!(round(text), text);
        }
        assert_eq!(round("2024-05-05"), "2024-05-05 00:00:00");
        assert_eq!(round("2024-05-05T10:20"), "2024-05-05 10:20:00");
        assert_eq!(round("2024-01-01 00:30:00+02:00"), "2023-12-31 22:30:00");
        assert_eq!(round("2024-01-01T00:30:00.5Z"), "2024-01-01 00:30:00.500");
    }

    #[test]
    fn every_day_of_400_years_is_itself() {
        for days in -150_000..150_000 {
            let mut text = String::new();
            write_date(days, &mut text);
            assert_eq!(Moment::parse(text.as_bytes()), Some(Moment { days, nanos: 0 }), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in ["2023-02-29", "2024-13-01", "0000-00-00", "24-01-01", "2024-01-01 25:00", "2024-01-01x", "", "now"]
        {
            assert_eq!(Moment::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Moment::parse(b"2024-01-01 00:00:00.0000000001"), None);
        assert_eq!(Moment { days: 0, nanos: 1 }.since_epoch(1_000_000), None);
    }

    #[test]
    fn numbers_and_durations() {
        assert_eq!(Moment::from_epoch(-1, 1), Moment { days: -1, nanos: 86_399 * 1_000_000_000 });
        assert_eq!(Moment::from_julian(2_440_587.5), Some(Moment { days: 0, nanos: 0 }));
        let mut text = String::new();
        write_duration(-(838 * 3600 + 59 * 60 + 59) * 1_000_000_000 - 1000, &mut text);
        assert_eq!(text, "-838:59:59.000001");
        assert_eq!(parse_duration(text.as_bytes()), Some(-(838 * 3600 + 59 * 60 + 59) * 1_000_000_000 - 1000));
        assert_eq!(parse_time(b"23:59:59.5"), Some(86_399_500_000_000));
    }
}
