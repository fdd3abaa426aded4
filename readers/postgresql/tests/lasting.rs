//! Splits and snapshots that outlive what happens around them, and faults in the middle of a run.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weir_core::{
    ConnectorContext, ErrorKind, ReadColumn, ReadRequest, Reader, Result, SnapshotGuard, Split, SplitRequest,
};
use weir_plugins_test::Stopwatch;
use weir_plugins_test::harness::{
    self, ReadOptions, control, on_thread, open_reader, open_reader_in, read_all, read_with,
};
use weir_plugins_test::servers::{self, Database};
use weir_reader_postgresql as _;

const SLEEPS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";

async fn database(name: &str) -> Database {
    servers::postgresql().await.fresh_database(name).await
}

fn reader(database: &Database, mut parameters: Value) -> Arc<dyn Reader> {
    parameters["url"] = database.url().into();
    open_reader("postgresql", parameters).unwrap()
}

fn in_context(database: &Database, table: &str, context: &ConnectorContext) -> Arc<dyn Reader> {
    open_reader_in("postgresql", json!({"url": database.url(), "table": table}), context).unwrap()
}

async fn begin(reader: &Arc<dyn Reader>) -> Result<SnapshotGuard> {
    let reader = reader.clone();
    control(async move { reader.snapshot().unwrap().begin(4).await }).await
}

async fn splits(reader: &Arc<dyn Reader>, request: &SplitRequest) -> Vec<Split> {
    let (reader, request) = (reader.clone(), request.clone());
    control(async move { reader.splits(&request).await }).await.unwrap()
}

#[tokio::test]
async fn ranges_of_keys_last_and_ranges_of_pages_do_not() {
    let database = database("stable").await;
    database
        .execute(
            "CREATE TABLE i (a text, id bigint PRIMARY KEY, pad text); INSERT INTO i SELECT 'x', i * 1000, repeat('x', 100) FROM generate_series(-9000, 9000) i; \
             CREATE TABLE u (id uuid PRIMARY KEY, pad text); INSERT INTO u SELECT gen_random_uuid(), repeat('x', 100) FROM generate_series(1, 9000); \
             CREATE TABLE s (id text NOT NULL UNIQUE, pad text); INSERT INTO s SELECT 'Ké' || i, repeat('x', 100) FROM generate_series(1, 9000) i; \
             CREATE TABLE n (pad text); INSERT INTO n SELECT repeat('x', 100) FROM generate_series(1, 9000) i; ANALYZE",
        )
        .await;
    let mut request = harness::split_request(3);
    (request.max_bytes, request.stable) = (200_000, true);
    for (table, stable, rows) in [("i", true, 18_001), ("u", true, 9000), ("s", true, 9000), ("n", false, 9000)] {
        let reader = reader(&database, json!({"table": table}));
        let guard = begin(&reader).await.unwrap();
        request.snapshot = Some(guard.token.clone());
        let options =
            ReadOptions { splits: request.clone(), snapshot: request.snapshot.clone(), ..ReadOptions::default() };
        let read = read_with(&reader, options).await.unwrap();
        assert_eq!(read.rows(), rows, "{table}");
        assert!(read.splits.len() > 3, "{table}: {}", read.splits.len());
        assert!(read.splits.iter().all(|s| s.split.stable == stable), "{table}");
        let whole = splits(&reader, &harness::split_request(1)).await;
        assert!(whole.len() == 1 && whole[0].stable, "{table}");
        if table == "i" {
            // A range means the same keys when the table has other columns, and other rows around it.
            let split = read.splits[1].split.clone();
            let before = read.splits[1].batches.iter().map(|b| b.num_rows()).sum::<usize>();
            drop(guard);
            database.execute("ALTER TABLE i DROP COLUMN a; INSERT INTO i SELECT i, 'new' FROM generate_series(90000000, 90000100) i").await;
            let again = self::reader(&database, json!({"table": table}));
            let schema = {
                let again = again.clone();
                control(async move { again.schema().await }).await.unwrap()
            };
            let columns =
                schema.columns.iter().enumerate().map(|(index, c)| ReadColumn { index, field: c.canonical().clone() });
            let read = ReadRequest { columns: columns.collect(), snapshot: None, limit: None };
            let rows = on_thread(async move {
                let mut counted = Counted::default();
                again.read(&split, &read, &mut counted).await?;
                Ok(counted.0)
            });
            assert_eq!(rows.await.unwrap(), before);
        }
    }
}

