//! Real files, read as a run reads them.

use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use weir_core::field::{DECIMAL, JSON, TEXT, UUID, extension, native_type};
use weir_core::{
    BatchSender, ConnectorContext, DirtyRow, ErrorKind, Form, MAX_BATCH_BYTES, ReadColumn, ReadRequest, Reader, Result,
    SnapshotGuard, Split, SplitRequest, batch_bytes,
};
use weir_reader_sqlite::SqliteReader;
use weir_sqlite::{Access, File};

fn context() -> ConnectorContext {
    ConnectorContext {
        cancel: CancellationToken::new(),
        io: tokio::runtime::Handle::current(),
        form: Form::Native,
        time_zone: chrono_tz::UTC,
        shared: Default::default(),
    }
}

/// A file with what `sql` makes.
async fn database(path: &Path, sql: &str) {
    let file = File { path: path.to_owned(), session: vec![] };
    let sql = sql.to_owned();
    file.with(Access::Create, &context(), move |db| Ok(db.execute(&sql)?)).await.unwrap();
}

struct TestFile {
    folder: tempfile::TempDir,
}

impl TestFile {
    async fn new(sql: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        database(&folder.path().join("t.db"), sql).await;
        Self { folder }
    }

    fn reader(&self, more: Value) -> SqliteReader {
        let mut parameters = json!({ "path": self.folder.path().join("t.db") });
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        SqliteReader::open(&parameters, &context()).unwrap()
    }
}

#[derive(Default)]
struct Sink {
    batches: Vec<RecordBatch>,
    dirty: Vec<DirtyRow>,
}

#[async_trait]
impl BatchSender for Sink {
    async fn send(&mut self, batch: RecordBatch) -> Result<()> {
        assert!(batch.num_rows() > 0);
        assert!(batch.num_rows() == 1 || batch_bytes(&batch) <= MAX_BATCH_BYTES);
        self.batches.push(batch);
        Ok(())
    }

    async fn reject(&mut self, row: DirtyRow) -> Result<()> {
        self.dirty.push(row);
        Ok(())
    }
}

impl Sink {
    fn integers(&self, column: usize) -> Vec<i64> {
        self.batches.iter().flat_map(|b| b.column(column).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    fn texts(&self, column: usize) -> Vec<Option<String>> {
        let of = |b: &RecordBatch| {
            b.column(column).as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect::<Vec<_>>()
        };
        self.batches.iter().flat_map(of).collect()
    }
}

fn wants(channels: usize) -> SplitRequest {
    SplitRequest { channels, max_bytes: 1 << 30, snapshot: None, stable: false, limit: None }
}

/// Reads all splits, in the canonical form or as text.
async fn read(reader: &SqliteReader, splits: &[Split], as_text: bool) -> Sink {
    let schema = reader.schema().await.unwrap();
    let field =
        |c: &weir_core::SourceColumn| if as_text { c.representations[1].clone() } else { c.canonical().clone() };
    let columns = schema.columns.iter().enumerate().map(|(index, c)| ReadColumn { index, field: field(c) }).collect();
    let request = ReadRequest { columns, snapshot: None, limit: None };
    let mut sink = Sink::default();
    for split in splits {
        // As stored in a ledger and read back by another process.
        let split: Split = serde_json::from_str(&serde_json::to_string(split).unwrap()).unwrap();
        reader.read(&split, &request, &mut sink).await.unwrap();
    }
    sink
}

async fn read_all(reader: &SqliteReader) -> Sink {
    read(reader, &reader.splits(&wants(1)).await.unwrap(), false).await
}

#[tokio::test]
async fn every_type_arrives_as_it_is() {
    let file = TestFile::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, price DECIMAL(12,2) NOT NULL, big NUMERIC, name VARCHAR(20), born DATE,
           seen DATETIME, at TIMESTAMPTZ, data JSON, u UUID, raw BLOB, ok BOOLEAN, x REAL, untyped, empty_untyped);
         INSERT INTO t VALUES(1, '19.90', '123456789012345678', 'Zoë 😀', '2024-02-29', '2024-02-29 12:34:56.789012',
           '2024-03-01T00:00:00+01:00', '{\"b\":1, \"a\":2.50}', '6f9619ff-8b86-d011-b42d-00c04fc964ff', X'00ff', 1,
           0.1, 5, NULL);
         INSERT INTO t VALUES(2, 7, NULL, '', NULL, NULL, NULL, NULL, NULL, X'', 0, 1e300, 6, NULL);",
    )
    .await;
    let reader = file.reader(json!({"table": "T"}));
    let schema = reader.schema().await.unwrap();
    let canonical: Vec<_> = schema.columns.iter().map(|c| c.canonical().clone()).collect();
    let types: Vec<_> = canonical.iter().map(|f| f.data_type().clone()).collect();
    let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    assert_eq!(
        types,
        [
            DataType::Int64,
            DataType::Decimal128(12, 2),
            DataType::Utf8,
            DataType::Utf8,
            DataType::Date32,
            micros(None),
            micros(Some("UTC")),
            DataType::Utf8,
            DataType::FixedSizeBinary(16),
            DataType::Binary,
            DataType::Boolean,
            DataType::Float64,
            DataType::Int64,
            DataType::Utf8
        ]
    );
    let extensions: Vec<_> = [2, 7, 8, 12].iter().map(|i| extension(&canonical[*i])).collect();
    assert_eq!(extensions, [Some(DECIMAL), Some(JSON), Some(UUID), None]);
    assert_eq!(native_type(&canonical[1]), Some(("sqlite", "DECIMAL(12,2)")));
    assert_eq!(
        (schema.columns[0].key, schema.columns[0].nullable, schema.columns[1].nullable),
        (Some(1), false, false)
    );
    assert_eq!(schema.tables[0].rows, Some(2));

