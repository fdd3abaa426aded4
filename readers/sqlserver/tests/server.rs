//! The reader against the server that `WEIR_TEST_SQLSERVER` names.

use serde_json::{Value, json};
use weir_core::ErrorKind;
use weir_plugins_test::harness::{self, ReadOptions, open_reader, read_all, read_with, split_request};
use weir_plugins_test::not_run;
use weir_plugins_test::servers::Database;
use weir_reader_sqlserver as _;

/// Each test in a database of its own, or counted as not run.
macro_rules! on_the_server {
    ($($test:ident),* $(,)?) => {
        mod sqlserver {
            $(#[tokio::test]
            async fn $test() {
                let Some(server) = weir_plugins_test::servers::sqlserver() else { return };
                super::$test(server.fresh_database(stringify!($test)).await).await;
            })*
        }
    };
}

on_the_server!(
    columns_of_their_own_kinds,
    code_pages,
    integer_splits,
    other_splits,
    queries_and_expressions,
    shards,
    catalogue_and_check,
    long_values,
    tls_and_logins,
    datax_words,
    a_column_that_changes_after_it_was_seen,
    a_statement_ends_when_its_time_is_over,
    a_statement_that_runs_ends_when_the_run_stops,
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

async fn columns_of_their_own_kinds(database: Database) {
    database
        .execute(
            "CREATE TABLE own (id int IDENTITY(5, 2) PRIMARY KEY, a int NOT NULL, twice AS a * 2, version rowversion);
             INSERT INTO own (a) VALUES (7); INSERT INTO own (a) VALUES (8)",
        )
        .await;
    let reader = open_reader("sqlserver", with(&database, json!({ "table": "own" }))).unwrap();
    let read = read_all(&reader).await.unwrap();
    let ids = read.column("id");
    assert_eq!((ids, read.column("twice")), (vec![cell("5"), cell("7")], vec![cell("14"), cell("16")]));
    let versions = read.column("version");
    assert!(versions[0] != versions[1] && versions.iter().flatten().all(|v| v.len() == 16), "{versions:?}");
    // A column whose every value has a type of its own is refused by name; without it the table can be read.
    database
        .execute("CREATE TABLE any_type (id int PRIMARY KEY, v sql_variant); INSERT INTO any_type VALUES (1, 2)")
        .await;
    let reader = open_reader("sqlserver", with(&database, json!({ "table": "any_type" }))).unwrap();
    let error = read_all(&reader).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(error.full().contains("sql_variant") && error.full().contains('v'), "{error:?}");
    let reader = open_reader("sqlserver", with(&database, json!({ "table": "any_type", "column": ["id"] }))).unwrap();
    assert_eq!(read_all(&reader).await.unwrap().cells(), [[cell("1")]]);
}

/// Texts of one byte a character arrive whatever the code page of their collation.
async fn code_pages(database: Database) {
    let collations = [
        ("Latin1_General_CI_AS", "é€ß"),
        ("Cyrillic_General_CI_AS", "Жщя"),
        ("Greek_CI_AS", "Ωλς"),
        ("Japanese_CI_AS", "日本"),
        ("Chinese_PRC_CI_AS", "汉字"),
    ];
    for (i, (collation, text)) in collations.iter().enumerate() {
        database
            .execute(&format!(
                "CREATE TABLE c{i} (v varchar(20) COLLATE {collation}, t varchar(max) COLLATE {collation}); \
                 INSERT INTO c{i} VALUES (N'{text}', N'{text}')"
            ))
            .await;
        let reader = open_reader("sqlserver", with(&database, json!({ "table": format!("c{i}") }))).unwrap();
        let read = read_all(&reader).await.unwrap();
        assert_eq!(read.cells(), [[cell(text), cell(text)]], "{collation}");
    }
}

async fn integer_splits(database: Database) {
    database
        .execute(
            "CREATE TABLE n (k bigint, v int);
             INSERT INTO n VALUES (-9223372036854775808, 1), (9223372036854775807, 2), (NULL, 3), (NULL, 4);
             WITH d AS (SELECT v.i FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) v(i))
             INSERT INTO n SELECT 5 + (a.i * 100 + b.i * 10 + c.i) % 7, 9 FROM d a CROSS JOIN d b CROSS JOIN d c",
        )
        .await;
    let parameters = with(&database, json!({ "table": "n", "splitPk": "K" }));
    let reader = open_reader("sqlserver", parameters).unwrap();
    let options = ReadOptions { splits: split_request(5), ..ReadOptions::default() };
    let read = read_with(&reader, options).await.unwrap();
    assert!(read.splits.len() > 2, "{}", read.splits.len());
    assert_eq!(read.rows(), 1004);
    let nulls = read.splits.iter().find(|s| s.split.description.contains("IS NULL")).unwrap();
    assert_eq!(nulls.batches.iter().map(|b| b.num_rows()).sum::<usize>(), 2);
}

