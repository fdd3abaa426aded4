//! All tables of a run at one moment, or none of them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use weir::{Event, Observer, RunOptions, Status, TableReport, TableState, TableStops};
use weir_plugins_test::proxy::Proxy;
use weir_plugins_test::servers::{self, Database};

use super::{database_job, rows, run};

/// Where tables are published in one transaction: the connector, a database, and the namespace of its tables.
async fn targets(name: &str) -> Vec<(&'static str, Database, String)> {
    let mut targets =
        vec![("postgresql", servers::postgresql().await.fresh_database(&format!("{name}too")).await, "public".into())];
    for server in [servers::mariadb().await, servers::mysql().await] {
        let database = server.fresh_database(name).await;
        let namespace = database.name().to_owned();
        targets.push(("mysql", database, namespace));
    }
    if let Some(server) = servers::sqlserver() {
        let database = server.fresh_database(name).await;
        // Else a query may wait between two tables until they are new. A server that does not know the words needs none.
        let sql = "ALTER DATABASE CURRENT SET READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE";
        let _ = database.try_execute(sql).await;
        targets.push(("sqlserver", database, "dbo".into()));
    }
    targets
}

fn to(source: &Database, connector: &str, parameter: Value) -> Value {
    // SQLite has no schemas.
    let naming = if connector == "sqlite" { json!({}) } else { json!({"schema": "{TARGET_SCHEMA}"}) };
    let more = json!({"publish": "all", "naming": naming});
    database_job(("postgresql", json!({"url": source.url()})), (connector, parameter), more)
}

#[tokio::test]
async fn published_together_or_not_at_all() {
    let source = servers::postgresql().await.fresh_database("all").await;
    for table in ["a", "b", "c", "d"] {
        source.execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY, v text); INSERT INTO {table} SELECT g, 'v' || g FROM generate_series(1, 200) g")).await;
    }
    let ids: Vec<String> = (1..=200).map(|id| format!("({id})")).collect();
    for (connector, target, namespace) in targets("all").await {
        let job = to(&source, connector, json!({"url": target.url()}));
        let nothing = async |why: &str| {
            let report = run(&job, RunOptions::default()).await;
            let what = format!("{connector}, {why}: {:#?}", report.tables);
            assert_eq!((report.status, report.rows_written), (Status::Failed, 0), "{what}");
            let error = |name: &str| {
                let named = |table: &&TableReport| table.name.as_ref().and_then(|n| n.rsplit('.').next()) == Some(name);
                let error = report.tables.iter().find(named).and_then(|table| table.error.as_ref());
                error.map_or("", |error| &error.message).to_owned()
            };
            let others = error("a").contains("publish is `all`") && !error("d").contains("publish is `all`");
            assert!(others && !error("d").is_empty(), "{what}");
            let made = format!(
                "SELECT count(*) FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME IN ('a', 'b', 'c') \
                 AND TABLE_SCHEMA = '{namespace}'"
            );
            assert_eq!(target.value(&made).await, "0", "{what}");
        };
        target.execute("CREATE TABLE d (id int PRIMARY KEY, v varchar(20) CHECK (v <> 'v7'))").await;
        nothing("refused while it is moved").await;
        let refers = "DROP TABLE d; CREATE TABLE z (id int PRIMARY KEY); \
                      CREATE TABLE d (id int PRIMARY KEY, v varchar(20), FOREIGN KEY (id) REFERENCES z (id))";
        target.execute(refers).await;
        nothing("refused while it is published").await;
        target.execute(&format!("INSERT INTO z VALUES {}", ids.join(", "))).await;
        let report = run(&job, RunOptions::default()).await;
        assert_eq!((report.status, report.rows_written), (Status::Succeeded, 800), "{connector}: {:#?}", report.tables);
        for name in ["a", "b", "c", "d"] {
            assert_eq!(rows(&source, name).await, rows(&target, name).await, "{connector}");
        }
    }
}

/// Who looks at three tables all the time.
#[derive(Clone)]
enum Eyes {
    Server(Database),
    File(PathBuf),
}

impl Eyes {
    /// The largest values of all three, and the least one of one of them, in one statement.
    async fn look(&self) -> Vec<Vec<Option<String>>> {
        let query =
            "SELECT (SELECT max(v) FROM a), (SELECT max(v) FROM b), (SELECT max(v) FROM c), (SELECT min(v) FROM b)";
        match self {
            Self::Server(database) => database.query(query).await,
            Self::File(file) => {
                let said = tokio::process::Command::new("sqlite3").arg(file).args([".timeout 5000", query]).output();
                let said = String::from_utf8(said.await.unwrap().stdout).unwrap();
                vec![said.trim().split('|').map(|v| Some(v.to_owned())).collect()]
            }
        }
    }
}

