//! A finished split is applied once, whatever becomes of connections and processes; what is published is whole.

use std::sync::Arc;

use arrow::array::{Int32Array, RecordBatch, StringArray};
use serde_json::{Value, json};
use weir_core::{Account, ErrorKind, Receipt, Recorded, Refused, Result, TaskId, WritePlan, Writer};
use weir_plugins_test::harness::{
    WriteOptions, Written, control, fitted, on_thread, open_writer, plan_for, run_task, stage_splits, write_all,
};
use weir_plugins_test::servers::Database;
use weir_writer_sqlserver as _;

/// Each test in a database of its own, or counted as not run.
macro_rules! on_the_server {
    ($($test:ident),* $(,)?) => {
        mod sqlserver {
            $(#[tokio::test]
            async fn $test() {
                let Some(server) = weir_plugins_test::servers::sqlserver() else { return };
                super::$test(server.fresh_database(stringify!($test)).await).await;
            })*
        }
    };
}

on_the_server!(
    a_split_lands_once,
    a_killed_connection_leaves_nothing,
    prepare_keeps_what_is_staged,
    a_run_is_published_once,
    nobody_sees_half_an_overwrite,
    referenced_rows,
    numbers_beside_the_key,
    equal_keys_in_the_input,
);

fn with(database: &Database, more: Value) -> Value {
    let mut parameters = json!({ "url": database.url() });
    if let (Some(all), Some(more)) = (parameters.as_object_mut(), more.as_object()) {
        all.extend(more.clone());
    }
    parameters
}

fn pairs(rows: &[(i32, &str)]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.0))) as _, true),
        ("t", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1))) as _, true),
    ])
    .unwrap()
}

async fn contents(database: &Database, sql: &str) -> Vec<String> {
    let rows = database.query(sql).await;
    rows.into_iter()
        .map(|r| r.into_iter().map(|c| c.unwrap_or_else(|| "NULL".into())).collect::<Vec<_>>().join("|"))
        .collect()
}

async fn own_tables(database: &Database) -> Vec<String> {
    let sql = "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME LIKE 'weir[_]%' \
               AND TABLE_NAME <> 'weir_commits'";
    contents(database, sql).await
}

/// A run that a test drives by hand.
struct Run {
    writer: Arc<dyn Writer>,
    plan: WritePlan,
}

impl Run {
    async fn new(database: &Database, more: Value) -> Result<Self> {
        let writer = open_writer("sqlserver", with(database, more))?;
        let plan = plan_for(&writer, &pairs(&[]).schema(), &WriteOptions::default()).await?;
        Ok(Self { writer, plan })
    }

    async fn prepare(&self) -> Result<()> {
        let (writer, plan) = (self.writer.clone(), self.plan.clone());
        control(async move { writer.prepare(&plan).await }).await
    }

    async fn recorded(&self) -> Recorded {
        let (writer, plan) = (self.writer.clone(), self.plan.clone());
        control(async move { writer.recorded(&plan).await }).await.unwrap()
    }

    async fn commit(&self) -> Result<weir_core::Committed> {
        let receipts = self.recorded().await.receipts;
        let (writer, plan) = (self.writer.clone(), self.plan.clone());
        control(async move { writer.commit(&plan, &receipts).await }).await
    }

    async fn forget(&self) {
        let (writer, plan) = (self.writer.clone(), self.plan.clone());
        control(async move { writer.forget(&plan).await }).await.unwrap();
    }

    fn task(&self, split: u32, attempt: u32) -> TaskId {
        TaskId { run_id: self.plan.run_id.clone(), split, table: "source".into(), attempt }
    }

    async fn split(&self, split: u32, attempt: u32, rows: &[(i32, &str)]) -> Result<Receipt> {
        Ok(run_task(&self.writer, &self.plan, self.task(split, attempt), vec![pairs(rows)]).await?.0)
    }
}