    let sink = read_all(&reader).await;
    assert!(sink.dirty.is_empty(), "{:?}", sink.dirty);
    let batch = &sink.batches[0];
    assert_eq!(batch.column(1).as_primitive::<Decimal128Type>().values().to_vec(), [1990, 700]);
    assert_eq!(sink.texts(2), [Some("123456789012345678".to_owned()), None]);
    assert_eq!(sink.texts(3), [Some("Zoë 😀".to_owned()), Some(String::new())]);
    assert_eq!(batch.column(4).as_primitive::<Date32Type>().value(0), 19_782);
    assert_eq!(batch.column(5).as_primitive::<TimestampMicrosecondType>().value(0), 1_709_210_096_789_012);
    assert_eq!(batch.column(6).as_primitive::<TimestampMicrosecondType>().value(0), 1_709_247_600_000_000);
    assert_eq!(sink.texts(7)[0].as_deref(), Some("{\"b\":1, \"a\":2.50}"));
    assert_eq!(batch.column(8).as_fixed_size_binary().value(0)[..2], [0x6f, 0x96]);
    assert_eq!(batch.column(9).as_binary::<i32>().value(0), [0, 255]);
    assert!(batch.column(9).is_valid(1) && batch.column(9).as_binary::<i32>().value(1).is_empty());
    assert_eq!(batch.column(11).as_primitive::<Float64Type>().values().to_vec(), [0.1, 1e300]);
    assert_eq!(sink.integers(12), [5, 6]);

    let text = read(&reader, &reader.splits(&wants(1)).await.unwrap(), true).await;
    assert_eq!(extension(text.batches[0].schema().field(0)), Some(TEXT));
    assert_eq!(text.texts(1)[0].as_deref(), Some("19.9"));
    assert_eq!(text.texts(9)[0].as_deref(), Some("00ff"));
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_a_dirty_row_and_the_others_land() {
    let file = TestFile::new(
        "CREATE TABLE t(id INTEGER, n INT, d DATE);
         INSERT INTO t VALUES(1, 1, '2024-01-01'), (2, 'many', '2024-01-01'), (3, 3, 'yesterday'), (4, NULL, NULL)",
    )
    .await;
    let sink = read_all(&file.reader(json!({"table": "t"}))).await;
    assert_eq!(sink.integers(0), [1, 4]);
    let found: Vec<_> = sink.dirty.iter().map(|d| (d.column.as_deref().unwrap(), d.reason.as_str())).collect();
    assert_eq!(found, [("n", "TEXT many is no Int64"), ("d", "TEXT yesterday is no Date32")]);
    assert_eq!(
        serde_json::to_value(&sink.dirty[0].values).unwrap(),
        json!({"id": "2", "n": "many", "d": "2024-01-01"})
    );
    // As text everything has a way through.
    let reader = file.reader(json!({"table": "t"}));
    let text = read(&reader, &reader.splits(&wants(1)).await.unwrap(), true).await;
    assert_eq!(text.batches[0].num_rows(), 4);
}

const MANY: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)";

