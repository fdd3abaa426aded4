//! Windows along change columns, on the server that `WEIR_TEST_SQLSERVER` names.

use std::sync::Arc;

use serde_json::{Value, json};
use weir_core::{ErrorKind, Reader, Watermark, Window, WindowRequest};
use weir_plugins_test::harness::{open_reader, read_windows};
use weir_plugins_test::servers::{self, Database};
use weir_reader_sqlserver as _;

fn open(database: &Database, incremental: Value) -> Arc<dyn Reader> {
    open_reader("sqlserver", json!({"url": database.url(), "table": "src", "incremental": incremental})).unwrap()
}

fn after(windows: &[Window]) -> WindowRequest {
    let watermarks: Vec<Watermark> = windows.iter().filter_map(Window::leaves).collect();
    WindowRequest { watermarks, places: Vec::new(), clocks: "UTC".parse().unwrap(), clocks_said: false }
}

/// The ids of a run that begins where `windows` ended, in order, and its own windows.
async fn ids(reader: &Arc<dyn Reader>, windows: &[Window]) -> (Vec<Window>, String) {
    let (windows, read) = read_windows(reader, after(windows)).await.unwrap();
    let mut ids: Vec<u32> = read.column("id").into_iter().map(|id| id.unwrap().parse().unwrap()).collect();
    ids.sort_unstable();
    (windows, ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))
}

async fn make(database: &Database, kind: &str) {
    database.execute("DROP TABLE IF EXISTS src").await;
    database.execute(&format!("CREATE TABLE src (id int NOT NULL PRIMARY KEY, c {kind})")).await;
}

#[tokio::test]
async fn numbers_are_read_up_to_the_greatest() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("numbers").await;
    for (kind, next) in [("bigint", "22"), ("tinyint", "22"), ("decimal(38,2)", "21.01"), ("money", "21.0001")] {
        make(&database, kind).await;
        database.execute("INSERT INTO src VALUES (1, 10), (2, 20), (3, NULL)").await;
        let reader = open(&database, json!({"column": ["no_such", "C"]}));
        let (first, read) = ids(&reader, &[]).await;
        assert_eq!(read, "1 2 3", "{kind}: {first:?}");
        assert!(first[0].warnings[0].contains("NULL"), "{kind}");
        database.execute("INSERT INTO src VALUES (4, 20), (5, 21), (6, NULL), (7, 5)").await;
        let (second, read) = ids(&reader, &first).await;
        assert_eq!((read.as_str(), second[0].high.as_deref()), ("5", Some(next)), "{kind}");
        assert_eq!(ids(&reader, &second).await.1, "", "{kind}");
    }
}

#[tokio::test]
async fn times_end_at_the_servers_clock() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("times").await;
    for (kind, now, later) in [
        ("datetime2(6)", "SYSUTCDATETIME()", "DATEADD(day, 1, SYSUTCDATETIME())"),
        ("datetime", "GETUTCDATE()", "DATEADD(day, 1, GETUTCDATE())"),
        ("datetimeoffset(6)", "SYSDATETIMEOFFSET()", "DATEADD(day, 1, SYSDATETIMEOFFSET())"),
    ] {
        make(&database, kind).await;
        let reader = open(&database, json!({"column": "c"}));
        database.execute(&format!("INSERT INTO src VALUES (1, {now}), (2, {later})")).await;
        // The older type stores thirds of hundredths of a second, so what is stamped now may lie just ahead.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let (first, read) = ids(&reader, &[]).await;
        assert_eq!(read, "1", "{kind}: {first:?}");
        database.execute(&format!("INSERT INTO src VALUES (3, {now}); UPDATE src SET c = {now} WHERE id = 1")).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let (second, read) = ids(&reader, &first).await;
        assert_eq!(read, "1 3", "{kind}: {first:?} {second:?}");
        assert_eq!((&second[0].low, &second[0].watermark), (&first[0].high, &first[0].high), "{kind}");
        assert_eq!(ids(&reader, &second).await.1, "", "{kind}");
    }
}

