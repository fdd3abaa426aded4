//! How values are spelled: digits, dates, bytes and texts, as LOAD DATA and SQL want them.

use std::io::Write;

use crate::encode::Style;

pub(crate) const LOWER: &[u8; 16] = b"0123456789abcdef";

pub(crate) fn signed(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    unsigned(value.unsigned_abs(), out);
}

/// Two digits each, from 00 to 99: half as many divisions.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut i = 0;
    while i < 100 {
        pairs[i] = [b'0' + (i / 10) as u8, b'0' + (i % 10) as u8];
        i += 1;
    }
    pairs
};

pub(crate) fn unsigned(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    while value >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(value % 100) as usize]);
        value /= 100;
    }
    if value >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[value as usize]);
    } else {
        at -= 1;
        digits[at] = b'0' + value as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

pub(crate) fn padded(value: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    unsigned(value, out);
    let digits = out.len() - start;
    if digits < width {
        out.resize(start + width, b'0');
        out.copy_within(start..start + digits, start + width - digits);
        out[start..start + width - digits].fill(b'0');
    }
}

pub(crate) fn float(value: f64, out: &mut Vec<u8>) {
    if value == 0.0 && value.is_sign_negative() {
        // Without the exponent it would be a decimal, which has no negative zero.
        out.extend_from_slice(b"-0e0");
    } else {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{value:?}");
    }
}

/// Digits with a point. Nearly all decimals have so few digits that 64 bits hold them.
pub(crate) fn decimal128(value: i128, scale: usize, out: &mut Vec<u8>) {
    let (Ok(short), Some(ten)) = (u64::try_from(value.unsigned_abs()), 10u64.checked_pow(scale as u32)) else {
        return decimal(value, scale, out);
    };
    if value < 0 {
        out.push(b'-');
    }
    unsigned(short / ten, out);
    if scale > 0 {
        out.push(b'.');
        padded(short % ten, scale, out);
    }
}

/// Digits with a point. Formatted at the end of `out`, then the point is put in.
pub(crate) fn decimal(value: impl std::fmt::Display, scale: usize, out: &mut Vec<u8>) {
    let start = out.len();
    let _ = write!(out, "{value}");
    if scale == 0 {
        return;
    }
    let first = start + usize::from(out.get(start) == Some(&b'-'));
    let digits = out.len() - first;
    if digits <= scale {
        let missing = scale + 1 - digits;
        out.resize(out.len() + missing, b'0');
        out.copy_within(first..first + digits, first + missing);
        out[first..first + missing].fill(b'0');
    }
    let point = out.len() - scale;
    out.insert(point, b'.');
}

pub(crate) fn quoted(style: Style, out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    if style == Style::Sql {
        out.push(b'\'');
    }
    value(out);
    if style == Style::Sql {
        out.push(b'\'');
    }
}

/// Days since 1970 as `2024-02-29`. Years begin in March, so that the leap day is the last.
pub(crate) fn date(days: i64, out: &mut Vec<u8>) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let [a, b] = match year {
        0..=9999 => [PAIRS[year as usize / 100], PAIRS[year as usize % 100]],
        _ => {
            padded(year.max(0) as u64, 4, out);
            out.extend_from_slice(&[b'-', PAIRS[month as usize][0], PAIRS[month as usize][1], b'-']);
            return out.extend_from_slice(&PAIRS[day as usize]);
        }
    };
    let (month, day) = (PAIRS[month as usize], PAIRS[day as usize]);
    out.extend_from_slice(&[a[0], a[1], b[0], b[1], b'-', month[0], month[1], b'-', day[0], day[1]]);
}

pub(crate) fn clock(micros: u64, out: &mut Vec<u8>) {
    let seconds = micros / 1_000_000;
    padded(seconds / 3600, 2, out);
    out.push(b':');
    padded(seconds / 60 % 60, 2, out);
    out.push(b':');
    padded(seconds % 60, 2, out);
    if !micros.is_multiple_of(1_000_000) {
        out.push(b'.');
        padded(micros % 1_000_000, 6, out);
    }
}

pub(crate) fn hex(bytes: &[u8], style: Style, out: &mut Vec<u8>) {
    if style == Style::Sql {
        out.extend_from_slice(b"X'");
    }
    hex_digits(bytes, out);
    if style == Style::Sql {
        out.push(b'\'');
    }
}

pub(crate) fn hex_digits(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        out.extend_from_slice(&[LOWER[usize::from(byte >> 4)], LOWER[usize::from(byte & 15)]]);
    }
}

/// Bytes of a text that must be escaped.
const fn marks(list: &[u8]) -> [bool; 256] {
    let mut marks = [false; 256];
    let mut i = 0;
    while i < list.len() {
        marks[list[i] as usize] = true;
        i += 1;
    }
    marks
}

const LOAD_MARKS: [bool; 256] = marks(b"\\\0\t\n");
const SQL_MARKS: [bool; 256] = marks(b"\\\0'");

pub(crate) fn text(bytes: &[u8], style: Style, out: &mut Vec<u8>) {
    let marks = match style {
        Style::Load => &LOAD_MARKS,
        Style::Sql => &SQL_MARKS,
    };
    if style == Style::Sql {
        out.push(b'\'');
    }
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| marks[usize::from(*b)]) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(match rest[at] {
            b'\t' => b't',
            b'\n' => b'n',
            0 => b'0',
            other => other,
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    if style == Style::Sql {
        out.push(b'\'');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn short_and_long_decimals_are_spelled_alike() {
        let mut value = 1i128;
        for digits in 0..38 {
            value = value * 10 + i128::from(digits % 10);
            for scale in [0, 1, 2, 9, 19, 20, 38] {
                for value in [value, -value, 0, 7, -10i128.pow(digits)] {
                    assert_eq!(
                        spelled(|out| decimal128(value, scale, out)),
                        spelled(|out| decimal(value, scale, out)),
                        "{value} {scale}"
                    );
                }
            }
        }
        assert_eq!(spelled(|out| decimal128(-5, 2, out)), "-0.05");
    }

    #[test]
    fn numbers_and_dates_have_all_their_digits() {
        for number in [0, 9, 10, 99, 100, 101, 999, 12_345, u64::MAX] {
            assert_eq!(spelled(|out| unsigned(number, out)), number.to_string());
        }
        let days = [(-719_528, "0000-01-01"), (0, "1970-01-01"), (19_782, "2024-02-29"), (2_932_896, "9999-12-31")];
        for (day, text) in days {
            assert_eq!(spelled(|out| date(day, out)), text);
        }
        assert_eq!(spelled(|out| date(2_932_897, out)), "10000-01-01");
    }
}
