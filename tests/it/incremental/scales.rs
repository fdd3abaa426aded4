//! Change columns of all types: numbers, decimals, dates, times with and without a zone.

use serde_json::{Value, json};
use weir::core::ErrorKind;
use weir::{RunOptions, Status, VerifyOptions};

use super::place::Place;
use super::{Bench, changed, job, load};

/// `src(id, c)` and `dst` of the same shape.
async fn make(place: &Place, kind: &str, rows: &str) {
    let table = |name: &str| format!("CREATE TABLE {name} (id bigint NOT NULL PRIMARY KEY, c {kind})");
    place.execute(&format!("{}; {}; INSERT INTO src VALUES {rows}", table("src"), table("dst"))).await;
}

fn by(column: Value) -> Value {
    json!({"incremental": {"column": column}})
}

fn upsert() -> Value {
    json!({"writeMode": "upsert"})
}

async fn ids(place: &Place) -> String {
    let rows = place.rows("SELECT id FROM dst ORDER BY id").await;
    rows.into_iter().map(|row| row[0].clone().unwrap()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn numbers_are_read_up_to_the_greatest() {
    let folder = tempfile::tempdir().unwrap();
    for (place, kinds) in [
        (Place::postgresql("numbers").await, &["bigint", "smallint", "numeric(38,2)"][..]),
        (Place::mariadb("numbers").await, &["bigint unsigned", "int", "decimal(38,2)"][..]),
        (Place::sqlite(folder.path(), "numbers"), &["INTEGER"][..]),
    ] {
        for kind in kinds {
            let bench = Bench::new();
            make(&place, kind, "(1, 10), (2, 20), (3, NULL)").await;
            let job = job(&place, by(json!(["no_such", "c"])), upsert());
            let planned = bench.plan(&job).await.unwrap();
            assert!(planned.entries[0].warnings.iter().any(|w| w.contains("NULL")), "{planned}");
            let first = bench.run_ok(&job).await;
            assert_eq!((first.rows_read, ids(&place).await.as_str()), (3, "1 2 3"), "{kind}");
            place.execute("INSERT INTO src VALUES (4, 20), (5, 21), (6, NULL), (7, 5)").await;
            let second = bench.run_ok(&job).await;
            assert_eq!((second.rows_read, ids(&place).await.as_str()), (1, "1 2 3 5"), "{kind}");
            let next = if kind.contains("38,2") { "21.01" } else { "22" };
            assert_eq!(bench.watermarks().await, [next], "{kind}");
            place.execute("DROP TABLE src; DROP TABLE dst").await;
        }
    }
    let place = Place::mariadb("largest").await;
    make(&place, "bigint unsigned", "(1, 18446744073709551614)").await;
    let job = job(&place, by(json!("c")), upsert());
    let bench = Bench::new();
    bench.run_ok(&job).await;
    place.execute("INSERT INTO src VALUES (2, 18446744073709551615)").await;
    assert_eq!(bench.run_ok(&job).await.rows_read, 1);
    assert_eq!(
        (bench.watermarks().await, bench.run_ok(&job).await.rows_read),
        (vec!["18446744073709551616".into()], 0)
    );
}

#[tokio::test]
async fn an_empty_table_waits_for_its_first_number() {
    let bench = Bench::new();
    for place in Place::all(bench.0.path(), "empty").await {
        let bench = Bench::new();
        make(&place, "bigint", "(1, NULL); DELETE FROM src").await;
        let job = job(&place, by(json!("c")), json!({"writeMode": "append"}));
        let planned = bench.plan(&job).await.unwrap().to_string();
        assert!(planned.contains("nothing: c has no value yet"), "{planned}");
        assert_eq!((bench.run_ok(&job).await.rows_read, bench.watermarks().await.len()), (0, 0));
        place.execute("INSERT INTO src VALUES (1, -7)").await;
        assert_eq!((bench.run_ok(&job).await.rows_read, bench.watermarks().await), (1, vec!["-6".to_owned()]));
    }
}

#[tokio::test]
async fn from_and_to_bound_what_is_read() {
    let bench = Bench::new();
    for place in Place::all(bench.0.path(), "bounds").await {
        let bench = Bench::new();
        let (moment, _) = place.moment();
        make(
            &place,
            moment,
            "(1, '2025-10-31 23:59:59'), (2, '2025-11-01 00:00:00'), (3, '2025-11-01 23:59:59.5'), (4, '2025-11-02 00:00:00')",
        )
        .await;
        let day = |to: &str| json!({"timeZone": "UTC", "incremental": {"column": "c", "from": "2025-11-01", "to": to}});
        let first = job(&place, day("2025-11-02"), upsert());
        assert_eq!((bench.run_ok(&first).await.rows_read, ids(&place).await.as_str()), (2, "2 3"));
        // The same day again holds nothing; the next one begins where it ended.
        assert_eq!(bench.run_ok(&first).await.rows_read, 0);
        let second = job(&place, day("20251103"), upsert());
        assert_eq!((bench.run_ok(&second).await.rows_read, ids(&place).await.as_str()), (1, "2 3 4"));
        let wrong = job(&place, json!({"incremental": {"column": "c", "from": "noon"}}), upsert());
        let error = bench.plan(&wrong).await.unwrap_err();
        assert!(error.full().contains("incremental.from"), "{}", error.full());
    }
}

#[tokio::test]
async fn dates_are_read_when_their_day_has_passed() {
    let bench = Bench::new();
    for place in Place::all(bench.0.path(), "dates").await {
        let bench = Bench::new();
        let (today, yesterday) = match place.plugin() {
            "postgresql" => {
                ("(clock_timestamp() AT TIME ZONE 'UTC')::date", "(clock_timestamp() AT TIME ZONE 'UTC')::date - 1")
            }
            "mysql" => ("UTC_DATE()", "UTC_DATE() - INTERVAL 1 DAY"),
            _ => ("date('now')", "date('now', '-1 day')"),
        };
        make(&place, "date", &format!("(1, {yesterday}), (2, {today})")).await;
        let reader = json!({"timeZone": "UTC", "incremental": {"column": "c"}});
        bench.run_ok(&job(&place, reader, upsert())).await;
        assert_eq!(ids(&place).await, "1", "{}", place.plugin());
    }
}

/// Times without a zone that the server's own clocks write, hours behind ours: none of them may be taken for past ones.
#[tokio::test]
async fn clocks_that_are_behind_hide_no_row() {
    for (place, zone, kind) in [
        (Place::postgresql("clocks").await, "SET timezone = 'America/New_York'", "timestamp"),
        (Place::mariadb("clocks").await, "SET time_zone = '-05:00'", "datetime(6)"),
    ] {
        let bench = Bench::new();
        make(&place, kind, "(0, '2020-01-01 00:00:00')").await;
        let reader = json!({"timeZone": "America/New_York", "incremental": {"column": "c"}});
        let job = job(&place, reader, json!({"writeMode": "append"}));
        // In winter both show the same; the test asks for an hour more or less in summer.
        let now = if place.plugin() == "mysql" { "utc_timestamp(6) - interval 5 hour" } else { "localtimestamp" };
        for id in 1..=3 {
            place.execute(&format!("{zone}; INSERT INTO src VALUES ({id}, {now})")).await;
            bench.run_ok(&job).await;
        }
        // The last one is a moment old by now.
        bench.run_ok(&job).await;
        assert_eq!(ids(&place).await, "0 1 2 3", "{}", place.plugin());
    }
    // Where nobody says, the zone that the server gives its sessions counts.
    let place = Place::postgresql("clocks_unsaid").await;
    make(&place, "timestamp", "(0, '2020-01-01 00:00:00')").await;
    let database = place.rows("SELECT quote_ident(current_database())").await[0][0].clone().unwrap();
    place.execute(&format!("ALTER DATABASE {database} SET timezone = 'America/New_York'")).await;
    let job = job(&place, json!({"incremental": {"column": "c"}}), upsert());
    let bench = Bench::new();
    let planned = bench.plan(&job).await.unwrap();
    assert!(planned.entries[0].warnings.iter().any(|w| w.contains("timeZone")), "{planned}");
    for id in 1..=2 {
        // As a session says that nobody gave another zone; the test's own has UTC.
        place
            .execute(&format!("SET timezone = 'America/New_York'; INSERT INTO src VALUES ({id}, localtimestamp)"))
            .await;
        bench.run_ok(&job).await;
    }
    assert_eq!(ids(&place).await, "0 1 2");
}

#[tokio::test]
async fn columns_without_an_exact_order_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (place, kind, value) in [
        (Place::postgresql("unfit").await, "text", "'a'"),
        (Place::postgresql("unfit").await, "numeric", "1.5"),
        (Place::mariadb("unfit").await, "double", "1.5"),
        (Place::sqlite(folder.path(), "text"), "TEXT", "'a'"),
        (Place::sqlite(folder.path(), "mixed"), "DATETIME", "'2025-11-01T00:00:00'), (2, '2025-11-01 00:00:00'"),
        (Place::sqlite(folder.path(), "zoned"), "DATETIME", "'2025-11-01 00:00:00+01:00'"),
        (Place::sqlite(folder.path(), "real"), "NUMERIC", "1.5"),
    ] {
        make(&place, kind, &format!("(1, {value})")).await;
        let error = Bench::new().plan(&job(&place, by(json!("c")), upsert())).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.message().contains("`c`"), "{kind}: {}", error.full());
    }
}

