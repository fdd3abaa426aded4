//! Integers, decimals, floats and booleans.

use arrow::array::{Float32Array, Float64Array};
use arrow::datatypes::Float64Type;

use super::*;
use crate::field::{DECIMAL, with_extension};

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
