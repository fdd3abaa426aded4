//! `dx_filter`: drops the rows whose value matches.
//!
//! | operator | drops | NULL |
//! |-|-|-|
//! | `like`, `not like` | what matches the regular expression from start to end, or does not | kept by `like`, dropped by `not like` |
//! | `>`, `>=`, `<`, `<=` | what compares so | kept |
//! | `=`, `==` | what is equal | dropped only by the value `null` |
//! | `!=` | what differs | kept only by the value `null` |
//!
//! Numbers compare as numbers, of whatever precision; dates, times and durations as such, with a value written as their
//! text or, as in DataX, in milliseconds since 1970; everything else as text.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Scalar, StringArray};
use arrow::compute::kernels::cmp;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type};
use regex::Regex;
use weir_core::convert::{Conversion, ConvertOptions};
use weir_core::field::{DECIMAL, extension, with_extension};
use weir_core::{Faults, Result};

use super::Rows;
use super::parameters::Parameters;

/// An operator with its value.
#[derive(Debug)]
pub(super) struct Filter {
    operator: Operator,
    comparison: Comparison,
    drops_null: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Like,
    NotLike,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
}

#[derive(Debug)]
enum Comparison {
    Pattern(Regex),
    Text(String),
    Float(f64),
    /// Plain digits, against the digits of the column's values.
    Digits(String),
    /// One value of the column's own type.
    Typed(ArrayRef),
    /// The value `null` against a column whose values are never that text.
    Null,
}

impl Operator {
    fn parse(text: &str) -> Option<Self> {
        Some(match text.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase().as_str() {
            "like" => Self::Like,
            "not like" => Self::NotLike,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            "=" | "==" => Self::Equal,
            "!=" => Self::NotEqual,
            _ => return None,
        })
    }

    /// Whether a value that compares so with the filter's value matches; `None` is what NaN gives.
    fn matches(self, ordering: Option<Ordering>) -> bool {
        match self {
            Self::Greater => ordering == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
            Self::Less => ordering == Some(Ordering::Less),
            Self::LessOrEqual => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
            Self::Equal | Self::Like => ordering == Some(Ordering::Equal),
            Self::NotEqual | Self::NotLike => ordering != Some(Ordering::Equal),
        }
    }
}

impl Filter {
    pub(super) fn plan(
        parameters: &Parameters<'_>,
        field: &Field,
        options: &ConvertOptions,
        faults: &mut Faults,
    ) -> Option<Self> {
        let paras = parameters.exactly(&["operator", "value"], faults)?;
        let operator = Operator::parse(&paras[0]);
        if operator.is_none() {
            let message =
                format!("no such operator: `{}`; there are: like, not like, >, >=, <, <=, =, ==, !=", paras[0]);
            parameters.fault(0, message, faults);
        }
        let value = &paras[1];
        if value.is_empty() {
            parameters.fault(1, "the value to compare with is empty", faults);
            return None;
        }
        let operator = operator?;
        let null = value.eq_ignore_ascii_case("null");
        let drops_null = match operator {
            Operator::NotLike => true,
            Operator::Equal => null,
            Operator::NotEqual => !null,
            _ => false,
        };
        let comparison = match operator {
            Operator::Like | Operator::NotLike => Regex::new(&format!(r"\A(?:{value})\z"))
                .map(Comparison::Pattern)
                .map_err(|error| format!("`{value}` is no regular expression that is understood here: {error}")),
            _ => comparison(value, null && matches!(operator, Operator::Equal | Operator::NotEqual), field, options),
        };
        match comparison {
            Ok(comparison) => Some(Self { operator, comparison, drops_null }),
            Err(message) => {
                parameters.fault(1, message, faults);
                None
            }
        }
    }

    /// Whether [`Filter::apply`] wants the column's values as texts.
    pub(super) fn needs_text(&self) -> bool {
        matches!(self.comparison, Comparison::Pattern(_) | Comparison::Text(_) | Comparison::Digits(_))
    }

