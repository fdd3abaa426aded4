//! Values at the edges of their types; what does not fit is dirty, never bent.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Decimal128Array, Float64Array, RecordBatch, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use serde_json::{Value, json};
use weir_core::SourceColumn;
use weir_plugins_test::harness::{ReadOptions, WriteOptions, open_reader, open_writer, read_with, write_all};
use weir_plugins_test::servers::Database;
use weir_reader_sqlserver as _;
use weir_writer_sqlserver as _;

/// Each test in a database of its own, or counted as not run.
macro_rules! on_the_server {
    ($($test:ident),* $(,)?) => {
        mod sqlserver {
            $(#[tokio::test]
            async fn $test() {
                let Some(server) = weir_plugins_test::servers::sqlserver() else { return };
                super::$test(server.fresh_database(stringify!($test)).await).await;
            })*
        }
    };
}

on_the_server!(bent_values_are_dirty, offsets_go_through_in_their_text_form, long_values_and_money_and_times_arrive);

fn with(database: &Database, more: Value) -> Value {
    let mut parameters = json!({ "url": database.url() });
    if let (Some(all), Some(more)) = (parameters.as_object_mut(), more.as_object()) {
        all.extend(more.clone());
    }
    parameters
}

fn batch(array: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("v", array, true)]).unwrap()
}

