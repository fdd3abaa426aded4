//! What each mode makes of a file, looked at with SQL.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use async_trait::async_trait;
use serde_json::json;
use weir_core::field::{JSON, UUID, with_extension, with_native_type};
use weir_core::{
    BatchSender, DirtyRow, ErrorKind, Form, ReadColumn, ReadRequest, Reader, Result, SplitRequest, Writer,
};
use weir_reader_sqlite::SqliteReader;
use weir_sqlite::Access;
use weir_writer_sqlite::SqliteWriter;

use crate::support::{ROWS, TestFile, batch, context, pairs, request, run, write};

#[tokio::test]
async fn append_adds_and_each_split_shows() {
    let file = TestFile::new("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)").await;
    let writer = file.writer(json!({"preSql": "INSERT OR IGNORE INTO @table VALUES(0, 'zero');"}));
    let result = write(&writer, &[pairs(&[(1, "a"), (2, "b")]), pairs(&[(3, "c")])], "r1").await.unwrap();
    assert_eq!(file.texts(ROWS).await, ["0:zero", "1:a", "2:b", "3:c"]);
    assert_eq!(result.receipts.iter().map(|r| r.rows).collect::<Vec<_>>(), [2, 1]);
    // Refused rows are named, the rest of the batch lands.
    let names = StringArray::from(vec![Some("x"), None, Some("a"), Some("y")]);
    let bad = batch(vec![("id", Arc::new(Int64Array::from(vec![10, 11, 12, 13]))), ("name", Arc::new(names))]);
    let result = write(&writer, &[bad], "r2").await.unwrap();
    assert_eq!(result.receipts[0].rows, 2);
    let reasons: Vec<_> = result.refused.iter().map(|d| (d.column.as_deref(), d.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [(Some("name"), "NOT NULL constraint failed: t.name"), (Some("name"), "UNIQUE constraint failed: t.name")]
    );
    assert_eq!(result.refused[0].values["id"], "11");
}

#[tokio::test]
async fn overwrite_shows_all_at_once() {
    let file = TestFile::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT CHECK (length(name) < 5), extra INT DEFAULT 7);
         CREATE UNIQUE INDEX by_name ON t(lower(name)); INSERT INTO t VALUES(1, 'old', 1), (9, 'gone', 1);
         CREATE TABLE child(t INTEGER REFERENCES t(id) ON DELETE CASCADE); INSERT INTO child VALUES(1)",
    )
    .await;
    let writer = file.writer(json!({"writeMode": "overwrite", "postSql": "UPDATE @table SET extra = extra + 1"}));
    let batches = [pairs(&[(1, "a"), (2, "b"), (3, "too long"), (4, "A")]), pairs(&[(5, "old")])];
    let result = write(&writer, &batches, "run-1").await.unwrap();
    assert_eq!(file.texts(ROWS).await, ["1:old", "9:gone"], "nothing shows before commit");
    let reasons: Vec<_> = result.refused.iter().map(|d| d.reason.as_str()).collect();
    assert!(reasons[0].contains("CHECK constraint failed") && reasons[1].contains("UNIQUE constraint failed"));
    let committed = writer.commit(&result.plan, &result.receipts).await.unwrap();
    assert_eq!(committed.rows, Some(3));
    let all = "SELECT id || name || extra FROM t ORDER BY id";
    assert_eq!(file.texts(all).await, ["1a8", "2b8", "5old8"]);
    // Again, as after a crash: it is noticed.
    let again = writer.commit(&result.plan, &result.receipts).await.unwrap();
    assert_eq!(again.rows, None);
    assert_eq!(file.texts("SELECT count(*) || '' FROM child").await, ["1"], "rows of other tables stay");
    file.is_clean().await;
}

#[tokio::test]
async fn overwrite_from_an_empty_source() {
    for (on_empty, left) in [("overwrite", 0), ("keep", 1), ("error", 1)] {
        let file =
            TestFile::new("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES(1, 'a')").await;
        let writer = file.writer(json!({"writeMode": "overwrite", "onEmpty": on_empty}));
        let result = write(&writer, &[pairs(&[])], "r").await.unwrap();
        let committed = writer.commit(&result.plan, &result.receipts).await;
        if on_empty == "error" {
            assert_eq!(committed.unwrap_err().kind(), ErrorKind::Data);
            writer.abort(&result.plan, &result.receipts).await.unwrap();
        }
        assert_eq!(file.texts(ROWS).await.len(), left, "{on_empty}");
        file.is_clean().await;
    }
}