/// Each row in exactly one split, whatever the key.
async fn covers(reader: &SqliteReader, least_splits: usize, rows: i64) {
    let splits = reader.splits(&wants(4)).await.unwrap();
    assert!(splits.len() >= least_splits, "{splits:?}");
    assert!(splits.iter().enumerate().all(|(i, s)| s.id == i as u32));
    for _ in 0..2 {
        let sink = read(reader, &splits, false).await;
        assert!(sink.dirty.is_empty());
        let mut seen = sink.integers(0);
        seen.sort_unstable();
        assert_eq!(seen, (1..=rows).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn splits_are_disjoint_and_complete() {
    let file = TestFile::new(&format!(
        "CREATE TABLE t(i INTEGER NOT NULL, s TEXT COLLATE NOCASE, skew INTEGER, mixed);
         {MANY} INSERT INTO t SELECT i,
           CASE WHEN i % 7 = 0 THEN NULL WHEN i % 2 THEN 'Straße ' || (i % 50) ELSE 'STRASSE ' || (i % 50) || '''x' END,
           CASE WHEN i < 4990 THEN i % 3 ELSE i * 1000000000000 END,
           CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN i WHEN 2 THEN i / 7.0 ELSE CAST(i AS BLOB) END FROM n;
         UPDATE t SET skew = NULL WHERE i % 11 = 0;
         CREATE TABLE w(a TEXT, i INTEGER, PRIMARY KEY(a, i)) WITHOUT ROWID;
         INSERT INTO w SELECT 'k' || (i % 977), i FROM t"
    ))
    .await;
    let one = file.reader(json!({"table": "t", "column": "i"}));
    assert_eq!(one.splits(&wants(4)).await.unwrap().len(), 1, "a small file is not cut");
    for (key, least) in [("i", 4), ("s", 4), ("skew", 3), ("mixed", 4)] {
        covers(&file.reader(json!({"table": "t", "column": ["i"], "splitPk": key})), least, 5000).await;
    }
    covers(&file.reader(json!({"table": "w", "column": ["i"], "splitPk": "a"})), 4, 5000).await;
    covers(&file.reader(json!({"table": "t", "column": ["i"], "splitPk": "i", "where": "i <= 100 -- some;"})), 4, 100)
        .await;
    // A bound on the size of a split cuts by row id and by the first key column without being asked.
    for table in ["t", "w"] {
        let reader = file.reader(json!({"table": table, "column": ["i"]}));
        let small = SplitRequest { max_bytes: 30_000, ..wants(1) };
        let splits = reader.splits(&small).await.unwrap();
        assert!(splits.len() > 2, "{table}: {splits:?}");
        let mut seen = read(&reader, &splits, false).await.integers(0);
        seen.sort_unstable();
        assert_eq!(seen, (1..=5000).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn columns_expressions_queries_and_views() {
    let file = TestFile::new(
        "CREATE TABLE \"we ird\"(\"Id\" INTEGER PRIMARY KEY, \"sel\"\"ect\" TEXT);
         INSERT INTO \"we ird\" VALUES(1, 'a'), (2, NULL);
         CREATE VIEW v AS SELECT Id, upper(\"sel\"\"ect\") AS big FROM \"we ird\"",
    )
    .await;
    let reader =
        file.reader(json!({"table": "\"we ird\"", "column": ["\"sel\"\"ect\"", "ID", "Id * 2", "'x'", "null"]}));
    let schema = reader.schema().await.unwrap();
    assert!(schema.listed);
    assert_eq!(schema.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>()[2..], ["Id * 2", "'x'", "null"]);
    let sink = read_all(&reader).await;
    assert_eq!((sink.integers(1), sink.integers(2)), (vec![1, 2], vec![2, 4]));
    assert_eq!(sink.texts(3)[1].as_deref(), Some("x"));
    let query =
        file.reader(json!({"querySql": "SELECT Id, count(*) OVER () AS n FROM \"we ird\" ORDER BY Id DESC ; "}));
    assert_eq!(read_all(&query).await.integers(0), [2, 1]);
    let view = file.reader(json!({"table": "v"}));
    assert_eq!(read_all(&view).await.texts(1), [Some("A".to_owned()), None]);
    // A task may want fewer columns, or none at all.
    let split = &view.splits(&wants(1)).await.unwrap()[0];
    let mut sink = Sink::default();
    let none = ReadRequest { columns: vec![], snapshot: None, limit: Some(1) };
    view.read(split, &none, &mut sink).await.unwrap();
    assert_eq!(sink.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
}

#[tokio::test]
async fn shards_and_ranges_of_tables() {
    let file = TestFile::new(
        "CREATE TABLE o_00(id INTEGER NOT NULL); CREATE TABLE o_01(id INTEGER); CREATE TABLE o_02(id TEXT);
         INSERT INTO o_00 VALUES(1); INSERT INTO o_01 VALUES(2)",
    )
    .await;
    let reader = file.reader(json!({"table": ["o_[00-01]"]}));
    assert!(reader.schema().await.unwrap().columns[0].nullable);
    assert_eq!(read_all(&reader).await.integers(0), [1, 2]);
    let clash = file.reader(json!({"table": "o_00, o_02"})).schema().await.unwrap_err();
    assert_eq!(clash.kind(), ErrorKind::Schema);
    let other = file.folder.path().join("other.db");
    database(&other, "CREATE TABLE o_00(id INTEGER); INSERT INTO o_00 VALUES(3)").await;
    let url = |name: &str| format!("jdbc:sqlite:{}", file.folder.path().join(name).display());
    let shards = json!({"connection": [{"jdbcUrl": [url("missing.db"), url("t.db")], "table": ["o_00"]},
                                       {"jdbcUrl": url("other.db"), "table": ["o_00"]}]});
    let shards = SqliteReader::open(&shards, &context()).unwrap();
    assert_eq!(read_all(&shards).await.integers(0), [1, 3]);
    assert_eq!(shards.schema().await.unwrap().tables.len(), 2);
}

#[tokio::test]
async fn large_rows_travel_alone() {
    let file = TestFile::new(
        "CREATE TABLE t(i INTEGER, b BLOB); INSERT INTO t VALUES(1, zeroblob(100)), (2, zeroblob(9000000)),
         (3, zeroblob(3900000)), (4, zeroblob(6000000)), (5, X'')",
    )
    .await;
    let sink = read_all(&file.reader(json!({"table": "t"}))).await;
    assert_eq!(sink.integers(0), [1, 2, 3, 4, 5]);
    assert!(sink.batches.len() >= 4);
}

#[tokio::test]
async fn faults_are_named() {
    let file = TestFile::new("CREATE TABLE orders(id INTEGER)").await;
    let kind = |parameters: Value| {
        let reader = file.reader(parameters);
        async move { reader.schema().await.unwrap_err() }
    };
    let missing = kind(json!({"table": "order"})).await;
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.message().contains("did you mean `orders`"), "{missing}");
    assert!(kind(json!({"querySql": "SELEC 1"})).await.to_string().contains("syntax error"));
    assert_eq!(kind(json!({"table": "orders", "column": ["id", "idd"]})).await.kind(), ErrorKind::Remote);
    let write = file.reader(json!({"querySql": "DELETE FROM orders"}));
    assert!(write.schema().await.is_err());
    let nowhere = json!({"path": file.folder.path().join("no.db"), "table": "t"});
    let reader = SqliteReader::open(&nowhere, &context()).unwrap();
    assert_eq!(reader.schema().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(reader.check().await[0].outcome, weir_core::CheckOutcome::Fault);
    assert!(!file.folder.path().join("no.db").exists(), "a reader creates nothing");
    assert!(SqliteReader::open(&json!({"path": "mysql://h/d", "table": "t"}), &context()).is_err());
}

#[tokio::test]
async fn a_stopped_run_ends_within_a_second() {
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0";
    let file = TestFile::new("CREATE TABLE t(i)").await;
    let context = context();
    let parameters = json!({"path": file.folder.path().join("t.db"), "querySql": endless});
    let reader = SqliteReader::open(&parameters, &context).unwrap();
    let wanted = wants(1);
    let split = reader.splits(&wanted);
    let stop = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        context.cancel.cancel();
    };
    let start = weir_plugins_test::Stopwatch::start();
    let (result, ()) = tokio::join!(split, stop);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(start.is_within(std::time::Duration::from_secs(1)), "{:?}", start.elapsed());
}

/// The first column of a split, as the snapshot shows it.
async fn of_snapshot(reader: &SqliteReader, split: &Split, guard: &SnapshotGuard) -> Vec<i64> {
    let columns = vec![ReadColumn { index: 0, field: reader.schema().await.unwrap().columns[0].canonical().clone() }];
    let request = ReadRequest { columns, snapshot: Some(guard.token.clone()), limit: None };
    let mut sink = Sink::default();
    reader.read(split, &request, &mut sink).await.unwrap();
    sink.integers(0)
}

#[tokio::test]
async fn all_splits_of_all_tables_see_one_moment() {
    let sql = "PRAGMA journal_mode = wal; CREATE TABLE a(v INTEGER); CREATE TABLE b(v INTEGER);
               INSERT INTO a VALUES(100); INSERT INTO b VALUES(100)";
    let file = TestFile::new(sql).await;
    let path = file.folder.path().join("t.db");
    // Two entries of one run, each with a table.
    let context = context();
    let open = |table: &str| SqliteReader::open(&json!({"path": path, "table": table}), &context).unwrap();
    let (a, b) = (open("a"), open("b"));
    let guard = a.snapshot().unwrap().begin(1).await.unwrap();
    let (split_a, split_b) = (a.splits(&wants(1)).await.unwrap(), b.splits(&wants(1)).await.unwrap());
    database(&path, "UPDATE a SET v = v - 30; UPDATE b SET v = v + 30").await;
    let later = b.snapshot().unwrap().begin(4).await.unwrap();
    // More readers than connections that see the moment: they take turns.
    let (x, y, z) = tokio::join!(
        of_snapshot(&a, &split_a[0], &guard),
        of_snapshot(&b, &split_b[0], &later),
        of_snapshot(&a, &split_a[0], &guard),
    );
    assert_eq!((x, y, z), (vec![100], vec![100], vec![100]));
    let loose = SqliteReader::open(&json!({"path": path, "table": "a", "consistency": "none"}), &context).unwrap();
    assert!(loose.snapshot().is_none());
    assert_eq!(read_all(&loose).await.integers(0), [70]);
    // A run of its own sees what is there now; readers join as long as nobody writes.
    let next = file.reader(json!({"table": "a"}));
    let guard = next.snapshot().unwrap().begin(2).await.unwrap();
    assert_eq!(of_snapshot(&next, &split_a[0], &guard).await, [70]);
    let elsewhere = file.reader(json!({"table": "a"}));
    let request = ReadRequest { columns: vec![], snapshot: Some(guard.token.clone()), limit: None };
    let error = elsewhere.read(&split_a[0], &request, &mut Sink::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "the process that held it is another one");
    // What an earlier entry of the job has written is read by a later one.
    File { path: path.clone(), session: vec![] }.mark_as_target(&context.shared);
    database(&path, "UPDATE a SET v = 5").await;
    let guard = a.snapshot().unwrap().begin(2).await.unwrap();
    assert_eq!(of_snapshot(&a, &split_a[0], &guard).await, [5]);
}

#[tokio::test]
async fn a_split_that_fails_leaves_the_moment_to_the_others() {
    let file = TestFile::new("PRAGMA journal_mode = wal; CREATE TABLE a(v INTEGER); INSERT INTO a VALUES(1)").await;
    let reader = file.reader(json!({"table": "a"}));
    let guard = reader.snapshot().unwrap().begin(1).await.unwrap();
    let split = reader.splits(&wants(1)).await.unwrap();
    let field = reader.schema().await.unwrap().columns[0].canonical().clone();
    let columns = vec![ReadColumn { index: 0, field }];
    let request = ReadRequest { columns, snapshot: Some(guard.token.clone()), limit: None };
    // After the write no other connection can see the moment.
    database(&file.folder.path().join("t.db"), "UPDATE a SET v = 2").await;
    for _ in 0..3 {
        let error = reader.read(&split[0], &request, &mut Closed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(of_snapshot(&reader, &split[0], &guard).await, [1]);
    }
    // One that is stopped while its channel is full.
    for _ in 0..3 {
        let mut full = Full;
        let stopped = reader.read(&split[0], &request, &mut full);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(50), stopped).await.is_err());
        assert_eq!(of_snapshot(&reader, &split[0], &guard).await, [1]);
    }
}

/// A channel that takes nothing.
struct Full;

#[async_trait]
impl BatchSender for Full {
    async fn send(&mut self, _: RecordBatch) -> Result<()> {
        std::future::pending().await
    }

    async fn reject(&mut self, _: DirtyRow) -> Result<()> {
        std::future::pending().await
    }
}

/// A channel whose other end is gone.
struct Closed;

#[async_trait]
impl BatchSender for Closed {
    async fn send(&mut self, _: RecordBatch) -> Result<()> {
        Err(weir_core::Error::cancelled())
    }

    async fn reject(&mut self, _: DirtyRow) -> Result<()> {
        Err(weir_core::Error::cancelled())
    }
}

#[tokio::test]
async fn without_a_log_writers_wait_and_our_own_is_never_kept_out() {
    let file = TestFile::new("CREATE TABLE a(v INTEGER); INSERT INTO a VALUES(1)").await;
    let path = file.folder.path().join("t.db");
    let at = File { path: path.clone(), session: vec!["PRAGMA busy_timeout = 0".into()] };
    let reader = file.reader(json!({"table": "a"}));
    let guard = reader.snapshot().unwrap().begin(2).await.unwrap();
    assert!(guard.description.contains("WAL"), "{}", guard.description);
    let stopped = context();
    let write = at.with(Access::Write, &stopped, |db| Ok(db.execute("UPDATE a SET v = 2")?));
    assert!(tokio::time::timeout(std::time::Duration::from_millis(300), write).await.is_err());
    drop((reader, guard));
    database(&path, "UPDATE a SET v = 2").await;

    let shared = context();
    at.mark_as_target(&shared.shared);
    let open = |more: Value| {
        let mut parameters = json!({"path": path, "table": "a"});
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        SqliteReader::open(&parameters, &shared).unwrap()
    };
    let reader = open(json!({}));
    let guard = reader.snapshot().unwrap().begin(2).await.unwrap();
    assert!(guard.description.contains("target"), "{}", guard.description);
    database(&path, "UPDATE a SET v = 3").await;
    let split = reader.splits(&wants(1)).await.unwrap();
    assert_eq!(of_snapshot(&reader, &split[0], &guard).await, [3]);
    let strict = open(json!({"consistency": "snapshot"}));
    assert_eq!(strict.snapshot().unwrap().begin(1).await.err().unwrap().kind(), ErrorKind::Conflict);
}

#[test]
fn the_plugin_is_registered() {
    let plugin = weir_core::readers().into_iter().find(|p| p.name == "sqlite").unwrap();
    assert_eq!(plugin.aliases, ["sqlitereader"]);
    let schema = serde_json::to_value((plugin.schema)()).unwrap();
    for key in ["url", "table", "querySql", "where", "splitPk", "integerTimes"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
    assert_eq!((plugin.recognise)("a.db3", Some("t")), Some(json!({"path": "a.db3", "table": "t"})));
}
