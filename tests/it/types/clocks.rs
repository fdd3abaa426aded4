//! Zone-less times and instants: `timeZone` of the job and of both ends, over the days on which clocks change.
//!
//! Berlin's clocks skip 2:00 to 3:00 on 2024-03-31 and show 2:00 to 3:00 twice on 2024-10-27.

use serde_json::{Value, json};
use weir::{RunOptions, Status};

use super::matrix::run;
use super::place::{Place, System};
use crate::support::{job_of, load};

fn zoned(mut end: Value, zone: &str) -> Value {
    end["timeZone"] = zone.into();
    end
}

/// The rows of a table as texts, `~` for NULL.
async fn texts(place: &Place, sql: &str) -> Vec<String> {
    place.query(sql).await.into_iter().map(|mut row| row.remove(0).unwrap_or_else(|| "~".into())).collect()
}

/// Local times of Berlin, and the instants that they are; `!` is none.
const LOCAL: [(&str, &str); 6] = [
    ("2024-01-31 12:00:00", "2024-01-31 11:00:00+00"),
    ("2024-03-31 01:59:59.999999", "2024-03-31 00:59:59.999999+00"),
    ("2024-03-31 02:30:00", "!"),
    ("2024-03-31 03:00:00", "2024-03-31 01:00:00+00"),
    // The earlier of the two moments at which clocks show it.
    ("2024-10-27 02:30:00", "2024-10-27 00:30:00+00"),
    ("2024-10-27 03:00:00", "2024-10-27 02:00:00+00"),
];

/// Instants, and what Berlin's clocks show then.
const INSTANTS: [(&str, &str); 4] = [
    ("2024-03-31 00:59:59.5+00", "2024-03-31 01:59:59.5"),
    ("2024-03-31 01:00:00+00", "2024-03-31 03:00:00"),
    ("2024-10-27 00:30:00+00", "2024-10-27 02:30:00"),
    ("2024-10-27 01:30:00+00", "2024-10-27 02:30:00"),
];

/// A table of zone-less times in each system.
async fn local_times(system: System, folder: &std::path::Path) -> Place {
    let place = Place::new(system, "clocks", folder).await;
    let of = match system {
        System::PostgreSql => "timestamp",
        System::Sqlite => "DATETIME",
        _ => "datetime(6)",
    };
    let rows: Vec<_> = LOCAL.iter().enumerate().map(|(i, (local, _))| format!("({i}, '{local}')")).collect();
    place
        .execute(&format!(
            "CREATE TABLE src (id bigint PRIMARY KEY, a {of}); INSERT INTO src VALUES {}",
            rows.join(", ")
        ))
        .await;
    place
}

#[tokio::test]
async fn zone_less_times_become_instants_in_the_sources_zone() {
    let folder = tempfile::tempdir().unwrap();
    let target = Place::new(System::PostgreSql, "clocks_to", folder.path()).await;
    for (n, system) in System::ALL.into_iter().enumerate() {
        let source = local_times(system, folder.path()).await;
        let to = |i: usize| (format!("dst{n}_{i}"), target.parameters(&format!("dst{n}_{i}")));
        // At the source; for the whole job; and at the source against another one for the whole job.
        for (i, (own, job_zone)) in
            [(Some("Europe/Berlin"), None), (None, Some("Europe/Berlin")), (Some("Europe/Berlin"), Some("Asia/Tokyo"))]
                .into_iter()
                .enumerate()
        {
            let (name, to) = to(i);
            target.execute(&format!("CREATE TABLE {name} (id bigint PRIMARY KEY, a timestamptz)")).await;
            let from = source.parameters("src");
            let from = own.map_or(from.clone(), |zone| zoned(from, zone));
            let mut job = job_of(system.connector(), from, "postgresql", to);
            if let Some(zone) = job_zone {
                job["job"]["setting"]["timeZone"] = zone.into();
            }
            let (report, dirty) = run(&job, folder.path()).await;
            assert_eq!(report.status, Status::Succeeded, "{system:?}: {:?}", report.error);
            assert_eq!(dirty.keys().collect::<Vec<_>>(), [&2], "{system:?}");
            assert!(dirty[&2].contains("2024-03-31 02:30:00") && dirty[&2].contains("Europe/Berlin"), "{dirty:?}");
            let expected: Vec<_> = LOCAL.iter().map(|(_, then)| *then).filter(|then| *then != "!").collect();
            assert_eq!(
                texts(&target, &format!("SELECT a::text FROM {name} ORDER BY id")).await,
                expected,
                "{system:?}"
            );
        }
    }
}

