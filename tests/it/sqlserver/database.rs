//! Whole databases from and to SQL Server: two schemas, five tables, their keys, every value compared.

use serde_json::{Value, json};
use weir::{ChangeKind, ChangeOutcome, Status};
use weir_plugins_test::servers::{self, Database, Family};

use crate::database::{database_job, run_ok};
use crate::evolution::{Mirror, has, lines, table};
use crate::support::job_of;

/// The tables, with the expressions that make texts of their columns at PostgreSQL and at SQL Server.
const TABLES: &[(&str, &str, &str)] = &[
    (
        "dbo.customers",
        "id::text, mail, referred::text, balance::text, since::text, vip::int::text",
        "CAST(id AS varchar(20)), mail, CAST(referred AS varchar(20)), CAST(CAST(balance AS decimal(19,4)) AS varchar(40)), \
         CONVERT(varchar(10), since, 23), CAST(CAST(vip AS int) AS varchar(1))",
    ),
    (
        "dbo.orders",
        "id::text, customer::text, note, to_char(placed, 'YYYY-MM-DD HH24:MI:SS.US'), \
         to_char(seen AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), encode(raw, 'hex')",
        "CAST(id AS varchar(20)), CAST(customer AS varchar(20)), note, CONVERT(varchar(26), placed, 121), \
         LEFT(CONVERT(varchar(40), SWITCHOFFSET(seen, '+00:00'), 121), 26), raw",
    ),
    (
        "sales.products",
        "code, price::text, weight::text, \"größe in cm\"::text",
        "code, CAST(CAST(price AS decimal(10,4)) AS varchar(20)), CAST(weight AS varchar(20)), \
         CAST([größe in cm] AS varchar(20))",
    ),
    (
        "sales.items",
        "order_id::text, line::text, product, amount::text",
        "CAST(order_id AS varchar(20)), CAST(line AS varchar(20)), product, CAST(amount AS varchar(20))",
    ),
    (
        "sales.visits",
        "to_char(at, 'YYYY-MM-DD HH24:MI:SS.MS'), page, token::text",
        "CONVERT(varchar(23), at, 121), page, LOWER(CAST(token AS varchar(36)))",
    ),
];

/// Fills a database with them.
async fn shop(database: &Database) {
    database.execute("CREATE SCHEMA sales").await;
    database
        .execute(
            "CREATE TABLE customers (id int IDENTITY(1,1) PRIMARY KEY, mail nvarchar(60) NOT NULL UNIQUE, \
               referred int NULL REFERENCES customers (id), balance money, since date NOT NULL, vip bit NOT NULL); \
             CREATE TABLE orders (id bigint PRIMARY KEY, customer int NOT NULL REFERENCES customers (id), note nvarchar(max), \
               placed datetime2(6) NOT NULL, seen datetimeoffset(6), raw varbinary(20)); \
             CREATE TABLE sales.products (code varchar(10) PRIMARY KEY, price smallmoney, weight real, [größe in cm] decimal(9,3)); \
             CREATE TABLE sales.items (order_id bigint NOT NULL REFERENCES orders (id), line int NOT NULL, \
               product varchar(10) NOT NULL REFERENCES sales.products (code), amount numeric(12,2), PRIMARY KEY (order_id, line)); \
             CREATE TABLE sales.visits (at datetime, page nvarchar(50), token uniqueidentifier)",
        )
        .await;
    let numbers = "WITH d AS (SELECT v.i FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) v(i)), \
                   n AS (SELECT a.i * 100 + b.i * 10 + c.i AS g FROM d a CROSS JOIN d b CROSS JOIN d c)";
    for insert in [
        "INSERT INTO customers (mail, referred, balance, since, vip) SELECT CONCAT(N'ü', g, N'@example.org 🚀'), \
         CASE WHEN g > 10 THEN 1 + g % 10 END, CASE WHEN g % 7 <> 0 THEN (500 - g) * 1.0001 END, \
         DATEADD(day, g, CAST('1999-12-31' AS date)), g % 2 FROM n ORDER BY g",
        "INSERT INTO orders SELECT 5000000000 + g, 1 + g % 1000, \
         CASE WHEN g % 3 = 0 THEN NULL WHEN g % 5 = 0 THEN N'' ELSE CONCAT(N'tab', CHAR(9), N'quote\" '' \\N line', CHAR(10), g) END, \
         DATEADD(second, g, CAST('2021-03-04T05:06:07.000001' AS datetime2(6))), \
         CASE WHEN g % 4 <> 0 THEN DATEADD(minute, g, CAST('2021-03-04T05:06:07.123456+02:00' AS datetimeoffset(6))) END, \
         CAST(CAST(g * 65537 AS int) AS binary(4)) FROM n",
        "INSERT INTO sales.products SELECT CONCAT('p', g), CASE WHEN g % 9 <> 0 THEN (g - 500) * 0.0101 END, g * 0.25, \
         CASE WHEN g % 2 = 0 THEN g * 1.001 END FROM n WHERE g < 100",
        "INSERT INTO sales.items SELECT 5000000000 + g / 2, g % 2, CONCAT('p', g % 100), (g - 300) * 0.01 FROM n",
        // Rows that are twice there.
        "INSERT INTO sales.visits SELECT DATEADD(second, g / 2, CAST('2024-02-29T12:00:00.123' AS datetime)), \
         CASE WHEN g % 6 < 4 THEN CONCAT(N'/', g / 2) END, '550e8400-e29b-41d4-a716-446655440000' FROM n WHERE g < 200",
    ] {
        database.execute(&format!("{numbers} {insert}")).await;
    }
}

