//! Conversions at the edges of every type. A column stands in these tests as the texts of its values, `~` for NULL.

use arrow::array::{AsArray, Float32Array, Float64Array, ListArray, UInt64Array};
use arrow::datatypes::{Float64Type, Int32Type, TimeUnit};

use super::*;
use crate::field::{DECIMAL, INTERVAL, JSON, NATIVE, UUID, with_extension, with_native_type};
use crate::{ErrorKind, OnTypeLoss};

fn field(data_type: DataType) -> Field {
    Field::new("c", data_type, true)
}

fn options() -> ConvertOptions {
    ConvertOptions { on_type_loss: OnTypeLoss::Cast, ..ConvertOptions::default() }
}

fn zoned(tz: Tz) -> ConvertOptions {
    ConvertOptions { time_zone: tz, ..options() }
}

fn text_column(texts: &[&str]) -> ArrayRef {
    Arc::new(texts.iter().map(|t| (*t != "~").then_some(*t)).collect::<StringArray>())
}

/// The values of `texts` as a column of `to`; every one of them must be one.
fn column(texts: &[&str], to: &Field, options: &ConvertOptions) -> ArrayRef {
    let converted = Conversion::plan(&field(DataType::Utf8), to, options).unwrap().apply(&text_column(texts)).unwrap();
    assert_eq!(converted.faults, [], "{to}");
    converted.column
}

fn show(column: &ArrayRef, field: &Field, options: &ConvertOptions) -> Vec<String> {
    let texts = to_text(column, field, options).unwrap().column;
    texts.as_string::<i32>().iter().map(|t| t.unwrap_or("~").to_owned()).collect()
}

/// Converts texts into a column of `from`, that into one of `to`, and checks the texts of the result; `!` stands for
/// a fault.
fn check_with(from: &Field, to: &Field, options: &ConvertOptions, cases: &[(&str, &str)]) -> Loss {
    let inputs: Vec<&str> = cases.iter().map(|c| c.0).chain(["~"]).collect();
    let conversion = Conversion::plan(from, to, options).unwrap();
    let whole = column(&inputs, from, options);
    // Also as a slice, whose buffers start elsewhere.
    for (start, column) in [(0, whole.clone()), (1, whole.slice(1, whole.len() - 1))] {
        let converted = conversion.apply(&column).unwrap();
        assert_eq!(converted.column.data_type(), to.data_type());
        assert_eq!(converted.column.len(), column.len());
        let mut shown = show(&converted.column, to, options);
        for fault in &converted.faults {
            assert_eq!(shown[fault.row], "~", "a faulty row is null");
            assert!(fault.reason.len() > 5, "{}", fault.reason);
            shown[fault.row] = "!".into();
        }
        let expected: Vec<&str> = cases.iter().map(|c| c.1).chain(["~"]).skip(start).collect();
        assert_eq!(shown, expected, "{from} → {to}: {:?}", converted.faults);
    }
    conversion.loss().clone()
}

fn check(from: DataType, to: DataType, cases: &[(&str, &str)]) -> Loss {
    check_with(&field(from), &field(to), &options(), cases)
}

const INTEGERS: [(DataType, &str, &str); 8] = [
    (DataType::Int8, "-128", "127"),
    (DataType::Int16, "-32768", "32767"),
    (DataType::Int32, "-2147483648", "2147483647"),
    (DataType::Int64, "-9223372036854775808", "9223372036854775807"),
    (DataType::UInt8, "0", "255"),
    (DataType::UInt16, "0", "65535"),
    (DataType::UInt32, "0", "4294967295"),
    (DataType::UInt64, "0", "18446744073709551615"),
];

