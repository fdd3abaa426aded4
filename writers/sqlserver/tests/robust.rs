//! Servers that fall silent or lose tables: the right kind of error in time, and nothing lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{Int32Array, RecordBatch, StringArray};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir_core::{ErrorKind, Refused, TaskId};
use weir_plugins_test::harness::{
    self, WriteOptions, control, fitted, on_thread, open_reader, open_writer, open_writer_in, plan_for, read_all,
    run_task,
};
use weir_plugins_test::servers::{self, Database};
use weir_reader_sqlserver as _;
use weir_writer_sqlserver as _;

/// A way to the server that can be made to swallow everything, as a cut network does.
struct Hole {
    address: SocketAddr,
    silent: Arc<AtomicBool>,
}

impl Hole {
    async fn before(database: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, silent) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let (swallowing, there) = (silent.clone(), (database.host().to_owned(), database.port()));
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(&there).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                for (mut from, mut to) in [(near_in, far_out), (far_in, near_out)] {
                    let swallowing = swallowing.clone();
                    tokio::spawn(async move {
                        let mut bytes = vec![0; 65_536];
                        loop {
                            let read = from.read(&mut bytes).await.unwrap_or(0);
                            if swallowing.load(Ordering::Relaxed) {
                                // Nobody hears of an end either.
                                std::future::pending::<()>().await;
                            }
                            if read == 0 || to.write_all(&bytes[..read]).await.is_err() {
                                return;
                            }
                        }
                    });
                }
            }
        });
        Self { address, silent }
    }

    fn url(&self, database: &Database) -> String {
        let there = format!("{}:{}", database.host(), database.port());
        format!("{}&loginTimeout=1", database.url().replace(&there, &self.address.to_string()))
    }

    fn fall_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }
}

fn with(url: &str, more: Value) -> Value {
    let mut parameters = json!({ "url": url });
    if let (Some(all), Some(more)) = (parameters.as_object_mut(), more.as_object()) {
        all.extend(more.clone());
    }
    parameters
}

fn pairs(rows: &[(i32, &str)]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.0))) as _, true),
        ("t", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1))) as _, true),
    ])
    .unwrap()
}

fn task(run_id: &str, attempt: u32) -> TaskId {
    TaskId { run_id: run_id.into(), split: 0, table: "source".into(), attempt }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_noticed() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("silent").await;
    database
        .execute("CREATE TABLE s (id int PRIMARY KEY, t nvarchar(max)); INSERT INTO s VALUES (1, 'a'), (2, 'b')")
        .await;
    let hole = Hole::before(&database).await;
    let url = hole.url(&database);
    let reader = open_reader("sqlserver", with(&url, json!({ "table": "s" }))).unwrap();
    reader.schema().await.unwrap();
    let writer = open_writer("sqlserver", with(&url, json!({ "table": "s" }))).unwrap();
    let plan = plan_for(&writer, &pairs(&[]).schema(), &WriteOptions::default()).await.unwrap();
    let (preparing, planned) = (writer.clone(), plan.clone());
    control(async move { preparing.prepare(&planned).await }).await.unwrap();
    hole.fall_silent();
    let begun = Instant::now();
    let reading = tokio::spawn(async move { read_all(&reader).await.map(drop) });
    let error = run_task(&writer, &plan, task(&plan.run_id, 1), vec![pairs(&[(3, "c")])]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true), "{error:?}");
    let error = reading.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_silent_server_keeps_nobody_who_is_stopped() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("stopped").await;
    database.execute("CREATE TABLE s (id int PRIMARY KEY, t nvarchar(max))").await;
    let hole = Hole::before(&database).await;
    let context = harness::context();
    let writer = open_writer_in("sqlserver", with(&hole.url(&database), json!({ "table": "s" })), &context).unwrap();
    let plan = plan_for(&writer, &pairs(&[]).schema(), &WriteOptions::default()).await.unwrap();
    let (preparing, planned) = (writer.clone(), plan.clone());
    control(async move { preparing.prepare(&planned).await }).await.unwrap();
    let rows = fitted(&pairs(&[(1, "x")]), &plan).unwrap();
    let cancel = context.cancel.clone();
    let (error, after) = on_thread(async move {
        let mut open = writer.open(&plan, &task(&plan.run_id, 1)).await?;
        hole.fall_silent();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            cancel.cancel();
        });
        let begun = Instant::now();
        let error = open.write(&rows, &mut Refused::default()).await.unwrap_err();
        Ok((error, begun.elapsed()))
    })
    .await
    .unwrap();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error:?}");
    assert!(after < Duration::from_millis(1800), "{after:?}");
}

#[tokio::test]
async fn a_table_that_goes_is_told_and_not_retried() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("gone").await;
    database.execute("CREATE TABLE r (id int PRIMARY KEY, t nvarchar(max)); INSERT INTO r VALUES (1, 'a')").await;
    let reader = open_reader("sqlserver", with(&database.url(), json!({ "table": "r" }))).unwrap();
    let writer = open_writer("sqlserver", with(&database.url(), json!({ "table": "r" }))).unwrap();
    reader.schema().await.unwrap();
    let plan = plan_for(&writer, &pairs(&[]).schema(), &WriteOptions::default()).await.unwrap();
    let (preparing, planned) = (writer.clone(), plan.clone());
    control(async move { preparing.prepare(&planned).await }).await.unwrap();
    database.execute("DROP TABLE r").await;
    let error = run_task(&writer, &plan, task(&plan.run_id, 1), vec![pairs(&[(3, "c")])]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::NotFound, false), "{error:?}");
    let error = read_all(&reader).await.map(drop).unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::NotFound, false), "{error:?}");
}

/// The driver cuts a load into packets wherever they are full, its last word too.
#[tokio::test]
async fn a_load_may_end_anywhere_in_a_packet() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("ends").await;
    database.execute("CREATE TABLE ends (id int NOT NULL, note nvarchar(max) NOT NULL)").await;
    let writer = open_writer("sqlserver", json!({ "url": database.url(), "table": "ends" })).unwrap();
    let (first, last) = (7_920_usize, 7_975);
    for length in first..=last {
        let note = StringArray::from(vec!["x".repeat(length)]);
        let rows = RecordBatch::try_from_iter([
            ("id", Arc::new(Int32Array::from(vec![length as i32])) as _),
            ("note", Arc::new(note) as _),
        ]);
        let rows = vec![rows.unwrap()];
        let attempt = |attempt| {
            let options = WriteOptions { attempt, ..WriteOptions::default() };
            harness::write_all(&writer, rows.clone(), options)
        };
        // Babelfish loses its place where that is cut in two: then another attempt sends other packets.
        if let Err(error) = attempt(1).await {
            assert!(error.is_retryable(), "{length}: {}", error.full());
            attempt(2).await.unwrap_or_else(|error| panic!("{length} once more: {}", error.full()));
        }
    }
    let count = database.value("SELECT COUNT(*) FROM ends").await;
    assert_eq!(count, (last - first + 1).to_string());
}
