//! A run that dies between a change's record and the change itself: the change is on record once.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use weir::{ChangeKind, Ledger, Start, Status};
use weir_plugins_test::servers;

use super::{Mirror, SLEEPS, end, lines, rows, until};

/// Whether somebody waits for a lock in the database.
const WAITS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

pub(super) fn run(mirror: &Mirror, job: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("run").arg(job).args(arguments).args(["--quiet", "--quarantine", "off", "--state-dir"]);
    command.arg(mirror.state_dir()).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// `kind column outcome` of all that was ever seen of the table, its making left out.
async fn on_record(mirror: &Mirror) -> Vec<String> {
    let ledger = Ledger::find_in(mirror.state_dir()).await.unwrap().unwrap();
    let mut changes = ledger.changes(None, None, 100).await.unwrap();
    changes.retain(|change| change.change.kind != ChangeKind::TableAdded);
    let mut lines = lines(&changes, "public.t");
    lines.sort();
    lines
}

#[tokio::test]
async fn a_change_is_recorded_once_although_its_run_died() {
    let server = servers::postgresql().await;
    for (altered, resumed) in [(false, true), (false, false), (true, true), (true, false)] {
        println!("altered after all: {altered}; resumed: {resumed}");
        let (source, target) = (server.fresh_database("crash").await, server.fresh_database("crash_to").await);
        source
            .execute("CREATE TABLE t (id int PRIMARY KEY, v text, gone text); INSERT INTO t VALUES (1, 'a', 'b')")
            .await;
        let (from, to) = (json!({"url": source.url()}), json!({"url": target.url()}));
        let mirror = Mirror::new("crash", ("postgresql", from), ("postgresql", to), json!({}));
        let folder = tempfile::tempdir().unwrap();
        let job = folder.path().join("job.json");
        std::fs::write(&job, mirror.job.to_string()).unwrap();
        assert_eq!(mirror.run().await.status, Status::Succeeded);
        source.execute("ALTER TABLE t ADD COLUMN n int, DROP COLUMN gone; INSERT INTO t VALUES (2, 'c', 5)").await;

        // Somebody reads the target's table, so it cannot be altered yet.
        let reading = tokio::spawn({
            let target = target.clone();
            async move { target.try_execute("BEGIN; SELECT * FROM t; SELECT pg_sleep(100); COMMIT").await }
        });
        until(&target, SLEEPS).await;
        let mut died = run(&mirror, &job, &[]);
        until(&target, WAITS).await;
        died.kill().unwrap();
        died.wait().unwrap();
        assert_eq!(on_record(&mirror).await, ["column_added n begun", "column_deleted gone begun"]);
        if !altered {
            end(&target, "ALTER TABLE").await;
        }
        end(&target, "pg_sleep").await;
        let _ = reading.await;
        if altered {
            let there = "SELECT count(*) FROM information_schema.columns WHERE table_name = 't' AND column_name = 'n'";
            until(&target, there).await;
        }

        match resumed {
            true => assert!(run(&mirror, &job, &["--resume"]).wait().unwrap().success()),
            false => assert_eq!(mirror.run().await.status, Status::Succeeded),
        }
        assert_eq!(on_record(&mirror).await, ["column_added n done", "column_deleted gone done"]);
        assert_eq!(
            target.query("SELECT id::text, v, gone, n::text FROM t ORDER BY id").await,
            [["1", "a", "", ""], ["2", "c", "", "5"]]
                .map(|row| row.map(|v| (!v.is_empty()).then(|| v.into())).to_vec())
        );
        // And the next one sees nothing new.
        assert_eq!(mirror.run().await.status, Status::Succeeded);
        assert_eq!(on_record(&mirror).await, ["column_added n done", "column_deleted gone done"]);
    }
}

#[tokio::test]
async fn a_resume_that_publishes_what_an_earlier_process_has_staged_remembers_its_source() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("staged").await, server.fresh_database("staged_to").await);
    source.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')").await;
    let (from, to) = (json!({"url": source.url()}), json!({"url": target.url()}));
    let mirror = Mirror::new("staged", ("postgresql", from), ("postgresql", to), json!({}));
    let folder = tempfile::tempdir().unwrap();
    let job = folder.path().join("job.json");
    std::fs::write(&job, mirror.job.to_string()).unwrap();
    assert_eq!(mirror.run().await.status, Status::Succeeded);
    source.execute("ALTER TABLE t ADD COLUMN n int DEFAULT 7").await;
    // The column comes at once, and the publication waits for somebody who has a row in hand.
    target.execute("ALTER TABLE t ADD COLUMN n int").await;
    let holding = tokio::spawn({
        let target = target.clone();
        async move { target.try_execute("BEGIN; SELECT * FROM t FOR UPDATE; SELECT pg_sleep(100); COMMIT").await }
    });
    until(&target, SLEEPS).await;
    let mut died = run(&mirror, &job, &[]);
    let blocked =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until(&target, blocked).await;
    died.kill().unwrap();
    died.wait().unwrap();
    let blocked = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
                   AND wait_event_type = 'Lock'";
    target.execute(blocked).await;
    end(&target, "pg_sleep").await;
    let _ = holding.await;
    assert!(run(&mirror, &job, &["--resume"]).wait().unwrap().success());
    assert_eq!(rows(&source, "t").await, rows(&target, "t").await);
    let ledger = Ledger::find_in(mirror.state_dir()).await.unwrap().unwrap();
    let known = ledger.known_table("staged", "public.t").await.unwrap().unwrap();
    assert!(known.column("n").is_some(), "{known:?}");
    let options = weir::RunOptions { start: Start::Fresh, ..mirror.options() };
    let next = super::run(&mirror.job, options).await;
    assert_eq!(next.status, Status::Succeeded);
    assert!(mirror.changes(&next).await.is_empty(), "{:#?}", mirror.changes(&next).await);
}
