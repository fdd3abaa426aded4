//! Servers that accept and then say nothing, from the start or in the middle of a run.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_plugins_test::proxy::{Proxy, Weather};
use weir_plugins_test::s3::{self, ACCESS_KEY, SECRET_KEY};
use weir_plugins_test::servers::{self, Database, Family};

use super::{PATIENCE, Place, Running, at_stores};
use crate::support::job_of;

/// Two seconds, and a little for a machine that is busy with other tests.
const SOON: Duration = Duration::from_millis(2_600);

/// Accepts every connection and never says a word.
struct Mute {
    port: u16,
    accepted: Arc<AtomicUsize>,
}

impl Mute {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::<AtomicUsize>::default();
        let accepting = accepted.clone();
        std::thread::spawn(move || {
            let mut held: Vec<TcpStream> = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                held.push(stream);
                accepting.fetch_add(1, Relaxed);
            }
        });
        Self { port, accepted }
    }

    /// A URL of this server, with a time for connecting when the test wants to see it pass.
    fn url(&self, plugin: &str, patience: bool) -> String {
        let (scheme, short) = match plugin {
            "mysql" => ("mysql", "?connectTimeout=1500"),
            _ => ("postgresql", "?connectTimeout=2"),
        };
        format!("{scheme}://me:hush@127.0.0.1:{}/shop{}", self.port, if patience { "" } else { short })
    }
}

fn stream() -> Value {
    json!({"column": [{"incr": "1,1", "type": "long"}], "sliceRecordCount": 10})
}

#[test]
fn a_server_that_never_answers_ends_the_run_with_a_timeout() {
    let mute = Mute::start();
    for plugin in ["postgresql", "mysql"] {
        let at = json!({"url": mute.url(plugin, false), "table": "t"});
        for job in [job_of(plugin, at.clone(), "stream", json!({})), job_of("stream", stream(), plugin, at.clone())] {
            let place = Place::new();
            place.job(&job);
            let begun = Instant::now();
            place
                .start(&["run", "job.json"])
                .end_within(Duration::from_secs(20))
                .says(1, &["within", "connectTimeout"]);
            assert!(begun.elapsed() > Duration::from_secs(1), "it did not wait at all");
            let check = place.start(&["check", "job.json"]).end_within(Duration::from_secs(20));
            assert_eq!(check.code, Some(1), "{}\n{}", check.out, check.err);
        }
    }
}

#[test]
fn a_run_that_waits_for_a_mute_server_can_be_stopped() {
    let mute = Mute::start();
    for plugin in ["postgresql", "mysql"] {
        let at = json!({"url": mute.url(plugin, true), "table": "t"});
        for (job, signal, code) in [
            (job_of(plugin, at.clone(), "stream", json!({})), "TERM", 143),
            (job_of("stream", stream(), plugin, at.clone()), "INT", 130),
        ] {
            let place = Place::new();
            place.job(&job);
            let before = mute.accepted.load(Relaxed);
            let (run, begun) = (place.start(&["run", "job.json"]), Instant::now());
            while mute.accepted.load(Relaxed) == before {
                assert!(begun.elapsed() < PATIENCE, "it does not come");
                std::thread::sleep(Duration::from_millis(20));
            }
            std::thread::sleep(Duration::from_millis(500));
            run.signal(signal);
            assert_eq!(run.end_within(SOON).code, Some(code), "{plugin}");
        }
    }
}

