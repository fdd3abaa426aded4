//! Rows of one run from two moments of its source: what may stay beside what, when a writer changes the source in between.

use serde_json::{Value, json};
use weir_plugins_test::servers::{self, Database};

use super::Place;
use crate::support::job_of;

const ROWS: u64 = 12_000;

/// A table that is cut into five splits or so, and a target where rows that come twice are seen.
async fn source(name: &str, key: &str) -> Database {
    let database = servers::postgresql().await.fresh_database(name).await;
    database.execute(&format!("CREATE TABLE big (id int NOT NULL {key}, v int NOT NULL, pad text)")).await;
    let rows = format!("SELECT g, g, repeat(md5(g::text), 59) FROM generate_series(1, {ROWS}) g");
    database.execute(&format!("ALTER TABLE big ALTER pad SET STORAGE PLAIN; INSERT INTO big {rows}")).await;
    database.execute("ANALYZE big").await;
    database.execute("CREATE TABLE copy (id int, v int, pad text)").await;
    database
}

fn job(database: &Database, mode: &str) -> Value {
    let from = json!({"url": database.url(), "table": "big"});
    let to = json!({"url": database.url(), "table": "copy", "writeMode": mode});
    let mut job = job_of("postgresql", from, "postgresql", to);
    job["job"]["name"] = "moments".into();
    job["job"]["setting"] = json!({"speed": {"channel": 2, "record": 3_000}});
    job
}

/// Kills a run when some splits have landed; how many rows these have. Then the whole source changes.
async fn killed(place: &Place, database: &Database) -> u64 {
    place.job(&job(database, "append"));
    let run = place.start(&["run", "job.json"]);
    place.landed(2);
    run.kill();
    // What the server had in hand ends by itself.
    let weir = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'weir'";
    database.until(&format!("SELECT CASE ({weir}) WHEN 0 THEN 1 ELSE 0 END")).await;
    let landed = database.value("SELECT count(*) FROM copy").await.parse().unwrap();
    assert!((1..ROWS).contains(&landed), "{landed}");
    database.execute("UPDATE big SET v = v + 1000000").await;
    landed
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_keys_are_kept_beside_rows_of_a_later_moment_and_the_report_says_so() {
    let (place, database) = (Place::new(), source("moments", "PRIMARY KEY").await);
    let landed = killed(&place, &database).await;
    let report = place.report(&["--resume"]);
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("were read by an earlier process: the others show the source at a later"), "{warnings}");
    assert_eq!((&report["rows_read"], &report["rows_written"]), (&json!(ROWS), &json!(ROWS)));
    let found = "SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || count(*) FILTER (WHERE v = id) || ' ' || \
                 count(*) FILTER (WHERE v = id + 1000000) FROM copy";
    assert_eq!(database.value(found).await, format!("{ROWS} {ROWS} {landed} {}", ROWS - landed));
    assert_eq!(database.value("SELECT count(*) FROM weir_commits").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_pages_are_not_gone_on_with() {
    let (place, database) = (Place::new(), source("pages", "").await);
    let landed = killed(&place, &database).await;
    place.fails(&["run", "job.json", "--resume"], 1, &["ranges of pages", "splitPk", "--fresh"]);
    place.fails(&["run", "job.json"], 1, &["splits are in", "for good", "--fresh"]);
    let found = "SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || count(*) FILTER (WHERE v = id) FROM copy";
    assert_eq!(database.value(found).await, format!("{landed} {landed} {landed}"));
    place.report(&["--fresh"]);
    assert_eq!(database.value(found).await, format!("{} {ROWS} {landed}", ROWS + landed));
}

/// A commit of a process that was believed dead may come late. Where all rows have to be of one moment its split is none of
/// the run's.
#[tokio::test(flavor = "multi_thread")]
async fn a_split_of_another_moment_that_lands_late_is_not_taken_for_ones_own() {
    let (place, database) = (Place::new(), source("late", "PRIMARY KEY").await);
    place.job(&job(&database, "overwrite"));
    let run = place.start(&["run", "job.json"]);
    place.landed(1);
    let late = "INSERT INTO weir_commits (run_id, split, target, receipt) SELECT run_id, 4, target, \
                jsonb_set(jsonb_set(receipt::jsonb, '{split}', '4'), '{account,epoch}', '\"another\"')::text \
                FROM weir_commits WHERE split >= 0 LIMIT 1";
    database.execute(late).await;
    run.end().says(1, &["split 4 is at the target with rows of another moment"]);
    assert_eq!(database.value("SELECT count(*) FROM copy").await, "0");
    place.report(&["--resume"]);
    assert_eq!(
        database.value("SELECT count(*) || ' ' || count(DISTINCT id) FROM copy").await,
        format!("{ROWS} {ROWS}")
    );
}
