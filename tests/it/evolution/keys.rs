//! Foreign keys of the target: out of the way while tables are moved, and back as they were however that ends.

use std::time::Duration;

use serde_json::json;
use sqlx::Connection;
use tokio::task::JoinHandle;
use weir::{ChangeKind, ChangeOutcome, Ledger, Only, Report, RunOptions, Start, Status};
use weir_plugins_test::Stopwatch;
use weir_plugins_test::proxy::Proxy;
use weir_plugins_test::servers::{self, Database};

use super::{Mirror, SLEEPS, end, run, table, until};
use crate::support::load;

const KEYS: &str =
    "SELECT conname || ': ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f' ORDER BY 1";

/// Parents and their children, a large table of nobody, and a mirror of them whose key the owner of the target has made.
async fn family(name: &str) -> (Database, Database, Mirror) {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database(name).await, server.fresh_database(&format!("{name}_to")).await);
    source
        .execute(
            "CREATE TABLE parent (id int PRIMARY KEY, v text); \
             CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent); \
             CREATE TABLE lone (id int PRIMARY KEY); \
             INSERT INTO parent SELECT g, 'v' FROM generate_series(1, 50) g; \
             INSERT INTO child SELECT g, g FROM generate_series(1, 50) g; \
             INSERT INTO lone SELECT generate_series(1, 3000)",
        )
        .await;
    let (from, to) = (json!({"url": source.url()}), json!({"url": target.url()}));
    let mirror = Mirror::new(name, ("postgresql", from), ("postgresql", to), json!({}));
    assert_eq!(mirror.run().await.status, Status::Succeeded);
    target
        .execute(
            "ALTER TABLE child DROP CONSTRAINT child_parent_fkey, ADD CONSTRAINT \"Our own\" FOREIGN KEY (parent) \
             REFERENCES parent ON UPDATE CASCADE ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED",
        )
        .await;
    (source, target, mirror)
}

fn incomplete(report: &Report) -> Vec<&String> {
    report.warnings.iter().filter(|warning| warning.contains("not complete")).collect()
}

/// Somebody who keeps what a statement has locked.
async fn hold(target: &Database, statement: &str) -> JoinHandle<Result<(), sqlx::Error>> {
    let (target, sql) = (target.clone(), format!("BEGIN; {statement}; SELECT pg_sleep(60); COMMIT"));
    let holding = tokio::spawn({
        let target = target.clone();
        async move { target.try_execute(&sql).await }
    });
    until(&target, SLEEPS).await;
    holding
}

#[tokio::test]
async fn they_are_back_however_the_run_ends() {
    let (source, target, mut mirror) = family("keys").await;
    let keys = target.query(KEYS).await;
    let said = keys[0][0].clone().unwrap();
    assert!(said.starts_with("Our own: ") && said.ends_with("DEFERRABLE INITIALLY DEFERRED"), "{said}");
    assert_eq!(mirror.run().await.status, Status::Succeeded);
    assert_eq!(target.query(KEYS).await, keys, "after a success");

    // The target refuses a child.
    target.execute("ALTER TABLE child ADD CONSTRAINT few CHECK (id < 900)").await;
    source.execute("INSERT INTO child VALUES (999, 1)").await;
    mirror.job["setting"] = json!({"errorLimit": {"record": 0}});
    let report = mirror.run().await;
    assert_eq!((report.status, table(&report, "public.child").status), (Status::PartiallyFailed, Status::Failed));
    assert_eq!((target.query(KEYS).await, incomplete(&report).len()), (keys.clone(), 0), "after a failed table");
    mirror.job["publish"] = json!("all");
    let report = mirror.run().await;
    assert_eq!(report.status, Status::Failed, "{:#?}", report.tables);
    assert_eq!((target.query(KEYS).await, incomplete(&report).len()), (keys.clone(), 0), "nothing was published");

    mirror.job["publish"] = json!("table");
    mirror.job["setting"] = json!({"speed": {"record": 300}, "timeout": 1});
    assert_eq!(mirror.run().await.status, Status::Stopped);
    assert_eq!(target.query(KEYS).await, keys, "after a timeout");

    mirror.job["setting"] = json!({"speed": {"record": 300}});
    let options = RunOptions { start: Start::Fresh, ..mirror.options() };
    let stop = options.cancel.clone();
    let stopped = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(900)).await;
        stop.cancel();
        Stopwatch::start()
    });
    assert_eq!(run(&mirror.job, options).await.status, Status::Stopped);
    let since = stopped.await.unwrap();
    assert!(since.is_within(Duration::from_secs(2)), "{:?}", since.elapsed());
    assert_eq!(target.query(KEYS).await, keys, "after a stop");
}

