//! SQLite's declared types, with every storage class that stands in them.

use super::Class::*;
use super::Type;

/// The types.
pub const TYPES: &[Type] = &[
    Type("INTEGER", Number, &["-9223372036854775808", "9223372036854775807", "0", "'text'", "1.5"]),
    Type("INT", Number, &["1"]),
    Type("BIGINT", Number, &["9223372036854775807"]),
    Type("TINYINT", Number, &["300"]),
    Type("INT32", Number, &["-2147483648", "2147483647"]),
    Type("UINT64", Number, &["1"]),
    Type("REAL", Double, &["0.1", "1.7976931348623157e308", "5e-324", "9e999", "-9e999", "-0.0", "1e300", "'text'"]),
    Type("DOUBLE PRECISION", Double, &["1.5"]),
    Type("FLOAT32", Single, &["0.5"]),
    Type(
        "TEXT",
        Text,
        &[
            "''",
            r"'\N'",
            "'NULL'",
            "'é 🚀'",
            "'tab\t q\" '' lf\n'",
            "replace(hex(zeroblob(500000)), '0', 'ü')",
            "x'ff'",
        ],
    ),
    Type("VARCHAR(20)", Text, &["'x'", "'longer than twenty characters'"]),
    Type("CHAR(3)", Text, &["'x'"]),
    Type("CLOB", Text, &["'x'"]),
    Type("BLOB", Bytes, &["x''", "x'00'", "x'000102037f8081feff'", "zeroblob(1048576)", "'text'"]),
    Type("BOOLEAN", Bool, &["0", "1", "2"]),
    Type("DATE", Date, &["'2024-02-29'", "'0001-01-01'", "'9999-12-31'", "'2024-13-01'"]),
    Type("TIME", Time, &["'12:34:56.789012'", "'23:59:59'"]),
    Type(
        "DATETIME",
        Timestamp,
        &["'2024-02-29 12:34:56.789012'", "'2024-02-29 12:34:56'", "'0001-01-01 00:00:00'", "'no'"],
    ),
    Type("TIMESTAMP", Timestamp, &["'2024-02-29 12:34:56'"]),
    Type("TIMESTAMPTZ", Instant, &["'2024-02-29 12:34:56.789012Z'"]),
    Type("DECIMAL(10,2)", Number, &["1.10", "12345678.9", "-5"]),
    Type("DECIMAL_TEXT(38,10)", Number, &["'9999999999999999999999999999.9999999999'"]),
    Type("NUMERIC", Number, &["1", "1.5", "'12345678901234567890.5'"]),
    Type("JSON", Json, &[r#"'{"b":1,"a":[1,2.5,null]}'"#, "'null'", r#"'{"n":123456789012345678901234567890}'"#]),
    Type("UUID", Uuid, &["'550e8400-e29b-41d4-a716-446655440000'"]),
    Type("INTERVAL_TEXT", Other, &["'P1DT2H'"]),
    Type("", Other, &["'any'", "'other'"]),
];
