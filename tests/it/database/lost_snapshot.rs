//! Tables that are published together are of one moment, also when the snapshot is lost while they are read.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::oneshot;
use weir::{Event, Observer, RunOptions, Start, Status};
use weir_plugins_test::servers;

use super::{database_job, rows, run};

/// Does something, once, when the first split is at the target.
struct AtFirstSplit(Mutex<Option<oneshot::Sender<()>>>);

impl Observer for AtFirstSplit {
    fn event(&self, event: &Event<'_>) {
        if let Event::SplitFinished { .. } = event
            && let Some(tell) = self.0.lock().unwrap().take()
        {
            let _ = tell.send(());
        }
    }
}

/// The session that holds the snapshot dies when the first table is moved and the second one is being read: the third one can
/// only be read from another snapshot.
#[tokio::test]
async fn tables_of_two_snapshots_are_not_published_together() {
    let source = servers::postgresql().await.fresh_database("lostmoment").await;
    for (table, rows) in [("a", 10), ("b", 4_000), ("c", 10)] {
        source.execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY, v text); INSERT INTO {table} SELECT g, 'before' FROM generate_series(1, {rows}) g")).await;
    }
    let target = servers::postgresql().await.fresh_database("lostmomenttoo").await;
    let (from, to) = (json!({"url": source.url()}), json!({"url": target.url()}));
    let mut job = database_job(("postgresql", from), ("postgresql", to), json!({"publish": "all"}));
    job["group"] = json!({"strategy": "static", "tablesPerGroup": 1, "concurrentGroups": 1, "maxSourceConnections": 1});
    let limit = |job: &mut Value, times: u32| {
        job["setting"] = json!({"speed": {"record": 2_000}, "retry": {"times": times, "interval": 1}});
    };
    let lose = async |job: &Value, value: &str, state: Option<PathBuf>| {
        let (tell, told) = oneshot::channel();
        let observer = Arc::new(AtFirstSplit(Mutex::new(Some(tell))));
        let running = {
            let (job, options) = (job.clone(), RunOptions { observer, state_dir: state, ..RunOptions::default() });
            tokio::spawn(async move { run(&job, options).await })
        };
        told.await.unwrap();
        // Now the second table comes to be read.
        let reads =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^COPY.*\\mb\\M'";
        source.until(reads).await;
        let killed = source
            .value(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE datname = current_database() AND state = 'idle in transaction' AND query !~ '^COPY'",
            )
            .await;
        assert_eq!(killed, "1");
        let change: String = ["a", "b", "c"].map(|table| format!("UPDATE {table} SET v = '{value}'; ")).concat();
        source.execute(&change).await;
        running.await.unwrap()
    };

    limit(&mut job, 5);
    let report = lose(&job, "after", None).await;
    assert_eq!(report.status, Status::Succeeded, "{:#?}", report.tables);
    assert_eq!(report.rows_written, 4_020);
    let snapshots: BTreeSet<_> = report.tables.iter().map(|table| table.snapshot.clone()).collect();
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    assert!(report.warnings.iter().any(|warning| warning.contains("starts again")), "{:?}", report.warnings);
    let same = async || {
        for name in ["a", "b", "c"] {
            assert_eq!(rows(&source, name).await, rows(&target, name).await, "{name}");
        }
    };
    same().await;

    // Who wants no attempt but the first gets no publication, and a run that can be taken up.
    job["name"] = "lost moment".into();
    limit(&mut job, 0);
    let state = tempfile::tempdir().unwrap();
    let report = lose(&job, "later", Some(state.path().to_owned())).await;
    assert_eq!((report.status, report.rows_written), (Status::Failed, 0), "{:#?}", report.tables);
    assert_eq!(target.value("SELECT min(v) || max(v) FROM b").await, "afterafter");
    let options =
        RunOptions { state_dir: Some(state.path().to_owned()), start: Start::Resume, ..RunOptions::default() };
    let report = run(&job, options).await;
    assert_eq!(report.status, Status::Succeeded, "{:#?}", report.tables);
    same().await;
}
