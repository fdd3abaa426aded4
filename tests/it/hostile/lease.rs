//! The same job on two machines at once: two state folders, of which neither knows the other, and one target.

use std::time::Instant;

use serde_json::{Value, json};
use weir_plugins_test::servers::{self, Database};

use super::{PATIENCE, Place, sqlite, sqlite_row};
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

/// What a run has written for good that died on one machine, or was stopped there, is not written again by a plain call on
/// another one, however long ago it was.
async fn nothing_is_written_again(place: Place, count: impl AsyncFn() -> String, expire: impl AsyncFn()) {
    let refused = |run_id: &str| ["did not end", run_id, "for good", "--fresh", "nightly"].map(str::to_owned);
    for signal in ["KILL", "TERM"] {
        let first = place.start(&["run", "job.json", "--run-id", signal]);
        place.landed_of(signal, 2);
        first.signal(signal);
        first.end();
        let before = count().await;
        expire().await;
        let named = format!("instead-of-{signal}");
        for start in [&[][..], &["--resume"], &["--run-id", &named]] {
            let words = refused(signal);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            place.fails(&[&ELSEWHERE[..], start].concat(), 1, &words);
        }
        assert_eq!(count().await, before);
        let report = place.report(&["--resume"]);
        assert_eq!((&report["run_id"], &report["rows_written"]), (&json!(signal), &json!(TABLES * ROWS)), "{report:#}");
    }
    // What has ended is nobody's concern, and whoever means it may write again.
    place.ok(&ELSEWHERE);
    let all = 3 * TABLES * ROWS;
    assert_eq!(count().await, all.to_string());
    let first = place.start(&["run", "job.json", "--run-id", "given-up"]);
    place.landed_of("given-up", 2);
    first.kill();
    expire().await;
    place.ok(&[&ELSEWHERE[..], &["--fresh"]].concat());
    assert!(count().await.parse::<u64>().unwrap() > all + TABLES * ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_left_on_another_machine_is_not_written_again_into_servers() {
    for (plugin, server, ago) in [
        ("postgresql", servers::postgresql().await, "now() - interval '2 minutes'"),
        ("mysql", servers::mariadb().await, "now() - interval 2 minute"),
    ] {
        let database = server.fresh_database("orphan").await;
        database.execute("CREATE TABLE t (id int, v text)").await;
        let place = place(plugin, json!({"url": database.url(), "table": "t", "writeMode": "append"})).await;
        let count = async || database.value("SELECT count(*) FROM t").await;
        nothing_is_written_again(place, count, async || age(&database, ago).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_left_on_another_machine_is_not_written_again_into_files() {
    let place = place("sqlite", json!({"path": "target/t.db", "table": "t", "writeMode": "append"})).await;
    let target = place.path("target");
    std::fs::create_dir(&target).unwrap();
    sqlite(&target.join("t.db"), "CREATE TABLE t (id INTEGER, v TEXT)").await;
    let count = async || sqlite_row(&target.join("t.db"), "SELECT '' || count(*) FROM t").await;
    nothing_is_written_again(place, count, async || assert_eq!(age_files(&target), 1)).await;
}

/// What is added whole is there for good too, although the run has failed at another table.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_on_another_machine_is_not_published_again() {
    for plugin in ["files", "lakehouse"] {
        let place = Place::new();
        sqlite(&place.path("from.db"), "CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
        sqlite(&place.path("to.db"), "CREATE TABLE t (id INTEGER CHECK (id <> 2))").await;
        let from = json!({"path": "from.db", "table": "t"});
        let mut to = json!({"path": "lake", "writeMode": "append"});
        if plugin == "files" {
            to["format"] = "parquet".into();
        }
        let mut job = job_of("sqlite", from.clone(), plugin, to);
        let failing =
            job_of("sqlite", from, "sqlite", json!({"path": "to.db", "table": "t", "writeMode": "overwrite"}));
        job["job"]["content"].as_array_mut().unwrap().push(failing["job"]["content"][0].clone());
        job["job"]["name"] = "nightly".into();
        place.job(&job);
        place.fails(&["run", "job.json"], 1, &["CHECK"]);
        assert_eq!(age_files(place.folder.path()), 2, "{plugin}");
        for _ in 0..2 {
            place.fails(&ELSEWHERE, 1, &["did not end", "for good", "--fresh"]);
        }
        sqlite(&place.path("to.db"), "DROP TABLE t; CREATE TABLE t (id INTEGER)").await;
        place.report(&["--resume"]);
        assert_eq!(count_leases(place.folder.path()), 0, "{plugin}");
        place.ok(&ELSEWHERE);
    }
}

/// A run that fails as it compares has left its rows all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_has_left_that_could_not_be_verified_is_not_written_again() {
    let place = Place::new();
    sqlite(&place.path("from.db"), "CREATE TABLE t (id INTEGER, v TEXT); INSERT INTO t VALUES (1, 'a'), (2, 'b')")
        .await;
    let target = place.path("target");
    std::fs::create_dir(&target).unwrap();
    let alters = "CREATE TRIGGER alters AFTER INSERT ON t BEGIN UPDATE t SET v = 'other' WHERE id = 2; END";
    sqlite(&target.join("t.db"), &format!("CREATE TABLE t (id INTEGER, v TEXT); {alters}")).await;
    let from = json!({"path": "from.db", "table": "t"});
    let to = json!({"path": "target/t.db", "table": "t", "writeMode": "append"});
    let mut job = job_of("sqlite", from, "sqlite", to);
    job["job"]["name"] = "nightly".into();
    job["job"]["setting"] = json!({"verify": true});
    place.job(&job);
    place.fails(&["run", "job.json"], 1, &["verification failed", "1 missing"]);
    assert_eq!(age_files(&target), 1);
    place.fails(&ELSEWHERE, 1, &["did not end", "for good", "--fresh"]);
    assert_eq!(sqlite_row(&target.join("t.db"), "SELECT '' || count(*) FROM t").await, "2");
    sqlite(&target.join("t.db"), "DROP TRIGGER alters; UPDATE t SET v = 'b' WHERE id = 2").await;
    place.report(&["--resume"]);
    assert_eq!(count_leases(&target), 0);
    place.ok(&ELSEWHERE);
}

/// Another machine has moved everything while this one slept: nothing of what was under way lands when it wakes.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_frozen_writes_nothing_more_in_anothers_place() {
    let place = place("sqlite", json!({"path": "target/t.db", "table": "t", "writeMode": "append"})).await;
    let target = place.path("target");
    std::fs::create_dir(&target).unwrap();
    sqlite(&target.join("t.db"), "CREATE TABLE t (id INTEGER, v TEXT)").await;
    let run = place.start(&["run", "job.json"]);
    let begun = Instant::now();
    while count_leases(&target) == 0 {
        assert!(begun.elapsed() < PATIENCE, "the lease is never taken");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    run.signal("STOP");
    // Its file has two names for a moment.
    while count_leases(&target) != 1 {
        run.signal("CONT");
        std::thread::sleep(std::time::Duration::from_millis(20));
        run.signal("STOP");
    }
    // Longer than the lease lasts.
    std::thread::sleep(std::time::Duration::from_secs(62));
    assert_eq!(remove_leases(&target), 1);
    run.signal("CONT");
    run.end_within(PATIENCE).says(1, &["has taken the job over and ended", "this one has stopped"]);
    assert_eq!(sqlite_row(&target.join("t.db"), "SELECT '' || count(*) FROM t").await, "0");
    assert_eq!(count_leases(&target), 0);
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

fn is_lease(text: &str) -> bool {
    text.starts_with("{\"lease\":")
}

/// Lets the lease files below a folder grow old.
pub(super) fn age_files(folder: &std::path::Path) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            found += age_files(&entry.path());
        } else if std::fs::read_to_string(entry.path()).is_ok_and(|text| is_lease(&text)) {
            let file = std::fs::File::options().write(true).open(entry.path()).unwrap();
            file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(120)).unwrap();
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

/// A whole database, slowly enough to be met while it runs.
fn whole(from: Value, to: (&str, Value), more: Value) -> Value {
    let mut job = json!({
        "type": "database",
        "name": "nightly",
        "source": from,
        "target": {"name": to.0, "parameter": to.1},
        "naming": {"schema": "{TARGET_SCHEMA}"},
        "group": {"maxSourceConnections": 1, "concurrentGroups": 1},
        "setting": {"speed": {"record": 300}},
    });
    for (key, value) in more.as_object().unwrap() {
        job[key] = value.clone();
    }
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_database_that_another_machine_moves_is_refused_before_anything_changes() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("lease_db").await, server.fresh_database("lease_db_to").await);
    source
        .execute(
            "CREATE TABLE parents (id int PRIMARY KEY, v text);
             CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents);
             INSERT INTO parents VALUES (1, 'a'); INSERT INTO children VALUES (1, 1);
             CREATE TABLE many (id int PRIMARY KEY); INSERT INTO many SELECT generate_series(1, 3000)",
        )
        .await;
    let place = Place::new();
    let from = json!({"name": "postgresql", "parameter": {"url": source.url()}});
    let mut job = whole(from, ("postgresql", json!({"url": target.url()})), json!({}));
    // The target has its foreign key from a run before.
    job["setting"] = json!({});
    place.job(&job);
    place.ok(&["run", "job.json"]);
    let keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f'";
    assert_eq!(target.value(keys).await, "1");
    // The first machine moves the largest table alone, and the second one all of them.
    source.execute("ALTER TABLE parents ADD COLUMN later int").await;
    job["setting"] = json!({"speed": {"record": 300}});
    place.job(&job);
    let first = place.start(&["run", "job.json", "--tables", "many"]);
    let begun = Instant::now();
    while target.value("SELECT count(*) FROM weir_commits WHERE split = -3").await == "0" {
        assert!(begun.elapsed() < PATIENCE, "the lease is never taken");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let refused = place.fails(&ELSEWHERE, 1, &["at work at the target", "lease ends in", "nightly"]);
    assert!(refused.err.contains(&first.child.id().to_string()), "{}", refused.err);
    assert_eq!(target.value(keys).await, "1", "the refused run has dropped a foreign key");
    let columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'parents'";
    assert_eq!(target.value(columns).await, "2", "the refused run has altered a table");
    first.kill();
    place.fails(&ELSEWHERE, 1, &["at work at the target"]);
    // Its own state folder need not wait.
    job["setting"] = json!({});
    place.job(&job);
    place.ok(&["run", "job.json", "--fresh"]);
    assert_eq!((target.value(keys).await.as_str(), target.value(columns).await.as_str()), ("1", "3"));
    place.ok(&ELSEWHERE);
    assert_eq!(target.value("SELECT count(*) FROM weir_commits WHERE split = -3").await, "0");
}

/// One table of many is appended, and not the first one.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_database_does_not_append_again_what_another_machine_has_left() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("orphan_db").await, server.fresh_database("orphan_db_to").await);
    source
        .execute(
            "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1), (2);
             CREATE TABLE m (id int PRIMARY KEY); INSERT INTO m SELECT generate_series(1, 6000);
             CREATE TABLE z (id int); INSERT INTO z SELECT generate_series(1, 10)",
        )
        .await;
    target.execute("CREATE TABLE z (id int)").await;
    let place = Place::new();
    let from = json!({"name": "postgresql", "parameter": {"url": source.url()}});
    let more = json!({"tables": {"public.z": {"writeMode": "append"}},
        "group": {"maxSourceConnections": 3, "concurrentGroups": 1}});
    let mut job = whole(from, ("postgresql", json!({"url": target.url()})), more);
    place.job(&job);
    let first = place.start(&["run", "job.json"]);
    let begun = Instant::now();
    while target.value("SELECT count(*) FROM z").await == "0" {
        assert!(begun.elapsed() < PATIENCE, "nothing lands");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    first.kill();
    age(&target, "now() - interval '2 minutes'").await;
    for _ in 0..2 {
        place.fails(&ELSEWHERE, 1, &["did not end", "for good", "--fresh", "nightly"]);
    }
    assert_eq!(target.value("SELECT count(*) FROM z").await, "10");
    job["setting"] = json!({});
    place.job(&job);
    place.report(&["--resume"]);
    assert_eq!(target.value("SELECT (SELECT count(*) FROM z) || ' ' || (SELECT count(*) FROM m)").await, "10 6000");
    place.ok(&ELSEWHERE);
    assert_eq!(target.value("SELECT count(*) FROM z").await, "20");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_machines_do_not_share_out_the_tables_of_a_whole_database() {
    // Each table of these targets has a lease of its own.
    for plugin in ["files", "lakehouse"] {
        println!("{plugin}");
        let place = Place::new();
        let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 800)";
        let tables = ["a", "b", "c", "d"];
        let sql =
            tables.map(|table| format!("CREATE TABLE {table} AS {rows} SELECT i AS id, 'value ' || i AS v FROM n;\n"));
        sqlite(&place.path("from.db"), &sql.concat()).await;
        let target = place.path("target");
        std::fs::create_dir(&target).unwrap();
        let from = json!({"name": "sqlite", "parameter": {"path": "from.db"}});
        place.job(&whole(from, (plugin, json!({"path": "target"})), json!({})));
        let first = place.start(&["run", "job.json"]);
        let begun = Instant::now();
        while count_leases(&target) == 0 {
            assert!(begun.elapsed() < PATIENCE, "the lease is never taken");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        place.fails(&ELSEWHERE, 1, &["at work at the target", "nightly"]);
        first.kill();
        place.fails(&ELSEWHERE, 1, &["at work at the target", "nightly"]);
        let report = place.report(&["--resume"]);
        assert_eq!(report["rows_written"], json!(3200), "{report:#}");
        assert_eq!(count_leases(&target), 0);
        place.ok(&ELSEWHERE);
    }
}

fn count_leases(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |path: std::path::PathBuf| match path.is_dir() {
        true => count_leases(&path),
        false => usize::from(std::fs::read_to_string(path).is_ok_and(|text| is_lease(&text))),
    };
    entries.map(|entry| of(entry.path())).sum()
}

/// Removes the leases in a folder, as whoever held them last.
fn remove_leases(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let is_lease =
        |path: &std::path::PathBuf| path.is_file() && std::fs::read_to_string(path).is_ok_and(|text| is_lease(&text));
    entries.map(|entry| entry.path()).filter(is_lease).map(|path| std::fs::remove_file(path).unwrap()).count()
}

/// Gives the lease below a folder to somebody else; its file.
fn hand_over(folder: &std::path::Path) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = hand_over(&path) {
                return Some(found);
            }
        } else if let Some(text) = std::fs::read_to_string(&path).ok().filter(|text| is_lease(text)) {
            let mut kept: Value = serde_json::from_str(&text).ok()?;
            kept["lease"]["holder"] = json!("another state folder");
            kept["lease"]["run_id"] = json!("another-run");
            std::fs::write(&path, kept.to_string()).ok()?;
            return Some(path);
        }
    }
    None
}

/// A run stops whose lease another one takes from it, and does something with; the place, and the lease's file.
async fn loses_its_lease(then: fn(&std::path::Path), says: &[&str]) -> (Place, std::path::PathBuf) {
    let place = Place::new();
    let mut sql = String::new();
    for table in ["early", "late", "later"] {
        sql += &format!(
            "CREATE TABLE {table} (id INTEGER PRIMARY KEY, v TEXT);\n\
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)\n\
             INSERT INTO {table} SELECT i, 'value ' || i FROM n;\n"
        );
    }
    sqlite(&place.path("from.db"), &sql).await;
    std::fs::create_dir(place.path("target")).unwrap();
    let from = json!({"name": "sqlite", "parameter": {"path": "from.db"}});
    place.job(&whole(from, ("sqlite", json!({"path": "target/to.db"})), json!({})));
    let run = place.start(&["run", "job.json"]);
    let begun = Instant::now();
    // At this rate it would go on for a minute.
    let lease = loop {
        if let Some(path) = hand_over(&place.path("target")) {
            then(&path);
            break path;
        }
        assert!(begun.elapsed() < PATIENCE, "the lease is never taken");
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    let ended = run.end_within(std::time::Duration::from_secs(45));
    ended.says(1, &[says, &["has taken the job over", "this one has stopped"]].concat());
    // Nothing of the tables that were under way is there.
    let count = "SELECT CAST(count(*) AS TEXT) FROM sqlite_master WHERE type = 'table' AND name = 'later'";
    assert_eq!(sqlite_row(&place.path("target/to.db"), count).await, "0");
    (place, lease)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_has_lost_its_lease_stops() {
    let (place, lease) = loses_its_lease(|_| {}, &["another-run"]).await;
    // The other one's lease is still its own.
    assert!(std::fs::read_to_string(&lease).unwrap().contains("another state folder"));
    place.fails(&["run", "job.json", "--resume"], 1, &["another-run", "at work at the target"]);
}

/// The other one has done everything by the time that this one wakes.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_lease_was_taken_over_and_given_back_stops() {
    let ended = |lease: &std::path::Path| std::fs::remove_file(lease).unwrap();
    let (place, _) = loses_its_lease(ended, &["and ended", "--resume"]).await;
    assert_eq!(count_leases(&place.path("target")), 0, "it has taken the lease again");
}
