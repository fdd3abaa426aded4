//! Dates, times of day, timestamps, instants and durations.

use std::fmt::Write;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};

use super::calendar::{DAY, Zone, civil, days, per_second};
use super::columns::{map, map_text, quoted};
use super::kinds::of_counts;
use super::patterns::{Moment, read_offset};
use super::{CellFault, ConvertOptions, Formats};
use crate::Result;

const NANOS: i64 = 1_000_000_000;

/// Counts of one unit as counts of another; a count that is not whole in the new unit is a fault.
pub(super) fn change_unit(
    column: &Int64Array,
    from: TimeUnit,
    to: TimeUnit,
    faults: &mut Vec<CellFault>,
    show: impl Fn(i64) -> String,
) -> Int64Array {
    let (from, to) = (per_second(from), per_second(to));
    if to == from {
        column.clone()
    } else if to > from {
        let factor = to / from;
        map(column, faults, |v| v.checked_mul(factor), |v| format!("{} is out of range", show(v)))
    } else {
        let factor = from / to;
        map::<_, Int64Type>(
            column,
            faults,
            |v| (v % factor == 0).then_some(v / factor),
            |v| format!("{} has more decimals of a second than fit", show(v)),
        )
    }
}

/// A zone-less timestamp as the instant at which clocks of `zone` show it.
pub(super) fn to_instant(column: &Int64Array, unit: TimeUnit, zone: &Zone, faults: &mut Vec<CellFault>) -> Int64Array {
    let per = per_second(unit);
    let convert = |v: i64| zone.instant_of(v.div_euclid(per)).ok()?.checked_mul(per)?.checked_add(v.rem_euclid(per));
    map(column, faults, convert, |v| {
        let reason = zone.instant_of(v.div_euclid(per)).err().unwrap_or("is out of range");
        format!("{} {reason} (time zone {})", show_timestamp(v, unit), zone.name())
    })
}

/// An instant as what clocks of `zone` show then.
pub(super) fn to_local(column: &Int64Array, unit: TimeUnit, zone: &Zone, faults: &mut Vec<CellFault>) -> Int64Array {
    let per = per_second(unit);
    let convert = |v: i64| v.checked_add(zone.offset_at(v.div_euclid(per))?.checked_mul(per)?);
    map(column, faults, convert, |v| format!("{} is too far away for a time zone", show_timestamp(v, unit)))
}

/// The days of timestamps. When `strict`, a time of day other than midnight is a fault, else it is dropped.
pub(super) fn to_days(column: &Int64Array, unit: TimeUnit, strict: bool, faults: &mut Vec<CellFault>) -> Int64Array {
    let day = DAY * per_second(unit);
    let convert = |v: i64| {
        let days = v.div_euclid(day);
        (i32::try_from(days).is_ok() && (!strict || v.rem_euclid(day) == 0)).then_some(days)
    };
    map(column, faults, convert, |v| format!("{} is no date: its time of day would be lost", show_timestamp(v, unit)))
}

/// Midnight of days.
pub(super) fn of_days(column: &Int64Array, unit: TimeUnit, faults: &mut Vec<CellFault>) -> Int64Array {
    let day = DAY * per_second(unit);
    map(
        column,
        faults,
        |v| v.checked_mul(day),
        |v| {
            let mut text = String::new();
            write_date(v, &mut text);
            format!("{text} is out of the range of timestamps in {unit:?}s")
        },
    )
}

/// The times of day of timestamps; the date is dropped.
pub(super) fn time_of_day(column: &Int64Array, unit: TimeUnit) -> Int64Array {
    let day = DAY * per_second(unit);
    column.unary(|v| v.rem_euclid(day))
}

/// Durations (or whole numbers) as times of day: from midnight up to, not including, the next.
pub(super) fn within_day(column: &Int64Array, unit: TimeUnit, faults: &mut Vec<CellFault>) -> Int64Array {
    let day = DAY * per_second(unit);
    map(
        column,
        faults,
        |v| (0..day).contains(&v).then_some(v),
        |v| format!("{} is no time of day", show_duration(v, unit)),
    )
}

