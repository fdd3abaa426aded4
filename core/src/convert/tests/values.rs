//! Texts, bytes, JSON and nested values; every pair of types; what is lost.

use arrow::array::{ListArray, UInt64Array};
use arrow::datatypes::{Int32Type, TimeUnit};

use super::*;
use crate::ErrorKind;
use crate::field::{DECIMAL, INTERVAL, JSON, NATIVE, UUID, with_extension, with_native_type};

#[test]
fn what_alters_every_value_must_be_asked_for() {
    let strict = ConvertOptions::default();
    let pairs = [
        (DataType::Float64, DataType::Float32),
        (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), DataType::Date32),
        (DataType::Timestamp(TimeUnit::Microsecond, None), DataType::Date32),
        (DataType::Timestamp(TimeUnit::Microsecond, None), DataType::Time64(TimeUnit::Microsecond)),
    ];
    for (from, to) in pairs {
        let error = Conversion::plan(&field(from.clone()), &field(to.clone()), &strict).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema);
        assert!(error.message().contains("onTypeLoss") && error.message().contains("`c`"), "{error}");
        assert!(matches!(Conversion::plan(&field(from), &field(to), &options()).unwrap().loss(), Loss::Every(_)));
    }
    check(
        DataType::Float64,
        DataType::Float32,
        &[("0.1", "0.1"), ("1e300", "!"), ("NaN", "NaN"), ("Infinity", "Infinity")],
    );
    let stamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    check(
        stamp.clone(),
        DataType::Date32,
        &[("2024-01-31 23:59:59.999999", "2024-01-31"), ("1969-12-31 23:00:00", "1969-12-31")],
    );
    check(stamp, DataType::Time64(TimeUnit::Microsecond), &[("1969-12-31 23:59:59.000001", "23:59:59.000001")]);
}

#[test]
fn texts_are_read_to_the_end() {
    check(
        DataType::Utf8,
        DataType::Int64,
        &[
            ("1.0", "1"),
            ("1e3", "1000"),
            ("1.5", "!"),
            ("9223372036854775808", "!"),
            (" 1", "!"),
            ("1x", "!"),
            ("", "!"),
            ("+7", "7"),
        ],
    );
    check(
        DataType::Utf8,
        DataType::Decimal128(5, 2),
        &[("999.99", "999.99"), ("1000", "!"), ("1.005", "!"), ("1.500", "1.50"), ("abc", "!")],
    );
    let empty = ConvertOptions { empty_as_null: true, ..options() };
    check_with(&field(DataType::Utf8), &field(DataType::Int64), &empty, &[("", "~"), ("1", "1")]);
    check_with(&field(DataType::Utf8), &field(DataType::LargeUtf8), &empty, &[("", "")]);
}

#[test]
fn bytes_uuids_and_json() {
    let raw: ArrayRef =
        Arc::new(arrow::array::BinaryArray::from(vec![Some(b"ok".as_slice()), Some(b"\xff\x00"), None]));
    let (binary, text) = (field(DataType::Binary), field(DataType::Utf8));
    let converted = Conversion::plan(&binary, &text, &options()).unwrap().apply(&raw).unwrap();
    assert_eq!(converted.faults.iter().map(|f| f.row).collect::<Vec<_>>(), [1]);
    assert!(converted.faults[0].reason.contains("ff00"), "{}", converted.faults[0].reason);
    assert_eq!(to_display_text(&raw, &binary).value(1), "ff00");
    check(DataType::BinaryView, DataType::LargeBinary, &[("abc", "abc")]);
    check(DataType::Utf8View, DataType::Utf8, &[("abc😀", "abc😀")]);
    check(DataType::Binary, DataType::FixedSizeBinary(3), &[("abc", "abc"), ("ab", "!")]);
    let uuid = with_extension(field(DataType::FixedSizeBinary(16)), UUID);
    let id = "550e8400-e29b-41d4-a716-446655440000";
    check_with(&text, &uuid, &options(), &[(id, id), (&id.to_uppercase(), id), ("x", "!")]);
    let converted =
        Conversion::plan(&uuid, &binary, &options()).unwrap().apply(&column(&[id], &uuid, &options())).unwrap();
    assert_eq!(converted.column.as_binary::<i32>().value(0).len(), 16);
    let json = with_extension(field(DataType::Utf8), JSON);
    let digits = "{\"b\":1.000000000000000000000000000001,\"a\":[]}";
    check_with(&text, &json, &options(), &[(digits, digits), ("null", "null"), ("{", "!"), ("", "!"), ("1 2", "!")]);
    check_with(&field(DataType::Float64), &json, &options(), &[("1.5", "1.5"), ("NaN", "\"NaN\"")]);
    check_with(&field(DataType::Date32), &json, &options(), &[("2024-01-31", "\"2024-01-31\"")]);
    check_with(&json, &field(DataType::Int64), &options(), &[("12", "12"), ("\"12\"", "!")]);
}