async fn other_splits(database: Database) {
    for (table, definition) in [
        ("ci", "nvarchar(40)"),
        ("bin", "nvarchar(40) COLLATE Latin1_General_BIN2"),
        ("lat", "varchar(40) COLLATE Latin1_General_CI_AS"),
        ("raw", "varbinary(40)"),
        ("day", "datetime2(3)"),
        ("price", "decimal(12,3)"),
        ("id", "uniqueidentifier"),
    ] {
        let values: Vec<String> = (0..600)
            .map(|i| match table {
                "day" => format!("('2024-01-{:02}T10:00:00.{:03}')", i % 28 + 1, i),
                "price" => format!("({}.{:03})", i as i64 * 7919 - 2_000_000, i),
                "id" => format!("('{:08x}-0000-4000-8000-{:012x}')", i * 7919, i * 104_729),
                "raw" => format!("(0x{:04x}00ff)", i * 97 % 65_536),
                _ => {
                    let word = ["a", "A", "ä", "Ä", "b'", "\\", "ß", "ss", "", "z "][i % 10];
                    let extra = if table == "lat" { "é" } else { "😀" };
                    format!("(N'{}{}')", word.replace('\'', "''"), if i % 3 == 0 { extra } else { "" })
                }
            })
            .collect();
        database
            .execute(&format!(
                "CREATE TABLE {table} (k {definition} NULL); INSERT INTO {table} VALUES (NULL), {}",
                values.join(",")
            ))
            .await;
        let reader = open_reader("sqlserver", with(&database, json!({ "table": table, "splitPk": "k" }))).unwrap();
        let options = ReadOptions { splits: split_request(4), ..ReadOptions::default() };
        let read = read_with(&reader, options).await.unwrap();
        assert_eq!(read.rows(), 601, "{table}");
        let whole = open_reader("sqlserver", with(&database, json!({ "table": table }))).unwrap();
        assert_eq!(read.sorted_cells(), read_all(&whole).await.unwrap().sorted_cells(), "{table}");
    }
}

async fn queries_and_expressions(database: Database) {
    database
        .execute(
            "CREATE TABLE q (id int PRIMARY KEY, f real, [odd name] nvarchar(9)); \
             INSERT INTO q VALUES (1, 0.1, 'xyz'), (2, 16777216, 'y')",
        )
        .await;
    let mut columns = json!(["ID", "[odd name]", "id * 2", "'it''s'", "null", "getdate()", "1.50"]);
    let decimals = !database.is_babelfish().await;
    if !decimals {
        not_run("Babelfish describes the constant 1.50 without its digits; the other columns are run");
        columns[6] = "15".into();
    }
    let parameters = json!({ "table": "q", "column": columns, "where": "id > 1 -- all;" });
    let reader = open_reader("sqlserver", with(&database, parameters)).unwrap();
    let read = read_all(&reader).await.unwrap();
    assert!(read.schema.listed);
    let row = &read.cells()[0];
    assert_eq!(row[..5], [cell("2"), cell("y"), cell("4"), cell("it's"), None]);
    assert_eq!(row[6], cell(if decimals { "1.50" } else { "15" }));
    let sql = "SELECT f, id, CAST(1 AS decimal(20,3)) AS d, REPLICATE('x', 3) AS r, [odd name] AS n, UPPER([odd name] + N'ü') AS u \
               FROM q; ";
    let reader = open_reader("sqlserver", with(&database, json!({ "querySql": sql }))).unwrap();
    let read = read_all(&reader).await.unwrap();
    assert_eq!(read.column("f"), [cell("0.1"), cell("16777216.0")]);
    assert_eq!(read.column("d"), [cell("1.000"), cell("1.000")]);
    assert_eq!(read.column("r"), [cell("xxx"), cell("xxx")]);
    assert_eq!(read.column("n"), [cell("xyz"), cell("y")]);
    assert_eq!(read.column("u"), [cell("XYZÜ"), cell("YÜ")]);
    let backwards = ReadOptions { columns: Some(vec![1, 0]), limit: Some(1), ..ReadOptions::default() };
    assert_eq!(read_with(&reader, backwards).await.unwrap().rows(), 1);
    for (more, kind, says) in [
        (json!({ "table": "qq" }), ErrorKind::NotFound, "did you mean"),
        (json!({ "table": "q", "column": ["idd + nope"] }), ErrorKind::NotFound, "nope|idd"),
        (json!({ "querySql": "SELECT * FROM nothing" }), ErrorKind::NotFound, "nothing"),
        (json!({ "table": "nowhere.q" }), ErrorKind::NotFound, "nowhere"),
    ] {
        let reader = open_reader("sqlserver", with(&database, more.clone())).unwrap();
        let error = reader.schema().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{more}: {error:?}");
        assert!(says.split('|').any(|s| error.full().contains(s)), "{more}: {error:?}");
    }
    let broken = open_reader("sqlserver", with(&database, json!({ "table": "q", "where": "id >" }))).unwrap();
    assert!(read_all(&broken).await.is_err());
}