/// How texts are read as dates and times: the configured formats first, then ISO 8601 with a space or a `T`.
pub(super) struct Dates<'a> {
    formats: &'a Formats,
    /// The zone of texts without an offset that become instants.
    texts: Zone,
    /// The zone of texts with an offset that become zone-less.
    shown: Zone,
    /// From whose clocks to whose texts without an offset go that become zone-less, where these are not the same.
    moved: Option<(Zone, Zone)>,
}

impl<'a> Dates<'a> {
    pub(super) fn new(options: &'a ConvertOptions) -> Self {
        let (source, target) = (options.source, options.target);
        Self {
            formats: &options.formats,
            texts: Zone::new(source.texts),
            shown: Zone::new(if options.moves_clocks() { target.clocks } else { target.texts }),
            moved: options.moves_clocks().then(|| (Zone::new(source.clocks), Zone::new(target.clocks))),
        }
    }

    fn read(&self, text: &str) -> Result<Moment, String> {
        let formats = self.formats;
        [&formats.datetime, &formats.date, &formats.time]
            .into_iter()
            .flatten()
            .chain(&formats.extra)
            .find_map(|pattern| pattern.parse(text))
            .or_else(|| read_iso(text))
            .ok_or_else(|| {
                let configured = if formats.are_default() { "" } else { ", nor of the configured formats" };
                format!("{} is no date or time of the form 2024-01-31 12:34:56.789{configured}", quoted(text))
            })
    }

    /// A local day and nanosecond of the day.
    fn local(&self, text: &str) -> Result<(i64, i64), String> {
        let moment = self.read(text)?;
        let days = moment.days.ok_or_else(|| format!("{} has no date", quoted(text)))?;
        // A date alone is no time that clocks show.
        let Some(nanos) = moment.nanos else { return Ok((days, 0)) };
        let (instant, zone) = match (moment.offset, &self.moved) {
            (Some(offset), _) => (days * DAY + nanos / NANOS - offset, &self.shown),
            (None, Some((there, here))) => (self.instant(days * DAY + nanos / NANOS, there, text)?, here),
            (None, None) => return Ok((days, nanos)),
        };
        let far = || format!("{} is too far away for a time zone", quoted(text));
        let local = instant + zone.offset_at(instant).ok_or_else(far)?;
        Ok((local.div_euclid(DAY), local.rem_euclid(DAY) * NANOS + nanos % NANOS))
    }

    fn instant(&self, local: i64, zone: &Zone, text: &str) -> Result<i64, String> {
        zone.instant_of(local).map_err(|reason| format!("{} {reason} (time zone {})", quoted(text), zone.name()))
    }

    pub(super) fn dates(&self, column: &ArrayRef, faults: &mut Vec<CellFault>) -> Result<ArrayRef> {
        let days = map_text::<Int64Type>(column.as_string(), faults, |text| {
            let (days, nanos) = self.local(text)?;
            if nanos != 0 {
                return Err(format!("{} is no date: its time of day would be lost", quoted(text)));
            }
            i32::try_from(days).map(i64::from).map_err(|_| format!("{} is out of range", quoted(text)))
        });
        of_counts(days, &DataType::Date32)
    }

    pub(super) fn times(&self, column: &ArrayRef, unit: TimeUnit, faults: &mut Vec<CellFault>) -> Int64Array {
        map_text::<Int64Type>(column.as_string(), faults, |text| {
            let moment = self.read(text)?;
            match (moment.days, moment.nanos, moment.offset) {
                (None, Some(nanos), None) => in_unit(0, nanos, unit, text),
                _ => Err(format!("{} is no time of day", quoted(text))),
            }
        })
    }

    pub(super) fn timestamps(&self, column: &ArrayRef, unit: TimeUnit, faults: &mut Vec<CellFault>) -> Int64Array {
        map_text::<Int64Type>(column.as_string(), faults, |text| {
            let (days, nanos) = self.local(text)?;
            in_unit(days * DAY, nanos, unit, text)
        })
    }

    pub(super) fn instants(&self, column: &ArrayRef, unit: TimeUnit, faults: &mut Vec<CellFault>) -> Int64Array {
        map_text::<Int64Type>(column.as_string(), faults, |text| {
            let moment = self.read(text)?;
            let days = moment.days.ok_or_else(|| format!("{} has no date", quoted(text)))?;
            let nanos = moment.nanos.unwrap_or(0);
            let local = days * DAY + nanos / NANOS;
            let instant = match moment.offset {
                Some(offset) => local - offset,
                None => self.instant(local, &self.texts, text)?,
            };
            in_unit(instant, nanos % NANOS, unit, text)
        })
    }
}

