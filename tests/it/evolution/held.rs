//! A stop while somebody holds what the run needs of MariaDB and MySQL: it waits for nobody, and a resume finds its way.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir::{Report, RunOptions, Start, Status};
use weir_plugins_test::Stopwatch;
use weir_plugins_test::servers::{self, Database, Server};

use super::{Mirror, run, until};

/// The same on both servers.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod mariadb {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::servers::mariadb().await).await;
            })*
        }
        mod mysql9 {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::servers::mysql().await).await;
            })*
        }
    };
}

on_both!(a_held_parent_keeps_no_stop_waiting, a_held_table_keeps_no_stop_waiting);

const KEYS: &str = "SELECT CONCAT(CONSTRAINT_NAME, ' ', UPDATE_RULE, ' ', DELETE_RULE) \
                    FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = DATABASE()";
const STAGING: &str = "SELECT COALESCE(MIN(TABLE_NAME), '0') FROM information_schema.TABLES \
                       WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE 'weir%' AND TABLE_NAME <> 'weir_commits'";
/// What somebody runs who holds something.
const HOLDS: &str = "SELECT SLEEP(60)";

/// A parent, its child, and a large table of nobody; a mirror of them, and the key that the target's owner has made.
async fn family(server: &Arc<Server>, name: &str) -> (Database, Database, Mirror) {
    let source = servers::postgresql().await.fresh_database(name).await;
    source
        .execute(
            "CREATE TABLE parent (id int PRIMARY KEY, v varchar(10)); \
             CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent); \
             CREATE TABLE lone (id int PRIMARY KEY); \
             INSERT INTO parent SELECT g, 'v' FROM generate_series(1, 50) g; \
             INSERT INTO child SELECT g, g FROM generate_series(1, 50) g; \
             INSERT INTO lone SELECT generate_series(1, 3000)",
        )
        .await;
    let target = server.fresh_database(name).await;
    let (from, to) = (json!({"url": source.url()}), json!({"url": target.url()}));
    let mirror = Mirror::new(name, ("postgresql", from), ("mysql", to), json!({"naming": {"schema": target.name()}}));
    assert_eq!(mirror.run().await.status, Status::Succeeded);
    target
        .execute(
            "ALTER TABLE child DROP FOREIGN KEY child_parent_fkey, ADD CONSTRAINT `our own` FOREIGN KEY (parent) \
             REFERENCES parent (id) ON UPDATE CASCADE ON DELETE SET NULL",
        )
        .await;
    (source, target, mirror)
}

/// Somebody who keeps what a statement has locked.
async fn hold(target: &Database, statement: &str) -> JoinHandle<()> {
    let (holder, sql) = (target.clone(), format!("{statement}; {HOLDS}"));
    let holding = tokio::spawn(async move { drop(holder.try_execute(&sql).await) });
    target.until_runs(|statement| statement == HOLDS).await;
    holding
}

async fn let_go(target: &Database, holding: JoinHandle<()>) {
    for session in target.sessions().await.into_iter().filter(|session| session.statement == HOLDS) {
        target.execute(&format!("KILL {}", session.id)).await;
    }
    holding.await.unwrap();
}

/// A run that is under way.
struct Running {
    run: JoinHandle<Report>,
    stop: CancellationToken,
}

impl Running {
    fn start(mirror: &Mirror) -> Self {
        let options = RunOptions { start: Start::Fresh, ..mirror.options() };
        let (job, stop) = (mirror.job.clone(), options.cancel.clone());
        Self { run: tokio::spawn(async move { run(&job, options).await }), stop }
    }

    /// Stops it, in time; nothing of it is left at the server.
    async fn stop(self, target: &Database) -> Report {
        let stopped = Stopwatch::start();
        self.stop.cancel();
        let report = self.run.await.unwrap();
        let (took, in_time) = (stopped.elapsed(), stopped.is_within(Duration::from_secs(2)));
        assert_eq!(report.status, Status::Stopped, "{:#?}", report.error);
        assert!(in_time, "{took:?}");
        // One that has said goodbye may be listed for a moment longer.
        let gone = target.until_sessions(|all| all.iter().all(|session| session.statement == HOLDS));
        tokio::time::timeout(Duration::from_secs(5), gone).await.expect("sessions stay");
        report
    }
}

