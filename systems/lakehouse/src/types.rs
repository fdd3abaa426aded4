//! What Delta's column types mean in Arrow, both ways.
//!
//! | Arrow | Delta | kept in the column's metadata |
//! |-|-|-|
//! | Boolean, Int8–64, Float32/64, Utf8, Binary, Date32, Decimal128, List of these | its own type | |
//! | Timestamp with zone / without | timestamp / timestamp_ntz, microseconds | |
//! | UInt8, UInt16, UInt32 | the next wider signed type | `weir.arrow` |
//! | UInt64 | decimal(20,0) | `weir.arrow` |
//! | Time64, Duration | long, microseconds | `weir.arrow` |
//! | UUID | string | `weir.arrow` |
//! | JSON, decimal, interval and source text | string | the extension's name |
//! | Decimal256, negative scale | string (decimal text) | the extension's name |
//!
//! The source's own type and the key position are kept as well, so that a table comes out of the lake as it went in.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use deltalake::kernel::engine::arrow_conversion::TryIntoArrow;
use deltalake::kernel::{ArrayType, DataType as DeltaType, DecimalType, MetadataValue, PrimitiveType, StructField};
use weir_core::field::{
    DECIMAL, EXTENSION, INTERVAL, JSON, KEY, NATIVE, NATIVE_SYSTEM, NATIVE_TYPE, TEXT, UUID, extension, native_type,
    with_extension, with_metadata, with_native_type,
};
use weir_core::{Error, ErrorKind, MappedColumn, PlannedColumn, Result};

/// The system's name beside native types.
pub const SYSTEM: &str = "delta";

/// Metadata of a Delta column: what its values are in Arrow, where the Delta type does not say so.
const ARROW: &str = "weir.arrow";
/// Metadata of a Delta column: the Arrow extension of its values.
const STORED_EXTENSION: &str = "weir.extension";
/// How metadata begins that systems keep of their columns: collations, the labels of enums.
const SYSTEM_PREFIX: &str = "weir.";
/// Metadata that has a home of its own here.
const OWN: &[&str] = &[ARROW, STORED_EXTENSION, NATIVE_SYSTEM, NATIVE_TYPE, KEY];
/// Metadata of a Delta column: its comment (a name the whole Delta world knows).
const COMMENT: &str = "comment";

const MICROS: TimeUnit = TimeUnit::Microsecond;

/// A column of a table to be created.
#[derive(Debug, Clone)]
pub struct NewColumn {
    /// The Delta column.
    pub field: StructField,
    /// The form in which the writer wants the values.
    pub input: Field,
    /// What a user should know of it.
    pub warning: Option<String>,
}

/// How one Arrow type is stored.
struct Storage {
    /// The form asked from the runtime.
    input: Field,
    delta: DeltaType,
    arrow: Option<&'static str>,
    warning: Option<String>,
}

/// Decides how a mapped column is stored in a new table.
pub fn new_column(column: &MappedColumn) -> NewColumn {
    let usable = |f: &&Field| !matches!(extension(f), Some(NATIVE | TEXT));
    let offer = column.offers.iter().find(usable).or_else(|| column.offers.iter().find(|f| extension(f) == Some(TEXT)));
    let fallback = Field::new(&column.name, DataType::Utf8, true);
    let offer = offer.unwrap_or(&fallback);
    // The source's own text comes back as the source's own type, which text of our making does not.
    let text = || column.offers.iter().find(|f| extension(f) == Some(TEXT)).and_then(storage);
    let storage = storage(offer).or_else(text).unwrap_or_else(|| Storage {
        input: fallback.clone(),
        delta: DeltaType::STRING,
        arrow: None,
        warning: Some(format!("{} has no type in Delta and is stored as text", weir_core::field::type_text(offer))),
    });
    let mut metadata: Vec<(&str, MetadataValue)> = Vec::new();
    if let Some(kind) = storage.arrow {
        metadata.push((ARROW, kind.to_owned().into()));
    }
    if let Some(name) = extension(&storage.input) {
        metadata.push((STORED_EXTENSION, name.to_owned().into()));
    }
    // The last form knows the source's type best: the first may be how another type travels.
    if let Some((system, text)) = column.offers.iter().rev().find_map(native_type) {
        metadata.push((NATIVE_SYSTEM, system.to_owned().into()));
        metadata.push((NATIVE_TYPE, text.to_owned().into()));
    }
    for (key, value) in column.offers.iter().rev().flat_map(|f| f.metadata()) {
        if is_systems(key) && !metadata.iter().any(|(k, _)| k == key) {
            metadata.push((key, value.clone().into()));
        }
    }
    if let Some(key) = column.key {
        metadata.push((KEY, MetadataValue::Number(key.into())));
    }
    if let Some(comment) = &column.comment {
        metadata.push((COMMENT, comment.clone().into()));
    }
    let input = storage.input.with_name(&column.name).with_nullable(true);
    let field = StructField::new(&column.name, storage.delta, column.nullable).with_metadata(metadata);
    NewColumn { field, input, warning: storage.warning }
}

