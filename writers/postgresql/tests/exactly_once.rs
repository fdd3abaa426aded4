//! A split is applied once, whatever breaks in between.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use serde_json::{Value, json};
use weir_core::{Account, ErrorKind, Receipt, Recorded, Refused, Result, TaskId, WritePlan, Writer};
use weir_plugins_test::harness::{self, WriteOptions, control, fitted, on_thread, open_writer, plan_for, run_task};
use weir_plugins_test::servers::{self, Database};
use weir_writer_postgresql as _;

async fn database(name: &str) -> Database {
    servers::postgresql().await.fresh_database(name).await
}

fn writer(database: &Database, mut parameters: Value) -> Arc<dyn Writer> {
    parameters["url"] = database.url().into();
    open_writer("postgresql", parameters).unwrap()
}

fn rows(ids: &[i32]) -> RecordBatch {
    let names: Vec<String> = ids.iter().map(|i| format!("n{i}")).collect();
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int32Array::from(ids.to_vec())) as ArrayRef),
        ("name", Arc::new(StringArray::from(names)) as ArrayRef),
    ])
    .unwrap()
}

fn task(plan: &WritePlan, split: u32, attempt: u32) -> TaskId {
    TaskId { run_id: plan.run_id.clone(), split, table: "source".into(), attempt }
}

async fn planned(writer: &Arc<dyn Writer>) -> WritePlan {
    plan_for(writer, &rows(&[]).schema(), &WriteOptions::default()).await.unwrap()
}

async fn prepare(writer: &Arc<dyn Writer>, plan: &WritePlan) -> Result<()> {
    let (writer, plan) = (writer.clone(), plan.clone());
    control(async move { writer.prepare(&plan).await }).await
}

async fn recorded(writer: &Arc<dyn Writer>, plan: &WritePlan) -> Recorded {
    let (writer, plan) = (writer.clone(), plan.clone());
    control(async move { writer.recorded(&plan).await }).await.unwrap()
}

async fn commit(writer: &Arc<dyn Writer>, plan: &WritePlan, receipts: &[Receipt]) -> Result<Option<u64>> {
    let (writer, plan, receipts) = (writer.clone(), plan.clone(), receipts.to_vec());
    control(async move { Ok(writer.commit(&plan, &receipts).await?.rows) }).await
}

async fn forget(writer: &Arc<dyn Writer>, plan: &WritePlan) {
    let (writer, plan) = (writer.clone(), plan.clone());
    control(async move { writer.forget(&plan).await }).await.unwrap();
}

async fn abort(writer: &Arc<dyn Writer>, plan: &WritePlan) {
    let (writer, plan) = (writer.clone(), plan.clone());
    control(async move { writer.abort(&plan, &[]).await }).await.unwrap();
}

async fn ids(database: &Database) -> String {
    database.value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t").await
}

const TABLE: &str = "CREATE TABLE t (id int, name text); CREATE TABLE log (what text); INSERT INTO t VALUES (0, 'old')";

/// Writes a split up to the point where only `finish` is left, lets `meanwhile` happen, and finishes.
async fn finish_after(
    writer: &Arc<dyn Writer>,
    plan: &WritePlan,
    task: TaskId,
    batch: RecordBatch,
    meanwhile: impl Future<Output = ()> + Send + 'static,
) -> Result<Receipt> {
    let (writer, plan) = (writer.clone(), plan.clone());
    on_thread(async move {
        let account = Account { attempt: task.attempt, epoch: "e".into(), ..Account::default() };
        let mut open = writer.open(&plan, &task).await?;
        open.write(&fitted(&batch, &plan)?, &mut Refused::default()).await?;
        meanwhile.await;
        open.finish(account).await
    })
    .await
}

