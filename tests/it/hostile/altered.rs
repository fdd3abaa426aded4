//! Tables that are altered or dropped and privileges that are revoked while a run is at work, at both of its ends.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_plugins_test::servers::{self, Database, Family, PASSWORD};

use super::{PATIENCE, Place};
use crate::support::job_of;

const TABLES: usize = 4;
const ROWS: usize = 500;

/// What somebody else does while the run goes on.
#[derive(Clone, Copy)]
struct Act {
    name: &'static str,
    /// `{user}` is the run's own login, `{db}` the database.
    sql: &'static str,
    /// What the run may end with: all words of one of these.
    says: &'static [&'static [&'static str]],
}

const fn act(name: &'static str, sql: &'static str, says: &'static [&'static [&'static str]]) -> Act {
    Act { name, sql, says }
}

/// A run under a login that may do just what it must.
struct Scene {
    family: Family,
    database: Database,
    place: Place,
    user: String,
}

impl Scene {
    async fn new(family: Family, source: bool) -> Self {
        let server = match family {
            Family::PostgreSql => servers::postgresql().await,
            Family::MySql => servers::mysql().await,
            _ => servers::mariadb().await,
        };
        let database = server.fresh_database("altered").await;
        // One login a database: names of logins belong to the whole server.
        let user = database.name().replace("weir_altered", "u");
        let mut sql = String::new();
        for t in 0..TABLES {
            let values: Vec<_> = (0..ROWS).map(|n| format!("({}, '{}')", t * ROWS + n, n)).collect();
            sql += &format!(
                "CREATE TABLE t{t} (id bigint NOT NULL PRIMARY KEY, v varchar(40)); INSERT INTO t{t} VALUES {};",
                values.join(",")
            );
        }
        sql += "CREATE TABLE target (id bigint NOT NULL PRIMARY KEY, v varchar(40)); INSERT INTO target VALUES (-1, 'old');";
        sql += &match family {
            Family::PostgreSql => format!(
                "CREATE USER {user} PASSWORD '{PASSWORD}'; \
                 GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}; \
                 GRANT INSERT, UPDATE, DELETE ON target TO {user}; GRANT CREATE, USAGE ON SCHEMA public TO {user};"
            ),
            // Each table for itself, so that each can be taken away.
            _ if source => (0..TABLES)
                .fold(format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{PASSWORD}';"), |sql, t| {
                    sql + &format!("GRANT SELECT ON t{t} TO '{user}'@'%';")
                }),
            _ => format!(
                "CREATE USER '{user}'@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON {}.* TO '{user}'@'%'",
                database.name()
            ),
        };
        database.execute(&sql).await;
        Self { family, database, place: Place::new(), user }
    }

    fn plugin(&self) -> &'static str {
        if self.family == Family::PostgreSql { "postgresql" } else { "mysql" }
    }

    fn url(&self) -> String {
        self.database.url_with(&self.user, PASSWORD)
    }

    async fn start(&self, mut job: Value) -> super::Running {
        // Slow enough that what is done to the tables comes in time, however busy the machine is.
        job["job"]["setting"] = json!({"speed": {"channel": 1, "record": 250}, "retry": {"times": 1, "interval": 1}});
        self.place.job(&job);
        let run = self.place.start(&["run", "job.json"]);
        let place = &self.place;
        tokio::task::block_in_place(|| place.landed(1));
        run
    }

    /// Does it while the run goes on, and says how the run ended.
    async fn during(&self, run: super::Running, sql: &str) -> super::Ended {
        let sql = sql.replace("{user}", &self.who()).replace("{db}", self.database.name());
        let database = self.database.clone();
        // It may have to wait for locks of the run.
        let acting = tokio::spawn(async move { database.try_execute(&sql).await });
        let begun = Instant::now();
        let ended = tokio::task::spawn_blocking(move || run.end_within(PATIENCE)).await.unwrap();
        let acted = tokio::time::timeout(Duration::from_secs(20), acting).await;
        acted.unwrap_or_else(|_| panic!("locks stay behind after {:?}", begun.elapsed())).unwrap().unwrap();
        ended
    }

    fn who(&self) -> String {
        if self.family == Family::PostgreSql { self.user.clone() } else { format!("'{}'@'%'", self.user) }
    }
}

fn check(act: &Act, family: Family, ended: &super::Ended) {
    let text = ended.err.to_lowercase();
    let said = act.says.iter().any(|words| words.iter().all(|word| text.contains(&word.to_lowercase())));
    assert!(
        ended.code == Some(1) && said,
        "{family:?}, {}: exit {:?}\n{}\n{}",
        act.name,
        ended.code,
        ended.out,
        ended.err
    );
}

/// Whatever is done to a table that is still to be read, nothing of the run becomes visible, and its error names the table.
async fn source(family: Family, act: Act) {
    let scene = Scene::new(family, true).await;
    let tables: Vec<_> = (0..TABLES).map(|t| format!("t{t}")).collect();
    let mut to = json!({"path": "out.db", "table": "t", "writeMode": "overwrite"});
    super::sqlite(&scene.place.path("out.db"), "CREATE TABLE t (id INTEGER, v TEXT); INSERT INTO t VALUES (-1, 'old')")
        .await;
    to["mapping"] = json!([{"from": "id", "to": "id"}, {"from": "v", "to": "v"}]);
    let run = scene.start(job_of(scene.plugin(), json!({"url": scene.url(), "table": tables}), "sqlite", to)).await;
    // MariaDB and MySQL know to the second when a table was made.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let ended = scene.during(run, act.sql).await;
    check(&act, family, &ended);
    let kept = super::sqlite_row(&scene.place.path("out.db"), "SELECT group_concat(id || v) FROM t").await;
    assert_eq!(kept, "-1old", "{family:?}, {}", act.name);
}

