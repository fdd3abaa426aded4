//! Sessions that rest between the calls of a run, and are as good as new for the next one.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use serde_json::json;
use weir_core::{Account, ConnectorContext, Kept, Refused, TaskId};
use weir_plugins_test::harness::{self, WriteOptions, fitted, open_writer, open_writer_in, plan_for};
use weir_plugins_test::servers::{self, Database};
use weir_sqlserver::{Options, Session, Setup, cell_number, connect_first};
use weir_writer_sqlserver as _;

fn keeping() -> ConnectorContext {
    let mut context = harness::context();
    context.shared = context.shared.on(Some(Kept::default()));
    context
}

async fn connect(database: &Database, setup: &Setup, context: &ConnectorContext) -> Session {
    let options = Options::parse(&database.url(), None, None, "/url").unwrap();
    connect_first(&options, setup, context).await.unwrap()
}

async fn number(session: &mut Session, sql: &str) -> i64 {
    let row = session.row(&format!("SELECT CAST({sql} AS bigint)")).await.unwrap().unwrap();
    cell_number(&row, 0).unwrap()
}

#[tokio::test]
async fn what_a_call_has_set_is_set_back_for_the_next() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("renewed").await;
    let (setup, context) = (Setup::default(), keeping());
    let mut session = connect(&database, &setup, &context).await;
    let isolation =
        "SELECT CAST(transaction_isolation_level AS bigint) FROM sys.dm_exec_sessions WHERE session_id = @@SPID";
    let isolation = format!("({isolation})");
    let asked = ["@@SPID", "@@LOCK_TIMEOUT", "@@OPTIONS & 16384", "@@OPTIONS & 2", &isolation];
    let mut before = Vec::new();
    for what in asked {
        before.push(number(&mut session, what).await);
    }
    session
        .run(
            "SET XACT_ABORT ON; SET IMPLICIT_TRANSACTIONS ON; SET LOCK_TIMEOUT 7; \
             SET TRANSACTION ISOLATION LEVEL SNAPSHOT",
        )
        .await
        .unwrap();
    session.run("IF @@TRANCOUNT > 0 COMMIT TRANSACTION").await.unwrap();
    session.rest().await;
    let mut session = connect(&database, &setup, &context).await;
    let mut after = Vec::new();
    for what in asked {
        after.push(number(&mut session, what).await);
    }
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_session_that_is_not_clean_is_not_used_again() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("unclean").await;
    let (setup, context) = (Setup::default(), keeping());
    let mut session = connect(&database, &setup, &context).await;
    let first = number(&mut session, "@@SPID").await;
    session.run("BEGIN TRANSACTION").await.unwrap();
    session.rest().await;
    let mut session = connect(&database, &setup, &context).await;
    let second = number(&mut session, "@@SPID").await;
    assert_ne!(first, second, "it is in a transaction");
    session.spoil();
    session.rest().await;
    let mut session = connect(&database, &setup, &context).await;
    let third = number(&mut session, "@@SPID").await;
    assert_ne!(second, third, "it was spoilt");
    session.rest().await;
    // What other statements begin with is another session.
    let own = Setup { session: vec!["SET DATEFIRST 3".into()] };
    let mut session = connect(&database, &own, &context).await;
    assert_ne!(third, number(&mut session, "@@SPID").await);
    assert_eq!(number(&mut session, "@@DATEFIRST").await, 3);
    session.run("SET DATEFIRST 5").await.unwrap();
    session.rest().await;
    let mut session = connect(&database, &own, &context).await;
    assert_eq!(number(&mut session, "@@DATEFIRST").await, 3, "they are run again");
}

/// One session writes split after split, to tables of different columns whose numbers come with the rows.
#[tokio::test]
async fn tasks_leave_nothing_behind_in_their_session() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("tasks").await;
    database
        .execute(
            "CREATE TABLE uses (spid int); CREATE TABLE a (id int IDENTITY PRIMARY KEY, x int CHECK (x > 0)); \
             CREATE TABLE b (id int IDENTITY PRIMARY KEY, y nvarchar(10) NOT NULL, x int CHECK (x > 0))",
        )
        .await;
    let context = keeping();
    for (table, id) in [("a", 1), ("b", 2), ("a", 3)] {
        let number = |n: i32| Arc::new(Int32Array::from_iter_values([n, n + 10])) as ArrayRef;
        let mut columns = vec![("id", number(id)), ("x", number(id))];
        if table == "b" {
            columns.insert(1, ("y", Arc::new(StringArray::from(vec!["ü", ""]))));
        }
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let parameters = json!({"url": database.url(), "table": table, "session": "INSERT INTO uses VALUES (@@SPID)"});
        let planner = open_writer("sqlserver", parameters.clone()).unwrap();
        let plan = plan_for(&planner, &rows.schema(), &WriteOptions::default()).await.unwrap();
        database.execute("DELETE FROM uses").await;
        let writer = open_writer_in("sqlserver", parameters, &context).unwrap();
        writer.prepare(&plan).await.unwrap();
        let task = TaskId { run_id: plan.run_id.clone(), split: 0, table: "source".into(), attempt: 1 };
        let mut open = writer.open(&plan, &task).await.unwrap();
        let mut refused = Refused::default();
        open.write(&fitted(&rows, &plan).unwrap(), &mut refused).await.unwrap();
        assert_eq!(refused.rows, 0);
        let receipt = open.finish(Account::default()).await.unwrap();
        writer.commit(&plan, &[receipt]).await.unwrap();
        let uses = database.query("SELECT COUNT(*), COUNT(DISTINCT spid) FROM uses").await;
        assert_eq!(uses[0], [Some("3".into()), Some("1".into())], "{table}");
    }
    let rows = database.query("SELECT id, x FROM a UNION ALL SELECT id, x FROM b ORDER BY id").await;
    let numbers: Vec<_> = rows.iter().map(|row| row[0].as_deref().unwrap()).collect();
    assert_eq!(numbers, ["1", "2", "3", "11", "12", "13"]);
}
