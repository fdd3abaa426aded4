//! Hashes of rows by value: what means the same hashes the same, whatever its spelling or storage.
//!
//! Both sides of a comparison bring a column into one field first, so values of one Arrow type are equal when their bytes
//! are. Only where one value has several spellings within a type it is brought into one: decimals as text, JSON, zeros
//! and NaNs of floats.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type};
use weir_core::convert::{ConvertOptions, to_display_text, to_json};
use weir_core::field::{DECIMAL, JSON, extension};
use weir_core::{Error, Result};

use super::json;

/// Odd constants of high entropy (digits of √2, √3, √5, √7).
pub(super) const KEYS: [u64; 4] =
    [0x6A09_E667_F3BC_C909, 0xBB67_AE85_84CA_A73B, 0x3C6E_F372_FE94_F82B, 0xA54F_F53A_5F1D_36F1];

/// What a NULL hashes to.
const NULL: u64 = 0x510E_527F_ADE6_82D1;

/// Mixes two words into one.
pub(super) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// A hash of bytes; not one that withstands somebody who looks for collisions.
pub(super) fn bytes_hash(bytes: &[u8]) -> u64 {
    let mut state = KEYS[0] ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), KEYS[1]).wrapping_add(KEYS[2]);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(state ^ u64::from_le_bytes(last), KEYS[3])
}

/// The cells' hashes of one column, in row order.
///
/// # Errors
/// A type that has no value of its own (a union).
pub fn column_hashes(column: &ArrayRef, field: &Field, options: &ConvertOptions) -> Result<Vec<u64>> {
    let rows = column.len();
    let each = |hash: &dyn Fn(usize) -> u64| -> Vec<u64> {
        (0..rows).map(|row| if column.is_null(row) { NULL } else { hash(row) }).collect()
    };
    Ok(match (column.data_type(), extension(field)) {
        (DataType::Null, _) => vec![NULL; rows],
        (DataType::Utf8, Some(DECIMAL)) => {
            let texts = column.as_string::<i32>();
            each(&|row| decimal_hash(texts.value(row)))
        }
        (DataType::Utf8, Some(JSON)) => {
            let texts = column.as_string::<i32>();
            each(&|row| json_hash(texts.value(row)))
        }
        (DataType::Utf8, _) => {
            let texts = column.as_string::<i32>();
            each(&|row| bytes_hash(texts.value(row).as_bytes()))
        }
        (DataType::Binary, _) => {
            let values = column.as_binary::<i32>();
            each(&|row| bytes_hash(values.value(row)))
        }
        (DataType::FixedSizeBinary(_), _) => {
            let values = column.as_fixed_size_binary();
            each(&|row| bytes_hash(values.value(row)))
        }
        (DataType::Boolean, _) => {
            let values = column.as_boolean();
            each(&|row| fold(KEYS[0] ^ u64::from(values.value(row)), KEYS[1]))
        }
        (DataType::Float64, _) => {
            let values = column.as_primitive::<Float64Type>();
            each(&|row| float_hash(values.value(row)))
        }
        (DataType::Float32, _) => {
            let values = column.as_primitive::<Float32Type>();
            each(&|row| float_hash(f64::from(values.value(row))))
        }
        (other, _) => match other.primitive_width() {
            Some(width) => {
                let data = column.to_data();
                let values = &data.buffers()[0].as_slice()[data.offset() * width..];
                each(&|row| bytes_hash(&values[row * width..(row + 1) * width]))
            }
            // Lists and the like: by their JSON, whatever the storage.
            None => match to_json(column, field, options) {
                Ok(converted) => {
                    let texts = converted.column.as_string_opt::<i32>().cloned();
                    let texts = texts.ok_or_else(|| Error::internal("JSON is no text"))?;
                    each(&|row| json_hash(if texts.is_valid(row) { texts.value(row) } else { "" }))
                }
                Err(_) => {
                    let texts = to_display_text(column, field);
                    each(&|row| bytes_hash(texts.value(row).as_bytes()))
                }
            },
        },
    })
}

