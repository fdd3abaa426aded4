//! The jobs of `tests/samples`, as they are written for DataX and DataWorks: each has the keys and the shape of a sample
//! in their public documentation. All of them load, plan against real servers and files, and run.
//!
//! `{{USER}}`, `{{MYSQL}}` and the like are filled in here; `datasource` names lead to the same servers.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use weir::{LoadOptions, Quarantine, RunOptions, Status, job};
use weir_plugins_test::servers::{self, Database, Family};

use crate::support::{job_of, load, run_ok};

/// What a sample does here.
struct Sample {
    file: &'static str,
    /// The rows that arrive.
    rows: u64,
    /// What each warning names, in order.
    warnings: &'static [&'static str],
}

const fn sample(file: &'static str, rows: u64, warnings: &'static [&'static str]) -> Sample {
    Sample { file, rows, warnings }
}

const SAMPLES: &[Sample] = &[
    sample("dataworks-mysql-query.json", 6, &["encoding"]),
    sample("dataworks-mysql-reader.json", 6, &["encoding"]),
    sample("dataworks-mysql-shards.json", 30, &["indexes", "envType", "useSpecialSecret", "tableComment", "encoding"]),
    sample("dataworks-mysql-to-postgresql.json", 6, &["dmu", "envType", "encoding"]),
    sample("dataworks-mysql-writer.json", 10, &["dmu"]),
    sample("dataworks-postgresql-reader.json", 6, &[]),
    sample("dataworks-postgresql-writer.json", 10, &[]),
    sample("mysql-reader-expressions.json", 6, &[]),
    sample("mysql-reader-query.json", 4, &["encoding"]),
    sample("mysql-reader-table.json", 6, &[]),
    sample("mysql-reader-template.json", 3, &[]),
    sample("mysql-writer-template.json", 10, &[]),
    sample("mysql-writer.json", 1000, &[]),
    sample("postgresql-reader-expressions.json", 6, &[]),
    sample("postgresql-reader-query.json", 4, &["speed", "encoding"]),
    sample("postgresql-reader-table.json", 6, &[]),
    sample("postgresql-reader-template.json", 6, &[]),
    sample("postgresql-writer-template.json", 10, &["preSql"]),
    sample("postgresql-writer.json", 1000, &[]),
    sample("stream-printed.json", 10, &["encoding"]),
    sample("stream-self-test.json", 200, &["encoding"]),
    sample("stream-template.json", 6, &[]),
    sample("stream-transformers.json", 200, &["encoding"]),
    sample("txtfile-csv-reader-config.json", 4, &[]),
    sample("txtfile-old-date-format.json", 4, &["setting"]),
    sample("txtfile-options.json", 2, &[]),
    sample("txtfile-template.json", 5, &[]),
    sample("txtfile.json", 4, &["setting"]),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples")
}

/// The databases and files that samples name.
struct Places {
    mysql: Database,
    south: Database,
    postgresql: Database,
    files: tempfile::TempDir,
}

impl Places {
    async fn new() -> Self {
        let mysql = servers::mysql().await;
        let places = Self {
            mysql: mysql.fresh_database("samples").await,
            south: mysql.fresh_database("south").await,
            postgresql: servers::postgresql().await.fresh_database("samples").await,
            files: tempfile::tempdir().unwrap(),
        };
        tables(&places.mysql).await;
        tables(&places.postgresql).await;
        for shard in 0..12 {
            let table = format!("shard_{shard:03}");
            places
                .south
                .execute(&format!("{}; {}", parcel(&places.south, &table), rows(&places.south, &table, 2)))
                .await;
        }
        let (folder, plain) = (places.files.path(), places.files.path().join("in/plain"));
        std::fs::create_dir_all(&plain).unwrap();
        std::fs::write(plain.join("a.txt"), "1,true,0.5,north,2024.02.29\n2,FALSE,1.5,süd,2024.03.01\n").unwrap();
        std::fs::write(plain.join("b.txt"), "3,true,2.5,,2024.03.02\n4,false,3.5,east,2024.03.03\n").unwrap();
        std::fs::write(folder.join("in/more.txt"), "5,true,4.5,west,2024.03.04\n").unwrap();
        // In GBK the second label is one character of two bytes.
        std::fs::write(folder.join("in/packed.csv"), b"id;a;b;label\n1;x;y;\\N\n2;x;y;\xb1\xb1\n").unwrap();
        assert!(Command::new("gzip").arg(folder.join("in/packed.csv")).status().unwrap().success());
        std::fs::write(folder.join("weir.datasources.json"), places.sources().to_string()).unwrap();
        places
    }

    fn sources(&self) -> Value {
        json!({
            "parcels": {"type": "mysql", "dev": {"url": self.mysql.url()}},
            "parcels_south": {"type": "mysql", "dev": {"url": self.south.url()}},
            "warehouse": {"type": "postgresql", "dev": {"url": self.postgresql.url()}},
        })
    }

    /// A sample's text with what belongs into its places; `out` is its own folder.
    fn fill(&self, text: &str, out: &str) -> String {
        let files = self.files.path().display();
        text.replace("{{USER}}", self.mysql.user())
            .replace("{{PASSWORD}}", self.mysql.password())
            .replace("{{MYSQL}}", &self.mysql.jdbc_url())
            .replace("{{POSTGRESQL}}", &self.postgresql.jdbc_url())
            .replace("{{IN}}", &format!("{files}/in"))
            .replace("{{OUT}}", &format!("{files}/{out}"))
    }

    fn options(&self) -> LoadOptions {
        LoadOptions { datasources: Some(self.files.path().join("weir.datasources.json")), ..LoadOptions::default() }
    }

    /// Everything that a sample wrote to its folder, in order of the lines.
    fn written(&self, out: &str) -> Vec<String> {
        let folder = self.files.path().join(out);
        let files = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file());
        let mut lines: Vec<String> = files
            .flat_map(|f| std::fs::read_to_string(f).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        lines.sort();
        lines
    }
}

/// A statement that creates a table of parcels.
fn parcel(database: &Database, table: &str) -> String {
    let (table, order) = (database.quote(table), database.quote("order"));
    let (flag, time) = match database.server().family() {
        Family::PostgreSql => ("boolean", "timestamp"),
        _ => ("tinyint(1)", "datetime"),
    };
    format!(
        "CREATE TABLE {table} (id bigint PRIMARY KEY, label varchar(40) NOT NULL, depot int, sent {time}, \
         fragile {flag}, {order} int)"
    )
}

/// A statement that fills it.
fn rows(database: &Database, table: &str, count: u32) -> String {
    let values: Vec<String> = (1..=count)
        .map(|i| format!("({i}, 'parcel {i}', {}, '2024-02-29 12:00:0{i}', {}, {i}0)", i % 2 + 1, i % 3 == 0))
        .collect();
    format!("INSERT INTO {} VALUES {}", database.quote(table), values.join(", "))
}

/// What samples read and write in one database.
async fn tables(database: &Database) {
    let arrival = match database.server().family() {
        Family::PostgreSql => "label varchar(40), weight bigint, sent timestamp, fragile boolean, raw bytea",
        _ => "label varchar(40), weight bigint, sent datetime, fragile tinyint(1), raw blob",
    };
    database
        .execute(&format!(
            "{}; {}; CREATE TABLE arrival ({arrival}); CREATE TABLE depot (id int PRIMARY KEY, town varchar(40)); \
             INSERT INTO depot VALUES (1, 'Köln'), (2, 'Lübeck'); INSERT INTO arrival (label) VALUES ('an old one')",
            parcel(database, "parcel"),
            rows(database, "parcel", 6)
        ))
        .await;
}

/// Loads, plans and runs a sample; says what is not as it should be.
async fn try_out(sample: &Sample, places: &Places) -> Result<(), String> {
    let text = std::fs::read_to_string(folder().join(sample.file)).map_err(|e| e.to_string())?;
    let job = job::load(&places.fill(&text, sample.file), &places.options()).map_err(|faults| faults.to_string())?;
    println!("{}: {:#?}", sample.file, job.warnings);
    let named = |(warning, name): (&String, &&str)| warning.contains(&format!("{name}`")) || warning.contains(*name);
    if job.warnings.len() != sample.warnings.len() || !job.warnings.iter().zip(sample.warnings).all(named) {
        return Err(format!("warnings: {:#?}", job.warnings));
    }
    let plan = weir::plan(&job, &RunOptions::default()).await.map_err(|e| format!("plan: {e}"))?;
    if plan.entries.len() != 1 || plan.entries[0].splits.is_empty() {
        return Err(format!("plan: {plan}"));
    }
    let report = weir::run(&job, RunOptions { quarantine: Quarantine::Off, ..RunOptions::default() }).await;
    if report.status != Status::Succeeded || (report.rows_written, report.rows_dirty) != (sample.rows, 0) {
        return Err(format!("run: {report:#?}"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_sample_loads_plans_and_runs() {
    let mut files: Vec<String> =
        std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, SAMPLES.iter().map(|s| s.file).collect::<Vec<_>>(), "a sample is missing here or there");
    let places = Places::new().await;
    let mut wrong = Vec::new();
    for sample in SAMPLES {
        if let Err(what) = try_out(sample, &places).await {
            wrong.push(format!("{}: {what}", sample.file));
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), SAMPLES.len(), wrong.join("\n\n"));
    // The last sample that wrote a table emptied it first.
    assert_eq!(places.mysql.value("SELECT count(*) FROM arrival").await, "1000");
    assert_eq!(places.postgresql.value("SELECT count(*) FROM arrival").await, "1000");
    let sent = "SELECT DISTINCT sent FROM arrival";
    assert_eq!(places.mysql.value(sent).await, "2024-02-29 06:07:08");
    assert_eq!(places.postgresql.value(sent).await, "2024-02-29 06:07:08");
    let dates = ["1,true,0.5,north,2024-02-29", "2,false,1.5,süd,2024-03-01"];
    for file in ["txtfile.json", "txtfile-old-date-format.json"] {
        assert_eq!(places.written(file)[..2], dates, "{file}");
    }
    assert_eq!(places.written("txtfile-template.json")[4], "5,true,4.5,west,2024.03.04");
    let folder = |name: &str| places.files.path().join(name);
    let unpack = job_of(
        "txtfilereader",
        json!({"path": folder("txtfile-options.json"), "compress": "bzip2", "fieldDelimiter": "\t", "column": ["*"]}),
        "txtfilewriter",
        json!({"path": folder("unpacked"), "fileName": "parcels", "writeMode": "truncate", "fieldDelimiter": "|"}),
    );
    run_ok(&unpack).await;
    assert_eq!(places.written("unpacked"), ["1|north|\\N", "2|north|北", "id|depot|label"]);
}

#[test]
fn what_would_change_the_result_is_refused_by_name() {
    let script = |parameter: Value, step: Value| {
        let mut writer = json!({"url": "mysql://h/d", "table": "t"});
        writer.as_object_mut().unwrap().extend(parameter.as_object().unwrap().clone());
        let job = json!({"type": "job", "version": "2.0", "steps": [
            {"stepType": "stream", "name": "Reader", "category": "reader", "parameter": {"column": ["a"]}},
            {"stepType": "mysql", "name": "Writer", "category": "writer", "parameter": writer}, step]});
        job::load(&job.to_string(), &LoadOptions::default()).unwrap_err().to_string()
    };
    let nothing = json!({"name": "Processor", "category": "processor", "parameter": {"nodes": []}});
    for key in ["skipNullColumn", "nullMode", "updateColumn"] {
        let message = script(json!({key: "a"}), nothing.clone());
        assert!(message.starts_with(&format!("/steps/1/parameter/{key}: `{key}` is not supported")), "{message}");
    }
    let processor = json!({"name": "Processor", "category": "processor", "parameter": {"nodes": [{"id": 1}]}});
    let message = script(json!({}), processor);
    assert!(message.starts_with("/steps/2: processors are not supported"), "{message}");
}

#[tokio::test]
async fn lists_of_columns_that_differ_in_length_are_refused_when_planning() {
    // Some samples give five values to two columns, which no tool can load.
    let database = servers::postgresql().await.fresh_database("counts").await;
    tables(&database).await;
    let job = job_of(
        "streamreader",
        json!({"column": [{"value": "a"}, {"value": "b"}, {"value": 1, "type": "long"}], "sliceRecordCount": 1}),
        "postgresqlwriter",
        json!({"username": database.user(), "password": database.password(), "column": ["label", "weight"],
               "connection": [{"jdbcUrl": database.jdbc_url(), "table": ["arrival"]}]}),
    );
    let error = weir::plan(&load(&job), &RunOptions::default()).await.unwrap_err().to_string();
    assert!(error.contains('3') && error.contains('2') && error.contains("column"), "{error}");
}
