//! All tables of a job show one moment, and plan, check and report say how.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir::{Only, RunOptions, Status};
use weir_plugins_test::servers::{self, Database, Family, OwnServer, Server};

use super::{database_job, run, run_ok, table};
use crate::support::load;

async fn two_tables(name: &str) -> Database {
    two_tables_at(&servers::mariadb().await, name).await
}

async fn two_tables_at(server: &Arc<Server>, name: &str) -> Database {
    let source = server.fresh_database(name).await;
    for table in ["a", "b"] {
        let rows: Vec<_> = (0..400).map(|n| format!("({n}, 0)")).collect();
        source.execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY, v int)")).await;
        source.execute(&format!("INSERT INTO {table} VALUES {}", rows.join(","))).await;
    }
    source
}

/// A user who may not lock the whole server, and what the job says of the source.
pub(super) async fn limited(source: &Database) -> (String, Value) {
    let user = format!("locks_{}", source.name());
    let place = source.quote(source.name());
    source
        .execute(&format!(
            "CREATE USER '{user}'@'%' IDENTIFIED BY 'poor'; GRANT SELECT, LOCK TABLES ON {place}.* TO '{user}'@'%'"
        ))
        .await;
    let url = source.url_with(&user, "poor");
    (user, json!({"url": url, "consistency": "snapshot"}))
}

/// Changes both tables together until it is told to stop.
struct Writer {
    stop: Arc<AtomicBool>,
    work: tokio::task::JoinHandle<()>,
}

impl Writer {
    fn start(source: &Database) -> Self {
        let (source, stop) = (source.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let work = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let both = "UPDATE a SET v = v + 1 WHERE id = 1; UPDATE b SET v = v + 1 WHERE id = 1";
                source.execute(&format!("START TRANSACTION; {both}; COMMIT")).await;
            }
        });
        Self { stop, work }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.work.await.unwrap();
    }
}

/// Both tables have arrived as they were at one moment.
async fn one_moment(target: &Database) {
    let of = |table: &str| format!("SELECT v FROM {table} WHERE id = 1");
    assert_eq!(target.value(&of("a")).await, target.value(&of("b")).await);
    for table in ["a", "b"] {
        assert_eq!(target.value(&format!("SELECT count(*) FROM {table}")).await, "400");
    }
}

#[tokio::test]
async fn tables_that_are_locked_one_by_one_are_locked_together() {
    let source = two_tables("locksall").await;
    let target = servers::postgresql().await.fresh_database("lockedall").await;
    let (user, from) = limited(&source).await;
    let writer = Writer::start(&source);
    // One table after the other, so that b has its turn long after a.
    let more = json!({
        "naming": {"schema": "{TARGET_SCHEMA}"},
        "group": {"strategy": "static", "tablesPerGroup": 2, "maxSourceConnections": 1, "concurrentGroups": 1},
        "setting": {"speed": {"record": 400}},
    });
    let job = database_job(("mysql", from), ("postgresql", json!({"url": target.url()})), more);
    let report = run_ok(&job).await;
    writer.stop().await;
    for name in ["a", "b"] {
        let said = table(&report, name).snapshot.clone().unwrap();
        assert_eq!(said, "one snapshot in one connection, opened under LOCK TABLES … READ");
    }
    one_moment(&target).await;
    source.execute(&format!("DROP USER '{user}'@'%'")).await;
}