#[tokio::test]
async fn upsert_merges_by_key() {
    let file = TestFile::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, kept TEXT DEFAULT 'd');
         INSERT INTO t VALUES(1, 'one', 'k'), (2, 'two', 'k')",
    )
    .await;
    let writer = file.writer(json!({"writeMode": "update"}));
    let ids = Int64Array::from(vec![Some(2), Some(3), None, Some(3)]);
    let names = StringArray::from(vec!["zwei", "drei", "nobody", "tres"]);
    let rows = batch(vec![("id", Arc::new(ids)), ("name", Arc::new(names))]);
    let (result, committed) = run(&writer, &[rows.clone(), pairs(&[(4, "vier")])], "r1").await.unwrap();
    assert_eq!(result.plan.keys, ["id"]);
    assert_eq!(result.refused[0].reason, "a key column of an upsert is NULL");
    assert_eq!(committed.rows, Some(3));
    let expected = ["1onek", "2zweik", "3tresd", "4vierd"];
    assert_eq!(file.texts("SELECT id || name || kept FROM t ORDER BY id").await, expected);
    // A rerun changes nothing.
    run(&writer, &[rows, pairs(&[(4, "vier")])], "r2").await.unwrap();
    assert_eq!(file.texts("SELECT id || name || kept FROM t ORDER BY id").await, expected);
    file.is_clean().await;
    // By another key: only one that SQLite knows to be unique.
    let by_name = file.writer(json!({"writeMode": "upsert", "key": "NAME"}));
    let error = run(&by_name, &[pairs(&[(9, "zwei")])], "r3").await.err().unwrap();
    assert!(error.message().contains("CREATE UNIQUE INDEX"), "{error}");
    file.execute("CREATE UNIQUE INDEX n ON t(name)").await;
    run(&by_name, &[pairs(&[(9, "zwei")])], "r3").await.unwrap();
    assert_eq!(file.texts("SELECT id || '' FROM t WHERE name = 'zwei'").await, ["9"]);
    let keyless = TestFile::new("CREATE TABLE t(id INT, name TEXT)").await;
    let error = keyless.writer(json!({"writeMode": "upsert"}));
    assert!(run(&error, &[pairs(&[(1, "a")])], "r").await.err().unwrap().message().contains("`key`"));
}

#[tokio::test]
async fn ignore_and_replace() {
    let file = TestFile::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT NOT NULL, d TEXT DEFAULT 'd');
         INSERT INTO t VALUES(1, 'one', 'k')",
    )
    .await;
    let ignore = file.writer(json!({"writeMode": "insert ignore"}));
    let (result, _) = run(&ignore, &[pairs(&[(1, "uno"), (2, "dos")])], "r1").await.unwrap();
    assert_eq!((result.receipts[0].rows, result.receipts[0].skipped), (1, 1));
    // Only keys are skipped: a NULL is still a refused row.
    let null = batch(vec![
        ("id", Arc::new(Int64Array::from(vec![3]))),
        ("name", Arc::new(StringArray::from(vec![None::<&str>]))),
    ]);
    let (result, _) = run(&ignore, &[null], "r2").await.unwrap();
    assert_eq!(result.refused.len(), 1);
    let replace = file.writer(json!({"writeMode": "replace"}));
    run(&replace, &[pairs(&[(1, "eins")])], "r3").await.unwrap();
    assert_eq!(file.texts("SELECT id || name || d FROM t ORDER BY id").await, ["1einsd", "2dosd"]);
}

#[tokio::test]
async fn creating_is_asked_for() {
    let file = TestFile::new("CREATE TABLE tt(a)").await;
    let parameters = json!({"path": file.path(), "table": "t"});
    let datax = SqliteWriter::open(&parameters, &context(Form::DataX)).unwrap();
    let error = run(&datax, &[pairs(&[(1, "a")])], "r").await.err().unwrap();
    assert!(error.kind() == ErrorKind::NotFound && error.message().contains("createTable"), "{error}");
    for mode in ["append", "overwrite", "upsert"] {
        let fresh = TestFile::new("").await;
        let writer = fresh.writer(json!({"writeMode": mode}));
        assert!(!writer.target().await.unwrap().exists);
        let (result, _) = run(&writer, &[pairs(&[(1, "a")])], "r").await.unwrap();
        assert!(result.plan.creates && !result.plan.warnings.is_empty());
        assert_eq!(fresh.texts(ROWS).await, ["1:a"], "{mode}");
        let target = writer.target().await.unwrap();
        assert_eq!((target.columns[0].key, target.columns[0].nullable), (Some(1), false));
        fresh.is_clean().await;
    }
    let nowhere = json!({"path": file.folder.path().join("no/such/t.db"), "table": "t"});
    let writer = SqliteWriter::open(&nowhere, &context(Form::Native)).unwrap();
    assert_eq!(run(&writer, &[pairs(&[(1, "a")])], "r").await.err().unwrap().kind(), ErrorKind::NotFound);
    assert!(!file.folder.path().join("no").exists());
}