#[tokio::test]
async fn a_split_lands_once_whatever_mode() {
    for (mode, after) in [("append", "0 1 2 3"), ("overwrite", "1 2 3"), ("upsert", "0 1 2 3"), ("ignore", "0 1 2 3")] {
        let database = database("once").await;
        database.execute(TABLE).await;
        database.execute("ALTER TABLE t ADD PRIMARY KEY (id)").await;
        let to = writer(
            &database,
            json!({"table": "t", "writeMode": mode, "preSql": "INSERT INTO log VALUES ('pre')", "postSql": "INSERT INTO log VALUES ('post')"}),
        );
        let plan = planned(&to).await;
        assert!(plan.records_splits, "{mode}");
        assert!(recorded(&to, &plan).await.receipts.is_empty(), "{mode}: before prepare");
        prepare(&to, &plan).await.unwrap();
        let (first, _) = run_task(&to, &plan, task(&plan, 0, 1), vec![rows(&[1, 2])]).await.unwrap();
        // Again, though nobody heard of it: refused as soon as it is opened.
        let again = run_task(&to, &plan, task(&plan, 0, 2), vec![rows(&[1, 2])]).await.err().unwrap();
        assert_eq!(again.kind(), ErrorKind::Conflict, "{mode}: {again}");
        // A second prepare keeps what is staged and runs preSql no more.
        prepare(&to, &plan).await.unwrap();
        let (second, _) = run_task(&to, &plan, task(&plan, 1, 1), vec![rows(&[3])]).await.unwrap();
        let found = recorded(&to, &plan).await;
        assert_eq!(found.receipts, [first, second], "{mode}");
        assert!(!found.published, "{mode}");
        commit(&to, &plan, &found.receipts).await.unwrap();
        assert!(recorded(&to, &plan).await.published, "{mode}");
        assert_eq!(ids(&database).await, after, "{mode}");
        database.execute("DELETE FROM t WHERE id = 3").await;
        commit(&to, &plan, &found.receipts).await.unwrap();
        assert_eq!(ids(&database).await, after.trim_end_matches(" 3"), "{mode}: published twice");
        assert_eq!(database.value("SELECT string_agg(what, ' ') FROM log").await, "pre post post", "{mode}");
        forget(&to, &plan).await;
        assert!(recorded(&to, &plan).await.receipts.is_empty(), "{mode}");
        let left = "SELECT string_agg(relname, ' ') FROM pg_class WHERE relname LIKE 'weir\\_%' AND relkind = 'r'";
        assert_eq!(database.value(left).await, "weir_commits", "{mode}");
    }
}

#[tokio::test]
async fn a_lost_connection_leaves_nothing_and_the_next_attempt_lands() {
    let database = database("killed").await;
    for mode in ["append", "overwrite"] {
        database.execute(&format!("DROP TABLE IF EXISTS t, log; {TABLE}")).await;
        let to = writer(&database, json!({"table": "t", "writeMode": mode}));
        let plan = planned(&to).await;
        prepare(&to, &plan).await.unwrap();
        let killer = database.clone();
        let kill = async move {
            let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                       WHERE application_name = 'weir' AND datname = current_database() AND state LIKE 'idle in trans%'";
            assert_eq!(killer.value(sql).await, "1");
        };
        let error = finish_after(&to, &plan, task(&plan, 0, 1), rows(&[1, 2]), kill).await.unwrap_err();
        assert!(error.is_retryable() && error.kind() == ErrorKind::Unreachable, "{error:?}");
        assert!(recorded(&to, &plan).await.receipts.is_empty());
        let receipt = finish_after(&to, &plan, task(&plan, 0, 2), rows(&[1, 2]), async {}).await.unwrap();
        let found = recorded(&to, &plan).await.receipts;
        assert_eq!((found.len(), found[0].account.attempt, found[0].account.epoch.as_str()), (1, 2, "e"));
        commit(&to, &plan, &[receipt]).await.unwrap();
        assert_eq!(ids(&database).await, if mode == "append" { "0 1 2" } else { "1 2" });
    }
}

