//! What must be asked for: conversions that lose something of every value, zero dates as NULL, empty texts as NULL.

use serde_json::{Value, json};
use weir::core::ErrorKind;
use weir::{RunOptions, Status};

use super::matrix::run;
use super::place::{Place, System};
use crate::support::{job_of, load, run_failing, run_ok};

/// A source in PostgreSQL with a double and an instant, and a target where both lose something.
async fn lossy(system: System, folder: &std::path::Path) -> (Place, Place) {
    let source = Place::new(System::PostgreSql, "loss", folder).await;
    source
        .execute(
            "CREATE TABLE src (id bigint PRIMARY KEY, reading double precision, happened timestamptz); \
             INSERT INTO src VALUES (1, 0.1, '2024-02-29 23:30:00+00'), (2, 16777217, '1969-12-31 23:59:59+00'), \
             (3, NULL, NULL), (4, 0.5, '2024-03-01 00:00:00+00')",
        )
        .await;
    let target = Place::new(system, "loss_to", folder).await;
    let single = match system {
        System::PostgreSql => "real",
        System::Sqlite => "FLOAT32",
        _ => "float NULL",
    };
    target.execute(&format!("CREATE TABLE dst (id bigint PRIMARY KEY, reading {single}, happened date)")).await;
    (source, target)
}

fn casting(mut to: Value, choice: &str) -> Value {
    to["onTypeLoss"] = choice.into();
    to
}

#[tokio::test]
async fn what_every_value_loses_must_be_asked_for_and_the_plan_names_it() {
    let folder = tempfile::tempdir().unwrap();
    for system in [System::PostgreSql, System::MariaDb, System::MySql, System::Sqlite] {
        let (source, target) = lossy(system, folder.path()).await;
        let job_with = |to| job_of("postgresql", source.parameters("src"), system.connector(), to);

        // `error` is the default; both columns are named at once, with their types and what is lost.
        for job in [job_with(target.parameters("dst")), job_with(casting(target.parameters("dst"), "error"))] {
            let error = weir::plan(&load(&job), &RunOptions::default()).await.expect_err("a refusal");
            assert_eq!(error.kind(), ErrorKind::Schema);
            let single = if system == System::Sqlite {
                "FLOAT32"
            } else if system == System::PostgreSql {
                "real"
            } else {
                "float"
            };
            let parts = [
                "reading",
                "double precision",
                single,
                "rounded",
                "happened",
                "timestamp with time zone",
                "date",
                "time of day",
            ];
            for part in parts.into_iter().chain(["onTypeLoss"]) {
                assert!(error.message().contains(part), "{system:?}: `{part}` is not in: {error}");
            }
            run_failing(&job).await;
            assert_eq!(target.count("dst").await, 0);
        }

        let job = job_with(casting(target.parameters("dst"), "cast"));
        let plan = weir::plan(&load(&job), &RunOptions::default()).await.unwrap();
        let said = |name: &str| plan.entries[0].columns.iter().find(|c| c.target == name).unwrap().conversion.clone();
        assert!(said("reading").contains("rounded") && said("happened").contains("time of day"), "{plan}");
        let warnings = plan.entries[0].warnings.join("\n");
        assert!(warnings.contains("reading") && warnings.contains("happened"), "{warnings}");
        run_ok(&job).await;
        let texts = match system {
            System::PostgreSql => "reading::float8::text, happened::text",
            System::Sqlite => "reading, happened",
            _ => "CAST(reading * 1e0 AS CHAR), CAST(happened AS CHAR)",
        };
        let rows = target.query(&format!("SELECT {texts} FROM dst ORDER BY id")).await;
        let number =
            |row: usize| rows[row][0].as_deref().map(|t| t.trim_start_matches("real:").parse::<f64>().unwrap());
        assert_eq!(
            [number(0), number(1), number(2)],
            [Some(f64::from(0.1_f32)), Some(16_777_216.0), None],
            "{system:?}"
        );
        let days: Vec<_> = rows.iter().map(|row| row[1].as_deref().unwrap_or("~")).collect();
        assert_eq!(days, ["2024-02-29", "1969-12-31", "~", "2024-03-01"], "{system:?}");
    }
}

