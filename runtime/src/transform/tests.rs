//! The transformers, one table each.

use arrow::array::{BinaryArray, Date32Array, Decimal128Array, Float64Array, Int64Array};
use arrow::datatypes::TimeUnit;
use serde_json::json;

use super::*;

fn spec(name: &str, column: usize, paras: &[&str]) -> TransformerSpec {
    TransformerSpec {
        name: name.into(),
        parameter: json!({ "columnIndex": column, "paras": paras }),
        pointer: "/t/0".into(),
    }
}

fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(n, c)| (*n, c.clone(), true))).unwrap()
}

fn fields(batch: &RecordBatch) -> Vec<Field> {
    batch.schema().fields().iter().map(|f| f.as_ref().clone()).collect()
}

fn run(specs: &[TransformerSpec], column: ArrayRef) -> Transformed {
    let batch = batch(&[("c", column)]);
    Transformers::plan(specs, &fields(&batch), &ConvertOptions::default()).unwrap().apply(&batch).unwrap()
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn shown(transformed: &Transformed) -> Vec<Option<&str>> {
    transformed.batch.column(0).as_string::<i32>().iter().collect()
}

/// What a transformer makes of one value; `Err` with the reason when it makes the row dirty.
fn one(name: &str, paras: &[&str], value: Option<&str>) -> Result<Option<String>, String> {
    let transformed = run(&[spec(name, 0, paras)], texts(&[value]));
    match transformed.dirty.first() {
        Some(row) => Err(row.reason.clone()),
        None => Ok(shown(&transformed)[0].map(str::to_owned)),
    }
}

#[test]
fn texts_are_cut_filled_and_replaced_by_characters() {
    for (name, paras, value, expected) in [
        ("dx_substr", &["2", "5"][..], Some("dataxTest"), Some("taxTe")),
        ("dx_substr", &["5", "10"], Some("dataxTest"), Some("Test")),
        ("dx_substr", &["9", "1"], Some("dataxTest"), Some("")),
        ("dx_substr", &["0", "0"], Some("dataxTest"), Some("")),
        ("dx_substr", &["1", "2"], Some("数据😀同步"), Some("据😀")),
        ("dx_substr", &["5", "1"], Some("数据😀同步"), Some("")),
        ("dx_substr", &["0", "4294967295"], Some("数据"), Some("数据")),
        ("dx_substr", &["0", "1"], None, None),
        ("DX_SUBSTR", &["0", "1"], Some("ab"), Some("a")),
        ("dx_pad", &["l", "4", "A"], Some("xyz"), Some("Axyz")),
        ("dx_pad", &["l", "4", "A"], Some("xyzzzzz"), Some("xyzz")),
        ("dx_pad", &["r", "4", "A"], Some("xyz"), Some("xyzA")),
        ("dx_pad", &["R", "4", "A"], Some("xyzzzzz"), Some("xyzz")),
        ("dx_pad", &["l", "8", "数b"], Some("é"), Some("数b数b数b数é")),
        ("dx_pad", &["l", "3", "0"], None, Some("000")),
        ("dx_pad", &["l", "0", "0"], Some("x"), Some("")),
        ("dx_replace", &["2", "4", "****"], Some("dataxTest"), Some("da****est")),
        ("dx_replace", &["5", "10", "****"], Some("dataxTest"), Some("datax****")),
        ("dx_replace", &["0", "0", "<"], Some("数据"), Some("<数据")),
        ("dx_replace", &["2", "1", ">"], Some("数据"), Some("数据>")),
        ("dx_replace", &["0", "1", "x"], None, None),
        ("dx_digest", &["md5", "toUpperCase"], Some("abc"), Some("900150983CD24FB0D6963F7D28E17F72")),
        ("dx_digest", &["md5", "lower"], None, Some("d41d8cd98f00b204e9800998ecf8427e")),
        ("dx_digest", &["sha1", "toLowerCase"], Some("abc"), Some("a9993e364706816aba3e25717850c26c9cd0d89d")),
        ("dx_digest", &["SHA1", "UPPER"], Some("abc"), Some("A9993E364706816ABA3E25717850C26C9CD0D89D")),
    ] {
        let result = one(name, paras, value).unwrap();
        assert_eq!(result.as_deref(), expected, "{name} {paras:?} {value:?}");
    }
    for (name, paras) in [("dx_substr", &["6", "1"][..]), ("dx_replace", &["6", "1", "x"])] {
        assert!(one(name, paras, Some("数据😀同步")).unwrap_err().contains("5 characters"));
        assert!(one(name, paras, Some("ascii")).unwrap_err().contains("position 6"));
    }
}

#[test]
fn dirty_rows_keep_their_values_as_they_came() {
    let batch = batch(&[
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
        ("name", texts(&[Some("anna"), Some("b"), Some("carl")])),
    ]);
    let specs = [spec("dx_replace", 0, &["0", "1", "9"]), spec("dx_substr", 1, &["2", "9"])];
    let transformers = Transformers::plan(&specs, &fields(&batch), &ConvertOptions::default()).unwrap();
    let transformed = transformers.apply(&batch).unwrap();
    assert_eq!(transformed.dirty.len(), 1);
    let dirty = &transformed.dirty[0];
    assert_eq!(
        (dirty.column.as_deref(), &dirty.values["id"], &dirty.values["name"]),
        (Some("name"), &json!("2"), &json!("b"))
    );
    assert_eq!((transformed.batch.num_rows(), transformed.filtered), (2, 0));
    assert_eq!(shown(&transformed), [Some("9"), Some("9")]);
    assert_eq!(transformers.output_fields()[0].data_type(), &DataType::Utf8);
    assert!(transformers.touches(0) && transformers.alters(1) && !transformers.touches(2));
}

#[test]
fn filters_drop_what_matches() {
    let text = || texts(&[Some("abc"), Some("b"), None, Some("null"), Some("abcd\n")]);
    let number = || Arc::new(Int64Array::from(vec![Some(-1), Some(5), None, Some(100)])) as ArrayRef;
    let double = || Arc::new(Float64Array::from(vec![Some(0.5), Some(f64::NAN), None, Some(2.0)])) as ArrayRef;
    let decimal = || {
        let values = vec![Some(150), Some(-250), None, Some(1_000)];
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(10, 2).unwrap()) as ArrayRef
    };
    let date = || Arc::new(Date32Array::from(vec![Some(0), Some(19_753), None])) as ArrayRef;
    let cases: Vec<(ArrayRef, &str, &str, Vec<usize>)> = vec![
        (text(), "like", "abc", vec![0]),
        (text(), "like", "a.*", vec![0]),
        (text(), "like", "b", vec![1]),
        (text(), "not like", "a.*|null", vec![1, 2, 4]),
        (text(), "=", "b", vec![1]),
        (text(), "==", "NULL", vec![2]),
        (text(), "=", "null", vec![2, 3]),
        (text(), "!=", "b", vec![0, 2, 3, 4]),
        (text(), "!=", "null", vec![0, 1, 4]),
        (text(), ">", "abc", vec![1, 3, 4]),
        (text(), "<=", "abc", vec![0]),
        (number(), ">", "20", vec![3]),
        (number(), "<", "20", vec![0, 1]),
        (number(), ">=", "5", vec![1, 3]),
        (number(), "=", "5", vec![1]),
        (number(), "!=", "5", vec![0, 2, 3]),
        (number(), "=", "null", vec![2]),
        (number(), "!=", "null", vec![0, 1, 3]),
        (number(), "<", "1.5", vec![0]),
        (number(), "<", "99999999999999999999", vec![0, 1, 3]),
        (number(), "like", "1.*", vec![3]),
        (double(), ">=", "0.5", vec![0, 3]),
        (double(), "!=", "2", vec![0, 1, 2]),
        (decimal(), "<", "1.505", vec![0, 1]),
        (decimal(), "=", "10", vec![3]),
        (decimal(), ">", "-2.5", vec![0, 3]),
        (date(), ">=", "2024-01-31", vec![1]),
        (date(), "=", "0", vec![0]),
    ];
    for (column, operator, value, dropped) in cases {
        let rows = column.len();
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        let batch = batch(&[("c", column), ("id", ids)]);
        let transformers = Transformers::plan(
            &[spec("dx_filter", 0, &[operator, value])],
            &fields(&batch),
            &ConvertOptions::default(),
        )
        .unwrap();
        assert!(transformers.touches(0) && !transformers.alters(0));
        let transformed = transformers.apply(&batch).unwrap();
        let kept: Vec<i64> =
            transformed.batch.column(1).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec();
        let expected: Vec<i64> = (0..rows).filter(|row| !dropped.contains(row)).map(|row| row as i64).collect();
        assert_eq!(kept, expected, "{} {operator} {value}", batch.column(0).data_type());
        assert_eq!(transformed.filtered as usize, dropped.len());
        assert_eq!(transformed.batch.schema(), batch.schema());
    }
}

