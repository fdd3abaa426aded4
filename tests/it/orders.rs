//! A table of orders whose values are awkward, and how each server spells them out alike.

use weir_plugins_test::servers::{Database, Family};

/// A row as text, NULL as `None`.
pub type Row = Vec<Option<String>>;

const COLUMNS_POSTGRESQL: &str = "id bigint PRIMARY KEY, customer varchar(40) NOT NULL, amount numeric(12,2), paid boolean, \
    note text, day date, placed timestamp, seen timestamptz, ratio double precision, raw bytea";

const COLUMNS_MYSQL: &str = "id bigint PRIMARY KEY, customer varchar(40) NOT NULL, amount decimal(12,2), paid tinyint(1), \
    note longtext, day date, placed datetime(6), seen timestamp(6) NULL, ratio double, raw longblob";

const COLUMNS_SQLSERVER: &str = "id bigint PRIMARY KEY, customer nvarchar(40) NOT NULL, amount decimal(12,2), paid bit, \
    note nvarchar(max), day date, placed datetime2(6), seen datetimeoffset(6), ratio float, raw varbinary(max)";

/// Creates `table` empty.
pub async fn create(database: &Database, table: &str) {
    let (columns, options) = match database.server().family() {
        Family::PostgreSql => (COLUMNS_POSTGRESQL, ""),
        Family::SqlServer => (COLUMNS_SQLSERVER, ""),
        _ => (COLUMNS_MYSQL, " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"),
    };
    database.execute(&format!("CREATE TABLE {} ({columns}){options}", database.quote(table))).await;
}

/// Fills `table` with the orders `first..=last`; `salt` makes the values of one fill differ from another's.
pub async fn fill(database: &Database, table: &str, first: u32, last: u32, salt: u32) {
    let table = database.quote(table);
    let sql = match database.server().family() {
        Family::PostgreSql => format!(
            "INSERT INTO {table} SELECT g, 'Zoë ' || g || ' 🚀', (g * 1.25 + {salt})::numeric(12,2), \
             CASE WHEN g % 5 = 0 THEN NULL ELSE g % 3 = 0 END, \
             CASE WHEN g % 7 = 0 THEN NULL WHEN g % 11 = 0 THEN '' ELSE E'tab\\t, quote\" '' back\\\\ slash \\\\N line\\n' || g END, \
             date '2020-01-01' + g, timestamp '2021-03-04 05:06:07.000001' + g * interval '1 second', \
             timestamptz '2021-03-04 05:06:07.123456+02' + g * interval '1 minute', g / 8.0, \
             decode(lpad(to_hex(g % 256), 2, '0') || '00ff0a', 'hex') FROM generate_series({first}, {last}) g"
        ),
        Family::SqlServer => format!(
            "WITH d AS (SELECT v.i FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) v(i)), \
             n AS (SELECT {first} + a.i * 10000 + b.i * 1000 + c.i * 100 + e.i * 10 + f.i AS g \
             FROM d a CROSS JOIN d b CROSS JOIN d c CROSS JOIN d e CROSS JOIN d f) INSERT INTO {table} \
             SELECT g, CONCAT(N'Zoë ', g, N' 🚀'), CAST(g * 1.25 + {salt} AS decimal(12,2)), \
             CASE WHEN g % 5 = 0 THEN NULL WHEN g % 3 = 0 THEN 1 ELSE 0 END, \
             CASE WHEN g % 7 = 0 THEN NULL WHEN g % 11 = 0 THEN N'' \
             ELSE CONCAT(N'tab', CHAR(9), N', quote\" '' back\\ slash \\N line', CHAR(10), g) END, \
             DATEADD(day, g, CAST('2020-01-01' AS date)), \
             DATEADD(second, g, CAST('2021-03-04T05:06:07.000001' AS datetime2(6))), \
             DATEADD(minute, g, CAST('2021-03-04T05:06:07.123456+02:00' AS datetimeoffset(6))), g / 8e0, \
             CAST(CAST(g % 128 * 16777216 + 65290 AS int) AS binary(4)) FROM n WHERE g <= {last}"
        ),
        _ => format!(
            "SET SESSION cte_max_recursion_depth = 1000000; INSERT INTO {table} \
             WITH RECURSIVE n(g) AS (SELECT {first} UNION ALL SELECT g + 1 FROM n WHERE g < {last}) \
             SELECT g, CONCAT('Zoë ', g, ' 🚀'), g * 1.25 + {salt}, IF(g % 5 = 0, NULL, g % 3 = 0), \
             CASE WHEN g % 7 = 0 THEN NULL WHEN g % 11 = 0 THEN '' ELSE CONCAT('tab\\t, quote\" '' back\\\\ slash \\\\N line\\n', g) END, \
             DATE('2020-01-01') + INTERVAL g DAY, TIMESTAMP('2021-03-04 05:06:07.000001') + INTERVAL g SECOND, \
             TIMESTAMP('2021-03-04 03:06:07.123456') + INTERVAL g MINUTE, g / 8.0, \
             UNHEX(CONCAT(LPAD(HEX(g % 256), 2, '0'), '00ff0a')) FROM n"
        ),
    };
    let sql = match database.server().family() {
        Family::MariaDb => sql.replace("cte_max_recursion_depth", "max_recursive_iterations"),
        _ => sql,
    };
    database.execute(&sql).await;
}

/// All rows of `table` in order of their id, spelled the same by every server.
pub async fn rows(database: &Database, table: &str) -> Vec<Row> {
    let table = database.quote(table);
    let sql = match database.server().family() {
        Family::PostgreSql => format!(
            "SELECT id::text, customer, amount::text, paid::int::text, note, day::text, \
             to_char(placed, 'YYYY-MM-DD HH24:MI:SS.US'), \
             to_char(seen AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), ratio::text, encode(raw, 'hex') \
             FROM {table} t ORDER BY t.id"
        ),
        Family::SqlServer => format!(
            "SELECT id, customer, amount, CAST(paid AS int), note, CONVERT(varchar(10), day, 23), \
             CONVERT(varchar(26), placed, 121), LEFT(CONVERT(varchar(40), SWITCHOFFSET(seen, '+00:00'), 121), 26), \
             ratio, raw FROM {table} t ORDER BY t.id"
        ),
        _ => format!(
            "SELECT CAST(id AS CHAR), customer, CAST(amount AS CHAR), CAST(paid AS SIGNED), note, CAST(day AS CHAR), \
             DATE_FORMAT(placed, '%Y-%m-%d %H:%i:%s.%f'), \
             DATE_FORMAT(CONVERT_TZ(seen, @@session.time_zone, '+00:00'), '%Y-%m-%d %H:%i:%s.%f'), \
             CAST(ratio AS CHAR), LOWER(HEX(raw)) FROM {table} t ORDER BY t.id"
        ),
    };
    database.query(&sql).await
}

/// The columns as a reader of CSV files is told them.
pub fn csv_columns() -> serde_json::Value {
    let names = ["id", "customer", "amount", "paid", "note", "day", "placed", "seen", "ratio"];
    let mut columns: Vec<_> = names.iter().map(|n| serde_json::json!({"name": n, "type": "string"})).collect();
    columns.push(serde_json::json!({"name": "raw", "type": "bytes"}));
    columns.into()
}

/// Compares two ends row by row, so that a failure shows the first difference instead of everything.
pub fn assert_same(expected: &[Row], found: &[Row]) {
    for (i, (e, f)) in expected.iter().zip(found).enumerate() {
        assert_eq!(e, f, "row {i}");
    }
    assert_eq!(expected.len(), found.len(), "number of rows");
}
