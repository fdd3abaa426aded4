//! All splits of all tables see one moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use weir_core::{ConnectorContext, ErrorKind, ObjectName, Reader, Result, SnapshotGuard, readers};
use weir_plugins_test::Stopwatch;
use weir_plugins_test::harness::{self, ReadOptions, control, open_reader_in, read_with, split_request};
use weir_plugins_test::servers::{Database, Family, OwnServer};
use weir_reader_mysql as _;

/// The same test on both servers.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod mariadb {
            $(#[tokio::test]
            async fn $test() {
                super::$test(weir_plugins_test::servers::mariadb().await.fresh_database(stringify!($test)).await).await;
            })*
        }
        mod mysql9 {
            $(#[tokio::test]
            async fn $test() {
                super::$test(weir_plugins_test::servers::mysql().await.fresh_database(stringify!($test)).await).await;
            })*
        }
    };
}

on_both!(
    money_that_moves_is_counted_once,
    what_is_achieved_is_said,
    users_who_may_not_lock,
    connections_are_used_again,
    a_lost_connection_is_no_other_moment,
    tables_of_a_run_share_their_moment,
    a_lost_snapshot_of_all_tables_is_followed_by_another_of_all,
    a_table_that_is_emptied_behind_the_snapshot_is_no_empty_table,
);

fn with(url: &str, more: Value) -> Value {
    let mut parameters = json!({ "url": url });
    if let (Some(all), Some(more)) = (parameters.as_object_mut(), more.as_object()) {
        all.extend(more.clone());
    }
    parameters
}

async fn begin(reader: &Arc<dyn Reader>, channels: usize) -> Result<SnapshotGuard> {
    let reader = reader.clone();
    control(async move { reader.snapshot().unwrap().begin(channels).await }).await
}

fn open(url: &str, more: Value) -> (Arc<dyn Reader>, ConnectorContext) {
    let context = harness::context();
    (open_reader_in("mysql", with(url, more), &context).unwrap(), context)
}

fn options(guard: &SnapshotGuard, channels: usize) -> ReadOptions {
    ReadOptions { snapshot: Some(guard.token.clone()), splits: split_request(channels), ..ReadOptions::default() }
}

/// Moves money between the two tables until it is told to stop.
struct Mover {
    stop: Arc<AtomicBool>,
    work: tokio::task::JoinHandle<u32>,
}