#[test]
fn transformers_work_in_order_and_a_dropped_row_is_not_dirty() {
    let specs = [
        spec("dx_filter", 0, &["=", "b"]),
        spec("dx_substr", 0, &["2", "2"]),
        spec("dx_filter", 0, &["like", "x+"]),
        spec("dx_pad", 0, &["r", "3", "-"]),
    ];
    let transformed = run(&specs, texts(&[Some("abcd"), Some("b"), Some("c"), Some("ppxx"), None]));
    assert_eq!(shown(&transformed), [Some("cd-"), Some("---")]);
    assert_eq!((transformed.filtered, transformed.dirty.len(), transformed.batch.num_rows()), (2, 1, 2));
}

#[test]
fn other_types_become_text_first() {
    let date = Arc::new(Date32Array::from(vec![Some(19_753), None]));
    assert_eq!(shown(&run(&[spec("dx_substr", 0, &["0", "7"])], date)), [Some("2024-01"), None]);
    let bytes = Arc::new(BinaryArray::from(vec![b"ok".as_slice(), b"\xff"]));
    let transformed = run(&[spec("dx_pad", 0, &["l", "3", " "])], bytes);
    assert_eq!(shown(&transformed), [Some(" ok")]);
    assert_eq!(transformed.dirty[0].values["c"], "ff");
    let instant = arrow::array::TimestampSecondArray::from(vec![0]).with_timezone("UTC");
    let batch = batch(&[("c", Arc::new(instant) as ArrayRef)]);
    assert_eq!(batch.column(0).data_type(), &DataType::Timestamp(TimeUnit::Second, Some("UTC".into())));
    let shanghai = chrono_tz::Tz::Asia__Shanghai.into();
    let options = ConvertOptions { source: shanghai, target: shanghai, ..ConvertOptions::default() };
    let transformers = Transformers::plan(&[spec("dx_substr", 0, &["0", "99"])], &fields(&batch), &options).unwrap();
    assert_eq!(shown(&transformers.apply(&batch).unwrap()), [Some("1970-01-01 08:00:00+08:00")]);
}

