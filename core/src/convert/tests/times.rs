//! Dates, times, timestamps, instants, durations, and the zones they are meant in.

use arrow::datatypes::TimeUnit;

use super::*;
use crate::field::{INTERVAL, with_extension};

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
        encoding: Some("GBK".into()),
    };
    let texts = EndZone { clocks: Tz::UTC, texts: Tz::Asia__Shanghai };
    let options = ConvertOptions { formats, source: texts, target: texts, ..options() };
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
fn zone_less_times_move_from_the_clocks_of_the_source_to_those_of_the_target() {
    let local = field(DataType::Timestamp(TimeUnit::Microsecond, None));
    let (source, target) = (Tz::Europe__Berlin.into(), Tz::America__New_York.into());
    let options = ConvertOptions { source, target, ..options() };
    let cases: &[(&str, &str)] = &[
        ("2024-01-31 12:00:00.000001", "2024-01-31 06:00:00.000001"),
        // Between the two changes of clocks the distance is another one.
        ("2024-03-20 12:00:00", "2024-03-20 07:00:00"),
        ("2024-03-31 02:30:00", "!"),
        ("2024-10-27 02:30:00", "2024-10-26 20:30:00"),
        // This moment is in New York's first 1:30.
        ("2024-11-03 06:30:00", "2024-11-03 01:30:00"),
        ("2024-03-10 08:30:00", "2024-03-10 03:30:00"),
    ];
    // Written in New York's zone these texts are no longer Berlin's: the column is made with plain options.
    let same = super::options();
    let inputs: Vec<&str> = cases.iter().map(|c| c.0).collect();
    let expected: Vec<&str> = cases.iter().map(|c| c.1).collect();
    let moved = |to: &Field| {
        let converted = Conversion::plan(&local, to, &options).unwrap().apply(&column(&inputs, &local, &same)).unwrap();
        let mut shown = show(&converted.column, to, &same);
        converted.faults.iter().for_each(|fault| shown[fault.row] = "!".into());
        shown
    };
    assert!(options.moves(&local) && !options.moves(&field(DataType::Date32)));
    assert_eq!(Conversion::plan(&local, &local, &options).unwrap().loss(), &Loss::PerValue);
    assert_eq!(moved(&local), expected);
    assert_eq!(moved(&field(DataType::Utf8)), expected);
    assert_eq!(moved(&field(DataType::Date32))[3], "2024-10-26");
    assert_eq!(moved(&field(DataType::Time64(TimeUnit::Microsecond)))[3], "20:30:00");
    // An instant knows nothing of the target's clocks.
    let instant = field(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert_eq!(moved(&instant)[..2], ["2024-01-31 11:00:00.000001+00:00", "2024-03-20 11:00:00+00:00"]);
    assert_eq!(Conversion::plan(&instant, &instant, &options).unwrap().loss(), &Loss::None);

    let text = |texts: &[&str], to: &Field| {
        let conversion = Conversion::plan(&field(DataType::Utf8), to, &options).unwrap();
        show(&conversion.apply(&text_column(texts)).unwrap().column, to, &same)
    };
    let texts = ["2024-01-31 12:00:00", "2024-01-31 12:00:00Z", "2024-01-31", "2024-03-31 02:30:00"];
    assert_eq!(text(&texts, &local), ["2024-01-31 06:00:00", "2024-01-31 07:00:00", "2024-01-31 00:00:00", "~"]);
    assert_eq!(text(&texts[..1], &instant), ["2024-01-31 11:00:00+00:00"]);
    assert_eq!(text(&["2024-01-31"], &field(DataType::Date32)), ["2024-01-31"]);

    let item = Arc::new(Field::new("item", local.data_type().clone(), true));
    let list = Field::new("c", DataType::List(item.clone()), true);
    let values = column(&["2024-01-31 12:00:00", "2024-03-31 02:30:00"], &local, &same);
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([1, 1]);
    let lists: ArrayRef = Arc::new(arrow::array::ListArray::new(item, offsets, values, None));
    for to in [&list, &field(DataType::Utf8)] {
        let converted = Conversion::plan(&list, to, &options).unwrap().apply(&lists).unwrap();
        assert_eq!(show(&converted.column, to, &same), [r#"["2024-01-31 06:00:00"]"#, "~"]);
        assert_eq!(converted.faults.len(), 1);
    }
    let within = DataType::Struct(vec![Field::new("a", local.data_type().clone(), true)].into());
    let error = Conversion::plan(&field(within), &field(DataType::Utf8), &options).unwrap_err();
    assert!(error.message().contains("timeZone"), "{error}");
}