async fn shards(database: Database) {
    let more = database.server().fresh_database("shard").await;
    for (place, tables) in [(&database, ["order_00", "order_01"]), (&more, ["order_02", "order_03"])] {
        for table in tables {
            place
                .execute(&format!(
                    "CREATE TABLE {table} (id int PRIMARY KEY, t nvarchar(9)); \
                     INSERT INTO {table} VALUES (1, '{table}'), (2, 'x')"
                ))
                .await;
        }
    }
    let parameters = json!({ "username": database.user(), "password": database.password(), "column": ["*"],
        "splitPk": "id", "connection": [{ "jdbcUrl": [database.jdbc_url()], "table": ["order_[00-01]"] },
                                        { "jdbcUrl": [more.jdbc_url()], "table": ["order_02", "order_03"] }] });
    let reader = open_reader("sqlserverreader", parameters.clone()).unwrap();
    let read = read_all(&reader).await.unwrap();
    assert_eq!((read.rows(), read.schema.tables.len()), (8, 4));
    more.execute("CREATE TABLE other (id int, t int)").await;
    let mut parameters = parameters;
    parameters["connection"][1]["table"] = json!(["other"]);
    let error = open_reader("sqlserverreader", parameters).unwrap().schema().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema);
    assert!(error.message().contains("varchar"), "{error}");
}

async fn catalogue_and_check(database: Database) {
    database.execute("CREATE TABLE a_table (id int PRIMARY KEY); CREATE TABLE weir_x_s (i int)").await;
    database.execute("CREATE VIEW a_view AS SELECT * FROM a_table").await;
    database.execute("CREATE SCHEMA other").await;
    database.execute("CREATE TABLE other.b_table (a int NOT NULL, b int NOT NULL, PRIMARY KEY (b, a))").await;
    let catalog = harness::open_catalog("sqlserver", json!({ "url": database.url() })).unwrap();
    let tables = catalog.tables(Some("a_*")).await.unwrap();
    let mut found: Vec<_> = tables.iter().map(|t| (t.name.trim_start_matches("dbo."), t.kind.as_str())).collect();
    found.sort_unstable();
    assert_eq!(found, [("a_table", "table"), ("a_view", "view")]);
    let all = catalog.tables(None).await.unwrap();
    assert!(all.iter().any(|t| t.name.ends_with("b_table")), "{all:?}");
    assert!(all.iter().all(|t| !t.name.contains("weir_x")), "{all:?}");
    let checks = open_reader("sqlserver", with(&database, json!({ "table": "a_table" }))).unwrap().check().await;
    assert!(checks.iter().all(|c| c.outcome != weir_core::CheckOutcome::Fault), "{checks:?}");
    let checks = open_reader("sqlserver", with(&database, json!({ "table": "aa_table" }))).unwrap().check().await;
    assert!(checks.iter().any(|c| c.detail.contains("a_table")), "{checks:?}");
    let reader = open_reader("sqlserver", with(&database, json!({ "table": "other.b_table" }))).unwrap();
    let schema = reader.schema().await.unwrap();
    let names: Vec<_> = schema.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    // The order of the key is the key's own.
    let keys: Vec<_> = schema.columns.iter().map(|c| (c.native_type.as_str(), c.key)).collect();
    assert_eq!(keys, [("int", Some(2)), ("int", Some(1))]);
}

async fn long_values(database: Database) {
    database
        .execute(
            "CREATE TABLE big (t nvarchar(max), b varbinary(max), id int PRIMARY KEY);
             INSERT INTO big VALUES ('first', 0x01, 1), ('last', NULL, 4);
             INSERT INTO big VALUES (REPLICATE(CAST(N'ü🚀x' AS nvarchar(max)), 2000000),
                 CAST(REPLICATE(CAST('00ff' AS varchar(max)), 2000000) AS varbinary(max)), 2)",
        )
        .await;
    let reader = open_reader("sqlserver", with(&database, json!({ "table": "big" }))).unwrap();
    let read = read_all(&reader).await.unwrap();
    let mut lengths: Vec<_> = read
        .cells()
        .iter()
        .map(|row| row.iter().map(|c| c.as_ref().map_or(0, |c| c.chars().count())).collect::<Vec<_>>())
        .collect();
    lengths.sort();
    assert_eq!(lengths, [vec![4, 0, 1], vec![5, 2, 1], vec![6_000_000, 16_000_000, 1]]);
}