#[tokio::test]
async fn an_attempt_that_still_hangs_in_the_server_is_ended() {
    let database = database("zombie").await;
    database.execute(TABLE).await;
    database.execute("ALTER TABLE t ADD PRIMARY KEY (id)").await;
    let to = writer(&database, json!({"table": "t"}));
    let plan = planned(&to).await;
    prepare(&to, &plan).await.unwrap();
    let (overtaking, planned) = (to.clone(), plan.clone());
    // The second attempt comes while the first one sits on its rows, whose keys it needs.
    let overtake = async move {
        run_task(&overtaking, &planned, task(&planned, 0, 2), vec![rows(&[1, 2])]).await.unwrap();
    };
    let error = finish_after(&to, &plan, task(&plan, 0, 1), rows(&[1, 2]), overtake).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(ids(&database).await, "0 1 2");
    assert_eq!(recorded(&to, &plan).await.receipts[0].account.attempt, 2);
}

#[tokio::test]
async fn an_abort_forgets_and_everything_starts_anew() {
    let database = database("anew").await;
    database.execute(TABLE).await;
    let to =
        writer(&database, json!({"table": "t", "writeMode": "overwrite", "preSql": "INSERT INTO log VALUES ('pre')"}));
    let plan = planned(&to).await;
    for _ in 0..2 {
        prepare(&to, &plan).await.unwrap();
        run_task(&to, &plan, task(&plan, 0, 1), vec![rows(&[1])]).await.unwrap();
        assert_eq!(recorded(&to, &plan).await.receipts.len(), 1);
        abort(&to, &plan).await;
        assert!(recorded(&to, &plan).await.receipts.is_empty());
    }
    assert_eq!(database.value("SELECT count(*) FROM log").await, "2");
    assert_eq!(ids(&database).await, "0");
    // Somebody tidied up in the middle: nothing is published, and the message says why.
    prepare(&to, &plan).await.unwrap();
    let (receipt, _) = run_task(&to, &plan, task(&plan, 0, 1), vec![rows(&[1])]).await.unwrap();
    let stage = database.value("SELECT relname FROM pg_class WHERE relname LIKE 'weir\\_%' AND relkind = 'r' AND relname <> 'weir_commits'").await;
    database.execute(&format!("DROP TABLE \"{stage}\"")).await;
    for error in [prepare(&to, &plan).await.unwrap_err(), commit(&to, &plan, &[receipt]).await.unwrap_err()] {
        assert!(error.kind() == ErrorKind::Conflict && error.message().contains("staging"), "{error}");
    }
    assert!(!recorded(&to, &plan).await.published);
}

#[tokio::test]
async fn rows_that_land_while_their_run_is_taken_back_keep_their_record() {
    let database = database("landing").await;
    let role = format!("{}_role", database.name());
    database
        .execute(&format!(
            "{TABLE}; CREATE ROLE \"{role}\" LOGIN PASSWORD 'p'; GRANT ALL ON t TO \"{role}\"; \
             GRANT ALL ON SCHEMA public TO \"{role}\""
        ))
        .await;
    let to = open_writer("postgresql", json!({"table": "t", "url": database.url_with(&role, "p")})).unwrap();
    let plan = planned(&to).await;
    prepare(&to, &plan).await.unwrap();
    // A former attempt in the midst of its commit, which this login may not end. The lock is that of `record::class`.
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let class = format!("{}/{}", plan.run_id, plan.table).bytes().fold(0xcbf2_9ce4_8422_2325, fnv) & 0x7fff_ffff;
    let receipt = Receipt { split: 0, rows: 1, skipped: 0, account: Account::default(), data: Value::Null };
    let late = format!(
        "BEGIN; SELECT pg_advisory_xact_lock({class}, 0); INSERT INTO t VALUES (1, 'landed'); \
         INSERT INTO weir_commits (run_id, split, target, receipt) VALUES ('{}', 0, 't', '{}'); \
         SELECT pg_sleep(4); COMMIT",
        plan.run_id,
        serde_json::to_string(&receipt).unwrap()
    );
    let other = database.clone();
    let late = tokio::spawn(async move { other.execute(&late).await });
    database
        .until("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'")
        .await;
    assert!(recorded(&to, &plan).await.receipts.is_empty());
    let (writer, taken_back) = (to.clone(), plan.clone());
    let error = control(async move { writer.abort(&taken_back, &[]).await }).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.message().contains("landed"), "{error:?}");
    late.await.unwrap();
    assert_eq!(recorded(&to, &plan).await.receipts, [receipt]);
    assert_eq!(ids(&database).await, "0 1");
    database.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await;
}

