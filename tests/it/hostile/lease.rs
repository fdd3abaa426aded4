//! The same job on two machines at once: two state folders, of which neither knows the other, and one target.

use std::time::Instant;

use serde_json::{Value, json};
use weir_plugins_test::servers::{self, Database};

use super::{PATIENCE, Place, sqlite};
use crate::support::job_of;

const TABLES: u64 = 6;
const ROWS: u64 = 400;

/// Several tables into one, slowly enough to be met while it runs.
async fn place(plugin: &str, to: Value) -> Place {
    let place = Place::new();
    let tables: Vec<_> = (0..TABLES).map(|n| format!("t{n}")).collect();
    let mut sql = String::new();
    for (n, table) in tables.iter().enumerate() {
        sql += &format!(
            "CREATE TABLE {table} (id INTEGER PRIMARY KEY, v TEXT);\n\
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})\n\
             INSERT INTO {table} SELECT i + {}, 'value ' || i FROM n;\n",
            n as u64 * ROWS
        );
    }
    sqlite(&place.path("from.db"), &sql).await;
    let mut job = job_of("sqlite", json!({"path": "from.db", "table": tables}), plugin, to);
    job["job"]["name"] = json!("nightly");
    job["job"]["setting"] = json!({"speed": {"channel": 1, "record": 600}});
    place.job(&job);
    place
}

const ELSEWHERE: [&str; 4] = ["run", "job.json", "--state-dir", "elsewhere"];

/// Refused while the first run is at work and after its death, until the lease has expired; no hindrance for a resume by the
/// one who held it.
async fn one_at_a_time(place: Place, expire: impl AsyncFn()) {
    let first = place.start(&["run", "job.json"]);
    let run_id = place.landed(1);
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let words = ["at work at the target", run_id.as_str(), machine.trim(), "lease ends in", "nightly"];
    place.fails(&ELSEWHERE, 1, &words);
    let process = first.child.id().to_string();
    first.kill();
    let refused = place.fails(&ELSEWHERE, 1, &words);
    assert!(refused.err.contains(&process), "{}", refused.err);
    // Its own state folder need not wait; and when the run has ended nobody need.
    let report = place.report(&["--resume"]);
    assert_eq!((&report["run_id"], &report["rows_written"]), (&json!(run_id), &json!(TABLES * ROWS)), "{report:#}");
    place.ok(&[&ELSEWHERE[..], &["--report", "report.json"]].concat());
    assert_eq!(place.last_report()["rows_written"], json!(TABLES * ROWS));

    let second = place.start(&["run", "job.json", "--run-id", "second"]);
    let begun = Instant::now();
    while serde_json::from_str::<Value>(&place.call(&["runs", "second", "--format", "json"]).out)
        .map_or(true, |run| run["splits"][0]["finished"].as_u64().unwrap_or_default() == 0)
    {
        assert!(begun.elapsed() < PATIENCE, "nothing lands");
    }
    second.kill();
    place.fails(&ELSEWHERE, 1, &["at work at the target"]);
    expire().await;
    place.ok(&ELSEWHERE);
}

fn into(url: String) -> Value {
    json!({"url": url, "table": "t", "createTable": true, "writeMode": "overwrite"})
}

/// Lets the leases of a database grow old.
async fn age(database: &Database, ago: &str) {
    database.execute(&format!("UPDATE weir_commits SET committed_at = {ago} WHERE split = -3")).await;
    let found = database.query("SELECT count(*) FROM weir_commits WHERE split = -3").await;
    assert_eq!(found[0][0].as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_of_a_job_at_a_time_whatever_the_machine_into_postgresql() {
    let database = servers::postgresql().await.fresh_database("lease").await;
    let place = place("postgresql", into(database.url())).await;
    one_at_a_time(place, async || age(&database, "now() - interval '2 minutes'").await).await;
    let left = database.query("SELECT count(*) FROM weir_commits WHERE split = -3").await;
    assert_eq!(left[0][0].as_deref(), Some("0"), "a lease was not given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_of_a_job_at_a_time_whatever_the_machine_into_mariadb_and_mysql() {
    for server in [servers::mariadb().await, servers::mysql().await] {
        let database = server.fresh_database("lease").await;
        let place = place("mysql", into(database.url())).await;
        one_at_a_time(place, async || age(&database, "now() - interval 2 minute").await).await;
        let left = database.query("SELECT count(*) FROM weir_commits WHERE split = -3").await;
        assert_eq!(left[0][0].as_deref(), Some("0"), "a lease was not given back");
    }
}

/// Lets the lease files below a folder grow old.
fn age_files(folder: &std::path::Path) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            found += age_files(&entry.path());
        } else if let Some(text) = std::fs::read_to_string(entry.path()).ok().filter(|text| text.contains("\"until\":"))
        {
            let mut kept: Value = serde_json::from_str(&text).unwrap();
            kept["until"] = json!(1);
            std::fs::write(entry.path(), kept.to_string()).unwrap();
            found += 1;
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_of_a_job_at_a_time_whatever_the_machine_into_files() {
    for (plugin, to) in [
        ("files", json!({"path": "target/", "format": "parquet", "writeMode": "truncate"})),
        ("files", json!({"path": "target/t.csv", "format": "csv", "writeMode": "truncate"})),
        ("lakehouse", json!({"path": "target", "writeMode": "overwrite"})),
        ("sqlite", json!({"path": "target/t.db", "table": "t", "createTable": true, "writeMode": "overwrite"})),
    ] {
        println!("{plugin}: {to}");
        let place = place(plugin, to).await;
        let target = place.path("target");
        std::fs::create_dir(&target).unwrap();
        one_at_a_time(place, async || assert_eq!(age_files(&target), 1)).await;
    }
}