impl Mover {
    fn start(database: &Database) -> Self {
        let (database, stop) = (database.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let work = tokio::spawn(async move {
            let mut moved = 0;
            while !stopped.load(Ordering::Relaxed) {
                let (a, b) = (moved % 997, (moved * 31) % 997);
                let sql = format!(
                    "START TRANSACTION; UPDATE acc_0 SET v = v - 1 WHERE id = {a}; \
                     UPDATE acc_1 SET v = v + 1 WHERE id = {b}; COMMIT;"
                );
                database.execute(&sql.repeat(20)).await;
                moved += 1;
            }
            moved
        });
        Self { stop, work }
    }

    async fn stop(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.work.await.unwrap()
    }
}

async fn accounts(database: &Database) {
    for table in ["acc_0", "acc_1"] {
        let rows: Vec<String> = (0..1000).map(|i| format!("({i}, 1000)")).collect();
        database
            .execute(&format!(
                "CREATE TABLE {table} (id INT PRIMARY KEY, v INT); INSERT INTO {table} VALUES {}",
                rows.join(",")
            ))
            .await;
    }
}

async fn money_that_moves_is_counted_once(database: Database) {
    accounts(&database).await;
    let mover = Mover::start(&database);
    for consistency in ["snapshot", "snapshot", "snapshot", "auto", "auto", "auto"] {
        let more = json!({ "table": "acc_[0-1]", "splitPk": "id", "consistency": consistency });
        let (reader, _context) = open(&database.url(), more);
        let guard = begin(&reader, 4).await.unwrap();
        // Time for the writer between the beginning and the reading.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let read = read_with(&reader, options(&guard, 4)).await.unwrap();
        assert_eq!(read.splits.len(), 4, "two for each table");
        let sum: i64 = read.column("v").into_iter().flatten().map(|v| v.parse::<i64>().unwrap()).sum();
        if guard.description.starts_with("one snapshot") {
            assert_eq!(sum, 2_000_000, "{}", guard.description);
        } else {
            assert_eq!(consistency, "auto", "{}", guard.description);
        }
    }
    assert!(mover.stop().await > 0);
}

async fn what_is_achieved_is_said(database: Database) {
    database.execute("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let (reader, _context) = open(&database.url(), json!({ "table": "t", "consistency": "none" }));
    assert!(reader.snapshot().is_none());
    let (reader, _context) = open(&database.url(), json!({ "table": "t" }));
    let said = begin(&reader, 3).await.unwrap().description;
    match database.server().family() {
        // Others use the server too, and may move it in each attempt.
        // Without names of transactions, which some releases give by themselves, nobody tells whether one is in the midst
        // of its commit.
        Family::MySql => assert!(
            said.starts_with("3 connections opened together") && said.contains("snapshot`")
                || said.starts_with("one snapshot in 3 connections, binlog"),
            "{said}"
        ),
        _ => assert!(said.contains("3 connections"), "{said}"),
    }
    let (reader, _context) = open(&database.url(), json!({ "table": "t", "consistency": "snapshot" }));
    let said = begin(&reader, 3).await.unwrap().description;
    assert_eq!(said, "one snapshot in 3 connections, opened under FLUSH TABLES WITH READ LOCK");
    // The locks are gone.
    database.execute("INSERT INTO t VALUES (2)").await;
    database.execute("CREATE TABLE m (id INT) ENGINE=MyISAM").await;
    let (reader, _context) = open(&database.url(), json!({ "table": "m", "consistency": "snapshot" }));
    assert_eq!(begin(&reader, 2).await.err().unwrap().kind(), ErrorKind::Unsupported);
    let (reader, _context) = open(&database.url(), json!({ "table": "m" }));
    assert!(begin(&reader, 2).await.unwrap().description.contains("no snapshots"));
}

/// MySQL's binlog has a transaction before its tables do; that all have come to an end, their names tell.
#[tokio::test]
async fn with_gtids_no_transaction_is_in_the_midst_of_its_commit() {
    let arguments = ["--gtid-mode=ON", "--enforce-gtid-consistency=ON"].map(str::to_owned);
    let own = move || OwnServer::start_with(Family::MySql, &arguments);
    let own = tokio::task::spawn_blocking(own).await.unwrap().unwrap();
    let database = own.server().fresh_database("gtids").await;
    accounts(&database).await;
    let (reader, _context) = open(&database.url(), json!({ "table": "acc_[0-1]", "splitPk": "id" }));
    let said = begin(&reader, 4).await.unwrap().description;
    assert!(said.starts_with("one snapshot in 4 connections, binlog") && said.ends_with("before and after"), "{said}");
    money_that_moves_is_counted_once(own.server().fresh_database("moving").await).await;
    // A name that somebody owns may be one of a transaction in the midst of its commit.
    let owner = tokio::spawn({
        let database = database.clone();
        async move {
            let name = "SET gtid_next = 'aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1'";
            database.execute(&format!("{name}; SELECT SLEEP(60)")).await
        }
    });
    database.until_runs(|statement| statement == "SELECT SLEEP(60)").await;
    let (reader, _context) = open(&database.url(), json!({ "table": "acc_[0-1]", "splitPk": "id" }));
    let said = begin(&reader, 4).await.unwrap().description;
    assert!(said.starts_with("4 connections opened together") && said.contains("snapshot`"), "{said}");
    owner.abort();
    tokio::task::spawn_blocking(move || drop(own)).await.unwrap();
}

async fn users_who_may_not_lock(database: Database) {
    accounts(&database).await;
    let place = database.quote(database.name());
    for (user, grants, said) in [
        ("lock", "SELECT, LOCK TABLES", "one snapshot in 4 connections, opened under LOCK TABLES … READ"),
        ("poor", "SELECT", "one snapshot in one connection, in which splits are read one after another"),
    ] {
        let user = format!("{user}_{}_{}", std::process::id(), database.port());
        database
            .execute(&format!(
                "CREATE USER '{user}'@'%' IDENTIFIED BY 'poor'; GRANT {grants} ON {place}.* TO '{user}'@'%'"
            ))
            .await;
        let url = database.url_with(&user, "poor");
        let parameters = json!({ "table": "acc_[0-1]", "splitPk": "id", "consistency": "snapshot" });
        let (reader, _context) = open(&url, parameters);
        let guard = begin(&reader, 4).await.unwrap();
        assert!(guard.description.starts_with(said), "{}", guard.description);
        database.execute("UPDATE acc_0 SET v = v + 1; UPDATE acc_1 SET v = v + 1").await;
        let read = read_with(&reader, options(&guard, 4)).await.unwrap();
        let sum: i64 = read.column("v").into_iter().flatten().map(|v| v.parse::<i64>().unwrap()).sum();
        assert_eq!((read.splits.len(), sum), (4, 2_000_000), "{user}");
        database.execute("UPDATE acc_0 SET v = v - 1; UPDATE acc_1 SET v = v - 1").await;
        let (reader, _context) = open(&url, json!({ "table": "acc_0" }));
        assert!(begin(&reader, 2).await.unwrap().description.contains("2 connections"));
        database.execute(&format!("DROP USER '{user}'@'%'")).await;
    }
}

async fn connections_are_used_again(database: Database) {
    accounts(&database).await;
    let (reader, context) = open(&database.url(), json!({ "table": "acc_0" }));
    let guard = begin(&reader, 1).await.unwrap();
    // Many reads through one connection, also ones that stop in the midst.
    for limit in [None, Some(3), Some(1), None] {
        let read = read_with(&reader, ReadOptions { limit, ..options(&guard, 1) }).await.unwrap();
        assert_eq!(read.rows(), limit.unwrap_or(1000) as usize);
    }
    // A task that is stopped leaves its connection to the next one.
    let stopping = context.cancel.child_token();
    let task_context = ConnectorContext { cancel: stopping.clone(), ..context.clone() };
    let slow = with(&database.url(), json!({ "table": "acc_0", "column": ["id", "SLEEP(1)"] }));
    let slow = open_reader_in("mysql", slow, &task_context).unwrap();
    let slow_options = options(&guard, 1);
    let reading = tokio::spawn(async move { read_with(&slow, slow_options).await.map(drop) });
    database.until_sessions(|all| all.iter().any(|session| session.state == "User sleep")).await;
    let begun = Stopwatch::start();
    stopping.cancel();
    assert_eq!(reading.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(begun.is_within(std::time::Duration::from_secs(1)), "{:?}", begun.elapsed());
    database.execute("DELETE FROM acc_0").await;
    assert_eq!(read_with(&reader, options(&guard, 1)).await.unwrap().rows(), 1000);
    // Another process has no such connections, and must not read in another moment.
    let (elsewhere, _context) = open(&database.url(), json!({ "table": "acc_0" }));
    let error = read_with(&elsewhere, options(&guard, 1)).await.err().unwrap();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Conflict, false), "{error:?}");
}

/// Ends all other connections to the database.
async fn kill_others(database: &Database) {
    for session in database.sessions().await {
        let _ = database.try_execute(&format!("KILL {}", session.id)).await;
    }
}

async fn a_lost_connection_is_no_other_moment(database: Database) {
    accounts(&database).await;
    let (reader, _context) = open(&database.url(), json!({ "table": "acc_0" }));
    let guard = begin(&reader, 2).await.unwrap();
    kill_others(&database).await;
    // The first error leaves hope in the other connection, which sees the same moment.
    let error = read_with(&reader, options(&guard, 1)).await.err().unwrap();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true), "{error:?}");
    for _ in 0..2 {
        let error = read_with(&reader, options(&guard, 1)).await.err().unwrap();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::SnapshotLost, false), "{error:?}");
        assert!(error.message().contains("snapshot was lost"), "{error}");
    }
}

