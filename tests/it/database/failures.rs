//! One table that fails is one table that failed.

use std::time::{Duration, Instant};

use serde_json::json;
use weir::{Only, Report, RunOptions, Status, TableStops};
use weir_core::ErrorKind;
use weir_plugins_test::servers::{self, Database, Family, OwnServer};

use super::moment::limited;
use super::{database_job, load, rows, run, table};

/// Four tables of some rows.
async fn source(name: &str) -> Database {
    let source = servers::postgresql().await.fresh_database(name).await;
    for table in ["a", "b", "c", "d"] {
        source.execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY, v text); INSERT INTO {table} SELECT g, 'v' || g FROM generate_series(1, 200) g")).await;
    }
    source
}

fn ends(source: &Database, target: &Database) -> serde_json::Value {
    database_job(("postgresql", json!({"url": source.url()})), ("postgresql", json!({"url": target.url()})), json!({}))
}

#[tokio::test]
async fn a_table_that_is_denied_or_dirty_stays_alone_and_runs_again_alone() {
    let source = source("ill").await;
    let target = servers::postgresql().await.fresh_database("illtoo").await;
    let user = format!("ill_{}", std::process::id());
    source
        .execute(&format!(
            "DROP ROLE IF EXISTS {user}; CREATE ROLE {user} LOGIN PASSWORD 'x'; GRANT CONNECT ON DATABASE \"{0}\" TO {user}; \
             GRANT USAGE ON SCHEMA public TO {user}; GRANT SELECT ON a, b, d TO {user}",
            source.name()
        ))
        .await;
    // What d holds does not fit the target's d.
    target.execute("CREATE TABLE d (id int PRIMARY KEY, v text CHECK (v <> 'v7' AND v <> 'v9'))").await;
    let mut job = ends(&source, &target);
    job["name"] = "ill".into();
    job["source"]["parameter"]["url"] = source.url_with(&user, "x").into();
    job["setting"] = json!({"errorLimit": {"record": 1}});
    let state = tempfile::tempdir().unwrap();
    let options = || RunOptions { state_dir: Some(state.path().to_owned()), ..RunOptions::default() };
    let first = run(&job, options()).await;
    assert_eq!((first.status, first.exit_code()), (Status::PartiallyFailed, 1), "{:#?}", first.tables);
    for name in ["public.a", "public.b"] {
        assert_eq!((table(&first, name).status, table(&first, name).rows_written), (Status::Succeeded, 200));
    }
    let kind = |name: &str| table(&first, name).error.as_ref().unwrap().kind;
    assert_eq!((kind("public.c"), kind("public.d")), (ErrorKind::Denied, ErrorKind::DirtyLimit));
    assert_eq!(table(&first, "public.d").rows_written, 0);
    assert!(
        first.error.as_ref().unwrap().message.contains(&format!("--failed-of {}", first.run_id)),
        "{:?}",
        first.error
    );

    // Mended, only the two run again.
    source.execute(&format!("GRANT SELECT ON c TO {user}; UPDATE d SET v = 'fine' WHERE id = 9")).await;
    target.execute("INSERT INTO a VALUES (1000, 'must stay')").await;
    let again = run(&job, RunOptions { only: Only::FailedOf(first.run_id.clone()), ..options() }).await;
    let names: Vec<_> = again.tables.iter().filter_map(|t| t.name.clone()).collect();
    assert_eq!(names, ["public.c", "public.d"]);
    assert_eq!(again.status, Status::Succeeded, "{:#?}", again.tables);
    assert_eq!(table(&again, "public.d").rows_dirty, 1);
    assert_eq!(target.value("SELECT count(*) FROM a").await, "201");
    assert_eq!(rows(&source, "c").await, rows(&target, "c").await);
    let nothing = run(&job, RunOptions { only: Only::FailedOf(again.run_id), ..options() }).await;
    assert!(nothing.error.unwrap().message.contains("ended well"));
}