async fn a_split_lands_once(database: Database) {
    database.execute("CREATE TABLE a (id int, t nvarchar(max))").await;
    let run = Run::new(&database, json!({ "table": "a", "preSql": "INSERT INTO a VALUES (0, 'pre')" })).await.unwrap();
    assert!(run.plan.records_splits && run.plan.commits_per_split);
    assert!(run.recorded().await.receipts.is_empty(), "before prepare");
    run.prepare().await.unwrap();
    run.prepare().await.unwrap();
    let receipt = run.split(0, 1, &[(1, "x"), (2, "y")]).await.unwrap();
    assert_eq!(run.recorded().await.receipts, std::slice::from_ref(&receipt));
    // A second attempt that never learned of the first one.
    let error = run.split(0, 2, &[(1, "x"), (2, "y")]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Conflict, true), "{error:?}");
    let empty = run.split(1, 1, &[]).await.unwrap();
    assert_eq!(run.split(1, 2, &[]).await.unwrap_err().kind(), ErrorKind::Conflict);
    run.prepare().await.unwrap();
    let recorded = run.recorded().await;
    assert_eq!((recorded.receipts, recorded.published), (vec![receipt, empty], false));
    assert_eq!(contents(&database, "SELECT * FROM a ORDER BY id").await, ["0|pre", "1|x", "2|y"]);
    run.commit().await.unwrap();
    assert!(run.recorded().await.published);
    run.forget().await;
    assert!(run.recorded().await.receipts.is_empty() && !run.recorded().await.published);
    assert_eq!(contents(&database, "SELECT COUNT(*) FROM weir_commits").await, ["0"]);
}

/// Ends every connection to the database but the one that does it.
async fn kill_connections(database: &Database) {
    let sql = format!(
        "SELECT session_id FROM sys.dm_exec_sessions WHERE DB_NAME(database_id) = N'{}' AND session_id <> @@SPID",
        database.name()
    );
    let all = contents(database, &sql).await;
    assert!(!all.is_empty(), "nobody to kill");
    for id in all {
        let _ = database.try_execute(&format!("KILL {id}")).await;
    }
}

async fn a_killed_connection_leaves_nothing(database: Database) {
    database.execute("CREATE TABLE k (id int PRIMARY KEY, t nvarchar(max))").await;
    for mode in ["append", "overwrite", "upsert"] {
        database.execute("DELETE FROM k").await;
        let run = Run::new(&database, json!({ "table": "k", "writeMode": mode })).await.unwrap();
        run.prepare().await.unwrap();
        let (writer, plan, task) = (run.writer.clone(), run.plan.clone(), run.task(0, 1));
        let (rows, killing) = (fitted(&pairs(&[(1, "x")]), &plan).unwrap(), database.clone());
        let error = on_thread(async move {
            let mut open = writer.open(&plan, &task).await?;
            open.write(&rows, &mut Refused::default()).await?;
            kill_connections(&killing).await;
            open.finish(Account::default()).await
        })
        .await
        .unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true), "{mode}: {error:?}");
        assert!(run.recorded().await.receipts.is_empty(), "{mode}");
        run.split(0, 2, &[(1, "x")]).await.unwrap();
        run.commit().await.unwrap();
        assert_eq!(contents(&database, "SELECT * FROM k").await, ["1|x"], "{mode}");
        run.forget().await;
    }
}

