//! Each split lands once, whatever is repeated, overtaken or lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Int64Array, RecordBatch, StringArray};
use serde_json::json;
use weir_core::{ErrorKind, Receipt, Refused, Result, TaskId, WritePlan, Writer};
use weir_sqlite::Access;
use weir_writer_sqlite::SqliteWriter;

use crate::support::{ROWS, TestFile, account, batch, context, pairs, request, run, write};
use weir_core::Form;

const TABLE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT NOT NULL)";

async fn plan(writer: &SqliteWriter, run: &str) -> WritePlan {
    writer.plan(&request(&pairs(&[]).schema(), Some("id"), run)).await.unwrap()
}

async fn split(writer: &SqliteWriter, plan: &WritePlan, split: u32, rows: &RecordBatch) -> Result<Receipt> {
    let id = TaskId { run_id: plan.run_id.clone(), split, table: "t".into(), attempt: 1 };
    let mut task = writer.open(plan, &id).await?;
    task.write(rows, &mut Refused::default()).await?;
    task.finish(account()).await
}

#[tokio::test]
async fn a_split_lands_once() {
    for mode in ["append", "overwrite", "upsert", "replace", "ignore"] {
        let file = TestFile::new(TABLE).await;
        let writer = file.writer(json!({ "writeMode": mode }));
        let plan = plan(&writer, "r1").await;
        assert!(plan.records_splits);
        writer.prepare(&plan).await.unwrap();
        // Two attempts are open at once; the second finishes while the first has not begun to write.
        let id = TaskId { run_id: "r1".into(), split: 7, table: "t".into(), attempt: 1 };
        let slow = writer.open(&plan, &id).await.unwrap();
        let receipt = split(&writer, &plan, 7, &pairs(&[(1, "a")])).await.unwrap();
        assert_eq!(slow.finish(account()).await.unwrap_err().kind(), ErrorKind::Conflict, "{mode}");
        let again = split(&writer, &plan, 7, &pairs(&[(1, "a")])).await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::Conflict, "{mode}");
        // An empty split is recorded like any other.
        let empty = writer.open(&plan, &TaskId { split: 8, ..id }).await.unwrap().finish(account()).await.unwrap();
        let recorded = writer.recorded(&plan).await.unwrap();
        assert_eq!(recorded.receipts, [receipt, empty]);
        assert!(!recorded.published);
        // As after a crash: staging and rows stay, preSql is not run.
        writer.prepare(&plan).await.unwrap();
        for _ in 0..2 {
            writer.commit(&plan, &recorded.receipts).await.unwrap();
            assert!(writer.recorded(&plan).await.unwrap().published);
            assert_eq!(file.texts(ROWS).await, ["1:a"], "{mode}");
        }
        writer.prepare(&plan).await.unwrap();
        writer.abort(&plan, &recorded.receipts).await.unwrap();
        assert_eq!(file.texts(ROWS).await, ["1:a"], "{mode}");
        for _ in 0..2 {
            writer.forget(&plan).await.unwrap();
            let recorded = writer.recorded(&plan).await.unwrap();
            assert!(recorded.receipts.is_empty() && !recorded.published);
        }
        file.is_clean().await;
        assert_eq!(file.texts("SELECT count(*) || '' FROM weir_commits").await, ["0"]);
    }
}

#[tokio::test]
async fn statements_before_run_until_a_split_is_recorded_and_those_after_again() {
    let file = TestFile::new(&format!("{TABLE}; CREATE TABLE log(what TEXT)")).await;
    let writer = file.writer(json!({
        "preSql": ["INSERT INTO log VALUES('pre')", "VACUUM"], "postSql": "INSERT INTO log VALUES('post')"
    }));
    let plan = plan(&writer, "r1").await;
    for _ in 0..3 {
        writer.prepare(&plan).await.unwrap();
    }
    let receipt = split(&writer, &plan, 0, &pairs(&[(1, "a")])).await.unwrap();
    writer.prepare(&plan).await.unwrap();
    for _ in 0..2 {
        writer.commit(&plan, std::slice::from_ref(&receipt)).await.unwrap();
    }
    assert_eq!(file.texts("SELECT what FROM log").await, ["pre", "post", "post"]);
}