#[derive(Default)]
struct Sink(Vec<RecordBatch>, Vec<DirtyRow>);

#[async_trait]
impl BatchSender for Sink {
    async fn send(&mut self, batch: RecordBatch) -> Result<()> {
        self.0.push(batch);
        Ok(())
    }

    async fn reject(&mut self, row: DirtyRow) -> Result<()> {
        self.1.push(row);
        Ok(())
    }
}

#[tokio::test]
async fn what_is_created_reads_back_as_the_same_types_and_values() {
    let utc = TimestampMicrosecondArray::from(vec![Some(-1), None]).with_timezone("UTC");
    let decimal = |values: Vec<Option<i128>>, p, s| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(p, s).unwrap())
    };
    let widest = 99_999_999_999_999_999_999_999_999_999_999_999_999_i128;
    let uuid = FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some([7_u8; 16]), None].into_iter(), 16).unwrap();
    let columns: Vec<(Field, ArrayRef)> = vec![
        (Field::new("id", DataType::Int64, true), Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX]))),
        (Field::new("i16", DataType::Int16, true), Arc::new(Int16Array::from(vec![Some(-5), None]))),
        (Field::new("i32", DataType::Int32, true), Arc::new(Int32Array::from(vec![Some(i32::MIN), None]))),
        (Field::new("u64", DataType::UInt64, true), Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]))),
        (Field::new("f32", DataType::Float32, true), Arc::new(Float32Array::from(vec![Some(0.1), None]))),
        (Field::new("f64", DataType::Float64, true), Arc::new(Float64Array::from(vec![0.1, f64::NEG_INFINITY]))),
        (Field::new("d", DataType::Decimal128(12, 2), true), decimal(vec![Some(-110), Some(999_999_999_999)], 12, 2)),
        (Field::new("d38", DataType::Decimal128(38, 10), true), decimal(vec![Some(widest), Some(-widest)], 38, 10)),
        (Field::new("t", DataType::Utf8, true), Arc::new(StringArray::from(vec!["007", "\u{1f600}\0x"]))),
        (
            with_extension(Field::new("j", DataType::Utf8, true), JSON),
            Arc::new(StringArray::from(vec!["1.0", "{\"a\": 12345678901234567890}"])),
        ),
        (with_extension(Field::new("u", DataType::FixedSizeBinary(16), true), UUID), Arc::new(uuid)),
        (Field::new("b", DataType::Binary, true), Arc::new(BinaryArray::from_vec(vec![b"\0\xff", b""]))),
        (Field::new("ok", DataType::Boolean, true), Arc::new(BooleanArray::from(vec![Some(true), None]))),
        (Field::new("day", DataType::Date32, true), Arc::new(Date32Array::from(vec![-719_529, 2_932_897]))),
        (
            Field::new("clock", DataType::Time64(TimeUnit::Microsecond), true),
            Arc::new(Time64MicrosecondArray::from(vec![0, 86_399_999_999])),
        ),
        (
            Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Arc::new(TimestampMicrosecondArray::from(vec![-62_135_596_800_000_001, 1])),
        ),
        (Field::new("tz", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true), Arc::new(utc)),
    ];
    let schema = Arc::new(Schema::new(columns.iter().map(|c| c.0.clone()).collect::<Vec<_>>()));
    let written = RecordBatch::try_new(schema, columns.into_iter().map(|c| c.1).collect()).unwrap();
    let file = TestFile::new("").await;
    let (result, _) =
        run(&file.writer(json!({"writeMode": "overwrite"})), std::slice::from_ref(&written), "r").await.unwrap();
    assert!(result.refused.is_empty(), "{:?}", result.refused);

    let reader = SqliteReader::open(&json!({"path": file.path(), "table": "t"}), &context(Form::Native)).unwrap();
    let source = reader.schema().await.unwrap();
    for (field, column) in written.schema().fields().iter().zip(&source.columns) {
        assert!(weir_core::field::same_representation(field, column.canonical()), "{field} {:?}", column.canonical());
    }
    let wanted = SplitRequest { channels: 1, max_bytes: 1 << 30, snapshot: None, stable: false, limit: None };
    let splits = reader.splits(&wanted).await.unwrap();
    let columns = source.columns.iter().enumerate();
    let columns = columns.map(|(index, c)| ReadColumn { index, field: c.canonical().clone() }).collect();
    let mut sink = Sink::default();
    reader.read(&splits[0], &ReadRequest { columns, snapshot: None, limit: None }, &mut sink).await.unwrap();
    assert!(sink.1.is_empty(), "{:?}", sink.1);
    assert_eq!(sink.0[0].columns(), written.columns());
}