async fn bent_values_are_dirty(database: Database) {
    let text = |values: &[&str]| -> ArrayRef { Arc::new(StringArray::from_iter_values(values)) };
    let decimal = |values: &[i128], precision: u8, scale: i8| -> ArrayRef {
        let all = Decimal128Array::from_iter_values(values.iter().copied());
        Arc::new(all.with_precision_and_scale(precision, scale).unwrap())
    };
    let moment =
        |values: &[i64]| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from_iter_values(values.iter().copied())) };
    let clock =
        |values: &[i64]| -> ArrayRef { Arc::new(Time64MicrosecondArray::from_iter_values(values.iter().copied())) };
    // What another type's value would be is the runtime's matter, see the tests of narrower columns.
    // Midnight of 1752-12-31, before which a datetime cannot be.
    let before_1753 = -6_847_891_200_000_000;
    let cases: Vec<(&str, ArrayRef, usize)> = vec![
        ("nvarchar(3)", text(&["abc", "abcd", "ab  ", "🚀a", "🚀🚀"]), 3),
        ("varchar(3) COLLATE Latin1_General_CI_AS", text(&["äbc", "abcd", "łx", "漢"]), 3),
        ("char(3) COLLATE Latin1_General_CI_AS", text(&["ä", "łx"]), 1),
        ("decimal(38,0)", decimal(&[10_i128.pow(38) - 1, 1 - 10_i128.pow(38)], 38, 0), 0),
        ("smallmoney", decimal(&[2_147_483_647, -2_147_483_648, 2_147_483_648], 19, 4), 1),
        ("float", Arc::new(Float64Array::from(vec![0.1, -0.0, 1.79e308, f64::NAN, f64::INFINITY])), 2),
        ("varbinary(2)", Arc::new(BinaryArray::from(vec![&b"ab"[..], b"abc", b""])), 1),
        ("binary(2)", Arc::new(BinaryArray::from(vec![&b"ab"[..], b"abc"])), 1),
        ("datetime2(3)", moment(&[1_000, 1, 0]), 1),
        ("datetime2(0)", moment(&[1_000_000, 500_000]), 1),
        ("datetime", moment(&[0, 10_000, 1, before_1753]), 2),
        ("smalldatetime", moment(&[60_000_000, 1_000_000, before_1753]), 2),
        ("time(3)", clock(&[1_000, 1]), 1),
    ];
    let mut faults = Vec::new();
    for (i, (name, values, refused)) in cases.iter().enumerate() {
        let table = format!("t{i}");
        database.execute(&format!("CREATE TABLE {table} (v {name})")).await;
        let writer = open_writer("sqlserver", with(&database, json!({ "table": table }))).unwrap();
        match write_all(&writer, vec![batch(values.clone())], WriteOptions::default()).await {
            Ok(written) => {
                let count = database.value(&format!("SELECT COUNT(*) FROM {table}")).await;
                if written.refused.len() != *refused || count != (values.len() - refused).to_string() {
                    faults.push(format!("{name}: {count} rows are there, refused: {:?}", written.refused));
                }
            }
            Err(error) => faults.push(format!("{name}: {error:?}")),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A datetimeoffset is more than an instant: the text form keeps the offset of its clock.
async fn offsets_go_through_in_their_text_form(database: Database) {
    database
        .execute(
            "CREATE TABLE o (id int PRIMARY KEY, v datetimeoffset(6)); INSERT INTO o VALUES \
             (1, '2024-02-29T12:34:56.789012+05:45'), (2, '0001-01-01T14:00:00-14:00'), (3, NULL)",
        )
        .await;
    database.execute("CREATE TABLE p (id int PRIMARY KEY, v datetimeoffset(6))").await;
    let reader = open_reader("sqlserver", with(&database, json!({ "table": "o" }))).unwrap();
    let last: fn(&SourceColumn) -> &arrow::datatypes::Field =
        |c| c.representations.last().unwrap_or_else(|| c.canonical());
    let read = read_with(&reader, ReadOptions { choose: last, ..ReadOptions::default() }).await.unwrap();
    let writer = open_writer("sqlserver", with(&database, json!({ "table": "p" }))).unwrap();
    let written = write_all(&writer, read.batches(), WriteOptions::default()).await.unwrap();
    assert!(written.refused.is_empty(), "{:?}", written.refused);
    let all = |t: &str| format!("SELECT id, CONVERT(varchar(40), v, 121) FROM {t} ORDER BY id");
    assert_eq!(database.query(&all("o")).await, database.query(&all("p")).await);
}

/// What a bulk load does not bring, or some server misreads in one.
async fn long_values_and_money_and_times_arrive(database: Database) {
    let columns =
        "t nvarchar(max), c varchar(max) COLLATE Latin1_General_CI_AS, b varbinary(max), m smallmoney, at time(6)";
    database.execute(&format!("CREATE TABLE wide (id int PRIMARY KEY, {columns})")).await;
    let long = |head: &str| Some(format!("{head}{}", "ü".repeat(40_000)));
    let texts = StringArray::from(vec![long("я"), Some("short".into()), None, long("")]);
    let pages = StringArray::from(vec![long("é"), None, long("漢"), Some("é".into())]);
    let bytes = vec![0x5c_u8; 1 << 20];
    // The third row has a long value behind the one that is refused.
    let bytes = BinaryArray::from_opt_vec(vec![Some(&bytes), Some(b""), Some(&bytes), None]);
    let money = Decimal128Array::from_iter_values([-2_147_483_648, 2_147_483_647, 0, -1]);
    let money = money.with_precision_and_scale(10, 4).unwrap();
    let times = Time64MicrosecondArray::from_iter_values([45_296_000_001, 86_399_999_999, 0, 1]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(arrow::array::Int32Array::from_iter_values(1..=4))),
        ("t", Arc::new(texts)),
        ("c", Arc::new(pages)),
        ("b", Arc::new(bytes)),
        ("m", Arc::new(money)),
        ("at", Arc::new(times)),
    ];
    let nullable = columns.into_iter().map(|(name, array)| (name, array, true));
    let rows = RecordBatch::try_from_iter_with_nullable(nullable).unwrap();
    let babelfish = database.is_babelfish().await;
    for mode in ["append", "overwrite", "upsert"] {
        database.execute("DELETE FROM wide").await;
        let writer = open_writer("sqlserver", with(&database, json!({ "table": "wide", "writeMode": mode }))).unwrap();
        let written = write_all(&writer, vec![rows.clone()], WriteOptions::default()).await.unwrap();
        // Of a text that its code page lacks no letter becomes a question mark. Babelfish's lack none.
        let refused = usize::from(!babelfish);
        assert_eq!(written.refused.len(), refused, "{mode}: {:?}", written.refused);
        assert!(written.refused.iter().all(|row| row.reason.contains("code page")), "{mode}: {:?}", written.refused);
        let found = database
            .query(
                "SELECT CAST(LEN(t) AS int), CAST(LEN(c) AS int), LEFT(c, 2), CAST(DATALENGTH(b) AS int), \
                 CAST(m AS decimal(10,4)), LEFT(CONVERT(varchar(30), at, 121), 15) FROM wide \
                 WHERE id <> 3 ORDER BY id",
            )
            .await;
        let expected = [
            [Some("40001"), Some("40001"), Some("éü"), Some("1048576"), Some("-214748.3648"), Some("12:34:56.000001")],
            [Some("5"), None, None, Some("0"), Some("214748.3647"), Some("23:59:59.999999")],
            [Some("40000"), Some("1"), Some("é"), None, Some("-0.0001"), Some("00:00:00.000001")],
        ];
        assert_eq!(found, expected.map(|row| row.map(|cell| cell.map(str::to_owned))), "{mode}");
    }
}
