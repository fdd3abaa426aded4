//! What every reader must do, done by this one on MariaDB and the real MySQL 9.

use std::net::SocketAddr;

use async_trait::async_trait;
use serde_json::{Value, json};
use weir_plugins_test::conformance::{self, Dialect, Laid, Source, Table, TypeCase};
use weir_plugins_test::servers::{self, Database, Family};
use weir_reader_mysql as _;

struct Shop(Database);

/// Type, two literals, and what they are in the canonical form.
const TYPES: &[(&str, [&str; 2], [&str; 2])] = &[
    ("tinyint", ["-128", "127"], ["-128", "127"]),
    ("tinyint(1)", ["7", "0"], ["7", "0"]),
    ("tinyint unsigned", ["0", "255"], ["0", "255"]),
    ("smallint", ["-32768", "32767"], ["-32768", "32767"]),
    ("smallint unsigned", ["0", "65535"], ["0", "65535"]),
    ("mediumint", ["-8388608", "8388607"], ["-8388608", "8388607"]),
    ("int", ["-2147483648", "2147483647"], ["-2147483648", "2147483647"]),
    ("int unsigned", ["0", "4294967295"], ["0", "4294967295"]),
    ("bigint", ["-9223372036854775808", "9223372036854775807"], ["-9223372036854775808", "9223372036854775807"]),
    ("bigint unsigned", ["0", "18446744073709551615"], ["0", "18446744073709551615"]),
    ("decimal(10,2)", ["-12345678.90", "0"], ["-12345678.90", "0.00"]),
    (
        "decimal(65,30)",
        ["-12345678901234567890123456789012345.1234567890123456789", "1"],
        ["-12345678901234567890123456789012345.123456789012345678900000000000", "1.000000000000000000000000000000"],
    ),
    ("float", ["1.1", "-16777216"], ["1.1", "-16777216.0"]),
    ("double", ["0.1", "-1e300"], ["0.1", "-1e300"]),
    ("bit(1)", ["b'1'", "b'0'"], ["true", "false"]),
    ("bit(12)", ["b'100000000001'", "b'0'"], ["2049", "0"]),
    ("year", ["2024", "0"], ["2024", "0"]),
    ("date", ["'1000-01-01'", "'9999-12-31'"], ["1000-01-01", "9999-12-31"]),
    (
        "datetime(6)",
        ["'9999-12-31 23:59:59.999999'", "'2024-02-29'"],
        ["9999-12-31T23:59:59.999999", "2024-02-29T00:00:00"],
    ),
    (
        "timestamp(6) null",
        ["'2038-01-19 03:14:07.5'", "'1970-01-01 00:00:01'"],
        ["2038-01-19T03:14:07.500Z", "1970-01-01T00:00:01Z"],
    ),
    ("time(6)", ["'-00:00:01.5'", "'01:02:03'"], ["-PT1.5S", "PT3723S"]),
    ("char(5)", ["'ab'", "''"], ["ab", ""]),
    ("varchar(50)", ["'tab\\t😀\\\\'", "'a '"], ["tab\t😀\\", "a "]),
    ("varchar(10) character set latin1", ["'ä'", "'ÿ'"], ["ä", "ÿ"]),
    ("text", ["'it''s'", "''"], ["it's", ""]),
    ("binary(3)", ["x'000102'", "x'ff'"], ["000102", "ff0000"]),
    ("varbinary(9)", ["x''", "x'00'"], ["", "00"]),
    ("longblob", ["x'00ff0a5c27'", "x''"], ["00ff0a5c27", ""]),
    ("json", ["'[1, \"ä\"]'", "'null'"], ["[1, \"ä\"]", "null"]),
    ("enum('a','b''x')", ["'a'", "'b''x'"], ["a", "b'x"]),
    ("set('x','y','z')", ["'x,z'", "''"], ["x,z", ""]),
    (
        "point",
        ["ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('POINT(0 0)')"],
        ["0101000000000000000000f03f0000000000000040", "010100000000000000000000000000000000000000"],
    ),
];

/// What only MariaDB has.
const MARIADB: &[(&str, [&str; 2], [&str; 2])] = &[
    (
        "uuid",
        ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'00000000-0000-0000-0000-000000000000'"],
        ["a0eebc999c0b4ef8bb6d6bb9bd380a11", "00000000000000000000000000000000"],
    ),
    ("inet6", ["'::1'", "'2001:db8::ff00:42:8329'"], ["::1", "2001:db8::ff00:42:8329"]),
    ("inet4", ["'10.0.0.1'", "'255.255.255.255'"], ["10.0.0.1", "255.255.255.255"]),
];

/// What only MySQL has.
const MYSQL: &[(&str, [&str; 2], [&str; 2])] =
    &[("vector(2)", ["string_to_vector('[1,-0.5]')", "string_to_vector('[0,2]')"], ["[1.0, -0.5]", "[0.0, 2.0]"])];

#[async_trait]
impl Source for Shop {
    fn plugin(&self) -> &'static str {
        "mysql"
    }

    async fn lay(&self, table: &Table) -> Laid {
        self.0.execute(&table.sql(&Dialect::MYSQL)).await;
        Laid::At(json!({ "url": self.0.url(), "table": table.quoted('`') }))
    }

    async fn types(&self) -> Vec<TypeCase> {
        let own = if self.0.server().family() == Family::MariaDb { MARIADB } else { MYSQL };
        let mut cases = Vec::new();
        for (i, (name, [one, two], [first, second])) in TYPES.iter().chain(own).enumerate() {
            let rows = format!("INSERT INTO type_{i} VALUES ({one}), ({two}), (NULL)");
            self.0.execute(&format!("SET time_zone = '+00:00'; CREATE TABLE type_{i} (v {name}); {rows}")).await;
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
        Some(json!({ "url": format!("mysql://u:p@{address}/d?connectTimeout=2000"), "table": "t" }))
    }

    async fn slow(&self) -> Option<Value> {
        let numbers = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 100)";
        Some(json!({ "url": self.0.url(), "querySql": format!("{numbers} SELECT i, SLEEP(0.5) AS s FROM n") }))
    }
}

#[tokio::test]
async fn the_reader_conforms_on_mariadb() {
    conformance::check_source(&Shop(servers::mariadb().await.fresh_database("conformance").await)).await;
}

#[tokio::test]
async fn the_reader_conforms_on_mysql() {
    conformance::check_source(&Shop(servers::mysql().await.fresh_database("conformance").await)).await;
}
