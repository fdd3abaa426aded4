//! The reader against MariaDB and the real MySQL 9.

use std::time::Duration;

use serde_json::{Value, json};
use weir_core::field::{NATIVE, TEXT, extension};
use weir_core::{ErrorKind, SourceColumn};
use weir_plugins_test::Stopwatch;
use weir_plugins_test::harness::{self, ReadOptions, open_reader, read_all, read_with, split_request};
use weir_plugins_test::proxy::{Proxy, Weather};
use weir_plugins_test::servers::{self, Database, Family, Session};
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
    every_type_arrives,
    zero_dates,
    integer_splits,
    text_splits,
    queries_and_expressions,
    shards,
    catalogue_and_check,
    long_values,
    tls_and_logins,
    datax_words,
    snapshots_need_their_isolation,
);

fn cell(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn with(database: &Database, more: Value) -> Value {
    let mut parameters = json!({ "url": database.url() });
    if let (Some(all), Some(more)) = (parameters.as_object_mut(), more.as_object()) {
        all.extend(more.clone());
    }
    parameters
}

const TYPES: &str = "
    CREATE TABLE types (
        id INT PRIMARY KEY, b TINYINT(1), t TINYINT, ut TINYINT UNSIGNED, s SMALLINT, m MEDIUMINT UNSIGNED,
        i INT UNSIGNED, l BIGINT, ul BIGINT UNSIGNED, d DECIMAL(10,2), dd DECIMAL(65,30), f FLOAT, g DOUBLE, o BIT(1),
        bits BIT(12), y YEAR, da DATE, dt DATETIME(6), ts TIMESTAMP(6) NULL, ti TIME(6), c CHAR(5), v VARCHAR(50),
        l1 VARCHAR(10) CHARACTER SET latin1, tx TEXT, bi BINARY(3), vb VARBINARY(9), bl BLOB, j JSON,
        e ENUM('a','b'), st SET('x','y','z'), p POINT);
    SET time_zone = '+00:00';
    INSERT INTO types VALUES
        (1, 7, -128, 255, -32768, 16777215, 4294967295, -9223372036854775808, 18446744073709551615, -12345678.90,
         -12345678901234567890123456789012345.123456789012345678901234567890, 1.1, 0.1, b'1', b'100000000001', 2024,
         '2024-02-29', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07.5', '-838:59:59', 'ab', 'tab\\t😀\\\\',
         'ä', '', x'000102', x'', x'00ff', '{\"a\": 1.50}', 'b', 'x,z', ST_GeomFromText('POINT(1 2)'));
    INSERT INTO types (id) VALUES (2);";

async fn every_type_arrives(database: Database) {
    database.execute(TYPES).await;
    let reader = open_reader("mysql", with(&database, json!({ "table": "types" }))).unwrap();
    let read = read_all(&reader).await.unwrap();
    let rows = read.cells();
    let of = |name: &str| rows[0][read.arrow.index_of(name).unwrap()].clone().unwrap_or_default();
    let values = [
        ("b", "7"),
        ("t", "-128"),
        ("ut", "255"),
        ("s", "-32768"),
        ("m", "16777215"),
        ("i", "4294967295"),
        ("l", "-9223372036854775808"),
        ("ul", "18446744073709551615"),
        ("d", "-12345678.90"),
        ("dd", "-12345678901234567890123456789012345.123456789012345678901234567890"),
        ("f", "1.1"),
        ("g", "0.1"),
        ("o", "true"),
        ("bits", "2049"),
        ("y", "2024"),
        ("da", "2024-02-29"),
        ("dt", "9999-12-31T23:59:59.999999"),
        ("ts", "2038-01-19T03:14:07.500Z"),
        ("c", "ab"),
        ("v", "tab\t😀\\"),
        ("l1", "ä"),
        ("tx", ""),
        ("bi", "000102"),
        ("vb", ""),
        ("bl", "00ff"),
        ("e", "b"),
        ("st", "x,z"),
        ("p", "0101000000000000000000f03f0000000000000040"),
    ];
    for (name, value) in values {
        assert_eq!(of(name), value, "{name}");
    }
    assert!(of("ti").starts_with("-P") || of("ti").contains("-34 days"), "{}", of("ti"));
    assert!(of("j").contains("1.5"), "{}", of("j"));
    assert_eq!(extension(read.schema.columns[27].canonical()), Some("arrow.json"));
    assert!(rows[1][1..].iter().all(Option::is_none), "{:?}", rows[1]);
    // Native and text forms come as the server spells values.
    for wanted in [NATIVE, TEXT] {
        let choose: fn(&SourceColumn) -> &arrow::datatypes::Field = if wanted == NATIVE {
            |c| &c.representations[0]
        } else {
            |c| c.representations.iter().find(|f| extension(f) == Some(TEXT)).unwrap_or_else(|| c.canonical())
        };
        let read = read_with(&reader, ReadOptions { choose, ..ReadOptions::default() }).await.unwrap();
        assert_eq!(read.rows(), 2);
    }
}

async fn zero_dates(database: Database) {
    database
        .execute(
            "SET sql_mode = ''; CREATE TABLE z (id INT PRIMARY KEY, d DATE NOT NULL, t DATETIME);
             INSERT INTO z VALUES (1, '2024-01-01', '2024-01-01 00:00:00'), (2, '0000-00-00', NULL),
             (3, '2024-05-00', '0000-00-00 00:00:00');",
        )
        .await;
    let reader = open_reader("mysql", with(&database, json!({ "table": "z" }))).unwrap();
    let read = read_all(&reader).await.unwrap();
    assert_eq!(read.rows(), 1);
    let rejected = read.rejected();
    assert_eq!(rejected.len(), 2);
    assert_eq!(rejected[0].column.as_deref(), Some("d"));
    assert_eq!(rejected[0].values["d"], "0000-00-00");
    assert!(rejected[0].reason.contains("zeroDate"), "{}", rejected[0].reason);
    let reader = open_reader("mysql", with(&database, json!({ "table": "z", "zeroDate": "null" }))).unwrap();
    let read = read_all(&reader).await.unwrap();
    assert_eq!((read.rows(), read.rejected().len()), (3, 0));
    assert_eq!(read.column("d"), [cell("2024-01-01"), None, None]);
    assert!(read.schema.columns[1].nullable);
}

async fn integer_splits(database: Database) {
    database
        .execute(
            "CREATE TABLE n (k BIGINT UNSIGNED, v INT);
             INSERT INTO n VALUES (0, 1), (18446744073709551615, 2), (NULL, 3), (NULL, 4);
             INSERT INTO n SELECT 5 + a.k % 7, 9 FROM n a, n b, n c, n d WHERE a.k IS NOT NULL;",
        )
        .await;
    let count: usize = database.value("SELECT COUNT(*) FROM n").await.parse().unwrap();
    let parameters = with(&database, json!({ "table": "n", "splitPk": "K" }));
    let reader = open_reader("mysql", parameters).unwrap();
    let options = ReadOptions { splits: split_request(5), ..ReadOptions::default() };
    let read = read_with(&reader, options).await.unwrap();
    assert!(read.splits.len() > 2, "{}", read.splits.len());
    assert_eq!(read.rows(), count);
    let nulls = read.splits.iter().find(|s| s.split.description.contains("IS NULL")).unwrap();
    assert_eq!(nulls.batches.iter().map(|b| b.num_rows()).sum::<usize>(), 2);
}

async fn text_splits(database: Database) {
    for (table, definition) in [
        ("ci", "VARCHAR(40) CHARACTER SET utf8mb4"),
        ("bin", "VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
        ("lat", "VARCHAR(40) CHARACTER SET latin1"),
        ("raw", "VARBINARY(40)"),
        ("day", "DATETIME(3)"),
    ] {
        let values: Vec<String> = (0..600)
            .map(|i| match table {
                "day" => format!("('2024-01-{:02} 10:00:00.{:03}')", i % 28 + 1, i),
                _ => {
                    let word = ["a", "A", "ä", "Ä", "b'", "\\\\", "ß", "ss", "", "z "][i % 10];
                    let extra = if table == "lat" { "é" } else { "😀" };
                    format!("('{}{}')", word.replace('\'', "''"), if i % 3 == 0 { extra } else { "" })
                }
            })
            .collect();
        database
            .execute(&format!(
                "CREATE TABLE {table} (k {definition}, KEY (k)); INSERT INTO {table} VALUES (NULL), {};
                 ANALYZE TABLE {table}",
                values.join(",")
            ))
            .await;
        let reader = open_reader("mysql", with(&database, json!({ "table": table, "splitPk": "k" }))).unwrap();
        let options = ReadOptions { splits: split_request(4), ..ReadOptions::default() };
        let read = read_with(&reader, options).await.unwrap();
        assert!(read.splits.len() > 2, "{table}: {}", read.splits.len());
        assert_eq!(read.rows(), 601, "{table}");
        let whole = open_reader("mysql", with(&database, json!({ "table": table }))).unwrap();
        assert_eq!(read.sorted_cells(), read_all(&whole).await.unwrap().sorted_cells(), "{table}");
    }
}

async fn queries_and_expressions(database: Database) {
    database
        .execute("CREATE TABLE q (id INT PRIMARY KEY, f FLOAT, `odd ``name` VARCHAR(9)); INSERT INTO q VALUES (1, 0.1, 'x'), (2, 16777217, 'y')")
        .await;
    let columns = json!(["ID", "`odd ``name`", "id * 2", "'it''s'", "null", "1.50", "now()"]);
    let reader =
        open_reader("mysql", with(&database, json!({ "table": "q", "column": columns, "where": "id > 1 -- all;" })))
            .unwrap();
    let read = read_all(&reader).await.unwrap();
    assert!(read.schema.listed);
    let row = &read.cells()[0];
    assert_eq!(row[..6], [cell("2"), cell("y"), cell("4"), cell("it's"), None, cell("1.50")]);
    let sql = "SELECT f, id, CAST(1 AS DECIMAL(20,3)) AS d, REPEAT('x', 3) r FROM q ORDER BY id; ";
    let reader = open_reader("mysql", with(&database, json!({ "querySql": sql }))).unwrap();
    let read = read_all(&reader).await.unwrap();
    assert_eq!(read.column("f"), [cell("0.1"), cell("16777216.0")]);
    assert_eq!(read.column("d"), [cell("1.000"), cell("1.000")]);
    assert_eq!(read.column("r"), [cell("xxx"), cell("xxx")]);
    let backwards = ReadOptions { columns: Some(vec![1, 0]), limit: Some(1), ..ReadOptions::default() };
    assert_eq!(read_with(&reader, backwards).await.unwrap().cells(), [[cell("1"), cell("0.1")]]);
    for (more, kind, says) in [
        (json!({ "table": "qq" }), ErrorKind::NotFound, "did you mean `q`"),
        (json!({ "table": "Q" }), ErrorKind::NotFound, "did you mean `q`"),
        (json!({ "table": "q", "column": ["idd + nope"] }), ErrorKind::NotFound, "nope|idd"),
        (json!({ "table": "q", "where": "id >" }), ErrorKind::Remote, "where"),
        (json!({ "querySql": "SELECT * FROM nothing" }), ErrorKind::NotFound, "nothing"),
        (json!({ "table": "nowhere.q" }), ErrorKind::NotFound, "database"),
    ] {
        let reader = open_reader("mysql", with(&database, more.clone())).unwrap();
        let error = reader.schema().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{more}: {error:?}");
        assert!(says.split('|').any(|s| error.full().contains(s)), "{more}: {error:?}");
    }
}

async fn shards(database: Database) {
    let more = database.server().fresh_database("shard").await;
    for (place, tables) in [(&database, ["order_00", "order_01"]), (&more, ["order_02", "order_03"])] {
        for table in tables {
            place
                .execute(&format!(
                    "CREATE TABLE {table} (id INT PRIMARY KEY, t VARCHAR(9)); INSERT INTO {table} VALUES (1, '{table}'), (2, 'x')"
                ))
                .await;
        }
    }
    let parameters = json!({ "username": database.user(), "password": database.password(), "column": ["*"], "splitPk": "id",
        "connection": [{ "jdbcUrl": [database.jdbc_url()], "table": ["order_[00-01]"] },
                       { "jdbcUrl": [more.jdbc_url()], "table": ["order_02", "order_03"] }] });
    let reader = open_reader("mysqlreader", parameters.clone()).unwrap();
    let read = read_all(&reader).await.unwrap();
    assert_eq!((read.rows(), read.schema.tables.len(), read.splits.len()), (8, 4, 4));
    more.execute("CREATE TABLE other (id INT, t INT)").await;
    let mut parameters = parameters;
    parameters["connection"][1]["table"] = json!(["other"]);
    let error = open_reader("mysqlreader", parameters).unwrap().schema().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema);
    assert!(error.message().contains("varchar"), "{error}");
}

async fn catalogue_and_check(database: Database) {
    database
        .execute("CREATE TABLE a_table (id INT PRIMARY KEY); CREATE VIEW a_view AS SELECT * FROM a_table; CREATE TABLE weir_x_s (i INT)")
        .await;
    let catalog = harness::open_catalog("mysql", json!({ "url": database.url() })).unwrap();
    let tables = catalog.tables(Some("a_*")).await.unwrap();
    let found: Vec<_> = tables.iter().map(|t| (t.name.as_str(), t.kind.as_str())).collect();
    assert_eq!(found, [("a_table", "table"), ("a_view", "view")]);
    assert_eq!(catalog.tables(None).await.unwrap().len(), 2);
    let checks = open_reader("mysql", with(&database, json!({ "table": "a_table" }))).unwrap().check().await;
    let (moment, others): (Vec<_>, Vec<_>) = checks.iter().partition(|c| c.what == weir_core::Check::ONE_SNAPSHOT);
    assert!(others.iter().all(|c| c.outcome == weir_core::CheckOutcome::Ok), "{checks:?}");
    assert!(matches!(&moment[..], [check] if check.detail.contains("opened together")), "{checks:?}");
    let checks = open_reader("mysql", with(&database, json!({ "table": "b_table" }))).unwrap().check().await;
    assert!(checks.iter().any(|c| c.detail.contains("a_table")), "{checks:?}");
}

async fn long_values(database: Database) {
    // From 16 MiB on, the length of a row's first cell looks like the end of the result.
    database
        .execute(
            "CREATE TABLE big (t LONGTEXT, id INT PRIMARY KEY);
             INSERT INTO big VALUES ('first', 1), (CONCAT(REPEAT('x', 8000000), REPEAT('y', 7000000)), 2), ('last', 4);",
        )
        .await;
    let huge = database.try_execute("INSERT INTO big VALUES (REPEAT('z', 16777216), 3)").await.is_ok();
    let reader = open_reader("mysql", with(&database, json!({ "table": "big" }))).unwrap();
    let read = read_all(&reader).await.unwrap();
    assert_eq!(read.rows(), 3 + usize::from(huge));
    assert_eq!(read.column("t").last().cloned().flatten().unwrap_or_default(), "last");
    let reader =
        open_reader("mysql", with(&database, json!({ "querySql": "SELECT t, id FROM big ORDER BY id" }))).unwrap();
    assert_eq!(read_all(&reader).await.unwrap().rows(), 3 + usize::from(huge));
}

async fn tls_and_logins(database: Database) {
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let open = |url: String| open_reader("mysql", json!({ "url": url, "table": "t" })).unwrap();
    for mode in ["disabled", "preferred", "required", "verify-ca"] {
        let reader = open(format!("{}?sslMode={mode}", database.url()));
        let result = read_all(&reader).await;
        match (mode, database.server().family()) {
            ("disabled" | "preferred", _) | ("required", Family::MySql) => assert!(result.is_ok(), "{mode}"),
            // MariaDB 10.11 has no certificate by default, and nobody vouches for MySQL's own.
            _ => assert_eq!(result.err().unwrap().kind(), ErrorKind::Unreachable, "{mode}"),
        }
    }
    let wrong = open(database.url_with(database.user(), "hush"));
    let error = wrong.schema().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(!format!("{error:?}").contains("hush"), "{error:?}");
    let nowhere = database.url().replace(&format!(":{}", database.port()), ":1");
    assert_eq!(open(nowhere).schema().await.unwrap_err().kind(), ErrorKind::Unreachable);
    let gone = database.url().replace(database.name(), "no_such_database");
    assert_eq!(open(gone).schema().await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn datax_words(database: Database) {
    database.execute("CREATE TABLE d (id INT PRIMARY KEY, b TINYINT(1)); INSERT INTO d VALUES (1, 7)").await;
    let url = format!(
        "{}?useSSL=false&serverTimezone=Asia/Shanghai&tinyInt1isBit=true&rewriteBatchedStatements=true",
        database.jdbc_url()
    );
    let parameters = json!({ "username": database.user(), "password": database.password(), "session": ["SET @x = 1"],
        "column": ["id", "b", "@x"], "connection": [{ "table": ["d"], "jdbcUrl": [url] }] });
    let read = read_all(&open_reader("mysqlreader", parameters).unwrap()).await.unwrap();
    assert_eq!(read.cells(), [[cell("1"), cell("true"), cell("1")]]);
    assert!(read.schema.warnings.iter().any(|w| w.contains("rewriteBatchedStatements")), "{:?}", read.schema.warnings);
}

async fn snapshots_need_their_isolation(database: Database) {
    database.execute("CREATE TABLE i (id INT PRIMARY KEY); INSERT INTO i VALUES (1)").await;
    let variable = match database.server().family() {
        Family::MySql => "@@transaction_isolation",
        _ => "@@tx_isolation",
    };
    let session = ["SET @x = 1", "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"];
    let parameters = json!({ "table": "i", "column": [variable, "@x"], "session": session });
    let read = read_all(&open_reader("mysql", with(&database, parameters)).unwrap()).await;
    assert_eq!(read.unwrap().cells(), [[cell("REPEATABLE-READ"), cell("1")]]);
}

#[tokio::test]
async fn a_statement_that_runs_is_killed_when_the_run_stops() {
    for server in [servers::mariadb().await, servers::mysql().await] {
        let database = server.fresh_database("cancel").await;
        database.execute("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)").await;
        let context = harness::context();
        let parameters = with(&database, json!({ "table": "t", "column": ["id", "SLEEP(30)"] }));
        let reader = harness::open_reader_in("mysql", parameters, &context).unwrap();
        let reading = tokio::spawn(async move { read_all(&reader).await.map(drop) });
        database.until_sessions(|all| all.iter().any(is_asleep)).await;
        let begun = Stopwatch::start();
        context.cancel.cancel();
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(begun.is_within(Duration::from_secs(1)), "{:?}", begun.elapsed());
        // By itself it would sleep for a minute and a half.
        database.until_sessions(|all| !all.iter().any(is_asleep)).await;
    }
}

fn is_asleep(session: &Session) -> bool {
    session.state == "User sleep"
}

/// The server has ended a connection, and no word of that arrives here; meanwhile somebody's statement has a character of
/// four bytes.
#[tokio::test]
async fn a_connection_that_the_server_has_forgotten_is_missed() {
    let cases = [servers::mariadb().await, servers::mysql().await].map(|server| async move {
        let (database, other) = (server.fresh_database("forgotten").await, server.fresh_database("says").await);
        database.execute("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)").await;
        let saying = tokio::spawn({
            let other = other.clone();
            async move { drop(other.try_execute("SELECT SLEEP(300), '😀'").await) }
        });
        other.until_sessions(|all| all.iter().any(is_asleep)).await;
        let proxy = Proxy::start(database.port()).await.unwrap();
        let url = format!("{}?connectTimeout=2500", proxy.url(&database.url()));
        let parameters = json!({ "url": url, "table": "t", "column": ["id", "SLEEP(60)"] });
        let reader = open_reader("mysql", parameters).unwrap();
        let reading = tokio::spawn(async move { read_all(&reader).await.map(drop) });
        database.until_sessions(|all| all.iter().any(is_asleep)).await;
        // Others have asked whether the connection is there, and it was; on a busy machine one of them may have had no answer.
        let before = proxy.connections();
        while proxy.connections() < before + 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(!reading.is_finished(), "{:?}", reading.await);
        }
        let asleep = database.sessions().await.into_iter().find(is_asleep).unwrap();
        // Its last words go into the hole, and its end after them.
        proxy.set(Weather::HalfOpen);
        database.execute(&format!("KILL QUERY {}", asleep.id)).await;
        database.until_sessions(|all| !all.iter().any(is_asleep)).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        database.execute(&format!("KILL {}", asleep.id)).await;
        proxy.set(Weather::Fair);
        let error = tokio::time::timeout(Duration::from_secs(60), reading).await.expect("the run hangs");
        let error = error.unwrap().unwrap_err();
        assert!(error.kind() == ErrorKind::Unreachable && error.is_retryable(), "{error:?}");
        assert!(error.to_string().contains("no longer knows the connection"), "{error}");
        for session in other.sessions().await {
            other.execute(&format!("KILL {}", session.id)).await;
        }
        saying.await.unwrap();
    });
    futures::future::join_all(cases).await;
}
