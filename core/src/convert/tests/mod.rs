//! Conversions at the edges of every type. A column stands in these tests as the texts of its values, `~` for NULL.

mod numbers;
mod times;
mod values;

use arrow::array::AsArray;

use super::*;
use crate::OnTypeLoss;

fn field(data_type: DataType) -> Field {
    Field::new("c", data_type, true)
}

fn options() -> ConvertOptions {
    ConvertOptions { on_type_loss: OnTypeLoss::Cast, ..ConvertOptions::default() }
}

fn zoned(tz: Tz) -> ConvertOptions {
    ConvertOptions { source: tz.into(), target: tz.into(), ..options() }
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