#[tokio::test]
async fn one_that_cannot_come_back_is_named_and_comes_with_a_later_run() {
    let (source, target, mut mirror) = family("lostkey").await;
    let keys = target.query(KEYS).await;
    target.execute("ALTER TABLE child ADD CONSTRAINT few CHECK (id < 900)").await;
    // The old child 5 stays, and its parent goes.
    source
        .execute("INSERT INTO child VALUES (999, 1); DELETE FROM child WHERE id = 5; DELETE FROM parent WHERE id = 5")
        .await;
    mirror.job["setting"] = json!({"errorLimit": {"record": 0}});
    let report = mirror.run().await;
    assert_eq!(report.status, Status::PartiallyFailed, "{:#?}", report.tables);
    let warnings = incomplete(&report);
    assert!(warnings.len() == 1 && warnings[0].contains("foreign key Our own"), "{:#?}", report.warnings);
    assert_eq!(target.query(KEYS).await.len(), 0);

    // A run that comes no further than to its sources says it again.
    let here = mirror.job["source"]["parameter"]["url"].take();
    mirror.job["source"]["parameter"]["url"] = here.as_str().unwrap().replace("lostkey", "nowhere").into();
    let report = mirror.run().await;
    assert!(incomplete(&report).len() == 1 && report.tables.is_empty(), "{:#?}", report.warnings);
    mirror.job["source"]["parameter"]["url"] = here;

    target.execute("ALTER TABLE child DROP CONSTRAINT few").await;
    let report = mirror.run().await;
    assert_eq!((report.status, incomplete(&report).len()), (Status::Succeeded, 0), "{:#?}", report.warnings);
    assert_eq!(target.query(KEYS).await, keys);
    let ledger = Ledger::find_in(mirror.state_dir()).await.unwrap().unwrap();
    assert_eq!(ledger.dropped_keys("lostkey").await.unwrap(), []);
}

#[tokio::test]
async fn one_comes_back_on_a_unique_key_that_the_run_has_made() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("onunique").await, server.fresh_database("onunique_to").await);
    source
        .execute(
            "CREATE TABLE parent (id int PRIMARY KEY, code text UNIQUE); \
             CREATE TABLE child (id int PRIMARY KEY, parent text REFERENCES parent (code)); \
             INSERT INTO parent VALUES (1, 'a'), (2, 'b'); INSERT INTO child VALUES (1, 'a'), (2, 'b')",
        )
        .await;
    let (from, to) = (json!({"url": source.url()}), json!({"url": target.url()}));
    let mut mirror = Mirror::new("onunique", ("postgresql", from), ("postgresql", to), json!({}));
    mirror.job["setting"] = json!({"errorLimit": {"record": 0}});
    assert_eq!(mirror.run().await.status, Status::Succeeded);
    target
        .execute(
            "ALTER TABLE child DROP CONSTRAINT child_parent_fkey, ADD CONSTRAINT \"Our own\" FOREIGN KEY (parent) \
             REFERENCES parent (code) ON DELETE SET NULL, ADD CONSTRAINT few CHECK (id < 900)",
        )
        .await;
    let keys = target.query(KEYS).await;
    // A child that stays, whose parent goes: its key cannot come back.
    source
        .execute("INSERT INTO child VALUES (999, 'b'); DELETE FROM child WHERE id = 1; DELETE FROM parent WHERE id = 1")
        .await;
    assert_eq!(incomplete(&mirror.run().await).len(), 1);
    target.execute("ALTER TABLE child DROP CONSTRAINT few; DROP TABLE parent").await;
    let report = mirror.run().await;
    assert_eq!((report.status, incomplete(&report).len()), (Status::Succeeded, 0), "{:#?}", report.warnings);
    assert_eq!(target.query(KEYS).await, keys);
}