#[test]
fn every_integer_fits_every_integer_type_or_is_a_fault() {
    for (from, from_min, from_max) in &INTEGERS {
        for (to, to_min, to_max) in &INTEGERS {
            let number = |t: &str| t.parse::<i128>().unwrap();
            let fits = |t: &str| number(t) >= number(to_min) && number(t) <= number(to_max);
            let expected = |t: &'static str| if fits(t) { t } else { "!" };
            let loss = check(
                from.clone(),
                to.clone(),
                &[(from_min, expected(from_min)), (from_max, expected(from_max)), ("0", "0"), ("100", "100")],
            );
            assert_eq!(loss == Loss::None, fits(from_min) && fits(from_max), "{from} {to}");
        }
        for to in [DataType::Decimal128(20, 0), DataType::Decimal256(40, 10)] {
            let scale = if to == DataType::Decimal128(20, 0) { "" } else { ".0000000000" };
            let (min, max) = (format!("{from_min}{scale}"), format!("{from_max}{scale}"));
            assert_eq!(check(from.clone(), to.clone(), &[(from_min, &min), (from_max, &max)]), Loss::None);
            assert_eq!(check(to, from.clone(), &[(&min, from_min), (&max, from_max)]), Loss::PerValue);
        }
        check_with(
            &field(from.clone()),
            &with_extension(field(DataType::Utf8), DECIMAL),
            &options(),
            &[(from_max, from_max)],
        );
    }
    check(
        DataType::UInt64,
        DataType::Decimal128(19, 0),
        &[("18446744073709551615", "!"), ("9999999999999999999", "9999999999999999999")],
    );
}

#[test]
fn a_reason_names_value_and_type() {
    let conversion = Conversion::plan(&field(DataType::Int32), &field(DataType::Int8), &options()).unwrap();
    let faults = conversion.apply(&column(&["1", "300", "~"], &field(DataType::Int32), &options())).unwrap().faults;
    assert_eq!(faults, [CellFault { row: 1, reason: "300 does not fit Int8".into() }]);
    let conversion = Conversion::plan(&field(DataType::Utf8), &field(DataType::Int8), &options()).unwrap();
    let faults = conversion.apply(&text_column(&["1e9", "x", &"y".repeat(1000)])).unwrap().faults;
    assert_eq!(faults[0].reason, "1000000000 does not fit Int8");
    assert_eq!(faults[1].reason, "`x` is no number");
    assert!(faults[2].reason.len() < 100);
}

#[test]
fn integers_become_floats_only_exactly() {
    let double = &[
        ("9007199254740992", "9007199254740992.0"),
        ("9007199254740993", "!"),
        ("-9223372036854775808", "-9.223372036854776e18"),
        ("9223372036854775807", "!"),
    ];
    assert_eq!(check(DataType::Int64, DataType::Float64, double), Loss::PerValue);
    check(
        DataType::UInt64,
        DataType::Float64,
        &[("18446744073709551615", "!"), ("9223372036854775808", "9.223372036854776e18")],
    );
    check(DataType::Int64, DataType::Float32, &[("16777216", "16777216.0"), ("16777217", "!")]);
    check(DataType::UInt64, DataType::Float32, &[("16777217", "!"), ("18446744073709551615", "!")]);
    assert_eq!(check(DataType::Int32, DataType::Float64, &[("-2147483648", "-2147483648.0")]), Loss::None);
    assert_eq!(check(DataType::Int16, DataType::Float32, &[("-32768", "-32768.0")]), Loss::None);
}

