//! Points on a change column's scale: whole numbers, decimals, dates and times, each exact.

use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, SubsecRound, TimeZone, Utc};
use chrono_tz::Tz;

/// What a change column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Numbers with so many digits after the point; 0 for whole ones.
    Number(u32),
    /// Dates.
    Date,
    /// Times without a zone, with so many decimals of a second.
    Local(u32),
    /// Instants, with so many decimals of a second.
    Instant(u32),
}

/// A value of a change column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// In units of the last digit after the point.
    Number(i128),
    /// A day.
    Date(NaiveDate),
    /// A time on a clock.
    Local(NaiveDateTime),
    /// A moment.
    Instant(DateTime<Utc>),
}

const DAY: u64 = 86_400;

impl Scale {
    /// Reads what [`show`](Self::show) wrote.
    pub fn read(self, text: &str) -> Option<Point> {
        match self {
            Self::Number(digits) => number(text, digits).map(Point::Number),
            Self::Date => text.parse().ok().map(Point::Date),
            Self::Local(_) => text.parse().ok().map(Point::Local),
            Self::Instant(_) => text.parse().ok().map(Point::Instant),
        }
    }

    /// Reads what a user wrote: dates with or without a time of day, `20251101` too; `clocks` say what an instant without
    /// an offset is.
    ///
    /// # Errors
    /// What would be right.
    pub fn read_given(self, text: &str, clocks: Tz) -> Result<Point, String> {
        let text = text.trim();
        let wrong = |right: &str| Err(format!("`{text}` is {right}"));
        match self {
            Self::Number(digits) => match number(text, digits) {
                Some(number) => Ok(Point::Number(number)),
                None if digits == 0 => wrong("no whole number of up to 38 digits, as the column's values are"),
                None => wrong(&format!("no number with at most {digits} digits after the point, as the column's are")),
            },
            Self::Date => match local(text) {
                Some(time) if time.time() == chrono::NaiveTime::MIN => Ok(Point::Date(time.date())),
                _ => wrong("no date such as `2025-11-01`"),
            },
            Self::Local(_) => match (local(text), instant(text)) {
                (Some(time), _) => Ok(Point::Local(time)),
                (None, Some(_)) => wrong("an instant, and the column's times have no zone: leave out the offset"),
                (None, None) => wrong("no time such as `2025-11-01` or `2025-11-01 06:00:00`"),
            },
            Self::Instant(_) => match (instant(text), local(text)) {
                (Some(instant), _) => Ok(Point::Instant(instant)),
                (None, Some(time)) => match clocks.from_local_datetime(&time).earliest() {
                    Some(time) => Ok(Point::Instant(time.with_timezone(&Utc))),
                    None => wrong(&format!("a time that {clocks}'s clocks skip: add an offset, as in `+02:00`")),
                },
                (None, None) => {
                    wrong("no time such as `2025-11-01`, `2025-11-01 06:00:00` or `2025-11-01T06:00:00+01:00`")
                }
            },
        }
    }

    /// The text of a point, as windows and watermarks have it.
    pub fn show(self, point: &Point) -> String {
        match (self, point) {
            (Self::Number(digits), Point::Number(number)) => decimal_text(*number, digits),
            _ => match point {
                Point::Number(number) => number.to_string(),
                Point::Date(date) => date.to_string(),
                Point::Local(time) => time.format("%Y-%m-%dT%H:%M:%S%.6f").to_string(),
                Point::Instant(time) => time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            },
        }
    }

    /// The text of a point for a statement: as [`show`](Self::show), but times with a space and no zone (instants are
    /// in UTC).
    pub fn sql(self, point: &Point) -> String {
        match point {
            Point::Local(time) => time.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
            Point::Instant(time) => time.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
            _ => self.show(point),
        }
    }

    /// The last point of the scale that is not later. Clocks are finer than columns, which may round up: what is written
    /// from now on is not below.
    pub fn floor(self, point: Point) -> Point {
        match (self, point) {
            (Self::Local(decimals), Point::Local(time)) => Point::Local(time.trunc_subsecs(decimals.min(6) as u16)),
            (Self::Instant(decimals), Point::Instant(time)) => {
                Point::Instant(time.trunc_subsecs(decimals.min(6) as u16))
            }
            (_, point) => point,
        }
    }

    /// The first number that is greater; times have none.
    pub fn after(self, point: Point) -> Option<Point> {
        match point {
            Point::Number(number) => number.checked_add(1).map(Point::Number),
            _ => None,
        }
    }

    /// The point that lies `amount` before: seconds of times, whole days of dates (a part of a day counts as one), units
    /// of numbers. None beyond what can be said.
    pub fn before(self, point: Point, amount: u64) -> Option<Point> {
        let seconds = || Duration::try_seconds(i64::try_from(amount).ok()?);
        match (self, point) {
            (Self::Number(digits), Point::Number(number)) => {
                let unit = 10_i128.checked_pow(digits)?;
                number.checked_sub(unit.checked_mul(i128::from(amount))?).map(Point::Number)
            }
            (_, Point::Date(date)) => date.checked_sub_days(chrono::Days::new(amount.div_ceil(DAY))).map(Point::Date),
            (_, Point::Local(time)) => time.checked_sub_signed(seconds()?).map(Point::Local),
            (_, Point::Instant(time)) => time.checked_sub_signed(seconds()?).map(Point::Instant),
            (_, point) => Some(point),
        }
    }
}