#[tokio::test]
async fn sqlite_times_may_be_numbers_and_may_have_a_t() {
    let folder = tempfile::tempdir().unwrap();
    let seconds = "unixepoch('now')";
    for (name, first, now) in
        [("t", "'2020-01-01T00:00:00'", "strftime('%Y-%m-%dT%H:%M:%S', 'now')"), ("seconds", "1577836800", seconds)]
    {
        let place = Place::sqlite(folder.path(), name);
        let bench = Bench::new();
        make(&place, "DATETIME", &format!("(1, {first})")).await;
        let job = job(&place, by(json!("c")), json!({"writeMode": "append"}));
        bench.run_ok(&job).await;
        place.execute(&format!("INSERT INTO src VALUES (2, {now})")).await;
        place.settle().await;
        bench.run_ok(&job).await;
        assert_eq!((ids(&place).await.as_str(), bench.run_ok(&job).await.rows_read), ("1 2", 0), "{name}");
    }
}

#[tokio::test]
async fn a_watermark_holds_for_its_place_and_its_column_only() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Place::sqlite(folder.path(), "one"), Place::sqlite(folder.path(), "other"));
    for place in [&one, &other] {
        make(place, "INTEGER", "(1, 10)").await;
    }
    let bench = Bench::new();
    bench.run_ok(&job(&one, by(json!("c")), upsert())).await;
    for (place, column) in [(&other, "c"), (&one, "id")] {
        let mut job = job(place, by(json!(column)), upsert());
        job["job"]["content"][0]["writer"]["parameter"] = one.parameter("dst", upsert());
        let report = bench.run(&job).await;
        let error = report.error.unwrap();
        assert!(error.kind == ErrorKind::Conflict && error.message.contains("--full"), "{}", error.message);
        let full = RunOptions { full: true, ..bench.options() };
        assert_eq!(weir::run(&load(&job), full).await.status, Status::Succeeded);
    }
    // Without a folder for it, or a name, there is nothing to go by.
    let nameless = {
        let mut job = job(&one, by(json!("c")), upsert());
        job["job"].as_object_mut().unwrap().remove("name");
        job
    };
    assert!(bench.run(&nameless).await.error.unwrap().message.contains("name"));
    let options = RunOptions { state_dir: None, ..bench.options() };
    let report = weir::run(&load(&job(&one, by(json!("c")), upsert())), options).await;
    assert!(report.error.unwrap().message.contains("state folder"));
}