async fn tables_of_a_run_share_their_moment(database: Database) {
    accounts(&database).await;
    let context = harness::context();
    let open =
        |table: &str| open_reader_in("mysql", with(&database.url(), json!({ "table": table })), &context).unwrap();
    let (first, second) = (open("acc_0"), open("acc_1"));
    let guard = begin(&first, 2).await.unwrap();
    let read = read_with(&first, options(&guard, 2)).await.unwrap();
    assert_eq!(read.rows(), 1000);
    drop(guard);
    // The table that has been read is free again, the moment is still the same.
    tokio::time::timeout(std::time::Duration::from_secs(10), database.execute("ALTER TABLE acc_0 ADD COLUMN n INT"))
        .await
        .unwrap();
    database.execute("DELETE FROM acc_1").await;
    let guard = begin(&second, 2).await.unwrap();
    assert_eq!(read_with(&second, options(&guard, 2)).await.unwrap().rows(), 1000);
    // What the run itself has written is read as it was written.
    let url = weir_mysql::Options::parse(&database.url(), None, None, "/url").unwrap();
    let table = format!("{}.{}", database.quote(database.name()), database.quote("acc_1"));
    weir_mysql::written::note(&context.shared, &url[0], table);
    let guard = begin(&second, 2).await.unwrap();
    assert_eq!(read_with(&second, options(&guard, 2)).await.unwrap().rows(), 0);
}

