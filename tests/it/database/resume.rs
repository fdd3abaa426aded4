//! kill -9 in the midst of fifty tables, then the same call again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_plugins_test::servers::{self, Database};

use super::{database_job, rows};

const TABLES: u32 = 50;

async fn fifty(name: &str) -> Database {
    let source = servers::postgresql().await.fresh_database(name).await;
    let sql: String = (0..TABLES)
        .map(|n| format!("CREATE TABLE t{n} (id int PRIMARY KEY, v text); INSERT INTO t{n} SELECT g, 't{n} ' || g FROM generate_series(1, 400) g; "))
        .collect();
    source.execute(&sql).await;
    source
}

fn weir(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["run", "job.json", "--report", "report.json", "--quiet"]).args(arguments);
    command.current_dir(folder).env("WEIR_STATE_DIR", folder.join("state")).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn report(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("report.json")).unwrap()).unwrap()
}

/// Begins a run and kills it when about `published` tables are at the target.
async fn killed(folder: &Path, target: &Database, published: usize) -> usize {
    let mut child = weir(folder, &[]).spawn().unwrap();
    let begun = Instant::now();
    let count = "SELECT count(*) FROM pg_class c WHERE c.relkind = 'r' AND c.relname ~ '^t[0-9]+$' \
                 AND (SELECT (xpath('/row/n/text()', query_to_xml('SELECT count(*) AS n FROM ' || c.oid::regclass, false, true, '')))[1]::text::int) > 0";
    loop {
        let now: usize =
            target.try_query(count).await.ok().and_then(|rows| rows[0][0].clone()?.parse().ok()).unwrap_or(0);
        if now >= published || child.try_wait().unwrap().is_some() || begun.elapsed() > Duration::from_secs(60) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(child.try_wait().unwrap().is_none(), "the run was over before it could be killed");
    child.kill().unwrap();
    child.wait().unwrap();
    // What the server had in hand ends by itself: a table that was being published at that moment is there or not.
    let sessions =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'weir' AND datname = current_database()";
    while target.value(sessions).await != "0" {
        assert!(begun.elapsed() < Duration::from_secs(90), "the sessions of the run that was killed go on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    target.value(count).await.parse().unwrap()
}

async fn same(source: &Database, target: &Database) {
    for n in 0..TABLES {
        let name = format!("t{n}");
        assert_eq!(rows(source, &name).await, rows(target, &name).await, "{name}");
    }
}

fn job(source: &Database, (connector, target): (&str, &Database), more: Value) -> Value {
    let to = (connector, json!({"url": target.url()}));
    let mut job = database_job(("postgresql", json!({"url": source.url()})), to, more);
    job["setting"] = json!({"speed": {"record": 4_000}});
    job
}

#[tokio::test]
async fn published_tables_are_not_read_again() {
    let (source, target) = (fifty("kill").await, servers::postgresql().await.fresh_database("killed").await);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("job.json"), job(&source, ("postgresql", &target), json!({})).to_string())
        .unwrap();
    let published = killed(folder.path(), &target, 12).await;
    assert!((12..50).contains(&published), "{published}");
    // The tables that are not there yet show what they are now; those that are stay as they were read.
    source.execute("CREATE TABLE later (id int)").await;
    // A call that cannot read one of them counts what is there all the same.
    source.execute("ALTER TABLE t0 RENAME TO away; ALTER TABLE t49 RENAME TO gone").await;
    assert!(!weir(folder.path(), &["--resume"]).status().unwrap().success());
    let refused = report(folder.path());
    let of = |key: &str| refused[key].as_u64().unwrap() as usize;
    assert!(of("rows_read") >= published * 400 && of("rows_written") >= published * 400, "{refused:#}");
    source.execute("ALTER TABLE away RENAME TO t0; ALTER TABLE gone RENAME TO t49").await;
    let ended = weir(folder.path(), &["--resume"]).status().unwrap();
    let report = report(folder.path());
    assert!(ended.success(), "{report:#}");
    assert_eq!(report["tables"].as_array().unwrap().len(), 50);
    same(&source, &target).await;
    // The expansion is that of the first call.
    assert_eq!(target.value("SELECT count(*) FROM pg_class WHERE relname = 'later'").await, "0");
    // Each of them, whatever the ledger here had heard of it: the target has it on record with the rows. Others may have
    // been staged as a whole.
    let mut of_snapshot: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for table in report["tables"].as_array().unwrap() {
        let snapshot = table["snapshot"].as_str().unwrap();
        of_snapshot.entry(snapshot).or_default().push(table["target"].as_str().unwrap());
    }
    let said = report["warnings"][0].as_str().unwrap();
    let (earlier, _) = said.split_once(" of 50 tables were read before").unwrap();
    let earlier: usize = earlier.parse().unwrap();
    assert!((published..50).contains(&earlier), "{said}");
    // One for each call.
    let later = of_snapshot.values().any(|tables| tables.len() == 50 - earlier);
    assert!(of_snapshot.len() == 3 && later, "{said}\n{of_snapshot:?}");
    // Nothing of the run is left at the target.
    assert_eq!(
        target.value("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ '^weir_[0-9]'").await,
        "0"
    );
}

#[tokio::test]
async fn published_together_they_all_begin_again_in_one_moment() {
    let (postgresql, mariadb) = (servers::postgresql().await, servers::mariadb().await);
    begins_again("postgresql", postgresql.fresh_database("killedall").await).await;
    begins_again("mysql", mariadb.fresh_database("killedall").await).await;
}

async fn begins_again(connector: &str, target: Database) {
    let source = fifty("killall").await;
    let folder = tempfile::tempdir().unwrap();
    let more = json!({"publish": "all", "naming": {"schema": "{TARGET_SCHEMA}"}});
    let job = job(&source, (connector, &target), more);
    std::fs::write(folder.path().join("job.json"), job.to_string()).unwrap();
    let mut child = weir(folder.path(), &[]).spawn().unwrap();
    // Some of its tables have landed.
    let half_way = || {
        let arguments = ["runs", "--last", "1", "--format", "json"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let shown = command.args(arguments).env("WEIR_STATE_DIR", folder.path().join("state")).output().unwrap().stdout;
        let shown: Value = serde_json::from_slice(&shown).unwrap_or_default();
        let splits = shown[0]["splits"].as_array().cloned().unwrap_or_default();
        splits.iter().any(|split| split["finished"].as_u64().unwrap_or_default() > 0)
    };
    let begun = Instant::now();
    while !half_way() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing lands");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(child.try_wait().unwrap().is_none(), "the run was over before it could be killed");
    child.kill().unwrap();
    child.wait().unwrap();
    source.execute("UPDATE t0 SET v = 'after'; UPDATE t49 SET v = 'after'").await;
    let ended = weir(folder.path(), &["--resume"]).status().unwrap();
    let report = report(folder.path());
    assert!(ended.success(), "{report:#}");
    same(&source, &target).await;
    let snapshots: std::collections::BTreeSet<_> =
        report["tables"].as_array().unwrap().iter().map(|table| table["snapshot"].to_string()).collect();
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
}