#[test]
fn an_empty_batch_stays_one() {
    let transformed = run(&[spec("dx_substr", 0, &["1", "1"]), spec("dx_filter", 0, &["=", "x"])], texts(&[]));
    assert_eq!(transformed.batch.num_rows(), 0);
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let columns = [Field::new("c", DataType::Utf8, true), Field::new("n", DataType::Int64, true)];
    let at = |name: &str, parameter: Value, pointer: &str| TransformerSpec {
        name: name.into(),
        parameter,
        pointer: pointer.into(),
    };
    let cases = [
        ("dx_groovy", json!({"code": "x"}), "/name", "Groovy"),
        ("dx_subst", json!({"columnIndex": 0, "paras": ["1", "2"]}), "/name", "did you mean `dx_substr`"),
        ("upper", json!({"columnIndex": 0, "paras": []}), "/name", "there are: dx_substr"),
        ("dx_substr", json!({"paras": ["1", "2"]}), "/parameter/columnIndex", "counted from 0"),
        (
            "dx_substr",
            json!({"columnIndex": 2, "paras": ["1", "2"]}),
            "/parameter/columnIndex",
            "beyond the reader's 2",
        ),
        (
            "dx_substr",
            json!({"columnIndex": "0", "paras": ["1"]}),
            "/parameter/paras",
            "takes 2 paras (start, length), not 1",
        ),
        ("dx_substr", json!({"columnIndex": 0, "paras": ["-1", "2"]}), "/parameter/paras/0", "start `-1`"),
        ("dx_substr", json!({"columnIndex": 0, "paras": [1, "x"]}), "/parameter/paras/1", "length `x`"),
        ("dx_pad", json!({"columnIndex": 0, "paras": ["m", "2", "x"]}), "/parameter/paras/0", "neither `l` nor `r`"),
        ("dx_pad", json!({"columnIndex": 0, "paras": ["l", "2", ""]}), "/parameter/paras/2", "empty"),
        ("dx_pad", json!({"columnIndex": 0, "paras": ["l", "4000000000", "x"]}), "/parameter/paras/1", "more than"),
        ("dx_replace", json!({"columnIndex": 0, "paras": "1"}), "/parameter/paras", "list of texts"),
        ("dx_replace", json!({"columnIndex": 0, "paras": ["1", "2", null]}), "/parameter/paras/2", "expected a text"),
        ("dx_filter", json!({"columnIndex": 0, "paras": ["~", "x"]}), "/parameter/paras/0", "no such operator: `~`"),
        ("dx_filter", json!({"columnIndex": 0, "paras": ["=", ""]}), "/parameter/paras/1", "empty"),
        ("dx_filter", json!({"columnIndex": 0, "paras": ["like", "("]}), "/parameter/paras/1", "regular expression"),
        ("dx_filter", json!({"columnIndex": 1, "paras": [">", "x"]}), "/parameter/paras/1", "`n` holds numbers"),
        ("dx_digest", json!({"columnIndex": 0, "paras": ["md4", "toUpperCase"]}), "/parameter/paras/0", "`md4`"),
        ("dx_digest", json!({"columnIndex": 0, "paras": ["md5", "up"]}), "/parameter/paras/1", "`up`"),
    ];
    let specs: Vec<_> = cases
        .iter()
        .enumerate()
        .map(|(i, (name, parameter, ..))| at(name, parameter.clone(), &format!("/t/{i}")))
        .collect();
    let faults = Transformers::plan(&specs, &columns, &ConvertOptions::default()).unwrap_err().0;
    for (i, (name, _, place, message)) in cases.iter().enumerate() {
        let of_it: Vec<_> = faults.iter().filter(|f| f.pointer.starts_with(&format!("/t/{i}/"))).collect();
        assert!(
            of_it.iter().any(|f| f.pointer == format!("/t/{i}{place}") && f.message.contains(message)),
            "{name}: {of_it:?}"
        );
    }
}
