//! numeric: a sign, a weight and groups of four decimal digits.

use arrow::datatypes::i256;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;

/// A numeric as it stands on the wire.
struct Parts<'a> {
    weight: i32,
    sign: u16,
    scale: usize,
    digits: &'a [u8],
}

impl<'a> Parts<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let word = |i: usize| Some(u16::from_be_bytes([*bytes.get(2 * i)?, *bytes.get(2 * i + 1)?]));
        let digits = bytes.get(8..8 + 2 * usize::from(word(0)?))?;
        Some(Self { weight: i32::from(word(1)? as i16), sign: word(2)?, scale: usize::from(word(3)?), digits })
    }

    fn groups(&self) -> impl Iterator<Item = u16> + 'a {
        self.digits.chunks_exact(2).map(|d| u16::from_be_bytes([d[0], d[1]]))
    }

    /// `NaN`, `Infinity` or `-Infinity`.
    fn special(&self) -> Option<&'static str> {
        match self.sign {
            NAN => Some("NaN"),
            INFINITY => Some("Infinity"),
            NEGATIVE_INFINITY => Some("-Infinity"),
            _ => None,
        }
    }
}

/// Why a numeric is no decimal of the column.
fn misfit(parts: &Parts<'_>) -> String {
    match parts.special() {
        Some(text) => format!("{text} has no form in a decimal column"),
        None => "the number does not fit the column's precision and scale".into(),
    }
}

const POWERS: [u16; 4] = [1, 10, 100, 1000];

