//! Intervals: ISO 8601 durations as text, and Arrow's interval types.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{Int64Type, IntervalMonthDayNanoType, TimeUnit};

use super::CellFault;
use super::calendar::per_second;
use super::columns::{map_text, quoted, revise_text, write_text};

const NANOS: i128 = 1_000_000_000;

/// An interval's three parts, which no rule turns into each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Interval {
    months: i64,
    days: i64,
    nanos: i128,
}

impl Interval {
    /// Reads `P1Y2M3W4DT5H6M7.000008S`, each part with its own sign, in this order, at least one of them.
    fn parse(text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix('P')?;
        let mut interval = Self::default();
        let mut time = false;
        let mut last = 0;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('T').filter(|_| !time) {
                time = true;
                rest = after;
                // A `T` with nothing after it is no duration.
                rest.chars().next()?;
                continue;
            }
            let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
            let (number, letter) = (&rest[..end], rest.as_bytes()[end]);
            rest = &rest[end + 1..];
            let rank = match (letter, time) {
                (b'Y', false) => 1,
                (b'M', false) => 2,
                (b'W', false) => 3,
                (b'D', false) => 4,
                (b'H', true) => 5,
                (b'M', true) => 6,
                (b'S', true) => 7,
                _ => return None,
            };
            if rank <= last {
                return None;
            }
            last = rank;
            let (whole, decimals) = number.split_once('.').map_or((number, None), |(w, d)| (w, Some(d)));
            let digits = whole.trim_start_matches(['-', '+']);
            if whole.len() - digits.len() > 1 || digits.is_empty() || digits.len() > 15 {
                return None;
            }
            let value: i64 = whole.parse().ok()?;
            match rank {
                1 => interval.months += value.checked_mul(12)?,
                2 => interval.months += value,
                3 => interval.days += value.checked_mul(7)?,
                4 => interval.days += value,
                5 => interval.nanos += i128::from(value) * 3600 * NANOS,
                6 => interval.nanos += i128::from(value) * 60 * NANOS,
                _ => interval.nanos += i128::from(value) * NANOS,
            }
            if let Some(decimals) = decimals {
                if rank != 7
                    || decimals.is_empty()
                    || decimals.len() > 9
                    || !decimals.bytes().all(|b| b.is_ascii_digit())
                {
                    return None;
                }
                let part = decimals.parse::<i128>().ok()? * 10_i128.pow(9 - decimals.len() as u32);
                interval.nanos += if whole.starts_with('-') { -part } else { part };
            }
        }
        (last > 0).then_some(interval)
    }

    /// The shortest ISO 8601 text; nothing at all is `PT0S`.
    fn write(&self, out: &mut String) {
        let start = out.len();
        out.push('P');
        for (value, letter) in [(self.months / 12, 'Y'), (self.months % 12, 'M'), (self.days, 'D')] {
            if value != 0 {
                let _ = write!(out, "{value}{letter}");
            }
        }
        if self.nanos == 0 && out.len() > start + 1 {
            return;
        }
        out.push('T');
        let seconds = self.nanos / NANOS;
        for (value, letter) in [(seconds / 3600, 'H'), (seconds / 60 % 60, 'M')] {
            if value != 0 {
                let _ = write!(out, "{value}{letter}");
            }
        }
        let (second, part) = (seconds % 60, self.nanos % NANOS);
        if second != 0 || part != 0 || self.nanos == 0 {
            let sign = if second < 0 || part < 0 { "-" } else { "" };
            let _ = write!(out, "{sign}{}", second.abs());
            if part != 0 {
                let _ = write!(out, ".{:09}", part.abs());
                out.truncate(out.trim_end_matches('0').len());
            }
            out.push('S');
        }
    }
}

fn read(text: &str) -> Result<Interval, String> {
    Interval::parse(text).ok_or_else(|| format!("{} is no ISO 8601 duration such as P1Y2M3DT4H5M6.7S", quoted(text)))
}

/// Texts as interval texts: nothing changes, but all of them are ISO 8601 durations.
pub(super) fn check_text(column: &ArrayRef, faults: &mut Vec<CellFault>) -> ArrayRef {
    Arc::new(revise_text(column.as_string::<i32>(), faults, |text| read(text).map(|_| None)))
}

/// Interval texts as durations; years, months and days have no fixed length and are faults.
pub(super) fn to_durations(column: &ArrayRef, unit: TimeUnit, faults: &mut Vec<CellFault>) -> Int64Array {
    let factor = NANOS / i128::from(per_second(unit));
    map_text::<Int64Type>(column.as_string(), faults, |text| {
        let interval = read(text)?;
        if interval.months != 0 || interval.days != 0 {
            return Err(format!("{} has years, months or days, which have no fixed length in hours", quoted(text)));
        }
        match i64::try_from(interval.nanos / factor) {
            Ok(count) if interval.nanos % factor == 0 => Ok(count),
            Ok(_) => Err(format!("{} has more decimals of a second than fit", quoted(text))),
            Err(_) => Err(format!("{} is out of range", quoted(text))),
        }
    })
}

/// Appends a duration as interval text.
pub(super) fn write_duration(count: i64, unit: TimeUnit, out: &mut String) {
    Interval { nanos: i128::from(count) * (NANOS / i128::from(per_second(unit))), ..Interval::default() }.write(out);
}

/// Arrow's intervals (of months, days and nanoseconds) as interval texts.
pub(super) fn of_arrow(column: &ArrayRef, faults: &mut Vec<CellFault>) -> arrow::array::StringArray {
    let values = column.as_primitive::<IntervalMonthDayNanoType>();
    write_text(column, faults, 16, |row, out| {
        let value = values.value(row);
        let (months, days, nanos) = (value.months.into(), value.days.into(), value.nanoseconds.into());
        Interval { months, days, nanos }.write(out);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_and_written() {
        for (text, written) in [
            ("P1Y2M3DT4H5M6.000007S", Some("P1Y2M3DT4H5M6.000007S")),
            ("P-1Y-2M", Some("P-1Y-2M")),
            ("PT-0.5S", Some("PT-0.5S")),
            ("P0D", Some("PT0S")),
            ("P14M", Some("P1Y2M")),
            ("P2W", Some("P14D")),
            ("PT90M", Some("PT1H30M")),
            ("P1DT", None),
            ("P", None),
            ("PT", None),
            ("P1H", None),
            ("P1D2Y", None),
            ("P1.5D", None),
            ("PT1.S", None),
            ("P--1D", None),
            ("1 day", None),
            ("", None),
        ] {
            let read = Interval::parse(text).map(|i| {
                let mut out = String::new();
                i.write(&mut out);
                out
            });
            assert_eq!(read.as_deref(), written, "{text}");
        }
    }
}
