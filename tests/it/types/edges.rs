//! What does not go into the tables of every type: values of 64 MB, nanoseconds, rows whose one dirty cell is named.

use serde_json::{Value, json};
use weir::Status;

use super::matrix::run;
use super::place::{Place, System};
use super::target::Target;
use crate::support::{counts, job_of, run_ok, with_channels};

/// The most memory that this process has had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn reader(target: Target, at: &std::path::Path) -> (&'static str, Value) {
    match target {
        Target::Delta => ("lakehouse", json!({"path": at})),
        Target::Csv => {
            let column = |name: &str, kind: &str| json!({"name": name, "type": kind});
            let columns = [column("id", "long"), column("a", "string"), column("b", "bytes")];
            ("files", json!({"path": at, "format": "csv", "column": columns}))
        }
        Target::JsonLines => {
            let column = |name: &str, kind: &str| json!({"name": name, "type": kind});
            let columns = [column("id", "long"), column("a", "string"), column("b", "bytes")];
            ("files", json!({"path": at, "format": "jsonl", "column": columns}))
        }
        _ => ("files", json!({"path": at, "format": target.format()})),
    }
}

/// A text and a blob of 64 MB (16 MB of it another character, so that bytes are more than characters) from PostgreSQL to
/// every target and back, compared there by length and hash.
#[tokio::test]
async fn texts_and_blobs_of_64_mb_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let source = Place::new(System::PostgreSql, "large", folder.path()).await;
    source
        .execute(
            "CREATE TABLE src (id bigint PRIMARY KEY, a text, b bytea); \
             INSERT INTO src VALUES (1, repeat('größe, \"x\" \\N' || chr(10) || '🚀', 67108864 / 20), NULL), \
             (2, NULL, decode(repeat('00ff5c0a22271a41', 67108864 / 8), 'hex')), (3, 'small', '\\x00')",
        )
        .await;
    let sums = "SELECT id, length(a), octet_length(a), md5(a), octet_length(b), md5(b) FROM";
    let expected = source.query(&format!("{sums} src ORDER BY id")).await;
    assert_eq!(expected[1][4].as_deref(), Some("67108864"));
    for target in Target::ALL {
        let at = folder.path().join(target.name().replace(' ', "_"));
        let there = match target {
            Target::Database(system) => Some(Place::new(system, "large_to", folder.path()).await),
            _ => None,
        };
        let (writer, to) = match (target, &there) {
            (Target::Database(system), Some(place)) => (system.connector(), place.parameters("large")),
            (Target::Delta, _) => ("lakehouse", json!({"path": at, "writeMode": "overwrite"})),
            _ => ("files", json!({"path": at, "format": target.format(), "writeMode": "truncate"})),
        };
        let report = run_ok(&job_of("postgresql", source.parameters("src"), writer, to)).await;
        assert_eq!(counts(&report), (3, 3, 0), "{}", target.name());
        let back = format!("back_{}", target.name().replace(' ', "_").to_lowercase());
        source.execute(&format!("CREATE TABLE {back} (id bigint PRIMARY KEY, a text, b bytea)")).await;
        let (name, from) = match (target, &there) {
            (Target::Database(system), Some(place)) => (system.connector(), place.parameters("large")),
            _ => reader(target, &at),
        };
        let report = run_ok(&job_of(name, from, "postgresql", source.parameters(&back))).await;
        assert_eq!(counts(&report), (3, 3, 0), "{}", target.name());
        let found = source.query(&format!("{sums} {back} ORDER BY id")).await;
        assert_eq!(found, expected, "{}", target.name());
        source.execute(&format!("DROP TABLE {back}")).await;
        if let Some(place) = &there {
            place.clear().await;
        }
        eprintln!("{}: at most {} MB so far", target.name(), peak() >> 20);
    }
}

/// Nanoseconds pass between those that have them, and are a dirty row for those that do not.
#[tokio::test]
async fn nanoseconds_arrive_or_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = Place::new(System::Sqlite, "nanos", folder.path()).await;
    source
        .execute(
            "CREATE TABLE src (id INTEGER PRIMARY KEY, a DATETIME(9), b TIMESTAMPTZ(9)); INSERT INTO src VALUES \
             (1, '2024-02-29 12:34:56.123456789', '1969-12-31 23:59:59.999999999Z'), \
             (2, '2262-04-11 23:47:16.854775807', '1677-09-21 00:12:43.145224193Z'), \
             (3, '2024-02-29 12:34:56.123456', '2024-02-29 12:34:56Z'), (4, NULL, NULL)",
        )
        .await;
    let types = source.types("src").await.split_off(1);
    let before = source.values("src", &types).await;
    for target in [Target::Parquet, Target::Arrow, Target::Csv, Target::JsonLines, Target::Database(System::Sqlite)] {
        let at = folder.path().join(target.name().replace(' ', "_"));
        let mut to = source.parameters("there");
        let mut writer = "sqlite";
        if !matches!(target, Target::Database(_)) {
            (writer, to) = ("files", json!({"path": at, "format": target.format(), "writeMode": "truncate"}));
        }
        let report = run_ok(&job_of("sqlite", source.parameters("src"), writer, to)).await;
        assert_eq!(counts(&report), (4, 4, 0), "{}", target.name());
        let back = format!("back_{}", target.name().replace(' ', "_"));
        source
            .execute(&format!("CREATE TABLE \"{back}\" (id INTEGER PRIMARY KEY, a DATETIME(9), b TIMESTAMPTZ(9))"))
            .await;
        let (name, from) = match target {
            Target::Database(_) => ("sqlite", source.parameters("there")),
            Target::Csv | Target::JsonLines => {
                let column = |name: &str, kind: &str| json!({"name": name, "type": kind});
                let columns = [column("id", "long"), column("a", "string"), column("b", "string")];
                ("files", json!({"path": at, "format": target.format(), "column": columns}))
            }
            _ => ("files", json!({"path": at, "format": target.format()})),
        };
        run_ok(&job_of(name, from, "sqlite", source.parameters(&back))).await;
        let after = source.values(&back, &types).await;
        let spelled = |rows: &[(i64, Vec<Option<String>>)]| {
            let text = |v: &Option<String>| v.as_deref().map(|v| v.replace("+00:00", "Z"));
            rows.iter().map(|(id, row)| (*id, row.iter().map(text).collect::<Vec<_>>())).collect::<Vec<_>>()
        };
        assert_eq!(spelled(&after), spelled(&before), "{}", target.name());
    }
    for system in [System::PostgreSql, System::MariaDb, System::MySql] {
        let place = Place::new(system, "nanos_to", folder.path()).await;
        let mut from = source.parameters("src");
        from["column"] = json!(["id", "a"]);
        let (report, dirty) =
            run(&job_of("sqlite", from, system.connector(), place.parameters("dst")), folder.path()).await;
        assert_eq!(report.status, Status::Succeeded, "{:?}", report.error);
        assert_eq!(dirty.keys().collect::<Vec<_>>(), [&1, &2], "{system:?}");
        assert!(dirty.values().all(|reason| reason.contains("decimals of a second")), "{dirty:?}");
        assert_eq!(place.count("dst").await, 2);
    }
}

