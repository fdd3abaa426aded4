//! Decimals: of a fixed precision and scale, and as digits of any length.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowNativeTypeOp, DataType, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int64Type, UInt64Type, i256,
};

use super::CellFault;
use super::columns::{map, map_text, quoted, revise_text};
use crate::Result;

/// A fixed decimal type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) precision: u8,
    pub(super) scale: i8,
    /// Whether it needs 256 bits.
    pub(super) wide: bool,
}

impl Fixed {
    pub(super) fn data_type(self) -> DataType {
        match self.wide {
            true => DataType::Decimal256(self.precision, self.scale),
            false => DataType::Decimal128(self.precision, self.scale),
        }
    }

    /// Whether every value of `self` fits `other` with all its digits.
    pub(super) fn fits(self, other: Self) -> bool {
        let whole = |d: Self| i16::from(d.precision) - i16::from(d.scale);
        self.scale <= other.scale && whole(self) <= whole(other)
    }
}

/// What the two storage widths have in common.
pub(super) trait Digits: ArrowNativeTypeOp {
    fn small(value: i64) -> Self;
    fn pow10(exponent: u32) -> Option<Self>;
}

impl Digits for i128 {
    fn small(value: i64) -> Self {
        value.into()
    }

    fn pow10(exponent: u32) -> Option<Self> {
        10_i128.checked_pow(exponent)
    }
}

impl Digits for i256 {
    fn small(value: i64) -> Self {
        i256::from_i128(value.into())
    }

    fn pow10(exponent: u32) -> Option<Self> {
        i256::from_i128(10).pow_checked(exponent).ok()
    }
}

/// A number as a text has it: `-`, digits before and after the point, exponent.
pub(super) struct Number<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

impl<'a> Number<'a> {
    /// Reads `[+-]digits[.digits][e[+-]digits]`, all of `text`.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(at) => {
                let digits = rest[at + 1..].trim_start_matches(['+', '-']);
                let sign = rest.len() - at - 1 - digits.len();
                if sign > 1 || digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                (&rest[..at], rest[at + 1..].parse().ok()?)
            }
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        ((!whole.is_empty() || !fraction.is_empty()) && digits(whole) && digits(fraction)).then_some(Self {
            negative,
            whole,
            fraction,
            exponent,
        })
    }

    /// The value times `10^scale`, if it is whole then and fits `N`.
    pub(super) fn scaled<N: Digits>(&self, scale: i64) -> Option<N> {
        let mut value = N::ZERO;
        // Digits after this one must be zeros.
        let mut left = self.whole.len() as i64 + self.exponent + scale;
        let ten = N::small(10);
        for digit in self.whole.bytes().chain(self.fraction.bytes()) {
            let digit = i64::from(digit - b'0');
            if left <= 0 {
                if digit != 0 {
                    return None;
                }
            } else if digit != 0 || !value.is_zero() {
                value = value.mul_checked(ten).ok()?.add_checked(N::small(digit)).ok()?;
            }
            left -= 1;
        }
        if left > 0 && !value.is_zero() {
            value = value.mul_checked(N::pow10(u32::try_from(left).ok()?)?).ok()?;
        }
        if self.negative { value.neg_checked().ok() } else { Some(value) }
    }

    /// The value in plain digits, the scale kept: `1.50`, `-0.001`, `1e3` as `1000`. `None` when the exponent asks for
    /// more digits than any decimal type holds.
    pub(super) fn plain(&self) -> Option<String> {
        const MOST: i64 = 150_000;
        if self.exponent.abs() > MOST {
            return None;
        }
        let digits = [self.whole, self.fraction].concat();
        let point = self.whole.len() as i64 + self.exponent;
        let mut text = String::with_capacity(digits.len() + 3 + point.unsigned_abs() as usize);
        if self.negative {
            text.push('-');
        }
        let (whole, zeros, fraction) = if point <= 0 {
            ("", -point, digits.as_str())
        } else if point as usize >= digits.len() {
            (digits.as_str(), 0, "")
        } else {
            (&digits[..point as usize], 0, &digits[point as usize..])
        };
        let whole = whole.trim_start_matches('0');
        text.push_str(whole);
        if point as usize > digits.len() && point > 0 && !whole.is_empty() {
            text.extend(std::iter::repeat_n('0', point as usize - digits.len()));
        }
        if whole.is_empty() {
            text.push('0');
        }
        if !fraction.is_empty() {
            text.push('.');
            text.extend(std::iter::repeat_n('0', zeros as usize));
            text.push_str(fraction);
        }
        Some(text)
    }
}