fn float_hash(value: f64) -> u64 {
    let value = match value {
        nan if nan.is_nan() => f64::NAN,
        // Both zeros are one number.
        0.0 => 0.0,
        other => other,
    };
    bytes_hash(&value.to_bits().to_le_bytes())
}

fn decimal_hash(text: &str) -> u64 {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let negative = negative && !(whole.is_empty() && fraction.is_empty());
    fold(bytes_hash(whole.as_bytes()) ^ u64::from(negative), KEYS[2]) ^ bytes_hash(fraction.as_bytes())
}

/// By meaning, or by its bytes where it has none.
fn json_hash(text: &str) -> u64 {
    json::json_hash(text).unwrap_or_else(|| bytes_hash(text.as_bytes()))
}

/// Mixes columns into one hash a row.
pub struct RowHashes(Vec<(u64, u64)>);

impl RowHashes {
    /// Rows of no column yet.
    pub fn new(rows: usize) -> Self {
        Self(vec![(KEYS[0], KEYS[3]); rows])
    }

    /// Adds a column, as [`column_hashes`] gives it. The order of columns counts.
    pub fn add(&mut self, hashes: &[u64]) {
        for ((a, b), hash) in self.0.iter_mut().zip(hashes) {
            *a = fold(*a ^ hash, KEYS[1]).wrapping_add(KEYS[2]);
            *b = fold(b.rotate_left(29) ^ hash.wrapping_mul(KEYS[0] | 1), KEYS[3] | 1).wrapping_add(KEYS[1]);
        }
    }

    /// The hashes.
    pub fn finish(self) -> Vec<u128> {
        self.0.into_iter().map(|(a, b)| u128::from(fold(a, KEYS[2] | 1)) << 64 | u128::from(b)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array, StringArray};
    use std::sync::Arc;
    use weir_core::field::with_extension;

    fn hashes(column: ArrayRef, kind: Option<&str>) -> Vec<u64> {
        let field = Field::new("c", column.data_type().clone(), true);
        let field = kind.map_or(field.clone(), |kind| with_extension(field, kind));
        column_hashes(&column, &field, &ConvertOptions::default()).unwrap()
    }

    fn texts(texts: &[&str], kind: Option<&str>) -> Vec<u64> {
        hashes(Arc::new(StringArray::from(texts.to_vec())), kind)
    }

    #[test]
    fn what_means_the_same_hashes_the_same() {
        let same = |texts: Vec<u64>| texts.windows(2).all(|pair| pair[0] == pair[1]);
        assert!(same(texts(&["1.5", "1.50", "+01.5"], Some(DECIMAL))));
        assert!(same(texts(&["0", "-0.00", ""], Some(DECIMAL))));
        assert!(same(texts(&[r#"{"a":1,"b":[1.0,null]}"#, r#"{ "b": [1, null], "a": 1.00 }"#], Some(JSON))));
        assert!(same(hashes(Arc::new(Float64Array::from(vec![0.0, -0.0])), None)));
        let distinct = |mut hashes: Vec<u64>| {
            let all = hashes.len();
            hashes.sort_unstable();
            hashes.dedup();
            hashes.len() == all
        };
        assert!(distinct(texts(&["1.5", "15", "-1.5", "0.15", "NaN"], Some(DECIMAL))));
        assert!(distinct(texts(&["a", "", "a\0", "aaaaaaaa", "aaaaaaaab"], None)));
        let objects = ["[1,2]", "[2,1]", r#"["1",2]"#, r#"{"a":1}"#, "null", "[]", "{}"];
        assert!(distinct(texts(&objects, Some(JSON))));
    }

    #[test]
    fn a_slice_hashes_as_its_own_rows_and_null_is_no_value() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(0), Some(1)]));
        let all = hashes(column.clone(), None);
        assert_eq!(hashes(column.slice(1, 3), None), all[1..]);
        assert_eq!(all[0], all[3]);
        assert_ne!(all[1], all[2]);
        let mut ab = RowHashes::new(1);
        ab.add(&all[..1]);
        ab.add(&all[1..2]);
        let mut ba = RowHashes::new(1);
        ba.add(&all[1..2]);
        ba.add(&all[..1]);
        assert_ne!(ab.finish(), ba.finish());
    }
}