#[tokio::test]
async fn instants_become_what_the_targets_clocks_show() {
    let folder = tempfile::tempdir().unwrap();
    let source = Place::new(System::PostgreSql, "clocks", folder.path()).await;
    let rows: Vec<_> = INSTANTS.iter().enumerate().map(|(i, (instant, _))| format!("({i}, '{instant}')")).collect();
    source
        .execute(&format!(
            "CREATE TABLE src (id bigint PRIMARY KEY, a timestamptz); INSERT INTO src VALUES {}",
            rows.join(", ")
        ))
        .await;
    for system in System::ALL {
        let target = Place::new(system, "clocks_to", folder.path()).await;
        let (of, text) = match system {
            System::PostgreSql => ("timestamp", "a::text"),
            System::Sqlite => ("DATETIME", "a"),
            _ => ("datetime(6)", "TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM CAST(a AS CHAR)))"),
        };
        target.execute(&format!("CREATE TABLE dst (id bigint PRIMARY KEY, a {of})")).await;
        let to = zoned(target.parameters("dst"), "Europe/Berlin");
        let (report, dirty) =
            run(&job_of("postgresql", source.parameters("src"), system.connector(), to), folder.path()).await;
        assert!(report.status == Status::Succeeded && dirty.is_empty(), "{system:?}: {:?}", report.error);
        let expected: Vec<_> =
            INSTANTS.iter().map(|(_, then)| then.trim_end_matches('0').trim_end_matches('.')).collect();
        let found: Vec<_> = texts(&target, &format!("SELECT {text} FROM dst ORDER BY id")).await;
        let found: Vec<_> = found.iter().map(|text| text.trim_end_matches('0').trim_end_matches('.')).collect();
        assert_eq!(found, expected, "{system:?}");
    }

    // A text has its offset, so that no two moments look alike, and they all come back: in a column of text …
    let place = Place::new(System::MariaDb, "clocks_text", folder.path()).await;
    place.execute("CREATE TABLE texts (id bigint PRIMARY KEY, a varchar(40))").await;
    let to = zoned(place.parameters("texts"), "Europe/Berlin");
    let (report, _) = run(&job_of("postgresql", source.parameters("src"), "mysql", to), folder.path()).await;
    assert_eq!(report.status, Status::Succeeded, "{:?}", report.error);
    let found = texts(&place, "SELECT a FROM texts ORDER BY id").await;
    assert_eq!(found[2..], ["2024-10-27 02:30:00+02:00", "2024-10-27 02:30:00+01:00"]);
    // … and in a file.
    let csv = folder.path().join("instants.csv");
    let to = zoned(json!({"path": csv, "writeMode": "truncate"}), "Europe/Berlin");
    let (report, _) = run(&job_of("postgresql", source.parameters("src"), "files", to), folder.path()).await;
    assert_eq!(report.status, Status::Succeeded, "{:?}", report.error);
    let written = std::fs::read_to_string(&csv).unwrap();
    assert!(written.contains("2024-10-27 00:30:00Z") && written.contains("2024-10-27 01:30:00Z"), "{written}");
    source.execute("CREATE TABLE back (id bigint PRIMARY KEY, a timestamptz)").await;
    let from = zoned(
        json!({"path": csv, "column": [{"name": "id", "type": "long"}, {"name": "a", "type": "string"}]}),
        "Asia/Tokyo",
    );
    run(&job_of("files", from, "postgresql", source.parameters("back")), folder.path()).await;
    let of = |table: &str| format!("SELECT a::text FROM {table} ORDER BY id");
    assert_eq!(texts(&source, &of("back")).await, texts(&source, &of("src")).await);
}