/// A decimal number in units of its last digit, if it has no more digits after the point.
fn number(text: &str, digits: u32) -> Option<i128> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, part) = rest.split_once('.').unwrap_or((rest, ""));
    let part = part.trim_end_matches('0');
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(part) || (whole.is_empty() && part.is_empty()) || part.len() > digits as usize {
        return None;
    }
    let padding = digits as usize - part.len();
    let all = format!("{whole}{part}{}", "0".repeat(padding));
    if all.trim_start_matches('0').len() > 38 {
        return None;
    }
    all.parse::<i128>().ok().map(|number| sign * number)
}

fn decimal_text(number: i128, digits: u32) -> String {
    let sign = if number < 0 { "-" } else { "" };
    let digits = digits as usize;
    let text = format!("{:0width$}", number.unsigned_abs(), width = digits + 1);
    let (whole, part) = text.split_at(text.len() - digits);
    if digits == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

/// A time without a zone, to the microsecond.
fn local(text: &str) -> Option<NaiveDateTime> {
    let times = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
    let time = times.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let dates = ["%Y-%m-%d", "%Y%m%d"];
    let midnight = |date: NaiveDate| date.and_time(chrono::NaiveTime::MIN);
    let date = || dates.iter().find_map(|form| NaiveDate::parse_from_str(text, form).ok()).map(midnight);
    time.or_else(date).filter(whole_microseconds)
}

fn instant(text: &str) -> Option<DateTime<Utc>> {
    let forms = ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z", "%Y-%m-%d %H:%M%#z"];
    let time = forms.iter().find_map(|form| DateTime::parse_from_str(text, form).ok())?;
    Some(time.with_timezone(&Utc)).filter(|time| whole_microseconds(&time.naive_utc()))
}

/// Whether nothing is finer than a microsecond, and the year has four digits.
fn whole_microseconds(time: &NaiveDateTime) -> bool {
    use chrono::{Datelike, Timelike};
    time.nanosecond().is_multiple_of(1000) && (1..=9999).contains(&time.year())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact() {
        let scale = Scale::Number(2);
        for (text, shown) in [("1.5", "1.50"), ("-0.01", "-0.01"), ("7", "7.00"), ("0.10", "0.10"), ("+3.", "3.00")] {
            assert_eq!(scale.show(&scale.read(text).unwrap()), shown, "{text}");
        }
        for wrong in ["1.001", "", ".", "1e5", "12345678901234567890123456789012345678"] {
            assert!(scale.read(wrong).is_none(), "{wrong}");
        }
        let whole = Scale::Number(0);
        let largest = whole.read("18446744073709551615").unwrap();
        assert_eq!(whole.show(&whole.after(largest).unwrap()), "18446744073709551616");
        assert_eq!(scale.show(&scale.before(scale.read("1.25").unwrap(), 2).unwrap()), "-0.75");
        assert_eq!(scale.show(&scale.after(scale.read("1.25").unwrap()).unwrap()), "1.26");
    }

    #[test]
    fn times_are_exact_and_have_their_zone() {
        let scale = Scale::Instant(6);
        let berlin = Tz::Europe__Berlin;
        let given = |text: &str| scale.read_given(text, berlin).map(|point| scale.show(&point));
        assert_eq!(given("2025-11-01 06:00:00.000001"), Ok("2025-11-01T05:00:00.000001Z".into()));
        assert_eq!(given("2025-11-01T06:00+08:00"), Ok("2025-10-31T22:00:00.000000Z".into()));
        assert_eq!(given("2025-11-01T06:00:00Z"), Ok("2025-11-01T06:00:00.000000Z".into()));
        assert_eq!(given("20251101"), Ok("2025-10-31T23:00:00.000000Z".into()));
        // Twice on the clock: the earlier one misses nothing.
        assert_eq!(given("2025-10-26 02:30"), Ok("2025-10-26T00:30:00.000000Z".into()));
        assert!(given("2025-03-30 02:30").unwrap_err().contains("skip"));
        assert!(given("2025-11-01 00:00:00.0000001").is_err() && given("yesterday").is_err());
        let point = scale.read("2025-11-01T05:00:00.000001Z").unwrap();
        assert_eq!(scale.sql(&point), "2025-11-01 05:00:00.000001");
        let clock = Scale::Local(0);
        assert!(clock.read_given("2025-11-01T06:00:00Z", berlin).unwrap_err().contains("no zone"));
        let now = clock.read_given("2025-11-01 06:00:00.9", berlin).unwrap();
        assert_eq!(clock.show(&clock.floor(now)), "2025-11-01T06:00:00.000000");
        assert_eq!(clock.show(&clock.before(now, 3600).unwrap()), "2025-11-01T05:00:00.900000");
    }

    #[test]
    fn dates_count_in_days() {
        let scale = Scale::Date;
        let day = scale.read_given("20251101", Tz::UTC).unwrap();
        assert_eq!(scale.show(&day), "2025-11-01");
        assert_eq!(scale.show(&scale.before(day, 60).unwrap()), "2025-10-31");
        assert_eq!(scale.show(&scale.before(day, 2 * DAY).unwrap()), "2025-10-30");
        assert!(scale.read_given("2025-11-01 06:00", Tz::UTC).is_err());
    }
}
