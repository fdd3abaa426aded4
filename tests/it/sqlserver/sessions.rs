//! A run of many tables is served by a few sessions, which are closed when it ends.

use std::time::{Duration, Instant};

use serde_json::json;
use weir_plugins_test::servers::{self, Database};

use crate::database::{database_job, run_ok};

/// Each use of a session is a row of its own.
const NOTE: &str =
    "INSERT INTO dbo.uses SELECT session_id, login_time FROM sys.dm_exec_sessions WHERE session_id = @@SPID";

/// How often sessions were used, and how many there were.
async fn uses(database: &Database) -> (usize, usize) {
    let rows = database.query("SELECT spid, CONVERT(varchar(40), since, 126) FROM uses").await;
    let mut sessions = rows.clone();
    sessions.sort();
    sessions.dedup();
    (rows.len(), sessions.len())
}

#[tokio::test]
async fn a_run_of_many_tables_opens_few_sessions_and_closes_them() {
    let Some(server) = servers::sqlserver() else { return };
    const TABLES: usize = 24;
    let (source, target) = (server.fresh_database("many").await, server.fresh_database("many_there").await);
    for database in [&source, &target] {
        database.execute("CREATE TABLE uses (spid int, since datetime)").await;
    }
    for number in 0..TABLES {
        let sql = format!(
            "CREATE TABLE t{number} (id int IDENTITY PRIMARY KEY, x nvarchar(10)); \
             INSERT INTO t{number} (x) VALUES (N'a'), (N'b'), (NULL)"
        );
        source.execute(&sql).await;
    }
    let end = |database: &Database| json!({"url": database.url(), "session": [NOTE]});
    let more = json!({
        "objects": {"include": ["dbo.t*"]},
        "group": {"strategy": "static", "tablesPerGroup": 6, "maxSourceConnections": 2, "concurrentGroups": 1},
    });
    let job = database_job(("sqlserver", end(&source)), ("sqlserver", end(&target)), more);
    for round in ["the first run", "the second run"] {
        for database in [&source, &target] {
            database.execute("DELETE FROM uses").await;
        }
        let report = run_ok(&job).await;
        assert_eq!((report.tables.len(), report.rows_written), (TABLES, 3 * TABLES as u64), "{round}");
        let (at_source, at_target) = (uses(&source).await, uses(&target).await);
        // One a channel, and some for what is asked of several tables at once.
        assert!(at_source.0 >= TABLES && at_source.1 <= 6, "{round}, source: {at_source:?}");
        assert!(at_target.0 >= 5 * TABLES && at_target.1 <= 16, "{round}, target: {at_target:?}");
        for database in [&source, &target] {
            let others = format!(
                "SELECT COUNT(*) FROM sys.dm_exec_sessions WHERE DB_NAME(database_id) = N'{}' AND session_id <> @@SPID",
                database.name()
            );
            let ended = Instant::now();
            while database.value(&others).await != "0" {
                assert!(ended.elapsed() < Duration::from_secs(3), "{round}: sessions are left");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
