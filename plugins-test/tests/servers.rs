//! The private servers answer, keep tests apart and speak their defaults.
#![cfg(feature = "servers")]

use weir_plugins_test::servers;

#[tokio::test]
async fn postgresql_gives_each_test_a_database() {
    let server = servers::postgresql().await;
    let (a, b) = (server.fresh_database("A b").await, server.fresh_database("A b").await);
    a.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (NULL)").await;
    assert_eq!(a.query("SELECT n, 'é' FROM t ORDER BY n").await[1], [None, Some("é".into())]);
    assert_eq!(b.value("SELECT count(*) FROM pg_class WHERE relname = 't'").await, "0");
    assert!(b.try_execute("SELECT * FROM t").await.is_err());
}

#[tokio::test]
async fn mariadb_is_mariadb() {
    let database = servers::mariadb().await.fresh_database("shop").await;
    database.execute("CREATE TABLE `t` (n int); INSERT INTO t VALUES (7), (NULL)").await;
    assert_eq!(database.query("SELECT n, '😀' FROM t ORDER BY n").await[0], [None, Some("😀".into())]);
    assert!(database.value("SELECT version()").await.contains("MariaDB"));
}

#[tokio::test]
async fn mysql_is_the_real_one_with_its_defaults() {
    let database = servers::mysql().await.fresh_database("shop").await;
    assert!(database.value("SELECT version()").await.starts_with('9'));
    let settings = database.query("SELECT @@local_infile, @@log_bin, @@secure_file_priv").await;
    assert_eq!(settings[0], ["0", "1", "NULL"].map(|v| Some(v.to_owned())));
    let plugin = "SELECT plugin FROM mysql.user WHERE user = 'weir'";
    assert_eq!(database.value(plugin).await, "caching_sha2_password");
}

#[tokio::test]
async fn sessions_are_seen_whatever_they_say() {
    for server in [servers::mariadb().await, servers::mysql().await] {
        let (database, other) = (server.fresh_database("sessions").await, server.fresh_database("others").await);
        let says = "SELECT SLEEP(60), '😀'";
        let saying = tokio::spawn({
            let database = database.clone();
            async move { database.try_execute(says).await }
        });
        database.until_runs(|statement| statement == says).await;
        let sessions = database.sessions().await;
        let [session] = &sessions[..] else { panic!("{sessions:?}") };
        assert_eq!((session.command.as_str(), session.state.as_str()), ("Query", "User sleep"));
        assert_eq!(other.sessions().await, []);
        database.execute(&format!("KILL {}", session.id)).await;
        assert!(saying.await.unwrap().is_err());
        database.until_sessions(<[_]>::is_empty).await;
    }
}

#[tokio::test]
async fn a_sql_server_that_is_given_makes_each_test_a_database_and_drops_it() {
    let Some(server) = servers::sqlserver() else { return };
    let (a, b) = (server.fresh_database("A b").await, server.fresh_database("A b").await);
    a.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (NULL)").await;
    let rows =
        a.query("SELECT n, N'é 😀', CAST(-1.50 AS decimal(5,2)), CAST(1 AS bit), 0x00ff FROM t ORDER BY n").await;
    assert_eq!(rows[0][0], None);
    assert_eq!(rows[1], ["1", "é 😀", "-1.50", "1", "00ff"].map(|v| Some(v.to_owned())));
    assert!(b.try_execute("SELECT * FROM t").await.is_err());
    let there = format!("SELECT COUNT(*) FROM sys.databases WHERE name = N'{}'", a.name());
    assert_eq!(b.value(&there).await, "1");
    drop(a);
    assert_eq!(b.value(&there).await, "0");
}