async fn values(database: &Database) -> Vec<Vec<Vec<Option<String>>>> {
    let mut all = Vec::new();
    for (name, postgresql, sqlserver) in TABLES {
        let columns = if database.server().family() == Family::SqlServer { sqlserver } else { postgresql };
        let mut rows = database.query(&format!("SELECT {columns} FROM {name}")).await;
        rows.sort();
        all.push(rows);
    }
    all
}

fn assert_same(expected: &[Vec<Vec<Option<String>>>], found: &[Vec<Vec<Option<String>>>], what: &str) {
    for ((name, ..), (expected, found)) in TABLES.iter().zip(expected.iter().zip(found)) {
        assert_eq!(expected.len(), found.len(), "{what}: rows of {name}");
        for (e, f) in expected.iter().zip(found) {
            assert_eq!(e, f, "{what}: {name}");
        }
    }
}

/// Primary and foreign keys, and the columns that keys are of.
async fn keys(database: &Database) -> [Vec<Vec<Option<String>>>; 2] {
    let of = "TABLE_SCHEMA IN ('dbo', 'sales') AND TABLE_NAME NOT LIKE 'weir%'";
    let kinds = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_TYPE FROM INFORMATION_SCHEMA.TABLE_CONSTRAINTS \
         WHERE {of} AND CONSTRAINT_TYPE IN ('PRIMARY KEY', 'FOREIGN KEY')"
    );
    // Which of a table's unique keys is a constraint and which an index differs.
    let columns = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM INFORMATION_SCHEMA.KEY_COLUMN_USAGE \
         WHERE {of} AND COLUMN_NAME <> 'mail'"
    );
    let (mut kinds, mut columns) = (database.query(&kinds).await, database.query(&columns).await);
    kinds.sort();
    columns.sort();
    [kinds, columns]
}

async fn mirrored(from: (&str, &Database), to: (&str, &Database), created: bool) {
    let job = database_job((from.0, json!({"url": from.1.url()})), (to.0, json!({"url": to.1.url()})), json!({}));
    let report = run_ok(&job).await;
    assert_eq!((report.tables.len(), report.rows_written), (5, 3_300), "{:#?}", report.tables);
    assert!(report.tables.iter().all(|table| table.created == created), "{:#?}", report.tables);
    let undone: Vec<_> = report.warnings.iter().filter(|w| w.contains("not complete")).collect();
    assert!(undone.is_empty(), "{undone:#?}");
}

#[tokio::test]
async fn a_database_to_postgresql_and_from_there_to_another_sql_server() {
    let Some(server) = servers::sqlserver() else { return };
    let source = server.fresh_database("whole").await;
    shop(&source).await;
    let there = servers::postgresql().await.fresh_database("whole").await;
    let back = server.fresh_database("whole_back").await;
    mirrored(("sqlserver", &source), ("postgresql", &there), true).await;
    mirrored(("postgresql", &there), ("sqlserver", &back), true).await;
    let expected = values(&source).await;
    assert_same(&expected, &values(&there).await, "PostgreSQL");
    assert_same(&expected, &values(&back).await, "SQL Server");
    let expected = keys(&source).await;
    assert_eq!(expected[0].len(), 8, "{expected:?}");
    assert_eq!(expected, keys(&there).await);
    assert_eq!(expected, keys(&back).await);
    // A new row gets the next number.
    for database in [&source, &there, &back] {
        database.execute("INSERT INTO dbo.customers (mail, since, vip) VALUES ('new', '2024-01-01', '1')").await;
        assert_eq!(database.value("SELECT id FROM dbo.customers WHERE mail = 'new'").await, "1001");
    }
    for database in [&source, &there, &back] {
        database.execute("DELETE FROM dbo.customers WHERE mail = 'new'").await;
    }

    // A second run replaces what the first has brought, though foreign keys hold the tables together.
    source
        .execute(
            "DELETE FROM sales.items WHERE order_id < 5000000100; DELETE FROM orders WHERE id < 5000000100; \
             UPDATE sales.products SET price = -214748.3648 WHERE code = 'p1'; \
             WITH d AS (SELECT v.i FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) v(i)) \
             INSERT INTO orders SELECT 1000 + a.i * 10 + b.i, 1, N'late', '2024-01-01T00:00:00.000001', NULL, NULL FROM d a CROSS JOIN d b; \
             WITH d AS (SELECT v.i FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) v(i)) \
             INSERT INTO sales.items SELECT 1000 + a.i * 10 + b.i, c.i, 'p7', c.i FROM d a CROSS JOIN d b \
               CROSS JOIN (VALUES (0), (1)) c(i)",
        )
        .await;
    mirrored(("sqlserver", &source), ("postgresql", &there), false).await;
    mirrored(("postgresql", &there), ("sqlserver", &back), false).await;
    let expected = values(&source).await;
    assert_same(&expected, &values(&there).await, "PostgreSQL, again");
    assert_same(&expected, &values(&back).await, "SQL Server, again");
    assert_eq!(keys(&source).await, keys(&back).await);
}

