//! What every reader must do, done by this one.

use std::net::SocketAddr;

use async_trait::async_trait;
use serde_json::{Value, json};
use weir_plugins_test::conformance::{self, Dialect, Laid, Source, Table, TypeCase};
use weir_plugins_test::servers::{self, Database};
use weir_reader_postgresql as _;

struct Shop(Database);

/// Type, two literals, and what they are in the canonical form.
const TYPES: &[(&str, [&str; 2], [&str; 2])] = &[
    ("boolean", ["true", "false"], ["true", "false"]),
    ("smallint", ["-32768", "32767"], ["-32768", "32767"]),
    ("integer", ["-2147483648", "2147483647"], ["-2147483648", "2147483647"]),
    ("bigint", ["-9223372036854775808", "9223372036854775807"], ["-9223372036854775808", "9223372036854775807"]),
    ("real", ["'1.5'", "'-Infinity'"], ["1.5", "-inf"]),
    ("double precision", ["0.1", "'NaN'"], ["0.1", "NaN"]),
    ("numeric(10,2)", ["-12345678.90", "0"], ["-12345678.90", "0.00"]),
    (
        "numeric(38,0)",
        ["99999999999999999999999999999999999999", "-1"],
        ["99999999999999999999999999999999999999", "-1"],
    ),
    (
        "numeric(60,5)",
        ["1234567890123456789012345678901234567890.00001", "-1"],
        ["1234567890123456789012345678901234567890.00001", "-1.00000"],
    ),
    (
        "numeric",
        ["0.0000000000000000000000000000000000000000001", "'NaN'"],
        ["0.0000000000000000000000000000000000000000001", "NaN"],
    ),
    ("text", ["'wéir 🦀'", "''"], ["wéir 🦀", ""]),
    ("varchar(5)", ["'a b'", "' '"], ["a b", " "]),
    ("char(4)", ["'ab'", "'abcd'"], ["ab  ", "abcd"]),
    ("bytea", ["'\\x00ff'", "''"], ["00ff", ""]),
    ("date", ["'0001-01-01'", "'9999-12-31'"], ["0001-01-01", "9999-12-31"]),
    ("time", ["'23:59:59.999999'", "'00:00'"], ["23:59:59.999999", "00:00:00"]),
    ("timetz", ["'12:00:00+02'", "'00:00-11:30'"], ["12:00:00+02", "00:00:00-11:30"]),
    (
        "timestamp",
        ["'1969-12-31 23:59:59.999999'", "'2024-02-29'"],
        ["1969-12-31T23:59:59.999999", "2024-02-29T00:00:00"],
    ),
    (
        "timestamptz",
        ["'2024-02-29 12:00:00.5+05:30'", "'1900-01-01Z'"],
        ["2024-02-29T06:30:00.500Z", "1900-01-01T00:00:00Z"],
    ),
    ("interval", ["'1 year -2 months 3 days'", "'-04:05:06.5'"], ["P10M3D", "PT-4H-5M-6.5S"]),
    (
        "uuid",
        ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'00000000-0000-0000-0000-000000000000'"],
        ["a0eebc999c0b4ef8bb6d6bb9bd380a11", "00000000000000000000000000000000"],
    ),
    ("json", ["'{\"b\": 1.00, \"a\":2}'", "'null'"], ["{\"b\": 1.00, \"a\":2}", "null"]),
    ("jsonb", ["'{\"b\":1.00}'", "'[]'"], ["{\"b\": 1.00}", "[]"]),
    ("oid", ["4294967295", "0"], ["4294967295", "0"]),
    ("inet", ["'10.0.0.1/8'", "'::1'"], ["10.0.0.1/8", "::1"]),
    ("money", ["'12.34'", "'-1'"], ["12.34", "-1.00"]),
    ("bit(3)", ["'101'", "'000'"], ["101", "000"]),
    ("xml", ["'<a/>'", "'b'"], ["<a/>", "b"]),
    ("int4range", ["'[1,5)'", "'empty'"], ["[1,5)", "empty"]),
    ("point", ["'(1,2)'", "'(0,-0.5)'"], ["(1,2)", "(0,-0.5)"]),
    ("integer[]", ["'{1,NULL,3}'", "'{}'"], ["[1, , 3]", "[]"]),
    ("colour", ["'red'", "'green'"], ["red", "green"]),
    ("amount", ["1.50", "-0.01"], ["1.50", "-0.01"]),
    ("pair", ["'(1,x)'", "'(,)'"], ["(1,x)", "(,)"]),
];

#[async_trait]
impl Source for Shop {
    fn plugin(&self) -> &'static str {
        "postgresql"
    }

    async fn lay(&self, table: &Table) -> Laid {
        self.0.execute(&table.sql(&Dialect::STANDARD)).await;
        Laid::At(json!({ "url": self.0.url(), "table": table.quoted('"') }))
    }

    async fn types(&self) -> Vec<TypeCase> {
        let own = "CREATE TYPE colour AS ENUM ('red', 'green'); CREATE DOMAIN amount AS numeric(6,2); \
                   CREATE TYPE pair AS (a int, b text)";
        self.0.execute(own).await;
        let mut cases = Vec::new();
        for (i, (name, [one, two], [first, second])) in TYPES.iter().enumerate() {
            let rows = format!("INSERT INTO type_{i} VALUES ({one}), ({two}), (NULL)");
            self.0.execute(&format!("CREATE TABLE type_{i} (v {name}); {rows}")).await;
            let parameters = json!({ "url": self.0.url(), "table": format!("type_{i}") });
            cases.push(TypeCase::new(name, parameters, "v", [Some(*first), Some(*second), None]));
        }
        cases
    }

    async fn missing(&self) -> Option<Value> {
        Some(json!({ "url": self.0.url(), "table": "no_such_table" }))
    }

    async fn wrong_password(&self) -> Option<Value> {
        Some(json!({ "url": self.0.url_with(self.0.user(), "wrong"), "table": "t" }))
    }

    fn at(&self, address: SocketAddr) -> Option<Value> {
        Some(json!({ "url": format!("postgresql://u:p@{address}/d?connectTimeout=2"), "table": "t" }))
    }

    async fn slow(&self) -> Option<Value> {
        Some(json!({ "url": self.0.url(), "querySql": "SELECT i, pg_sleep(0.5)::text FROM generate_series(1, 100) i" }))
    }
}

#[tokio::test]
async fn the_reader_conforms() {
    conformance::check_source(&Shop(servers::postgresql().await.fresh_database("conformance").await)).await;
}