#[tokio::test]
async fn a_table_of_others_under_the_record_s_name_is_named_with_the_way_around_it() {
    let database = database("taken").await;
    database.execute(&format!("{TABLE}; CREATE TABLE weir_commits (a int); CREATE SCHEMA etl")).await;
    let to = writer(&database, json!({"table": "t"}));
    let plan = planned(&to).await;
    let (asked, what) = (to.clone(), plan.clone());
    let recorded = control(async move { asked.recorded(&what).await.map(drop) }).await.unwrap_err();
    for error in [recorded, prepare(&to, &plan).await.unwrap_err()] {
        let said = error.to_string();
        assert!(error.kind() == ErrorKind::Conflict && said.contains("weir_commits"), "{error:?}");
        assert!(said.contains("`ledger`") && said.contains("schema"), "{said}");
    }
    let to = writer(&database, json!({"table": "t", "ledger": {"schema": "etl"}}));
    harness::write_all(&to, vec![rows(&[1])], WriteOptions::default()).await.unwrap();
    assert_eq!(ids(&database).await, "0 1");
}

#[tokio::test]
async fn many_runs_make_the_record_at_once() {
    let database = database("race").await;
    database.execute(TABLE).await;
    let runs = (0..12).map(|_| {
        let to = writer(&database, json!({"table": "t"}));
        tokio::spawn(async move {
            let plan = planned(&to).await;
            prepare(&to, &plan).await
        })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.unwrap().unwrap();
    }
    assert_eq!(database.value("SELECT count(*) FROM weir_commits WHERE split = -1").await, "12");
}

#[tokio::test]
async fn a_login_without_create_is_told_which_promise_falls() {
    let database = database("rights").await;
    let role = format!("{}_role", database.name());
    database
        .execute(&format!(
            "{TABLE}; CREATE ROLE \"{role}\" LOGIN PASSWORD 'p'; GRANT ALL ON t TO \"{role}\"; \
             REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE SCHEMA etl; GRANT ALL ON SCHEMA etl TO \"{role}\""
        ))
        .await;
    let open = |mut parameters: Value| {
        parameters["url"] = database.url_with(&role, "p").into();
        parameters["table"] = "t".into();
        open_writer("postgresql", parameters).unwrap()
    };
    let plan = |parameters: Value| {
        let to = open(parameters);
        async move { plan_for(&to, &rows(&[]).schema(), &WriteOptions::default()).await }
    };
    for (parameters, says) in [
        (json!({}), "`exactlyOnce`: false"),
        (json!({"writeMode": "overwrite"}), "GRANT CREATE"),
        (json!({"writeMode": "overwrite", "exactlyOnce": false}), "GRANT CREATE"),
        (json!({"ledger": {"schema": "nowhere"}}), "nowhere"),
    ] {
        let error = plan(parameters.clone()).await.unwrap_err();
        assert!(error.message().contains(says), "{parameters}: {error}");
        assert!(matches!(error.kind(), ErrorKind::Denied | ErrorKind::NotFound), "{error:?}");
    }
    let without = plan(json!({"exactlyOnce": false})).await.unwrap();
    assert!(!without.records_splits && without.warnings[0].contains("exactlyOnce"), "{:?}", without.warnings);
    let to = open(json!({"exactlyOnce": false}));
    let written = harness::write_all(&to, vec![rows(&[1])], WriteOptions::default()).await.unwrap();
    assert_eq!(written.rows(), 1);
    for mode in ["append", "overwrite"] {
        let to = open(json!({"ledger": {"schema": "etl"}, "writeMode": mode}));
        let written = harness::write_all(&to, vec![rows(&[2])], WriteOptions::default()).await.unwrap();
        assert!(written.plan.records_splits);
    }
    assert_eq!(ids(&database).await, "2");
    assert_eq!(database.value("SELECT count(*) FROM etl.weir_commits").await, "6");
    database.execute("CREATE UNLOGGED TABLE u (id int, name text)").await;
    let plan_u = async |parameters: Value| {
        plan_for(&writer(&database, parameters), &rows(&[]).schema(), &WriteOptions::default()).await
    };
    let refused = plan_u(json!({"table": "u"})).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.message().contains("unlogged") && refused.message().contains("`exactlyOnce`: false"), "{refused}");
    let without = plan_u(json!({"table": "u", "exactlyOnce": false})).await.unwrap();
    assert!(!without.records_splits && without.warnings[0].contains("exactlyOnce"), "{:?}", without.warnings);
    // What is published at once is in a table that is logged until then.
    assert!(plan_u(json!({"table": "u", "writeMode": "overwrite"})).await.unwrap().records_splits);
    database.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await;
}