#[tokio::test]
async fn what_was_moved_can_be_verified() {
    let bench = Bench::new();
    for place in Place::all(bench.0.path(), "verified").await {
        let bench = Bench::new();
        make(&place, "bigint", "(1, 10), (2, NULL), (3, 30)").await;
        let mut verifying = job(&place, by(json!("c")), upsert());
        verifying["job"]["setting"] = json!({"verify": true});
        bench.run_ok(&verifying).await;
        let verify = || async {
            let options = VerifyOptions { state_dir: bench.options().state_dir, ..VerifyOptions::default() };
            weir::verify(&load(&verifying), &options).await.unwrap()
        };
        // What has changed since has left the windows, and is no difference.
        place.execute("UPDATE src SET c = 31 WHERE id = 3; INSERT INTO src VALUES (4, 40)").await;
        let found = verify().await;
        assert!(found.equal && found.entries[0].source_rows == 2, "{}: {}", place.plugin(), found.summary());
        bench.run_ok(&verifying).await;
        place.execute("DELETE FROM dst WHERE id = 1").await;
        let found = verify().await;
        assert_eq!((found.equal, found.entries[0].missing.rows), (false, 1), "{}", place.plugin());
    }
}

#[tokio::test]
async fn times_that_never_come_are_told_and_those_to_come_wait() {
    let place = Place::postgresql("endless").await;
    for (kind, to_come, come) in [
        ("timestamptz", "now() + interval '1 day'", "now() - interval '1 day'"),
        ("timestamp", "localtimestamp + interval '2 days'", "localtimestamp - interval '2 days'"),
        ("date", "current_date + 2", "current_date - 2"),
    ] {
        let bench = Bench::new();
        place
            .execute(&format!(
                "DROP TABLE IF EXISTS src, dst; CREATE TABLE src (id int PRIMARY KEY, changed {kind} NOT NULL);
                 CREATE TABLE dst (LIKE src INCLUDING ALL);
                 INSERT INTO src VALUES (1, '-infinity'), (2, {come}), (3, {to_come})"
            ))
            .await;
        let job = job(&place, changed(json!({})), json!({"writeMode": "upsert"}));
        let told = |warnings: &[String]| warnings.iter().any(|warning| warning.contains("infinity"));
        let first = bench.run_ok(&job).await;
        assert_eq!((first.rows_read, told(&first.warnings)), (2, false), "{kind}: {:?}", first.warnings);
        place.execute("CREATE INDEX ON src (changed); INSERT INTO src VALUES (4, 'infinity')").await;
        assert!(told(&bench.plan(&job).await.unwrap().entries[0].warnings), "{kind}");
        let second = bench.run_ok(&job).await;
        assert_eq!((second.rows_read, told(&second.warnings)), (0, true), "{kind}: {:?}", second.warnings);
    }
}