#[tokio::test]
async fn a_source_that_cannot_be_read_keeps_only_its_own_tables_back() {
    let (here, there) = (source("shut_here").await, source("shut_there").await);
    there.execute("DROP TABLE a, b, c; ALTER TABLE d RENAME TO elsewhere; CREATE TABLE part_2 (id int)").await;
    here.execute("DROP TABLE b, c; ALTER TABLE d RENAME TO grown; CREATE TABLE part_1 (id int)").await;
    let target = servers::postgresql().await.fresh_database("shut").await;
    let mut job = ends(&here, &target);
    job["name"] = "shut".into();
    let end = |url: String| json!({"name": "postgresql", "parameter": {"url": url}});
    job["source"] = json!([end(here.url()), end(there.url())]);
    let merge = json!([{"into": "parts", "from": ["/part_[0-9]/"]}]);
    job["objects"] = json!({"include": ["a", "b", "elsewhere", "grown"], "merge": merge});
    job["tables"] = json!({"grown": {"incremental": {"column": "id"}, "writeMode": "upsert"}});
    job["rules"] = json!({"tableDeleted": "ignore"});
    there.execute("CREATE TABLE b (id int PRIMARY KEY)").await;
    let state = tempfile::tempdir().unwrap();
    let options = || RunOptions { state_dir: Some(state.path().to_owned()), ..RunOptions::default() };
    let first = run(&job, options()).await;
    // The merge once for each of its tables.
    assert_eq!((first.status, first.tables.len()), (Status::Succeeded, 6), "{:#?}", first.tables);

    // Its server knows no such database for a while.
    let away = format!("{}_away", there.name());
    here.execute(&format!("ALTER DATABASE \"{}\" RENAME TO \"{away}\"", there.name())).await;
    here.execute("UPDATE a SET v = 'new'; INSERT INTO grown VALUES (201, 'new')").await;
    let planned = weir::plan(&load(&job), &options()).await.unwrap();
    let names: Vec<_> = planned.entries.iter().filter_map(|entry| entry.name.as_deref()).collect();
    assert_eq!(
        (names.as_slice(), planned.database.unwrap().failed.len()),
        (["public.a", "public.grown"].as_slice(), 4)
    );
    let second = run(&job, options()).await;
    assert_eq!((second.status, second.exit_code()), (Status::PartiallyFailed, 1), "{:#?}", second.error);
    for moved in ["a", "grown"] {
        assert_eq!(rows(&here, moved).await, rows(&target, moved).await);
    }
    let mut failed: Vec<_> = second.tables.iter().filter(|table| table.status == Status::Failed).collect();
    failed.sort_by_key(|table| table.name.clone());
    let names: Vec<_> = failed.iter().filter_map(|table| table.name.as_deref()).collect();
    assert_eq!(names, ["b", "elsewhere", "parts", "postgresql2: *"]);
    let reason = |table: &&weir::TableReport| table.error.as_ref().unwrap().message.clone();
    assert!(failed.iter().all(|table| reason(table).contains(there.name())), "{failed:#?}");
    let gone = second.tables.iter().flat_map(|table| &table.changes).count();
    assert_eq!(gone, 0, "nothing is known to be gone: {:#?}", second.tables);
    assert_eq!(target.value("SELECT count(*) FROM elsewhere").await, "200");

    // Back again: what failed runs again alone.
    here.execute(&format!("ALTER DATABASE \"{away}\" RENAME TO \"{}\"", there.name())).await;
    let again = run(&job, RunOptions { only: Only::FailedOf(second.run_id), ..options() }).await;
    assert_eq!(again.status, Status::Succeeded, "{:#?}", again.error);
    let mut names: Vec<_> = again.tables.iter().filter_map(|table| table.name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names, ["public.b", "public.elsewhere", "public.parts"]);

    // Where none can be read the run fails, as that of one source does.
    job["source"] = json!([end(here.url() + "x"), end(there.url() + "x")]);
    let neither = run(&job, options()).await;
    assert_eq!((neither.status, neither.tables.len()), (Status::Failed, 0), "{:#?}", neither.tables);
}