#[tokio::test]
async fn an_aborted_run_begins_anew() {
    let file = TestFile::new("").await;
    let writer = file.writer(json!({ "writeMode": "overwrite" }));
    let plan = plan(&writer, "r1").await;
    for round in ["a", "b"] {
        writer.prepare(&plan).await.unwrap();
        let receipt = split(&writer, &plan, 0, &pairs(&[(1, round)])).await.unwrap();
        if round == "a" {
            for _ in 0..2 {
                writer.abort(&plan, std::slice::from_ref(&receipt)).await.unwrap();
            }
            assert!(writer.recorded(&plan).await.unwrap().receipts.is_empty());
            assert!(file.texts("SELECT name FROM sqlite_schema WHERE name = 't'").await.is_empty());
        } else {
            writer.commit(&plan, &[receipt]).await.unwrap();
        }
    }
    assert_eq!(file.texts(ROWS).await, ["1:b"]);
}

#[tokio::test]
async fn what_somebody_took_away_is_not_published_as_if_it_were_there() {
    let file = TestFile::new(&format!("{TABLE}; INSERT INTO t VALUES(9, 'old')")).await;
    let writer = file.writer(json!({ "writeMode": "overwrite" }));
    let planned = plan(&writer, "r1").await;
    writer.prepare(&planned).await.unwrap();
    let receipt = split(&writer, &planned, 0, &pairs(&[(1, "a")])).await.unwrap();
    let other = Receipt { split: 1, ..receipt.clone() };
    let error = writer.commit(&planned, &[receipt.clone(), other]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "a split that is not recorded");
    let stage = file.texts("SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'weir_*_s'").await;
    file.execute(&format!("DROP TABLE {}", stage[0])).await;
    for result in [writer.prepare(&planned).await.err(), writer.commit(&planned, &[receipt]).await.err()] {
        let error = result.unwrap();
        assert!(error.kind() == ErrorKind::Conflict && error.message().contains("start the run anew"), "{error}");
    }
    assert_eq!(file.texts(ROWS).await, ["9:old"]);
    assert!(!writer.recorded(&planned).await.unwrap().published);
}

#[tokio::test]
async fn without_a_record_a_run_still_publishes_once() {
    let file = TestFile::new(TABLE).await;
    let writer = file.writer(json!({ "writeMode": "overwrite", "exactlyOnce": false }));
    let (result, _) = run(&writer, &[pairs(&[(1, "a")])], "r1").await.unwrap();
    assert!(!result.plan.records_splits);
    writer.commit(&result.plan, &result.receipts).await.unwrap();
    assert_eq!(file.texts(ROWS).await, ["1:a"]);
    assert!(file.texts("SELECT name FROM sqlite_schema WHERE name LIKE 'weir%'").await.is_empty());
}

#[tokio::test]
async fn the_last_of_equal_keys_wins_whichever_split_comes_first() {
    let file = TestFile::new(&format!("{TABLE}; INSERT INTO t VALUES(1, 'old')")).await;
    let writer = file.writer(json!({ "writeMode": "upsert" }));
    let planned = plan(&writer, "r1").await;
    writer.prepare(&planned).await.unwrap();
    let mut receipts = Vec::new();
    for (number, name) in [(2, "second"), (10, "tenth"), (0, "none")] {
        receipts.push(split(&writer, &planned, number, &pairs(&[(1, "x"), (1, name)])).await.unwrap());
    }
    let committed = writer.commit(&planned, &receipts).await.unwrap();
    assert_eq!((file.texts(ROWS).await, committed.rows), (vec!["1:tenth".to_owned()], Some(1)));

    let strict = file.writer(json!({ "writeMode": "upsert", "duplicateKeys": "error" }));
    let error = run(&strict, &[pairs(&[(1, "a"), (2, "b")]), pairs(&[(2, "c")])], "r2").await.err().unwrap();
    assert!(error.kind() == ErrorKind::Data && error.message().contains("(2)"), "{error}");
    assert_eq!(file.texts(ROWS).await, ["1:tenth"]);
    run(&strict, &[pairs(&[(1, "a"), (2, "b")])], "r3").await.unwrap();
    assert_eq!(file.texts(ROWS).await, ["1:a", "2:b"]);
}

#[tokio::test]
async fn an_overwrite_can_look_for_keys_that_the_table_does_not_know() {
    let file = TestFile::new("CREATE TABLE t(id INTEGER, name TEXT); INSERT INTO t VALUES(7, 'old')").await;
    let looking = |mode: &str| file.writer(json!({ "writeMode": mode, "duplicateKeys": "error", "key": "id" }));
    let writer = looking("overwrite");
    let error = run(&writer, &[pairs(&[(1, "a"), (2, "b")]), pairs(&[(2, "c")])], "r1").await.err().unwrap();
    assert!(error.kind() == ErrorKind::Data && error.message().contains("(2)"), "{error}");
    assert_eq!(file.texts(ROWS).await, ["7:old"]);
    run(&writer, &[pairs(&[(1, "a"), (2, "b")])], "r2").await.unwrap();
    assert_eq!(file.texts(ROWS).await, ["1:a", "2:b"]);
    // Appended rows are seen at once: that nobody compares them is said, unless the table does it by itself.
    let said = |plan: WritePlan| plan.warnings.iter().filter(|w| w.contains("no unique key over (id)")).count();
    assert_eq!(said(plan(&looking("append"), "r3").await), 1);
    file.execute("CREATE UNIQUE INDEX t_id ON t(id)").await;
    assert_eq!(said(plan(&looking("append"), "r4").await), 0);
}