#[tokio::test]
async fn texts_without_an_offset_are_read_in_the_sources_zone() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("local.csv");
    let lines: String = LOCAL.iter().enumerate().map(|(i, (local, _))| format!("{i},{local}\n")).collect();
    std::fs::write(&csv, format!("id,a\n{lines}")).unwrap();
    let target = Place::new(System::PostgreSql, "clocks", folder.path()).await;
    let column = json!([{"name": "id", "type": "long"}, {"name": "a", "type": "string"}]);
    let from = json!({"path": csv, "format": "csv", "column": column});
    // The reader's own zone, DataX's for texts, the job's; the reader's against both others.
    let choices = [
        (Some("Europe/Berlin"), None, None),
        (None, Some("Europe/Berlin"), None),
        (None, None, Some("Europe/Berlin")),
        (None, Some("Europe/Berlin"), Some("Asia/Tokyo")),
        (Some("Europe/Berlin"), Some("Asia/Tokyo"), Some("America/New_York")),
    ];
    for (i, (own, formats, job_zone)) in choices.into_iter().enumerate() {
        target.execute(&format!("CREATE TABLE dst{i} (id bigint PRIMARY KEY, a timestamptz)")).await;
        let from = own.map_or(from.clone(), |zone| zoned(from.clone(), zone));
        let mut job = job_of("files", from, "postgresql", target.parameters(&format!("dst{i}")));
        if let Some(zone) = formats {
            job["common"]["column"]["timeZone"] = zone.into();
        }
        if let Some(zone) = job_zone {
            job["job"]["setting"]["timeZone"] = zone.into();
        }
        let (report, dirty) = run(&job, folder.path()).await;
        assert_eq!(report.status, Status::Succeeded, "{i}: {:?}", report.error);
        assert_eq!(dirty.keys().collect::<Vec<_>>(), [&2], "{i}");
        let expected: Vec<_> = LOCAL.iter().map(|(_, then)| *then).filter(|then| *then != "!").collect();
        assert_eq!(texts(&target, &format!("SELECT a::text FROM dst{i} ORDER BY id")).await, expected, "{i}");
    }
}

#[tokio::test]
async fn between_two_zones_zone_less_times_are_moved_and_within_one_they_are_not() {
    let folder = tempfile::tempdir().unwrap();
    for system in System::ALL {
        let place = local_times(system, folder.path()).await;
        // Also within one system, whose bytes would pass as they are.
        let job = |from: &str, to: &str, table: &str| {
            let (from, to) = (zoned(place.parameters("src"), from), zoned(place.parameters(table), to));
            job_of(system.connector(), from, system.connector(), to)
        };
        let same = job("Europe/Berlin", "Europe/Berlin", "same");
        let (report, dirty) = run(&same, folder.path()).await;
        assert!(report.status == Status::Succeeded && dirty.is_empty(), "{system:?}: {:?} {dirty:?}", report.error);
        let types = place.types("src").await.split_off(1);
        assert_eq!(place.values("same", &types).await, place.values("src", &types).await, "{system:?}");

        let moved = job("Europe/Berlin", "America/New_York", "moved");
        let plan = weir::plan(&load(&moved), &RunOptions::default()).await.unwrap();
        let warnings = plan.entries[0].warnings.join("\n");
        assert!(warnings.contains("Europe/Berlin") && warnings.contains("America/New_York"), "{system:?}: {warnings}");
        let (report, dirty) = run(&moved, folder.path()).await;
        assert_eq!(report.status, Status::Succeeded, "{system:?}: {:?}", report.error);
        assert_eq!(dirty.keys().collect::<Vec<_>>(), [&2], "{system:?}");
        let found = place.values("moved", &types).await;
        let found: Vec<_> =
            found.iter().map(|(_, row)| row[0].as_deref().unwrap_or("~").trim_start_matches("text:")).collect();
        let expected = [
            "2024-01-31 06:00:00",
            "2024-03-30 20:59:59.999999",
            "2024-03-30 21:00:00",
            "2024-10-26 20:30:00",
            "2024-10-26 22:00:00",
        ];
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.trim_end_matches(".000000"), expected, "{system:?}");
        }
        assert_eq!(found.len(), expected.len());
    }
}
