//! Values of the text protocol, parsed from their bytes without an allocation.

use arrow::datatypes::i256;

/// A cell that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    /// A date that no calendar has.
    ZeroDate,
    /// Anything else, in a sentence.
    Value(&'static str),
}

/// A signed integer.
pub(crate) fn int(cell: &[u8]) -> Option<i64> {
    let (negative, digits) = match cell {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, cell),
    };
    let magnitude = unsigned(digits)?;
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// An unsigned integer; leading zeros (zerofill) are fine.
pub(crate) fn unsigned(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    // Nineteen digits cannot overflow.
    if digits.len() <= 19 {
        let mut value = 0u64;
        for &d in digits {
            let d = d.wrapping_sub(b'0');
            if d > 9 {
                return None;
            }
            value = value * 10 + u64::from(d);
        }
        return Some(value);
    }
    digits.iter().try_fold(0u64, |value, d| {
        let d = d.wrapping_sub(b'0');
        value.checked_mul(10)?.checked_add(u64::from((d <= 9).then_some(d)?))
    })
}

/// A decimal of up to 38 digits, as an integer of `scale` decimals.
#[inline]
pub(crate) fn decimal128(cell: &[u8], scale: usize) -> Option<i128> {
    if cell.len() + scale <= 18
        && let Some(value) = short_decimal(cell, scale)
    {
        return Some(value.into());
    }
    long_decimal(cell, scale)
}

/// A decimal so short that its digits fit 64 bits however they stand; `None` also for those that have more decimals than
/// `scale`.
#[inline]
fn short_decimal(cell: &[u8], scale: usize) -> Option<i64> {
    const TENS: [i64; 19] = {
        let mut tens = [1; 19];
        let mut i = 1;
        while i < 19 {
            tens[i] = tens[i - 1] * 10;
            i += 1;
        }
        tens
    };
    let (negative, digits) = match cell {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, cell),
    };
    let (mut value, mut point) = (0i64, None);
    for (i, byte) in digits.iter().enumerate() {
        match byte.wrapping_sub(b'0') {
            digit @ 0..=9 => value = value * 10 + i64::from(digit),
            _ if *byte == b'.' && point.is_none() => point = Some(i),
            _ => return None,
        }
    }
    let decimals = point.map_or(0, |at| digits.len() - at - 1);
    let value = value * TENS.get(scale.checked_sub(decimals)?)?;
    (!digits.is_empty()).then_some(if negative { -value } else { value })
}

fn long_decimal(cell: &[u8], scale: usize) -> Option<i128> {
    let mut value = 0i128;
    let negative = decimal_digits(cell, scale, |d| {
        value = value.checked_mul(10)?.checked_add(i128::from(d))?;
        Some(())
    })?;
    Some(if negative { -value } else { value })
}

/// A decimal of up to 76 digits, as an integer of `scale` decimals.
pub(crate) fn decimal256(cell: &[u8], scale: usize) -> Option<i256> {
    // In blocks of 18 digits: arithmetic of 256 bits is slow.
    let (mut value, mut block, mut factor) = (i256::ZERO, 0i64, 1i64);
    let join = |value: i256, block: i64, factor: i64| {
        value.checked_mul(i256::from_i128(i128::from(factor)))?.checked_add(i256::from_i128(i128::from(block)))
    };
    let negative = decimal_digits(cell, scale, |d| {
        block = block * 10 + i64::from(d);
        factor *= 10;
        if factor == 1_000_000_000_000_000_000 {
            value = join(value, block, factor)?;
            (block, factor) = (0, 1);
        }
        Some(())
    })?;
    let value = join(value, block, factor)?;
    Some(if negative { value.wrapping_neg() } else { value })
}

/// Gives every digit of a decimal to `each`, filled up with zeros to `scale` decimals; says whether it is negative.
fn decimal_digits(cell: &[u8], scale: usize, mut each: impl FnMut(u8) -> Option<()>) -> Option<bool> {
    let (negative, digits) = match cell {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, cell),
    };
    let mut decimals = None;
    for &byte in digits {
        match byte {
            b'0'..=b'9' => {
                if let Some(n) = &mut decimals {
                    *n += 1;
                    if *n > scale {
                        if byte != b'0' {
                            return None;
                        }
                        continue;
                    }
                }
                each(byte - b'0')?;
            }
            b'.' if decimals.is_none() => decimals = Some(0),
            _ => return None,
        }
    }
    for _ in decimals.unwrap_or(0)..scale {
        each(0)?;
    }
    (!digits.is_empty()).then_some(negative)
}

fn pair(cell: &[u8], at: usize) -> Option<u32> {
    let (a, b) = (cell.get(at)?.wrapping_sub(b'0'), cell.get(at + 1)?.wrapping_sub(b'0'));
    (a <= 9 && b <= 9).then_some(u32::from(a) * 10 + u32::from(b))
}

