//! Whole numbers, floating-point numbers and booleans.

use std::fmt::{Display, Write};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, PrimitiveArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int64Type, UInt64Type,
};

use super::CellFault;
use super::columns::{map, map_text, quoted, report_new_nulls};
use super::decimals::{Digits, Fixed, Number};
use super::kinds::stored;
use crate::Result;

/// The bits and the sign of an integer type.
pub(super) fn width(data_type: &DataType) -> Option<(u32, bool)> {
    Some(match data_type {
        DataType::Int8 => (8, false),
        DataType::Int16 => (16, false),
        DataType::Int32 => (32, false),
        DataType::Int64 => (64, false),
        DataType::UInt8 => (8, true),
        DataType::UInt16 => (16, true),
        DataType::UInt32 => (32, true),
        DataType::UInt64 => (64, true),
        _ => return None,
    })
}

/// Whether every value of one integer type fits another.
pub(super) fn widens(from: &DataType, to: &DataType) -> bool {
    match (width(from), width(to)) {
        (Some((a, false)), Some((b, false))) | (Some((a, true)), Some((b, true))) => a <= b,
        (Some((a, true)), Some((b, false))) => a < b,
        _ => false,
    }
}

/// Integers in another width.
pub(super) fn resize(column: &ArrayRef, to: &DataType, faults: &mut Vec<CellFault>, target: &str) -> Result<ArrayRef> {
    let resized = stored(column, to)?;
    if resized.null_count() > column.null_count() {
        let texts = stored(column, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        report_new_nulls(column, &resized, faults, |row| format!("{} does not fit {target}", texts.value(row)));
    }
    Ok(resized)
}

/// Int64 or UInt64 as floating-point numbers, if that is exact.
pub(super) fn to_floats(column: &ArrayRef, double: bool, faults: &mut Vec<CellFault>, target: &str) -> ArrayRef {
    fn why<N: Display>(target: &str) -> impl Fn(N) -> String {
        move |v| format!("{v} is not exact in {target}")
    }
    // Through i128: `u64::MAX as f64` is 2^64, which no 64-bit integer is, and must not saturate back to u64::MAX.
    match (column.data_type(), double) {
        (DataType::UInt64, true) => Arc::new(map::<UInt64Type, Float64Type>(
            column.as_primitive(),
            faults,
            |v| Some(v as f64).filter(|f| *f as i128 == i128::from(v)),
            why(target),
        )),
        (DataType::UInt64, false) => Arc::new(map::<UInt64Type, Float32Type>(
            column.as_primitive(),
            faults,
            |v| Some(v as f32).filter(|f| *f as i128 == i128::from(v)),
            why(target),
        )),
        (_, true) => Arc::new(map::<Int64Type, Float64Type>(
            column.as_primitive(),
            faults,
            |v| Some(v as f64).filter(|f| *f as i128 == i128::from(v)),
            why(target),
        )),
        (_, false) => Arc::new(map::<Int64Type, Float32Type>(
            column.as_primitive(),
            faults,
            |v| Some(v as f32).filter(|f| *f as i128 == i128::from(v)),
            why(target),
        )),
    }
}

/// Floating-point numbers as Int64, or UInt64 when `unsigned`, if they are whole.
pub(super) fn floats_to_integers(
    column: &ArrayRef,
    unsigned: bool,
    faults: &mut Vec<CellFault>,
    target: &str,
) -> Result<ArrayRef> {
    let (least, most) =
        if unsigned { (0.0, 18_446_744_073_709_551_616.0) } else { (-(2_f64.powi(63)), 2_f64.powi(63)) };
    let single = matches!(column.data_type(), DataType::Float32);
    let why = |v: f64| {
        let text = if single { float_text(v as f32) } else { float_text(v) };
        format!("{text} does not fit {target}")
    };
    let column = stored(column, &DataType::Float64)?;
    let column = column.as_primitive::<Float64Type>();
    let whole = |v: f64| v.fract() == 0.0 && v >= least && v < most;
    Ok(match unsigned {
        true => Arc::new(map::<_, UInt64Type>(column, faults, |v| whole(v).then_some(v as u64), why)),
        false => Arc::new(map::<_, Int64Type>(column, faults, |v| whole(v).then_some(v as i64), why)),
    })
}

/// Doubles as singles, rounded; a finite number that would become infinite is a fault.
pub(super) fn to_single(column: &ArrayRef, faults: &mut Vec<CellFault>, target: &str) -> ArrayRef {
    Arc::new(map::<Float64Type, Float32Type>(
        column.as_primitive(),
        faults,
        |v| Some(v as f32).filter(|f| f.is_finite() || !v.is_finite()),
        |v| format!("{} does not fit {target}", float_text(v)),
    ))
}

/// Floating-point numbers as decimals, by their shortest text.
pub(super) fn floats_to_decimals(
    column: &ArrayRef,
    to: Fixed,
    faults: &mut Vec<CellFault>,
    target: &str,
) -> Result<ArrayRef> {
    fn run<S, D, N>(column: &ArrayRef, to: Fixed, faults: &mut Vec<CellFault>, target: &str) -> Result<ArrayRef>
    where
        S: ArrowPrimitiveType<Native: std::fmt::LowerExp + std::fmt::Debug>,
        D: ArrowPrimitiveType<Native = N>,
        N: Digits,
    {
        let most = N::pow10(to.precision.into()).unwrap_or(N::MAX_TOTAL_ORDER);
        let mut text = String::new();
        let decimals: PrimitiveArray<D> = map(
            column.as_primitive::<S>(),
            faults,
            |v| {
                text.clear();
                // NaN and the infinities are no numbers to `parse`.
                write!(text, "{v:e}").ok()?;
                let value = Number::parse(&text)?.scaled::<N>(to.scale.into())?;
                let size = if value.is_lt(N::ZERO) { value.neg_checked().ok()? } else { value };
                size.is_lt(most).then_some(value)
            },
            |v| format!("{} does not fit {target}", float_text(v)),
        );
        Ok(Arc::new(decimals.with_data_type(to.data_type())))
    }
    match (column.data_type(), to.wide) {
        (DataType::Float32, false) => run::<Float32Type, Decimal128Type, _>(column, to, faults, target),
        (DataType::Float32, true) => run::<Float32Type, Decimal256Type, _>(column, to, faults, target),
        (_, false) => run::<Float64Type, Decimal128Type, _>(column, to, faults, target),
        (_, true) => run::<Float64Type, Decimal256Type, _>(column, to, faults, target),
    }
}

/// Booleans as 0 and 1.
pub(super) fn booleans_to_integers(column: &ArrayRef, unsigned: bool) -> Result<ArrayRef> {
    stored(column, if unsigned { &DataType::UInt64 } else { &DataType::Int64 })
}

/// 0 and 1 as booleans.
pub(super) fn integers_to_booleans(column: &ArrayRef, faults: &mut Vec<CellFault>) -> Result<ArrayRef> {
    let texts = stored(column, &DataType::Utf8)?;
    booleans(&texts, faults, |text| match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    })
}