/// A decimal text as it is kept: plain digits, or `NaN`, `Infinity`, `-Infinity`. `None` inside when it is so already.
pub(super) fn decimal_text(text: &str) -> Result<Option<String>, String> {
    if matches!(text, "NaN" | "Infinity" | "-Infinity") {
        return Ok(None);
    }
    let plain = Number::parse(text)
        .and_then(|number| number.plain())
        .ok_or_else(|| format!("{} is no decimal number", quoted(text)))?;
    Ok((plain != text).then_some(plain))
}

/// Whole numbers (Int64 or UInt64) as Decimal128(20, 0).
pub(super) fn from_integers(column: &ArrayRef) -> ArrayRef {
    let decimals: PrimitiveArray<Decimal128Type> = match column.data_type() {
        DataType::UInt64 => column.as_primitive::<UInt64Type>().unary(i128::from),
        _ => column.as_primitive::<Int64Type>().unary(i128::from),
    };
    Arc::new(decimals.with_data_type(DataType::Decimal128(20, 0)))
}

/// Decimals of scale 0 as Int64, or UInt64 when `unsigned`.
pub(super) fn to_integers(column: &ArrayRef, unsigned: bool, faults: &mut Vec<CellFault>, target: &str) -> ArrayRef {
    let column = column.as_primitive::<Decimal128Type>();
    let why = |v: i128| format!("{v} does not fit {target}");
    match unsigned {
        true => Arc::new(map::<_, UInt64Type>(column, faults, |v| v.try_into().ok(), why)),
        false => Arc::new(map::<_, Int64Type>(column, faults, |v| v.try_into().ok(), why)),
    }
}

/// Decimals in another precision and scale; a digit that would be dropped and is not zero is a fault.
pub(super) fn rescale(
    column: &ArrayRef,
    from: Fixed,
    to: Fixed,
    faults: &mut Vec<CellFault>,
    target: &str,
) -> Result<ArrayRef> {
    // The power is `None` when it is past the type's range: then no digit but zero can be moved by it.
    fn value<N: Digits>(value: N, up: bool, power: Option<N>, most: N) -> Option<N> {
        let moved = match power {
            Some(power) if up => value.mul_checked(power).ok()?,
            Some(power) if value.mod_checked(power).ok()?.is_zero() => value.div_checked(power).ok()?,
            None if value.is_zero() => value,
            _ => return None,
        };
        let size = if moved.is_lt(N::ZERO) { moved.neg_checked().ok()? } else { moved };
        size.is_lt(most).then_some(moved)
    }
    let up = to.scale >= from.scale;
    let shift = u32::from((i16::from(to.scale) - i16::from(from.scale)).unsigned_abs());
    let power = <i128 as Digits>::pow10(shift);
    let wide_power = <i256 as Digits>::pow10(shift);
    let why = |digits: &dyn std::fmt::Display| {
        let mut text = String::new();
        write_digits(&digits.to_string(), from.scale, &mut text);
        format!("{text} does not fit {target}")
    };
    let precision = u32::from(to.precision);
    let wide_most = || <i256 as Digits>::pow10(precision).unwrap_or(i256::MAX);
    Ok(match (from.wide, to.wide) {
        (false, false) => {
            let most = <i128 as Digits>::pow10(precision).unwrap_or(i128::MAX);
            let out = map::<_, Decimal128Type>(
                column.as_primitive::<Decimal128Type>(),
                faults,
                |v| value(v, up, power, most),
                |v| why(&v),
            );
            Arc::new(out.with_data_type(to.data_type()))
        }
        (false, true) => {
            let most = wide_most();
            let convert = |v| value(i256::from_i128(v), up, wide_power, most);
            let out = map::<_, Decimal256Type>(column.as_primitive::<Decimal128Type>(), faults, convert, |v| why(&v));
            Arc::new(out.with_data_type(to.data_type()))
        }
        (true, false) => {
            let most = wide_most();
            let convert = |v| value(v, up, wide_power, most).and_then(i256::to_i128);
            let out = map::<_, Decimal128Type>(column.as_primitive::<Decimal256Type>(), faults, convert, |v| why(&v));
            Arc::new(out.with_data_type(to.data_type()))
        }
        (true, true) => {
            let most = wide_most();
            let convert = |v| value(v, up, wide_power, most);
            let out = map::<_, Decimal256Type>(column.as_primitive::<Decimal256Type>(), faults, convert, |v| why(&v));
            Arc::new(out.with_data_type(to.data_type()))
        }
    })
}

