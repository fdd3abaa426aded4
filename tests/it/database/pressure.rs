//! What a whole-database job asks of its source: bytes a second, and connections.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_plugins_test::servers::{self, Database, Family};

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

/// What there was at once at most.
#[derive(Debug, Default)]
pub(super) struct Most {
    working: usize,
    pub(super) open: usize,
    /// What those at work were at.
    what: String,
    /// All that were open.
    all: String,
}

/// How long a server may list a session that has said goodbye.
const GOODBYE: Duration = Duration::from_millis(400);

/// Looks at the connections to a database until it is told to stop.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    most: tokio::task::JoinHandle<Most>,
}

impl Watch {
    pub(super) fn start(database: &Database) -> Self {
        let (database, stop) = (database.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let most = tokio::spawn(async move {
            let (mut most, mut before) = (Most::default(), VecDeque::<(Instant, HashSet<String>)>::new());
            while !stopped.load(Ordering::Relaxed) {
                let now = sessions(&database).await;
                let working: Vec<_> = now.iter().map(|row| &row[1]).filter(|what| !what.starts_with("rests")).collect();
                if working.len() > most.working {
                    most.working = working.len();
                    most.what = working.iter().map(|what| what.as_str()).collect::<Vec<_>>().join("; ");
                }
                // One that has said goodbye is listed for a moment longer: what counts are those that were there all the
                // while.
                let open = |row: &&[String; 2]| before.iter().all(|(_, ids)| ids.contains(&row[0]));
                let open: Vec<_> = now.iter().filter(open).collect();
                let is_whole = before.front().is_some_and(|(at, _)| at.elapsed() >= GOODBYE);
                if is_whole && open.len() > most.open {
                    most.open = open.len();
                    most.all = open.iter().map(|row| row.join(" ")).collect::<Vec<_>>().join("; ");
                }
                let ids = now.into_iter().map(|[id, _]| id).collect();
                before.push_back((Instant::now(), ids));
                while before.get(1).is_some_and(|(at, _)| at.elapsed() >= GOODBYE) {
                    before.pop_front();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            most
        });
        Self { stop, most }
    }

    pub(super) async fn stop(self) -> Most {
        self.stop.store(true, Ordering::Relaxed);
        self.most.await.unwrap()
    }
}

/// The sessions with a database: the number of each, and whether it rests or what it is at.
async fn sessions(database: &Database) -> Vec<[String; 2]> {
    if database.server().family() != Family::PostgreSql {
        let all = database.sessions().await.into_iter().map(|session| {
            let works = ["Query", "Execute"].contains(&session.command.as_str());
            let command = if works { &session.command } else { "rests" };
            let said: String = session.statement.chars().take(60).collect();
            [session.id, format!("{command}: {said}")]
        });
        return all.collect();
    }
    let sql = "SELECT pid::text, CASE state WHEN 'idle' THEN 'rests' ELSE state END || ': ' || left(query, 60) \
               FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
               AND backend_type = 'client backend'";
    let text = |row: &Vec<Option<String>>, at: usize| row[at].clone().unwrap_or_default();
    database.query(sql).await.iter().map(|row| [text(row, 0), text(row, 1)]).collect()
}

/// Runs a job of 24 tables and 4 views, in seven groups of which two read at once with two connections each, and compares
/// what it wrote with its source.
async fn most_connections(connector: &str, source: Database, more: Value) -> Most {
    // What the servers have to be asked about besides: a type of the user's own, and how to cut tables.
    let own = if connector == "postgresql" { ", m mood" } else { "" };
    if connector == "postgresql" {
        source.execute("CREATE TYPE mood AS ENUM ('glad', 'sad')").await;
    }
    for table in 0..24 {
        let rows: Vec<_> = (0..1500).map(|n| format!("({n}, 'a value of some length, number {n}')")).collect();
        source.execute(&format!("CREATE TABLE t{table} (id int PRIMARY KEY, v varchar(60){own})")).await;
        source.execute(&format!("INSERT INTO t{table} (id, v) VALUES {}", rows.join(","))).await;
    }
    for view in 0..4 {
        source.execute(&format!("CREATE VIEW seen{view} AS SELECT id, v{own} FROM t{view}")).await;
    }
    let before = sessions(&source).await.len();
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
        json!({
            "objects": {"views": true},
            "group": group,
            "tables": {"*": {"splitPk": "id"}},
            "setting": {"speed": {"record": 12_000}, "verify": true},
        }),
    );
    let watch = Watch::start(&source);
    let report = run_ok(&job).await;
    assert_eq!(report.rows_written, 42_000);
    let moments: HashSet<_> = report.tables.iter().map(|table| &table.snapshot).collect();
    assert_eq!(moments.len(), 1, "views too: {moments:?}");
    let most = watch.stop().await;
    Most { open: most.open.saturating_sub(before), ..most }
}

/// As many as may read at once; those that rest are among them.
const OPEN: usize = 4;

#[tokio::test]
async fn postgresql_never_has_more_connections_than_the_job_says() {
    let source = servers::postgresql().await.fresh_database("pressed").await;
    let most = most_connections("postgresql", source, json!({})).await;
    // One more holds the snapshot.
    assert!((1..=5).contains(&most.working) && most.open <= OPEN + 1, "{most:#?}");
}

#[tokio::test]
async fn mariadb_never_has_more_connections_than_the_job_says() {
    for consistency in ["auto", "snapshot", "none"] {
        let source = servers::mariadb().await.fresh_database(&format!("pressed_{consistency}")).await;
        let most = most_connections("mysql", source, json!({"consistency": consistency})).await;
        // One more asks, where those that read hold the snapshot.
        let open = if consistency == "none" { OPEN } else { OPEN + 1 };
        assert!((1..=4).contains(&most.working) && most.open <= open, "{consistency}: {most:#?}");
    }
}

#[tokio::test]
async fn a_group_has_its_own_connections_and_no_other_groups() {
    let source = servers::postgresql().await.fresh_database("pressedalone").await;
    for table in 0..6 {
        let rows = "SELECT n, 'a value of some length' FROM generate_series(1, 1500) n";
        source
            .execute(&format!("CREATE TABLE t{table} (id int PRIMARY KEY, v text); INSERT INTO t{table} {rows}"))
            .await;
    }
    let folder = tempfile::tempdir().unwrap();
    // Of two groups one runs at a time: what the other might have is not lent.
    let group = json!({"strategy": "static", "tablesPerGroup": 3, "maxSourceConnections": 2, "concurrentGroups": 1});
    let more = json!({"group": group, "setting": {"speed": {"record": 4000}}});
    let to = ("files", json!({"path": folder.path()}));
    let job = database_job(("postgresql", json!({"url": source.url()})), to, more);
    let watch = Watch::start(&source);
    assert_eq!(run_ok(&job).await.rows_written, 9000);
    let most = watch.stop().await;
    // One more holds the snapshot.
    assert!((1..=3).contains(&most.working) && most.open <= 3, "{most:#?}");
}
