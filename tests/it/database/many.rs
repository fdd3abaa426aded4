//! Many tables take no more sessions than few: at the source as many as the job says, at the target as many as that makes.

use serde_json::json;
use weir_plugins_test::servers::{self, Database};

use super::pressure::{Most, Watch};
use super::{database_job, run_ok};

/// What groups have when a job says nothing: `maxSourceConnections` and `concurrentGroups`.
const AT_ONCE: usize = 4 * 2;

/// Tables, and whether the job is to be slow enough for somebody to look at.
type Size = (usize, bool);

const FEW: Size = (60, true);
const MANY: Size = (2000, false);

/// Makes small tables, some at a time: of so many, one statement would be too long.
async fn tables(source: &Database, count: usize) {
    for first in (0..count).step_by(50) {
        let rows: Vec<_> = (0..10).map(|n| format!("({n}, 'value {n}')")).collect();
        let of = |table| {
            let insert = format!("INSERT INTO t{table} VALUES {}", rows.join(", "));
            format!("CREATE TABLE t{table} (id int PRIMARY KEY, v varchar(20)); {insert};\n")
        };
        source.execute(&(first..count.min(first + 50)).map(of).collect::<String>()).await;
    }
}

/// The most sessions at the source, and at the target if it is a database, while tables are moved.
async fn most(
    (connector, source): (&str, Database),
    target: Option<Database>,
    (count, slow): Size,
) -> (Most, Option<Most>) {
    tables(&source, count).await;
    let folder = tempfile::tempdir().unwrap();
    let to = match &target {
        Some(target) => ("postgresql", json!({"url": target.url()})),
        None => ("lakehouse", json!({"path": folder.path().join("lake")})),
    };
    let speed = if slow { json!({"setting": {"speed": {"record": 200}}}) } else { json!({}) };
    let job = database_job((connector, json!({"url": source.url()})), to, speed);
    let begun = std::time::Instant::now();
    let watches = (Watch::start(&source), target.as_ref().map(Watch::start));
    let report = run_ok(&job).await;
    assert_eq!((report.tables.len(), report.rows_written), (count, 10 * count as u64));
    let at_source = watches.0.stop().await;
    let at_target = match watches.1 {
        Some(watch) => Some(watch.stop().await),
        None => None,
    };
    println!("{connector}, {count} tables in {:?}: {at_source:?}, {at_target:?}", begun.elapsed());
    (at_source, at_target)
}

async fn bounded(size: Size) {
    let postgresql = servers::postgresql().await;
    for target in [Some(postgresql.fresh_database("manyto").await), None] {
        let source = postgresql.fresh_database("many").await;
        check(most(("postgresql", source), target, size).await);
    }
    let source = servers::mariadb().await.fresh_database("many").await;
    let target = postgresql.fresh_database("manyfrom").await;
    check(most(("mysql", source), Some(target), size).await);
}

fn check((source, target): (Most, Option<Most>)) {
    // One more holds the snapshot, or asks.
    assert!((1..=AT_ONCE + 1).contains(&source.open), "{source:#?}");
    if let Some(target) = target {
        // For each of these one writes, and one plans and publishes; one more renews the leases.
        assert!((1..=2 * AT_ONCE + 1).contains(&target.open), "{target:#?}");
    }
}

#[tokio::test]
async fn sessions_are_bounded() {
    bounded(FEW).await;
}

#[tokio::test]
#[ignore = "2,000 tables take minutes: run it by its name"]
async fn sessions_are_bounded_for_two_thousand_tables() {
    bounded(MANY).await;
}