#[test]
fn an_object_store_that_never_answers_ends_the_run_with_a_timeout() {
    let mute = Mute::start();
    std::thread::scope(|scope| {
        for scheme in ["http", "https"] {
            let options = json!({"endpoint": format!("{scheme}://127.0.0.1:{}", mute.port), "accessKeyId": "me", "secretAccessKey": "hush", "timeout": "3s"});
            for job in at_stores("s3://shop/", &options) {
                scope.spawn(move || {
                    let place = Place::new();
                    place.job(&job);
                    let begun = Instant::now();
                    let ended = place.start(&["run", "job.json"]).end_within(Duration::from_secs(25));
                    println!("{scheme} after {:?}: {}", begun.elapsed(), ended.err);
                    ended.says(1, &["answered nothing for", "`timeout`", "s3://shop"]);
                    assert!(!ended.err.contains("hush"), "{}", ended.err);
                    assert!(begun.elapsed() > Duration::from_secs(2), "it did not wait at all");
                    let check = place.start(&["check", "job.json"]).end_within(Duration::from_secs(25));
                    assert_eq!(check.code, Some(1), "{}\n{}", check.out, check.err);
                });
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_a_mute_object_store_can_be_stopped() {
    let mute = Mute::start();
    let endpoint = format!("http://127.0.0.1:{}", mute.port);
    let options = json!({"endpoint": endpoint, "accessKeyId": "me", "secretAccessKey": "hush"});
    let signals = [("TERM", 143), ("INT", 130)].into_iter().cycle();
    let cases = at_stores("s3://shop/", &options).into_iter().zip(signals).map(|(job, (signal, code))| async move {
        let place = Place::new();
        place.job(&job);
        let run = place.start(&["run", "job.json"]);
        flows(&run, "the run begins").await;
        let stopped = tokio::task::spawn_blocking(move || {
            run.signal(signal);
            run.end_within(SOON)
        });
        assert_eq!(stopped.await.unwrap().code, Some(code), "{job:#}");
    });
    futures::future::join_all(cases).await;
}

/// It is seen by the requests of a run that has begun, each of which was answered until then.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_that_falls_silent_in_mid_run_ends_the_run() {
    let cases = ["files", "lakehouse"].map(|plugin| async move {
        let bucket = s3::fresh_bucket("silent");
        let proxy = Proxy::start(bucket.port()).await.unwrap();
        let options = json!({"endpoint": format!("http://127.0.0.1:{}", proxy.port()), "accessKeyId": ACCESS_KEY, "secretAccessKey": SECRET_KEY, "timeout": "3s"});
        let mut job = at_stores(&bucket.url(""), &options).into_iter().rfind(|job| job.to_string().contains(&format!("\"{plugin}\""))).unwrap();
        job["job"]["content"][0]["reader"]["parameter"]["sliceRecordCount"] = 20_000.into();
        job["job"]["setting"] = json!({"speed": {"channel": 1, "record": 5_000}, "retry": {"times": 0}});
        let place = Place::new();
        place.job(&job);
        let run = place.start(&["run", "job.json"]);
        flows(&run, "prepared").await;
        proxy.set(Weather::BlackHole);
        let begun = Instant::now();
        let ended = tokio::task::spawn_blocking(move || run.end_within(Duration::from_secs(40))).await.unwrap();
        println!("{plugin} after {:?}: {}", begun.elapsed(), ended.err);
        ended.says(1, &["answered nothing for", "`timeout`", "s3://silent"]);
    });
    futures::future::join_all(cases).await;
}

/// Where a run of several seconds is that reads or writes through a proxy.
struct Flow {
    place: Place,
    proxy: Proxy,
    database: Database,
}

async fn flow(family: Family, source: bool, connect: &str) -> Flow {
    let server = match family {
        Family::PostgreSql => servers::postgresql().await,
        _ => servers::mariadb().await,
    };
    let database = server.fresh_database("silent").await;
    database.execute("CREATE TABLE old (id bigint NOT NULL PRIMARY KEY)").await;
    database.execute("INSERT INTO old VALUES (-1)").await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let url = format!("{}?connectTimeout={connect}", proxy.url(&database.url()));
    let plugin = if family == Family::PostgreSql { "postgresql" } else { "mysql" };
    let place = Place::new();
    let rows = json!({"column": [{"incr": "1,1", "type": "long"}, {"random": "200,200", "type": "string"}], "sliceRecordCount": 60_000});
    let mut job = if source {
        let table = "CREATE TABLE big (id bigint NOT NULL PRIMARY KEY, v text)";
        database.execute(table).await;
        let values: Vec<_> = (0..24_000).map(|n| format!("({n},'{}')", "x".repeat(2_000))).collect();
        for values in values.chunks(2_000) {
            database.execute(&format!("INSERT INTO big VALUES {}", values.join(","))).await;
        }
        job_of(
            plugin,
            json!({"url": url, "table": "big"}),
            "files",
            json!({"path": "out.csv", "writeMode": "truncate"}),
        )
    } else {
        let to =
            json!({"url": url, "table": "old", "writeMode": "overwrite", "mapping": [{"from": "column1", "to": "id"}]});
        job_of("stream", rows, plugin, to)
    };
    job["job"]["setting"] = json!({"speed": {"channel": 1, "record": 2_500}, "retry": {"times": 0}});
    place.job(&job);
    Flow { place, proxy, database }
}

/// Waits until a run has said so, and its rows flow.
async fn flows(run: &Running, word: &str) {
    let begun = Instant::now();
    while !std::fs::read_to_string(&run.err).unwrap().contains(word) {
        assert!(begun.elapsed() < PATIENCE, "{}", std::fs::read_to_string(&run.err).unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
}

impl Flow {
    /// Starts the run and waits until its rows flow.
    async fn start(&self) -> Running {
        let run = self.place.start(&["run", "job.json", "--log", "json"]);
        flows(&run, "splits").await;
        run
    }

    async fn nothing_was_published(&self) {
        assert!(!self.place.path("out.csv").exists());
        assert_eq!(self.database.value("SELECT id FROM old").await, "-1");
    }
}

const SIDES: [(Family, bool); 4] =
    [(Family::PostgreSql, true), (Family::PostgreSql, false), (Family::MariaDb, true), (Family::MariaDb, false)];

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_in_mid_run_ends_the_run() {
    let cases = SIDES.map(|(family, source)| async move {
        let flow = flow(family, source, if family == Family::PostgreSql { "2" } else { "2000" }).await;
        let run = flow.start().await;
        flow.proxy.set(Weather::BlackHole);
        let ended = tokio::task::spawn_blocking(move || run.end_within(Duration::from_secs(60))).await.unwrap();
        let words = if source { &["error"][..] } else { &["server"][..] };
        ended.says(1, words);
        assert!(
            ["again may help", "the network", "run the job again"].iter().any(|w| ended.err.contains(w)),
            "{}",
            ended.err
        );
        flow.nothing_was_published().await;
    });
    futures::future::join_all(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_server_fell_silent_can_be_stopped_and_a_second_signal_ends_it_at_once() {
    for (family, source) in SIDES {
        let flow = flow(family, source, if family == Family::PostgreSql { "10" } else { "10000" }).await;
        let run = flow.start().await;
        flow.proxy.set(Weather::BlackHole);
        tokio::time::sleep(Duration::from_millis(600)).await;
        let (run, took) = tokio::task::spawn_blocking(move || {
            run.signal("TERM");
            let begun = Instant::now();
            (run.end_within(SOON), begun.elapsed())
        })
        .await
        .unwrap();
        assert_eq!(run.code, Some(143), "{family:?} after {took:?}: {}", run.err);
        flow.nothing_was_published().await;
        // The server learns at last that its client has gone, and lets go of its locks.
        flow.proxy.set(Weather::Fair);
        flow.proxy.cut();

        let run = flow.start().await;
        flow.proxy.set(Weather::BlackHole);
        tokio::time::sleep(Duration::from_millis(600)).await;
        let run = tokio::task::spawn_blocking(move || {
            run.signal("INT");
            std::thread::sleep(Duration::from_millis(100));
            run.signal("INT");
            run.end_within(Duration::from_millis(500))
        });
        assert_eq!(run.await.unwrap().code, Some(130));
        flow.nothing_was_published().await;
    }
}