/// Texts as durations: `[-]hours:minutes[:seconds[.decimals]]`.
pub(super) fn durations(column: &ArrayRef, unit: TimeUnit, faults: &mut Vec<CellFault>) -> Int64Array {
    map_text::<Int64Type>(column.as_string(), faults, |text| {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let fault = || format!("{} is no duration of the form 838:59:59.5", quoted(text));
        let (hours, rest) = rest.split_once(':').ok_or_else(fault)?;
        if hours.is_empty() || hours.len() > 10 || !hours.bytes().all(|b| b.is_ascii_digit()) {
            return Err(fault());
        }
        let hours: i64 = hours.parse().map_err(|_| fault())?;
        // Minutes and seconds are those of a time of day in the hour 0.
        let nanos = read_time(rest.as_bytes(), Some(0)).ok_or_else(fault)?;
        let sign = if negative { -1 } else { 1 };
        let (seconds, nanos) = (hours * 3600 + nanos / NANOS, nanos % NANOS);
        in_unit(seconds, nanos, unit, text).map(|v| sign * v)
    })
}

fn in_unit(seconds: i64, nanos: i64, unit: TimeUnit, text: &str) -> Result<i64, String> {
    let per = per_second(unit);
    let factor = NANOS / per;
    if nanos % factor != 0 {
        return Err(format!("{} has more decimals of a second than fit", quoted(text)));
    }
    // In i128, for near the ends of the range the whole seconds alone are outside of it.
    let count = i128::from(seconds) * i128::from(per) + i128::from(nanos / factor);
    i64::try_from(count).map_err(|_| format!("{} is out of range", quoted(text)))
}

/// Reads `2024-01-31`, `2024-01-31 12:34[:56[.789]]`, with a `T` for the space, with an offset, ` BC`; or a time alone.
fn read_iso(text: &str) -> Option<Moment> {
    if text.as_bytes().get(2) == Some(&b':') {
        return Some(Moment { nanos: Some(read_time(text.as_bytes(), None)?), ..Moment::default() });
    }
    let (text, before_christ) = match text.strip_suffix(" BC") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let bytes = rest.as_bytes();
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(4..=6).contains(&digits) || bytes.get(digits) != Some(&b'-') || bytes.get(digits + 3) != Some(&b'-') {
        return None;
    }
    let mut year = sign * bytes[..digits].iter().fold(0, |n, b| n * 10 + i64::from(b - b'0'));
    if before_christ {
        year = 1 - year;
    }
    let day = days(year, two(bytes, digits + 1)? as u32, two(bytes, digits + 4)? as u32)?;
    let mut moment = Moment { days: Some(day), ..Moment::default() };
    // All bytes up to here are ASCII, so that this cuts at a character.
    let rest = rest.get(digits + 6..)?;
    if rest.is_empty() {
        return Some(moment);
    }
    let rest = rest.strip_prefix([' ', 'T', 't'])?;
    let end = rest.bytes().take_while(|b| matches!(b, b'0'..=b'9' | b':' | b'.')).count();
    moment.nanos = Some(read_time(&rest.as_bytes()[..end], None)?);
    let rest = rest[end..].strip_prefix(' ').unwrap_or(&rest[end..]);
    if !rest.is_empty() {
        let (offset, after) = read_offset(rest)?;
        if !after.is_empty() {
            return None;
        }
        moment.offset = Some(offset);
    }
    Some(moment)
}

/// Nanoseconds of `12:34`, `12:34:56`, `12:34:56.789`, without the hour where it is given.
fn read_time(bytes: &[u8], hour: Option<i64>) -> Option<i64> {
    let (hour, at) = match hour {
        Some(hour) => (hour, 0),
        None if bytes.get(2) == Some(&b':') => (two(bytes, 0)?, 3),
        None => return None,
    };
    let minute = two(bytes, at)?;
    let mut nanos = (hour * 3600 + minute * 60) * NANOS;
    let mut second = 0;
    if bytes.len() > at + 2 {
        if bytes[at + 2] != b':' {
            return None;
        }
        second = two(bytes, at + 3)?;
        nanos += second * NANOS;
        if bytes.len() > at + 5 {
            let decimals = &bytes[at + 6..];
            if bytes[at + 5] != b'.' || decimals.is_empty() || !decimals.iter().all(u8::is_ascii_digit) {
                return None;
            }
            let (kept, dropped) = decimals.split_at(decimals.len().min(9));
            if dropped.iter().any(|b| *b != b'0') {
                return None;
            }
            nanos += kept.iter().fold(0, |n, b| n * 10 + i64::from(b - b'0')) * 10_i64.pow(9 - kept.len() as u32);
        }
    }
    (hour < 24 && minute < 60 && second < 60).then_some(nanos)
}