/// The next run goes on, and leaves all as it should be.
async fn goes_on(mirror: &mut Mirror, source: &Database, target: &Database, stopped: &Report) {
    mirror.job["setting"] = json!({});
    let report = run(&mirror.job, RunOptions { start: Start::Resume, ..mirror.options() }).await;
    assert_eq!((report.status, &report.run_id), (Status::Succeeded, &stopped.run_id), "{report:#?}");
    for table in ["parent", "child", "lone"] {
        assert_eq!(super::rows(source, table).await, super::rows(target, table).await, "{table}");
    }
    assert_eq!(target.query(KEYS).await, [[Some("our own CASCADE SET NULL".to_owned())]]);
    assert_eq!(target.value(STAGING).await, "0");
}

async fn a_held_parent_keeps_no_stop_waiting(server: Arc<Server>) {
    for parent_held in [false, true] {
        let (source, target, mut mirror) = family(&server, "heldparent").await;
        let keys = target.query(KEYS).await;
        source.execute("UPDATE parent SET v = 'new'").await;
        mirror.job["setting"] = json!({"speed": {"record": 300}});
        let running = Running::start(&mirror);
        // Its keys stay away until the last table is moved, whose staging cannot be taken back now.
        until(&target, "SELECT COUNT(*) FROM parent WHERE v = 'new'").await;
        until(&target, "SELECT COUNT(*) > 0 FROM weir_commits").await;
        assert_eq!(target.query(KEYS).await.len(), 0);
        let staging = "SELECT COALESCE(MIN(t.TABLE_NAME), '0') FROM information_schema.TABLES t \
                       WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE 'weir%' AND TABLE_NAME <> 'weir_commits' \
                       AND NOT EXISTS (SELECT 1 FROM information_schema.COLUMNS c WHERE c.TABLE_SCHEMA = DATABASE() \
                       AND c.TABLE_NAME = t.TABLE_NAME AND c.COLUMN_NAME IN ('v', 'parent'))";
        until(&target, staging).await;
        let staging = target.value(staging).await;
        let others = if parent_held { "; UPDATE parent SET v = 'held'" } else { "" };
        let holding = hold(&target, &format!("START TRANSACTION; SELECT COUNT(*) FROM `{staging}`{others}")).await;
        let report = running.stop(&target).await;
        let left = report.warnings.iter().any(|warning| warning.contains("left behind: no answer in time"));
        assert!(left, "{:#?}", report.warnings);
        let incomplete: Vec<_> = report.warnings.iter().filter(|warning| warning.contains("not complete")).collect();
        match parent_held {
            false => assert_eq!((target.query(KEYS).await, incomplete.len()), (keys, 0), "{:#?}", report.warnings),
            true => {
                let said = incomplete.len() == 1 && incomplete[0].contains("the next run of the job tries again");
                assert!(said, "{:#?}", report.warnings);
            }
        }
        let_go(&target, holding).await;
        if parent_held {
            // The server was told that nobody waits for the key any more.
            assert_eq!(target.query(KEYS).await.len(), 0);
        }
        goes_on(&mut mirror, &source, &target, &report).await;
    }
}

/// Its publication waits for somebody's row.
async fn a_held_table_keeps_no_stop_waiting(server: Arc<Server>) {
    let (source, target, mut mirror) = family(&server, "heldtable").await;
    let keys = target.query(KEYS).await;
    source.execute("UPDATE lone SET id = id + 10000 WHERE id > 1").await;
    let holding = hold(&target, "START TRANSACTION; UPDATE lone SET id = 20000 WHERE id = 2").await;
    let running = Running::start(&mirror);
    target.until_runs(|statement| statement.starts_with("DELETE") && statement.contains("`lone`")).await;
    // The server gives up waiting for a row after many times as long.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let report = running.stop(&target).await;
    assert_eq!(target.query(KEYS).await, keys, "{:#?}", report.warnings);
    let_go(&target, holding).await;
    assert_eq!(target.value("SELECT COUNT(*) FROM lone WHERE id > 3000").await, "0", "nothing was published");
    goes_on(&mut mirror, &source, &target, &report).await;
}