/// Whether metadata says something of the column that only the system it comes from understands.
fn is_systems(key: &str) -> bool {
    key.starts_with(SYSTEM_PREFIX) && !OWN.contains(&key)
}

/// The form in which values for a column of an existing table are wanted.
///
/// # Errors
/// A column of a type that cannot be written.
pub fn existing_input(column: &MappedColumn, field: &StructField) -> Result<Field> {
    let want = canonical(field)?;
    // What is stored as text but is more than text is checked, or it could not be read again.
    let strict = matches!(extension(&want), Some(UUID | JSON | DECIMAL | INTERVAL));
    let accepts = |f: &Field| {
        let same = f.data_type() == want.data_type() && extension(f) != Some(NATIVE);
        same && (!strict || extension(f) == extension(&want))
    };
    let fallback = match want.data_type() {
        DataType::Utf8 if !strict => Field::new(&column.name, DataType::Utf8, true),
        _ => want.clone(),
    };
    Ok(PlannedColumn::choose(column, accepts, fallback))
}

fn storage(offer: &Field) -> Option<Storage> {
    let name = offer.name();
    let plain = |data_type: DataType| Field::new(name, data_type, true).with_metadata(offer.metadata().clone());
    let bare = |data_type: DataType| Field::new(name, data_type, true);
    let as_is =
        |delta: DeltaType| Storage { input: plain(offer.data_type().clone()), delta, arrow: None, warning: None };
    let asked =
        |input: Field, delta: DeltaType, arrow: Option<&'static str>| Storage { input, delta, arrow, warning: None };
    match extension(offer) {
        Some(UUID) => return Some(asked(bare(DataType::Utf8), DeltaType::STRING, Some("uuid"))),
        Some(JSON | DECIMAL | INTERVAL | TEXT) if offer.data_type() == &DataType::Utf8 => {
            return Some(as_is(DeltaType::STRING));
        }
        _ => {}
    }
    Some(match offer.data_type() {
        DataType::UInt8 => asked(bare(DataType::Int16), DeltaType::SHORT, Some("uint8")),
        DataType::UInt16 => asked(bare(DataType::Int32), DeltaType::INTEGER, Some("uint16")),
        DataType::UInt32 => asked(bare(DataType::Int64), DeltaType::LONG, Some("uint32")),
        DataType::UInt64 => asked(bare(DataType::Decimal128(20, 0)), DeltaType::decimal(20, 0).ok()?, Some("uint64")),
        DataType::Float16 => asked(bare(DataType::Float32), DeltaType::FLOAT, None),
        DataType::Time32(_) | DataType::Time64(_) => {
            asked(bare(DataType::Time64(MICROS)), DeltaType::LONG, Some("time64"))
        }
        DataType::Duration(_) => asked(bare(DataType::Duration(MICROS)), DeltaType::LONG, Some("duration")),
        DataType::Date64 => asked(bare(DataType::Timestamp(MICROS, None)), DeltaType::TIMESTAMP_NTZ, None),
        DataType::Timestamp(unit, zone) => {
            let (zone, delta) = match zone {
                Some(_) => (Some("UTC".into()), DeltaType::TIMESTAMP),
                None => (None, DeltaType::TIMESTAMP_NTZ),
            };
            let mut storage = asked(bare(DataType::Timestamp(MICROS, zone)), delta, None);
            if unit == &TimeUnit::Nanosecond {
                storage.warning = Some("Delta keeps microseconds: values with nanoseconds become dirty rows".into());
            }
            storage
        }
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => {
            match u8::try_from(*s).ok().filter(|s| *p <= 38 && s <= p).and_then(|s| DeltaType::decimal(*p, s).ok()) {
                Some(delta) => asked(bare(DataType::Decimal128(*p, *s)), delta, None),
                None => Storage {
                    input: with_extension(bare(DataType::Utf8), DECIMAL),
                    delta: DeltaType::STRING,
                    arrow: None,
                    warning: Some("Delta's decimals have at most 38 digits: stored as text".into()),
                },
            }
        }
        DataType::Interval(_) => asked(with_extension(bare(DataType::Utf8), INTERVAL), DeltaType::STRING, None),
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            asked(bare(DataType::Utf8), DeltaType::STRING, None)
        }
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            asked(bare(DataType::Binary), DeltaType::BINARY, None)
        }
        DataType::List(item) => {
            let inner = storage(item)?;
            if inner.arrow.is_some() || inner.warning.is_some() {
                return None;
            }
            let item = Field::new(item.name(), inner.input.data_type().clone(), true);
            asked(bare(DataType::List(Arc::new(item))), ArrayType::new(inner.delta, true).into(), None)
        }
        DataType::Dictionary(_, values) => return storage(&bare(values.as_ref().clone())),
        DataType::Boolean => as_is(DeltaType::BOOLEAN),
        DataType::Int8 => as_is(DeltaType::BYTE),
        DataType::Int16 => as_is(DeltaType::SHORT),
        DataType::Int32 => as_is(DeltaType::INTEGER),
        DataType::Int64 => as_is(DeltaType::LONG),
        DataType::Float32 => as_is(DeltaType::FLOAT),
        DataType::Float64 => as_is(DeltaType::DOUBLE),
        DataType::Utf8 => as_is(DeltaType::STRING),
        DataType::Binary => as_is(DeltaType::BINARY),
        DataType::Date32 => as_is(DeltaType::DATE),
        _ => return None,
    })
}

