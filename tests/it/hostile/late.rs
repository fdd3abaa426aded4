//! `setting.timeout` ends a run that waits for a network which lets nothing through, wherever it waits.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weir::core::ErrorKind;
use weir::{Event, Observer, Quarantine, RunOptions, Status};
use weir_plugins_test::Stopwatch;
use weir_plugins_test::proxy::{Proxy, Weather};
use weir_plugins_test::servers;

use crate::support::{job_of, load};

/// A timeout of two seconds, two seconds to end in, and a little for a machine that is busy with other tests.
const SOON: Duration = Duration::from_millis(4_500);

/// The network fails as soon as rows flow.
struct Hole(Arc<Proxy>);

impl Observer for Hole {
    fn event(&self, event: &Event<'_>) {
        if let Event::SplitStarted { .. } = event {
            self.0.set(Weather::BlackHole);
        }
    }
}

async fn ends_in_time(job: &Value, observer: Arc<dyn Observer>, where_it_waits: &str) {
    let state = tempfile::tempdir().unwrap();
    let state_dir = Some(state.path().to_owned());
    let options = RunOptions { observer, state_dir, quarantine: Quarantine::Off, ..RunOptions::default() };
    let job = load(job);
    let begun = Stopwatch::start();
    let report = weir::run(&job, options).await;
    let took = begun.elapsed();
    assert_eq!(report.status, Status::Stopped, "{where_it_waits}: {:?}", report.error);
    let error = report.error.unwrap();
    assert_eq!(error.kind, ErrorKind::Timeout, "{where_it_waits}: {error:?}");
    assert!(error.message.contains("setting.timeout"), "{where_it_waits}: {error:?}");
    assert!(took > Duration::from_millis(1_900) && begun.is_within(SOON), "{where_it_waits}: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_a_run_whose_rows_fell_into_a_hole() {
    let server = servers::postgresql().await;
    let database = server.fresh_database("late").await;
    database
        .execute("CREATE TABLE s (id int PRIMARY KEY, v text); CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO s SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g")
        .await;
    for source in [true, false] {
        let proxy = Arc::new(Proxy::start(server.port()).await.unwrap());
        let (near, far) = (database.url(), proxy.url(&database.url()));
        let (from, to) = if source { (far, near) } else { (near, far) };
        let to = json!({"url": to, "table": "t", "writeMode": "overwrite"});
        let mut job = job_of("postgresql", json!({"url": from, "table": "s"}), "postgresql", to);
        job["job"]["setting"] = json!({"timeout": 2, "speed": {"record": 1_000}});
        ends_in_time(&job, Arc::new(Hole(proxy)), if source { "the source" } else { "the target" }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_a_run_that_reads_a_catalogue() {
    for (plugin, server) in [("postgresql", servers::postgresql().await), ("mysql", servers::mariadb().await)] {
        let database = server.fresh_database("latelist").await;
        let proxy = Proxy::start(server.port()).await.unwrap();
        proxy.set(Weather::BlackHole);
        let folder = tempfile::tempdir().unwrap();
        let job = json!({
            "type": "database",
            "source": {"name": plugin, "parameter": {"url": proxy.url(&database.url())}},
            "target": {"name": "files", "parameter": {"path": folder.path()}},
            "setting": {"timeout": 2},
        });
        ends_in_time(&job, Arc::new(weir::Silent), plugin).await;
    }
}