#[tokio::test]
async fn a_database_to_a_lakehouse() {
    let Some(server) = servers::sqlserver() else { return };
    let source = server.fresh_database("lakes").await;
    shop(&source).await;
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    let job =
        database_job(("sqlserver", json!({"url": source.url()})), ("lakehouse", json!({"path": lake})), json!({}));
    let back = servers::postgresql().await.fresh_database("lakes").await;
    back.execute("CREATE SCHEMA dbo; CREATE SCHEMA sales").await;
    for round in ["the first run", "the second run"] {
        let report = run_ok(&job).await;
        assert_eq!((report.tables.len(), report.rows_written), (5, 3_300), "{round}");
        for (name, ..) in TABLES {
            let read = json!({"path": lake.join(name.replace('.', "/"))});
            let write = json!({"url": back.url(), "table": name, "writeMode": "overwrite"});
            crate::support::run_ok(&job_of("lakehouse", read, "postgresql", write)).await;
        }
        assert_same(&values(&source).await, &values(&back).await, round);
        source
            .execute("UPDATE customers SET balance = balance + 0.0001, vip = 1; UPDATE orders SET note = N'new'")
            .await;
    }
}

#[tokio::test]
async fn what_changes_at_sql_server_is_followed() {
    let Some(server) = servers::sqlserver() else { return };
    let source = server.fresh_database("changing").await;
    source
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, n smallint, name nvarchar(10), gone int, price decimal(8,2)); \
             INSERT INTO t VALUES (1, 1, N'a', 1, 0.25), (2, NULL, NULL, NULL, NULL); \
             CREATE TABLE dropped (id int PRIMARY KEY); INSERT INTO dropped VALUES (1)",
        )
        .await;
    let target = servers::postgresql().await.fresh_database("changing").await;
    let mirror = Mirror::new(
        "changing",
        ("sqlserver", json!({"url": source.url()})),
        ("postgresql", json!({"url": target.url()})),
        json!({}),
    );
    for _ in 0..2 {
        let report = mirror.run().await;
        assert_eq!(report.status, Status::Succeeded, "{:#?}\n{:#?}", report.error, report.tables);
    }
    for change in [
        "ALTER TABLE t ALTER COLUMN n bigint",
        "ALTER TABLE t ALTER COLUMN name nvarchar(40)",
        "ALTER TABLE t ALTER COLUMN price decimal(14,2)",
        "ALTER TABLE t DROP COLUMN gone",
        "ALTER TABLE t ADD extra nvarchar(10)",
        "INSERT INTO t VALUES (3, 5000000000, REPLICATE(N'n', 40), 1234567890.25, N'new')",
        "DROP TABLE dropped",
        "CREATE TABLE added (id int PRIMARY KEY); INSERT INTO added VALUES (1)",
    ] {
        source.execute(change).await;
    }
    let report = mirror.run().await;
    assert_eq!(report.status, Status::Succeeded, "{:#?}\n{:#?}", report.error, report.tables);
    assert_eq!(table(&report, "dbo.t").status, Status::Succeeded);
    let changes = mirror.changes(&report).await;
    let mut seen = lines(&changes, "dbo.t");
    seen.sort();
    assert_eq!(
        seen,
        [
            "column_added extra done",
            "column_deleted gone done",
            "type_widened n done",
            "type_widened name done",
            "type_widened price done"
        ]
    );
    assert!(has(&changes, "dbo.dropped", ChangeKind::TableDeleted, ChangeOutcome::Ignored), "{changes:#?}");
    assert!(has(&changes, "dbo.added", ChangeKind::TableAdded, ChangeOutcome::Done), "{changes:#?}");
    let texts = |rows: Vec<Vec<Option<String>>>| -> Vec<Value> { rows.into_iter().map(|row| json!(row)).collect() };
    let columns = "id, n, name, price, extra";
    let there = texts(target.query(&format!("SELECT {columns} FROM dbo.t ORDER BY id")).await);
    assert_eq!(texts(source.query(&format!("SELECT {columns} FROM t ORDER BY id")).await), there);
    assert_eq!(target.value("SELECT count(*) FROM dbo.t WHERE gone IS NOT NULL").await, "0");
}