#[test]
fn lists_convert_element_by_element() {
    let of = |t| field(DataType::new_list(t, true));
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1000)]),
        Some(vec![Some(1), None, Some(3)]),
        None,
        Some(vec![]),
        Some(vec![Some(1), Some(300), Some(400)]),
        Some(vec![Some(-1)]),
    ]));
    let (from, to) = (field(list.data_type().clone()), of(DataType::Int8));
    let converted = Conversion::plan(&from, &to, &options()).unwrap().apply(&list.slice(1, 5)).unwrap();
    assert_eq!(converted.faults, [CellFault { row: 3, reason: "element 2: 300 does not fit Int8".into() }]);
    assert_eq!(show(&converted.column, &to, &options()), ["[1,null,3]", "~", "[]", "~", "[-1]"]);
    let dates = Conversion::plan(&from, &of(DataType::Utf8), &options()).unwrap().apply(&list.slice(1, 1)).unwrap();
    assert_eq!(show(&dates.column, &of(DataType::Utf8), &options()), ["[\"1\",null,\"3\"]"]);
    let json = with_extension(field(DataType::Utf8), JSON);
    let texts = Conversion::plan(&from, &json, &options()).unwrap().apply(&list.slice(0, 2)).unwrap();
    assert_eq!(show(&texts.column, &json, &options()), ["[1000]", "[1,null,3]"]);
    assert!(Conversion::plan(&of(DataType::Boolean), &of(DataType::Date32), &options()).is_err());
}

#[test]
fn a_json_null_within_a_list_is_not_taken_for_null() {
    let item = Arc::new(with_extension(Field::new("item", DataType::Utf8, true), JSON));
    let list = Field::new("c", DataType::List(item.clone()), true);
    let values: ArrayRef = Arc::new(StringArray::from(vec![Some("1"), None, Some("null"), Some("[null]")]));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, 1, 1]);
    let lists: ArrayRef = Arc::new(ListArray::new(item, offsets, values, None));
    let texts = to_text(&lists, &list, &options()).unwrap();
    let shown: Vec<_> = texts.column.as_string::<i32>().iter().collect();
    assert_eq!(shown, [Some("[1,null]"), None, Some("[[null]]")]);
    assert_eq!(texts.faults.iter().map(|f| f.row).collect::<Vec<_>>(), [1]);
}

#[test]
fn structs_and_maps_have_a_json_text() {
    use arrow::array::{Int32Builder, MapBuilder, StringBuilder, StructArray};
    let fields = vec![
        (Arc::new(Field::new("a\"", DataType::Utf8, true)), text_column(&["x", "~"])),
        (Arc::new(Field::new("n", DataType::UInt64, true)), Arc::new(UInt64Array::from(vec![1, u64::MAX])) as ArrayRef),
    ];
    let structs: ArrayRef = Arc::new(StructArray::from(fields));
    let shown = show(&structs, &field(structs.data_type().clone()), &options());
    assert_eq!(shown, ["{\"a\\\"\":\"x\",\"n\":1}", "{\"a\\\"\":null,\"n\":18446744073709551615}"]);
    let mut builder = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    builder.keys().append_value("k");
    builder.values().append_value(1);
    builder.append(true).unwrap();
    builder.append(false).unwrap();
    let map: ArrayRef = Arc::new(builder.finish());
    assert_eq!(show(&map, &field(map.data_type().clone()), &options()), ["[{\"keys\":\"k\",\"values\":1}]", "~"]);
}

#[test]
fn dictionaries_are_read_as_their_values() {
    let dictionary: ArrayRef =
        Arc::new(vec![Some("1"), None, Some("x")].into_iter().collect::<arrow::array::DictionaryArray<Int32Type>>());
    let from = field(dictionary.data_type().clone());
    assert_eq!(show(&dictionary, &from, &options()), ["1", "~", "x"]);
    let converted = Conversion::plan(&from, &field(DataType::Int8), &options()).unwrap().apply(&dictionary).unwrap();
    assert_eq!(converted.faults.len(), 1);
    assert_eq!(show(&converted.column, &field(DataType::Int8), &options()), ["1", "~", "~"]);
}

