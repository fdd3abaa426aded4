//! Decimal numbers between text, doubles and integers, without a digit more or less.

use std::fmt::Write;

use arrow::datatypes::i256;

/// A decimal number: `digits × 10^exponent`. Kept between values so that none allocates.
#[derive(Debug, Clone, Default)]
pub struct Decimal {
    negative: bool,
    /// ASCII digits without leading zeros; empty for zero.
    digits: String,
    exponent: i64,
    text: String,
}

impl Decimal {
    /// Takes an integer.
    pub fn set_integer(&mut self, value: i64) {
        self.negative = value < 0;
        self.exponent = 0;
        self.digits.clear();
        if value != 0 {
            let _ = write!(self.digits, "{}", value.unsigned_abs());
        }
    }

    /// Takes a double as the shortest decimal that stands for it; `false` for NaN and infinities.
    pub fn set_real(&mut self, value: f64) -> bool {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let _ = write!(text, "{value:e}");
        let known = self.set_text(text.as_bytes());
        self.text = text;
        known
    }

    /// Takes `[+-]digits[.digits][e[+-]digits]`, with spaces around it; `false` for anything else.
    pub fn set_text(&mut self, text: &[u8]) -> bool {
        let text = text.trim_ascii();
        self.digits.clear();
        self.exponent = 0;
        self.negative = text.first() == Some(&b'-');
        let rest = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
        let mut seen = 0;
        let mut point = false;
        for (i, &byte) in rest.iter().enumerate() {
            match byte {
                b'0'..=b'9' => {
                    seen += 1;
                    self.exponent -= i64::from(point);
                    if byte != b'0' || !self.digits.is_empty() {
                        self.digits.push(char::from(byte));
                    }
                }
                b'.' if !point => point = true,
                b'e' | b'E' if seen > 0 => {
                    let exponent = std::str::from_utf8(&rest[i + 1..]).ok().and_then(|e| e.parse::<i32>().ok());
                    let Some(exponent) = exponent else { return false };
                    self.exponent += i64::from(exponent);
                    return true;
                }
                _ => return false,
            }
        }
        seen > 0
    }

    /// Brings the number to `scale` digits after the point; `false` when a digit would be lost or there are more than
    /// `precision`.
    pub fn rescale(&mut self, precision: u8, scale: i8) -> bool {
        if self.digits.is_empty() {
            return true;
        }
        let mut shift = self.exponent + i64::from(scale);
        while shift < 0 && self.digits.ends_with('0') {
            self.digits.pop();
            shift += 1;
        }
        if shift < 0 || self.digits.len() as i64 + shift > i64::from(precision) {
            return false;
        }
        self.digits.extend(std::iter::repeat_n('0', shift as usize));
        self.exponent = -i64::from(scale);
        true
    }

    /// The digits as an integer, after [`rescale`](Self::rescale).
    pub fn to_i128(&self) -> Option<i128> {
        let mut value: i128 = 0;
        for digit in self.digits.bytes() {
            value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
        }
        Some(if self.negative { -value } else { value })
    }

    /// The digits as an integer, after [`rescale`](Self::rescale).
    pub fn to_i256(&self) -> Option<i256> {
        if self.digits.is_empty() {
            return Some(i256::ZERO);
        }
        let value = i256::from_string(&self.digits)?;
        Some(if self.negative { value.wrapping_neg() } else { value })
    }

    /// The number without an exponent, as digits and at most one point; `None` when that would be absurdly long.
    pub fn write_plain(&self, text: &mut String) -> Option<()> {
        if self.digits.is_empty() {
            text.push('0');
            let decimals = usize::try_from(-self.exponent.min(0)).ok().filter(|n| *n <= 1000)?;
            if decimals > 0 {
                text.push('.');
                text.extend(std::iter::repeat_n('0', decimals));
            }
            return Some(());
        }
        if self.exponent.abs() > 100_000 {
            return None;
        }
        if self.negative {
            text.push('-');
        }
        let point = self.digits.len() as i64 + self.exponent;
        if self.exponent >= 0 {
            text.push_str(&self.digits);
            text.extend(std::iter::repeat_n('0', self.exponent as usize));
        } else if point > 0 {
            text.push_str(&self.digits[..point as usize]);
            text.push('.');
            text.push_str(&self.digits[point as usize..]);
        } else {
            text.push_str("0.");
            text.extend(std::iter::repeat_n('0', -point as usize));
            text.push_str(&self.digits);
        }
        Some(())
    }

    /// The number as an integer of 64 bits, if it is one.
    pub fn as_integer(&mut self) -> Option<i64> {
        if !self.rescale(19, 0) {
            return None;
        }
        i64::try_from(self.to_i128()?).ok()
    }

    /// The same number, whatever the zeros at its end.
    pub fn equals(&self, other: &Self) -> bool {
        let trim = |d: &Self| {
            let digits = d.digits.trim_end_matches('0').to_owned();
            let exponent = d.exponent + (d.digits.len() - digits.len()) as i64;
            (digits, exponent)
        };
        let (a, b) = (trim(self), trim(other));
        a.0 == b.0 && (a.0.is_empty() || (a.1 == b.1 && self.negative == other.negative))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(text: &str, precision: u8, scale: i8) -> Option<i128> {
        let mut decimal = Decimal::default();
        (decimal.set_text(text.as_bytes()) && decimal.rescale(precision, scale)).then(|| decimal.to_i128()).flatten()
    }

    #[test]
    fn text_becomes_exactly_that_number_or_nothing() {
        assert_eq!(scaled("19.99", 12, 2), Some(1999));
        assert_eq!(scaled(" -0.50 ", 12, 1), Some(-5));
        assert_eq!(scaled("1e3", 12, 2), Some(100_000));
        assert_eq!(scaled("0.000", 3, 0), Some(0));
        assert_eq!(scaled("19.995", 12, 2), None);
        assert_eq!(scaled("12345", 4, 0), None);
        assert_eq!(scaled(&"9".repeat(38), 38, 0), Some(10i128.pow(38) - 1));
        for bad in ["", "-", ".", "1.2.3", "e5", "1e", "0x10", "12a"] {
            assert_eq!(scaled(bad, 38, 0), None, "{bad}");
        }
    }

    #[test]
    fn doubles_are_their_shortest_decimals() {
        let mut decimal = Decimal::default();
        assert!(decimal.set_real(19.99) && decimal.rescale(12, 2));
        assert_eq!(decimal.to_i128(), Some(1999));
        assert!(decimal.set_real(0.1 + 0.2) && !decimal.rescale(12, 2));
        assert!(!decimal.set_real(f64::NAN) && !decimal.set_real(f64::INFINITY));
        let mut text = String::new();
        assert!(decimal.set_real(-1.5e-3));
        decimal.write_plain(&mut text).unwrap();
        assert_eq!(text, "-0.0015");
    }

    #[test]
    fn wide_numbers_fit_256_bits() {
        let mut decimal = Decimal::default();
        let digits = "7".repeat(76);
        assert!(decimal.set_text(format!("-{digits}").as_bytes()) && decimal.rescale(76, 0));
        assert_eq!(decimal.to_i256().unwrap().to_string(), format!("-{digits}"));
        let (mut a, mut b) = (Decimal::default(), Decimal::default());
        assert!(a.set_text(b"1.500") && b.set_text(b"15e-1") && a.equals(&b));
        b.set_integer(15);
        assert!(!a.equals(&b));
    }
}