/// The server sees no deadlock there: the run waits for somebody who waits for the run.
#[tokio::test]
async fn whoever_waits_to_alter_a_table_of_the_snapshot_is_told_of() {
    let database = database("behind").await;
    database.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    let reader = reader(&database, json!({"table": "t", "session": ["SET lock_timeout = '300ms'"]}));
    let query = json!({"querySql": "SELECT * FROM t", "session": ["SET lock_timeout = '300ms'"]});
    let query = self::reader(&database, query);
    let (guard, of_query) = (begin(&reader).await.unwrap(), begin(&query).await.unwrap());
    let splits = harness::split_request(1);
    let options = ReadOptions { splits, snapshot: Some(guard.token.clone()), ..ReadOptions::default() };
    let altering = tokio::spawn({
        let database = database.clone();
        async move { database.execute("ALTER TABLE t ADD COLUMN a int").await }
    });
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 't'::regclass";
    database.until(waits).await;
    let error = read_with(&reader, options.clone()).await.err().unwrap();
    let said = error.full();
    assert!(error.kind() == ErrorKind::Conflict && error.is_retryable(), "{said}");
    assert!(said.contains("until this run ends") && said.contains("table public.t"), "{said}");
    assert!(!said.contains("somebody else holds"), "{said}");
    // Nobody knows whether what a query waits for is what the snapshot has locked.
    let options = ReadOptions { snapshot: Some(of_query.token.clone()), ..options };
    let said = read_with(&query, options).await.err().unwrap().full();
    assert!(said.contains("somebody else holds") && !said.contains("until this run ends"), "{said}");
    // With the run's locks goes what kept it waiting.
    drop((guard, of_query));
    altering.await.unwrap();
}

#[derive(Default)]
struct Counted(usize);

#[async_trait::async_trait]
impl weir_core::BatchSender for Counted {
    async fn send(&mut self, batch: arrow::array::RecordBatch) -> Result<()> {
        self.0 += batch.num_rows();
        Ok(())
    }

    async fn reject(&mut self, row: weir_core::DirtyRow) -> Result<()> {
        panic!("{row:?}");
    }
}

#[tokio::test]
async fn shards_may_differ_in_order_case_length_and_width() {
    let database = database("shards").await;
    database
        .execute(
            "CREATE TABLE o_0 (id int NOT NULL, name varchar(5), n numeric(6,2)); \
             CREATE TABLE o_1 (\"N\" numeric(8,4), \"ID\" bigint, name varchar(20)); CREATE TABLE o_2 (id int, name date, n numeric); \
             INSERT INTO o_0 VALUES (1, 'one', 1.5); INSERT INTO o_1 VALUES (2.0001, 3000000000, 'three')",
        )
        .await;
    let read = read_all(&reader(&database, json!({"table": "o_[0-1]"}))).await.unwrap();
    let types: Vec<_> = read.schema.columns.iter().map(|c| (c.native_type.as_str(), c.nullable)).collect();
    assert_eq!(types, [("bigint", true), ("character varying(20)", true), ("numeric(8,4)", true)]);
    let expected =
        [["1", "one", "1.5000"], ["3000000000", "three", "2.0001"]].map(|r| r.map(|v| Some(v.to_owned())).to_vec());
    assert_eq!(read.sorted_cells(), expected);
    let error = read_all(&reader(&database, json!({"table": "o_[0-2]"}))).await.err().unwrap();
    assert!(error.kind() == ErrorKind::Schema && error.message().contains("date"), "{error}");
}

