//! A run that is told to stop ends within two seconds, wherever it is, and leaves nothing but what a resume takes up.

use std::time::{Duration, Instant};

use serde_json::json;
use weir_plugins_test::servers::{self, Database, Family};

use super::{PATIENCE, Place, Running, sqlite};
use crate::support::job_of;

/// What the issue of a stop may take.
const TWO_SECONDS: Duration = Duration::from_secs(2);

const TABLES: u64 = 6;
const ROWS: u64 = 500;

/// An overwrite of a table with rows, and where it stands.
struct Case {
    place: Place,
    database: Database,
    family: Family,
}

impl Case {
    async fn new(family: Family) -> Self {
        let (server, plugin) = match family {
            Family::PostgreSql => (servers::postgresql().await, "postgresql"),
            _ => (servers::mariadb().await, "mysql"),
        };
        let database = server.fresh_database("stop").await;
        database.execute("CREATE TABLE t (id int NOT NULL PRIMARY KEY, v varchar(40))").await;
        database.execute("INSERT INTO t VALUES (-1, 'old'), (-2, 'old')").await;
        let place = Place::new();
        let mut sql = String::new();
        for n in 0..TABLES {
            sql += &format!(
                "CREATE TABLE t{n} (id INTEGER PRIMARY KEY, v TEXT);\n\
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})\n\
                 INSERT INTO t{n} SELECT i + {}, 'value ' || i FROM n;\n",
                n * ROWS
            );
        }
        sqlite(&place.path("from.db"), &sql).await;
        let tables: Vec<_> = (0..TABLES).map(|n| format!("t{n}")).collect();
        let to = json!({"url": database.url(), "table": "t", "writeMode": "overwrite"});
        let mut job = job_of("sqlite", json!({"path": "from.db", "table": tables}), plugin, to);
        job["job"]["name"] = "stopped".into();
        job["job"]["setting"] = json!({"speed": {"channel": 1}});
        place.job(&job);
        Self { place, database, family }
    }

    /// So that the load takes seconds.
    fn slowly(&self) {
        let text = std::fs::read_to_string(self.place.path("job.json")).unwrap();
        std::fs::write(self.place.path("job.json"), text.replace("{\"channel\":1}", "{\"channel\":1,\"record\":500}"))
            .unwrap();
    }

    /// So that the publication takes minutes, but for rows that are there.
    async fn sleepy(&self) {
        match self.family {
            Family::PostgreSql => {
                let sleep = "CREATE FUNCTION sleepy() RETURNS trigger LANGUAGE plpgsql AS \
                             $$ BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END $$";
                self.database.execute(sleep).await;
                let trigger = "CREATE TRIGGER sleepy BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION sleepy()";
                self.database.execute(trigger).await;
            }
            _ => self.database.execute("CREATE TRIGGER sleepy BEFORE INSERT ON t FOR EACH ROW DO SLEEP(0.1)").await,
        }
    }

    async fn awake(&self) {
        match self.family {
            Family::PostgreSql => self.database.execute("DROP TRIGGER sleepy ON t").await,
            _ => self.database.execute("DROP TRIGGER sleepy").await,
        }
    }

