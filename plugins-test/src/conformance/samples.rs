//! Values of every canonical type, for [`Target::types`](super::Target::types).

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, i256};
use weir_core::field::{DECIMAL, INTERVAL, JSON, UUID, with_extension};

use super::WriteCase;
use crate::harness::cells;

/// Two values and a NULL of one canonical type, which every system with the type can hold.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What a test calls the type: `bool`, `int8`, `decimal`, `timestamp`, `list` …
    pub name: &'static str,
    /// The column, called `value`, and its values.
    pub rows: RecordBatch,
}

impl Sample {
    fn new(name: &'static str, values: impl Array + 'static) -> Self {
        let data_type = values.data_type().clone();
        Self::of(name, Field::new("value", data_type, true), Arc::new(values))
    }

    fn of(name: &'static str, field: Field, values: ArrayRef) -> Self {
        let rows = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![values]);
        Self { name, rows: rows.unwrap_or_else(|e| panic!("the samples of {name}: {e}")) }
    }

    fn extended(name: &'static str, extension: &str, values: impl Array + 'static) -> Self {
        let field = Field::new("value", values.data_type().clone(), true);
        Self::of(name, with_extension(field, extension), Arc::new(values))
    }

    /// The two values as Arrow shows them.
    pub fn texts(&self) -> [String; 2] {
        let mut texts = cells([&self.rows]).into_iter().flatten().flatten();
        [texts.next().unwrap_or_default(), texts.next().unwrap_or_default()]
    }

    /// A case of [`Target::types`](super::Target::types): the two values must stand at the target as `expected`, the
    /// NULL as NULL.
    pub fn case<T: Into<String>>(&self, expected: [T; 2]) -> WriteCase {
        let values = expected.into_iter().map(|text| vec![Some(text.into())]);
        WriteCase {
            name: self.name.into(),
            table: format!("weir_w_type_{}", self.name),
            rows: self.rows.clone(),
            expected: values.chain([vec![None]]).collect(),
        }
    }
}

/// Samples of every canonical type.
pub fn samples() -> Vec<Sample> {
    let decimal = Decimal128Array::from(vec![Some(10_i128.pow(38) - 1), Some(-5), None]);
    let wide = i256::from_i128(10_i128.pow(37)).wrapping_mul(i256::from_i128(10_i128.pow(12)));
    let wide = Decimal256Array::from(vec![Some(wide), Some(i256::from_i128(-5)), None]);
    let exact = |result: Result<ArrayRef, arrow::error::ArrowError>| result.unwrap_or_else(|e| panic!("decimals: {e}"));
    let decimal = exact(decimal.with_precision_and_scale(38, 10).map(|a| Arc::new(a) as ArrayRef));
    let wide = exact(wide.with_precision_and_scale(50, 5).map(|a| Arc::new(a) as ArrayRef));
    let decimals =
        |name, values: ArrayRef| Sample::of(name, Field::new("value", values.data_type().clone(), true), values);
    let uuids = [Some([0xa0_u8; 16]), Some([0; 16]), None];
    let uuids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuids.into_iter(), 16);
    let lists = [Some(vec![Some(1), None, Some(-3)]), Some(vec![]), None];
    let instants = vec![Some(1_709_188_200_500_000), Some(1_000_001), None];
    vec![
        Sample::new("bool", BooleanArray::from(vec![Some(true), Some(false), None])),
        Sample::new("int8", Int8Array::from(vec![Some(i8::MIN), Some(i8::MAX), None])),
        Sample::new("int16", Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), None])),
        Sample::new("int32", Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), None])),
        Sample::new("int64", Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None])),
        Sample::new("uint8", UInt8Array::from(vec![Some(0), Some(u8::MAX), None])),
        Sample::new("uint16", UInt16Array::from(vec![Some(0), Some(u16::MAX), None])),
        Sample::new("uint32", UInt32Array::from(vec![Some(0), Some(u32::MAX), None])),
        Sample::new("uint64", UInt64Array::from(vec![Some(0), Some(u64::MAX), None])),
        Sample::new("float32", Float32Array::from(vec![Some(1.5), Some(-0.25), None])),
        Sample::new("float64", Float64Array::from(vec![Some(0.1), Some(-123456.789), None])),
        decimals("decimal", decimal),
        decimals("wide_decimal", wide),
        Sample::extended(
            "any_decimal",
            DECIMAL,
            StringArray::from(vec![Some("123456789012345678901234567890.5"), Some("-0.000001"), None]),
        ),
        Sample::new("text", StringArray::from(vec![Some("wéir 🦀"), Some("it's"), None])),
        Sample::new("bytes", BinaryArray::from(vec![Some(&b"\0\xff\\\n'"[..]), Some(b"a"), None])),
        Sample::new("date", Date32Array::from(vec![Some(19_782), Some(-1), None])),
        Sample::new("time", Time64MicrosecondArray::from(vec![Some(86_399_999_999), Some(0), None])),
        Sample::new("timestamp", TimestampMicrosecondArray::from(vec![Some(-1), Some(253_402_300_799_999_999), None])),
        Sample::new("instant", TimestampMicrosecondArray::from(instants).with_timezone("UTC")),
        Sample::new("duration", DurationMicrosecondArray::from(vec![Some(-3_723_500_000), Some(90_000_000_000), None])),
        Sample::extended("interval", INTERVAL, StringArray::from(vec![Some("P1Y2M3DT4H5M6.5S"), Some("P-1D"), None])),
        Sample::extended("json", JSON, StringArray::from(vec![Some("{\"a\": [1, \"ä\"]}"), Some("null"), None])),
        Sample::extended("uuid", UUID, uuids.unwrap_or_else(|e| panic!("uuids: {e}"))),
        Sample::of(
            "list",
            Field::new("value", DataType::new_list(DataType::Int32, true), true),
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_two_values_and_a_null() {
        for sample in samples() {
            assert_eq!(sample.rows.num_rows(), 3, "{}", sample.name);
            let cells = cells([&sample.rows]);
            assert!(cells[0][0].is_some() && cells[1][0].is_some() && cells[2][0].is_none(), "{cells:?}");
        }
        let instant = samples().into_iter().find(|s| s.name == "instant");
        assert_eq!(instant.map(|s| s.texts()[0].clone()).as_deref(), Some("2024-02-29T06:30:00.500Z"));
    }
}