#[tokio::test]
async fn sqlites_own_types_are_created_again() {
    let field = with_native_type(Field::new("id", DataType::Decimal128(12, 2), true), "sqlite", "NUMERIC(12,2)");
    let array = Decimal128Array::from(vec![1, 250]).with_precision_and_scale(12, 2).unwrap();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(array)]).unwrap();
    let file = TestFile::new("").await;
    run(&file.writer(json!({})), &[rows], "r").await.unwrap();
    assert_eq!(file.texts("SELECT type FROM pragma_table_info('t')").await, ["NUMERIC(12,2)"]);
    assert_eq!(file.texts("SELECT typeof(id) || id FROM t ORDER BY 1").await, ["real0.01", "real2.5"]);
}

#[tokio::test]
async fn existing_columns_get_what_they_declare() {
    let file = TestFile::new("CREATE TABLE t(id INTEGER, name DATE, g AS (id + 1), \"Odd \"\"Name\" ANY)").await;
    let writer = file.writer(json!({"column": ["ID", "name"]}));
    let target = writer.target().await.unwrap();
    assert_eq!(target.listed, Some(vec!["id".to_owned(), "name".to_owned()]));
    assert!(target.columns[2].generated);
    let asked = request(&pairs(&[]).schema(), None, "r");
    let plan = writer.plan(&asked).await.unwrap();
    assert_eq!(plan.columns[1].input.data_type(), &DataType::Date32, "text is to be converted");
    let wrong = request(
        &batch(vec![("g", Arc::new(Int64Array::from(vec![1]))), ("idd", Arc::new(Int64Array::from(vec![1])))]).schema(),
        None,
        "r",
    );
    let error = writer.plan(&wrong).await.unwrap_err();
    assert!(error.message().contains("generated") && error.message().contains("`idd`"), "{error}");
}

#[tokio::test]
async fn faults_of_the_file_are_named() {
    let file =
        TestFile::new("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT); CREATE VIEW v AS SELECT * FROM t").await;
    let view = file.writer(json!({"table": "v"}));
    assert_eq!(run(&view, &[pairs(&[(1, "a")])], "r").await.err().unwrap().kind(), ErrorKind::Unsupported);
    let writer = file.writer(json!({}));
    let error =
        run(&file.writer(json!({"preSql": "DELETE FROM nowhere"})), &[pairs(&[(1, "a")])], "r").await.err().unwrap();
    assert!(error.to_string().contains("no such table: nowhere"), "{error}");
    // Post statements come too late to undo anything.
    let post = file.writer(json!({"postSql": "DELETE FROM nowhere"}));
    let (_, committed) = run(&post, &[pairs(&[(1, "a")])], "r").await.unwrap();
    assert_eq!(committed.failures.len(), 1);
    std::fs::write(file.folder.path().join("no.db"), "not a database at all, but some text instead of it").unwrap();
    let parameters = json!({"path": file.folder.path().join("no.db"), "table": "t"});
    let other = SqliteWriter::open(&parameters, &context(Form::Native)).unwrap();
    assert_eq!(run(&other, &[pairs(&[(1, "a")])], "r").await.err().unwrap().kind(), ErrorKind::Data);
    assert_eq!(writer.max_channels(), Some(1));
    assert!(SqliteWriter::open(&json!({"path": "x.db"}), &context(Form::Native)).is_err());
}

#[tokio::test]
async fn a_lock_of_another_program_does_not_outlast_a_stopped_run() {
    let file = TestFile::new("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)").await;
    let holder = file.file().open(Access::Write, &context(Form::Native)).await.unwrap();
    let (holder, ()) = holder.run(|db| Ok(db.execute("BEGIN EXCLUSIVE")?)).await.unwrap();
    let context = context(Form::Native);
    let parameters = json!({"path": file.path(), "table": "t"});
    let writer = SqliteWriter::open(&parameters, &context).unwrap();
    let stop = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        context.cancel.cancel();
    };
    let start = weir_plugins_test::Stopwatch::start();
    let schema = pairs(&[]).schema();
    let request = request(&schema, None, "r");
    let (result, ()) = tokio::join!(writer.plan(&request), stop);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(start.is_within(std::time::Duration::from_millis(1300)), "{:?}", start.elapsed());
    drop(holder);
}
