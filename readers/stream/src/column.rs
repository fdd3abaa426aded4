//! How the values of one column are made, a whole array at a time.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, TimeUnit};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::Value;
use weir_core::{Faults, Form, Result};

use crate::config::{Column, ColumnSpec};
use crate::date;

const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// A longer random text would not fit a batch.
const MAX_LENGTH: usize = 4 * 1024 * 1024;

/// A column that is ready to make values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Generator {
    pub(crate) name: String,
    values: Values,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    Text(String),
    Bytes(Vec<u8>),
    Long(i64),
    Double(f64),
    Bool(bool),
    Date(i64),
    RandomText(usize, usize),
    RandomBytes(usize, usize),
    RandomLong(i64, i64),
    RandomDouble(f64, f64),
    /// The weights of false and true.
    RandomBool(u32, u32),
    RandomDate(i64, i64),
    Counter(i64, i64),
}

impl Generator {
    /// Reads column number `index` (from 0) of the job.
    pub(crate) fn new(index: usize, column: &Column, form: Form) -> Result<Self, Faults> {
        let spec = match column {
            Column::Spec(spec) => spec.clone(),
            Column::Text(text) => constant(Value::String(text.clone()), "string"),
            Column::Bool(value) => constant(Value::Bool(*value), "bool"),
            Column::Number(n) => constant(Value::Number(n.clone()), if n.is_f64() { "double" } else { "long" }),
        };
        let values = values(&spec, form).map_err(|(key, message)| {
            let key = if key.is_empty() { String::new() } else { format!("/{key}") };
            Faults::one(format!("/column/{index}{key}"), message)
        })?;
        Ok(Self { name: spec.name.unwrap_or_else(|| format!("column{}", index + 1)), values })
    }

    /// The type's name in a job.
    pub(crate) fn kind(&self) -> &'static str {
        match self.values {
            Values::Text(_) | Values::RandomText(..) => "string",
            Values::Bytes(_) | Values::RandomBytes(..) => "bytes",
            Values::Long(_) | Values::RandomLong(..) | Values::Counter(..) => "long",
            Values::Double(_) | Values::RandomDouble(..) => "double",
            Values::Bool(_) | Values::RandomBool(..) => "bool",
            Values::Date(_) | Values::RandomDate(..) => "date",
        }
    }

    pub(crate) fn field(&self) -> Field {
        let data_type = match self.kind() {
            "string" => DataType::Utf8,
            "bytes" => DataType::Binary,
            "long" => DataType::Int64,
            "double" => DataType::Float64,
            "bool" => DataType::Boolean,
            _ => DataType::Timestamp(TimeUnit::Microsecond, None),
        };
        Field::new(&self.name, data_type, false)
    }

    /// The most bytes a value takes in a batch.
    pub(crate) fn width(&self) -> usize {
        match &self.values {
            Values::Text(text) => 4 + text.len(),
            Values::Bytes(bytes) => 4 + bytes.len(),
            Values::RandomText(_, max) | Values::RandomBytes(_, max) => 4 + max,
            Values::Bool(_) | Values::RandomBool(..) => 1,
            _ => 8,
        }
    }

    /// Whether every row has the same value, so that one array serves all batches.
    pub(crate) fn is_constant(&self) -> bool {
        use Values::*;
        matches!(self.values, Text(_) | Bytes(_) | Long(_) | Double(_) | Bool(_) | Date(_))
    }

    /// Whether values are left to chance.
    pub(crate) fn is_random(&self) -> bool {
        use Values as V;
        matches!(
            self.values,
            V::RandomText(..)
                | V::RandomBytes(..)
                | V::RandomLong(..)
                | V::RandomDouble(..)
                | V::RandomBool(..)
                | V::RandomDate(..)
        )
    }

    /// Makes `rows` values; `start` is the number of the first row in the whole job.
    pub(crate) fn make(&self, start: u64, rows: usize, random: &mut StdRng) -> ArrayRef {
        match &self.values {
            Values::Text(text) => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows))),
            Values::Bytes(bytes) => Arc::new(BinaryArray::from_iter_values(std::iter::repeat_n(bytes, rows))),
            Values::Long(value) => Arc::new(Int64Array::from_value(*value, rows)),
            Values::Double(value) => Arc::new(Float64Array::from_value(*value, rows)),
            Values::Bool(value) => Arc::new(BooleanArray::from(vec![*value; rows])),
            Values::Date(value) => Arc::new(TimestampMicrosecondArray::from_value(*value, rows)),
            Values::RandomText(min, max) => {
                let (offsets, letters) = random_letters(*min, *max, rows, random);
                Arc::new(StringArray::new(offsets, letters, None))
            }
            Values::RandomBytes(min, max) => {
                let (offsets, letters) = random_letters(*min, *max, rows, random);
                Arc::new(BinaryArray::new(offsets, letters, None))
            }
            Values::RandomLong(min, max) => {
                Arc::new(Int64Array::from_iter_values((0..rows).map(|_| random.random_range(*min..=*max))))
            }
            Values::RandomDouble(min, max) => {
                Arc::new(Float64Array::from_iter_values((0..rows).map(|_| random.random_range(*min..=*max))))
            }
            Values::RandomBool(no, yes) => {
                let (no, all) = (u64::from(*no), u64::from(*no) + u64::from(*yes));
                Arc::new((0..rows).map(|_| Some(random.random_range(0..all) >= no)).collect::<BooleanArray>())
            }
            // Whole seconds, as the pattern of the bounds usually has no fraction.
            Values::RandomDate(min, max) => {
                let seconds = (max - min) / 1_000_000;
                Arc::new(TimestampMicrosecondArray::from_iter_values(
                    (0..rows).map(|_| min + random.random_range(0..=seconds) * 1_000_000),
                ))
            }
            Values::Counter(first, step) => Arc::new(Int64Array::from_iter_values(
                (start..start + rows as u64).map(|row| first.wrapping_add(step.wrapping_mul(row as i64))),
            )),
        }
    }
}

