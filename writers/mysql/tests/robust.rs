//! Servers that fall silent, die, forget privileges or lose tables: the right kind of error in time, and nothing lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{Int32Array, RecordBatch, StringArray};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir_core::{Account, ErrorKind, Refused, TaskId};
use weir_plugins_test::Stopwatch;
use weir_plugins_test::harness::{
    self, WriteOptions, control, fitted, on_thread, open_reader, open_writer, open_writer_in, plan_for, read_all,
    run_task,
};
use weir_plugins_test::servers::{self, Database};
use weir_reader_mysql as _;
use weir_writer_mysql as _;

/// A way to the server that can be made to swallow everything, as a cut network does.
struct Hole {
    address: SocketAddr,
    silent: Arc<AtomicBool>,
}

impl Hole {
    async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, silent) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let swallowing = silent.clone();
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
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
        let there = format!("127.0.0.1:{}", database.port());
        format!("{}?connectTimeout=700&sslMode=disabled", database.url().replace(&there, &self.address.to_string()))
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
    let cases = [servers::mariadb().await, servers::mysql().await].map(|server| async move {
        let database = server.fresh_database("silent").await;
        database.execute("CREATE TABLE s (id INT PRIMARY KEY, t TEXT); INSERT INTO s VALUES (1, 'a'), (2, 'b')").await;
        let hole = Hole::before(database.port()).await;
        let url = hole.url(&database);
        // Long statements are no silence: the server still answers others.
        let slow = with(&url, json!({ "table": "s", "column": ["id", "SLEEP(2.5)"] }));
        assert_eq!(read_all(&open_reader("mysql", slow.clone()).unwrap()).await.unwrap().rows(), 2);
        let reader = open_reader("mysql", slow).unwrap();
        reader.schema().await.unwrap();
        let reading = tokio::spawn(async move { read_all(&reader).await.map(drop) });
        let writer = open_writer("mysql", with(&url, json!({ "table": "s" }))).unwrap();
        let plan = plan_for(&writer, &pairs(&[]).schema(), &WriteOptions::default()).await.unwrap();
        let (preparing, planned) = (writer.clone(), plan.clone());
        control(async move { preparing.prepare(&planned).await }).await.unwrap();
        database.until_sessions(|all| all.iter().any(|session| session.state == "User sleep")).await;
        hole.fall_silent();
        let begun = Stopwatch::start();
        let error = run_task(&writer, &plan, task(&plan.run_id, 1), vec![pairs(&[(3, "c")])]).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true), "{error:?}");
        let error = reading.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true), "{error:?}");
        assert!(begun.is_within(Duration::from_secs(25)), "{:?}", begun.elapsed());
    });
    futures::future::join_all(cases).await;
}