#[tokio::test]
async fn keys_that_come_twice_fail_the_job_where_it_says_so() {
    let database = database("twice").await;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, name text)").await;
    let to = writer(&database, json!({"table": "t", "writeMode": "upsert", "duplicateKeys": "error"}));
    let error = harness::write_all(&to, vec![rows(&[1, 7, 7])], WriteOptions::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Data && error.message().contains("(7) 2 times"), "{error}");
    assert_eq!(database.value("SELECT count(*) FROM t").await, "0");
    harness::write_all(&to, vec![rows(&[1, 7])], WriteOptions::default()).await.unwrap();
    database.execute("CREATE TABLE n (id int, name text, UNIQUE NULLS NOT DISTINCT (id))").await;
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(Int32Array::from(vec![None, None])) as ArrayRef),
        ("name", Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef),
    ])
    .unwrap();
    let to = writer(&database, json!({"table": "n", "writeMode": "upsert", "key": "id"}));
    harness::write_all(&to, vec![batch.clone()], WriteOptions::default()).await.unwrap();
    assert_eq!(database.value("SELECT string_agg(name, ' ') FROM n").await, "b");
    // Elsewhere a NULL equals no other one, whatever the job wants to know of keys.
    database.execute("CREATE TABLE d (id int UNIQUE, name text)").await;
    let to = writer(&database, json!({"table": "d", "writeMode": "upsert", "key": "id", "duplicateKeys": "error"}));
    for rows in ["2", "4"] {
        harness::write_all(&to, vec![batch.clone()], WriteOptions::default()).await.unwrap();
        assert_eq!(database.value("SELECT count(*) FROM d").await, rows);
    }
}

#[tokio::test]
async fn nothing_that_is_written_waits_for_a_lock_for_ever() {
    let database = database("patient").await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, name text, waits text);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                 $$BEGIN NEW.waits := current_setting('lock_timeout'); RETURN NEW; END$$;
             CREATE TRIGGER note BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()",
        )
        .await;
    for mode in ["append", "overwrite", "upsert"] {
        let to = writer(&database, json!({"table": "t", "writeMode": mode, "column": ["id", "name"]}));
        harness::write_all(&to, vec![rows(&[1, 2])], WriteOptions::default()).await.unwrap();
        assert_eq!(database.value("SELECT DISTINCT waits FROM t").await, "1min", "{mode}");
        database.execute("TRUNCATE t").await;
    }
}