#[test]
fn every_pair_of_types_converts_or_is_refused_by_name() {
    let stamp = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let mut fields: Vec<Field> = INTEGERS.iter().map(|(t, ..)| field(t.clone())).collect();
    fields.extend(
        [
            DataType::Null,
            DataType::Boolean,
            DataType::Float32,
            DataType::Float64,
            DataType::Decimal128(38, 10),
            DataType::Decimal256(76, 10),
            DataType::Utf8,
            DataType::LargeUtf8,
            DataType::Utf8View,
            DataType::Binary,
            DataType::FixedSizeBinary(3),
            DataType::Date32,
            DataType::Date64,
            DataType::Time32(TimeUnit::Second),
            DataType::Time64(TimeUnit::Nanosecond),
            stamp(None),
            stamp(Some("Europe/Berlin")),
            DataType::Duration(TimeUnit::Microsecond),
            DataType::Interval(arrow::datatypes::IntervalUnit::DayTime),
            DataType::new_list(DataType::Int64, true),
        ]
        .map(field),
    );
    for extension in [DECIMAL, INTERVAL, JSON, crate::field::TEXT] {
        fields.push(with_extension(field(DataType::Utf8), extension));
    }
    fields.push(with_extension(field(DataType::FixedSizeBinary(16)), UUID));
    fields.push(with_native_type(with_extension(field(DataType::Binary), NATIVE), "postgresql", "numeric"));
    let mut ways = 0;
    for from in &fields {
        // Nothing but NULLs, which every way must carry, and rows of zeros where the type has them.
        let nulls = new_null_array(from.data_type(), 3);
        for to in &fields {
            match Conversion::plan(from, to, &options()) {
                Ok(conversion) => {
                    let converted = conversion.apply(&nulls).unwrap();
                    assert_eq!(converted.column.data_type(), to.data_type(), "{from} → {to}");
                    assert_eq!(
                        (converted.column.len(), converted.column.logical_null_count()),
                        (3, 3),
                        "{from} → {to}"
                    );
                    assert_eq!(converted.faults, []);
                    ways += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Schema);
                    for field in [from, to] {
                        assert!(error.message().contains(&crate::field::type_text(field)), "{error}");
                    }
                }
            }
        }
        assert_eq!(to_display_text(&nulls, from).null_count(), 3);
    }
    assert!(ways > 500, "{ways}");
}

#[test]
fn no_text_and_no_count_makes_a_conversion_panic() {
    // A plain generator: the same texts each time, a failure names its text.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |most: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) % most
    };
    let alphabet: Vec<char> = "0011223456789-+:. TZeEPYMDWHS/,naifé😀\0".chars().collect();
    let starts = ["", "2024-01-31", "2024-01-31 12:34:56.", "P1Y", "PT-1", "-838:59", "1e", "0.", "-", "{\"a\":"];
    let texts: Vec<String> = (0..4_000)
        .map(|_| {
            let start = starts[next(starts.len() as u64) as usize];
            let length = next(12);
            start.chars().chain((0..length).map(|_| alphabet[next(alphabet.len() as u64) as usize])).collect()
        })
        .collect();
    let texts: ArrayRef = Arc::new(StringArray::from(texts));
    let patterns = ["yyyyMMddHHmmssSSS", "d MMM yy h:m a", "yyyy-MM-dd'T'HH:mm:ssXXX", "E, HH:mm Z"];
    let extra = patterns.map(|p| Pattern::new(p).unwrap()).to_vec();
    let berlin = ConvertOptions { formats: Formats { extra, ..Formats::default() }, ..zoned(Tz::Europe__Berlin) };
    let counts: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(
        (0..2_000).map(|i| i64::MAX >> (i % 64)).chain((0..64).map(|i| i64::MIN >> i)),
    ));
    let mut types: Vec<Field> = INTEGERS.iter().map(|(t, ..)| field(t.clone())).collect();
    types.extend(
        [DataType::Boolean, DataType::Float32, DataType::Float64, DataType::Date32, DataType::Binary].map(field),
    );
    types.extend([DataType::Decimal128(38, 38), DataType::Decimal128(5, -3), DataType::Decimal256(76, 10)].map(field));
    types.extend([DECIMAL, INTERVAL, JSON].map(|extension| with_extension(field(DataType::Utf8), extension)));
    types.push(with_extension(field(DataType::FixedSizeBinary(16)), UUID));
    for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
        types.push(field(DataType::Timestamp(unit, None)));
        types.push(field(DataType::Timestamp(unit, Some("UTC".into()))));
        types.push(field(DataType::Duration(unit)));
    }
    types.push(field(DataType::Time64(TimeUnit::Microsecond)));
    for to in &types {
        let converted = Conversion::plan(&field(DataType::Utf8), to, &berlin).unwrap().apply(&texts).unwrap();
        assert!(converted.column.null_count() == converted.faults.len());
        // What was understood is written and understood again as the same.
        let shown = to_text(&converted.column, to, &ConvertOptions { formats: Formats::default(), ..berlin.clone() });
        let shown = shown.unwrap().column;
        let again = Conversion::plan(&field(DataType::Utf8), to, &berlin).unwrap().apply(&shown).unwrap();
        // The later one of two equal clock times is told apart by its offset, so instants come back too.
        assert_eq!(&again.column, &converted.column, "{to}");
    }
    // Every count in every unit, right or damaged, has a text and a way to every other type, or a fault.
    for from in types.iter().filter(|f| f.data_type().is_temporal() && f.data_type() != &DataType::Date32) {
        let column =
            kinds::of_counts(counts.as_primitive::<arrow::datatypes::Int64Type>().clone(), from.data_type()).unwrap();
        assert_eq!(to_display_text(&column, from).null_count(), 0);
        for to in &types {
            if let Ok(conversion) = Conversion::plan(from, to, &berlin) {
                conversion.apply(&column).unwrap();
            }
        }
    }
}
