//! Every type of SQL Server that takes values from outside, with the values at its edges.

use super::Class::*;
use super::Type;

/// The types. `timestamp` (rowversion) makes its own values, `sql_variant` is refused: the reader's tests have them.
pub const TYPES: &[Type] = &[
    Type("bit", Bool, &["1", "0"]),
    Type("tinyint", Number, &["0", "255"]),
    Type("smallint", Number, &["-32768", "32767"]),
    Type("int", Number, &["-2147483648", "2147483647", "0"]),
    Type("bigint", Number, &["-9223372036854775808", "9223372036854775807", "9007199254740993"]),
    Type("decimal(10,2)", Number, &["99999999.99", "-0.01", "1.10"]),
    Type("decimal(18,6)", Number, &["123456789012.345678", "-0.000001"]),
    Type(
        "decimal(38,10)",
        Number,
        &["9999999999999999999999999999.9999999999", "-9999999999999999999999999999.9999999999", "0.0000000001"],
    ),
    Type("decimal(38,38)", Number, &["0.99999999999999999999999999999999999999", "-0.1"]),
    Type("numeric(5,0)", Number, &["-99999", "7"]),
    Type("numeric(38,0)", Number, &["99999999999999999999999999999999999999", "-1"]),
    Type("money", Number, &["-922337203685477.5808", "922337203685477.5807", "0.0001"]),
    Type("smallmoney", Number, &["-214748.3648", "214748.3647"]),
    Type("real", Single, &["0.1", "3.4028234e38", "-1.18e-38", "16777216", "123456.789"]),
    Type("float", Double, &["0.1", "1.79e308", "2.23e-308", "-1e300", "9007199254740993e0", "0"]),
    Type("date", Date, &["'2024-02-29'", "'0001-01-01'", "'1582-10-10'", "'1752-09-08'", "'9999-12-31'"]),
    Type("time(0)", Time, &["'23:59:59'", "'00:00:00'"]),
    Type("time(3)", Time, &["'12:34:56.789'"]),
    Type("time(6)", Time, &["'23:59:59.999999'", "'12:34:56.000001'"]),
    Type(
        "datetime",
        Timestamp,
        &["'1753-01-01T00:00:00'", "'9999-12-31T23:59:59.997'", "'2024-02-29T12:34:56.003'", "'2024-03-31T02:30:00'"],
    ),
    Type("smalldatetime", Timestamp, &["'1900-01-01T00:00:00'", "'2079-06-06T23:59:00'"]),
    Type("datetime2(0)", Timestamp, &["'2024-02-29T12:34:56'", "'0001-01-01T00:00:00'"]),
    Type("datetime2(3)", Timestamp, &["'2024-02-29T12:34:56.789'", "'1969-12-31T23:59:59.999'"]),
    Type(
        "datetime2(6)",
        Timestamp,
        &[
            "'2024-02-29T12:34:56.789012'",
            "'0001-01-01T00:00:00.000001'",
            "'1582-10-10T10:10:10'",
            "'9999-12-31T23:59:59.999999'",
            "'2024-10-27T02:30:00'",
        ],
    ),
    Type("datetimeoffset(0)", Instant, &["'2024-02-29T12:34:56+05:45'", "'1970-01-01T00:00:01+00:00'"]),
    Type(
        "datetimeoffset(6)",
        Instant,
        &[
            "'2024-02-29T12:34:56.789012-14:00'",
            "'0001-01-01T00:00:00+00:00'",
            "'1582-10-10T10:10:10+01:00'",
            "'2038-01-19T03:14:08+00:00'",
            "'9999-12-31T23:59:59.999999+00:00'",
            "'2024-10-27T02:30:00+02:00'",
        ],
    ),
    Type("char(5)", Text, &["'ab'", "'abcde'", "''"]),
    Type("varchar(20)", Text, &["''", "'it''s'", "N'é€ trailing  '", r"'\N'", "'NULL'"]),
    Type("varchar(max)", Text, &["''", "REPLICATE(CAST('xyz' AS varchar(max)), 400000)"]),
    Type("nchar(5)", Text, &["N'é'", "N'漢字かな交'"]),
    Type("nvarchar(20)", Text, &["N''", "N'αβγ🚀 trailing  '", "N'🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀'"]),
    Type(
        "nvarchar(max)",
        Text,
        &[
            "N''",
            r"N'\N'",
            "N'NULL'",
            "N'🚀 𝒳 né'",
            "N'e\u{301} \u{200d} \u{feff}'",
            "N'tab\t quote\" apostrophe'' back\\slash \\\\N cr\r lf\n crlf\r\n end'",
            "N'\u{1}\u{1f}\u{7f}'",
            "N'  spaces  '",
            "N','",
            "N'1.0'",
            "REPLICATE(CAST(N'ü🚀xyz' AS nvarchar(max)), 200000)",
        ],
    ),
    Type("text", Text, &["'it''s'", "''"]),
    Type("ntext", Text, &["N'漢字🚀'"]),
    Type("binary(4)", Bytes, &["0x00ff00ff", "0x00000000", "0x5c4e0a0d"]),
    Type("varbinary(300)", Bytes, &["0x", "0x00", "0x5c4e", ALL_BYTES]),
    Type(
        "varbinary(max)",
        Bytes,
        &["0x", "0x00ff0a5c22", "CAST(REPLICATE(CAST('00ff' AS varchar(max)), 262144) AS varbinary(max))"],
    ),
    Type("image", Bytes, &["0x00ff0a5c22"]),
    Type(
        "uniqueidentifier",
        Uuid,
        &["'550e8400-e29b-41d4-a716-446655440000'", "'00000000-0000-0000-0000-000000000000'"],
    ),
    Type("xml", Other, &["N'<a b=\"1\">x &amp; é</a>'", "N'<x/>'"]),
];

/// Every byte once.
const ALL_BYTES: &str = "0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f\
    808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";
