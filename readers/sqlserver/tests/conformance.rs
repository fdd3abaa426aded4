//! What every reader must do, done by this one on the server that `WEIR_TEST_SQLSERVER` names.

use std::net::SocketAddr;

use async_trait::async_trait;
use serde_json::{Value, json};
use weir_plugins_test::conformance::{self, Dialect, Laid, Source, Table, TypeCase};
use weir_plugins_test::servers::{self, Database};
use weir_reader_sqlserver as _;

struct Shop(Database);

/// Type, two literals, and what they are in the canonical form.
const TYPES: &[(&str, [&str; 2], [&str; 2])] = &[
    ("tinyint", ["0", "255"], ["0", "255"]),
    ("smallint", ["-32768", "32767"], ["-32768", "32767"]),
    ("int", ["-2147483648", "2147483647"], ["-2147483648", "2147483647"]),
    ("bigint", ["-9223372036854775808", "9223372036854775807"], ["-9223372036854775808", "9223372036854775807"]),
    ("bit", ["1", "0"], ["true", "false"]),
    ("decimal(10,2)", ["-12345678.90", "0"], ["-12345678.90", "0.00"]),
    (
        "decimal(38,10)",
        ["9999999999999999999999999999.9999999999", "-0.0000000001"],
        ["9999999999999999999999999999.9999999999", "-0.0000000001"],
    ),
    ("numeric(18,0)", ["123456789012345678", "-1"], ["123456789012345678", "-1"]),
    ("money", ["-922337203685477.5808", "922337203685477.5807"], ["-922337203685477.5808", "922337203685477.5807"]),
    ("smallmoney", ["-214748.3648", "214748.3647"], ["-214748.3648", "214748.3647"]),
    ("real", ["1.1", "-16777216"], ["1.1", "-16777216.0"]),
    ("float", ["0.1", "-1e300"], ["0.1", "-1e300"]),
    ("date", ["'0001-01-01'", "'9999-12-31'"], ["0001-01-01", "9999-12-31"]),
    ("time(6)", ["'23:59:59.999999'", "'00:00:00'"], ["23:59:59.999999", "00:00:00"]),
    ("time(0)", ["'23:59:59'", "'00:00:00'"], ["23:59:59", "00:00:00"]),
    ("datetime", ["'1753-01-01'", "'9999-12-31T23:59:59.997'"], ["1753-01-01T00:00:00", "9999-12-31T23:59:59.997"]),
    ("smalldatetime", ["'1900-01-01'", "'2079-06-06T23:59:00'"], ["1900-01-01T00:00:00", "2079-06-06T23:59:00"]),
    (
        "datetime2(6)",
        ["'0001-01-01T00:00:00'", "'9999-12-31T23:59:59.999999'"],
        ["0001-01-01T00:00:00", "9999-12-31T23:59:59.999999"],
    ),
    (
        "datetime2(0)",
        ["'2024-02-29T12:34:56'", "'1969-12-31T23:59:59'"],
        ["2024-02-29T12:34:56", "1969-12-31T23:59:59"],
    ),
    (
        "datetimeoffset(6)",
        ["'2024-02-29T12:00:00.500000+05:45'", "'1970-01-01T00:00:01Z'"],
        ["2024-02-29T06:15:00.500Z", "1970-01-01T00:00:01Z"],
    ),
    ("nchar(3)", ["N'日本é'", "N'abc'"], ["日本é", "abc"]),
    ("char(2)", ["'ab'", "'zz'"], ["ab", "zz"]),
    ("nvarchar(50)", ["N'tab\t😀\\'", "N'a '"], ["tab\t😀\\", "a "]),
    ("varchar(20)", ["'it''s'", "N'é€'"], ["it's", "é€"]),
    ("varchar(max)", ["''", "N'ÿ'"], ["", "ÿ"]),
    ("nvarchar(max)", ["N''", "N'😀 漢'"], ["", "😀 漢"]),
    ("text", ["'it''s'", "''"], ["it's", ""]),
    ("ntext", ["N'漢字'", "N''"], ["漢字", ""]),
    ("binary(3)", ["0x000102", "0xff00ff"], ["000102", "ff00ff"]),
    ("varbinary(9)", ["0x", "0x00"], ["", "00"]),
    ("varbinary(max)", ["0x00ff0a5c27", "0x"], ["00ff0a5c27", ""]),
    ("image", ["0x00ff0a5c27", "0x01"], ["00ff0a5c27", "01"]),
    (
        "uniqueidentifier",
        ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'00000000-0000-0000-0000-000000000000'"],
        ["a0eebc999c0b4ef8bb6d6bb9bd380a11", "00000000000000000000000000000000"],
    ),
    ("xml", ["N'<a b=\"1\">é &amp; y</a>'", "N'<x/>'"], ["<a b=\"1\">é &amp; y</a>", "<x/>"]),
];

#[async_trait]
impl Source for Shop {
    fn plugin(&self) -> &'static str {
        "sqlserver"
    }

    async fn lay(&self, table: &Table) -> Laid {
        self.0.execute(&table.sql(&Dialect::SQLSERVER)).await;
        Laid::At(json!({ "url": self.0.url(), "table": self.0.quote(&table.name) }))
    }

    async fn types(&self) -> Vec<TypeCase> {
        let mut cases = Vec::new();
        for (i, (name, [one, two], [first, second])) in TYPES.iter().enumerate() {
            let rows = format!("INSERT INTO type_{i} VALUES ({one}), ({two}), (NULL)");
            self.0.execute(&format!("CREATE TABLE type_{i} (v {name} NULL); {rows}")).await;
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
        Some(json!({ "url": format!("sqlserver://u:p@{address}/d?loginTimeout=2"), "table": "t" }))
    }

    async fn slow(&self) -> Option<Value> {
        // Ten thousand million rows, counted.
        // It begins with SELECT, for a relative describes nothing else.
        let digits = "(VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9))";
        let from: Vec<_> = (0..10).map(|i| format!("{digits} d{i}(i)")).collect();
        let sql = format!("SELECT COUNT_BIG(d0.i + d9.i) AS n FROM {}", from.join(" CROSS JOIN "));
        Some(json!({ "url": self.0.url(), "querySql": sql }))
    }
}

#[tokio::test]
async fn the_reader_conforms() {
    let Some(server) = servers::sqlserver() else { return };
    conformance::check_source(&Shop(server.fresh_database("conformance").await)).await;
}
