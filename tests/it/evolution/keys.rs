//! Foreign keys of the target: out of the way while tables are moved, and back as they were however that ends.

use std::time::{Duration, Instant};

use serde_json::json;
use weir::{Ledger, Only, Report, RunOptions, Start, Status};
use weir_plugins_test::servers::{self, Database};

use super::{Mirror, run, table};

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
        Instant::now()
    });
    assert_eq!(run(&mirror.job, options).await.status, Status::Stopped);
    let took = stopped.await.unwrap().elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
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
async fn a_table_whose_keys_cannot_be_dropped_stays_alone() {
    let (source, target, mut mirror) = family("busykey").await;
    let keys = target.query(KEYS).await;
    source.execute("UPDATE parent SET v = 'new'; DELETE FROM lone WHERE id > 100").await;
    let reading = tokio::spawn({
        let target = target.clone();
        async move { target.try_execute("BEGIN; SELECT * FROM child; SELECT pg_sleep(60); COMMIT").await }
    });
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    while target.value(sleeps).await == "0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Without a word of the job it is a minute.
    mirror.job["target"]["parameter"]["session"] = json!(["SET lock_timeout = '1s'"]);
    mirror.job["setting"] = json!({"retry": {"times": 0}});
    let report = mirror.run().await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
               AND wait_event = 'PgSleep'";
    target.value(end).await;
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

#[cfg(feature = "cli")]
#[tokio::test]
async fn the_next_run_puts_back_what_a_killed_one_could_not() {
    use super::crash::{run, until};
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
