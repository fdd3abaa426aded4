//! A finished split is applied once, whatever becomes of connections and processes; what is published is whole.

use std::sync::Arc;

use arrow::array::{Int32Array, RecordBatch, StringArray};
use serde_json::{Value, json};
use weir_core::{Account, ErrorKind, Receipt, Recorded, Refused, Result, TaskId, WritePlan, Writer};
use weir_plugins_test::harness::{
    WriteOptions, Written, control, fitted, on_thread, open_writer, plan_for, run_task, stage_splits, write_all,
};
use weir_plugins_test::proxy::Proxy;
use weir_plugins_test::servers::Database;
use weir_writer_mysql as _;

/// The same test on both servers.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod mariadb {
            $(#[tokio::test]
            async fn $test() {
                super::$test(weir_plugins_test::servers::mariadb().await.fresh_database(stringify!($test)).await).await;
            })*
        }
        mod mysql9 {
            $(#[tokio::test]
            async fn $test() {
                super::$test(weir_plugins_test::servers::mysql().await.fresh_database(stringify!($test)).await).await;
            })*
        }
    };
}

on_both!(
    a_split_lands_once,
    a_killed_connection_leaves_nothing,
    a_commit_that_others_are_in_the_midst_of_is_waited_for,
    prepare_keeps_what_is_staged,
    a_run_is_published_once,
    an_overwrite_keeps_referenced_rows,
    other_unique_keys,
    equal_keys_in_the_input,
    without_the_right_to_create,
    tables_that_the_user_does_not_see_keep_their_rows,
    records_in_another_database,
    a_table_of_others_under_the_record_s_name,
    tables_without_transactions,
    a_column_that_is_altered_meanwhile_takes_no_values,
    a_table_that_somebody_else_makes_meanwhile_is_left_to_them,
    a_table_whose_making_was_interrupted_is_whose_it_is,
    entries_of_one_run_share_the_table_that_it_makes,
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
    let sql = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() \
               AND TABLE_NAME LIKE 'weir\\_%' AND TABLE_NAME <> 'weir_commits'";
    contents(database, sql).await
}

/// A run that a test drives by hand.
struct Run {
    writer: Arc<dyn Writer>,
    plan: WritePlan,
}