#[tokio::test]
async fn a_table_that_had_failed_because_it_was_not_there_runs_again_alone() {
    let source = source("late").await;
    let target = servers::postgresql().await.fresh_database("latetoo").await;
    let mut job = ends(&source, &target);
    job["name"] = "late".into();
    job["objects"] = json!({"include": ["a", "late"], "merge": [{"into": "parts", "from": ["/part_[0-9]/"]}]});
    job["rules"] = json!({"tableDeleted": "error"});
    let state = tempfile::tempdir().unwrap();
    let options = || RunOptions { state_dir: Some(state.path().to_owned()), ..RunOptions::default() };
    let first = run(&job, options()).await;
    assert_eq!((first.status, first.tables.len()), (Status::PartiallyFailed, 3), "{:#?}", first.tables);
    source
        .execute("CREATE TABLE late (id int PRIMARY KEY); CREATE TABLE part_1 (id int PRIMARY KEY); INSERT INTO late VALUES (1)")
        .await;
    let again = run(&job, RunOptions { only: Only::FailedOf(first.run_id), ..options() }).await;
    assert_eq!(again.status, Status::Succeeded, "{:#?}", again.error);
    let mut names: Vec<_> = again.tables.iter().filter_map(|table| table.name.as_deref()).collect();
    names.sort();
    assert_eq!(names, ["public.late", "public.parts"]);
    assert_eq!(target.value("SELECT count(*) FROM late").await, "1");
}

#[tokio::test]
async fn a_job_that_has_lost_a_source_or_writes_elsewhere_begins_anew() {
    let server = servers::postgresql().await;
    let (a, b) = (server.fresh_database("kept").await, server.fresh_database("lost").await);
    for (database, n) in [(&a, 1), (&b, 2)] {
        database
            .execute(&format!(
                "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES ({n}, 'fine'), (1{n}, 'fine');
                 CREATE TABLE alone_{n} (id int PRIMARY KEY, v text); INSERT INTO alone_{n} VALUES (1, 'fine')"
            ))
            .await;
    }
    b.execute("UPDATE t SET v = 'ill'; UPDATE alone_2 SET v = 'ill'").await;
    let target = server.fresh_database("lasting").await;
    target
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, v text CHECK (v <> 'ill'));
             CREATE TABLE alone_2 (id int PRIMARY KEY, v text CHECK (v <> 'ill'))",
        )
        .await;
    let job = |sources: &[&Database], target: &Database, mode: &str| {
        let more = json!({
            "name": "lost",
            "objects": {"include": ["alone_*"], "merge": [{"into": "t", "from": ["t"]}]},
            "naming": {"schema": "{TARGET_SCHEMA}"},
            "write": {"keyed": mode},
            "setting": {"speed": {"channel": 1}},
        });
        let mut job = database_job(("postgresql", json!({})), ("postgresql", json!({"url": target.url()})), more);
        let source = |database: &&Database| json!({"name": "postgresql", "parameter": {"url": database.url()}});
        job["source"] = sources.iter().map(source).collect();
        job
    };
    let other = server.fresh_database("elsewhere").await;
    let state = tempfile::tempdir().unwrap();
    for start in [weir::Start::New, weir::Start::Fresh] {
        let options = || RunOptions { state_dir: Some(state.path().to_owned()), start, ..RunOptions::default() };
        for there in [&target, &other] {
            let first = run(&job(&[&a, &b], &target, "overwrite"), options()).await;
            assert_eq!(first.status, Status::PartiallyFailed, "{:#?}", first.error);
            let second = run(&job(&[&a], there, "overwrite"), options()).await;
            assert_eq!(second.status, Status::Succeeded, "{:#?}", second.error);
            assert_eq!(there.value("SELECT count(*) FROM t").await, "2");
        }
    }
    // What has landed for good is still known as such, and by the target.
    target.execute("DELETE FROM t; DELETE FROM alone_1").await;
    let options = |start| RunOptions { state_dir: Some(state.path().to_owned()), start, ..RunOptions::default() };
    let first = run(&job(&[&a, &b], &target, "append"), options(weir::Start::New)).await;
    assert_eq!(first.status, Status::PartiallyFailed, "{:#?}", first.error);
    let again = run(&job(&[&a], &target, "append"), options(weir::Start::New)).await;
    assert!(again.error.as_ref().unwrap().message.contains("1 of its 2 splits are in public.t"), "{:#?}", again.error);
    target.execute("DELETE FROM t; DELETE FROM alone_1").await;
    let fresh = run(&job(&[&a], &target, "append"), options(weir::Start::Fresh)).await;
    assert_eq!(fresh.status, Status::Succeeded, "{:#?}", fresh.error);
    assert!(fresh.warnings.iter().any(|warning| warning.contains("is given up")), "{:?}", fresh.warnings);
    assert!(!fresh.warnings.iter().any(|warning| warning.contains("left behind")), "{:?}", fresh.warnings);
    assert_eq!(target.value("SELECT count(*) FROM t").await, "2");
}

