//! Every type of MySQL and MariaDB, with the values at its edges.

use super::Class::*;
use super::Type;

/// The types that both have.
pub const COMMON: &[Type] = &[
    Type("tinyint", Number, &["-128", "127"]),
    Type("tinyint(1)", Number, &["0", "1", "7", "-1"]),
    Type("tinyint unsigned", Number, &["0", "255"]),
    Type("smallint", Number, &["-32768", "32767"]),
    Type("smallint unsigned", Number, &["65535"]),
    Type("mediumint", Number, &["-8388608", "8388607"]),
    Type("mediumint unsigned", Number, &["16777215"]),
    Type("int", Number, &["-2147483648", "2147483647"]),
    Type("int unsigned", Number, &["4294967295"]),
    Type("int(5) unsigned zerofill", Number, &["42"]),
    Type("bigint", Number, &["-9223372036854775808", "9223372036854775807"]),
    Type("bigint unsigned", Number, &["18446744073709551615", "9223372036854775808", "0"]),
    Type("decimal(10,2)", Number, &["99999999.99", "-0.01", "1.10"]),
    Type("decimal(18,6)", Number, &["123456789012.345678"]),
    Type("decimal(38,10)", Number, &["9999999999999999999999999999.9999999999"]),
    Type(
        "decimal(65,30)",
        Number,
        &["99999999999999999999999999999999999.999999999999999999999999999999", "-0.000000000000000000000000000001"],
    ),
    Type("decimal(12,2) unsigned", Number, &["9999999999.99"]),
    Type("float", Single, &["0.1", "-3.40282e38", "1e-38", "16777216", "123456.789", "1.401298e-45"]),
    Type(
        "double",
        Double,
        &["0.1", "1.7976931348623157e308", "2.2250738585072014e-308", "5e-324", "-0e0", "9007199254740993"],
    ),
    Type("double(10,3)", Double, &["1234567.891"]),
    Type("bit(1)", Bool, &["b'0'", "b'1'"]),
    Type("bit(8)", Number, &["b'10101010'", "0"]),
    Type("bit(64)", Number, &["18446744073709551615", "1"]),
    Type("year", Number, &["1901", "2155", "0"]),
    Type(
        "date",
        Date,
        &[
            "'2024-02-29'",
            "'0001-01-01'",
            "'1582-10-10'",
            "'9999-12-31'",
            "'0000-00-00'",
            "'2024-00-00'",
            "'2024-02-00'",
            "'0000-01-01'",
        ],
    ),
    Type(
        "datetime",
        Timestamp,
        &["'2024-02-29 12:34:56'", "'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'", "'0000-00-00 00:00:00'"],
    ),
    Type("datetime(3)", Timestamp, &["'2024-02-29 12:34:56.789'"]),
    Type(
        "datetime(6)",
        Timestamp,
        &[
            "'2024-02-29 12:34:56.789012'",
            "'0001-01-01 00:00:00.000001'",
            "'1582-10-10 00:00:00'",
            "'1969-12-31 23:59:59.999999'",
            "'9999-12-31 23:59:59.999999'",
            "'2024-03-31 02:30:00'",
            "'2024-00-00 00:00:00'",
            "'2024-02-00 12:00:00'",
        ],
    ),
    Type(
        "timestamp",
        Instant,
        &["'2024-02-29 12:34:56'", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'0000-00-00 00:00:00'"],
    ),
    Type("timestamp(6)", Instant, &["'2024-02-29 12:34:56.789012'", "'2024-10-27 00:30:00'", "'2024-10-27 01:30:00'"]),
    Type("time", Duration, &["'838:59:59'", "'-838:59:59'", "'00:00:00'", "'-00:00:01'"]),
    Type(
        "time(6)",
        Duration,
        &[
            "'838:59:58.999999'",
            "'-838:59:58.999999'",
            "'838:59:59.999999'",
            "'-838:59:59.999999'",
            "'12:34:56.789012'",
            "'24:00:00'",
            "'-00:00:00.000001'",
        ],
    ),
    Type("char(5)", Text, &["'ab'", "''", "'🚀'", "' x'"]),
    Type("varchar(20)", Text, &["''", r"'\\N'", "'NULL'", "'αβγ🚀 trailing  '", r#"'q" '' \\ \n \t \r\n'"#]),
    Type("varchar(30) character set latin1", Text, &["'größe'", "'€'"]),
    Type("varchar(30) character set utf8mb4 collate utf8mb4_bin", Text, &["'Aa'"]),
    Type("tinytext", Text, &["'x'"]),
    Type("text", Text, &["''", "'é 🚀'", r"'\\N'", "'e\u{301} \u{200d}\u{feff}'", "REPEAT('ü', 30000)"]),
    Type("mediumtext", Text, &["REPEAT('ü🚀xyz', 200000)"]),
    Type("longtext", Text, &["'x'", r"'\0nul'", "'NULL'"]),
    Type("binary(4)", Bytes, &["x'00ff'", "x'00000000'", "x'5c4e0a0d'"]),
    Type("varbinary(300)", Bytes, &["''", "x'00'", "x'5c4e'", super::ALL_BYTES]),
    Type("tinyblob", Bytes, &["x'ff'"]),
    Type("blob", Bytes, &["''", "x'00ff0a5c22'"]),
    Type("longblob", Bytes, &["UNHEX(REPEAT('00ff5c0a', 262144))"]),
    Type(
        "json",
        Json,
        &[
            r#"'{"b": 1, "a": [1, 2.5, true, null, "é🚀"]}'"#,
            "'null'",
            r#"'"text"'"#,
            "'1.0'",
            "'{}'",
            "'18446744073709551615'",
            r#"'{"n": 123456789012345678901234567890.123456789}'"#,
            "'[]'",
            "CONCAT(REPEAT('[', 30), '1', REPEAT(']', 30))",
            r#"'"\\u0000"'"#,
        ],
    ),
    Type("enum('a','b','größe','it''s, x')", Text, &["'a'", "'größe'", "'it''s, x'"]),
    Type("set('x','y','z')", Text, &["''", "'x'", "'x,z'"]),
    Type("point", Bytes, &["ST_GeomFromText('POINT(1 2)')"]),
    Type("geometry", Bytes, &["ST_GeomFromText('LINESTRING(0 0,1 1)')"]),
];

/// MariaDB's own.
pub const MARIADB: &[Type] = &[
    Type("uuid", Uuid, &["'550e8400-e29b-41d4-a716-446655440000'", "'00000000-0000-0000-0000-000000000000'"]),
    Type("inet6", Other, &["'2001:db8::1'", "'::'", "'::ffff:192.168.0.1'"]),
    Type("inet4", Other, &["'192.168.0.1'"]),
];

/// MySQL 9's own.
pub const MYSQL: &[Type] = &[
    Type("json", Json, &["CONCAT(REPEAT('[', 90), '1', REPEAT(']', 90))"]),
    Type("varchar(10) character set utf16", Text, &["'é🚀'"]),
    Type("vector(3)", Other, &["STRING_TO_VECTOR('[1,0.1,-3]')"]),
];
