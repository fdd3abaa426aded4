//! The routes of SQL Server, where somebody provides one, each with every value compared at both ends.

mod catalogue;
mod database;
mod databases;
mod sessions;

use serde_json::{Value, json};
use weir::core::ErrorKind;
use weir_plugins_test::servers::{self, Database};

use crate::orders;
use crate::support::{counts, job_of, run_failing, run_ok, with_channels};

fn at(database: &Database, table: &str) -> Value {
    json!({"url": database.url(), "table": table})
}

async fn filled(database: &Database, first: u32, last: u32, salt: u32) {
    orders::create(database, "orders").await;
    orders::fill(database, "orders", first, last, salt).await;
}

#[tokio::test]
async fn postgresql_to_sql_server_and_back() {
    let Some(server) = servers::sqlserver() else { return };
    let source = servers::postgresql().await.fresh_database("pg").await;
    filled(&source, 1, 20_000, 0).await;
    let target = server.fresh_database("ms").await;
    // Once into a table that is there, once into one that the run creates.
    orders::create(&target, "orders").await;
    let expected = orders::rows(&source, "orders").await;
    for table in ["orders", "created"] {
        let job = job_of("postgresql", at(&source, "orders"), "sqlserver", at(&target, table));
        let report = run_ok(&with_channels(job, 2)).await;
        assert_eq!(counts(&report), (20_000, 20_000, 0));
        assert_eq!(report.tables[0].created, table == "created");
        orders::assert_same(&expected, &orders::rows(&target, table).await);
    }
    let mut from = at(&target, "created");
    from["splitPk"] = "id".into();
    let job = job_of("sqlserver", from, "postgresql", at(&source, "again"));
    let report = run_ok(&with_channels(job, 2)).await;
    assert_eq!(counts(&report), (20_000, 20_000, 0));
    orders::assert_same(&expected, &orders::rows(&source, "again").await);
}

#[tokio::test]
async fn sql_server_and_mariadb_upsert_over_half_of_the_rows_of_each_other() {
    let Some(server) = servers::sqlserver() else { return };
    let maria = servers::mariadb().await.fresh_database("maria").await;
    let ms = server.fresh_database("ms").await;
    let ends = [(&ms, "sqlserver", &maria, "mysql"), (&maria, "mysql", &ms, "sqlserver")];
    for (source, reader, target, writer) in ends {
        source.execute("DROP TABLE IF EXISTS orders").await;
        target.execute("DROP TABLE IF EXISTS orders").await;
        filled(source, 5_001, 15_000, 1).await;
        filled(target, 1, 10_000, 0).await;
        let before = orders::rows(target, "orders").await;
        let mut to = at(target, "orders");
        to["writeMode"] = "upsert".into();
        let report = run_ok(&with_channels(job_of(reader, at(source, "orders"), writer, to), 2)).await;
        assert_eq!(report.rows_read, 10_000, "to {writer}");
        let mut expected = before[..5_000].to_vec();
        expected.extend(orders::rows(source, "orders").await);
        orders::assert_same(&expected, &orders::rows(target, "orders").await);
    }
}

#[tokio::test]
async fn sql_server_to_lakehouse_and_parquet_and_back() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("lake").await;
    filled(&database, 1, 10_000, 0).await;
    let folder = tempfile::tempdir().unwrap();
    let expected = orders::rows(&database, "orders").await;
    let lake = folder.path().join("lake");
    let files = folder.path().join("files");
    let ends = [
        ("lakehouse", json!({"path": lake, "writeMode": "overwrite"}), json!({"path": lake})),
        (
            "files",
            json!({"path": files, "format": "parquet", "writeMode": "truncate"}),
            json!({"path": files, "format": "parquet"}),
        ),
    ];
    for (connector, to, from) in ends {
        let job = job_of("sqlserver", at(&database, "orders"), connector, to);
        assert_eq!(counts(&run_ok(&with_channels(job, 2)).await), (10_000, 10_000, 0), "{connector}");
        // Twice, so that the second overwrite replaces what the first one made.
        for round in ["the first run", "the second run"] {
            let mut back = at(&database, &format!("from_{connector}"));
            back["writeMode"] = "overwrite".into();
            let report = run_ok(&job_of(connector, from.clone(), "sqlserver", back)).await;
            assert_eq!(report.rows_written, 10_000, "{connector}, {round}");
        }
        orders::assert_same(&expected, &orders::rows(&database, &format!("from_{connector}")).await);
    }
}

