//! Which moment rows show: one for each split, or under locks one for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use weir_core::{Reader, Result, SnapshotGuard};
use weir_plugins_test::harness::{ReadOptions, control, open_reader, read_with, split_request};
use weir_plugins_test::not_run;
use weir_plugins_test::servers::{self, Database};
use weir_reader_sqlserver as _;

fn open(database: &Database, more: Value) -> Arc<dyn Reader> {
    let mut parameters = json!({ "url": database.url() });
    if let (Some(all), Some(more)) = (parameters.as_object_mut(), more.as_object()) {
        all.extend(more.clone());
    }
    open_reader("sqlserver", parameters).unwrap()
}

async fn begin(reader: &Arc<dyn Reader>) -> Result<SnapshotGuard> {
    let reader = reader.clone();
    control(async move { reader.snapshot().unwrap().begin(2).await }).await
}

async fn accounts(database: &Database) {
    let digits = "SELECT v.i FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) v(i)";
    for table in ["acc_0", "acc_1"] {
        database
            .execute(&format!(
                "CREATE TABLE {table} (id int PRIMARY KEY, v int, filler nvarchar(200)); \
                 WITH d AS ({digits}) INSERT INTO {table} \
                 SELECT a.i * 1000 + b.i * 100 + c.i * 10 + d.i, 1000, REPLICATE('x', 200) \
                 FROM d a CROSS JOIN d b CROSS JOIN d c CROSS JOIN d"
            ))
            .await;
    }
}

/// Moves money between rows of one table, and between the tables, until it is told to stop.
struct Mover {
    stop: Arc<AtomicBool>,
    work: tokio::task::JoinHandle<u32>,
}

impl Mover {
    fn start(database: &Database) -> Self {
        let (database, stop) = (database.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let work = tokio::spawn(async move {
            let mut moved = 0;
            while !stopped.load(Ordering::Relaxed) {
                let moves = (0..20).map(|i| {
                    let (a, b) = ((moved + i) * 31 % 9_973, 9_999 - (moved + i) * 17 % 9_967);
                    format!(
                        "BEGIN TRANSACTION; UPDATE acc_0 SET v = v - 1 WHERE id = {a}; \
                         UPDATE acc_0 SET v = v + 1 WHERE id = {b}; UPDATE acc_0 SET v = v - 1 WHERE id = {b}; \
                         UPDATE acc_1 SET v = v + 1 WHERE id = {a}; COMMIT;"
                    )
                });
                database.execute(&moves.collect::<String>()).await;
                moved += 20;
            }
            moved
        });
        Self { stop, work }
    }

    async fn stop(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.work.await.unwrap()
    }
}

fn sum(values: Vec<Option<String>>) -> i64 {
    values.into_iter().flatten().map(|v| v.parse::<i64>().unwrap()).sum()
}

#[tokio::test]
async fn a_split_shows_one_moment() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("moment").await;
    // Where nobody has allowed it yet; not every server knows the words, and those need them not.
    let _ = database.try_execute("ALTER DATABASE CURRENT SET ALLOW_SNAPSHOT_ISOLATION ON").await;
    let allowed = "SELECT CAST(snapshot_isolation_state AS int) FROM sys.databases WHERE name = DB_NAME()";
    assert_eq!(database.value(allowed).await, "1");
    accounts(&database).await;
    database.execute("CREATE TABLE one (id int PRIMARY KEY, v int, filler nvarchar(200))").await;
    database.execute("INSERT INTO one SELECT id, v, filler FROM acc_0").await;
    let moving = database.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let mover = tokio::spawn(async move {
        let mut moved = 0;
        while !stopped.load(Ordering::Relaxed) {
            let moves = (0..20).map(|i| {
                let (a, b) = ((moved + i) * 31 % 4_999, 9_999 - (moved + i) * 17 % 4_987);
                format!("UPDATE one SET v = CASE WHEN id = {a} THEN v - 1 ELSE v + 1 END WHERE id IN ({a}, {b});")
            });
            moving.execute(&moves.collect::<String>()).await;
            moved += 20;
        }
        moved
    });
    for _ in 0..5 {
        let reader = open(&database, json!({ "table": "one" }));
        let read =
            read_with(&reader, ReadOptions { splits: split_request(1), ..ReadOptions::default() }).await.unwrap();
        assert!(read.schema.warnings.iter().any(|w| w.contains("SNAPSHOT")), "{:?}", read.schema.warnings);
        assert_eq!((read.splits.len(), read.rows(), sum(read.column("v"))), (1, 10_000, 10_000_000));
    }
    stop.store(true, Ordering::Relaxed);
    assert!(mover.await.unwrap() > 0, "nothing moved");
}

#[tokio::test]
async fn under_locks_all_splits_show_one_moment() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("locks").await;
    if database.is_babelfish().await {
        return not_run("Babelfish reads the words of lock hints and goes on without locks");
    }
    accounts(&database).await;
    let mover = Mover::start(&database);
    for _ in 0..3 {
        let reader = open(&database, json!({ "table": "acc_[0-1]", "splitPk": "id", "consistency": "lock" }));
        let guard = begin(&reader).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let options =
            ReadOptions { snapshot: Some(guard.token.clone()), splits: split_request(4), ..ReadOptions::default() };
        let read = read_with(&reader, options).await.unwrap();
        assert_eq!((read.splits.len(), sum(read.column("v"))), (4, 20_000_000), "{}", guard.description);
    }
    assert!(mover.stop().await > 0, "nothing moved");
}

#[test]
fn each_database_of_a_server_keeps_a_session_for_its_locks() {
    let keeps = |urls: &[&str]| {
        let connection: Vec<_> = urls.iter().map(|url| json!({"jdbcUrl": [url], "table": ["t"]})).collect();
        let parameters = json!({"connection": connection, "username": "u", "password": "p", "consistency": "lock"});
        open_reader("sqlserver", parameters).unwrap().snapshot().unwrap().keeps()
    };
    let (a, b) = ("sqlserver://h:1433/a", "sqlserver://h:1433/b");
    assert_eq!(keeps(&[a]), 1);
    assert_eq!(keeps(&[a, a, b]), 2);
    assert_eq!(keeps(&[a, "sqlserver://other:1433/a"]), 1, "each server by itself");
}