#[tokio::test]
async fn no_null_becomes_a_default_and_no_row_gets_lost_by_a_clause_of_the_table() {
    let sql = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT NOT NULL ON CONFLICT REPLACE DEFAULT 'd',
               UNIQUE (name) ON CONFLICT IGNORE)";
    let names = || Arc::new(StringArray::from(vec![Some("a"), None, Some("b")]));
    let rows = batch(vec![("id", Arc::new(Int64Array::from(vec![Some(1), Some(2), None]))), ("name", names())]);
    for mode in ["append", "overwrite", "replace", "ignore"] {
        let file = TestFile::new(sql).await;
        let written =
            write(&file.writer(json!({ "writeMode": mode })), std::slice::from_ref(&rows), "r").await.unwrap();
        assert_eq!((written.receipts[0].rows, written.refused.len()), (1, 2), "{mode}: {:?}", written.refused);
    }
    let file = TestFile::new(sql).await;
    let twice = pairs(&[(1, "a"), (2, "a")]);
    let written = write(&file.writer(json!({})), &[twice], "r").await.unwrap();
    assert_eq!((written.receipts[0].rows, written.refused.len()), (1, 1));
}

#[tokio::test]
async fn overwriting_leaves_rows_that_refer_to_the_table_or_is_refused() {
    let sql = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, up INTEGER REFERENCES t(id));
               CREATE TABLE child(t INTEGER REFERENCES t(id) ON DELETE CASCADE);
               CREATE INDEX i ON t(name); CREATE VIEW v AS SELECT count(*) AS n FROM t;
               INSERT INTO t VALUES(1, 'old', NULL), (2, 'gone', 1); INSERT INTO child VALUES(1)";
    let file = TestFile::new(sql).await;
    let writer = file.writer(json!({ "writeMode": "overwrite", "session": "PRAGMA foreign_keys = ON" }));
    run(&writer, &[pairs(&[(1, "new"), (3, "more")])], "r1").await.unwrap();
    assert_eq!(file.texts(ROWS).await, ["1:new", "3:more"]);
    assert_eq!(file.texts("SELECT t || '' FROM child").await, ["1"]);
    let error = run(&writer, &[pairs(&[(3, "more")])], "r2").await.err().unwrap();
    assert!(error.kind() == ErrorKind::Conflict && error.message().contains("child"), "{error}");
    assert_eq!(file.texts(ROWS).await, ["1:new", "3:more"]);
    assert_eq!(
        file.texts("SELECT type || name FROM sqlite_schema WHERE name IN ('i', 'v')").await,
        ["indexi", "viewv"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_ever_sees_a_part() {
    for journal in ["delete", "wal"] {
        let sql = format!(
            "PRAGMA journal_mode = {journal}; CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT);
                           WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
                           INSERT INTO t SELECT i, 'old' FROM n"
        );
        let file = TestFile::new(&sql).await;
        let done = Arc::new(AtomicBool::new(false));
        let (looked, path) = (done.clone(), file.file());
        let watch = tokio::spawn(async move {
            let mut seen = Vec::new();
            let look = move |db: &weir_sqlite::Database<'_>| {
                while !looked.load(Ordering::Relaxed) {
                    seen.extend(db.texts("SELECT count(*) || min(name) || max(name) FROM t", &[])?);
                    seen.dedup();
                }
                Ok(seen)
            };
            path.with(Access::Read, &context(Form::Native), look).await.unwrap()
        });
        let writer = file.writer(json!({ "writeMode": "overwrite" }));
        for name in ["a", "b", "c"] {
            let rows: Vec<_> = (0..6000).map(|i| (i, name)).collect();
            run(&writer, &[pairs(&rows)], name).await.unwrap();
        }
        done.store(true, Ordering::Relaxed);
        let whole = ["5000oldold", "6000aa", "6000bb", "6000cc"];
        let seen = watch.await.unwrap();
        assert!(seen.len() > 1 && seen.iter().all(|s| whole.contains(&s.as_str())), "{journal}: {seen:?}");
    }
}

#[tokio::test]
async fn another_writer_is_waited_for() {
    let file = TestFile::new(TABLE).await;
    let writer = file.writer(json!({}));
    let planned = plan(&writer, "r1").await;
    writer.prepare(&planned).await.unwrap();
    let holder = file.file().open(Access::Write, &context(Form::Native)).await.unwrap();
    let (holder, ()) = holder.run(|db| Ok(db.execute("BEGIN IMMEDIATE; INSERT INTO t VALUES(5, 'x')")?)).await.unwrap();
    let release = async {
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        holder.run(|db| Ok(db.execute("COMMIT")?)).await.map(|_| ())
    };
    let rows = pairs(&[(1, "a")]);
    let (written, released) = tokio::join!(split(&writer, &planned, 0, &rows), release);
    released.unwrap();
    assert_eq!(written.unwrap().rows, 1);
    assert_eq!(file.texts(ROWS).await, ["1:a", "5:x"]);
}

#[tokio::test]
async fn entries_that_spell_one_table_differently_share_it() {
    for exactly_once in [true, false] {
        let file = TestFile::new("CREATE TABLE old(id)").await;
        let context = context(Form::Native);
        let entry = |table: &str| {
            let parameters = json!({ "path": file.path(), "table": table, "exactlyOnce": exactly_once });
            SqliteWriter::open(&parameters, &context).unwrap()
        };
        let (first, second) = (entry("t"), entry("T"));
        let (of_first, of_second) = (plan(&first, "r!0").await, plan(&second, "r!1").await);
        assert!(of_first.creates && of_second.creates);
        first.prepare(&of_first).await.unwrap();
        second.prepare(&of_second).await.unwrap();
        split(&second, &of_second, 0, &pairs(&[(1, "a")])).await.unwrap();
        // One that ends leaves the table to the other, whose rows are in it.
        first.abort(&of_first, &[]).await.unwrap();
        second.prepare(&of_second).await.unwrap();
        assert_eq!(file.texts(ROWS).await, ["1:a"]);
    }
}

#[tokio::test]
async fn a_view_or_other_letters_made_meanwhile_are_somebody_elses_too() {
    for made in ["CREATE TABLE T(id REAL, name TEXT)", "CREATE VIEW t AS SELECT id, 'a' AS name FROM old WHERE id > 0"]
    {
        let file = TestFile::new("CREATE TABLE old(id)").await;
        let writer = file.writer(json!({}));
        let plan = plan(&writer, "r!0").await;
        file.execute(made).await;
        let error = writer.prepare(&plan).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.full().contains("somebody else"), "{}", error.full());
        writer.abort(&plan, &[]).await.unwrap();
        let there = "SELECT lower(name) FROM sqlite_schema WHERE lower(name) = 't'";
        assert_eq!(file.texts(there).await, ["t"], "{made}");
    }
}