/// A NUL in a text is a dirty row towards PostgreSQL, wherever it comes from, and the rest of its batch lands.
#[tokio::test]
async fn a_nul_towards_postgresql_is_a_dirty_row_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for system in [System::MariaDb, System::MySql, System::Sqlite] {
        let source = Place::new(system, "nul", folder.path()).await;
        let (text, json_type) = if system == System::Sqlite { ("char(0)", "JSON") } else { ("CHAR(0)", "json") };
        let joined = |a: &str| {
            if system == System::Sqlite { format!("'{a}' || {text}") } else { format!("CONCAT('{a}', {text})") }
        };
        source
            .execute(&format!(
                "CREATE TABLE src (id bigint PRIMARY KEY, a text, j {json_type}); INSERT INTO src VALUES \
                 (1, {}, NULL), (2, 'b', '{{}}'), (3, {text}, NULL)",
                joined("a")
            ))
            .await;
        // As it is, and through each file that can hold it.
        for target in [
            None,
            Some(Target::Parquet),
            Some(Target::Arrow),
            Some(Target::Csv),
            Some(Target::JsonLines),
            Some(Target::Delta),
        ] {
            let place = Place::new(System::PostgreSql, "nul_to", folder.path()).await;
            let mut from = source.parameters("src");
            from["column"] = json!(["id", "a"]);
            let mut reader_of = (system.connector(), from);
            if let Some(target) = target {
                let at = folder.path().join(format!(
                    "{}_{}",
                    system.name().replace(' ', "_"),
                    target.name().replace(' ', "_")
                ));
                let (writer, to) = match target {
                    Target::Delta => ("lakehouse", json!({"path": at, "writeMode": "overwrite"})),
                    _ => ("files", json!({"path": at, "format": target.format(), "writeMode": "truncate"})),
                };
                run_ok(&job_of(reader_of.0, reader_of.1, writer, to)).await;
                reader_of = reader(target, &at);
                if let Some(columns) = reader_of.1.get_mut("column").and_then(Value::as_array_mut) {
                    columns.pop();
                }
            }
            let job = job_of(reader_of.0, reader_of.1, "postgresql", place.parameters("dst"));
            let (report, dirty) = run(&job, folder.path()).await;
            let route = format!("{system:?} by {target:?}");
            assert_eq!(report.status, Status::Succeeded, "{route}: {:?}", report.error);
            assert_eq!(dirty.keys().collect::<Vec<_>>(), [&1, &3], "{route}: {dirty:?}");
            assert!(dirty.values().all(|reason| reason.contains("NUL")), "{route}: {dirty:?}");
            assert_eq!(place.count("dst").await, 1, "{route}");
        }
    }
}

/// Within a service that lives on, a run leaves no connection open.
#[tokio::test]
async fn a_run_leaves_no_connection_behind() {
    let folder = tempfile::tempdir().unwrap();
    for system in [System::PostgreSql, System::MariaDb, System::MySql] {
        let place = Place::new(system, "connections", folder.path()).await;
        place.execute("CREATE TABLE src (id bigint PRIMARY KEY); INSERT INTO src VALUES (1), (2)").await;
        for n in 0..3 {
            let to = place.parameters(&format!("dst{n}"));
            let job = with_channels(job_of(system.connector(), place.parameters("src"), system.connector(), to), 2);
            run_ok(&job).await;
        }
        let (list, at, name) = match system {
            System::PostgreSql => ("SELECT datname FROM pg_stat_activity", 0, "current_database()::text"),
            _ => ("SHOW PROCESSLIST", 3, "DATABASE()"),
        };
        let name = place.query(&format!("SELECT {name}")).await[0][0].clone();
        // The server needs a moment to notice; one connection is the one that asks.
        let mut open = 0;
        for _ in 0..300 {
            open = place.query(list).await.iter().filter(|row| row[at] == name).count();
            if open == 1 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert_eq!(open, 1, "{system:?}");
    }
}