#[tokio::test]
async fn zero_dates_are_null_under_datax_names_and_dirty_under_ours() {
    let folder = tempfile::tempdir().unwrap();
    for system in [System::MariaDb, System::MySql] {
        let source = Place::new(system, "zero", folder.path()).await;
        source
            .execute(
                "CREATE TABLE src (id bigint PRIMARY KEY, a date NULL, b datetime NULL, c timestamp NULL); \
                 INSERT INTO src VALUES (1, '2024-02-29', '2024-02-29 01:02:03', '2024-02-29 01:02:03'), \
                 (2, '0000-00-00', NULL, NULL), (3, NULL, '0000-00-00 00:00:00', NULL), \
                 (4, NULL, NULL, '0000-00-00 00:00:00'), (5, '2024-00-00', NULL, NULL), (6, NULL, '2024-02-00 00:00:00', NULL)",
            )
            .await;
        let target = Place::new(System::PostgreSql, "zero_to", folder.path()).await;
        let with = |choice: Option<&str>| {
            let mut from = source.parameters("src");
            if let Some(choice) = choice {
                from["zeroDate"] = choice.into();
            }
            from
        };
        let datax = |choice: Option<&str>| {
            let mut from = with(choice);
            let (url, table) = (from["url"].take(), from["table"].take());
            let map = from.as_object_mut().unwrap();
            map.remove("url");
            map.remove("table");
            from["connection"] = json!([{"jdbcUrl": [url], "table": [table]}]);
            from["column"] = json!(["*"]);
            from
        };
        let jobs = [
            (job_of("mysql", with(None), "postgresql", target.parameters("a")), "a", false),
            (job_of("mysql", with(Some("error")), "postgresql", target.parameters("b")), "b", false),
            (job_of("mysql", with(Some("null")), "postgresql", target.parameters("c")), "c", true),
            (job_of("mysqlreader", datax(None), "postgresql", target.parameters("d")), "d", true),
            (job_of("mysqlreader", datax(Some("error")), "postgresql", target.parameters("e")), "e", false),
        ];
        for (job, table, null) in jobs {
            let (report, dirty) = run(&job, folder.path()).await;
            assert_eq!(report.status, Status::Succeeded, "{table}: {:?}", report.error);
            let rows = target
                .query(&format!("SELECT id::text, coalesce(a::text, b::text, c::text) FROM {table} ORDER BY id"))
                .await;
            assert_eq!(rows[0], [Some("1".to_owned()), Some("2024-02-29".to_owned())]);
            if null {
                assert!(dirty.is_empty() && rows.len() == 6, "{system:?} {table}: {dirty:?}");
                assert!(rows[1..].iter().all(|row| row[1].is_none()), "{rows:?}");
            } else {
                assert_eq!(dirty.keys().copied().collect::<Vec<_>>(), [2, 3, 4, 5, 6], "{system:?} {table}");
                assert!(dirty.values().all(|reason| reason.contains("zeroDate")), "{dirty:?}");
                assert_eq!(rows.len(), 1);
            }
        }
    }
}

#[tokio::test]
async fn empty_texts_are_null_under_datax_names_and_dirty_under_ours() {
    let folder = tempfile::tempdir().unwrap();
    let source = Place::new(System::PostgreSql, "empty", folder.path()).await;
    source
        .execute("CREATE TABLE src (id bigint PRIMARY KEY, a text, b text, c text); INSERT INTO src VALUES (1, '7', '2024-02-29', ''), (2, '', '2024-02-29', 'x'), (3, '7', '', 'x')")
        .await;
    for system in System::ALL {
        let target = Place::new(system, "empty_to", folder.path()).await;
        let null = if system.is_mysql() { " NULL" } else { "" };
        // The writer's name, its `emptyAsNull`, and whether it takes empty texts for NULL.
        let name = system.connector();
        let datax = format!("{name}writer");
        let choices =
            [(name, None, false), (name, Some(true), true), (&datax, None, true), (&datax, Some(false), false)];
        for (i, (writer, choice, nulls)) in choices.into_iter().enumerate() {
            if system == System::Sqlite && writer != name {
                continue; // DataX has no such writer.
            }
            let table = format!("dst{i}");
            target
                .execute(&format!(
                    "CREATE TABLE {table} (id bigint PRIMARY KEY, a int{null}, b date{null}, c varchar(9){null})"
                ))
                .await;
            let mut to = if writer == name {
                target.parameters(&table)
            } else {
                let of = target.parameters(&table);
                json!({"connection": [{"jdbcUrl": of["url"], "table": [of["table"]]}], "column": ["id", "a", "b", "c"]})
            };
            if let Some(choice) = choice {
                to["emptyAsNull"] = choice.into();
            }
            let mut from = source.parameters("src");
            from["column"] = json!(["id", "a", "b", "c"]);
            let (report, dirty) = run(&job_of("postgresql", from, writer, to), folder.path()).await;
            assert_eq!(report.status, Status::Succeeded, "{writer} {choice:?}: {:?}", report.error);
            let rows = target.query(&format!("SELECT id, a, b, c FROM {table} ORDER BY id")).await;
            let of = |row: usize| rows[row].iter().map(|v| v.as_deref().unwrap_or("~")).collect::<Vec<_>>();
            // An empty text stays one where texts are wanted.
            assert_eq!(of(0), ["1", "7", "2024-02-29", ""], "{writer} {choice:?}");
            if nulls {
                assert!(dirty.is_empty(), "{writer} {choice:?}: {dirty:?}");
                assert_eq!((of(1), of(2)), (vec!["2", "~", "2024-02-29", "x"], vec!["3", "7", "~", "x"]));
            } else {
                assert_eq!(
                    (rows.len(), dirty.keys().copied().collect::<Vec<_>>()),
                    (1, vec![2, 3]),
                    "{writer} {choice:?}"
                );
            }
        }
    }
}
