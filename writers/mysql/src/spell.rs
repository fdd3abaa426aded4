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

pub(crate) fn unsigned(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
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
    padded(year.max(0) as u64, 4, out);
    out.push(b'-');
    padded(month as u64, 2, out);
    out.push(b'-');
    padded(day as u64, 2, out);
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

pub(crate) fn text(bytes: &[u8], style: Style, out: &mut Vec<u8>) {
    let mark = |b: u8| matches!((b, style), (b'\\' | 0, _) | (b'\t' | b'\n', Style::Load) | (b'\'', Style::Sql));
    if style == Style::Sql {
        out.push(b'\'');
    }
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| mark(*b)) {
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