impl Run {
    async fn new(database: &Database, more: Value) -> Result<Self> {
        let writer = open_writer("mysql", with(database, more))?;
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

    async fn abort(&self) {
        let (writer, plan) = (self.writer.clone(), self.plan.clone());
        control(async move { writer.abort(&plan, &[]).await }).await.unwrap();
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
    database.execute("CREATE TABLE a (id INT, t TEXT)").await;
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

/// Kills every connection to the database but the one that kills.
async fn kill_connections(database: &Database) {
    let all = database.sessions().await;
    assert!(!all.is_empty(), "nobody to kill");
    for session in all {
        let _ = database.try_execute(&format!("KILL {}", session.id)).await;
    }
}

async fn a_killed_connection_leaves_nothing(database: Database) {
    database.execute("CREATE TABLE k (id INT PRIMARY KEY, t TEXT)").await;
    for mode in ["append", "overwrite", "upsert", "replace", "ignore"] {
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

async fn a_commit_that_others_are_in_the_midst_of_is_waited_for(database: Database) {
    database.execute("CREATE TABLE w (id INT PRIMARY KEY, t TEXT)").await;
    let run = Run::new(&database, json!({ "table": "w" })).await.unwrap();
    run.prepare().await.unwrap();
    // Another attempt has written rows and record, and its commit comes late.
    let receipt = Receipt {
        split: 0,
        rows: 1,
        skipped: 0,
        account: Account { attempt: 1, ..Account::default() },
        data: Value::Null,
    };
    let late = format!(
        "START TRANSACTION; INSERT INTO w VALUES (1, 'first'); \
         INSERT INTO weir_commits (run_id, split, target, receipt) VALUES ('{}', 0, 't', '{}'); \
         DO SLEEP(3); COMMIT",
        run.plan.run_id,
        serde_json::to_string(&receipt).unwrap()
    );
    let other = database.clone();
    let late = tokio::spawn(async move { other.execute(&late).await });
    database.until_runs(|statement| statement == "DO SLEEP(3)").await;
    // Whoever asks what has landed, and would write the rest, hears of it too.
    let (known, overtaken) = tokio::join!(run.recorded(), run.split(0, 2, &[(1, "second")]));
    let error = overtaken.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Conflict, true), "{error:?}");
    late.await.unwrap();
    assert_eq!(known.receipts, [receipt]);
    assert_eq!(contents(&database, "SELECT * FROM w").await, ["1|first"]);
}

async fn prepare_keeps_what_is_staged(database: Database) {
    database.execute("CREATE TABLE p (id INT PRIMARY KEY, t TEXT); INSERT INTO p VALUES (9, 'old')").await;
    for mode in ["overwrite", "upsert"] {
        let more = json!({ "table": "p", "writeMode": mode, "preSql": "UPDATE p SET t = CONCAT(t, '!')" });
        let run = Run::new(&database, more).await.unwrap();
        run.prepare().await.unwrap();
        run.split(0, 1, &[(1, "a")]).await.unwrap();
        run.prepare().await.unwrap();
        run.split(1, 1, &[(2, "b")]).await.unwrap();
        assert_eq!(run.split(1, 2, &[(2, "c")]).await.unwrap_err().kind(), ErrorKind::Conflict);
        run.commit().await.unwrap();
        assert!(own_tables(&database).await.is_empty());
        // A resume that finds all published prepares nothing again.
        run.prepare().await.unwrap();
        assert!(own_tables(&database).await.is_empty());
        run.forget().await;
    }
    assert_eq!(contents(&database, "SELECT * FROM p ORDER BY id").await, ["1|a", "2|b"]);
    // Without its staging table a run cannot go on.
    let run = Run::new(&database, json!({ "table": "p", "writeMode": "overwrite" })).await.unwrap();
    run.prepare().await.unwrap();
    run.split(0, 1, &[(1, "a")]).await.unwrap();
    database.execute(&format!("DROP TABLE `{}`", own_tables(&database).await[0])).await;
    assert_eq!(run.prepare().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(run.commit().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(contents(&database, "SELECT COUNT(*) FROM p").await, ["2"]);
}

async fn a_run_is_published_once(database: Database) {
    database.execute("CREATE TABLE o (id INT PRIMARY KEY, t TEXT); CREATE TABLE log (i INT)").await;
    let more = json!({ "table": "o", "writeMode": "overwrite", "postSql": "INSERT INTO log VALUES (1)" });
    let run = Run::new(&database, more).await.unwrap();
    run.prepare().await.unwrap();
    run.split(0, 1, &[(1, "a")]).await.unwrap();
    run.commit().await.unwrap();
    database.execute("INSERT INTO o VALUES (2, 'later')").await;
    run.commit().await.unwrap();
    assert_eq!(contents(&database, "SELECT * FROM o ORDER BY id").await, ["1|a", "2|later"]);
    assert_eq!(contents(&database, "SELECT COUNT(*) FROM log").await, ["2"]);
    // Nobody reads an empty or half a table while it is published.
    let reading = database.clone();
    let readers = tokio::spawn(async move {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..60 {
            seen.extend(contents(&reading, "SELECT COUNT(*), COUNT(DISTINCT t) FROM o").await);
        }
        seen
    });
    for round in 0..4 {
        let word = format!("round {round}");
        let rows: Vec<(i32, &str)> = (0..500).map(|i| (i, word.as_str())).collect();
        let writer = open_writer("mysql", with(&database, json!({ "table": "o", "writeMode": "overwrite" }))).unwrap();
        write_all(&writer, vec![pairs(&rows)], WriteOptions::default()).await.unwrap();
    }
    let seen = readers.await.unwrap();
    assert!(seen.iter().all(|s| s == "500|1" || s == "2|2"), "{seen:?}");
}

async fn an_overwrite_keeps_referenced_rows(database: Database) {
    database
        .execute(
            "CREATE TABLE parent (id INT PRIMARY KEY, t VARCHAR(20), made INT DEFAULT 7);
             CREATE TABLE child (p INT, FOREIGN KEY (p) REFERENCES parent (id));
             INSERT INTO parent VALUES (1, 'old', 1), (2, 'same', 2), (3, 'gone', 3);
             INSERT INTO child VALUES (1), (2)",
        )
        .await;
    let write = async |rows: &[(i32, &str)]| -> Result<Written> {
        let parameters = with(&database, json!({ "table": "parent", "writeMode": "overwrite" }));
        write_all(&open_writer("mysql", parameters)?, vec![pairs(rows)], WriteOptions::default()).await
    };
    let written = write(&[(1, "new"), (2, "same"), (4, "more")]).await.unwrap();
    assert!(written.plan.method.contains("missing rows deleted"), "{}", written.plan.method);
    assert!(written.plan.warnings.iter().any(|w| w.contains("made")), "{:?}", written.plan.warnings);
    let all = "SELECT * FROM parent ORDER BY id";
    assert_eq!(contents(&database, all).await, ["1|new|1", "2|same|2", "4|more|7"]);
    // A row that is referred to cannot go: nothing changes at all.
    let error = write(&[(1, "newer")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(error.message().contains("referred to"), "{error}");
    assert_eq!(contents(&database, all).await, ["1|new|1", "2|same|2", "4|more|7"]);
    assert!(own_tables(&database).await.is_empty());
}

async fn other_unique_keys(database: Database) {
    database
        .execute(
            "CREATE TABLE u (id INT PRIMARY KEY, t VARCHAR(20) UNIQUE, kept INT DEFAULT 5);
             INSERT INTO u VALUES (1, 'a', 1), (2, 'b', 2)",
        )
        .await;
    let write = async |rows: &[(i32, &str)]| -> Result<Written> {
        let parameters = with(&database, json!({ "table": "u", "writeMode": "upsert" }));
        write_all(&open_writer("mysql", parameters)?, vec![pairs(rows)], WriteOptions::default()).await
    };
    let written = write(&[(1, "x"), (3, "y"), (1, "z")]).await.unwrap();
    assert!(written.plan.method.contains("JOIN"), "{}", written.plan.method);
    let all = "SELECT * FROM u ORDER BY id";
    assert_eq!(contents(&database, all).await, ["1|z|1", "2|b|2", "3|y|5"]);
    // Another key in the way is a fault, not an update of the row that has it.
    write(&[(4, "b")]).await.unwrap_err();
    assert_eq!(contents(&database, all).await, ["1|z|1", "2|b|2", "3|y|5"]);
    // So is an exchange of its values, be it that others refer to the rows.
    database.execute("CREATE TABLE uc (u INT, FOREIGN KEY (u) REFERENCES u (id)); INSERT INTO uc VALUES (1)").await;
    for mode in ["upsert", "overwrite"] {
        let parameters = with(&database, json!({ "table": "u", "writeMode": mode, "column": ["id", "t"] }));
        let rows = vec![pairs(&[(1, "b"), (2, "z"), (3, "y")])];
        let error =
            write_all(&open_writer("mysql", parameters).unwrap(), rows, WriteOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{mode}: {error:?}");
        assert!(error.message().contains("compares row by row"), "{mode}: {error}");
        assert!(error.message().contains("a row of the target that is not in the source"), "{mode}: {error}");
        assert_eq!(contents(&database, all).await, ["1|z|1", "2|b|2", "3|y|5"], "{mode}");
    }
}

async fn equal_keys_in_the_input(database: Database) {
    for (table, definition) in [
        ("one", "id INT PRIMARY KEY, t VARCHAR(20)"),
        ("two", "id INT PRIMARY KEY, t VARCHAR(20), n INT, UNIQUE KEY (n)"),
        ("nullable", "id INT UNIQUE, t VARCHAR(20), n INT, UNIQUE KEY (n)"),
        ("alone", "id INT UNIQUE, t VARCHAR(20)"),
    ] {
        database.execute(&format!("CREATE TABLE {table} ({definition})")).await;
        let writer =
            open_writer("mysql", with(&database, json!({ "table": table, "writeMode": "upsert", "key": ["id"] })))
                .unwrap();
        // The later split wins, however the tasks come to their ends.
        let splits = vec![vec![pairs(&[(1, "a"), (2, "b")])], vec![pairs(&[(1, "c"), (1, "d")]), pairs(&[(2, "e")])]];
        let staged = stage_splits(&writer, &pairs(&[]).schema(), splits, WriteOptions::default()).await.unwrap();
        staged.commit().await.unwrap();
        let all = format!("SELECT id, t FROM {table} ORDER BY id");
        assert_eq!(contents(&database, &all).await, ["1|d", "2|e"], "{table}");
        let strict = json!({ "table": table, "writeMode": "upsert", "key": ["id"], "duplicateKeys": "error" });
        let writer = open_writer("mysql", with(&database, strict)).unwrap();
        let rows = vec![pairs(&[(7, "x"), (8, "y"), (7, "z")])];
        let error = write_all(&writer, rows, WriteOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{error:?}");
        assert!(error.message().contains("'7'") && error.message().contains("duplicateKeys"), "{error}");
        assert!(!error.message().contains("collation"), "numbers have none: {error}");
        assert_eq!(contents(&database, &all).await, ["1|d", "2|e"], "{table}");
        if definition.contains("id INT UNIQUE") {
            // A NULL equals no other one.
            let nobody = RecordBatch::try_new(
                pairs(&[]).schema(),
                vec![Arc::new(Int32Array::from(vec![None, None])), Arc::new(StringArray::from(vec!["x", "x"]))],
            )
            .unwrap();
            for there in ["2", "4"] {
                write_all(&writer, vec![nobody.clone()], WriteOptions::default()).await.unwrap();
                let count = format!("SELECT count(*) FROM {table} WHERE id IS NULL AND t = 'x'");
                assert_eq!(contents(&database, &count).await, [there], "{table}");
            }
        }
        assert!(own_tables(&database).await.is_empty());
    }
}

async fn without_the_right_to_create(database: Database) {
    database.execute("CREATE TABLE c (id INT PRIMARY KEY, t TEXT)").await;
    let user = format!("poor_{}_{}", std::process::id(), database.port());
    let place = database.quote(database.name());
    database
        .execute(&format!(
            "CREATE USER '{user}'@'%' IDENTIFIED BY 'poor'; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON {place}.* TO '{user}'@'%'"
        ))
        .await;
    let plan = async |more: Value| -> Result<(Arc<dyn Writer>, WritePlan)> {
        let mut parameters = with(&database, more);
        parameters["url"] = json!(database.url_with(&user, "poor"));
        let writer = open_writer("mysql", parameters)?;
        let plan = plan_for(&writer, &pairs(&[]).schema(), &WriteOptions::default()).await?;
        Ok((writer, plan))
    };
    for mode in ["append", "overwrite", "upsert"] {
        let error = plan(json!({ "table": "c", "writeMode": mode })).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Denied, "{mode}: {error:?}");
        for word in ["CREATE", "double or lose", "ledger.schema", "exactlyOnce: false"] {
            assert!(error.message().contains(word), "{mode}: {error}");
        }
    }
    let without = json!({ "table": "c", "writeMode": "overwrite", "exactlyOnce": false });
    assert_eq!(plan(without).await.err().unwrap().kind(), ErrorKind::Denied);
    for mode in ["append", "upsert"] {
        let (writer, plan) = plan(json!({ "table": "c", "writeMode": mode, "exactlyOnce": false })).await.unwrap();
        assert!(!plan.records_splits && plan.commits_per_split);
        assert!(plan.warnings.iter().any(|w| w.contains("exactlyOnce")), "{:?}", plan.warnings);
        write_all(&writer, vec![pairs(&[(1, mode)])], WriteOptions::default()).await.unwrap();
    }
    assert_eq!(contents(&database, "SELECT * FROM c").await, ["1|upsert"]);
    // A table of records that somebody else has made will do.
    let full = open_writer("mysql", with(&database, json!({ "table": "c" }))).unwrap();
    write_all(&full, vec![pairs(&[])], WriteOptions::default()).await.unwrap();
    let (writer, planned) = plan(json!({ "table": "c" })).await.unwrap();
    assert!(planned.records_splits);
    write_all(&writer, vec![pairs(&[(2, "mine")])], WriteOptions::default()).await.unwrap();
    database.execute(&format!("DROP USER '{user}'@'%'")).await;
}

async fn tables_that_the_user_does_not_see_keep_their_rows(database: Database) {
    let ledger = database.server().fresh_database("hidden").await;
    database
        .execute(
            "CREATE TABLE parent (id INT PRIMARY KEY, t TEXT); INSERT INTO parent VALUES (1, 'old'), (2, 'old'); \
             CREATE TABLE child (p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE); \
             INSERT INTO child VALUES (1), (2); CREATE TABLE loose (id INT, t TEXT)",
        )
        .await;
    let user = format!("blind_{}_{}", std::process::id(), database.port());
    let (place, other) = (database.quote(database.name()), database.quote(ledger.name()));
    let grant = |table: &str| format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {place}.{table} TO '{user}'@'%'; ");
    database
        .execute(&format!(
            "CREATE USER '{user}'@'%' IDENTIFIED BY 'blind'; {}{}GRANT ALL ON {other}.* TO '{user}'@'%'",
            grant("parent"),
            grant("loose")
        ))
        .await;
    let open = |table: &str| {
        let mut parameters = with(&database, json!({ "table": table, "writeMode": "overwrite" }));
        parameters["url"] = json!(database.url_with(&user, "blind"));
        parameters["ledger"] = json!({ "schema": ledger.name() });
        open_writer("mysql", parameters).unwrap()
    };
    write_all(&open("parent"), vec![pairs(&[(1, "new"), (3, "new")])], WriteOptions::default()).await.unwrap();
    assert_eq!(contents(&database, "SELECT * FROM parent ORDER BY id").await, ["1|new", "3|new"]);
    assert_eq!(contents(&database, "SELECT * FROM child").await, ["1"]);
    let written = write_all(&open("loose"), vec![pairs(&[(1, "new")])], WriteOptions::default()).await.unwrap();
    assert!(written.plan.warnings.iter().any(|w| w.contains("sees only some tables")), "{:?}", written.plan.warnings);
    database.execute(&format!("DROP USER '{user}'@'%'")).await;
}

async fn records_in_another_database(database: Database) {
    let other = database.server().fresh_database("ledger").await;
    database.execute("CREATE TABLE l (id INT PRIMARY KEY, t TEXT)").await;
    for mode in ["append", "overwrite", "upsert"] {
        let more = json!({ "table": "l", "writeMode": mode, "ledger": { "schema": other.name() } });
        let run = Run::new(&database, more).await.unwrap();
        run.prepare().await.unwrap();
        run.split(0, 1, &[(1, mode)]).await.unwrap();
        assert_eq!(run.recorded().await.receipts.len(), 1);
        run.commit().await.unwrap();
        assert!(run.recorded().await.published);
        if mode == "append" {
            database.execute("DELETE FROM l").await;
        }
    }
    assert_eq!(contents(&database, "SELECT * FROM l").await, ["1|upsert"]);
    assert_eq!(contents(&database, "SHOW TABLES").await, ["l"]);
    assert_eq!(contents(&other, "SHOW TABLES").await, ["weir_commits"]);
    let more = json!({ "table": "l", "ledger": { "schema": "no_such_database" } });
    assert_eq!(Run::new(&database, more).await.err().unwrap().kind(), ErrorKind::NotFound);
}

async fn a_table_of_others_under_the_record_s_name(database: Database) {
    database.execute("CREATE TABLE o (id INT PRIMARY KEY, t TEXT); CREATE TABLE weir_commits (a INT)").await;
    let error = Run::new(&database, json!({ "table": "o" })).await.unwrap().prepare().await.unwrap_err();
    let said = error.to_string();
    assert!(error.kind() == ErrorKind::Conflict && said.contains("weir_commits"), "{error:?}");
    assert!(said.contains("`ledger`") && said.contains("schema"), "{said}");
}

async fn tables_without_transactions(database: Database) {
    database.execute("CREATE TABLE m (id TINYINT PRIMARY KEY, t VARCHAR(3)) ENGINE=MyISAM").await;
    let error = Run::new(&database, json!({ "table": "m" })).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("exactlyOnce: false"), "{error}");
    let writer = open_writer("mysql", with(&database, json!({ "table": "m", "exactlyOnce": false }))).unwrap();
    let rows = [(1, "a"), (2, "long"), (3, "b"), (1, "c"), (4, "d")];
    let written = write_all(&writer, vec![pairs(&rows)], WriteOptions::default()).await.unwrap();
    assert_eq!((written.rows(), written.refused.len()), (3, 2), "{:?}", written.refused);
    assert_eq!(contents(&database, "SELECT * FROM m ORDER BY id").await, ["1|a", "3|b", "4|d"]);
}

/// Whether there is a table, and whether it is the one that somebody else has made.
async fn whose(database: &Database) -> &'static str {
    let sql = "SELECT DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'n' \
               AND COLUMN_NAME = 'id'";
    match contents(database, sql).await.first().map(String::as_str) {
        None => "nobody's",
        Some("float") => "theirs",
        Some(_) => "the run's",
    }
}

const THEIRS: &str = "CREATE TABLE n (id FLOAT, t VARCHAR(1))";

fn refused(done: Result<()>, what: &str) {
    let error = done.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.full().contains("somebody else"), "{what}: {}", error.full());
}

/// What a run does to a table that it makes; `run` is planned.
async fn is_made_and_taken_back(database: &Database, run: &Run, what: &str) {
    database.execute(THEIRS).await;
    refused(run.prepare().await, what);
    run.abort().await;
    assert_eq!((whose(database).await, own_tables(database).await.len()), ("theirs", 0), "{what}");
    database.execute("DROP TABLE n").await;
    // What the run itself has made it goes on with, and takes with it.
    run.prepare().await.unwrap();
    run.prepare().await.unwrap();
    assert_eq!(whose(database).await, "the run's", "{what}");
    run.abort().await;
    assert_eq!((whose(database).await, own_tables(database).await.len()), ("nobody's", 0), "{what}");
}

/// A column of another type would round or cut the values without a word.
async fn a_column_that_is_altered_meanwhile_takes_no_values(database: Database) {
    let altered = |to: &'static str| database.execute(to);
    database.execute("CREATE TABLE a (id INT PRIMARY KEY, t VARCHAR(20)); INSERT INTO a VALUES (7, 'old')").await;
    for mode in ["append", "overwrite", "upsert"] {
        let run = Run::new(&database, json!({ "table": "a", "writeMode": mode })).await.unwrap();
        run.prepare().await.unwrap();
        let direct = mode == "append";
        if direct {
            altered("ALTER TABLE a MODIFY t VARCHAR(10)").await;
        }
        let mut done = run.split(0, 1, &[(1, "x")]).await.map(drop);
        if !direct {
            done.unwrap();
            altered("ALTER TABLE a MODIFY t VARCHAR(10)").await;
            done = run.commit().await.map(drop);
        }
        let error = done.unwrap_err();
        let text = error.full();
        assert!(text.contains("was altered") && text.contains("varchar(10)"), "{mode}: {text}");
        assert_eq!(contents(&database, "SELECT * FROM a").await, ["7|old"], "{mode}");
        run.abort().await;
        altered("ALTER TABLE a MODIFY t VARCHAR(20)").await;
    }
    // Made by the run, and altered before it publishes.
    let run = Run::new(&database, json!({ "table": "b", "writeMode": "overwrite" })).await.unwrap();
    run.prepare().await.unwrap();
    run.split(0, 1, &[(1, "x")]).await.unwrap();
    altered("ALTER TABLE b MODIFY id BIGINT").await;
    let error = run.commit().await.unwrap_err();
    assert!(error.full().contains("was altered"), "{}", error.full());
    run.abort().await;
}

async fn a_table_that_somebody_else_makes_meanwhile_is_left_to_them(database: Database) {
    let user = format!("maker_{}_{}", std::process::id(), database.port());
    let place = database.quote(database.name());
    database
        .execute(&format!(
            "CREATE TABLE old (id INT); CREATE USER '{user}'@'%' IDENTIFIED BY 'maker'; \
             GRANT SELECT, INSERT, DELETE, CREATE ON {place}.* TO '{user}'@'%'"
        ))
        .await;
    for mode in ["append", "overwrite", "upsert"] {
        for pre_sql in [json!([]), json!(["INSERT INTO @table (id) VALUES (1)", "DELETE FROM @table"])] {
            let more = json!({ "table": "n", "writeMode": mode, "key": ["id"], "preSql": pre_sql });
            let mut more =
                if mode == "upsert" { more } else { json!({ "table": "n", "writeMode": mode, "preSql": pre_sql }) };
            is_made_and_taken_back(&database, &Run::new(&database, more.clone()).await.unwrap(), mode).await;
            more["exactlyOnce"] = json!(false);
            is_made_and_taken_back(&database, &Run::new(&database, more).await.unwrap(), "without records").await;
        }
    }
    // Who may create and nothing else.
    let mut poor = json!({ "table": "n" });
    poor["url"] = json!(database.url_with(&user, "maker"));
    let run = Run::new(&database, poor).await.unwrap();
    assert!(run.plan.statements.iter().all(|sql| !sql.contains("RENAME")), "{:?}", run.plan.statements);
    database.execute(THEIRS).await;
    refused(run.prepare().await, "who may only create");
    run.abort().await;
    assert_eq!(whose(&database).await, "theirs");
    database.execute("DROP TABLE n").await;
    run.prepare().await.unwrap();
    run.prepare().await.unwrap();
    run.split(0, 1, &[(1, "a")]).await.unwrap();
    run.commit().await.unwrap();
    assert_eq!(contents(&database, "SELECT * FROM n").await, ["1|a"]);
    database.execute(&format!("DROP USER '{user}'@'%'; DROP TABLE n")).await;
}

/// The process dies, or its connection, between the statements that make a table; another process goes on.
async fn a_table_whose_making_was_interrupted_is_whose_it_is(database: Database) {
    let proxy = Proxy::start(database.port()).await.unwrap();
    let steps = ["CREATE TABLE", "INSERT INTO", "RENAME TABLE", "LIKE"];
    let modes = [(json!([]), "append"), (json!([]), "overwrite"), (json!(["SELECT 'LIKE'"]), "append")];
    for (step, (pre_sql, mode)) in steps.iter().flat_map(|step| modes.iter().map(move |more| (*step, more.clone()))) {
        if step == "LIKE" && mode == "append" && pre_sql == json!([]) {
            continue;
        }
        // Without TLS the proxy hears what is said.
        let (url, ssl_mode) = (proxy.url(&database.url()), "disabled");
        let more = json!({ "url": url, "sslMode": ssl_mode, "table": "n", "writeMode": mode, "preSql": pre_sql });
        let what = format!("{mode} at {step}, {pre_sql}");
        // The table of records is there.
        Run::new(&database, json!({ "table": "old" })).await.unwrap().prepare().await.unwrap();
        let made = step == "LIKE";
        for (theirs, goes_on) in [(false, true), (true, true), (false, false), (true, false)] {
            let what = format!("{what}, theirs {theirs}, goes on {goes_on}");
            let run = Run::new(&database, more.clone()).await.unwrap();
            proxy.cut_at(step);
            assert_eq!(run.prepare().await.unwrap_err().kind(), ErrorKind::Unreachable, "{what}");
            assert_eq!(whose(&database).await, if made { "the run's" } else { "nobody's" }, "{what}");
            let theirs = theirs && !made;
            if theirs {
                database.execute(THEIRS).await;
            }
            // Another process, with the plan of this one.
            let next = Run { writer: open_writer("mysql", with(&database, more.clone())).unwrap(), plan: run.plan };
            if goes_on && theirs {
                refused(next.prepare().await, &what);
                refused(next.prepare().await, &what);
            } else if goes_on {
                next.prepare().await.unwrap();
                assert_eq!(whose(&database).await, "the run's", "{what}");
            }
            next.abort().await;
            next.abort().await;
            let stands = if theirs { "theirs" } else { "nobody's" };
            assert_eq!((whose(&database).await, own_tables(&database).await.len()), (stands, 0), "{what}");
            database.execute("DROP TABLE IF EXISTS n").await;
        }
    }
}

/// Tables that are merged into one are entries of one run, each of which has planned to make it.
async fn entries_of_one_run_share_the_table_that_it_makes(database: Database) {
    for mode in ["append", "overwrite"] {
        let entry = async |run: &str| {
            let mut entry = Run::new(&database, json!({ "table": "n", "writeMode": mode })).await.unwrap();
            let options = WriteOptions { run_id: run.into(), ..WriteOptions::default() };
            entry.plan = plan_for(&entry.writer, &pairs(&[]).schema(), &options).await.unwrap();
            entry
        };
        let (first, second, other) = (entry("r!0").await, entry("r!1").await, entry("s!0").await);
        first.prepare().await.unwrap();
        second.prepare().await.unwrap();
        second.prepare().await.unwrap();
        refused(other.prepare().await, mode);
        other.abort().await;
        assert_eq!(whose(&database).await, "the run's", "{mode}");
        first.abort().await;
        second.abort().await;
        assert_eq!((whose(&database).await, own_tables(&database).await.len()), ("nobody's", 0), "{mode}");
    }
}