#[tokio::test]
async fn rows_that_exchange_a_unique_value_need_a_key_that_waits() {
    let database = database("exchange").await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, name text CONSTRAINT names UNIQUE); \
             CREATE TABLE child (t int REFERENCES t ON DELETE CASCADE); \
             INSERT INTO t VALUES (1, 'n2'), (2, 'n1'), (3, 'n3'); INSERT INTO child VALUES (1), (2)",
        )
        .await;
    let now = "SELECT string_agg(id || name, ' ' ORDER BY id) FROM t";
    for mode in ["upsert", "overwrite"] {
        let to = writer(&database, json!({"table": "t", "writeMode": mode}));
        let error = harness::write_all(&to, vec![rows(&[1, 2, 3])], WriteOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{mode}: {error}");
        assert!(error.message().contains("compares row by row") && error.message().contains("DEFERRABLE"), "{error}");
        assert_eq!(database.value(now).await, "1n2 2n1 3n3", "{mode}");
    }
    for mode in ["upsert", "overwrite"] {
        database
            .execute(
                "ALTER TABLE t DROP CONSTRAINT names, ADD CONSTRAINT names UNIQUE (name) DEFERRABLE; \
                 UPDATE t SET name = 'n' || (3 - id) WHERE id < 3",
            )
            .await;
        let to = writer(&database, json!({"table": "t", "writeMode": mode}));
        harness::write_all(&to, vec![rows(&[1, 2, 3])], WriteOptions::default()).await.unwrap();
        assert_eq!(database.value(now).await, "1n1 2n2 3n3", "{mode}");
        assert_eq!(database.value("SELECT count(*) FROM child").await, "2", "{mode}");
    }
}

#[tokio::test]
async fn an_overwrite_keeps_what_hangs_on_the_table() {
    let database = database("keeps").await;
    let role = format!("{}_role", database.name());
    database
        .execute(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL DEFAULT 'd', at timestamptz DEFAULT '2024-01-01', n int GENERATED ALWAYS AS IDENTITY); \
             CREATE INDEX by_name ON t (name); CREATE VIEW v AS SELECT * FROM t; CREATE ROLE \"{role}\"; \
             GRANT SELECT ON t TO \"{role}\"; CREATE TABLE child (t int REFERENCES t ON DELETE CASCADE); \
             CREATE TABLE u (id int UNIQUE, name text); CREATE TABLE uc (u int REFERENCES u (id)); \
             INSERT INTO t VALUES (1, 'one', '2000-01-01'), (2, 'n2', '2000-01-01'), (9, 'gone', NULL); INSERT INTO child VALUES (1), (9)",
        ))
        .await;
    let to = writer(&database, json!({"table": "t", "writeMode": "overwrite", "column": ["id", "name"]}));
    harness::write_all(&to, vec![rows(&[1, 2, 3])], WriteOptions::default()).await.unwrap();
    let now = database.value("SELECT string_agg(concat_ws('/', id, name, at::date), ' ' ORDER BY id) FROM v").await;
    assert_eq!(now, "1/n1/2024-01-01 2/n2/2024-01-01 3/n3/2024-01-01");
    assert_eq!(database.value("SELECT string_agg(t::text, ' ') FROM child").await, "1");
    let kept = format!(
        "SELECT concat_ws(' ', has_table_privilege('{role}', 't', 'SELECT'), to_regclass('by_name'), \
         (SELECT count(*) FROM pg_constraint WHERE conrelid = 't'::regclass AND contype = 'p'))"
    );
    assert_eq!(database.value(&kept).await, "t by_name 1");
    let to = writer(&database, json!({"table": "u", "writeMode": "overwrite"}));
    let error = harness::write_all(&to, vec![rows(&[1])], WriteOptions::default()).await.unwrap_err();
    assert!(error.message().contains("primary key"), "{error}");
    let both = RecordBatch::try_from_iter([("id", rows(&[1]).column(0).clone()), ("n", rows(&[1]).column(0).clone())]);
    let to = writer(&database, json!({"table": "t", "writeMode": "upsert"}));
    let error = harness::write_all(&to, vec![both.unwrap()], WriteOptions::default()).await.unwrap_err();
    assert!(error.message().contains("generated always"), "{error}");
    database.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await;
}