/// All tables get the same new version; whoever looks sees one version only.
#[tokio::test]
async fn whoever_looks_sees_all_tables_as_they_were_or_all_as_they_are() {
    let source = servers::postgresql().await.fresh_database("moment").await;
    for table in ["a", "b", "c"] {
        source.execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY, v int); INSERT INTO {table} SELECT g, 0 FROM generate_series(1, 5000) g")).await;
    }
    // One that others refer to is not written like the others.
    source.execute("ALTER TABLE b ADD FOREIGN KEY (id) REFERENCES a").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.db");
    let mut jobs = vec![(to(&source, "sqlite", json!({"path": file})), Eyes::File(file))];
    for (connector, target, _) in targets("moment").await {
        jobs.push((to(&source, connector, json!({"url": target.url()})), Eyes::Server(target)));
    }
    let done = Arc::new(AtomicBool::new(false));
    let mut looking = Vec::new();
    for (job, eyes) in &jobs {
        let report = run(job, RunOptions::default()).await;
        assert_eq!(report.status, Status::Succeeded, "{job:#}: {:#?}", report.tables);
        let (eyes, over) = (eyes.clone(), done.clone());
        looking.push(tokio::spawn(async move {
            let mut seen = BTreeSet::new();
            while !over.load(Relaxed) {
                seen.extend(eyes.look().await);
            }
            seen
        }));
    }
    for version in 1..=3 {
        source
            .execute(&format!("UPDATE a SET v = {version}; UPDATE b SET v = {version}; UPDATE c SET v = {version}"))
            .await;
        for (job, _) in &jobs {
            let report = run(job, RunOptions::default()).await;
            assert_eq!((report.status, report.rows_written), (Status::Succeeded, 15_000), "{:#?}", report.tables);
        }
    }
    done.store(true, Relaxed);
    for ((job, _), looking) in jobs.iter().zip(looking) {
        let seen = looking.await.unwrap();
        assert!(seen.len() > 1, "{job:#}: {seen:?}");
        for row in seen {
            assert!(row.iter().all(|v| v == &row[0] && v.is_some()), "{job:#}: {row:?}");
        }
    }
}

/// Foreign keys that the target has of its own hold all the time. Those of the source a run would drop and make again.
#[tokio::test]
async fn tables_that_refer_to_each_other_at_the_target_lose_and_get_rows() {
    let source = servers::postgresql().await.fresh_database("refer").await;
    let a_to_c = "CREATE TABLE c (id int PRIMARY KEY, v varchar(20));
                  CREATE TABLE b (id int PRIMARY KEY, c int, v varchar(20));
                  CREATE TABLE a (id int PRIMARY KEY, b int, v varchar(20));";
    let rows_of_all = "INSERT INTO c SELECT g, 'old' FROM generate_series(1, 40) g;
                       INSERT INTO b SELECT id, id, v FROM c; INSERT INTO a SELECT id, id, v FROM c";
    source.execute(&format!("{a_to_c}{rows_of_all}")).await;
    let keys = "ALTER TABLE b ADD CONSTRAINT b_c FOREIGN KEY (c) REFERENCES c (id);
                ALTER TABLE a ADD CONSTRAINT a_b FOREIGN KEY (b) REFERENCES b (id);";
    let mut all = Vec::new();
    for (connector, target, _) in targets("refer").await {
        target.execute(&format!("{a_to_c}{keys}")).await;
        all.push((to(&source, connector, json!({"url": target.url()})), target));
    }
    let changes = [
        ("rows come where none are", "overwrite", ""),
        (
            "a chain goes, one comes, one changes its keys, and a row that stays moves away from one that goes",
            "overwrite",
            "DELETE FROM a WHERE id = 2; DELETE FROM b WHERE id = 2; DELETE FROM c WHERE id = 2;
             INSERT INTO c VALUES (50, 'new'); INSERT INTO b VALUES (50, 50, 'new'); INSERT INTO a VALUES (50, 50, 'new');
             UPDATE c SET id = 53 WHERE id = 3; UPDATE b SET id = 53, c = 53 WHERE id = 3; UPDATE a SET b = 53 WHERE id = 3;
             DELETE FROM c WHERE id = 1; UPDATE b SET c = 50, v = 'moved' WHERE id = 1; UPDATE a SET id = 54 WHERE id = 4",
        ),
        (
            "a chain comes, and a row moves to it",
            "upsert",
            "INSERT INTO c VALUES (60, 'new'); INSERT INTO b VALUES (60, 60, 'new'); INSERT INTO a VALUES (60, 60, 'new');
             UPDATE a SET b = 60 WHERE id = 9",
        ),
    ];
    for (what, mode, change) in changes {
        source.execute(change).await;
        for (job, target) in &all {
            let mut job = job.clone();
            job["write"] = json!({"keyed": mode});
            let report = run(&job, RunOptions::default()).await;
            assert_eq!(report.status, Status::Succeeded, "{what}: {job:#}: {:#?}", report.tables);
            for name in ["a", "b", "c"] {
                assert_eq!(rows(&source, name).await, rows(target, name).await, "{what}: {job:#}");
            }
        }
    }
    for (job, target) in &all {
        let refused = target.try_execute("DELETE FROM c WHERE id = 60").await;
        assert!(refused.is_err(), "the keys are there no more: {job:#}");
    }
}

