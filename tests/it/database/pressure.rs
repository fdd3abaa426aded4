//! What a whole-database job asks of its source: bytes a second, and connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_plugins_test::servers::{self, Database};

use super::{database_job, run_ok};

#[tokio::test]
async fn megabytes_a_second_hold_for_the_whole_job() {
    let source = servers::postgresql().await.fresh_database("paced").await;
    for table in ["a", "b"] {
        let rows = "SELECT n, repeat('x', 1000) FROM generate_series(1, 1500) n";
        source.execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY, v text); INSERT INTO {table} {rows}")).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let to = ("files", json!({"path": folder.path()}));
    let job =
        database_job(("postgresql", json!({"url": source.url()})), to, json!({"setting": {"speed": {"mbps": 1}}}));
    let begun = Instant::now();
    assert_eq!(run_ok(&job).await.rows_written, 3000);
    // Some 3 MB: 2.9 seconds of the rate.
    assert!(begun.elapsed() >= Duration::from_millis(2700), "{:?}", begun.elapsed());
}

/// What there was at once at most, and what it was at.
#[derive(Debug, Default)]
struct Most {
    working: usize,
    open: usize,
    what: String,
}

/// Looks at the connections to a database until it is told to stop.
struct Watch {
    stop: Arc<AtomicBool>,
    most: tokio::task::JoinHandle<Most>,
}

impl Watch {
    fn start(database: &Database, sql: &'static str) -> Self {
        let (database, stop) = (database.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let most = tokio::spawn(async move {
            let mut most = Most::default();
            while !stopped.load(Ordering::Relaxed) {
                let now = database.query(sql).await;
                let working: Vec<_> =
                    now.iter().flatten().flatten().filter(|what| !what.starts_with("rests")).collect();
                if working.len() > most.working {
                    most.what = working.iter().map(|what| what.as_str()).collect::<Vec<_>>().join("; ");
                }
                most.working = most.working.max(working.len());
                most.open = most.open.max(now.len());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            most
        });
        Self { stop, most }
    }

    async fn stop(self) -> Most {
        self.stop.store(true, Ordering::Relaxed);
        self.most.await.unwrap()
    }
}

const OF_POSTGRESQL: &str = "SELECT CASE state WHEN 'idle' THEN 'rests' ELSE state END || ': ' || left(query, 60) \
                             FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                             AND backend_type = 'client backend'";
const OF_MYSQL: &str = "SELECT CONCAT(IF(command IN ('Query', 'Execute'), command, 'rests'), ': ', \
                        COALESCE(LEFT(info, 60), '')) FROM information_schema.processlist WHERE db = DATABASE() \
                        AND id <> CONNECTION_ID()";

/// Runs a job of 24 tables, in six groups of which two read at once with two connections each.
async fn most_connections(connector: &str, source: Database, sql: &'static str, more: Value) -> Most {
    for table in 0..24 {
        let rows: Vec<_> = (0..1500).map(|n| format!("({n}, 'a value of some length, number {n}')")).collect();
        source.execute(&format!("CREATE TABLE t{table} (id int PRIMARY KEY, v varchar(60))")).await;
        source.execute(&format!("INSERT INTO t{table} VALUES {}", rows.join(","))).await;
    }
    let before = source.query(sql).await.len();
    let folder = tempfile::tempdir().unwrap();
    let mut from = json!({"url": source.url()});
    for (key, value) in more.as_object().into_iter().flatten() {
        from[key] = value.clone();
    }
    let group = json!({"strategy": "static", "tablesPerGroup": 4, "maxSourceConnections": 2, "concurrentGroups": 2});
    // Slow enough for somebody to look at.
    let job = database_job(
        (connector, from),
        ("files", json!({"path": folder.path()})),
        json!({"group": group, "setting": {"speed": {"record": 12_000}}}),
    );
    let watch = Watch::start(&source, sql);
    assert_eq!(run_ok(&job).await.rows_written, 36_000);
    let most = watch.stop().await;
    Most { open: most.open - before, ..most }
}

/// Those that rest until they are used again do not grow with the number of tables.
const OPEN: usize = 4 * 4;

#[tokio::test]
async fn postgresql_never_has_more_connections_than_the_job_says() {
    let source = servers::postgresql().await.fresh_database("pressed").await;
    let most = most_connections("postgresql", source, OF_POSTGRESQL, json!({})).await;
    // Four, and one that holds the snapshot.
    assert!((1..=5).contains(&most.working) && most.open <= OPEN, "{most:#?}");
}

#[tokio::test]
async fn mariadb_never_has_more_connections_than_the_job_says() {
    for consistency in ["auto", "snapshot", "none"] {
        let source = servers::mariadb().await.fresh_database(&format!("pressed_{consistency}")).await;
        let most = most_connections("mysql", source, OF_MYSQL, json!({"consistency": consistency})).await;
        assert!((1..=4).contains(&most.working) && most.open <= OPEN, "{consistency}: {most:#?}");
    }
}