#[tokio::test]
async fn from_and_to_bound_what_is_read() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("bounds").await;
    for kind in ["datetime2(3)", "datetime", "smalldatetime", "datetimeoffset(3)", "date"] {
        make(&database, kind).await;
        database
            .execute(
                "INSERT INTO src VALUES (1, '2025-10-31'), (2, '2025-11-01'), (3, '2025-11-02'), (4, '2025-11-03')",
            )
            .await;
        let day = |to: &str| open(&database, json!({"column": "c", "from": "2025-11-01", "to": to}));
        let (first, read) = ids(&day("2025-11-02"), &[]).await;
        assert_eq!(read, "2", "{kind}: {first:?}");
        assert_eq!(ids(&day("2025-11-02"), &first).await.1, "", "{kind}");
        assert_eq!(ids(&day("20251104"), &first).await.1, "3 4", "{kind}");
    }
    make(&database, "nvarchar(9)").await;
    let error = read_windows(&open(&database, json!({"column": "c"})), after(&[])).await.err().unwrap();
    assert!(error.kind() == ErrorKind::Unsupported && error.full().contains("no exact order"), "{}", error.full());
}

#[tokio::test]
async fn an_index_tells_how_much_a_window_holds() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("counted").await;
    make(&database, "int").await;
    database.execute("CREATE INDEX by_c ON src (c); INSERT INTO src VALUES (1, 1), (2, 2), (3, 3)").await;
    let reader = open(&database, json!({"column": "c"}));
    let (first, _) = ids(&reader, &[]).await;
    database.execute("INSERT INTO src VALUES (4, 4), (5, 5)").await;
    let (_, read) = read_windows(&reader, after(&first)).await.unwrap();
    let estimates: Vec<_> = read.splits.iter().map(|split| split.split.rows).collect();
    assert_eq!((estimates, read.rows()), (vec![Some(2)], 2));
}

#[tokio::test]
async fn row_versions_are_read_once() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("versions").await;
    if database.is_babelfish().await {
        return weir_plugins_test::not_run("Babelfish does not have MIN_ACTIVE_ROWVERSION");
    }
    database.execute("CREATE TABLE src (id int NOT NULL PRIMARY KEY, note int, c rowversion)").await;
    let reader = open(&database, json!({"column": "c"}));
    let mut windows = Vec::new();
    for (change, expected) in [
        ("INSERT INTO src (id) VALUES (1)", "1"),
        ("INSERT INTO src (id) VALUES (2)", "2"),
        ("UPDATE src SET note = 5 WHERE id = 1", "1"),
        ("DELETE FROM src WHERE id = 2", ""),
    ] {
        database.execute(change).await;
        let read;
        (windows, read) = ids(&reader, &windows).await;
        assert_eq!(read, expected, "{change}: {windows:?}");
    }
}

#[tokio::test]
async fn changes_that_are_tracked_are_read_once() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("tracked").await;
    if database.is_babelfish().await {
        return weir_plugins_test::not_run("Babelfish does not know change tracking");
    }
    database.execute("ALTER DATABASE CURRENT SET CHANGE_TRACKING = ON (CHANGE_RETENTION = 2 DAYS)").await;
    make(&database, "int").await;
    database.execute("ALTER TABLE src ENABLE CHANGE_TRACKING").await;
    let reader = open(&database, json!({"column": "SYS_CHANGE_VERSION"}));
    let mut windows = Vec::new();
    for (change, expected) in [
        ("INSERT INTO src VALUES (1, 1), (2, 2)", "1 2"),
        ("INSERT INTO src VALUES (3, 3)", "3"),
        ("UPDATE src SET c = 5 WHERE id = 1", "1"),
        ("DELETE FROM src WHERE id = 2", ""),
    ] {
        database.execute(change).await;
        let read;
        (windows, read) = ids(&reader, &windows).await;
        assert_eq!(read, expected, "{change}: {windows:?}");
    }
}

#[tokio::test]
async fn change_tracking_that_is_off_is_said() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("untracked").await;
    make(&database, "int").await;
    database.execute("INSERT INTO src VALUES (1, 1)").await;
    let column = open(&database, json!({"column": ["sys_change_version", "c"]}));
    assert_eq!(ids(&column, &[]).await.1, "1");
    let tracked = open(&database, json!({"column": "SYS_CHANGE_VERSION"}));
    let error = read_windows(&tracked, after(&[])).await.err().unwrap();
    assert!(error.full().contains("ENABLE CHANGE_TRACKING"), "{}", error.full());
}