    /// Takes the matching rows out.
    pub(super) fn apply(&self, column: &ArrayRef, texts: Option<&StringArray>, rows: &mut Rows) -> Result<()> {
        let operator = self.operator;
        let none = StringArray::new_null(0);
        let texts = texts.unwrap_or(&none);
        let by_row = |matches: &dyn Fn(usize) -> bool, rows: &mut Rows| {
            for row in 0..column.len() {
                if if column.is_null(row) { self.drops_null } else { matches(row) } {
                    rows.filter(row);
                }
            }
        };
        match &self.comparison {
            Comparison::Null => by_row(&|_| operator == Operator::NotEqual, rows),
            Comparison::Pattern(regex) => {
                by_row(&|row| regex.is_match(texts.value(row)) == (operator == Operator::Like), rows);
            }
            Comparison::Text(value) => {
                by_row(&|row| operator.matches(Some(texts.value(row).cmp(value.as_str()))), rows);
            }
            Comparison::Digits(value) => {
                by_row(&|row| operator.matches(compare_digits(texts.value(row), value)), rows);
            }
            Comparison::Float(value) => match column.data_type() {
                DataType::Float32 => {
                    let values = column.as_primitive::<Float32Type>();
                    by_row(&|row| operator.matches(f64::from(values.value(row)).partial_cmp(value)), rows);
                }
                _ => {
                    let values = column.as_primitive::<Float64Type>();
                    by_row(&|row| operator.matches(values.value(row).partial_cmp(value)), rows);
                }
            },
            Comparison::Typed(value) => {
                let value = Scalar::new(value.clone());
                let matches: BooleanArray = match operator {
                    Operator::Greater => cmp::gt(column, &value)?,
                    Operator::GreaterOrEqual => cmp::gt_eq(column, &value)?,
                    Operator::Less => cmp::lt(column, &value)?,
                    Operator::LessOrEqual => cmp::lt_eq(column, &value)?,
                    Operator::NotEqual | Operator::NotLike => cmp::neq(column, &value)?,
                    Operator::Equal | Operator::Like => cmp::eq(column, &value)?,
                };
                by_row(&|row| matches.value(row), rows);
            }
        }
        Ok(())
    }
}

fn comparison(value: &str, null: bool, field: &Field, options: &ConvertOptions) -> Result<Comparison, String> {
    let data_type = field.data_type();
    let of_type = |from: Field, column: ArrayRef| -> Option<ArrayRef> {
        let converted = Conversion::plan(&from, field, options).ok()?.apply(&column).ok()?;
        (converted.faults.is_empty() && converted.column.is_valid(0)).then_some(converted.column)
    };
    let text = || -> ArrayRef { Arc::new(StringArray::from(vec![value])) };
    let as_text = || of_type(Field::new("value", DataType::Utf8, false), text());
    let digits = || {
        let decimal = with_extension(Field::new("value", DataType::Utf8, false), DECIMAL);
        let plain = Conversion::plan(&Field::new("value", DataType::Utf8, false), &decimal, options).ok()?;
        let converted = plain.apply(&text()).ok().filter(|c| c.faults.is_empty())?;
        Some(Comparison::Digits(converted.column.as_string::<i32>().value(0).to_owned()))
    };
    let number = || format!("column `{}` holds numbers, and `{value}` is none", field.name());
    if data_type.is_temporal() {
        if null {
            return Ok(Comparison::Null);
        }
        let milliseconds = || {
            let number: i64 = value.parse().ok()?;
            let column = Arc::new(arrow::array::Int64Array::from(vec![number]));
            of_type(Field::new("value", DataType::Int64, false), column)
        };
        return as_text().or_else(milliseconds).map(Comparison::Typed).ok_or_else(|| {
            format!("`{value}` is no value of column `{}`: write it like 2024-01-31 12:34:56", field.name())
        });
    }
    match data_type {
        _ if null && data_type.is_numeric() => Ok(Comparison::Null),
        DataType::Float32 | DataType::Float64 => value.parse().map(Comparison::Float).map_err(|_| number()),
        // A value out of the type's range compares by its digits.
        _ if data_type.is_integer() => as_text().map(Comparison::Typed).or_else(digits).ok_or_else(number),
        _ if data_type.is_numeric() => digits().ok_or_else(number),
        DataType::Utf8 if extension(field) == Some(DECIMAL) => digits().ok_or_else(number),
        _ => Ok(Comparison::Text(value.to_owned())),
    }
}

/// Compares two numbers in plain digits; `None` for anything else (NaN and the infinities of decimal texts).
fn compare_digits(a: &str, b: &str) -> Option<Ordering> {
    fn parts(text: &str) -> Option<(bool, &str, &str)> {
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
        if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        // There is one zero.
        Some((negative && !(whole.is_empty() && fraction.is_empty()), whole, fraction))
    }
    let ((a_negative, a_whole, a_fraction), (b_negative, b_whole, b_fraction)) = (parts(a)?, parts(b)?);
    let size = a_whole.len().cmp(&b_whole.len()).then(a_whole.cmp(b_whole)).then(a_fraction.cmp(b_fraction));
    Some(match (a_negative, b_negative) {
        (false, false) => size,
        (true, true) => size.reverse(),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    })
}