/// Texts as decimals.
pub(super) fn from_text(column: &ArrayRef, to: Fixed, faults: &mut Vec<CellFault>, target: &str) -> ArrayRef {
    fn parse<N: Digits>(text: &str, to: Fixed, most: N, target: &str) -> Result<N, String> {
        let number = Number::parse(text).ok_or_else(|| format!("{} is no decimal number", quoted(text)))?;
        number
            .scaled::<N>(to.scale.into())
            .filter(|v| if v.is_lt(N::ZERO) { v.neg_checked().is_ok_and(|v| v.is_lt(most)) } else { v.is_lt(most) })
            .ok_or_else(|| format!("{} does not fit {target}", quoted(text)))
    }
    let text = column.as_string::<i32>();
    let precision = u32::from(to.precision);
    match to.wide {
        true => {
            let most = <i256 as Digits>::pow10(precision).unwrap_or(i256::MAX);
            let out = map_text::<Decimal256Type>(text, faults, |t| parse(t, to, most, target));
            Arc::new(out.with_data_type(to.data_type()))
        }
        false => {
            let most = <i128 as Digits>::pow10(precision).unwrap_or(i128::MAX);
            let out = map_text::<Decimal128Type>(text, faults, |t| parse(t, to, most, target));
            Arc::new(out.with_data_type(to.data_type()))
        }
    }
}

/// Decimals as floating-point numbers: the nearest one, if its shortest text is the decimal again.
pub(super) fn to_floats(
    column: &ArrayRef,
    from: Fixed,
    double: bool,
    faults: &mut Vec<CellFault>,
    target: &str,
) -> ArrayRef {
    fn text(digits: &dyn std::fmt::Display, scale: i8) -> String {
        let mut text = String::new();
        write_digits(&digits.to_string(), scale, &mut text);
        text
    }
    /// Whether the shortest text of a float is the same number.
    fn same(decimal: &str, float: &str) -> bool {
        let canonical = |t: &str| {
            let plain = Number::parse(t)?.plain()?;
            let plain = match plain.contains('.') {
                true => plain.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => plain,
            };
            Some(if plain == "-0" { "0".to_owned() } else { plain })
        };
        canonical(decimal).is_some_and(|d| Some(d) == canonical(float))
    }
    let double_of = |digits: String| digits.parse::<f64>().ok().filter(|v| same(&digits, &format!("{v:e}")));
    let single_of = |digits: String| digits.parse::<f32>().ok().filter(|v| same(&digits, &format!("{v:e}")));
    let why = |digits: String| format!("{digits} is not exact in {target}");
    let scale = from.scale;
    match (from.wide, double) {
        (false, true) => {
            // Up to 15 digits always come back, and the quotient of two exact doubles is rounded rightly.
            let power = (0..=22).contains(&scale).then(|| 10_f64.powi(scale.into()));
            let convert = |v: i128| match power {
                Some(power) if v.unsigned_abs() < 1_000_000_000_000_000 => Some(v as f64 / power),
                _ => double_of(text(&v, scale)),
            };
            Arc::new(map::<_, Float64Type>(column.as_primitive::<Decimal128Type>(), faults, convert, |v| {
                why(text(&v, scale))
            }))
        }
        (false, false) => {
            let power = (0..=10).contains(&scale).then(|| 10_f32.powi(scale.into()));
            let convert = |v: i128| match power {
                Some(power) if v.unsigned_abs() < 1_000_000 => Some(v as f32 / power),
                _ => single_of(text(&v, scale)),
            };
            Arc::new(map::<_, Float32Type>(column.as_primitive::<Decimal128Type>(), faults, convert, |v| {
                why(text(&v, scale))
            }))
        }
        (true, true) => Arc::new(map::<_, Float64Type>(
            column.as_primitive::<Decimal256Type>(),
            faults,
            |v| double_of(text(&v, scale)),
            |v| why(text(&v, scale)),
        )),
        (true, false) => Arc::new(map::<_, Float32Type>(
            column.as_primitive::<Decimal256Type>(),
            faults,
            |v| single_of(text(&v, scale)),
            |v| why(text(&v, scale)),
        )),
    }
}