/// Somebody keeps a table locked for as long as the guard lives.
async fn lock(database: &Database, table: &str) -> tokio::task::JoinHandle<()> {
    let (database, table) = (database.clone(), table.to_owned());
    let holder = tokio::spawn({
        let database = database.clone();
        async move {
            let sql = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(60); COMMIT");
            let _ = database.try_execute(&sql).await;
        }
    });
    for _ in 0..100 {
        let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation IS NOT NULL \
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        if database.value(held).await != "0" {
            return holder;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the lock was never held");
}

#[tokio::test]
async fn tables_that_are_locked_at_either_end_stay_alone() {
    let source = source("locked").await;
    let target = servers::postgresql().await.fresh_database("lockedtoo").await;
    target.execute("CREATE TABLE a (id int PRIMARY KEY, v text)").await;
    let holders = [lock(&target, "a").await, lock(&source, "b").await];
    let mut job = ends(&source, &target);
    job["target"]["parameter"]["session"] = json!(["SET lock_timeout = '1s'"]);
    job["setting"] = json!({"retry": {"times": 0}});
    let report = run(&job, RunOptions::default()).await;
    holders.iter().for_each(|holder| holder.abort());
    assert_eq!(report.status, Status::PartiallyFailed, "{:#?}", report.error);
    for name in ["public.a", "public.b"] {
        let error = table(&report, name).error.as_ref().unwrap();
        assert!(error.message.contains("lock"), "{name}: {error:?}");
    }
    for name in ["c", "d"] {
        assert_eq!(table(&report, &format!("public.{name}")).status, Status::Succeeded);
        assert_eq!(rows(&source, name).await, rows(&target, name).await);
    }
}

/// Three tables at a MariaDB of their own, of which somebody keeps `b` locked: whoever locks all tables of a server waits for
/// such a one, and keeps everybody from writing meanwhile.
async fn locked_in_mariadb(name: &str) -> (OwnServer, Database) {
    let own = tokio::task::spawn_blocking(|| OwnServer::start(Family::MariaDb)).await.unwrap().unwrap();
    let source = own.server().fresh_database(name).await;
    for table in ["a", "b", "c"] {
        source
            .execute(&format!(
                "CREATE TABLE {table} (id int PRIMARY KEY, v text); INSERT INTO {table} VALUES (1, 'x'), (2, 'y')"
            ))
            .await;
    }
    tokio::spawn({
        let source = source.clone();
        async move { drop(source.try_execute("LOCK TABLES b WRITE; SELECT SLEEP(60); UNLOCK TABLES").await) }
    });
    source.until_runs(|statement| statement == "SELECT SLEEP(60)").await;
    (own, source)
}

/// Only the table that is locked fails, in this way.
fn fails_alone(report: &Report, kind: ErrorKind) {
    assert_eq!(report.status, Status::PartiallyFailed, "{:#?}", report.error);
    let failed: Vec<_> = report.tables.iter().filter(|t| t.status != Status::Succeeded).collect();
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert!(failed[0].name.as_deref().is_some_and(|name| name.ends_with(".b")), "{failed:#?}");
    assert_eq!(failed[0].error.as_ref().unwrap().kind, kind, "{failed:#?}");
}

#[tokio::test]
async fn a_table_that_is_locked_in_mariadb_stays_alone() {
    let (_own, source) = locked_in_mariadb("lockedthere").await;
    let target = servers::postgresql().await.fresh_database("lockedthere").await;
    // Without a word of the job it is a minute.
    let parameters = json!({"url": source.url(), "session": ["SET SESSION lock_wait_timeout = 1"]});
    let mut job = database_job(("mysql", parameters), ("postgresql", json!({"url": target.url()})), json!({}));
    job["setting"] = json!({"retry": {"times": 0}});
    let report = run(&job, RunOptions::default()).await;
    fails_alone(&report, ErrorKind::Timeout);
}

#[tokio::test]
async fn a_table_that_is_locked_stays_out_of_the_lock_on_all_tables() {
    let (_own, source) = locked_in_mariadb("lockedout").await;
    let folder = tempfile::tempdir().unwrap();
    let (_, from) = limited(&source).await;
    let job = database_job(("mysql", from), ("files", json!({"path": folder.path()})), json!({}));
    let begun = Instant::now();
    let report = run(&job, RunOptions::default()).await;
    // The lock is held for a minute.
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    fails_alone(&report, ErrorKind::Conflict);
    for table in report.tables.iter().filter(|table| table.status == Status::Succeeded) {
        let said = table.snapshot.as_deref().unwrap_or_default();
        assert!(said.contains("opened under LOCK TABLES"), "{said}");
    }
}

#[tokio::test]
async fn a_table_that_is_dropped_before_a_resume_stays_alone() {
    let source = source("dropped").await;
    let target = servers::postgresql().await.fresh_database("droppedtoo").await;
    // At this rate it is not moved before the run is stopped.
    source.execute("INSERT INTO c SELECT g, 'more' FROM generate_series(1000, 9000) g").await;
    let mut job = ends(&source, &target);
    job["name"] = "dropped".into();
    job["setting"] = json!({"speed": {"record": 300}});
    let state = tempfile::tempdir().unwrap();
    let options = || RunOptions { state_dir: Some(state.path().to_owned()), ..RunOptions::default() };
    let stop = tokio_util::sync::CancellationToken::new();
    let stopping = {
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(800)).await;
            stop.cancel()
        })
    };
    let first = run(&job, RunOptions { cancel: stop, ..options() }).await;
    stopping.await.unwrap();
    assert_eq!(first.status, Status::Stopped);
    source.execute("DROP TABLE c; CREATE TABLE late (id int)").await;
    job["setting"] = json!({});
    let second = run(&job, RunOptions { start: weir::Start::Resume, ..options() }).await;
    assert_eq!(second.run_id, first.run_id, "{:?}", second.error);
    assert_eq!((second.status, second.tables.len()), (Status::PartiallyFailed, 4), "{:#?}", second.tables);
    assert_eq!(table(&second, "public.c").error.as_ref().unwrap().kind, ErrorKind::NotFound);
    for name in ["a", "b", "d"] {
        assert_eq!(rows(&source, name).await, rows(&target, name).await);
    }
}