async fn prepare_keeps_what_is_staged(database: Database) {
    database.execute("CREATE TABLE p (id int PRIMARY KEY, t nvarchar(100)); INSERT INTO p VALUES (9, 'old')").await;
    for mode in ["overwrite", "upsert"] {
        let run = Run::new(&database, json!({ "table": "p", "writeMode": mode })).await.unwrap();
        run.prepare().await.unwrap();
        run.split(0, 1, &[(1, "a")]).await.unwrap();
        run.prepare().await.unwrap();
        run.split(1, 1, &[(2, "b")]).await.unwrap();
        assert_eq!(run.split(1, 2, &[(2, "c")]).await.unwrap_err().kind(), ErrorKind::Conflict);
        run.commit().await.unwrap();
        assert!(own_tables(&database).await.is_empty(), "{mode}");
        // A resume that finds all published prepares nothing again.
        run.prepare().await.unwrap();
        assert!(own_tables(&database).await.is_empty(), "{mode}");
        run.forget().await;
    }
    assert_eq!(contents(&database, "SELECT * FROM p ORDER BY id").await, ["1|a", "2|b"]);
    // Without its staging table a run cannot go on.
    let run = Run::new(&database, json!({ "table": "p", "writeMode": "overwrite" })).await.unwrap();
    run.prepare().await.unwrap();
    run.split(0, 1, &[(1, "a")]).await.unwrap();
    database.execute(&format!("DROP TABLE [{}]", own_tables(&database).await[0])).await;
    assert_eq!(run.prepare().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(run.commit().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(contents(&database, "SELECT COUNT(*) FROM p").await, ["2"]);
}

async fn a_run_is_published_once(database: Database) {
    database.execute("CREATE TABLE o (id int PRIMARY KEY, t nvarchar(100)); CREATE TABLE log (i int)").await;
    for mode in ["overwrite", "upsert"] {
        database.execute("DELETE FROM o; DELETE FROM log").await;
        let more = json!({ "table": "o", "writeMode": mode, "postSql": "INSERT INTO log VALUES (1)" });
        let run = Run::new(&database, more).await.unwrap();
        run.prepare().await.unwrap();
        run.split(0, 1, &[(1, "a")]).await.unwrap();
        run.commit().await.unwrap();
        database.execute("INSERT INTO o VALUES (2, 'later'); UPDATE o SET t = 'changed' WHERE id = 1").await;
        run.commit().await.unwrap();
        assert_eq!(contents(&database, "SELECT * FROM o ORDER BY id").await, ["1|changed", "2|later"], "{mode}");
        run.forget().await;
    }
}

async fn nobody_sees_half_an_overwrite(database: Database) {
    database.execute("CREATE TABLE o (id int PRIMARY KEY, t nvarchar(100)); INSERT INTO o VALUES (1, 'a')").await;
    let reading = database.clone();
    let readers = tokio::spawn(async move {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..40 {
            seen.extend(contents(&reading, "SELECT COUNT(*), COUNT(DISTINCT t) FROM o").await);
        }
        seen
    });
    for round in 0..4 {
        let word = format!("round {round}");
        let rows: Vec<(i32, &str)> = (0..500).map(|i| (i, word.as_str())).collect();
        let writer =
            open_writer("sqlserver", with(&database, json!({ "table": "o", "writeMode": "overwrite" }))).unwrap();
        write_all(&writer, vec![pairs(&rows)], WriteOptions::default()).await.unwrap();
    }
    let seen = readers.await.unwrap();
    assert!(seen.iter().all(|s| s == "500|1" || s == "1|1"), "{seen:?}");
}

/// Rows that others refer to: replaced, or refused in plain words; never half.
async fn referenced_rows(database: Database) {
    database
        .execute(
            "CREATE TABLE parent (id int PRIMARY KEY, t nvarchar(20));
             CREATE TABLE child (p int, FOREIGN KEY (p) REFERENCES parent (id));
             INSERT INTO parent VALUES (1, 'old'), (2, 'same'), (3, 'gone'); INSERT INTO child VALUES (1), (2)",
        )
        .await;
    let write = async |rows: &[(i32, &str)]| -> Result<Written> {
        let parameters = with(&database, json!({ "table": "parent", "writeMode": "overwrite" }));
        write_all(&open_writer("sqlserver", parameters)?, vec![pairs(rows)], WriteOptions::default()).await
    };
    let all = "SELECT * FROM parent ORDER BY id";
    let (before, after) = (["1|old", "2|same", "3|gone"], ["1|new", "2|same", "4|more"]);
    let kept = match write(&[(1, "new"), (2, "same"), (4, "more")]).await {
        Ok(_) => after,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Conflict), "{error:?}");
            assert!(error.full().contains("child") || error.full().contains("refer"), "{error:?}");
            before
        }
    };
    assert_eq!(contents(&database, all).await, kept);
    // A row that is referred to cannot go: nothing changes at all.
    write(&[(1, "newer")]).await.unwrap_err();
    assert_eq!(contents(&database, all).await, kept);
    assert!(own_tables(&database).await.is_empty());
}