#[tokio::test]
async fn a_silent_server_keeps_nobody_who_is_stopped() {
    let database = servers::mariadb().await.fresh_database("stopped").await;
    database.execute("CREATE TABLE s (id INT PRIMARY KEY, t TEXT)").await;
    let hole = Hole::before(database.port()).await;
    let context = harness::context();
    let writer = open_writer_in("mysql", with(&hole.url(&database), json!({ "table": "s" })), &context).unwrap();
    let plan = plan_for(&writer, &pairs(&[]).schema(), &WriteOptions::default()).await.unwrap();
    let (preparing, planned) = (writer.clone(), plan.clone());
    control(async move { preparing.prepare(&planned).await }).await.unwrap();
    let rows = fitted(&pairs(&[(1, "x")]), &plan).unwrap();
    let cancel = context.cancel.clone();
    let (error, begun) = on_thread(async move {
        let mut open = writer.open(&plan, &task(&plan.run_id, 1)).await?;
        hole.fall_silent();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            cancel.cancel();
        });
        let begun = Stopwatch::start();
        let error = open.write(&rows, &mut Refused::default()).await.unwrap_err();
        Ok((error, begun))
    })
    .await
    .unwrap();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error:?}");
    assert!(begun.is_within(Duration::from_millis(1300)), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn privileges_and_tables_that_go_are_told_and_not_retried() {
    for server in [servers::mariadb().await, servers::mysql().await] {
        let database = server.fresh_database("revoked").await;
        database.execute("CREATE TABLE r (id INT PRIMARY KEY, t TEXT); INSERT INTO r VALUES (1, 'a')").await;
        let user = format!("gone_{}_{}", std::process::id(), database.port());
        let place = database.quote(database.name());
        database
            .execute(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'g'; GRANT ALL ON {place}.* TO '{user}'@'%'"))
            .await;
        let url = database.url_with(&user, "g");
        let (reader, writer) = (
            open_reader("mysql", with(&url, json!({ "table": "r" }))).unwrap(),
            open_writer("mysql", with(&url, json!({ "table": "r" }))).unwrap(),
        );
        reader.schema().await.unwrap();
        let plan = plan_for(&writer, &pairs(&[]).schema(), &WriteOptions::default()).await.unwrap();
        let (preparing, planned) = (writer.clone(), plan.clone());
        control(async move { preparing.prepare(&planned).await }).await.unwrap();
        let both = async |kind: ErrorKind| {
            let error = run_task(&writer, &plan, task(&plan.run_id, 1), vec![pairs(&[(3, "c")])]).await.unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (kind, false), "{error:?}");
            let error = read_all(&reader).await.map(drop).unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (kind, false), "{error:?}");
        };
        database.execute("DROP TABLE r").await;
        both(ErrorKind::NotFound).await;
        database.execute("CREATE TABLE r (id INT PRIMARY KEY, t TEXT)").await;
        database
            .execute(&format!(
                "REVOKE ALL ON {place}.* FROM '{user}'@'%'; GRANT DELETE ON {place}.* TO '{user}'@'%'; FLUSH PRIVILEGES"
            ))
            .await;
        both(ErrorKind::Denied).await;
        database.execute(&format!("DROP USER '{user}'@'%'")).await;
    }
}

#[tokio::test]
async fn a_server_that_dies_between_write_and_finish_loses_nothing() {
    let start = || servers::OwnServer::start(servers::Family::MariaDb);
    let mut own = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    let database = own.server().fresh_database("dies").await;
    database.execute("CREATE TABLE d (id INT PRIMARY KEY, t TEXT)").await;
    let writer = open_writer("mysql", with(&database.url(), json!({ "table": "d" }))).unwrap();
    let plan = plan_for(&writer, &pairs(&[]).schema(), &WriteOptions::default()).await.unwrap();
    let (preparing, planned) = (writer.clone(), plan.clone());
    control(async move { preparing.prepare(&planned).await }).await.unwrap();
    let rows = fitted(&pairs(&[(1, "x")]), &plan).unwrap();
    let (opening, planned, id) = (writer.clone(), plan.clone(), task(&plan.run_id, 1));
    let (error, own) = on_thread(async move {
        let mut open = opening.open(&planned, &id).await?;
        open.write(&rows, &mut Refused::default()).await?;
        let own = tokio::task::spawn_blocking(move || {
            own.crash();
            own
        })
        .await
        .map_err(|e| weir_core::Error::internal("no crash").because(e))?;
        Ok((open.finish(Account::default()).await.unwrap_err(), own))
    })
    .await
    .unwrap();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true), "{error:?}");
    let error = run_task(&writer, &plan, task(&plan.run_id, 2), vec![pairs(&[(1, "x")])]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true), "{error:?}");
    let restart = |mut own: servers::OwnServer| own.restart().map(|()| own);
    let own = tokio::task::spawn_blocking(move || restart(own)).await.unwrap().unwrap();
    let receipt = run_task(&writer, &plan, task(&plan.run_id, 3), vec![pairs(&[(1, "x")])]).await.unwrap().0;
    let (asking, planned) = (writer.clone(), plan.clone());
    let recorded = control(async move { asking.recorded(&planned).await }).await.unwrap();
    assert_eq!(recorded.receipts, [receipt]);
    assert_eq!(database.value("SELECT COUNT(*) FROM d").await, "1");
    drop(own);
}