#[tokio::test]
async fn one_table_is_stopped_and_the_others_go_on() {
    let source = source("stop").await;
    let target = servers::postgresql().await.fresh_database("stopped").await;
    source.execute("INSERT INTO d SELECT g, repeat('x', 100) FROM generate_series(1000, 20000) g").await;
    let mut job = ends(&source, &target);
    job["setting"] = json!({"speed": {"record": 9000}});
    let tables = TableStops::default();
    let options = RunOptions { tables: tables.clone(), ..RunOptions::default() };
    let stopping = tokio::spawn(async move {
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if tables.tables().contains(&"public.d".to_owned()) {
                tokio::time::sleep(Duration::from_millis(300)).await;
                return tables.stop("public.d");
            }
        }
        false
    });
    let report = run(&job, options).await;
    assert!(stopping.await.unwrap());
    assert_eq!(table(&report, "public.d").status, Status::Stopped, "{:#?}", report.tables);
    assert_eq!(report.status, Status::PartiallyFailed);
    for name in ["a", "b", "c"] {
        assert_eq!(rows(&source, name).await, rows(&target, name).await);
    }
    assert_eq!(
        target.value("SELECT count(*) FROM pg_class WHERE relname = 'd' OR relname LIKE 'weir\\_0%'").await,
        "0"
    );
}

