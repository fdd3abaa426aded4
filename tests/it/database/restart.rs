//! A server that is away for a moment, while the tables of a run wait for their turn.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use weir::{Event, Observer, RunOptions, Status};
use weir_core::ErrorKind;
use weir_plugins_test::Stopwatch;
use weir_plugins_test::proxy::{Proxy, Weather};
use weir_plugins_test::servers::{self, Database};

use super::{database_job, rows, run};

/// Shuts a proxy as soon as the first split is at the target, and opens it again a little later.
struct Away {
    proxy: Arc<Proxy>,
    back: Duration,
    done: Mutex<bool>,
}

impl Observer for Away {
    fn event(&self, event: &Event<'_>) {
        if !matches!(event, Event::SplitFinished { .. }) || std::mem::replace(&mut *self.done.lock().unwrap(), true) {
            return;
        }
        self.proxy.set(Weather::Closed);
        self.proxy.cut();
        let (proxy, back) = (self.proxy.clone(), self.back);
        std::thread::spawn(move || {
            std::thread::sleep(back);
            proxy.set(Weather::Fair);
        });
    }
}

/// Two tables, one after the other, from or to a server behind a proxy.
async fn ends(name: &str, source_away: bool) -> (Database, Database, Arc<Proxy>, Value) {
    let server = servers::postgresql().await;
    let source = server.fresh_database(name).await;
    for table in ["a", "b"] {
        source.execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY, v text); INSERT INTO {table} SELECT g, 'v' || g FROM generate_series(1, 200) g")).await;
    }
    let target = server.fresh_database(&format!("{name}too")).await;
    let proxy = Arc::new(Proxy::start(server.port()).await.unwrap());
    let (from, to) = match source_away {
        true => (proxy.url(&source.url()), target.url()),
        false => (source.url(), proxy.url(&target.url())),
    };
    let mut job = database_job(("postgresql", json!({"url": from})), ("postgresql", json!({"url": to})), json!({}));
    job["group"] = json!({"strategy": "static", "tablesPerGroup": 1, "concurrentGroups": 1, "maxSourceConnections": 1});
    (source, target, proxy, job)
}

#[tokio::test]
async fn tables_that_wait_outlive_a_server_that_restarts() {
    for source_away in [true, false] {
        let (source, target, proxy, job) = ends("away", source_away).await;
        let away = Away { proxy, back: Duration::from_secs(2), done: Mutex::new(false) };
        let report = run(&job, RunOptions { observer: Arc::new(away), ..RunOptions::default() }).await;
        assert_eq!(report.status, Status::Succeeded, "source {source_away}: {:#?}", report.tables);
        let said = report.warnings.iter().any(|warning| warning.contains("tried again"));
        assert!(said, "source {source_away}: {:?}", report.warnings);
        for name in ["a", "b"] {
            assert_eq!(rows(&source, name).await, rows(&target, name).await, "source {source_away}");
        }
    }
}

#[tokio::test]
async fn a_server_that_was_never_reached_is_told_at_once() {
    for source_away in [true, false] {
        let (.., proxy, job) = ends("never", source_away).await;
        proxy.set(Weather::Closed);
        let begun = Stopwatch::start();
        let report = run(&job, RunOptions::default()).await;
        assert_eq!(report.status, Status::Failed, "{:#?}", report.tables);
        assert_eq!(report.error.unwrap().kind, ErrorKind::Unreachable);
        assert!(begun.is_within(Duration::from_secs(5)), "source {source_away}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_while_tables_are_listed_is_made_again() {
    let (source, target, proxy, mut job) = ends("listed", true).await;
    job["setting"] = json!({"retry": {"interval": 0.1}});
    // Their sizes are asked for, and wait for it a moment.
    let holding = tokio::spawn({
        let source = source.clone();
        async move { source.try_execute("BEGIN; LOCK TABLE a; SELECT pg_sleep(60); COMMIT").await }
    });
    let is = async |what: &str| {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND ";
        while source.value(&format!("{sql}{what}")).await == "0" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    is("wait_event = 'PgSleep'").await;
    let running = tokio::spawn(async move { run(&job, RunOptions::default()).await });
    is("wait_event_type = 'Lock'").await;
    proxy.cut();
    source
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'")
        .await;
    let _ = holding.await;
    let report = running.await.unwrap();
    assert_eq!(report.status, Status::Succeeded, "{:#?}", report.error);
    let said = report.warnings.iter().filter(|warning| warning.starts_with("listing the tables is tried again"));
    assert_eq!(said.count(), 1, "{:?}", report.warnings);
    for name in ["a", "b"] {
        assert_eq!(rows(&source, name).await, rows(&target, name).await);
    }
}