#[tokio::test]
async fn a_table_that_somebody_else_makes_meanwhile_is_left_to_them() {
    for mode in ["append", "overwrite", "upsert"] {
        for (pre_sql, exactly_once) in [(json!([]), true), (json!(["DELETE FROM t"]), true), (json!([]), false)] {
            let file = TestFile::new("CREATE TABLE old(id)").await;
            let more = json!({ "writeMode": mode, "preSql": pre_sql, "exactlyOnce": exactly_once });
            let writer = file.writer(more.clone());
            let plan = plan(&writer, "r!0").await;
            assert!(plan.creates);
            file.execute("CREATE TABLE t(id REAL, name TEXT)").await;
            for writer in [&writer, &file.writer(more.clone())] {
                let error = writer.prepare(&plan).await.unwrap_err();
                assert!(error.full().contains("somebody else"), "{mode}: {}", error.full());
                assert_eq!(error.kind(), ErrorKind::Conflict);
            }
            writer.abort(&plan, &[]).await.unwrap();
            let there = "SELECT name FROM sqlite_schema WHERE name = 't'";
            assert_eq!(file.texts(there).await, ["t"], "{mode}");
            file.execute("DROP TABLE t").await;
            // What the run itself has made it goes on with, also another entry of it, and takes with it.
            writer.prepare(&plan).await.unwrap();
            writer.prepare(&plan).await.unwrap();
            if exactly_once {
                let plan = WritePlan {
                    run_id: "r!1".into(),
                    state: serde_json::from_str(&plan.state.to_string().replace("r!0", "r!1")).unwrap(),
                    ..plan.clone()
                };
                file.writer(more).prepare(&plan).await.unwrap();
            }
            writer.abort(&plan, &[]).await.unwrap();
            assert_eq!(file.texts(there).await.len(), 0, "{mode}");
        }
    }
}