#[tokio::test]
async fn a_stop_waits_for_nobody_who_is_in_the_way() {
    for parent_held in [false, true] {
        let (source, target, mut mirror) = family("heldkey").await;
        let keys = target.query(KEYS).await;
        source.execute("UPDATE parent SET v = 'new'").await;
        mirror.job["setting"] = json!({"speed": {"record": 300}});
        let options = RunOptions { start: Start::Fresh, ..mirror.options() };
        let stop = options.cancel.clone();
        let job = mirror.job.clone();
        let running = tokio::spawn(async move { run(&job, options).await });
        // Its keys stay away until the last table is moved, whose staging cannot be taken back now.
        until(&target, "SELECT count(*) FROM parent WHERE v = 'new'").await;
        assert_eq!(target.query(KEYS).await.len(), 0);
        let staging = "SELECT coalesce(min(c.oid::regclass::text), '0') FROM pg_class c WHERE relkind = 'r' \
                       AND relname LIKE 'weir%' AND relname <> 'weir_commits' AND NOT EXISTS (SELECT FROM pg_attribute \
                       WHERE attrelid = c.oid AND attname IN ('v', 'parent'))";
        until(&target, staging).await;
        let staging = target.value(staging).await;
        let others = if parent_held { "; LOCK TABLE parent IN ROW EXCLUSIVE MODE" } else { "" };
        let holding = hold(&target, &format!("LOCK TABLE {staging} IN ACCESS SHARE MODE{others}")).await;
        let stopped = Stopwatch::start();
        stop.cancel();
        let report = running.await.unwrap();
        let (took, in_time) = (stopped.elapsed(), stopped.is_within(Duration::from_secs(2)));
        assert_eq!(report.status, Status::Stopped);
        assert!(in_time, "parent held: {parent_held}: {took:?}");
        let ended = Stopwatch::start();
        // The server was told that nobody waits for its statements any more.
        let waits = "SELECT coalesce(string_agg(query, '; '), '') FROM pg_stat_activity \
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let mut waiting = target.value(waits).await;
        while !waiting.is_empty() {
            assert!(ended.is_within(Duration::from_secs(2)), "parent held: {parent_held}: {waiting}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            waiting = target.value(waits).await;
        }
        let left = report.warnings.iter().any(|warning| warning.contains("left behind: no answer in time"));
        assert!(left, "{:#?}", report.warnings);
        match parent_held {
            false => assert_eq!((target.query(KEYS).await, incomplete(&report).len()), (keys.clone(), 0)),
            true => {
                let said = incomplete(&report);
                assert!(said.len() == 1 && said[0].contains("the next run of the job tries again"), "{said:?}");
            }
        }
        end(&target, "pg_sleep").await;
        let _ = holding.await;
        if parent_held {
            // The server was told that nobody waits for the key any more.
            assert_eq!(target.query(KEYS).await.len(), 0);
        }
        mirror.job["setting"] = json!({});
        let report = mirror.run().await;
        assert_eq!((report.status, incomplete(&report).len()), (Status::Succeeded, 0), "{:#?}", report.warnings);
        assert_eq!(target.query(KEYS).await, keys);
        let staged = target.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'weir%' AND relkind = 'r'").await;
        assert_eq!(staged, "1", "weir_commits alone");
    }
}

#[tokio::test]
async fn completing_outlives_a_lost_connection_and_ends_with_a_stop() {
    const ADDS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                        AND wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE%FOREIGN KEY%'";
    for stopped in [false, true] {
        let (_, target, mut mirror) = family("lostway").await;
        target.execute("ALTER TABLE child DROP CONSTRAINT \"Our own\"").await;
        let proxy = Proxy::start(target.port()).await.unwrap();
        mirror.job["target"]["parameter"]["url"] = proxy.url(&target.url()).into();
        mirror.job["setting"] = json!({"retry": {"interval": 0.1}});
        let holding = hold(&target, "LOCK TABLE parent IN ROW EXCLUSIVE MODE").await;
        let only = Only::Tables(vec!["child".into()]);
        let options = RunOptions { start: Start::Fresh, only, ..mirror.options() };
        let stop = options.cancel.clone();
        let job = mirror.job.clone();
        let running = tokio::spawn(async move { run(&job, options).await });
        until(&target, ADDS).await;
        if stopped {
            stop.cancel();
            let report = running.await.unwrap();
            assert!(
                report.warnings.iter().any(|warning| warning.contains("foreign keys of public.child")),
                "{report:#?}"
            );
            // The holder would keep it for a minute.
            let gone = format!("SELECT CASE ({ADDS}) WHEN 0 THEN 1 ELSE 0 END");
            let gone = tokio::time::timeout(Duration::from_secs(5), target.until(&gone));
            assert!(gone.await.is_ok(), "the server still waits for a run that is over");
            end(&target, "pg_sleep").await;
            let _ = holding.await;
            continue;
        }
        proxy.cut();
        end(&target, "pg_sleep").await;
        let _ = holding.await;
        let report = running.await.unwrap();
        assert_eq!((report.status, incomplete(&report).len()), (Status::Succeeded, 0), "{:#?}", report.warnings);
        let said = report.warnings.iter().any(|warning| warning.starts_with("completing public.child is tried again"));
        assert!(said, "{:#?}", report.warnings);
        assert_eq!(target.query(KEYS).await.len(), 1);
    }
}

#[tokio::test]
async fn a_table_whose_keys_cannot_be_dropped_stays_alone() {
    let (source, target, mut mirror) = family("busykey").await;
    let keys = target.query(KEYS).await;
    source.execute("UPDATE parent SET v = 'new'; DELETE FROM lone WHERE id > 100").await;
    let reading = hold(&target, "SELECT * FROM child").await;
    // Without a word of the job it is a minute.
    mirror.job["target"]["parameter"]["session"] = json!(["SET lock_timeout = '1s'"]);
    mirror.job["setting"] = json!({"retry": {"times": 0}});
    let report = mirror.run().await;
    end(&target, "pg_sleep").await;
    let _ = reading.await;
    assert_eq!(report.status, Status::PartiallyFailed, "{:#?}", report.error);
    let child = table(&report, "public.child").error.as_ref().unwrap();
    assert!(child.message.contains("foreign keys cannot be dropped"), "{child:?}");
    for name in ["parent", "lone"] {
        assert_eq!(table(&report, &format!("public.{name}")).status, Status::Succeeded);
        assert_eq!(super::rows(&source, name).await, super::rows(&target, name).await);
    }
    assert_eq!((target.query(KEYS).await, incomplete(&report).len()), (keys, 0), "{:#?}", report.warnings);
}

#[tokio::test]
async fn tables_that_run_alone_get_their_keys() {
    let (_, target, mirror) = family("alonekey").await;
    let only = async |name: &str| {
        let options = RunOptions { start: Start::Fresh, only: Only::Tables(vec![name.into()]), ..mirror.options() };
        let report = run(&mirror.job, options).await;
        assert_eq!(report.status, Status::Succeeded, "{:#?}", report.error);
        report
    };
    target.execute("ALTER TABLE child DROP CONSTRAINT \"Our own\"").await;
    only("child").await;
    assert_eq!(target.query(KEYS).await.len(), 1, "a child has no key");
    target.execute("DROP TABLE parent CASCADE").await;
    assert_eq!(incomplete(&only("child").await).len(), 1);
    only("parent").await;
    assert_eq!(target.query(KEYS).await.len(), 1, "the child of a parent has no key");
    only("lone").await;
    target.execute("DROP TABLE child").await;
    assert_eq!(incomplete(&only("parent").await).len(), 0, "a child that is not there");
}

#[tokio::test]
async fn mariadb_has_them_back_too() {
    let source = servers::postgresql().await.fresh_database("keysout").await;
    source
        .execute(
            "CREATE TABLE parent (id int PRIMARY KEY); \
             CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent); \
             INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (1, 1), (2, 2)",
        )
        .await;
    let target = servers::mariadb().await.fresh_database("keysout").await;
    let (from, to) = (json!({"url": source.url()}), json!({"url": target.url()}));
    let naming = json!({"naming": {"schema": target.name()}});
    let mut mirror = Mirror::new("keysout", ("postgresql", from), ("mysql", to), naming);
    assert_eq!(mirror.run().await.status, Status::Succeeded);
    target
        .execute(
            "ALTER TABLE child DROP FOREIGN KEY child_parent_fkey, ADD CONSTRAINT `our own` FOREIGN KEY (parent) \
             REFERENCES parent (id) ON UPDATE CASCADE ON DELETE SET NULL",
        )
        .await;
    target.execute("ALTER TABLE child ADD CONSTRAINT few CHECK (id < 900)").await;
    let keys = "SELECT CONCAT(CONSTRAINT_NAME, ' ', UPDATE_RULE, ' ', DELETE_RULE) \
                FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = DATABASE()";
    let ours = [[Some("our own CASCADE SET NULL".to_owned())]];
    mirror.job["setting"] = json!({"errorLimit": {"record": 0}});
    for (sql, status) in
        [("SELECT 1", Status::Succeeded), ("INSERT INTO child VALUES (999, 1)", Status::PartiallyFailed)]
    {
        source.execute(sql).await;
        let report = mirror.run().await;
        assert_eq!((report.status, incomplete(&report).len()), (status, 0), "{:#?}", report.tables);
        assert_eq!(target.query(keys).await, ours);
    }
}

/// Each statement on a key of the circle locks both tables.
#[tokio::test]
async fn those_of_a_circle_do_not_wait_for_each_other() {
    let source = servers::postgresql().await.fresh_database("circle").await;
    source
        .execute(
            "CREATE TABLE staff (id int PRIMARY KEY, store int); CREATE TABLE store (id int PRIMARY KEY, mgr int REFERENCES staff);
             ALTER TABLE staff ADD FOREIGN KEY (store) REFERENCES store;
             INSERT INTO staff VALUES (1); INSERT INTO store VALUES (1, 1); UPDATE staff SET store = 1",
        )
        .await;
    for server in [servers::mariadb().await, servers::mysql().await] {
        let target = server.fresh_database("circle").await;
        let (from, to) = (json!({"url": source.url()}), json!({"url": target.url()}));
        let naming = json!({"naming": {"schema": target.name()}});
        let mirror = Mirror::new("circle", ("postgresql", from), ("mysql", to), naming);
        for number in 0..8 {
            let report = tokio::time::timeout(Duration::from_secs(60), mirror.run()).await;
            let report = report.unwrap_or_else(|_| panic!("run {number} hangs"));
            assert_eq!((report.status, report.warnings.as_slice()), (Status::Succeeded, &[][..]), "run {number}");
        }
        let keys =
            "SELECT count(*) FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = DATABASE()";
        assert_eq!(target.value(keys).await, "2");
    }
}

#[cfg(feature = "cli")]
#[tokio::test]
async fn the_next_run_puts_back_what_a_killed_one_could_not() {
    use super::crash::run;
    for arguments in [&["--resume"][..], &["--fresh", "--tables", "lone"]] {
        let (_, target, mut mirror) = family("killedkey").await;
        let keys = target.query(KEYS).await;
        let folder = tempfile::tempdir().unwrap();
        let job = folder.path().join("job.json");
        mirror.job["setting"] = json!({"speed": {"record": 300}});
        std::fs::write(&job, mirror.job.to_string()).unwrap();
        let mut died = run(&mirror, &job, &[]);
        until(&target, "SELECT (count(*) = 0)::int FROM pg_constraint WHERE contype = 'f'").await;
        died.kill().unwrap();
        died.wait().unwrap();
        assert_eq!(target.query(KEYS).await.len(), 0);
        mirror.job["setting"] = json!({});
        std::fs::write(&job, mirror.job.to_string()).unwrap();
        assert!(run(&mirror, &job, arguments).wait().unwrap().success());
        assert_eq!(target.query(KEYS).await, keys, "{arguments:?}");
    }
}

/// Keys that the source has got since are made at the target and on record, like every other change; those that a new table comes
/// with are not.
#[tokio::test]
async fn those_that_come_later_are_on_record() {
    let (source, mariadb) = (
        servers::postgresql().await.fresh_database("keyslate").await,
        servers::mariadb().await.fresh_database("keyslate").await,
    );
    let target = servers::postgresql().await.fresh_database("keyslatetoo").await;
    let folder = tempfile::tempdir().unwrap();
    source
        .execute(
            "CREATE TABLE one (id int PRIMARY KEY, v int NOT NULL UNIQUE, w int NOT NULL); INSERT INTO one VALUES (1, 10, 100), (2, 20, 200);
             CREATE TABLE many (id int PRIMARY KEY, one int); INSERT INTO many VALUES (1, 1), (2, 2)",
        )
        .await;
    let mut mirrors = Vec::new();
    for (connector, parameter) in [
        ("postgresql", json!({"url": target.url()})),
        ("mysql", json!({"url": mariadb.url()})),
        ("sqlite", json!({"path": folder.path().join("keys.db")})),
    ] {
        let naming = if connector == "sqlite" { json!({}) } else { json!({"schema": "{TARGET_SCHEMA}"}) };
        let from = ("postgresql", json!({"url": source.url()}));
        let mirror = Mirror::new(&format!("keys-{connector}"), from, (connector, parameter), json!({"naming": naming}));
        let first = mirror.run().await;
        assert_eq!(first.status, Status::Succeeded, "{:#?}", first.error);
        let kinds: Vec<_> = mirror.changes(&first).await.iter().map(|one| one.change.kind).collect();
        assert_eq!(kinds, [ChangeKind::TableAdded; 2], "{connector}");
        mirrors.push((connector, mirror));
    }
    source
        .execute(
            "ALTER TABLE one ADD UNIQUE (w), ADD UNIQUE (v, w);
             ALTER TABLE many ADD CONSTRAINT many_one FOREIGN KEY (one) REFERENCES one",
        )
        .await;
    for (connector, mirror) in mirrors {
        let second = mirror.run().await;
        assert_eq!(second.status, Status::Succeeded, "{:#?}", second.error);
        let changes = mirror.changes(&second).await;
        let made = |table: &str| changes.iter().filter(|one| one.target == table).collect::<Vec<_>>();
        assert!(
            changes
                .iter()
                .all(|one| (one.change.kind, one.change.outcome) == (ChangeKind::KeyAdded, ChangeOutcome::Done)),
            "{changes:#?}"
        );
        assert_eq!((made("one").len(), made("many").len()), (2, 1), "{connector}: {changes:#?}");
        assert!(made("many")[0].change.to.as_ref().unwrap().contains("REFERENCES"), "{changes:#?}");
        let third = mirror.run().await;
        assert!(mirror.changes(&third).await.is_empty(), "{connector}: {:#?}", mirror.changes(&third).await);
    }
}

#[tokio::test]
async fn a_unique_key_that_is_gone_refuses_its_table_until_the_target_has_lost_it_too() {
    let source = servers::postgresql().await.fresh_database("keysless").await;
    let (target, mariadb) = (
        servers::postgresql().await.fresh_database("keyslesstoo").await,
        servers::mariadb().await.fresh_database("keysless").await,
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    source
        .execute(
            "CREATE TABLE one (id int PRIMARY KEY, mail varchar(9) UNIQUE); INSERT INTO one VALUES (1, 'a'), (2, 'b');
             CREATE TABLE two (id int PRIMARY KEY); INSERT INTO two VALUES (1)",
        )
        .await;
    let mut mirrors = Vec::new();
    for (connector, parameter) in [
        ("postgresql", json!({"url": target.url()})),
        ("mysql", json!({"url": mariadb.url()})),
        ("sqlite", json!({"path": file})),
    ] {
        let naming = if connector == "sqlite" { json!({}) } else { json!({"schema": "{TARGET_SCHEMA}"}) };
        let from = ("postgresql", json!({"url": source.url()}));
        let mirror = Mirror::new(&format!("less-{connector}"), from, (connector, parameter), json!({"naming": naming}));
        assert_eq!(mirror.run().await.status, Status::Succeeded);
        mirrors.push((connector, mirror));
    }
    source.execute("ALTER TABLE one DROP CONSTRAINT one_mail_key; INSERT INTO one VALUES (3, 'a')").await;
    for (connector, mirror) in &mirrors {
        let planned = weir::plan(&load(&mirror.job), &mirror.options()).await.unwrap().to_string();
        let report = mirror.run().await;
        assert_eq!(report.status, Status::PartiallyFailed, "{connector}");
        let error = &table(&report, "one").error.as_ref().unwrap().message;
        assert!(
            error.contains("unique key (mail) no more") && planned.contains("unique key (mail) no more"),
            "{planned}"
        );
        let kinds: Vec<_> = mirror.changes(&report).await.iter().map(|c| (c.change.kind, c.change.outcome)).collect();
        assert_eq!(kinds, [(ChangeKind::KeyChanged, ChangeOutcome::Refused)], "{connector}");
    }
    let index = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'one'::regclass AND NOT indisprimary";
    target.execute(&format!("DROP INDEX {}", target.value(index).await)).await;
    mariadb.execute("ALTER TABLE one DROP INDEX mail").await;
    let dropped = tokio::process::Command::new("sqlite3").arg(&file).arg("DROP INDEX one_mail_key").status().await;
    assert!(dropped.unwrap().success());
    for (connector, mirror) in &mirrors {
        let report = mirror.run().await;
        assert_eq!(report.status, Status::Succeeded, "{connector}: {:#?}", report.tables);
        assert_eq!(table(&report, "one").rows_written, 3, "{connector}");
        assert!(mirror.changes(&report).await.is_empty(), "{connector}");
    }
}

#[tokio::test]
async fn keys_of_sqlite_are_found_in_whatever_case_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut file = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let sql = "CREATE TABLE Customer (Id INTEGER PRIMARY KEY); INSERT INTO Customer VALUES (1);
               CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customer (ID),
                 second INTEGER REFERENCES CUSTOMER); INSERT INTO orders VALUES (7, 1, 1)";
    sqlx::raw_sql(sql).execute(&mut file).await.unwrap();
    file.close().await.unwrap();
    let target = servers::postgresql().await.fresh_database("cases").await;
    let more = json!({"naming": {"schema": "public"}});
    let ends = (("sqlite", json!({"path": path})), ("postgresql", json!({"url": target.url()})));
    let mirror = Mirror::new("cases", ends.0, ends.1, more);
    for _ in 0..2 {
        let report = mirror.run().await;
        assert_eq!(report.status, Status::Succeeded, "{:#?}", report.tables);
        let keys: Vec<String> = target.query(KEYS).await.into_iter().flatten().flatten().collect();
        assert!(keys.len() == 2 && keys.iter().all(|key| key.contains("REFERENCES \"Customer\"(\"Id\")")), "{keys:?}");
    }
}