#[tokio::test]
async fn what_was_appended_well_is_no_hindrance_for_those_that_failed() {
    let source = source("appended").await;
    let target = servers::postgresql().await.fresh_database("appendedtoo").await;
    target.execute("CREATE TABLE c (id int PRIMARY KEY, v text CHECK (v <> 'v7'))").await;
    let mut job = ends(&source, &target);
    job["name"] = "appended".into();
    job["tables"] = json!({"public.a": {"writeMode": "append"}});
    let state = tempfile::tempdir().unwrap();
    let options = || RunOptions { state_dir: Some(state.path().to_owned()), ..RunOptions::default() };
    let first = run(&job, options()).await;
    assert_eq!(first.status, Status::PartiallyFailed, "{:#?}", first.error);
    assert_eq!(table(&first, "public.a").status, Status::Succeeded);
    assert_eq!(table(&first, "public.c").status, Status::Failed);
    source.execute("UPDATE c SET v = 'fine' WHERE id = 7").await;
    // All of them: a would be there twice.
    let all = run(&job, options()).await;
    assert!(all.error.unwrap().message.contains("are in public.a for good"));
    let again = run(&job, RunOptions { only: Only::FailedOf(first.run_id.clone()), ..options() }).await;
    assert_eq!(again.status, Status::Succeeded, "{:#?}", again.error);
    let names: Vec<_> = again.tables.iter().filter_map(|t| t.name.clone()).collect();
    assert_eq!(names, ["public.c"]);
    for name in ["a", "c"] {
        assert_eq!(rows(&source, name).await, rows(&target, name).await);
    }
}

#[tokio::test]
async fn a_half_appended_table_is_gone_on_with_and_never_doubled_unasked() {
    let source = servers::postgresql().await.fresh_database("half").await;
    source
        .execute(
            "CREATE TABLE s1 (id int, v text); INSERT INTO s1 SELECT g, 'v' FROM generate_series(1, 200) g;
             CREATE TABLE s2 (id int, v text); INSERT INTO s2 SELECT g, 'v' FROM generate_series(201, 400) g;
             CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)",
        )
        .await;
    let target = servers::postgresql().await.fresh_database("halftoo").await;
    target.execute("CREATE TABLE s (id int CHECK (id <> 300), v text)").await;
    let mut job = ends(&source, &target);
    job["name"] = "half".into();
    job["objects"] = json!({"include": ["other"], "merge": [{"into": "s", "from": ["s1", "s2"]}]});
    job["write"] = json!({"unkeyed": "append"});
    job["setting"] = json!({"speed": {"channel": 1}});
    let state = tempfile::tempdir().unwrap();
    let options = || RunOptions { state_dir: Some(state.path().to_owned()), ..RunOptions::default() };
    let first = run(&job, options()).await;
    assert_eq!(first.status, Status::PartiallyFailed, "{:#?}", first.error);
    assert_eq!(target.value("SELECT count(*) FROM s").await, "200", "{:#?}", first.tables);
    target.execute("ALTER TABLE s DROP CONSTRAINT s_id_check").await;
    let failed = || RunOptions { only: Only::FailedOf(first.run_id.clone()), ..options() };
    for ask in [failed(), RunOptions { only: Only::Tables(vec!["other".into()]), ..options() }] {
        let refused = run(&job, ask).await.error.unwrap().message;
        assert!(refused.contains("1 of its 2 splits") && refused.contains("go on with it (--resume)"), "{refused}");
    }
    let resumed = run(&job, RunOptions { start: weir::Start::Resume, ..options() }).await;
    assert_eq!((resumed.status, &resumed.run_id), (Status::Succeeded, &first.run_id), "{:#?}", resumed.error);
    assert_eq!(target.value("SELECT count(*) || ' ' || count(DISTINCT id) FROM s").await, "400 400");
}