    /// Waits until the server is in the midst of the publication.
    async fn publishing(&self) {
        let begun = Instant::now();
        while self.sessions("AND STATE").await == 0 {
            assert!(begun.elapsed() < PATIENCE, "it never publishes");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many sessions are in the database besides the one that asks; those that publish, or all.
    async fn sessions(&self, which: &str) -> u64 {
        let name = self.database.name();
        let publish = !which.is_empty();
        let sql = match self.family {
            Family::PostgreSql => format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid(){}",
                if publish { " AND state = 'active' AND wait_event = 'PgSleep'" } else { "" }
            ),
            _ => {
                let all = self.database.sessions().await;
                return all.iter().filter(|session| !publish || session.state == "User sleep").count() as u64;
            }
        };
        self.database.value(&sql).await.parse().unwrap()
    }

    /// Tables of staging.
    async fn staging(&self) -> String {
        let schema = if self.family == Family::PostgreSql { "current_schema()" } else { "database()" };
        let sql = format!(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = {schema} AND table_name LIKE 'weir%' \
             AND table_name <> 'weir_commits'"
        );
        self.database.value(&sql).await
    }

    /// Stops a run: it ends in time, and its sessions with it; the old rows are untouched.
    async fn stop(&self, run: Running) -> super::Ended {
        run.signal("TERM");
        let ended = run.end_within(TWO_SECONDS);
        assert_eq!(ended.code, Some(143), "{}", ended.err);
        // A busy server may still list a session whose goodbye it has in hand, or whose rows it takes back.
        let begun = Instant::now();
        while self.sessions("").await > 0 {
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}: sessions are left", self.family);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(self.database.value("SELECT count(*) FROM t WHERE id < 0").await, "2", "{:?}", self.family);
        assert_eq!(self.database.value("SELECT count(*) FROM t").await, "2", "{:?}", self.family);
        ended
    }

    async fn resumes(&self) {
        let report = self.place.report(&["--resume"]);
        assert_eq!(report["rows_written"], json!(TABLES * ROWS), "{report:#}");
        let found = self.database.value("SELECT concat(count(*), ' ', count(DISTINCT id), ' ', min(id)) FROM t").await;
        assert_eq!(found, format!("{0} {0} 1", TABLES * ROWS));
        assert_eq!(self.staging().await, "0", "{:?}", self.family);
        assert_eq!(self.database.value("SELECT count(*) FROM weir_commits").await, "0", "{:?}", self.family);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_while_it_loads_leaves_no_staging() {
    for family in [Family::PostgreSql, Family::MariaDb] {
        let case = Case::new(family).await;
        case.slowly();
        let run = case.place.start(&["run", "job.json"]);
        case.place.landed(2);
        assert_eq!(case.staging().await, "1", "{family:?}");
        case.stop(run).await;
        assert_eq!(case.staging().await, "0", "{family:?}");
        assert_eq!(case.database.value("SELECT count(*) FROM weir_commits").await, "0", "{family:?}");
        case.resumes().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_while_it_publishes_takes_that_back() {
    for family in [Family::PostgreSql, Family::MariaDb] {
        let case = Case::new(family).await;
        case.sleepy().await;
        let run = case.place.start(&["run", "job.json"]);
        case.publishing().await;
        let ended = case.stop(run).await;
        // Its statement was cancelled before the COMMIT: nothing was published, and nothing is left.
        let doubts = ["finds out", "left behind"].map(|doubt| ended.err.contains(doubt));
        assert_eq!(doubts, [false; 2], "{family:?}: {}", ended.err);
        assert_eq!(case.staging().await, "0", "{family:?}");
        assert_eq!(case.database.value("SELECT count(*) FROM weir_commits").await, "0", "{family:?}");
        case.awake().await;
        case.resumes().await;
    }
}

/// Rows that are all refused never come to the channel, where a reader is stopped else; and there may be much of them.
#[test]
fn a_run_whose_rows_are_all_dirty_is_stopped_in_time() {
    let place = Place::new();
    // One field where two are asked for.
    let line = format!("{}\n", "x".repeat(2_000));
    let mut file = std::io::BufWriter::new(std::fs::File::create(place.path("bad.csv")).unwrap());
    for _ in 0..60_000 {
        std::io::Write::write_all(&mut file, line.as_bytes()).unwrap();
    }
    drop(file);
    let columns = json!([{"index": 0, "type": "long"}, {"index": 1, "type": "string"}]);
    let from = json!({"path": "bad.csv", "header": false, "column": columns});
    let mut job = job_of("files", from, "files", json!({"path": "out.csv", "writeMode": "truncate"}));
    job["job"]["setting"] = json!({"speed": {"channel": 1}, "errorLimit": "unlimited"});
    place.job(&job);
    let run = place.start(&["run", "job.json"]);
    // More than a run that is stopped joins.
    let begun = Instant::now();
    let kept = || {
        let parts = std::fs::read_dir(place.path("state/quarantine")).into_iter().flatten().flatten();
        parts.filter_map(|part| Some(part.metadata().ok()?.len())).sum::<u64>()
    };
    while kept() < 20 << 20 {
        assert!(begun.elapsed() < PATIENCE, "{} bytes are kept", kept());
        std::thread::sleep(Duration::from_millis(20));
    }
    run.signal("TERM");
    let ended = run.end_within(TWO_SECONDS);
    assert_eq!(ended.code, Some(143), "{}", ended.err);
    assert!(ended.err.contains("dirty rows stay in"), "{}", ended.err);
}

/// Another process is in the midst of a change of the ledger, and does not come to its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_its_ledger_is_stopped_in_time() {
    use sqlx::{Connection, Executor};
    let place = Place::new();
    let mut sql = String::new();
    for n in 0..TABLES {
        sql += &format!("CREATE TABLE t{n} (id INTEGER PRIMARY KEY); INSERT INTO t{n} VALUES ({n});");
    }
    sqlite(&place.path("from.db"), &sql).await;
    let tables: Vec<_> = (0..TABLES).map(|n| format!("t{n}")).collect();
    let to = json!({"path": "to.db", "table": "t", "writeMode": "append"});
    let mut job = job_of("sqlite", json!({"path": "from.db", "table": tables}), "sqlite", to);
    job["job"]["setting"] = json!({"speed": {"channel": 1, "record": 1}});
    place.job(&job);
    let run = place.start(&["run", "job.json"]);
    place.landed(1);
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.path("state/ledger.db"));
    let mut other = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    // Until the next split wants to be written down.
    std::thread::sleep(Duration::from_millis(1_500));
    run.signal("TERM");
    let ended = run.end_within(TWO_SECONDS);
    assert_eq!(ended.code, Some(143), "{}", ended.err);
    other.execute("ROLLBACK").await.unwrap();
    place.ok(&["run", "job.json", "--resume"]);
    let found = super::sqlite_row(&place.path("to.db"), "SELECT count(*) || ' ' || count(DISTINCT id) FROM t").await;
    assert_eq!(found, format!("{TABLES} {TABLES}"));
}