async fn a_lost_snapshot_of_all_tables_is_followed_by_another_of_all(database: Database) {
    accounts(&database).await;
    let user = format!("lost_{}_{}", std::process::id(), database.port());
    database
        .execute(&format!(
            "CREATE USER '{user}'@'%' IDENTIFIED BY 'poor'; GRANT SELECT, LOCK TABLES ON {}.* TO '{user}'@'%'",
            database.quote(database.name())
        ))
        .await;
    let context = harness::context();
    let url = database.url_with(&user, "poor");
    let parameters = |mut more: Value| {
        more["consistency"] = json!("snapshot");
        with(&url, more)
    };
    let plugin = readers().into_iter().find(|plugin| plugin.name == "mysql").unwrap();
    let catalog = (plugin.catalog.unwrap())(&parameters(json!({})), &context).unwrap();
    let names = ["acc_0", "acc_1"].map(|table| ObjectName {
        database: database.name().to_owned(),
        schema: None,
        table: table.to_owned(),
    });
    let held = control(async move { catalog.snapshot(&names, 2).await }).await.unwrap().unwrap();
    assert!(held.description.ends_with("LOCK TABLES … READ"), "{}", held.description);
    let [first, second] = ["acc_0", "acc_1"].map(|table| {
        let table = format!("{}.{table}", database.quote(database.name()));
        open_reader_in("mysql", parameters(json!({ "table": table })), &context).unwrap()
    });
    let guard = begin(&first, 1).await.unwrap();
    assert_eq!(read_with(&first, options(&guard, 1)).await.unwrap().rows(), 1000);
    let before = guard.moments.clone();
    assert_eq!(before.len(), 1);
    database.execute("DELETE FROM acc_0 WHERE id < 10; DELETE FROM acc_1 WHERE id < 10").await;
    kill_others(&database).await;
    let lost = begin(&second, 1).await.unwrap();
    for _ in 0..2 {
        assert!(read_with(&second, options(&lost, 1)).await.is_err());
    }
    drop((guard, lost));
    let guard = begin(&second, 1).await.unwrap();
    assert!(guard.description.starts_with("one snapshot in 2 connections"), "{}", guard.description);
    assert!(guard.moments.keys().eq(before.keys()), "{:?} {before:?}", guard.moments);
    assert_ne!(guard.moments, before);
    database.execute("DELETE FROM acc_0; DELETE FROM acc_1").await;
    assert_eq!(read_with(&second, options(&guard, 1)).await.unwrap().rows(), 990);
    // The table that was read before is to be had at the same moment.
    let again = begin(&first, 1).await.unwrap();
    assert_eq!(again.moments, guard.moments);
    assert_eq!(read_with(&first, options(&again, 1)).await.unwrap().rows(), 990);
    drop((guard, again, held));
    database.execute(&format!("DROP USER '{user}'@'%'")).await;
}

/// The server itself notices a TRUNCATE, as long as it remembers it, and never that another table has taken a name.
async fn a_table_that_is_emptied_behind_the_snapshot_is_no_empty_table(database: Database) {
    accounts(&database).await;
    database.execute("CREATE TABLE acc_2 LIKE acc_0; INSERT INTO acc_2 SELECT * FROM acc_0").await;
    database
        .execute("CREATE TABLE new_1 LIKE acc_1; CREATE TABLE new_2 LIKE acc_2; CREATE TABLE none LIKE acc_0")
        .await;
    let context = harness::context();
    // A whole-database job looks at all of its tables, and begins with the first.
    let plugin = readers().into_iter().find(|plugin| plugin.name == "mysql").unwrap();
    let catalog = (plugin.catalog.unwrap())(&with(&database.url(), json!({})), &context).unwrap();
    let names = ["acc_0", "acc_1"].map(|table| ObjectName {
        database: database.name().to_owned(),
        schema: None,
        table: table.to_owned(),
    });
    let _ahead = control(async move { catalog.look_ahead(&names).await }).await.unwrap();
    let open = |table: &str| {
        let table = format!("{}.{table}", database.quote(database.name()));
        open_reader_in("mysql", with(&database.url(), json!({ "table": table })), &context).unwrap()
    };
    let first = open("acc_0");
    let guard = begin(&first, 1).await.unwrap();
    database.execute("RENAME TABLE acc_1 TO old_1, new_1 TO acc_1").await;
    let refused = async |table: &str| {
        let reader = open(table);
        let guard = begin(&reader, 1).await.unwrap();
        database
            .execute(if table == "acc_2" { "RENAME TABLE acc_2 TO old_2, new_2 TO acc_2" } else { "SELECT 1" })
            .await;
        let error = read_with(&reader, options(&guard, 1)).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
        assert!(error.message().contains("emptied or altered after its snapshot was taken"), "{error}");
    };
    refused("acc_1").await;
    // One that was looked at by its own reader alone.
    refused("acc_2").await;
    // The connection is of use all the same, and a table without rows is one.
    assert_eq!(read_with(&first, options(&guard, 1)).await.unwrap().rows(), 1000);
    let none = open("none");
    let guard = begin(&none, 1).await.unwrap();
    assert_eq!(read_with(&none, options(&guard, 1)).await.unwrap().rows(), 0);
}