/// The number of a row that is there cannot be changed: an overwrite makes the row anew, an upsert says that it stays.
async fn numbers_beside_the_key(database: Database) {
    database
        .execute(
            "CREATE TABLE parent (id int IDENTITY, t nvarchar(20) PRIMARY KEY);
             CREATE TABLE child (t nvarchar(20), FOREIGN KEY (t) REFERENCES parent (t));
             INSERT INTO parent (t) VALUES ('one'), ('two'), ('three'); INSERT INTO child VALUES ('one')",
        )
        .await;
    let open = |mode: &str| open_writer("sqlserver", with(&database, json!({ "table": "parent", "writeMode": mode })));
    let rows = vec![pairs(&[(1, "one"), (7, "two"), (2, "four")])];
    write_all(&open("overwrite").unwrap(), rows, WriteOptions::default()).await.unwrap();
    let all = "SELECT id, t FROM parent ORDER BY t";
    assert_eq!(contents(&database, all).await, ["2|four", "1|one", "7|two"]);
    let upsert = open("upsert").unwrap();
    let planned = plan_for(&upsert, &pairs(&[]).schema(), &WriteOptions::default()).await.unwrap();
    assert!(planned.warnings.iter().any(|w| w.contains("keep their `id`")), "{:?}", planned.warnings);
    write_all(&upsert, vec![pairs(&[(9, "two"), (8, "five")])], WriteOptions::default()).await.unwrap();
    assert_eq!(contents(&database, all).await, ["8|five", "2|four", "1|one", "7|two"]);
}

async fn equal_keys_in_the_input(database: Database) {
    for (table, definition) in [
        ("one", "id int PRIMARY KEY, t nvarchar(20)"),
        // A unique key takes one NULL only.
        ("two", "id int PRIMARY KEY, t nvarchar(20), n uniqueidentifier UNIQUE DEFAULT NEWID()"),
        ("nullable", "id int UNIQUE, t nvarchar(20), n int"),
    ] {
        database.execute(&format!("CREATE TABLE {table} ({definition})")).await;
        let writer =
            open_writer("sqlserver", with(&database, json!({ "table": table, "writeMode": "upsert", "key": ["id"] })))
                .unwrap();
        // The later split wins, however the tasks come to their ends.
        let splits = vec![vec![pairs(&[(1, "a"), (2, "b")])], vec![pairs(&[(1, "c"), (1, "d")]), pairs(&[(2, "e")])]];
        let staged = stage_splits(&writer, &pairs(&[]).schema(), splits, WriteOptions::default()).await.unwrap();
        staged.commit().await.unwrap();
        let all = format!("SELECT id, t FROM {table} ORDER BY id");
        assert_eq!(contents(&database, &all).await, ["1|d", "2|e"], "{table}");
        let strict = json!({ "table": table, "writeMode": "upsert", "key": ["id"], "duplicateKeys": "error" });
        let writer = open_writer("sqlserver", with(&database, strict)).unwrap();
        let rows = vec![pairs(&[(7, "x"), (8, "y"), (7, "z")])];
        let error = write_all(&writer, rows, WriteOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{error:?}");
        assert!(error.message().contains('7') && error.message().contains("duplicateKeys"), "{error}");
        assert_eq!(contents(&database, &all).await, ["1|d", "2|e"], "{table}");
        assert!(own_tables(&database).await.is_empty());
    }
}