fn constant(value: Value, kind: &str) -> ColumnSpec {
    ColumnSpec { value: Some(value), kind: Some(kind.into()), ..ColumnSpec::default() }
}

/// Letters and digits for `rows` values of `min` to `max` letters each.
fn random_letters(min: usize, max: usize, rows: usize, random: &mut StdRng) -> (OffsetBuffer<i32>, Buffer) {
    let lengths: Vec<usize> = (0..rows).map(|_| random.random_range(min..=max)).collect();
    let offsets = OffsetBuffer::<i32>::from_lengths(lengths.iter().copied());
    let mut letters = vec![0u8; lengths.iter().sum()];
    random.fill(letters.as_mut_slice());
    for letter in &mut letters {
        *letter = LETTERS[usize::from(*letter) * LETTERS.len() / 256];
    }
    (offsets, Buffer::from_vec(letters))
}

/// The key at fault and what is wrong with it.
type SpecFault = (&'static str, String);

fn values(spec: &ColumnSpec, form: Form) -> Result<Values, SpecFault> {
    let given = [spec.value.is_some(), spec.random.is_some(), spec.incr.is_some()];
    if given.iter().filter(|g| **g).count() > 1 {
        return Err(("", "give one of `value`, `random` and `incr`, not several".into()));
    }
    let kind = match (&spec.kind, &spec.value) {
        (Some(kind), _) => kind.trim().to_ascii_lowercase(),
        (None, _) if spec.incr.is_some() => "long".into(),
        (None, Some(Value::Number(n))) if form == Form::Native => if n.is_f64() { "double" } else { "long" }.into(),
        (None, Some(Value::Bool(_))) if form == Form::Native => "bool".into(),
        (None, _) => "string".into(),
    };
    let pattern = spec.date_format.as_deref().unwrap_or(date::DEFAULT);
    if let Some(range) = &spec.random {
        return random_values(&kind, range, pattern).map_err(|message| ("random", message));
    }
    if let Some(counter) = &spec.incr {
        let (first, step) = pair(counter).map_err(|message| ("incr", message))?;
        return match kind.as_str() {
            "long" => Ok(Values::Counter(first, step)),
            other => Err(("incr", format!("a counter has type long, not {other}"))),
        };
    }
    // An empty text counts as absent in job files, so no value at all is the empty text.
    let text = match &spec.value {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let wrong = || ("value", format!("`{text}` is no {kind}"));
    match kind.as_str() {
        "string" => Ok(Values::Text(text)),
        "bytes" => Ok(Values::Bytes(text.into_bytes())),
        "long" => text.trim().parse().map(Values::Long).map_err(|_| wrong()),
        "double" => text.trim().parse().map(Values::Double).map_err(|_| wrong()),
        "bool" => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(Values::Bool(true)),
            "false" | "0" => Ok(Values::Bool(false)),
            _ => Err(wrong()),
        },
        "date" => date::parse(&text, pattern).map(Values::Date).map_err(|message| ("value", message)),
        other => Err(("type", unknown_type(other))),
    }
}

fn random_values(kind: &str, range: &str, pattern: &str) -> Result<Values, String> {
    let upward =
        |ok: bool| if ok { Ok(()) } else { Err(format!("`{range}` runs downwards: write the smaller one first")) };
    match kind {
        "string" | "bytes" => {
            let (min, max) = pair::<usize>(range)?;
            upward(min <= max)?;
            if max > MAX_LENGTH {
                return Err(format!("a random text has at most {MAX_LENGTH} letters"));
            }
            Ok(if kind == "bytes" { Values::RandomBytes(min, max) } else { Values::RandomText(min, max) })
        }
        "long" => {
            let (min, max) = pair::<i64>(range)?;
            upward(min <= max)?;
            Ok(Values::RandomLong(min, max))
        }
        "double" => {
            let (min, max) = pair::<f64>(range)?;
            upward(min <= max)?;
            if !(max - min).is_finite() {
                return Err(format!("`{range}` is too wide a range"));
            }
            Ok(Values::RandomDouble(min, max))
        }
        "bool" => match pair::<u32>(range)? {
            (0, 0) => Err("the weights of false and true cannot both be 0".into()),
            (no, yes) => Ok(Values::RandomBool(no, yes)),
        },
        "date" => {
            let (min, max) = range.split_once(',').ok_or_else(|| not_a_pair(range))?;
            let (min, max) = (date::parse(min, pattern)?, date::parse(max, pattern)?);
            upward(min <= max)?;
            Ok(Values::RandomDate(min, max))
        }
        other => Err(unknown_type(other)),
    }
}

fn pair<T: std::str::FromStr>(text: &str) -> Result<(T, T), String> {
    let (a, b) = text.split_once(',').ok_or_else(|| not_a_pair(text))?;
    Ok((a.trim().parse().map_err(|_| not_a_pair(text))?, b.trim().parse().map_err(|_| not_a_pair(text))?))
}

fn not_a_pair(text: &str) -> String {
    format!("`{text}` is not two values of the column's type with a comma between, like \"1,10\"")
}

fn unknown_type(kind: &str) -> String {
    format!("`{kind}` is no type here: use string, long, double, bool, date or bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
    use rand::SeedableRng;
    use serde_json::json;

    fn generator(column: Value) -> Result<Generator, Faults> {
        Generator::new(3, &serde_json::from_value(column).unwrap(), Form::Native)
    }

    #[test]
    fn random_values_keep_within_their_bounds_and_reach_them() {
        let mut random = StdRng::seed_from_u64(1);
        let long = generator(json!({"type": "long", "random": "-2, 2"})).unwrap().make(0, 1000, &mut random);
        let long = long.as_primitive::<Int64Type>().values().to_vec();
        assert_eq!((long.iter().min(), long.iter().max()), (Some(&-2), Some(&2)));

        let text = generator(json!({"random": "0,3"})).unwrap().make(0, 1000, &mut random);
        let lengths: Vec<usize> = text.as_string::<i32>().iter().map(|t| t.unwrap().len()).collect();
        assert_eq!((lengths.iter().min(), lengths.iter().max()), (Some(&0), Some(&3)));

        let flag = generator(json!({"type": "bool", "random": "1,9"})).unwrap().make(0, 10_000, &mut random);
        let yes = flag.as_boolean().true_count();
        assert!((8_700..9_300).contains(&yes), "{yes}");

        let date = json!({"type": "date", "random": "1970-01-01 00:00:00,1970-01-01 00:00:01"});
        let date = generator(date).unwrap().make(0, 100, &mut random);
        let date = date.as_primitive::<TimestampMicrosecondType>().values().to_vec();
        assert!(date.iter().all(|d| *d == 0 || *d == 1_000_000));
    }

    #[test]
    fn constants_take_the_type_they_are_given() {
        let mut random = StdRng::seed_from_u64(1);
        for (column, kind) in [
            (json!("a"), "string"),
            (json!(1), "long"),
            (json!(1.5), "double"),
            (json!(true), "bool"),
            (json!({"value": 1}), "long"),
            (json!({"value": "1", "type": "long"}), "long"),
            (json!({"value": "2024-02-29 00:00:00", "type": "date"}), "date"),
            (json!({"value": "x", "type": "bytes"}), "bytes"),
            (json!({"incr": "10,5"}), "long"),
        ] {
            let made = generator(column.clone()).unwrap();
            assert_eq!(made.kind(), kind, "{column}");
            assert_eq!(made.make(7, 4, &mut random).len(), 4);
        }
        let counter = generator(json!({"incr": "10,5"})).unwrap().make(2, 2, &mut random);
        assert_eq!(counter.as_primitive::<Int64Type>().values().to_vec(), [20, 25]);
    }

    #[test]
    fn a_wrong_column_is_named() {
        for (column, pointer) in [
            (json!({"value": 1, "random": "1,2"}), "/column/3"),
            (json!({"type": "long", "value": "x"}), "/column/3/value"),
            (json!({"type": "number", "value": "1"}), "/column/3/type"),
            (json!({"type": "long", "random": "2,1"}), "/column/3/random"),
            (json!({"type": "long", "random": "2"}), "/column/3/random"),
            (json!({"type": "date", "random": "a,b"}), "/column/3/random"),
            (json!({"type": "bool", "random": "0,0"}), "/column/3/random"),
            (json!({"incr": "1"}), "/column/3/incr"),
        ] {
            assert_eq!(generator(column.clone()).unwrap_err().0[0].pointer, pointer, "{column}");
        }
    }
}
