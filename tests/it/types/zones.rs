//! Nothing depends on the machine's time zone or locale: the command writes the same under two of each.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::place::{Place, System};
use crate::support::job_of;

/// Zones whose clocks differ by more than hours, and a locale whose letters have other capitals.
const ZONES: [(&str, &str); 3] =
    [("UTC", "C.UTF-8"), ("Asia/Kathmandu", "tr_TR.UTF-8"), ("America/New_York", "de_DE.ISO-8859-1")];

fn run(job: &Value, folder: &Path, zone: &str, locale: &str) {
    let file = folder.join("job.json");
    std::fs::write(&file, job.to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["run".as_ref(), file.as_os_str()])
        .env("TZ", zone)
        .env("LC_ALL", locale)
        .env("LANG", locale)
        .env("PGTZ", zone)
        .env_remove("WEIR_TZ")
        .env("WEIR_STATE_DIR", folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn the_machines_zone_and_locale_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for system in System::ALL {
        let place = Place::new(system, "zones", folder.path()).await;
        let instant = match system {
            System::PostgreSql => "timestamptz",
            System::Sqlite => "TIMESTAMPTZ",
            _ => "timestamp(6) NULL",
        };
        // SQLite keeps an instant's text, whose one form has an offset.
        let offset = if system == System::Sqlite { "+00:00" } else { "" };
        let [timestamp, double] = match system {
            System::PostgreSql => ["timestamp", "double precision"],
            System::Sqlite => ["DATETIME", "REAL"],
            _ => ["datetime(6)", "double"],
        };
        place
            .execute(&format!(
                "CREATE TABLE src (id bigint PRIMARY KEY, a {instant}, b {timestamp}, c date, d decimal(12,3), e {double}, f varchar(20)); \
                 INSERT INTO src VALUES \
                 (1, '2024-03-31 02:30:00{offset}', '2024-03-31 02:30:00', '2024-02-29', 1234567.891, 1234567.5, 'Iıİi'), \
                 (2, '2024-10-27 00:30:00{offset}', '2024-10-27 02:30:00.000001', '1582-10-10', -0.001, 1e-7, 'TITLE title'), \
                 (3, '1999-12-31 23:59:59{offset}', '0001-01-01 00:00:00', '9999-12-31', 0, -1.5, '')"
            ))
            .await;
        let mut seen = Vec::new();
        for (i, (zone, locale)) in ZONES.into_iter().enumerate() {
            // Through a file that knows types, and one that is text all over.
            let parquet = folder.path().join(format!("{}_{i}.parquet", system.connector()));
            let csv = folder.path().join(format!("{}_{i}.csv", system.connector()));
            let table = format!("back{i}");
            let to = |path: &Path| json!({"path": path, "writeMode": "truncate"});
            run(
                &job_of(system.connector(), place.parameters("src"), "files", to(&parquet)),
                folder.path(),
                zone,
                locale,
            );
            run(
                &job_of("files", json!({"path": parquet}), system.connector(), place.parameters(&table)),
                folder.path(),
                zone,
                locale,
            );
            run(&job_of("files", json!({"path": parquet}), "files", to(&csv)), folder.path(), zone, locale);
            let types = place.types("src").await.split_off(1);
            assert_eq!(place.values("src", &types).await, place.values(&table, &types).await, "{system:?} {zone}");
            seen.push(std::fs::read_to_string(&csv).unwrap());
        }
        assert!(seen.iter().all(|text| *text == seen[0]), "{system:?}");
        assert!(seen[0].contains("2024-03-31 02:30:00"), "{}", seen[0]);
    }
}

/// What has no zone is UTC's where nobody says otherwise, whatever the machine's clocks show.
#[tokio::test]
async fn the_machines_zone_is_not_the_datas() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(System::PostgreSql, "machine", folder.path()).await;
    let csv = folder.path().join("local.csv");
    std::fs::write(&csv, "id,a\n1,2024-03-31 02:30:00\n2,2024-10-27 01:30:00.5\n3,2024-01-01\n").unwrap();
    let column = json!([{"name": "id", "type": "long"}, {"name": "a", "type": "string"}]);
    for (i, (zone, locale)) in ZONES.into_iter().enumerate() {
        let (instants, local) = (format!("instants{i}"), format!("local{i}"));
        place
            .execute(&format!(
                "CREATE TABLE {instants} (id bigint PRIMARY KEY, a timestamptz); \
                 CREATE TABLE {local} (id bigint PRIMARY KEY, a timestamp)"
            ))
            .await;
        let from = json!({"path": csv, "format": "csv", "column": column});
        let job = job_of("files", from, "postgresql", place.parameters(&instants));
        run(&job, folder.path(), zone, locale);
        let job = job_of("postgresql", place.parameters(&instants), "postgresql", place.parameters(&local));
        run(&job, folder.path(), zone, locale);
        let rows = place.query(&format!("SELECT a::text FROM {instants} ORDER BY id")).await;
        let texts: Vec<_> = rows.iter().map(|row| row[0].as_deref().unwrap_or_default()).collect();
        assert_eq!(texts, ["2024-03-31 02:30:00+00", "2024-10-27 01:30:00.5+00", "2024-01-01 00:00:00+00"], "{zone}");
        let rows = place.query(&format!("SELECT a::text FROM {local} ORDER BY id")).await;
        let texts: Vec<_> = rows.iter().map(|row| row[0].as_deref().unwrap_or_default()).collect();
        assert_eq!(texts, ["2024-03-31 02:30:00", "2024-10-27 01:30:00.5", "2024-01-01 00:00:00"], "{zone}");
        let text = folder.path().join(format!("text{i}.csv"));
        let to = json!({"path": text, "writeMode": "truncate"});
        run(&job_of("postgresql", place.parameters(&instants), "files", to), folder.path(), zone, locale);
        let text = std::fs::read_to_string(&text).unwrap();
        assert!(text.contains("2024-10-27 01:30:00.500Z"), "{zone}: {text}");
    }
}