#[tokio::test]
async fn shards_of_two_databases_to_one_table() {
    let Some(server) = servers::sqlserver() else { return };
    let shards = [server.fresh_database("one").await, server.fresh_database("two").await];
    let (mut connections, mut expected) = (Vec::new(), Vec::new());
    for (n, shard) in (0..).zip(&shards) {
        filled(shard, n * 1_000 + 1, n * 1_000 + 1_000, n).await;
        connections.push(json!({"jdbcUrl": shard.jdbc_url(), "table": "orders"}));
        expected.extend(orders::rows(shard, "orders").await);
    }
    let from = json!({"username": shards[0].user(), "password": shards[0].password(), "connection": connections,
        "column": ["*"]});
    let target = servers::postgresql().await.fresh_database("all").await;
    let report = run_ok(&with_channels(job_of("sqlserverreader", from, "postgresql", at(&target, "orders")), 2)).await;
    assert_eq!(report.tables.len(), 2);
    orders::assert_same(&expected, &orders::rows(&target, "orders").await);
}

#[tokio::test]
async fn a_missing_table_ends_the_job_with_its_name() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("missing").await;
    filled(&database, 1, 10, 0).await;
    let error = run_failing(&job_of("sqlserver", at(&database, "ordres"), "stream", json!({}))).await;
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.message.contains("orders"), "{}", error.message);
}

/// A million rows of sixteen columns in and out, in a process of their own whose memory is watched.
#[cfg(all(feature = "cli", target_os = "linux"))]
#[tokio::test]
#[ignore = "minutes: cargo test --release -p weir --test it a_million_rows -- --ignored, with WEIR_TEST_SQLSERVER"]
async fn a_million_rows_of_sixteen_columns_stream_in_and_out_in_256_mb() {
    const ROWS: u64 = 1_000_000;
    const MOST: u64 = 256 << 20;
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("million").await;
    let folder = tempfile::tempdir().unwrap();
    let mut columns = vec![json!({"name": "id", "incr": "1,1"})];
    for (i, (kind, random)) in
        [("long", "0,9000000000"), ("double", "0,1"), ("bool", "1,2"), ("string", "5,40"), ("bytes", "0,16")]
            .iter()
            .cycle()
            .take(15)
            .enumerate()
    {
        columns.push(json!({"name": format!("c{i}"), "type": kind, "random": random}));
    }
    let source = json!({"column": columns, "sliceRecordCount": ROWS});
    // The count is each channel's own.
    let into = with_channels(job_of("stream", source, "sqlserver", at(&database, "many")), 1);
    let out = job_of("sqlserver", at(&database, "many"), "stream", json!({}));
    for (way, job) in [("in", into), ("out", out)] {
        let started = std::time::Instant::now();
        let (report, peak) = watched(&job, folder.path());
        let seconds = started.elapsed().as_secs_f64();
        eprintln!("{way}: {ROWS} rows in {seconds:.1} s, at most {} MB", peak >> 20);
        assert_eq!((report["rows_read"].as_u64(), report["rows_written"].as_u64()), (Some(ROWS), Some(ROWS)));
        assert!(peak < MOST, "{way}: {} MB", peak >> 20);
    }
    let sums = "SELECT COUNT_BIG(*), COUNT_BIG(DISTINCT id), SUM(id) FROM many";
    let expected = [ROWS, ROWS, ROWS * (ROWS + 1) / 2].map(|n| Some(n.to_string()));
    assert_eq!(database.query(sums).await[0], expected);
}

/// Runs a job with the command; its report and the most memory that the process had, in bytes.
#[cfg(all(feature = "cli", target_os = "linux"))]
fn watched(job: &Value, folder: &std::path::Path) -> (Value, u64) {
    let (file, to) = (folder.join("job.json"), folder.join("report.json"));
    std::fs::write(&file, job.to_string()).unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("run")
        .arg(&file)
        .arg("--report")
        .arg(&to)
        .current_dir(folder)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let (status, mut peak) = (format!("/proc/{}/status", child.id()), 0);
    let end = loop {
        // The mark only rises; what the last moment adds is not seen.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let kib = line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        peak = peak.max(kib * 1024);
        match child.try_wait().unwrap() {
            Some(end) => break end,
            None => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
    };
    assert!(end.success() && peak > 0, "{end}");
    (serde_json::from_str(&std::fs::read_to_string(&to).unwrap()).unwrap(), peak)
}