fn two(bytes: &[u8], at: usize) -> Option<i64> {
    let (a, b) = (*bytes.get(at)?, *bytes.get(at + 1)?);
    (a.is_ascii_digit() && b.is_ascii_digit()).then(|| i64::from(a - b'0') * 10 + i64::from(b - b'0'))
}

/// The last two digits of a number.
fn push_two(value: i64, out: &mut String) {
    let value = value.rem_euclid(100) as u8;
    out.push((b'0' + value / 10) as char);
    out.push((b'0' + value % 10) as char);
}

/// `2024-01-31`; years before 0 and after 9999 carry a sign, as ISO 8601 has it.
pub(super) fn write_date(day: i64, out: &mut String) {
    let (year, month, day) = civil(day);
    if (0..=9999).contains(&year) {
        push_two(year / 100, out);
        push_two(year % 100, out);
    } else {
        let _ = write!(out, "{year:+05}");
    }
    out.push('-');
    push_two(month.into(), out);
    out.push('-');
    push_two(day.into(), out);
}

fn write_decimals(part: i64, per: i64, out: &mut String) {
    if part != 0 {
        let width = per.ilog10() as usize;
        let _ = write!(out, ".{part:0width$}");
        out.truncate(out.trim_end_matches('0').len());
    }
}

/// `12:34:56.789`, from a count within the day.
pub(super) fn write_time(count: i64, unit: TimeUnit, out: &mut String) {
    let per = per_second(unit);
    let seconds = count / per;
    push_two(seconds / 3600, out);
    out.push(':');
    push_two(seconds / 60 % 60, out);
    out.push(':');
    push_two(seconds % 60, out);
    write_decimals(count % per, per, out);
}

/// `2024-01-31 12:34:56.789`.
pub(super) fn write_timestamp(count: i64, unit: TimeUnit, out: &mut String) {
    let per = per_second(unit);
    let seconds = count.div_euclid(per);
    write_date(seconds.div_euclid(DAY), out);
    out.push(' ');
    write_time(seconds.rem_euclid(DAY) * per + count.rem_euclid(per), unit, out);
}

/// `2024-01-31 12:34:56.789+01:00`, as clocks of `zone` show it.
pub(super) fn write_instant(count: i64, unit: TimeUnit, zone: &Zone, out: &mut String) {
    let per = per_second(unit);
    let local = |offset: i64| count.checked_add(offset * per);
    // Beyond the years that zones know, and at the very ends of the range, in UTC.
    let offset = zone.offset_at(count.div_euclid(per)).filter(|o| local(*o).is_some()).unwrap_or(0);
    write_timestamp(local(offset).unwrap_or(count), unit, out);
    out.push(if offset < 0 { '-' } else { '+' });
    let offset = offset.abs();
    push_two(offset / 3600, out);
    out.push(':');
    push_two(offset / 60 % 60, out);
    if offset % 60 != 0 {
        out.push(':');
        push_two(offset % 60, out);
    }
}

/// `-838:59:59.5`.
pub(super) fn write_duration(count: i64, unit: TimeUnit, out: &mut String) {
    let per = per_second(unit);
    if count < 0 {
        out.push('-');
    }
    let (seconds, part) = ((count / per).unsigned_abs(), (count % per).abs());
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    write_decimals(part, per, out);
}

pub(super) fn show_timestamp(count: i64, unit: TimeUnit) -> String {
    let mut text = String::new();
    write_timestamp(count, unit, &mut text);
    text
}

pub(super) fn show_duration(count: i64, unit: TimeUnit) -> String {
    let mut text = String::new();
    write_duration(count, unit, &mut text);
    text
}