/// The Arrow type of a column in the table's files.
///
/// # Errors
/// [`Unsupported`](ErrorKind::Unsupported) for a type that has no place in Arrow here.
pub fn stored_type(delta: &DeltaType) -> Result<DataType> {
    Ok(match delta {
        DeltaType::Primitive(primitive) => match primitive {
            PrimitiveType::String => DataType::Utf8,
            PrimitiveType::Long => DataType::Int64,
            PrimitiveType::Integer => DataType::Int32,
            PrimitiveType::Short => DataType::Int16,
            PrimitiveType::Byte => DataType::Int8,
            PrimitiveType::Float => DataType::Float32,
            PrimitiveType::Double => DataType::Float64,
            PrimitiveType::Boolean => DataType::Boolean,
            PrimitiveType::Binary => DataType::Binary,
            PrimitiveType::Date => DataType::Date32,
            PrimitiveType::Timestamp => DataType::Timestamp(MICROS, Some("UTC".into())),
            PrimitiveType::TimestampNtz => DataType::Timestamp(MICROS, None),
            PrimitiveType::Decimal(d) => decimal(d),
            other => return Err(unsupported(&format!("{other}"))),
        },
        DeltaType::Array(list) => {
            let item = Field::new("element", stored_type(list.element_type())?, list.contains_null());
            DataType::List(Arc::new(item))
        }
        other => {
            let arrow: Result<DataType, _> = other.try_into_arrow();
            arrow.map_err(|_| unsupported(&type_text(other)))?
        }
    })
}

