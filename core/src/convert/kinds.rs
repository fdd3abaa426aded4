//! What a column is, whatever its storage: the few kinds between which conversions are written.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, make_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Date32Type, Field, FieldRef, Int32Type, IntervalUnit, TimeUnit};

use super::decimals::Fixed;
use crate::Result;
use crate::field::{DECIMAL, INTERVAL, JSON, NATIVE, UUID, extension};

/// A column's kind. Each has one storage, in which conversions work: see [`Kind::storage`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Null,
    Boolean,
    /// Any width; `true` for unsigned. Works as Int64 or UInt64.
    Integer(bool),
    /// `true` for double.
    Float(bool),
    Decimal(Fixed),
    /// Digits of any length.
    DecimalText,
    Text,
    Json,
    /// An ISO 8601 duration as text.
    Interval,
    /// Arrow's own interval types, only as a source.
    ArrowInterval,
    Binary,
    FixedBinary(i32),
    Uuid,
    Date,
    Time(TimeUnit),
    /// Zone-less, or an instant.
    Timestamp(TimeUnit, bool),
    Duration(TimeUnit),
    List(FieldRef),
    /// Structs and maps: they have a text, and nothing else can be made of them.
    Nested,
    /// The wire form of a system's own type.
    Native,
    Other,
}

impl Kind {
    pub(super) fn of(field: &Field) -> Self {
        let extension = extension(field);
        if extension == Some(NATIVE) {
            return Self::Native;
        }
        match field.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Self::Integer(false),
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Self::Integer(true),
            DataType::Float16 | DataType::Float32 => Self::Float(false),
            DataType::Float64 => Self::Float(true),
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale) => {
                Self::Decimal(Fixed { precision: *precision, scale: *scale, wide: false })
            }
            DataType::Decimal256(precision, scale) => {
                Self::Decimal(Fixed { precision: *precision, scale: *scale, wide: true })
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => match extension {
                Some(DECIMAL) => Self::DecimalText,
                Some(JSON) => Self::Json,
                Some(INTERVAL) => Self::Interval,
                _ => Self::Text,
            },
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Self::Binary,
            DataType::FixedSizeBinary(16) if extension == Some(UUID) => Self::Uuid,
            DataType::FixedSizeBinary(width) => Self::FixedBinary(*width),
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(unit) | DataType::Time64(unit) => Self::Time(*unit),
            DataType::Timestamp(unit, zone) => Self::Timestamp(*unit, zone.is_some()),
            DataType::Duration(unit) => Self::Duration(*unit),
            DataType::Interval(_) => Self::ArrowInterval,
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                Self::List(item.clone())
            }
            DataType::Struct(_) | DataType::Map(_, _) => Self::Nested,
            DataType::Dictionary(_, values) => Self::of(&field.clone().with_data_type(values.as_ref().clone())),
            DataType::RunEndEncoded(_, values) => Self::of(&field.clone().with_data_type(values.data_type().clone())),
            _ => Self::Other,
        }
    }

    /// The Arrow type in which conversions take this kind; `None` where any of its types will do.
    pub(super) fn storage(&self) -> Option<DataType> {
        Some(match self {
            Self::Boolean => DataType::Boolean,
            Self::Integer(unsigned) => match unsigned {
                true => DataType::UInt64,
                false => DataType::Int64,
            },
            Self::Float(true) => DataType::Float64,
            Self::Float(false) => DataType::Float32,
            Self::Decimal(fixed) => fixed.data_type(),
            Self::DecimalText | Self::Text | Self::Json | Self::Interval => DataType::Utf8,
            Self::Binary => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::List(item) => DataType::List(item.clone()),
            Self::ArrowInterval => DataType::Interval(IntervalUnit::MonthDayNano),
            _ => return None,
        })
    }

    /// Whether the storage is Utf8.
    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Text | Self::DecimalText | Self::Json | Self::Interval)
    }
}

/// Whether values are what clocks show: zone-less timestamps, or have such within.
pub(super) fn shows_clocks(field: &Field) -> bool {
    match field.data_type() {
        DataType::Timestamp(_, zone) => zone.is_none(),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => shows_clocks(item),
        DataType::Struct(fields) => fields.iter().any(|field| shows_clocks(field)),
        DataType::Dictionary(_, values) => shows_clocks(&field.clone().with_data_type(values.as_ref().clone())),
        DataType::RunEndEncoded(_, values) => shows_clocks(values),
        _ => false,
    }
}

/// The same values in another storage of the same kind. What does not fit becomes NULL.
pub(super) fn stored(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if column.data_type() == data_type {
        return Ok(column.clone());
    }
    Ok(cast_with_options(column, data_type, &CastOptions { safe: true, ..CastOptions::default() })?)
}

/// The column without dictionary or run-length encoding.
pub(super) fn decoded(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Dictionary(_, values) => stored(column, values),
        DataType::RunEndEncoded(_, values) => stored(column, values.data_type()),
        _ => Ok(column.clone()),
    }
}

/// The counts under a date, time, timestamp or duration.
pub(super) fn counts(column: &ArrayRef) -> Result<Int64Array> {
    Ok(match column.data_type() {
        DataType::Date32 => column.as_primitive::<Date32Type>().unary(i64::from),
        DataType::Time32(_) => {
            let data = column.to_data().into_builder().data_type(DataType::Int32).build()?;
            make_array(data).as_primitive::<Int32Type>().unary(i64::from)
        }
        _ => Int64Array::from(column.to_data().into_builder().data_type(DataType::Int64).build()?),
    })
}

/// Counts as a date, time, timestamp or duration; the opposite of [`counts`].
pub(super) fn of_counts(counts: Int64Array, data_type: &DataType) -> Result<ArrayRef> {
    let data = match data_type {
        // Every caller has checked the range of a day, or of a date.
        DataType::Date32 | DataType::Time32(_) => stored(&(Arc::new(counts) as ArrayRef), &DataType::Int32)?.to_data(),
        _ => counts.into(),
    };
    Ok(make_array(data.into_builder().data_type(data_type.clone()).build()?))
}