macro_rules! decimal {
    ($(#[$doc:meta])* $name:ident, $number:ty, $from:expr) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// NaN, infinities, and what the scale or the width cannot hold exactly.
        pub fn $name(bytes: &[u8], scale: i32) -> Result<$number, String> {
            let from = $from;
            let parts = Parts::read(bytes).ok_or("the numeric is cut short")?;
            if parts.special().is_some() {
                return Err(misfit(&parts));
            }
            let compute = || {
                let mut number: $number = from(0);
                // The power of ten of the last digit of the group, once the scale is taken out.
                let mut power = parts.weight * 4 + scale;
                for group in parts.groups() {
                    if power >= 0 {
                        number = number.checked_mul(from(10_000))?.checked_add(from(group))?;
                    } else {
                        let cut = POWERS.get(-power as usize).copied();
                        let (kept, lost) = cut.map_or((0, group), |c| (group / c, group % c));
                        if lost != 0 {
                            return None;
                        }
                        if let Some(cut) = cut {
                            number = number.checked_mul(from(10_000 / cut))?.checked_add(from(kept))?;
                        }
                    }
                    power -= 4;
                }
                power += 4;
                if parts.digits.is_empty() {
                    return Some(number);
                }
                while power >= 4 {
                    number = number.checked_mul(from(10_000))?;
                    power -= 4;
                }
                if power > 0 {
                    number = number.checked_mul(from(POWERS[power as usize]))?;
                }
                if parts.sign == NEGATIVE { number.checked_neg() } else { Some(number) }
            };
            compute().ok_or_else(|| misfit(&parts))
        }
    };
}

decimal!(
    /// The unscaled value of a decimal with up to 18 digits: as [`to_i128`], and much faster.
    to_i64,
    i64,
    |n: u16| i64::from(n)
);
decimal!(
    /// The unscaled value of a decimal with up to 38 digits.
    to_i128,
    i128,
    |n: u16| i128::from(n)
);
decimal!(
    /// The unscaled value of a decimal with up to 76 digits.
    to_i256,
    i256,
    |n: u16| i256::from_i128(i128::from(n))
);

/// Appends the number's text, with all digits of its scale.
///
/// # Errors
/// Bytes that are no numeric.
pub fn to_text(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), String> {
    let parts = Parts::read(bytes).ok_or("the numeric is cut short")?;
    if let Some(special) = parts.special() {
        text.extend_from_slice(special.as_bytes());
        return Ok(());
    }
    if parts.sign == NEGATIVE {
        text.push(b'-');
    }
    let groups: Vec<u16> = parts.groups().collect();
    let group = |i: i32| usize::try_from(i).ok().and_then(|i| groups.get(i)).copied().unwrap_or(0);
    let start = text.len();
    for i in 0..=parts.weight {
        push_group(group(i), text);
    }
    // No zeros in front, but one digit at least.
    let zeros = text[start..].iter().take_while(|b| **b == b'0').count();
    text.drain(start..start + zeros);
    if text.len() == start {
        text.push(b'0');
    }
    if parts.scale > 0 {
        text.push(b'.');
        let start = text.len();
        // Negative for a number below 0.0001: groups between the point and the first stored one are zeros.
        let mut i = parts.weight + 1;
        while text.len() - start < parts.scale {
            push_group(group(i), text);
            i += 1;
        }
        text.truncate(start + parts.scale);
    }
    Ok(())
}

fn push_group(group: u16, text: &mut Vec<u8>) {
    text.extend([group / 1000, group / 100 % 10, group / 10 % 10, group % 10].map(|d| b'0' + d as u8));
}

/// Appends the wire form of decimal digits. `digits` has no sign and no point; the last `scale` of them stand after
/// the point.
fn push_digits(negative: bool, digits: &[u8], scale: usize, out: &mut Vec<u8>) {
    // Groups of four are counted from the point; the first and the last may have to be filled up.
    let integer = digits.len().saturating_sub(scale);
    let gap = scale.saturating_sub(digits.len());
    let lead = if integer > 0 { (4 - integer % 4) % 4 } else { gap % 4 };
    let mut weight = if integer > 0 { integer.div_ceil(4) as i32 - 1 } else { -1 - (gap / 4) as i32 };
    let mut groups: Vec<u16> = Vec::with_capacity(digits.len() / 4 + 2);
    let (mut group, mut filled) = (0u16, lead);
    for digit in digits {
        group = group * 10 + u16::from(digit - b'0');
        filled += 1;
        if filled == 4 {
            groups.push(group);
            (group, filled) = (0, 0);
        }
    }
    if filled > 0 {
        groups.push(group * [10_000, 1000, 100, 10][filled]);
    }
    let zeros = groups.iter().take_while(|g| **g == 0).count();
    weight -= zeros as i32;
    let end = groups.iter().rposition(|g| *g != 0).map_or(zeros, |last| last + 1);
    let groups = groups.get(zeros..end).unwrap_or_default();
    let (weight, negative) = if groups.is_empty() { (0, false) } else { (weight, negative) };
    out.extend_from_slice(&(groups.len() as u16).to_be_bytes());
    out.extend_from_slice(&(weight as i16).to_be_bytes());
    out.extend_from_slice(&(if negative { NEGATIVE } else { 0 }).to_be_bytes());
    out.extend_from_slice(&(scale as u16).to_be_bytes());
    for group in groups {
        out.extend_from_slice(&group.to_be_bytes());
    }
}

/// Appends the wire form of an unscaled decimal.
pub fn from_i128(value: i128, scale: i8, out: &mut Vec<u8>) {
    let mut buffer = [0u8; 40];
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    // Division of 64 bits is much cheaper than of 128.
    while rest > u128::from(u64::MAX) {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut rest = rest as u64;
    while rest > 0 {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    scaled(value < 0, &buffer[at..], scale, out);
}

/// Appends the length of the wire form of an unscaled decimal and the form itself, if it fits 64 bits once its last group is
/// filled up; else appends nothing and gives `false`. Money and quantities fit, and they are most decimals there are: groups
/// come from four or five divisions, with no digits between.
#[inline]
pub fn put_small(value: i128, scale: i8, out: &mut Vec<u8>) -> bool {
    let (Ok(small), Ok(scale)) = (u64::try_from(value.unsigned_abs()), u16::try_from(scale)) else { return false };
    let negative = value < 0;
    let fill = (4 - scale % 4) % 4;
    let Some(mut rest) = small.checked_mul(u64::from(POWERS[usize::from(fill)])) else { return false };
    // The length, four words, then up to five groups, filled from the end.
    let mut bytes = [0u8; 22];
    let mut at = bytes.len();
    // The weight of the group above the first.
    let mut weight = -(((scale + fill) / 4) as i16);
    while rest > 0 {
        let group = (rest % 10_000) as u16;
        rest /= 10_000;
        weight += 1;
        // Zeros at the end are not stored.
        if group != 0 || at < bytes.len() {
            at -= 2;
            bytes[at..at + 2].copy_from_slice(&group.to_be_bytes());
        }
    }
    let groups = ((bytes.len() - at) / 2) as u16;
    let (weight, sign) = if groups == 0 { (0, 0) } else { (weight - 1, if negative { NEGATIVE } else { 0 }) };
    for (i, word) in [groups, weight as u16, sign, scale].into_iter().enumerate() {
        bytes[at - 8 + 2 * i..at - 6 + 2 * i].copy_from_slice(&word.to_be_bytes());
    }
    let length = (bytes.len() - at + 8) as i32;
    bytes[at - 12..at - 8].copy_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&bytes[at - 12..]);
    true
}

/// Appends the wire form of an unscaled decimal.
pub fn from_i256(value: i256, scale: i8, out: &mut Vec<u8>) {
    let text = value.to_string();
    let digits = text.trim_start_matches('-').trim_start_matches('0');
    scaled(text.starts_with('-'), digits.as_bytes(), scale, out);
}

fn scaled(negative: bool, digits: &[u8], scale: i8, out: &mut Vec<u8>) {
    if scale < 0 && !digits.is_empty() {
        let mut longer = digits.to_vec();
        longer.resize(digits.len() + usize::from(scale.unsigned_abs()), b'0');
        push_digits(negative, &longer, 0, out);
    } else {
        push_digits(negative, digits, scale.max(0) as usize, out);
    }
}

/// Appends the wire form of a number's text: digits, a point, an exponent, `NaN`, `Infinity`.
///
/// # Errors
/// What is no number, or more than a numeric holds; with `max_scale`, more digits after the point than that.
pub fn from_text(text: &str, max_scale: Option<i32>, out: &mut Vec<u8>) -> Result<(), String> {
    let wrong = || format!("`{}` is no number", text.chars().take(60).collect::<String>());
    let trimmed = text.trim();
    let (negative, body) = match trimmed.as_bytes().first() {
        Some(b'-') => (true, &trimmed[1..]),
        Some(b'+') => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    let special = match body.to_ascii_lowercase().as_str() {
        "nan" => Some(NAN),
        "infinity" | "inf" => Some(if negative { NEGATIVE_INFINITY } else { INFINITY }),
        _ => None,
    };
    if let Some(sign) = special {
        out.extend_from_slice(&[0, 0, 0, 0]);
        out.extend_from_slice(&sign.to_be_bytes());
        // Infinities carry this scale on the wire, NaN none; the server asks for neither.
        out.extend_from_slice(&[0, 0]);
        return Ok(());
    }
    let (mantissa, exponent) = match body.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.parse::<i32>().map_err(|_| wrong())?),
        None => (body, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).skip_while(|b| *b == b'0').collect();
    let mut scale = fraction.len() as i64 - i64::from(exponent);
    if let Some(most) = max_scale {
        // Zeros behind the column's last digit say nothing.
        while scale > i64::from(most) && (digits.is_empty() || digits.last() == Some(&b'0')) {
            digits.pop();
            scale -= 1;
            if digits.is_empty() {
                scale = scale.min(i64::from(most));
            }
        }
        if scale > i64::from(most) {
            return Err(format!("more than {most} digits after the point"));
        }
    }
    if scale < 0 {
        if digits.len() as i64 - scale > 140_000 {
            return Err("the number is too large for a numeric".into());
        }
        if !digits.is_empty() {
            digits.resize(digits.len() + (-scale) as usize, b'0');
        }
        scale = 0;
    }
    if scale > 16_383 || digits.len() as i64 - scale > 131_072 {
        return Err("the number has more digits than a numeric holds".into());
    }
    push_digits(negative, &digits, scale as usize, out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        from_text(text, None, &mut out).unwrap();
        out
    }

    fn text(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        to_text(bytes, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_come_back_as_they_went() {
        for number in [
            "0",
            "1",
            "-1",
            "0.00",
            "1.10",
            "10000",
            "123456789.000001",
            "-0.0001",
            "0.00001",
            "0.000000001234",
            "100000000",
            "99999999999999999999999999999999999999.99",
            "NaN",
            "Infinity",
            "-Infinity",
            "0.10000",
            "12345.6789",
        ] {
            assert_eq!(text(&wire(number)), number);
        }
        assert_eq!(text(&wire("1.5e3")), "1500");
        assert_eq!(text(&wire("15E-4")), "0.0015");
        assert!(from_text("1,5", None, &mut vec![]).is_err());
        assert!(from_text("1.005", Some(2), &mut vec![]).is_err());
        assert!(from_text("1.500", Some(1), &mut vec![]).is_ok());
    }

    #[test]
    fn the_wire_form_is_the_servers() {
        // select numeric_send(12345.678): 3 groups, weight 1, scale 3.
        assert_eq!(wire("12345.678"), [0, 3, 0, 1, 0, 0, 0, 3, 0, 1, 0x09, 0x29, 0x1a, 0x7c]);
        // 0.00001: one group of weight -2.
        assert_eq!(wire("0.00001"), [0, 1, 0xff, 0xfe, 0, 0, 0, 5, 0x03, 0xe8]);
    }

    #[test]
    fn the_short_way_writes_what_the_long_one_does() {
        for scale in 0..24i8 {
            for power in 0..19 {
                for value in [0, 1, 7, 10_000, 12_345_678, u64::MAX / 1000].map(|n| n / 10u64.pow(power)) {
                    for value in [i128::from(value), -i128::from(value), i128::from(10u64.pow(power))] {
                        let magnitude = value.unsigned_abs() as u64;
                        let (mut short, mut long) = (Vec::new(), Vec::new());
                        if !put_small(value, scale, &mut short) {
                            assert!(magnitude > u64::MAX / 1000 && short.is_empty());
                            continue;
                        }
                        let length = i32::from_be_bytes(short[..4].try_into().unwrap());
                        assert_eq!(length as usize, short.len() - 4);
                        short.drain(..4);
                        let digits = magnitude.to_string();
                        push_digits(value < 0, digits.trim_start_matches('0').as_bytes(), scale as usize, &mut long);
                        assert_eq!(short, long, "{value} with scale {scale}");
                    }
                }
            }
        }
        // Too long once its last group is filled up.
        assert!(!put_small(u64::MAX.into(), 1, &mut vec![]));
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        for (number, scale, unscaled) in
            [("1.23", 2, 123i128), ("-0.01", 2, -1), ("1.5", 4, 15_000), ("99000", 0, 99_000), ("0", 5, 0)]
        {
            assert_eq!(to_i128(&wire(number), scale).unwrap(), unscaled, "{number}");
            assert_eq!(to_i64(&wire(number), scale).unwrap(), unscaled as i64, "{number}");
            assert_eq!(to_i256(&wire(number), scale).unwrap(), i256::from_i128(unscaled), "{number}");
            let mut back = Vec::new();
            from_i128(unscaled, scale as i8, &mut back);
            assert_eq!(to_i128(&back, scale).unwrap(), unscaled);
            back.clear();
            from_i256(i256::from_i128(unscaled), scale as i8, &mut back);
            assert_eq!(to_i128(&back, scale).unwrap(), unscaled);
        }
        let largest = "9".repeat(38);
        assert_eq!(to_i128(&wire(&format!("{}.{}", &largest[..37], 9)), 1).unwrap().to_string(), largest);
        assert!(to_i128(&wire("1.234"), 2).is_err());
        assert!(to_i128(&wire("NaN"), 2).unwrap_err().contains("NaN"));
        assert!(to_i64(&wire(&largest), 0).is_err());
    }
}