#[test]
fn floats_become_whole_numbers_and_decimals_only_exactly() {
    check(
        DataType::Float64,
        DataType::Int64,
        &[
            ("1.5", "!"),
            ("-0.0", "0"),
            ("1e18", "1000000000000000000"),
            ("9223372036854775807", "!"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("NaN", "!"),
            ("Infinity", "!"),
            ("-Infinity", "!"),
            ("5e-324", "!"),
        ],
    );
    check(
        DataType::Float64,
        DataType::UInt64,
        &[("-1", "!"), ("18446744073709551615", "!"), ("1e19", "10000000000000000000")],
    );
    check(DataType::Float64, DataType::Int8, &[("127", "127"), ("128", "!")]);
    check(
        DataType::Float64,
        DataType::Decimal128(38, 10),
        &[
            ("0.1", "0.1000000000"),
            ("1e-10", "0.0000000001"),
            ("1e-11", "!"),
            ("-0.0", "0.0000000000"),
            ("1e27", "1000000000000000000000000000.0000000000"),
            ("1e28", "!"),
            ("NaN", "!"),
            ("Infinity", "!"),
        ],
    );
    check(DataType::Float64, DataType::Decimal256(76, 0), &[("1e75", &format!("1{}", "0".repeat(75))), ("1e76", "!")]);
    check(DataType::Float32, DataType::Decimal128(10, 2), &[("0.1", "0.10"), ("0.001", "!")]);
    let text = with_extension(field(DataType::Utf8), DECIMAL);
    check_with(
        &field(DataType::Float64),
        &text,
        &options(),
        &[("1e300", &format!("1{}", "0".repeat(300))), ("NaN", "NaN"), ("1.5e-7", "0.00000015")],
    );
}

#[test]
fn floats_are_written_shortest_and_read_back_the_same() {
    let cases = [
        (0.1, "0.1"),
        (2.0, "2.0"),
        (-0.0, "-0.0"),
        (1.8e307, "1.8e307"),
        (f64::MAX, "1.7976931348623157e308"),
        (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
        (5e-324, "5e-324"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
    ];
    let values: ArrayRef = Arc::new(Float64Array::from_iter_values(cases.iter().map(|c| c.0)));
    let double = field(DataType::Float64);
    assert_eq!(show(&values, &double, &options()), cases.map(|c| c.1));
    let back = column(&cases.map(|c| c.1), &double, &options());
    for (a, b) in back.as_primitive::<Float64Type>().values().iter().zip(cases) {
        assert!(a.to_bits() == b.0.to_bits() || (a.is_nan() && b.0.is_nan()), "{a}");
    }
    let single: ArrayRef = Arc::new(Float32Array::from(vec![0.1, f32::MAX, 1e-45]));
    assert_eq!(show(&single, &field(DataType::Float32), &options()), ["0.1", "3.4028235e38", "1e-45"]);
    assert_eq!(
        check(DataType::Float32, DataType::Float64, &[("0.5", "0.5"), ("0.1", "0.10000000149011612")]),
        Loss::None
    );
    check(DataType::Utf8, DataType::Float64, &[("1e999", "!"), ("", "!"), (" 1", "!"), ("0x1", "!"), ("1,5", "!")]);
}

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
fn decimals_keep_every_digit() {
    check(
        DataType::Decimal128(38, 10),
        DataType::Decimal128(38, 4),
        &[
            ("1.5000000000", "1.5000"),
            ("1.2345000000", "1.2345"),
            ("1.2345000001", "!"),
            ("-9999999999999999999999999999.9999000000", "-9999999999999999999999999999.9999"),
            ("0.0000000000", "0.0000"),
        ],
    );
    check(
        DataType::Decimal128(38, 0),
        DataType::Decimal128(38, 10),
        &[
            ("99999999999999999999999999999999999999", "!"),
            ("-9999999999999999999999999999", "-9999999999999999999999999999.0000000000"),
        ],
    );
    check(
        DataType::Decimal128(38, 10),
        DataType::Decimal256(76, 38),
        &[("-0.0000000001", "-0.00000000010000000000000000000000000000")],
    );
    check(
        DataType::Decimal256(76, 38),
        DataType::Decimal128(38, 38),
        &[("1", "!"), ("0.5", "0.50000000000000000000000000000000000000")],
    );
    assert_eq!(
        check(DataType::Decimal128(10, 2), DataType::Decimal128(12, 4), &[("99999999.99", "99999999.9900")]),
        Loss::None
    );
    assert_eq!(
        check(DataType::Decimal128(10, 2), DataType::Decimal128(10, 4), &[("99999999.99", "!")]),
        Loss::PerValue
    );
    check(DataType::Decimal128(10, 2), DataType::Int32, &[("12.00", "12"), ("12.01", "!"), ("-0.00", "0")]);
    check(
        DataType::Decimal128(38, 18),
        DataType::Float64,
        &[("0.1", "0.1"), ("0.100000000000000001", "!"), ("-12345678901234.5", "-12345678901234.5")],
    );
    check(DataType::Decimal256(50, 20), DataType::Float64, &[("0.1", "0.1"), ("123456789012345678901", "!")]);
    check(
        DataType::Decimal128(20, 10),
        DataType::Float32,
        &[("0.1", "0.1"), ("16777217", "!"), ("0.0000000001", "1e-10")],
    );
    let text = with_extension(field(DataType::Utf8), DECIMAL);
    check_with(
        &text,
        &field(DataType::Decimal128(38, 10)),
        &options(),
        &[("1.5", "1.5000000000"), ("NaN", "!"), ("1.00000000001", "!")],
    );
    check_with(&field(DataType::Decimal128(5, -2)), &text, &options(), &[("1200", "1200")]);
    check_with(
        &field(DataType::Decimal32(5, 2)),
        &field(DataType::Decimal64(12, 4)),
        &options(),
        &[("-999.99", "-999.9900")],
    );
}

#[test]
fn booleans_are_zero_and_one() {
    check(DataType::Boolean, DataType::Int8, &[("true", "1"), ("false", "0")]);
    check(DataType::Boolean, DataType::Float64, &[("true", "1.0")]);
    check(DataType::Boolean, DataType::Decimal128(3, 1), &[("true", "1.0"), ("false", "0.0")]);
    check(DataType::Int64, DataType::Boolean, &[("1", "true"), ("0", "false"), ("2", "!"), ("-1", "!")]);
    check(DataType::Float64, DataType::Boolean, &[("1", "true"), ("0.5", "!")]);
    check(DataType::Decimal128(5, 2), DataType::Boolean, &[("1.00", "true"), ("0.01", "!")]);
    check(
        DataType::Utf8,
        DataType::Boolean,
        &[("TRUE", "true"), ("False", "false"), ("1", "true"), ("yes", "!"), ("", "!"), ("true ", "!")],
    );
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
fn dates_and_times_have_one_text_over_all_years() {
    let stamp = |unit| DataType::Timestamp(unit, None);
    for text in [
        "0001-01-01",
        "1582-10-04",
        "1582-10-15",
        "9999-12-31",
        "2024-02-29",
        "-0044-03-15",
        "+10000-01-01",
        "0000-02-29",
    ] {
        let midnight = format!("{text} 00:00:00");
        check(DataType::Date32, DataType::Utf8, &[(text, text)]);
        check(DataType::Date32, stamp(TimeUnit::Microsecond), &[(text, &midnight)]);
        let instant = DataType::Timestamp(TimeUnit::Second, Some("UTC".into()));
        check(DataType::Date32, instant, &[(text, &format!("{midnight}+00:00"))]);
    }
    check(
        DataType::Utf8,
        DataType::Date32,
        &[
            ("2023-02-29", "!"),
            ("1900-02-29", "!"),
            ("2024-1-31", "!"),
            ("2024-01-31 00:00:00", "2024-01-31"),
            ("2024-01-31 00:00:01", "!"),
            ("2024-01-31x", "!"),
            ("0044-03-15 BC", "-0043-03-15"),
            ("infinity", "!"),
            ("0000-00-00", "!"),
            ("é024-01-31", "!"),
            ("2024-01-3é", "!"),
        ],
    );
    check(
        DataType::Utf8,
        stamp(TimeUnit::Microsecond),
        &[
            ("2024-01-31T12:34:56.789", "2024-01-31 12:34:56.789"),
            ("2024-01-31 12:34", "2024-01-31 12:34:00"),
            ("2024-01-31 12:34:56.123456000", "2024-01-31 12:34:56.123456"),
            ("2024-01-31 12:34:56.1234567", "!"),
            ("2024-01-31 24:00:00", "!"),
            ("2024-01-31 12:34:60", "!"),
            ("2024-01-31 12:34:56.", "!"),
            ("2024-01-31 12:34:56 UTC", "2024-01-31 12:34:56"),
            ("2024-01-31 12:34:56+02", "2024-01-31 10:34:56"),
            ("12:34:56", "!"),
        ],
    );
    check(
        stamp(TimeUnit::Nanosecond),
        stamp(TimeUnit::Microsecond),
        &[
            ("2024-01-31 12:34:56.123456", "2024-01-31 12:34:56.123456"),
            ("2024-01-31 12:34:56.123456789", "!"),
            ("1677-09-21 00:12:43.145224193", "!"),
            ("1969-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999"),
        ],
    );
    check(
        stamp(TimeUnit::Microsecond),
        stamp(TimeUnit::Nanosecond),
        &[("9999-12-31 00:00:00", "!"), ("2262-04-11 23:47:16.854775", "2262-04-11 23:47:16.854775")],
    );
    check(
        stamp(TimeUnit::Microsecond),
        stamp(TimeUnit::Second),
        &[("2024-01-31 12:00:00", "2024-01-31 12:00:00"), ("2024-01-31 12:00:00.5", "!")],
    );
    check(stamp(TimeUnit::Second), stamp(TimeUnit::Millisecond), &[("9999-12-31 23:59:59", "9999-12-31 23:59:59")]);
    check(DataType::Date32, stamp(TimeUnit::Nanosecond), &[("9999-12-31", "!")]);
}

#[test]
fn times_and_durations() {
    let time = DataType::Time64(TimeUnit::Microsecond);
    let duration = DataType::Duration(TimeUnit::Microsecond);
    check(
        duration.clone(),
        DataType::Utf8,
        &[("-838:59:59.5", "-838:59:59.5"), ("00:00:00", "00:00:00"), ("-00:00:00.000001", "-00:00:00.000001")],
    );
    check(
        duration.clone(),
        time.clone(),
        &[("23:59:59.999999", "23:59:59.999999"), ("24:00:00", "!"), ("-00:00:01", "!")],
    );
    check(time.clone(), duration.clone(), &[("23:59:59.5", "23:59:59.5")]);
    check(duration.clone(), DataType::Int64, &[("-838:59:59.999999", "-3020399999999")]);
    check(DataType::Int64, duration.clone(), &[("-3020399999999", "-838:59:59.999999")]);
    check(time.clone(), DataType::Time32(TimeUnit::Second), &[("12:34:56", "12:34:56"), ("12:34:56.5", "!")]);
    check(
        DataType::Time32(TimeUnit::Millisecond),
        DataType::Time64(TimeUnit::Nanosecond),
        &[("12:34:56.5", "12:34:56.5")],
    );
    check(
        DataType::Utf8,
        time,
        &[("12:34", "12:34:00"), ("24:00:00", "!"), ("1:02:03", "!"), ("2024-01-31 12:00:00", "!")],
    );
    check(
        DataType::Utf8,
        duration.clone(),
        &[("12:60:00", "!"), ("12", "!"), ("838:59", "838:59:00"), ("--1:00:00", "!")],
    );
    let interval = with_extension(field(DataType::Utf8), INTERVAL);
    check_with(
        &field(duration.clone()),
        &interval,
        &options(),
        &[("-838:59:59.5", "PT-838H-59M-59.5S"), ("00:00:00", "PT0S")],
    );
    check_with(
        &interval,
        &field(duration),
        &options(),
        &[("PT-838H-59M-59.5S", "-838:59:59.5"), ("P1D", "!"), ("P1Y", "!")],
    );
}

#[test]
fn zones_with_gaps_and_overlaps() {
    let local = field(DataType::Timestamp(TimeUnit::Microsecond, None));
    let instant = field(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    let berlin = zoned(Tz::Europe__Berlin);
    let cases: &[(&str, &str)] = &[
        ("2024-01-31 12:00:00", "2024-01-31 12:00:00+01:00"),
        ("2024-03-31 01:59:59.999999", "2024-03-31 01:59:59.999999+01:00"),
        ("2024-03-31 02:00:00", "!"),
        ("2024-03-31 02:59:59.999999", "!"),
        ("2024-03-31 03:00:00", "2024-03-31 03:00:00+02:00"),
        ("2024-10-27 02:30:00", "2024-10-27 02:30:00+02:00"),
        ("2024-10-27 03:00:00", "2024-10-27 03:00:00+01:00"),
        ("1890-01-01 00:00:00", "1890-01-01 00:00:00+00:53:28"),
        ("0001-01-01 00:00:00", "0001-01-01 00:00:00+00:53:28"),
        ("9999-12-31 23:59:59", "9999-12-31 23:59:59+01:00"),
    ];
    assert_eq!(check_with(&local, &instant, &berlin, cases), Loss::PerValue);
    check_with(&field(DataType::Utf8), &instant, &berlin, cases);
    check_with(
        &instant,
        &local,
        &berlin,
        &[
            ("2024-10-27 00:30:00Z", "2024-10-27 02:30:00"),
            ("2024-10-27 01:30:00Z", "2024-10-27 02:30:00"),
            ("2024-03-31 01:00:00Z", "2024-03-31 03:00:00"),
            ("2024-02-29 23:30:00+00:00", "2024-03-01 00:30:00"),
        ],
    );
    check_with(
        &local,
        &instant,
        &zoned(Tz::America__New_York),
        &[
            ("2024-03-10 02:30:00", "!"),
            ("2024-11-03 01:30:00", "2024-11-03 01:30:00-04:00"),
            ("2024-11-03 02:00:00", "2024-11-03 02:00:00-05:00"),
            ("2024-02-29 12:00:00", "2024-02-29 12:00:00-05:00"),
        ],
    );
    check_with(
        &instant,
        &field(DataType::Date32),
        &zoned(Tz::Asia__Shanghai),
        &[("2024-01-31 16:00:00Z", "2024-02-01"), ("2024-01-31 15:59:59Z", "2024-01-31")],
    );
    // DataX counts milliseconds of the instant.
    check_with(
        &local,
        &field(DataType::Int64),
        &zoned(Tz::Asia__Shanghai),
        &[("1970-01-01 08:00:01", "1000"), ("1970-01-01 08:00:00.0001", "!")],
    );
    check_with(&field(DataType::Int64), &local, &zoned(Tz::Asia__Shanghai), &[("1000", "1970-01-01 08:00:01")]);
    check_with(
        &field(DataType::Int64),
        &field(DataType::Date32),
        &zoned(Tz::Asia__Shanghai),
        &[("57600000", "1970-01-02"), ("57600001", "!")],
    );
    // Another zone label on the same instants.
    let elsewhere = field(DataType::Timestamp(TimeUnit::Microsecond, Some("America/New_York".into())));
    check_with(&instant, &elsewhere, &options(), &[("2024-01-31 12:00:00Z", "2024-01-31 12:00:00+00:00")]);
}

#[test]
fn configured_formats_come_first() {
    let formats = Formats {
        datetime: Some(Pattern::new("dd/MM/yyyy HH:mm:ss").unwrap()),
        date: Some(Pattern::new("dd/MM/yyyy").unwrap()),
        time: Some(Pattern::new("HH'h'mm").unwrap()),
        extra: vec![Pattern::new("yyyyMMdd").unwrap()],
        time_zone: Some(Tz::Asia__Shanghai),
        encoding: Some("GBK".into()),
    };
    let options = ConvertOptions { formats, ..options() };
    let stamp = field(DataType::Timestamp(TimeUnit::Microsecond, None));
    let cases = [
        ("01/02/2024 03:04:05", "01/02/2024 03:04:05"),
        ("20240201", "01/02/2024 00:00:00"),
        ("2024-02-01 03:04:05", "01/02/2024 03:04:05"),
    ];
    check_with(&field(DataType::Utf8), &stamp, &options, &cases);
    let instant = field(DataType::Timestamp(TimeUnit::Second, Some("UTC".into())));
    check_with(
        &field(DataType::Utf8),
        &instant,
        &options,
        &[("01/02/2024 03:04:05", "01/02/2024 03:04:05"), ("1970-01-01T00:00:00Z", "01/01/1970 08:00:00")],
    );
    check_with(
        &field(DataType::Utf8),
        &field(DataType::Date32),
        &options,
        &[("01/02/2024", "01/02/2024"), ("13/13/2024", "!")],
    );
    check_with(
        &field(DataType::Utf8),
        &field(DataType::Time64(TimeUnit::Microsecond)),
        &options,
        &[("03h04", "03h04")],
    );
    let bytes = Conversion::plan(&field(DataType::Utf8), &field(DataType::Binary), &options).unwrap();
    let converted = bytes.apply(&text_column(&["中"])).unwrap();
    assert_eq!(converted.column.as_binary::<i32>().value(0), [0xd6, 0xd0]);
    assert_eq!(show(&converted.column, &field(DataType::Binary), &options), ["中"]);
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