/// Texts as booleans: `true`, `false` in any case, `1`, `0`.
pub(super) fn text_to_booleans(column: &ArrayRef, faults: &mut Vec<CellFault>) -> Result<ArrayRef> {
    booleans(column, faults, |text| match text {
        "1" => Some(true),
        "0" => Some(false),
        t if t.eq_ignore_ascii_case("true") => Some(true),
        t if t.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    })
}

fn booleans(column: &ArrayRef, faults: &mut Vec<CellFault>, read: impl Fn(&str) -> Option<bool>) -> Result<ArrayRef> {
    let column = column.as_string::<i32>();
    let mut builder = BooleanBuilder::with_capacity(column.len());
    for (row, text) in column.iter().enumerate() {
        let value = text.and_then(&read);
        if let (Some(text), None) = (text, value) {
            faults.push(CellFault { row, reason: format!("{} is neither true nor false", quoted(text)) });
        }
        builder.append_option(value);
    }
    let booleans: BooleanArray = builder.finish();
    Ok(Arc::new(booleans))
}

/// Texts as Int64, or UInt64 when `unsigned`. Decimals that are zeros and exponents are understood.
pub(super) fn text_to_integers(
    column: &ArrayRef,
    unsigned: bool,
    faults: &mut Vec<CellFault>,
    target: &str,
) -> ArrayRef {
    fn slow<N: TryFrom<i128>>(text: &str, target: &str) -> Result<N, String> {
        let number = Number::parse(text).ok_or_else(|| format!("{} is no number", quoted(text)))?;
        let value = number.scaled::<i128>(0).and_then(|v| N::try_from(v).ok());
        value.ok_or_else(|| format!("{} does not fit {target}", quoted(text)))
    }
    let column = column.as_string::<i32>();
    match unsigned {
        true => Arc::new(map_text::<UInt64Type>(column, faults, |t| t.parse().or_else(|_| slow(t, target)))),
        false => Arc::new(map_text::<Int64Type>(column, faults, |t| t.parse().or_else(|_| slow(t, target)))),
    }
}

/// Texts as floating-point numbers: the nearest one, also `NaN`, `Infinity`, `-Infinity`.
pub(super) fn text_to_floats(column: &ArrayRef, double: bool, faults: &mut Vec<CellFault>, target: &str) -> ArrayRef {
    fn check<F: std::str::FromStr>(text: &str, target: &str, infinite: impl Fn(&F) -> bool) -> Result<F, String> {
        let value: F = text.parse().map_err(|_| format!("{} is no number", quoted(text)))?;
        match infinite(&value) && text.bytes().any(|b| b.is_ascii_digit()) {
            true => Err(format!("{} does not fit {target}", quoted(text))),
            false => Ok(value),
        }
    }
    let column = column.as_string::<i32>();
    match double {
        true => Arc::new(map_text::<Float64Type>(column, faults, |t| check(t, target, |v: &f64| v.is_infinite()))),
        false => Arc::new(map_text::<Float32Type>(column, faults, |t| check(t, target, |v: &f32| v.is_infinite()))),
    }
}

/// Appends the shortest text that is read back as the same number: `1.5`, `1e300`, `-0.0`, `NaN`, `Infinity`.
pub(super) fn write_float(value: impl std::fmt::Debug, out: &mut String) {
    let start = out.len();
    let _ = write!(out, "{value:?}");
    if out.ends_with("inf") {
        let negative = out[start..].starts_with('-');
        out.truncate(start);
        out.push_str(if negative { "-Infinity" } else { "Infinity" });
    }
}

/// The text alone, for reasons.
pub(super) fn float_text(value: impl std::fmt::Debug) -> String {
    let mut text = String::new();
    write_float(value, &mut text);
    text
}