/// Texts as decimal texts.
pub(super) fn check_text(column: &ArrayRef, faults: &mut Vec<CellFault>) -> ArrayRef {
    Arc::new(revise_text(column.as_string::<i32>(), faults, decimal_text))
}

/// Writes a decimal's digits with its point: `(-5, 3)` is `-0.005`.
pub(super) fn write_digits(digits: &str, scale: i8, out: &mut String) {
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", digits),
    };
    out.push_str(sign);
    if scale <= 0 {
        out.push_str(digits);
        if digits != "0" {
            out.extend(std::iter::repeat_n('0', usize::from(scale.unsigned_abs())));
        }
        return;
    }
    let scale = scale as usize;
    if digits.len() > scale {
        out.push_str(&digits[..digits.len() - scale]);
        out.push('.');
        out.push_str(&digits[digits.len() - scale..]);
    } else {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', scale - digits.len()));
        out.push_str(digits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_whole_or_not_at_all() {
        for (text, scale, expected) in [
            ("1.50", 2, Some(150)),
            ("1.50", 1, Some(15)),
            ("1.55", 1, None),
            ("-0.001", 3, Some(-1)),
            ("1e3", 0, Some(1000)),
            ("1.5e-1", 2, Some(15)),
            ("1500e-2", 0, Some(15)),
            ("+7.", 0, Some(7)),
            (".5", 1, Some(5)),
            ("0e999999999", 0, Some(0)),
            ("1e999999999", 0, None),
            ("170141183460469231731687303715884105727", 0, Some(i128::MAX)),
            ("170141183460469231731687303715884105728", 0, None),
        ] {
            assert_eq!(Number::parse(text).unwrap().scaled::<i128>(scale), expected, "{text}");
        }
        for text in ["", "-", ".", "1 ", " 1", "1e", "1e+", "1e+-3", "0x10", "1,5", "NaN", "1.2.3", "--1", "١"] {
            assert!(Number::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn decimal_texts_are_plain_digits() {
        for (text, expected) in [
            ("1.50", "1.50"),
            ("007", "7"),
            ("1e3", "1000"),
            ("-1.5e-3", "-0.0015"),
            ("12.5e1", "125"),
            ("12.50e1", "125.0"),
            (".5", "0.5"),
            ("-0.0", "-0.0"),
            ("0e5", "0"),
            ("NaN", "NaN"),
            ("-Infinity", "-Infinity"),
        ] {
            assert_eq!(decimal_text(text).unwrap().as_deref().unwrap_or(text), expected, "{text}");
        }
        assert!(decimal_text("1e200000000").is_err());
        assert!(decimal_text("nan").is_err());
    }

    #[test]
    fn digits_get_their_point() {
        for (digits, scale, expected) in [
            ("150", 2, "1.50"),
            ("-5", 3, "-0.005"),
            ("0", 2, "0.00"),
            ("12", -2, "1200"),
            ("0", -2, "0"),
            ("7", 0, "7"),
        ] {
            let mut text = String::new();
            write_digits(digits, scale, &mut text);
            assert_eq!(text, expected);
        }
    }
}