async fn tls_and_logins(database: Database) {
    database.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let open = |url: String| open_reader("sqlserver", json!({ "url": url, "table": "t" })).unwrap();
    let bare = database.url().split('?').next().unwrap_or_default().to_owned();
    let trusting = open(format!("{bare}?encrypt=true&trustServerCertificate=true"));
    assert_eq!(read_all(&trusting).await.unwrap().rows(), 0);
    // Nobody vouches for the certificate that a server makes itself.
    if std::env::var_os("WEIR_TEST_SQLSERVER_TRUSTED").is_none() {
        let error = open(format!("{bare}?encrypt=true")).schema().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
        assert!(error.full().to_lowercase().contains("certificate"), "{error:?}");
    }
    let wrong = open(database.url_with(database.user(), "hush"));
    let error = wrong.schema().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(!format!("{error:?}").contains("hush"), "{error:?}");
    let nowhere = database.url().replace(&format!(":{}", database.port()), ":1");
    assert_eq!(open(nowhere).schema().await.unwrap_err().kind(), ErrorKind::Unreachable);
    let gone = database.url().replace(database.name(), "no_such_database");
    let error = open(gone).schema().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
}

async fn datax_words(database: Database) {
    database.execute("CREATE TABLE d (id int PRIMARY KEY, b bit); INSERT INTO d VALUES (1, 1)").await;
    let url = format!("{};sendStringParametersAsUnicode=false", database.jdbc_url());
    let parameters = json!({ "username": database.user(), "password": database.password(),
        "session": ["SET DATEFIRST 3"], "column": ["id", "b", "@@DATEFIRST"], "fetchSize": 1024,
        "connection": [{ "table": ["d"], "jdbcUrl": [url] }] });
    let read = read_all(&open_reader("sqlserverreader", parameters).unwrap()).await.unwrap();
    assert_eq!(read.cells(), [[cell("1"), cell("true"), cell("3")]]);
}

/// A statement that takes hours. It begins with SELECT, for a relative describes nothing else.
fn endless() -> String {
    let digits = "(VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9))";
    let from: Vec<_> = (0..10).map(|i| format!("{digits} d{i}(i)")).collect();
    format!("SELECT COUNT_BIG(d0.i + d9.i) AS n FROM {}", from.join(" CROSS JOIN "))
}

async fn a_column_that_changes_after_it_was_seen(database: Database) {
    database.execute("CREATE TABLE t (id int, n int); INSERT INTO t VALUES (1, 1), (2, 2)").await;
    let reader = open_reader("sqlserver", with(&database, json!({ "table": "t" }))).unwrap();
    reader.schema().await.unwrap();
    database.execute("ALTER TABLE t ALTER COLUMN n bigint").await;
    let error = read_all(&reader).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error:?}");
    assert!(error.full().contains("column `n`") || error.full().contains("column n"), "{}", error.full());
}

async fn a_statement_ends_when_its_time_is_over(database: Database) {
    let url = database.url();
    let url = format!("{url}{}queryTimeout=3", if url.contains('?') { '&' } else { '?' });
    let parameters = json!({ "url": url, "querySql": endless() });
    let error = read_all(&open_reader("sqlserver", parameters).unwrap()).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert!(error.full().contains("queryTimeout"), "{}", error.full());
}

async fn a_statement_that_runs_ends_when_the_run_stops(database: Database) {
    let context = harness::context();
    let parameters = with(&database, json!({ "querySql": endless() }));
    let reader = harness::open_reader_in("sqlserver", parameters, &context).unwrap();
    let reading = tokio::spawn(async move { read_all(&reader).await.map(drop) });
    tokio::time::sleep(std::time::Duration::from_millis(900)).await;
    let begun = std::time::Instant::now();
    context.cancel.cancel();
    assert_eq!(reading.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(begun.elapsed().as_millis() < 1000, "{:?}", begun.elapsed());
    // The server has stopped too: nobody else is in the database.
    let others = format!(
        "SELECT COUNT(*) FROM sys.dm_exec_sessions WHERE DB_NAME(database_id) = N'{}' AND session_id <> @@SPID \
         AND status = 'running'",
        database.name()
    );
    for _ in 0..50 {
        if database.value(&others).await == "0" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the statement goes on");
}