/// The bytes of an integer are those of some float too.
#[tokio::test]
async fn a_column_that_has_another_type_than_the_plan_saw_is_refused_before_a_row_is_written() {
    let database = database("altered").await;
    database.execute(TABLE).await;
    for mode in ["append", "overwrite"] {
        let writer = writer(&database, json!({"table": "t", "writeMode": mode}));
        let plan = planned(&writer).await;
        database.execute("ALTER TABLE t ALTER COLUMN id TYPE real").await;
        let error = prepare(&writer, &plan).await.unwrap_err();
        assert!(
            error.kind() == ErrorKind::Conflict && error.full().contains("was altered"),
            "{mode}: {}",
            error.full()
        );
        database.execute("ALTER TABLE t ALTER COLUMN id TYPE int").await;
        prepare(&writer, &plan).await.unwrap();
        abort(&writer, &plan).await;
    }
    // Splits that come later look again.
    for change in ["ALTER COLUMN id TYPE real", "ALTER COLUMN name TYPE varchar(1) USING left(name, 1)"] {
        let writer = writer(&database, json!({"table": "t"}));
        let plan = planned(&writer).await;
        prepare(&writer, &plan).await.unwrap();
        database.execute(&format!("ALTER TABLE t {change}")).await;
        let error = finish_after(&writer, &plan, task(&plan, 0, 1), rows(&[5]), async {}).await.unwrap_err();
        assert!(error.full().contains("was altered"), "{change}: {}", error.full());
        database.execute("ALTER TABLE t ALTER COLUMN id TYPE int, ALTER COLUMN name TYPE text").await;
        abort(&writer, &plan).await;
    }
    // What is staged would be rounded when it is published.
    database.execute("ALTER TABLE t ADD PRIMARY KEY (id)").await;
    for mode in ["overwrite", "upsert"] {
        let writer = writer(&database, json!({"table": "t", "writeMode": mode}));
        let plan = planned(&writer).await;
        prepare(&writer, &plan).await.unwrap();
        let receipt = finish_after(&writer, &plan, task(&plan, 0, 1), rows(&[5]), async {}).await.unwrap();
        database.execute("ALTER TABLE t ALTER COLUMN id TYPE real").await;
        let error = commit(&writer, &plan, &[receipt]).await.unwrap_err();
        assert!(error.full().contains("was altered"), "{mode}: {}", error.full());
        database.execute("ALTER TABLE t ALTER COLUMN id TYPE int").await;
        abort(&writer, &plan).await;
    }
    assert_eq!(ids(&database).await, "0");
}

#[tokio::test]
async fn a_table_that_somebody_else_makes_meanwhile_is_left_to_them() {
    let database = database("raced").await;
    let kinds = [(json!([]), true), (json!(["DELETE FROM @table"]), true), (json!([]), false)];
    let modes = ["append", "overwrite", "upsert"];
    for (mode, (pre_sql, exactly_once)) in modes.iter().flat_map(|mode| kinds.iter().map(move |kind| (mode, kind))) {
        let mut more = json!({"table": "raced", "writeMode": mode, "key": "id"});
        (more["preSql"], more["exactlyOnce"]) = (pre_sql.clone(), json!(exactly_once));
        let writer = writer(&database, more);
        let plan = planned(&writer).await;
        assert!(plan.creates);
        database.execute("CREATE TABLE raced (id real, name varchar(1))").await;
        let error = prepare(&writer, &plan).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.full().contains("somebody else"), "{}", error.full());
        abort(&writer, &plan).await;
        assert_eq!(database.value("SELECT count(*) FROM pg_class WHERE relname = 'raced'").await, "1", "{mode}");
        database.execute("DROP TABLE raced").await;
        // What the run itself has made it goes on with, and takes with it.
        prepare(&writer, &plan).await.unwrap();
        prepare(&writer, &plan).await.unwrap();
        abort(&writer, &plan).await;
        assert_eq!(database.value("SELECT count(*) FROM pg_class WHERE relname = 'raced'").await, "0", "{mode}");
    }
}
