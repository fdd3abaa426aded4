//! Columns that are there already and hold less: each value arrives exactly, or its row is a dirty one with its reason,
//! and the plan says beforehand that it may be.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use weir::{RunOptions, Status};

use super::Class::*;
use super::canon::canonical;
use super::matrix::{Table, column, run};
use super::place::{Place, System};
use super::{Class, Type};
use crate::support::{job_of, load};

/// A column of PostgreSQL's, and what becomes of its values in columns of others.
struct Case {
    from: Type,
    /// The columns at PostgreSQL, MariaDB and SQLite; an empty type leaves one out.
    to: [&'static str; 3],
    /// What the values are there.
    class: Class,
    /// Of each value what it is there, or `!` and a part of the reason why it is not.
    then: &'static [&'static str],
    /// Whether every value fits, so that the plan need not warn.
    safe: bool,
}

const fn case(from: Type, to: [&'static str; 3], class: Class, then: &'static [&'static str]) -> Case {
    Case { from, to, class, then, safe: false }
}

const fn safe(from: Type, to: [&'static str; 3], class: Class, then: &'static [&'static str]) -> Case {
    Case { from, to, class, then, safe: true }
}

const CASES: &[Case] = &[
    case(
        Type("bigint", Number, &["7", "-2147483648", "2147483648", "-2147483649"]),
        ["integer", "int", "INT32"],
        Number,
        &["7", "-2147483648", "!2147483648", "!-2147483649"],
    ),
    case(
        Type("bigint", Number, &["0", "65535", "-1", "65536"]),
        ["", "smallint unsigned", "UINT16"],
        Number,
        &["0", "65535", "!-1", "!65536"],
    ),
    case(
        Type("integer", Number, &["999", "1000"]),
        ["numeric(3,0)", "decimal(3,0)", "DECIMAL(3,0)"],
        Number,
        &["999", "!1000"],
    ),
    case(
        Type("text", Text, &["'abc'", "'🚀🚀🚀🚀🚀'", "'abcdef'", "''", "'ab   '"]),
        ["character varying(5)", "varchar(5)", ""],
        Text,
        &["abc", "🚀🚀🚀🚀🚀", "!long", "", "ab   "],
    ),
    // Too long, though only by spaces.
    case(Type("text", Text, &["'abcde '"]), ["character varying(5)", "varchar(5)", ""], Text, &["!"]),
    case(
        Type(
            "timestamp(6)",
            Timestamp,
            &["'2024-02-29 12:34:56'", "'2024-02-29 12:34:56.000001'", "'2024-02-29 12:34:56.500000'"],
        ),
        ["timestamp(0) without time zone", "datetime", ""],
        Timestamp,
        &["2024-02-29 12:34:56", "!second", "!second"],
    ),
    case(
        Type("time", Time, &["'12:34:56'", "'12:34:56.5'"]),
        ["time(0) without time zone", "time", ""],
        Time,
        &["12:34:56", "!second"],
    ),
    case(
        Type("numeric(20,10)", Number, &["1.1", "-0.01", "1.001", "12345678.99", "123456789"]),
        ["numeric(10,2)", "decimal(10,2)", "DECIMAL(10,2)"],
        Number,
        &["1.1", "-0.01", "!1.001", "12345678.99", "!123456789"],
    ),
    case(
        Type("double precision", Double, &["1", "1.5", "'NaN'", "1e300", "-9007199254740992"]),
        ["bigint", "bigint", "INTEGER"],
        Number,
        &["1", "!1.5", "!NaN", "!1e300", "-9007199254740992"],
    ),
    case(
        Type("double precision", Double, &["1.25", "1.255", "'Infinity'"]),
        ["numeric(10,2)", "decimal(10,2)", "DECIMAL(10,2)"],
        Number,
        &["1.25", "!1.255", "!Infinity"],
    ),
    case(
        Type("bigint", Number, &["9007199254740992", "9007199254740993"]),
        ["double precision", "double", "REAL"],
        Double,
        &["9007199254740992", "!9007199254740993"],
    ),
    case(
        Type(
            "text",
            Text,
            &["'12'", "'-0'", "'1e3'", "'1.0'", "'1.5'", "' 12'", "'12x'", "''", "'99999999999999999999'"],
        ),
        ["bigint", "bigint", "INTEGER"],
        Number,
        &["12", "0", "1000", "1", "!1.5", "! 12", "!12x", "!", "!99999999999999999999"],
    ),
    case(
        Type("text", Text, &["'1.50'", "'1e-2'", "'1.555'", "'NaN'"]),
        ["numeric(10,2)", "decimal(10,2)", "DECIMAL(10,2)"],
        Number,
        &["1.5", "0.01", "!1.555", "!NaN"],
    ),
    case(
        Type("text", Text, &["'0.1'", "'1e400'", "'x'"]),
        ["double precision", "double", "REAL"],
        Double,
        &["0.1", "!1e400", "!x"],
    ),
    case(
        Type("text", Text, &["'true'", "'FALSE'", "'1'", "'0'", "'yes'", "'2'"]),
        ["boolean", "bit(1)", "BOOLEAN"],
        Bool,
        &["true", "false", "true", "false", "!yes", "!2"],
    ),
    case(
        Type("integer", Number, &["0", "1", "2", "-1"]),
        ["boolean", "bit(1)", "BOOLEAN"],
        Bool,
        &["false", "true", "!2", "!-1"],
    ),
    safe(Type("boolean", Bool, &["true", "false"]), ["integer", "int", "INTEGER"], Number, &["1", "0"]),
    safe(Type("boolean", Bool, &["true", "false"]), ["text", "varchar(9)", "TEXT"], Text, &["true", "false"]),
    safe(
        Type("bigint", Number, &["-9223372036854775808"]),
        ["text", "varchar(30)", "TEXT"],
        Text,
        &["-9223372036854775808"],
    ),
    safe(Type("numeric(10,2)", Number, &["1.5", "-0.01"]), ["text", "varchar(30)", "TEXT"], Text, &["1.50", "-0.01"]),
    safe(
        Type("double precision", Double, &["0.1", "1e300", "'NaN'"]),
        ["text", "varchar(30)", "TEXT"],
        Double,
        &["0.1", "1e300", "NaN"],
    ),
    case(
        Type(
            "text",
            Text,
            &[
                "'2024-02-29'",
                "'2024-02-29 00:00:00'",
                "'2024-02-30'",
                "'2024-02-29 01:00:00'",
                "'29.2.2024'",
                "'0001-01-01'",
            ],
        ),
        ["date", "date", "DATE"],
        Date,
        &["2024-02-29", "2024-02-29", "!2024-02-30", "!time of day", "!29.2.2024", "0001-01-01"],
    ),
    case(
        Type(
            "text",
            Text,
            &[
                "'2024-02-29 12:34:56.789012'",
                "'2024-02-29T12:34:56'",
                "'2024-02-29'",
                "'12:34'",
                "'2024-02-29 12:34:56.1234567'",
            ],
        ),
        ["timestamp without time zone", "datetime(6)", "DATETIME"],
        Timestamp,
        &["2024-02-29 12:34:56.789012", "2024-02-29 12:34:56", "2024-02-29", "!12:34", "!second"],
    ),
    case(
        Type("text", Text, &["'2024-02-29 12:34:56+02:00'", "'2024-02-29 12:34:56'", "'1970-01-01 00:00:01Z'"]),
        ["timestamp with time zone", "timestamp", "TIMESTAMPTZ"],
        Instant,
        &["2024-02-29 10:34:56", "2024-02-29 12:34:56", "1970-01-01 00:00:01"],
    ),
    case(
        Type("text", Text, &["'12:34:56.5'", "'24:00:01'", "'12'"]),
        ["time without time zone", "", "TIME"],
        Time,
        &["12:34:56.5", "!24:00:01", "!12"],
    ),
    safe(Type("date", Date, &["'2024-02-29'"]), ["text", "varchar(30)", "TEXT"], Text, &["2024-02-29"]),
    safe(
        Type("timestamp", Timestamp, &["'2024-02-29 12:34:56.500000'", "'0001-01-01 00:00:00'"]),
        ["text", "varchar(30)", "TEXT"],
        Text,
        &["2024-02-29 12:34:56.5", "0001-01-01 00:00:00"],
    ),
    safe(
        Type("date", Date, &["'2024-02-29'"]),
        ["timestamp without time zone", "datetime", "DATETIME"],
        Timestamp,
        &["2024-02-29"],
    ),
    // DataX counts milliseconds.
    case(
        Type("bigint", Number, &["1709210096789", "-1"]),
        ["timestamp without time zone", "datetime(3)", "DATETIME"],
        Timestamp,
        &["2024-02-29 12:34:56.789", "1969-12-31 23:59:59.999"],
    ),
    case(
        Type("timestamp", Timestamp, &["'2024-02-29 12:34:56.789'", "'2024-02-29 12:34:56.789012'"]),
        ["bigint", "bigint", "INTEGER"],
        Number,
        &["1709210096789", "!second"],
    ),
    case(
        Type("bytea", Bytes, &[r"'\x6162'", r"'\xff'", r"'\x'"]),
        ["text", "varchar(30)", "TEXT"],
        Text,
        &["ab", "!ff", ""],
    ),
    safe(Type("text", Text, &["'né'", "''"]), ["bytea", "varbinary(30)", "BLOB"], Bytes, &["6ec3a9", ""]),
    case(
        Type("text", Text, &["'550e8400-e29b-41d4-a716-446655440000'", "'550e8400'"]),
        ["uuid", "uuid", "UUID"],
        Uuid,
        &["550e8400-e29b-41d4-a716-446655440000", "!550e8400"],
    ),
    case(
        Type("text", Text, &["'{\"a\": 1.50}'", "'{bad'", "''"]),
        ["json", "json", "JSON"],
        Json,
        &["{\"a\":1.50}", "!", "!"],
    ),
    case(
        Type("timestamptz", Instant, &["'2024-02-29 12:34:56Z'", "'2024-02-29 12:34:56.000001Z'"]),
        ["timestamp(0) with time zone", "timestamp", ""],
        Instant,
        &["2024-02-29 12:34:56", "!second"],
    ),
    // What clocks in the job's zone show: UTC, if it names none.
    case(
        Type("timestamptz", Instant, &["'2024-02-29 12:34:56.5+02'"]),
        ["timestamp without time zone", "datetime(6)", "DATETIME"],
        Timestamp,
        &["2024-02-29 10:34:56.5"],
    ),
];

/// Warnings of the job's plan by column, and all of them.
async fn warnings(job: &Value) -> Vec<String> {
    let plan = weir::plan(&load(job), &RunOptions::default()).await.expect("a plan");
    plan.entries.into_iter().flat_map(|entry| entry.warnings).collect()
}

/// What SQL Server has where PostgreSQL has this; a type that it lacks or counts otherwise is left out.
fn of_sqlserver(case: &Case) -> &'static str {
    match case.to[0] {
        "integer" => "int",
        "double precision" => "float",
        "boolean" => "bit",
        "text" => "nvarchar(max)",
        "bytea" => "varbinary(30)",
        "uuid" => "uniqueidentifier",
        "time without time zone" => "time(6)",
        "time(0) without time zone" => "time(0)",
        "timestamp without time zone" => "datetime2(6)",
        "timestamp(0) without time zone" => "datetime2(0)",
        "timestamp with time zone" => "datetimeoffset(6)",
        "timestamp(0) with time zone" => "datetimeoffset(0)",
        // Its lengths are counted in pairs of bytes, of which a rocket has two.
        "json" | "character varying(5)" => "",
        same => same,
    }
}

/// Moves the values of all cases whose column the system has, and tells which did not become what they should.
async fn faults_in(system: System, column_of: impl Fn(&Case) -> &'static str, folder: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let cases: Vec<(&Case, &str)> = CASES.iter().map(|case| (case, column_of(case))).collect();
    let cases: Vec<(&Case, &str)> = cases.into_iter().filter(|(_, to)| !to.is_empty()).collect();
    let source = Place::new(System::PostgreSql, "narrow", folder).await;
    let types: Vec<Type> = cases.iter().map(|(case, _)| case.from).collect();
    let values = super::matrix::single_values(&types);
    let table = Table::new(source, "src", types, values).await;
    let target = Place::new(system, "narrow_to", folder).await;
    let null = if system.is_mysql() { " NULL" } else { "" };
    let columns: Vec<_> =
        cases.iter().enumerate().map(|(i, (_, to))| format!("{} {to}{null}", target.quote(&column(i)))).collect();
    let id = if system == System::Sqlite { "INTEGER" } else { "bigint" };
    let options = if system.is_mysql() { " DEFAULT CHARSET=utf8mb4" } else { "" };
    let sql = format!("CREATE TABLE {} (id {id} PRIMARY KEY, {}){options}", target.quote("dst"), columns.join(", "));
    target.execute(&sql).await;

    let job = job_of("postgresql", table.place.parameters("src"), system.connector(), target.parameters("dst"));
    let warned = warnings(&job).await;
    let (report, dirty) = run(&job, folder).await;
    assert_eq!(report.status, Status::Succeeded, "{:?}", report.error);
    let types: Vec<_> = target.types("dst").await.split_off(1);
    let there: BTreeMap<i64, Vec<Option<String>>> = target.values("dst", &types).await.into_iter().collect();
    for (i, (case, to)) in cases.iter().enumerate() {
        let name = format!("{} → {to} ({})", case.from.0, system.name());
        if !case.safe && !warned.iter().any(|w| w.contains(&column(i)) && w.contains("dirty")) {
            faults.push(format!("{name}: the plan does not warn: {warned:#?}"));
        }
        for (n, (literal, then)) in case.from.2.iter().zip(case.then).enumerate() {
            let row = (i * 100 + n + 1) as i64;
            let expected = canonical(case.class, System::PostgreSql, "", then);
            let fault = match (then.strip_prefix('!'), there.get(&row), dirty.get(&row)) {
                (Some(part), None, Some(reason)) if reason.contains(part) => continue,
                (Some(part), None, Some(reason)) => format!("the reason does not say `{part}`: {reason}"),
                (None, Some(values), None) => {
                    let is = values[i].as_deref().and_then(|v| canonical(case.class, system, &types[i].1, v));
                    if is == expected {
                        continue;
                    }
                    format!("became {:?}, not {then}", values[i])
                }
                (_, values, reason) => format!("expected {then}, found {:?}, {reason:?}", values.map(|v| &v[i])),
            };
            faults.push(format!("{name}: {literal}: {fault}"));
        }
    }
    faults
}

#[tokio::test]
async fn a_narrower_column_takes_a_value_exactly_or_its_row_is_dirty() {
    let folder = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    for (at, system) in [System::PostgreSql, System::MariaDb, System::Sqlite].into_iter().enumerate() {
        faults.extend(faults_in(system, |case| case.to[at], folder.path()).await);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn a_narrower_column_of_sql_server_does_so_too() {
    if weir_plugins_test::servers::sqlserver().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let faults = faults_in(System::SqlServer, of_sqlserver, folder.path()).await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn formats_of_datax_read_and_write_texts() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(System::PostgreSql, "formats", folder.path()).await;
    place
        .execute(
            "CREATE TABLE src (id bigint PRIMARY KEY, a text, b timestamp, c date, d time, e bytea); \
             INSERT INTO src VALUES (1, '29.02.2024', '2024-02-29 12:34:56', '2024-02-29', '12:34:56', '\\xd6d0'), \
             (2, '2024-02-29', '0001-01-01 00:00:00', NULL, NULL, '\\x'), (3, '02/29/2024', NULL, NULL, NULL, NULL); \
             CREATE TABLE dst (id bigint PRIMARY KEY, a date, b varchar(30), c varchar(30), d varchar(30), e varchar(30))",
        )
        .await;
    let mut job = job_of("postgresql", place.parameters("src"), "postgresql", place.parameters("dst"));
    job["common"]["column"] = json!({
        "datetimeFormat": "dd.MM.yyyy HH:mm:ss", "dateFormat": "dd.MM.yyyy", "timeFormat": "HH'h'mm'm'ss", "encoding": "GBK",
    });
    let (report, dirty) = run(&job, folder.path()).await;
    assert_eq!(report.status, Status::Succeeded, "{:?}", report.error);
    assert!(dirty.len() == 1 && dirty[&3].contains("02/29/2024"), "{dirty:?}");
    let rows = place.query("SELECT a::text, b, c, d, e FROM dst ORDER BY id").await;
    let texts = |row: usize| rows[row].iter().map(|v| v.as_deref().unwrap_or("~")).collect::<Vec<_>>();
    assert_eq!(texts(0), ["2024-02-29", "29.02.2024 12:34:56", "29.02.2024", "12h34m56", "中"]);
    assert_eq!(texts(1), ["2024-02-29", "01.01.0001 00:00:00", "~", "~", ""]);
}
