//! Memory that stays bounded.

use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use weir_plugins_test::proxy::Proxy;
use weir_plugins_test::servers;

use super::Place;
use crate::support::{job_of, with_channels};

/// Makes the call in a process of its own; its peak of resident memory in MB.
fn peak(place: &Place, arguments: &[&str]) -> f64 {
    let mut run = place.start(arguments);
    let status = format!("/proc/{}/status", run.child.id());
    let mut peak = 0.0f64;
    let code = loop {
        if let Some(line) =
            std::fs::read_to_string(&status).unwrap_or_default().lines().find(|l| l.starts_with("VmHWM:"))
        {
            let kilobytes: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            peak = peak.max(kilobytes / 1024.0);
        }
        if let Some(status) = run.child.try_wait().unwrap() {
            break status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(code, Some(0), "{}", std::fs::read_to_string(&run.err).unwrap());
    peak
}

fn is_bounded(name: &str, job: Value, channels: usize) {
    let place = Place::new();
    place.job(&with_channels(job, channels));
    call_is_bounded(name, &place, &["run", "job.json", "--quiet"], channels);
}

fn call_is_bounded(name: &str, place: &Place, arguments: &[&str], channels: usize) {
    let begun = Instant::now();
    let peak = peak(place, arguments);
    let most = 256.0 + 32.0 * channels as f64;
    println!("{name}, {channels} channels: {peak:.0} of {most} MB in {:.1} s", begun.elapsed().as_secs_f64());
    assert!(peak < most, "{name}: {peak:.0} MB, {most} allowed");
}

/// Two million narrow rows in all.
fn narrow(channels: usize) -> Value {
    let column = json!([{"incr": "1,1", "type": "long"}, {"random": "1,1000000", "type": "long"}, {"random": "3,12", "type": "string"}]);
    json!({"column": column, "sliceRecordCount": 2_000_000 / channels})
}

/// Rows of 100 KB.
fn wide(rows: usize, channels: usize) -> Value {
    let column = json!([{"incr": "1,1", "type": "long"}, {"value": "wide row ".repeat(11_400), "type": "string"}]);
    json!({"column": column, "sliceRecordCount": rows / channels})
}

#[test]
fn memory_is_bounded_whatever_the_table_into_files() {
    let folder = tempfile::tempdir().unwrap();
    let parquet = |name: &str| json!({"path": folder.path().join(name), "format": "parquet", "writeMode": "truncate"});
    let csv = |name: &str| json!({"path": folder.path().join(name), "format": "csv", "writeMode": "truncate"});
    is_bounded("narrow rows into Parquet", job_of("stream", narrow(2), "files", parquet("narrow")), 2);
    is_bounded("wide rows into Parquet", job_of("stream", wide(20_000, 2), "files", parquet("wide")), 2);
    is_bounded("wide rows into CSV", job_of("stream", wide(4_000, 2), "files", csv("csv")), 2);
    let lake = json!({"path": folder.path().join("lake"), "writeMode": "append"});
    is_bounded("narrow rows into Delta", job_of("stream", narrow(2), "lakehouse", lake), 2);
}

/// Rows of texts that are all different, 75 KB each on average.
fn unlike(rows: usize, channels: usize) -> Value {
    let column = json!([{"incr": "1,1", "type": "long"}, {"random": "50000,100000", "type": "string"}]);
    json!({"column": column, "sliceRecordCount": rows / channels})
}

/// What was written wide is read again: values that a dictionary holds once are all there in a batch.
#[test]
fn memory_is_bounded_when_wide_rows_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let again = |what: &str, from: Value, plugin: &str, place: Value| {
        let mut to = place.clone();
        to["writeMode"] = json!(if plugin == "files" { "truncate" } else { "overwrite" });
        is_bounded(&format!("{what} into {place}"), job_of("stream", from, plugin, to), 2);
        is_bounded(&format!("{what} from {place}"), job_of(plugin, place, "stream", json!({})), 2);
    };
    let file = |name: &str| json!({"path": path(name), "format": name.rsplit('-').next().unwrap()});
    again("equal wide rows", wide(20_000, 2), "files", file("equal-parquet"));
    again("unlike wide rows", unlike(2_500, 2), "files", file("unlike-parquet"));
    again("equal wide rows", wide(20_000, 2), "lakehouse", json!({"path": path("equal")}));
    again("wide rows", wide(5_000, 2), "files", file("wide-csv"));
    again("wide rows", wide(5_000, 2), "files", file("wide-jsonl"));
    again("wide rows", wide(5_000, 2), "files", file("wide-arrow"));
    let sqlite = json!({"path": path("wide.db"), "table": "wide", "createTable": true});
    is_bounded("wide rows into SQLite", job_of("stream", wide(5_000, 1), "sqlite", sqlite), 1);
    let sqlite = json!({"path": path("wide.db"), "table": "wide"});
    is_bounded("wide rows from SQLite", job_of("sqlite", sqlite, "stream", json!({})), 2);
}

/// Narrow rows first and wide ones behind them, in one row group of a gigabyte that another program wrote: what a row takes
/// on average says nothing of those.
#[test]
fn memory_is_bounded_when_a_row_group_holds_rows_of_very_unlike_width() {
    use parquet::arrow::ArrowWriter;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("unlike.parquet");
    let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]));
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_compression(Compression::ZSTD(Default::default()))
        .set_max_row_group_row_count(None)
        .build();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(&file).unwrap(), schema.clone(), Some(properties)).unwrap();
    let mut write = |texts: StringArray| {
        writer.write(&RecordBatch::try_new(schema.clone(), vec![Arc::new(texts)]).unwrap()).unwrap();
    };
    for _ in 0..20 {
        write(StringArray::from_iter_values((0..50_000).map(|n| format!("{n}"))));
    }
    for batch in 0..100 {
        write(StringArray::from_iter_values((0..100).map(|n| format!("{batch} {n} ").repeat(14_000))));
    }
    assert_eq!(writer.close().unwrap().num_row_groups(), 1);
    is_bounded("rows of unlike width", job_of("files", json!({"path": file}), "stream", json!({})), 1);
}