fn decimal(d: &DecimalType) -> DataType {
    // A scale is at most the precision, which is at most 38.
    DataType::Decimal128(d.precision(), i8::try_from(d.scale()).unwrap_or(i8::MAX))
}

fn unsupported(delta: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("columns of Delta type {delta} are not supported: leave the column out"))
}

/// The table's columns as they stand in its files, without metadata.
///
/// # Errors
/// As for [`stored_type`].
pub fn arrow_schema<'a>(fields: impl IntoIterator<Item = &'a StructField>) -> Result<SchemaRef> {
    let fields: Result<Vec<Field>> = fields
        .into_iter()
        .map(|f| Ok(Field::new(&f.name, stored_type(&f.data_type).map_err(|e| e.with("column", &f.name))?, f.nullable)))
        .collect();
    Ok(Arc::new(Schema::new(fields?)))
}

/// A column's canonical Arrow form: its stored type, or what its metadata says the values are.
///
/// # Errors
/// As for [`stored_type`]; types made of named parts are not supported.
pub fn canonical(field: &StructField) -> Result<Field> {
    if matches!(field.data_type, DeltaType::Struct(_) | DeltaType::Map(_) | DeltaType::Variant(_)) {
        return Err(unsupported(&type_text(&field.data_type)).with("column", &field.name));
    }
    let stored = stored_type(&field.data_type).map_err(|e| e.with("column", &field.name))?;
    let text = |key: &str| match field.metadata.get(key) {
        Some(MetadataValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let data_type = match (text(ARROW), &stored) {
        (Some("uint8"), DataType::Int16) => DataType::UInt8,
        (Some("uint16"), DataType::Int32) => DataType::UInt16,
        (Some("uint32"), DataType::Int64) => DataType::UInt32,
        (Some("uint64"), DataType::Decimal128(20, 0)) => DataType::UInt64,
        (Some("time64"), DataType::Int64) => DataType::Time64(MICROS),
        (Some("duration"), DataType::Int64) => DataType::Duration(MICROS),
        (Some("uuid"), DataType::Utf8) => DataType::FixedSizeBinary(16),
        _ => stored.clone(),
    };
    let uuid = data_type == DataType::FixedSizeBinary(16);
    let mut restored = Field::new(&field.name, data_type, field.nullable);
    if uuid {
        restored = with_extension(restored, UUID);
    } else if let (Some(name), DataType::Utf8) = (text(STORED_EXTENSION), &stored) {
        restored = with_metadata(restored, EXTENSION, name);
    }
    if let Some(key) = key_position(field) {
        restored = with_metadata(restored, KEY, &key.to_string());
    }
    for (key, value) in &field.metadata {
        if let MetadataValue::String(value) = value
            && is_systems(key)
        {
            restored = with_metadata(restored, key, value);
        }
    }
    Ok(match (text(NATIVE_SYSTEM), text(NATIVE_TYPE)) {
        (Some(system), Some(native)) => with_native_type(restored, system, native),
        _ => with_native_type(restored, SYSTEM, &type_text(&field.data_type)),
    })
}

/// The position in the key that the column had at its source, from 1.
pub fn key_position(field: &StructField) -> Option<u32> {
    match field.metadata.get(KEY)? {
        MetadataValue::Number(n) => u32::try_from(*n).ok(),
        MetadataValue::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The type as Delta writes it: `long`, `decimal(10,2)`, `array<string>`.
pub fn type_text(delta: &DeltaType) -> String {
    match delta {
        DeltaType::Primitive(primitive) => primitive.to_string(),
        DeltaType::Array(list) => format!("array<{}>", type_text(list.element_type())),
        DeltaType::Struct(_) => "struct".into(),
        DeltaType::Map(_) => "map".into(),
        DeltaType::Variant(_) => "variant".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(field: Field) -> MappedColumn {
        MappedColumn {
            name: "c".into(),
            nullable: true,
            source_type: String::new(),
            key: Some(2),
            comment: Some("a note".into()),
            offers: vec![field],
        }
    }

    #[test]
    fn what_goes_in_is_restored_on_the_way_out() {
        let utf8 = || Field::new("c", DataType::Utf8, true);
        for (offer, stored) in [
            (Field::new("c", DataType::Int32, true), "integer"),
            (Field::new("c", DataType::UInt8, true), "short"),
            (Field::new("c", DataType::UInt64, true), "decimal(20,0)"),
            (Field::new("c", DataType::Time64(MICROS), true), "long"),
            (Field::new("c", DataType::Duration(MICROS), true), "long"),
            (Field::new("c", DataType::Decimal128(38, 10), true), "decimal(38,10)"),
            (Field::new("c", DataType::Timestamp(MICROS, Some("UTC".into())), true), "timestamp"),
            (Field::new("c", DataType::Timestamp(MICROS, None), true), "timestamp_ntz"),
            (with_extension(utf8(), JSON), "string"),
            (with_extension(utf8(), DECIMAL), "string"),
            (with_extension(utf8(), INTERVAL), "string"),
            (with_extension(Field::new("c", DataType::FixedSizeBinary(16), true), UUID), "string"),
        ] {
            let offer = with_native_type(offer, "postgresql", "some type");
            let made = new_column(&column(offer.clone()));
            assert_eq!(type_text(&made.field.data_type), stored);
            let json = serde_json::to_string(&made.field).unwrap();
            let back = canonical(&serde_json::from_str(&json).unwrap()).unwrap();
            assert!(weir_core::field::same_representation(&offer, &back), "{offer:?} {back:?}");
            assert_eq!(native_type(&back), Some(("postgresql", "some type")));
            assert_eq!(back.metadata()[KEY], "2");
        }
    }

    #[test]
    fn what_systems_know_of_their_columns_is_kept() {
        let labels = with_metadata(Field::new("c", DataType::Utf8, true), "weir.postgresql.labels", "[\"a\"]");
        let offer = with_native_type(labels, "postgresql", "mood");
        let back = canonical(&new_column(&column(offer)).field).unwrap();
        assert_eq!(back.metadata()["weir.postgresql.labels"], "[\"a\"]");

        // A list that Delta has no type for, of a source that can also give its own text.
        let items = Field::new("c", DataType::List(Arc::new(Field::new("element", DataType::UInt64, true))), true);
        let text = with_native_type(with_extension(Field::new("c", DataType::Utf8, true), TEXT), "mysql", "some list");
        let mapped = MappedColumn { offers: vec![items, text], ..column(Field::new("c", DataType::Utf8, true)) };
        let made = new_column(&mapped);
        assert_eq!((extension(&made.input), made.warning), (Some(TEXT), None));
        assert_eq!(extension(&canonical(&made.field).unwrap()), Some(TEXT));
    }

    #[test]
    fn what_is_more_than_text_is_asked_for_as_such() {
        let text = column(Field::new("c", DataType::Utf8, true));
        for name in [JSON, DECIMAL, INTERVAL] {
            let there = new_column(&column(with_extension(Field::new("c", DataType::Utf8, true), name)));
            assert_eq!(extension(&existing_input(&text, &there.field).unwrap()), Some(name));
        }
        let uuid = with_extension(Field::new("c", DataType::FixedSizeBinary(16), true), UUID);
        let input = existing_input(&text, &new_column(&column(uuid)).field).unwrap();
        assert_eq!((input.data_type(), extension(&input)), (&DataType::FixedSizeBinary(16), Some(UUID)));
        assert_eq!(extension(&existing_input(&text, &new_column(&text).field).unwrap()), None);
    }

    #[test]
    fn decimals_beyond_delta_become_text() {
        let made = new_column(&column(Field::new("c", DataType::Decimal256(60, 5), true)));
        assert_eq!((made.field.data_type, extension(&made.input)), (DeltaType::STRING, Some(DECIMAL)));
        assert!(made.warning.is_some());
    }
}