#[tokio::test]
async fn all_tables_of_a_run_see_one_moment() {
    let database = database("moment").await;
    database
        .execute(&format!(
            "CREATE TABLE a (v int); CREATE TABLE b (v int); INSERT INTO a VALUES (100); INSERT INTO b VALUES (0); \
             CREATE TABLE c (v int); INSERT INTO c VALUES (1); \
             ALTER DATABASE \"{}\" SET idle_in_transaction_session_timeout = '200ms'",
            database.name()
        ))
        .await;
    let context = harness::context();
    let sum = |reader: Arc<dyn Reader>, guard: Value| async move {
        let options = ReadOptions { snapshot: Some(guard), ..ReadOptions::default() };
        read_with(&reader, options).await.unwrap().cells()[0][0].clone().unwrap()
    };
    let first = in_context(&database, "a", &context);
    let guard = begin(&first).await.unwrap();
    assert_eq!(sum(first, guard.token.clone()).await, "100");
    // The first table is done, and its locks go with it.
    drop(guard);
    tokio::time::sleep(Duration::from_millis(600)).await;
    database.execute("BEGIN; UPDATE a SET v = 40; UPDATE b SET v = 60; COMMIT").await;
    database.execute("SET lock_timeout = '10s'; TRUNCATE a; TRUNCATE c").await;
    let second = in_context(&database, "b", &context);
    let guard = begin(&second).await.unwrap();
    assert_eq!(sum(second, guard.token.clone()).await, "0");
    // What the snapshot cannot show any more is said.
    let error = begin(&in_context(&database, "c", &context)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    // Another run has a moment of its own.
    let other = in_context(&database, "b", &harness::context());
    let guard = begin(&other).await.unwrap();
    assert_eq!(sum(other, guard.token.clone()).await, "60");
    // A table that the run itself has filled is read as it is then.
    let table = weir_sql::TableName { schema: Some("public".into()), name: "b".into() };
    let endpoint = weir_postgresql::Endpoint::new(&[database.url()], None, None, &Default::default(), &[]).unwrap();
    weir_postgresql::written::note(&context.shared, &endpoint, &table);
    let second = in_context(&database, "b", &context);
    let guard = begin(&second).await.unwrap();
    assert_eq!(sum(second, guard.token.clone()).await, "60");
}

#[tokio::test]
async fn what_breaks_in_the_middle_has_its_kind() {
    let database = database("middle").await;
    let role = format!("{}_role", database.name());
    database
        .execute(&format!(
            "CREATE TABLE t (id int); INSERT INTO t VALUES (1); CREATE TABLE r (id int); \
             CREATE ROLE \"{role}\" LOGIN PASSWORD 'p'; GRANT SELECT ON r TO \"{role}\""
        ))
        .await;
    let planned = |reader: Arc<dyn Reader>| async move {
        let splits = splits(&reader, &harness::split_request(1)).await;
        let planning = reader.clone();
        let schema = control(async move { planning.schema().await }).await.unwrap();
        let field = schema.columns[0].canonical().clone();
        (
            reader,
            splits[0].clone(),
            ReadRequest { columns: vec![ReadColumn { index: 0, field }], snapshot: None, limit: None },
        )
    };
    let read = |(reader, split, request): (Arc<dyn Reader>, Split, ReadRequest)| {
        on_thread(async move { reader.read(&split, &request, &mut Counted::default()).await })
    };
    let t = planned(reader(&database, json!({"table": "t"}))).await;
    let r =
        planned(open_reader("postgresql", json!({"url": database.url_with(&role, "p"), "table": "r"})).unwrap()).await;
    let slow = planned(reader(&database, json!({"querySql": "SELECT pg_sleep(20)::text"}))).await;
    database.execute(&format!("DROP TABLE t; REVOKE SELECT ON r FROM \"{role}\"")).await;
    let error = read(t).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && !error.is_retryable(), "{error:?}");
    let error = read(r).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Denied && !error.is_retryable(), "{error:?}");
    let killer = database.clone();
    let killing = tokio::spawn(async move {
        killer.until(SLEEPS).await;
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
        killer.query(sql).await
    });
    let error = read(slow).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unreachable && error.is_retryable(), "{error:?}");
    killing.await.unwrap();
    database.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await;

    // A server that accepts and then says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let keeping = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((socket, _)) = silent.accept().await {
            kept.push(socket);
        }
    });
    let url = format!("postgresql://u:p@127.0.0.1:{port}/d?connectTimeout=1");
    let started = Stopwatch::start();
    let error = read_all(&open_reader("postgresql", json!({"url": url, "table": "t"})).unwrap()).await.err().unwrap();
    assert!(error.kind() == ErrorKind::Timeout && error.is_retryable(), "{error:?}");
    assert!(started.is_within(Duration::from_secs(8)));
    keeping.abort();
}

/// Passes bytes on between clients and the server until it is told to swallow them.
async fn proxy(port: u16, open: Arc<std::sync::atomic::AtomicBool>) -> u16 {
    use std::sync::atomic::Ordering;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let ((mut a, mut b), (mut c, mut d)) = (client.into_split(), server.into_split());
            let (one, two) = (open.clone(), open.clone());
            let pass =
                |open: Arc<std::sync::atomic::AtomicBool>| move |bytes: usize| bytes > 0 && open.load(Ordering::SeqCst);
            let (one, two) = (pass(one), pass(two));
            tokio::spawn(async move {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(n) = a.read(&mut buffer).await {
                    match one(n) {
                        true => d.write_all(&buffer[..n]).await.unwrap_or_default(),
                        false if n == 0 => return,
                        false => {}
                    }
                }
            });
            tokio::spawn(async move {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(n) = c.read(&mut buffer).await {
                    match two(n) {
                        true => b.write_all(&buffer[..n]).await.unwrap_or_default(),
                        false if n == 0 => return,
                        false => {}
                    }
                }
            });
        }
    });
    own
}

#[tokio::test]
async fn a_server_that_falls_silent_is_noticed_and_one_that_works_long_is_not() {
    let database = database("silent").await;
    let open = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let port = proxy(database.port(), open.clone()).await;
    let url = database.url().replace(&format!(":{}/", database.port()), &format!(":{port}/")) + "?connectTimeout=2";
    let query = |sql: &str| open_reader("postgresql", json!({"url": url, "querySql": sql})).unwrap();
    // Longer than several questions whether the server is still there.
    assert_eq!(read_all(&query("SELECT pg_sleep(6)::text")).await.unwrap().rows(), 1);
    let (closing, seeing) = (open.clone(), database.clone());
    tokio::spawn(async move {
        seeing.until(SLEEPS).await;
        closing.store(false, std::sync::atomic::Ordering::SeqCst);
    });
    let started = Stopwatch::start();
    let error = read_all(&query("SELECT pg_sleep(60)::text")).await.err().unwrap();
    assert!(error.kind() == ErrorKind::Unreachable && error.is_retryable(), "{error:?}");
    assert!(started.is_within(Duration::from_secs(20)));
}