/// Whatever is done to the target, the run says so; the old rows of an overwrite stay, as far as they still exist.
async fn target(family: Family, act: Act, mode: &'static str) {
    let scene = Scene::new(family, false).await;
    let mut sql = String::new();
    for t in 0..TABLES {
        sql += &format!(
            "CREATE TABLE t{t} (id INTEGER PRIMARY KEY, v TEXT); \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) \
             INSERT INTO t{t} SELECT i + {}, 'x' || i FROM n;",
            t * ROWS
        );
    }
    super::sqlite(&scene.place.path("from.db"), &sql).await;
    let tables: Vec<_> = (0..TABLES).map(|t| format!("t{t}")).collect();
    let from = json!({"path": "from.db", "table": tables});
    let to =
        json!({"url": scene.url(), "table": "target", "writeMode": mode, "exactlyOnce": true, "createTable": false});
    let run = scene.start(job_of("sqlite", from, scene.plugin(), to)).await;
    let ended = scene.during(run, act.sql).await;
    check(&act, family, &ended);
    let rows = scene.database.try_query("SELECT count(*) FROM target WHERE id >= 0").await;
    if let (Ok(rows), "overwrite") = (rows, mode) {
        assert_eq!(rows[0][0].as_deref(), Some("0"), "{family:?}, {}: half of it is published", act.name);
        assert_eq!(scene.database.value("SELECT count(*) FROM target").await, "1", "the old rows are gone");
    }
}

/// Plays scenes side by side, each as a task of its own: while one waits for its run to begin, it keeps its thread.
async fn at_once(scenes: impl Iterator<Item = impl Future<Output = ()> + Send + 'static>) {
    let scenes: Vec<_> = scenes.map(tokio::spawn).collect();
    for scene in scenes {
        scene.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_postgresql_source_that_is_altered_in_mid_run() {
    // The run holds a lock on all of its tables: what waits for it must not make the run wait in turn.
    let lock: &[&[&str]] = &[&["lock"], &["t3"]];
    let acts = [
        act("column dropped", "ALTER TABLE t3 DROP COLUMN v", lock),
        act("type changed", "ALTER TABLE t3 ALTER COLUMN v TYPE bigint USING 7", lock),
        act("table dropped", "DROP TABLE t3", lock),
        act("table emptied", "TRUNCATE t3", lock),
        act("privilege revoked", "REVOKE SELECT ON t3 FROM {user}", &[&["permission denied", "t3", "privilege"]]),
    ];
    at_once(acts.into_iter().map(|act| source(Family::PostgreSql, act))).await;
}

/// What MariaDB and MySQL refuse to read in a snapshot that is older.
const MYSQL_ACTS: [Act; 5] = [
    act("column dropped", "ALTER TABLE t3 DROP COLUMN v", &[&["t3"], &["altered"]]),
    act("type changed", "ALTER TABLE t3 MODIFY v int", &[&["t3"], &["altered"]]),
    act("table dropped", "DROP TABLE t3", &[&["t3"]]),
    act("table emptied", "TRUNCATE t3", &[&["t3"], &["altered"]]),
    act("privilege revoked", "REVOKE SELECT ON t3 FROM {user}", &[&["denied", "t3", "privilege"]]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_mariadb_source_that_is_altered_in_mid_run() {
    at_once(MYSQL_ACTS.into_iter().map(|act| source(Family::MariaDb, act))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_mysql_source_that_is_altered_in_mid_run() {
    at_once(MYSQL_ACTS.into_iter().map(|act| source(Family::MySql, act))).await;
}

/// What is done to a target; privileges are taken away in each system's own way.
fn target_acts(revoke: &'static str) -> [Act; 4] {
    let needed =
        "ALTER TABLE target ADD COLUMN w int NOT NULL DEFAULT 1; ALTER TABLE target ALTER COLUMN w DROP DEFAULT";
    [
        act("column dropped", "ALTER TABLE target DROP COLUMN v", &[&["target", "column"]]),
        act("table dropped", "DROP TABLE target", &[&["target", "exist"], &["target", "gone"]]),
        act("privilege revoked", revoke, &[&["denied", "privilege"]]),
        act("another column is needed", needed, &[&["w", "errorLimit"], &["target", "column"], &["'w'"], &["\"w\""]]),
    ]
}

const REVOKE_POSTGRESQL: &str = "REVOKE INSERT ON target FROM {user}";
/// A session that is open keeps what it may do in a database: only the next one may not.
const REVOKE_MARIADB: &str = "REVOKE INSERT ON {db}.* FROM {user}; KILL USER {user}";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_postgresql_target_that_is_altered_in_mid_run() {
    let acts = target_acts(REVOKE_POSTGRESQL);
    for mode in ["overwrite", "append"] {
        at_once(acts.into_iter().map(|act| target(Family::PostgreSql, act, mode))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_mariadb_target_that_is_altered_in_mid_run() {
    let acts = target_acts(REVOKE_MARIADB);
    for mode in ["overwrite", "append"] {
        at_once(acts.into_iter().map(|act| target(Family::MariaDb, act, mode))).await;
    }
}