/// The question is asked before a row is moved, of a target that is known to be there.
#[tokio::test]
async fn whether_it_can_be_done_is_asked_again_when_the_connection_breaks() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("asked").await, server.fresh_database("askedtoo").await);
    for table in ["a", "b"] {
        source
            .execute(&format!(
                "CREATE TABLE {table} (id int PRIMARY KEY); INSERT INTO {table} SELECT generate_series(1, 200)"
            ))
            .await;
    }
    let proxy = Proxy::start(target.port()).await.unwrap();
    let mut job = to(&source, "postgresql", json!({"url": proxy.url(&target.url())}));
    let asking = "asking whether all tables can be published together is tried again";
    for (times, status) in [(0, Status::Failed), (2, Status::Succeeded)] {
        proxy.cut_at("max_locks_per_transaction");
        job["setting"] = json!({"retry": {"times": times, "interval": 0.1}});
        let report = run(&job, RunOptions::default()).await;
        assert_eq!(report.status, status, "{:#?}", report.error);
        let again = report.warnings.iter().any(|warning| warning.starts_with(asking));
        assert_eq!(again, times > 0, "{:#?}", report.warnings);
    }
    for table in ["a", "b"] {
        assert_eq!(rows(&source, table).await, rows(&target, table).await);
    }
}

/// Stops a table when it is moved and waits for the others.
#[derive(Default)]
struct StopsWaiting {
    tables: TableStops,
    stopped: Mutex<bool>,
}

impl Observer for StopsWaiting {
    fn event(&self, event: &Event<'_>) {
        let Event::Progress { tables, .. } = event else { return };
        let waits = |table: &weir::TableProgress| table.source.ends_with('b') && table.state == TableState::Moved;
        let mut stopped = self.stopped.lock().unwrap();
        if !*stopped && tables.iter().any(waits) {
            *stopped = self.tables.stop("b");
        }
    }
}

/// In one transaction or one after the other, it is all of them or none.
#[tokio::test]
async fn a_table_that_is_stopped_while_it_waits_keeps_the_others_back() {
    let source = servers::postgresql().await.fresh_database("stopall").await;
    for (table, rows) in [("a", 200), ("b", 200), ("c", 12_000)] {
        source.execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY, v text); INSERT INTO {table} SELECT g, 'v' || g FROM generate_series(1, {rows}) g")).await;
    }
    let target = servers::postgresql().await.fresh_database("stopalltoo").await;
    let folder = tempfile::tempdir().unwrap();
    let (lake, files) = (folder.path().join("lake"), folder.path().join("files"));
    for (connector, parameter) in [
        ("postgresql", json!({"url": target.url()})),
        ("lakehouse", json!({"path": lake})),
        ("files", json!({"path": files})),
    ] {
        let mut job = to(&source, connector, parameter);
        job["setting"] = json!({"speed": {"record": 4_000}});
        let observer = Arc::new(StopsWaiting::default());
        let options =
            RunOptions { tables: observer.tables.clone(), observer: observer.clone(), ..RunOptions::default() };
        let report = run(&job, options).await;
        assert!(*observer.stopped.lock().unwrap(), "{connector}: it came too late: {:#?}", report.tables);
        assert_eq!((report.status, report.rows_written), (Status::Failed, 0), "{connector}: {:#?}", report.tables);
        for table in &report.tables {
            let stopped = table.name.as_ref().unwrap().ends_with('b');
            assert_eq!(table.status == Status::Stopped, stopped, "{connector}: {table:#?}");
            assert!(stopped || table.error.as_ref().unwrap().message.contains("publish is `all`"), "{table:#?}");
        }
    }
    assert_eq!(target.value("SELECT count(*) FROM pg_class WHERE relname IN ('a', 'b', 'c')").await, "0");
    for table in ["a", "b", "c"] {
        assert!(!lake.join(table).join("_delta_log").exists(), "{table}");
        let left = std::fs::read_dir(files.join(table)).map_or(0, |all| {
            all.filter(|one| one.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "parquet"))
                .count()
        });
        assert_eq!(left, 0, "{table}");
    }
}

/// Stops the run when the first table is on record.
#[derive(Default)]
struct StopsAtFirst(tokio_util::sync::CancellationToken);

impl Observer for StopsAtFirst {
    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::Committed { .. }) {
            self.0.cancel();
        }
    }
}

/// A stop that comes when all are published leaves none of them unrecorded.
#[tokio::test]
async fn what_was_published_before_a_stop_is_on_record() {
    let source = servers::postgresql().await.fresh_database("stoplate").await;
    let target = servers::postgresql().await.fresh_database("stoplatetoo").await;
    for table in ["a", "b", "c"] {
        source.execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY); INSERT INTO {table} VALUES (1)")).await;
    }
    let mut job = to(&source, "postgresql", json!({"url": target.url()}));
    // One table after the other.
    job["setting"] = json!({"speed": {"channel": 1}});
    let observer = Arc::new(StopsAtFirst::default());
    let options = RunOptions { cancel: observer.0.clone(), observer: observer.clone(), ..RunOptions::default() };
    let report = run(&job, options).await;
    assert!(observer.0.is_cancelled());
    assert!(report.tables.iter().all(|table| table.status == Status::Succeeded), "{:#?}", report.tables);
    assert_eq!(report.tables.len(), 3);
}