/// `2024-02-29` as days since 1970.
pub(crate) fn date(cell: &[u8]) -> Result<i32, Bad> {
    const WRONG: Bad = Bad::Value("it is no date");
    if cell.len() != 10 || cell[4] != b'-' || cell[7] != b'-' {
        return Err(WRONG);
    }
    let year = pair(cell, 0).zip(pair(cell, 2)).map(|(a, b)| a * 100 + b).ok_or(WRONG)?;
    let month = pair(cell, 5).ok_or(WRONG)?;
    let day = pair(cell, 8).ok_or(WRONG)?;
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let last = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    // Also dates like 2024-02-31, which MySQL holds under ALLOW_INVALID_DATES.
    if month == 0 || day == 0 || day > last {
        return Err(Bad::ZeroDate);
    }
    Ok(days(year as i32, month as i32, day as i32))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. Years begin in March, so that the leap day is the last.
fn days(year: i32, month: i32, day: i32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The first of January of a year.
pub(crate) fn new_year(cell: &[u8]) -> Result<i32, Bad> {
    match int(cell) {
        Some(0) => Err(Bad::ZeroDate),
        Some(year @ 1..=9999) => Ok(days(year as i32, 1, 1)),
        _ => Err(Bad::Value("it is no year")),
    }
}

/// `2024-02-29 12:34:56.123456` as µs since 1970.
pub(crate) fn timestamp(cell: &[u8]) -> Result<i64, Bad> {
    const WRONG: Bad = Bad::Value("it is no date with time");
    let day = date(cell.get(..10).ok_or(WRONG)?)?;
    let time = match cell.len() {
        10 => 0,
        _ if cell[10] == b' ' => clock(&cell[11..]).ok_or(WRONG)?,
        _ => return Err(WRONG),
    };
    Ok(i64::from(day) * 86_400_000_000 + time)
}

/// `-838:59:59.000000` as µs.
pub(crate) fn duration(cell: &[u8]) -> Option<i64> {
    match cell {
        [b'-', rest @ ..] => clock(rest).map(|n| -n),
        _ => clock(cell),
    }
}

fn clock(cell: &[u8]) -> Option<i64> {
    let colon = cell.iter().position(|b| *b == b':')?;
    let hours = unsigned(&cell[..colon]).filter(|h| *h < 100_000)? as i64;
    let (minutes, seconds) = (pair(cell, colon + 1)?, pair(cell, colon + 4)?);
    if cell[colon + 3] != b':' || minutes > 59 || seconds > 59 {
        return None;
    }
    let micros = match &cell[colon + 6..] {
        [] => 0,
        [b'.', digits @ ..] if digits.len() <= 6 => unsigned(digits)? as i64 * 10i64.pow(6 - digits.len() as u32),
        _ => return None,
    };
    Some(((hours * 60 + i64::from(minutes)) * 60 + i64::from(seconds)) * 1_000_000 + micros)
}

/// `00112233-4455-6677-8899-aabbccddeeff` as bytes.
pub(crate) fn uuid(cell: &[u8]) -> Option<[u8; 16]> {
    let mut bytes = [0u8; 16];
    let mut digits = cell.iter().filter(|b| **b != b'-').map(|b| (*b as char).to_digit(16));
    for byte in &mut bytes {
        *byte = (digits.next()?? * 16 + digits.next()??) as u8;
    }
    digits.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_to_the_last_digit() {
        assert_eq!(int(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(int(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(int(b"9223372036854775808"), None);
        assert_eq!(unsigned(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(unsigned(b"18446744073709551616"), None);
        assert_eq!((unsigned(b"0000000000000000000000042"), int(b""), int(b"1x")), (Some(42), None, None));
    }

    #[test]
    fn decimals_to_the_last_digit() {
        assert_eq!(decimal128(b"-12.30", 2), Some(-1230));
        assert_eq!(decimal128(b"5", 3), Some(5000));
        assert_eq!(decimal128(b"1.005", 2), None);
        assert_eq!(decimal128(b"-99999999999999.99", 2), Some(-9_999_999_999_999_999));
        assert_eq!(decimal128(b"-9999999999999999.99", 2), Some(-999_999_999_999_999_999));
        assert_eq!(decimal128(b"9", 17), Some(900_000_000_000_000_000));
        let nines = "9".repeat(65);
        assert_eq!(decimal256(nines.as_bytes(), 0).unwrap().to_string(), nines);
        assert_eq!(decimal256(b"-0.000000000000000000000000000001", 30).unwrap(), i256::from_i128(-1));
    }

    #[test]
    fn dates_and_times() {
        assert_eq!(date(b"1970-01-01"), Ok(0));
        assert_eq!(date(b"2024-02-29"), Ok(19_782));
        assert_eq!(date(b"9999-12-31"), Ok(2_932_896));
        assert_eq!(date(b"0001-01-01"), Ok(-719_162));
        for zero in ["0000-00-00", "2024-00-10", "2024-02-00", "2023-02-29"] {
            assert_eq!(date(zero.as_bytes()), Err(Bad::ZeroDate), "{zero}");
        }
        assert_eq!(timestamp(b"1970-01-02 00:00:01.5"), Ok(86_401_500_000));
        assert_eq!(timestamp(b"1969-12-31 23:59:59.999999"), Ok(-1));
        assert_eq!(duration(b"-838:59:59"), Some(-3_020_399_000_000));
        assert_eq!(duration(b"00:00:00.000001"), Some(1));
        assert_eq!(duration(b"1:2:3"), None);
        assert_eq!(uuid(b"00112233-4455-6677-8899-aabbccddeeff").unwrap()[15], 0xff);
    }
}
