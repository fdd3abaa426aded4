//! Days, seconds and zones as plain integers: the proleptic Gregorian calendar, with a year 0 as in ISO 8601.

use std::cell::Cell;

use arrow::datatypes::TimeUnit;
use chrono::{DateTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// A unit's parts in a second.
pub(super) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Year, month and day of a day counted from 1970-01-01.
pub(super) fn civil(days: i64) -> (i64, u32, u32) {
    // The year is counted from March, so that the leap day is its last; 719468 days lie between 0000-03-01 and 1970.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month + 2) / 5 + 1) as u32;
    let month = if month < 10 { month + 3 } else { month - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The day counted from 1970-01-01, if the month has it.
pub(super) fn days(year: i64, month: u32, day: u32) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day == 0 || day > last || !(-1_000_000..=1_000_000).contains(&year) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let day_of_year = (153 * month + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Offsets from UTC in one zone, fast for instants that lie near each other.
pub(super) struct Zone {
    tz: Tz,
    // The last quarter of an hour that was asked for and its offset.
    last: Cell<(i64, i64)>,
}

/// From here on every zone changes its offset on a quarter of an hour: 1973-01-01.
const REGULAR: i64 = 94_694_400;
const QUARTER: i64 = 900;

impl Zone {
    pub(super) fn new(tz: Tz) -> Self {
        Self { tz, last: Cell::new((i64::MIN, 0)) }
    }

    /// The offset in seconds at an instant; `None` beyond the years -262143 to 262142.
    pub(super) fn offset_at(&self, instant: i64) -> Option<i64> {
        if self.tz == Tz::UTC {
            return Some(0);
        }
        let quarter = instant.div_euclid(QUARTER);
        if instant >= REGULAR && self.last.get().0 == quarter {
            return Some(self.last.get().1);
        }
        let naive = DateTime::from_timestamp(instant, 0)?.naive_utc();
        let offset = i64::from(self.tz.offset_from_utc_datetime(&naive).fix().local_minus_utc());
        self.last.set((quarter, offset));
        Some(offset)
    }

    /// The instant at which clocks show `local`. Where they show it twice, the earlier instant (summer time); where
    /// they skip it, none.
    pub(super) fn instant_of(&self, local: i64) -> Result<i64, &'static str> {
        if self.tz == Tz::UTC {
            return Ok(local);
        }
        let naive: NaiveDateTime =
            DateTime::from_timestamp(local, 0).ok_or("is too far away for a time zone")?.naive_utc();
        match self.tz.offset_from_local_datetime(&naive).earliest() {
            Some(offset) => Ok(local - i64::from(offset.fix().local_minus_utc())),
            None => Err("does not exist: clocks were put forward over it"),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.tz.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Datelike, NaiveDate};

    #[test]
    fn days_agree_with_chrono_over_all_its_years() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        for n in (-95_000_000..95_000_000).step_by(9_973).chain(-800_000..60_000) {
            let date = epoch + chrono::Duration::days(n);
            let expected = (i64::from(date.year()), date.month(), date.day());
            assert_eq!(civil(n), expected);
            assert_eq!(days(expected.0, expected.1, expected.2), Some(n));
        }
        for (year, month, day) in
            [(2023, 2, 29), (1900, 2, 29), (2024, 13, 1), (2024, 0, 1), (2024, 4, 31), (2024, 1, 0)]
        {
            assert_eq!(days(year, month, day), None);
        }
        assert!(days(2000, 2, 29).is_some() && days(0, 2, 29).is_some() && days(-4, 2, 29).is_some());
    }

    #[test]
    fn offsets_agree_with_chrono_over_each_transition() {
        for tz in [Tz::Europe__Berlin, Tz::America__New_York, Tz::Asia__Kolkata, Tz::Australia__Lord_Howe] {
            let zone = Zone::new(tz);
            for instant in (-3_000_000_000_i64..3_000_000_000).step_by(86_399).chain(1_711_840_000..1_711_850_000) {
                let naive = DateTime::from_timestamp(instant, 0).unwrap().naive_utc();
                let expected = i64::from(tz.offset_from_utc_datetime(&naive).fix().local_minus_utc());
                assert_eq!(zone.offset_at(instant), Some(expected), "{tz} {instant}");
            }
        }
    }
}