/// With `publish: all` one table that cannot be mapped ends the run before any other begins, and its report has that one only.
#[tokio::test]
async fn all_that_a_run_did_not_come_to_runs_again() {
    let source = source("wholly").await;
    let target = servers::postgresql().await.fresh_database("whollytoo").await;
    let mut job = ends(&source, &target);
    job["name"] = "wholly".into();
    job["publish"] = "all".into();
    job["tables"] = json!({"public.d": {"columns": {"late": "came"}}});
    let state = tempfile::tempdir().unwrap();
    let options = || RunOptions { state_dir: Some(state.path().to_owned()), ..RunOptions::default() };
    let first = run(&job, options()).await;
    assert_eq!((first.status, first.rows_written), (Status::Failed, 0), "{:#?}", first.tables);
    assert!(first.error.unwrap().message.contains("1 tables cannot be mapped"));
    source.execute("ALTER TABLE d ADD late int; DROP TABLE c").await;
    let again = run(&job, RunOptions { only: Only::FailedOf(first.run_id.clone()), ..options() }).await;
    assert_eq!(again.status, Status::Succeeded, "{:#?}", again.error);
    let mut names: Vec<_> = again.tables.iter().filter_map(|table| table.name.as_deref()).collect();
    names.sort();
    assert_eq!(names, ["public.a", "public.b", "public.d"]);
    for name in ["a", "b"] {
        assert_eq!(rows(&source, name).await, rows(&target, name).await);
    }
    let told = again.warnings.iter().find(|warning| warning.contains("public.c"));
    assert!(told.is_some_and(|warning| warning.contains("--at")), "{:?}", again.warnings);
    source.execute("DROP TABLE a, b, d; CREATE TABLE other (id int)").await;
    let nothing = run(&job, RunOptions { only: Only::FailedOf(first.run_id), ..options() }).await;
    assert!(nothing.error.unwrap().message.contains("public.a, public.b, public.c, public.d"));
}

/// What a connector cannot do for one table is that table's fault.
#[tokio::test]
async fn a_table_that_the_target_cannot_take_stays_alone() {
    let source = source("unable").await;
    source.execute("CREATE TABLE \"..\" (id int PRIMARY KEY)").await;
    let folder = tempfile::tempdir().unwrap();
    let from = || ("postgresql", json!({"url": source.url()}));
    let upsert = json!({"tables": {"public.b": {"writeMode": "upsert"}}});
    let mut files = database_job(from(), ("files", json!({"path": folder.path().join("files")})), upsert);
    let lake = database_job(from(), ("lakehouse", json!({"path": folder.path().join("lake")})), json!({}));
    for (job, ill, why) in [(&files, "public.b", "upsert"), (&lake, "public.\"..\"", "no folder is called so")] {
        let report = run(job, RunOptions::default()).await;
        assert_eq!((report.status, report.rows_written > 0), (Status::PartiallyFailed, true), "{:#?}", report.error);
        let failed: Vec<_> = report.tables.iter().filter(|table| table.status != Status::Succeeded).collect();
        assert!(failed.iter().any(|table| table.name.as_deref() == Some(ill)), "{failed:#?}");
        for table in failed {
            let dots = table.name.as_deref() == Some("public.\"..\"");
            assert!(dots || table.error.as_ref().unwrap().message.contains(why), "{table:#?}");
        }
    }
    // What none of the tables can be is the job's fault.
    files["objects"] = json!({"include": ["b"]});
    let report = run(&files, RunOptions::default()).await;
    assert_eq!((report.status, report.tables.len()), (Status::Failed, 0), "{:#?}", report.tables);
    assert!(report.error.unwrap().message.contains("upsert"));
}
