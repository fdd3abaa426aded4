//! Days and clocks as the protocol counts them.

use std::fmt::Write;

/// Days from 0001-01-01, where `date` begins, to 1970-01-01.
pub const DAYS_TO_1970: i64 = 719_162;

/// Days from 1900-01-01, where `datetime` begins, to 1970-01-01.
pub const DAYS_TO_1900: i64 = 25_567;

/// An instant as `2024-02-29 12:34:56.1234567 +05:30`: `days` since 0001-01-01 and `increments` of 10⁻`scale` seconds in
/// UTC, shown on the clock of `offset` minutes.
pub fn show_offset(days: u32, increments: u64, scale: u8, offset: i16, out: &mut String) {
    let per_second = 10u64.pow(u32::from(scale.min(7)));
    let seconds = i64::from(days) * 86_400 + (increments / per_second) as i64 + i64::from(offset) * 60;
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, date) = civil(day - DAYS_TO_1970);
    // Writing to a String cannot fail.
    let _ =
        write!(out, "{year:04}-{month:02}-{date:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    if scale > 0 {
        let _ = write!(out, ".{:0width$}", increments % per_second, width = usize::from(scale.min(7)));
    }
    let sign = if offset < 0 { '-' } else { '+' };
    let _ = write!(out, " {sign}{:02}:{:02}", offset.unsigned_abs() / 60, offset.unsigned_abs() % 60);
}

/// Days since 1970 as year, month and day. Years begin in March, so that the leap day is the last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_show_the_clock_of_their_offset() {
        let show = |days, increments, scale, offset| {
            let mut text = String::new();
            show_offset(days, increments, scale, offset, &mut text);
            text
        };
        assert_eq!(show(719_162, 0, 0, 0), "1970-01-01 00:00:00 +00:00");
        assert_eq!(show(719_162, 1, 7, 330), "1970-01-01 05:30:00.0000001 +05:30");
        assert_eq!(show(0, 36_000_000_000, 7, -60), "0001-01-01 00:00:00.0000000 -01:00");
        assert_eq!(show(719_162 + 19_782, 123, 3, -1), "2024-02-28 23:59:00.123 -00:01");
    }
}