/// FLUSH TABLES WITH READ LOCK waits for whoever holds a table, also one that is none of the job's.
#[tokio::test]
async fn who_waits_in_vain_for_the_whole_server_locks_the_tables_of_the_job() {
    for (family, name) in [(Family::MariaDb, "flushing"), (Family::MySql, "flushing9")] {
        // While somebody waits for the whole server nobody writes there.
        let own = tokio::task::spawn_blocking(move || OwnServer::start(family)).await.unwrap().unwrap();
        let source = two_tables_at(own.server(), name).await;
        source.execute("CREATE TABLE held (id int PRIMARY KEY)").await;
        let target = servers::postgresql().await.fresh_database(name).await;
        let writer = Writer::start(&source);
        let holder = tokio::spawn({
            let source = source.clone();
            async move { source.execute("LOCK TABLES held WRITE; SELECT SLEEP(15); UNLOCK TABLES").await }
        });
        source.until_runs(|statement| statement == "SELECT SLEEP(15)").await;
        let session = ["SET SESSION lock_wait_timeout = 2"];
        let from = json!({"url": source.url(), "consistency": "snapshot", "session": session});
        let more = json!({
            "objects": {"exclude": "held"},
            "naming": {"schema": "{TARGET_SCHEMA}"},
            "group": {"strategy": "static", "tablesPerGroup": 2, "maxSourceConnections": 2, "concurrentGroups": 1},
        });
        let job = database_job(("mysql", from), ("postgresql", json!({"url": target.url()})), more);
        let begun = Instant::now();
        let report = run_ok(&job).await;
        let took = begun.elapsed();
        assert!(!holder.is_finished(), "{name}: somebody held the table all the while");
        assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(12), "{name}: {took:?}");
        writer.stop().await;
        for name in ["a", "b"] {
            let said = table(&report, name).snapshot.clone().unwrap();
            assert_eq!(
                said,
                "one snapshot in 2 connections, opened under LOCK TABLES … READ, for FLUSH TABLES WITH READ LOCK waited \
                 in vain"
            );
        }
        one_moment(&target).await;
        holder.await.unwrap();
        tokio::task::spawn_blocking(move || drop(own)).await.unwrap();
    }
}

#[tokio::test]
async fn two_sources_that_are_one_server_have_a_snapshot_each() {
    let source = two_tables("twice").await;
    let folder = tempfile::tempdir().unwrap();
    let (user, from) = limited(&source).await;
    let naming = json!({"naming": {"table": "{SOURCE_DATASOURCE}_{SOURCE_TABLE}"}});
    let mut job = database_job(("mysql", from), ("files", json!({"path": folder.path()})), naming);
    job["source"] = json!([job["source"], job["source"]]);
    // Of either source another table.
    let only = Only::Targets(["mysql_a", "mysql2_b"].map(|name| format!("{}.{name}", source.name())).into());
    let report = run(&job, RunOptions { only, ..RunOptions::default() }).await;
    assert_eq!((report.status, report.tables.len()), (Status::Succeeded, 2), "{:#?}", report.error);
    for table in &report.tables {
        let said = table.snapshot.as_deref().unwrap();
        assert!(said.ends_with("opened under LOCK TABLES … READ"), "{said}");
    }
    source.execute(&format!("DROP USER '{user}'@'%'")).await;
}

#[tokio::test]
async fn plan_and_check_say_how_one_moment_comes_about() {
    let source = two_tables("saysso").await;
    let folder = tempfile::tempdir().unwrap();
    let (user, locks) = limited(&source).await;
    let other = servers::postgresql().await.fresh_database("saysso").await;
    other.execute("CREATE TABLE a (id int PRIMARY KEY)").await;
    let of = |more: Value| {
        let mut from = json!({"url": source.url()});
        from["consistency"] = more;
        ("mysql", from)
    };
    for (from, planned, checked) in [
        (of(json!("snapshot")), "one snapshot in 8 connections, opened under FLUSH", "by FLUSH TABLES"),
        (("mysql", locks), "one snapshot in 8 connections, opened under LOCK TABLES", "by LOCK TABLES"),
        (of(json!("auto")), "8 connections", "opened together"),
        (of(json!("none")), "none: each split", "none, as the job says"),
        (("postgresql", json!({"url": other.url()})), "exported snapshot", "exported snapshot"),
    ] {
        let job = load(&database_job(from, ("files", json!({"path": folder.path()})), json!({})));
        let plan = weir::plan(&job, &RunOptions::default()).await.unwrap();
        let moments = &plan.database.as_ref().unwrap().moments;
        assert!(moments.len() == 1 && moments[0].snapshot.contains(planned), "{planned}: {moments:?}");
        assert!(plan.to_string().contains(&format!("snapshot   {}: ", moments[0].source)), "{plan}");
        let ends = weir::check(&job, None, RunOptions::default().cancel).await.unwrap();
        let said: Vec<_> =
            ends.iter().flat_map(|end| &end.checks).filter(|check| check.what == "one snapshot").collect();
        assert!(matches!(&said[..], [check] if check.detail.contains(checked)), "{checked}: {said:?}");
    }
    source.execute(&format!("DROP USER '{user}'@'%'")).await;
}