/// Rows that were mended are as many as the run let pass: with `errorLimit: "unlimited"` as many as there are.
#[test]
fn memory_is_bounded_when_a_large_quarantine_is_replayed() {
    const ROWS: usize = 9_000;
    let place = Place::new();
    std::fs::write(place.path("in.csv"), "id,text\nx,y\n").unwrap();
    let columns = json!([{"name": "id", "type": "long"}, {"name": "text", "type": "string"}]);
    let to = json!({"path": place.path("out.csv"), "writeMode": "truncate"});
    let mut job = job_of("files", json!({"path": place.path("in.csv"), "column": columns}), "files", to);
    job["job"]["setting"]["errorLimit"] = json!("unlimited");
    place.job(&with_channels(job, 1));
    place.ok(&["run", "job.json", "--quarantine", "dirty.jsonl"]);
    let mut row: Value = serde_json::from_slice(&std::fs::read(place.path("dirty.jsonl")).unwrap()).unwrap();
    let mut mended = BufWriter::new(std::fs::File::create(place.path("mended.jsonl")).unwrap());
    row["values"]["text"] = "wide row ".repeat(1_140).into();
    for id in 0..ROWS {
        row["values"]["id"] = id.into();
        writeln!(mended, "{row}").unwrap();
    }
    mended.into_inner().unwrap();
    let arguments = ["replay", "mended.jsonl", "job.json", "--quiet", "--report", "report.json"];
    call_is_bounded("a quarantine of 90 MB", &place, &arguments, 1);
    assert_eq!(place.last_report()["rows_written"], ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_whatever_the_table_into_databases() {
    let postgresql = servers::postgresql().await.fresh_database("memory").await;
    let mariadb = servers::mariadb().await.fresh_database("memory").await;
    let proxy = Proxy::start(postgresql.port()).await.unwrap();
    proxy.delay(Duration::from_millis(15));
    let slow = proxy.url(&postgresql.url());
    let (fast, mysql) = (postgresql.url(), mariadb.url());
    tokio::task::spawn_blocking(move || {
        let to = |url: &str, table: &str| json!({"url": url, "table": table});
        is_bounded("narrow rows into PostgreSQL", job_of("stream", narrow(3), "postgresql", to(&fast, "narrow")), 3);
        is_bounded("wide rows into PostgreSQL", job_of("stream", wide(6_000, 3), "postgresql", to(&fast, "wide")), 3);
        is_bounded(
            "wide rows into a slow PostgreSQL",
            job_of("stream", wide(900, 3), "postgresql", to(&slow, "slow")),
            3,
        );
        is_bounded("wide rows from PostgreSQL", job_of("postgresql", to(&fast, "wide"), "stream", json!({})), 3);
        is_bounded("narrow rows from PostgreSQL", job_of("postgresql", to(&fast, "narrow"), "stream", json!({})), 3);
        let mut merged = to(&fast, "merged");
        merged["writeMode"] = json!("upsert");
        merged["key"] = json!(["column1"]);
        let merge = job_of("stream", wide(3_000, 1), "postgresql", merged);
        is_bounded("wide rows merged into PostgreSQL", merge.clone(), 1);
        let place = Place::new();
        place.job(&with_channels(merge, 1));
        call_is_bounded("wide rows compared with PostgreSQL's", &place, &["verify", "job.json"], 1);
        is_bounded("wide rows into MariaDB", job_of("stream", wide(2_000, 2), "mysql", to(&mysql, "wide")), 2);
        is_bounded("wide rows from MariaDB", job_of("mysql", to(&mysql, "wide"), "stream", json!({})), 2);
    })
    .await
    .unwrap();
}
