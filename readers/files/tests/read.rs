//! Real files, read through the plugin as the runtime does it.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::*;
use async_trait::async_trait;
use serde_json::{Value, json};
use weir_core::*;
use weir_reader_files as _;

#[derive(Default)]
struct Sink {
    batches: Vec<RecordBatch>,
    rejected: Vec<DirtyRow>,
}

#[async_trait]
impl BatchSender for Sink {
    async fn send(&mut self, batch: RecordBatch) -> Result<()> {
        assert!(
            batch.num_rows() <= MAX_BATCH_ROWS && (batch.num_rows() == 1 || batch_bytes(&batch) <= MAX_BATCH_BYTES)
        );
        self.batches.push(batch);
        Ok(())
    }

    async fn reject(&mut self, row: DirtyRow) -> Result<()> {
        self.rejected.push(row);
        Ok(())
    }
}

impl Sink {
    /// All values as text, row by row.
    fn rows(&self) -> Vec<Vec<Option<String>>> {
        let mut rows = Vec::new();
        for batch in &self.batches {
            for row in 0..batch.num_rows() {
                let values = row_values(batch, row);
                let cell = |v: &Value| v.as_str().map(str::to_owned);
                rows.push(values.values().map(cell).collect());
            }
        }
        rows
    }
}

fn reader(form: Form, parameters: Value) -> std::result::Result<Arc<dyn Reader>, Faults> {
    let context = ConnectorContext {
        cancel: Default::default(),
        io: tokio::runtime::Handle::current(),
        form,
        time_zone: chrono_tz::UTC,
        shared: Default::default(),
    };
    let plugin = readers().into_iter().find(|p| p.name == "files").expect("the reader is linked");
    (plugin.open)(&parameters, &context)
}

async fn read(form: Form, parameters: Value) -> Result<(SourceSchema, Sink)> {
    let schema = reader(form, parameters.clone())?.schema().await?;
    let columns = schema.columns.iter().enumerate();
    let columns = columns.map(|(index, c)| ReadColumn { index, field: c.canonical().clone() }).collect();
    let request = ReadRequest { columns, snapshot: None, limit: None };
    let wanted = SplitRequest { channels: 2, max_bytes: 1 << 30, snapshot: None, stable: false, limit: None };
    let splits = reader(form, parameters.clone())?.splits(&wanted).await?;
    let mut sink = Sink::default();
    for split in splits {
        // A task may run in another process: everything it knows is in the split and the request.
        reader(form, parameters.clone())?.read(&split, &request, &mut sink).await?;
    }
    Ok((schema, sink))
}

fn types(schema: &SourceSchema) -> Vec<String> {
    schema.columns.iter().map(|c| field::type_text(c.canonical())).collect()
}

fn write(folder: &Path, name: &str, data: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, data).unwrap();
    path.to_str().unwrap().to_owned()
}

fn some(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|v| (*v != "NULL").then(|| (*v).to_owned())).collect()
}

#[tokio::test]
async fn csv_types_come_from_the_first_rows_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\u{feff}id,name,price,day,at,ok,code\r\n\
        1,\"Ann, \"\"A\"\"\",12.50,2024-02-29,2024-02-29 10:00:00,true,007\r\n\
        2,\"two\nlines\",3.05,,2024-02-29T10:00:00.123456,false,\"\"\r\n\
        -3,日本,4,2024-03-01,2024-02-29 11:00,TRUE,\r\n";
    let path = write(folder.path(), "a.csv", text);
    let (schema, sink) = read(Form::Native, json!({ "path": path })).await.unwrap();
    assert_eq!(types(&schema), ["Int64", "Utf8", "Decimal128(38, 2)", "Date32", "Timestamp(µs)", "Boolean", "Utf8"]);
    assert_eq!(sink.rejected, []);
    let rows = sink.rows();
    assert_eq!(rows[0], some(&["1", "Ann, \"A\"", "12.50", "2024-02-29", "2024-02-29 10:00:00", "true", "007"]));
    assert_eq!(rows[1], some(&["2", "two\nlines", "3.05", "NULL", "2024-02-29 10:00:00.123456", "false", ""]));
    assert_eq!(rows[2], some(&["-3", "日本", "4.00", "2024-03-01", "2024-02-29 11:00:00", "true", "NULL"]));
}

#[tokio::test]
async fn a_bad_row_is_set_aside_with_its_line_and_the_others_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = b"a,b\n1,\"x\ny\"\n2\n3,c,d\nfour,e\n".to_vec();
    text.extend(b"5,\xff\xfe\n6,\"z\"z\n7,g\n8,\"open\n");
    let path = write(folder.path(), "a.csv", text);
    let list = json!([{ "index": 0, "name": "a", "type": "long" }, { "index": 1, "name": "b", "type": "string" }]);
    let (_, sink) = read(Form::Native, json!({ "path": path, "column": list })).await.unwrap();
    assert_eq!(sink.rows(), [some(&["1", "x\ny"]), some(&["7", "g"])]);
    let mut reasons: Vec<_> = sink.rejected.iter().map(|r| (r.reason.as_str(), r.column.as_deref())).collect();
    reasons.sort_unstable();
    assert_eq!(reasons.len(), 6);
    for (found, (line, word, column)) in reasons.iter().zip([
        ("line 10: ", "never closed", None),
        ("line 4: ", "1 fields and not 2", None),
        ("line 5: ", "3 fields and not 2", None),
        ("line 6: ", "`four` is no integer", Some("a")),
        ("line 7: ", "encoding", Some("b")),
        ("line 8: ", "closing quote", None),
    ]) {
        assert!(found.0.starts_with(line) && found.0.contains(word) && found.1 == column, "{found:?}");
    }
    let ragged = sink.rejected.iter().find(|r| r.reason.contains("3 fields")).unwrap();
    assert_eq!(ragged.values["column_2"], "d");
}

#[tokio::test]
async fn datax_defaults_hold_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "in/a.txt", "1, x ,2024/02/29 10:00:00\n,,2024/03/01 00:00:00,more\n9\n");
    let column = json!([
        { "index": 0, "type": "long" }, { "index": 1, "type": "string" },
        { "index": 2, "type": "date", "format": "yyyy/MM/dd HH:mm:ss" }, { "type": "string", "value": "k" }
    ]);
    let path = folder.path().join("in").to_str().unwrap().to_owned();
    let parameters = json!({ "path": [path], "encoding": "UTF-8", "column": column, "fieldDelimiter": "," });
    let (schema, sink) = read(Form::DataX, parameters).await.unwrap();
    assert_eq!(types(&schema), ["Int64", "Utf8", "Timestamp(µs)", "Utf8"]);
    assert!(schema.listed);
    assert_eq!(sink.rows(), [some(&["1", "x", "2024-02-29 10:00:00", "k"])]);
    // No text means NULL, so an empty number is no number; a row that lacks a listed field is dirty.
    assert_eq!(sink.rejected.len(), 2);

    let all = json!({ "path": format!("{path}/*.txt"), "column": ["*"], "nullFormat": "9", "skipHeader": "true" });
    let all = json!({ "path": all["path"], "column": ["*"], "skipHeader": true });
    let (schema, sink) = read(Form::DataX, all).await.unwrap();
    assert_eq!(types(&schema), ["Utf8"; 4]);
    assert_eq!(sink.rows(), [some(&["", "", "2024/03/01 00:00:00", "more"])]);
}

#[tokio::test]
async fn many_files_encodings_and_archives() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    write(folder.path(), "d/1.csv", "a,b\n1,x\n");
    // The header decides, not the order.
    write(folder.path(), "d/sub/2.csv", "b,a\ny,2\n");
    let mut zip = flate2_like(b"a,b\n3,z\n");
    write(folder.path(), "d/3.csv.zst", &zip);
    let (_, sink) = read(Form::Native, json!({ "path": format!("{root}/d") })).await.unwrap();
    assert_eq!(sink.rows(), [some(&["1", "x"]), some(&["3", "z"]), some(&["2", "y"])]);

    zip.truncate(zip.len() - 4);
    let cut = write(folder.path(), "cut.csv.zst", &zip);
    let error = read(Form::Native, json!({ "path": cut })).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("cut.csv.zst"));

    let gbk = write(folder.path(), "gbk.tsv", b"\xc3\xfb\tn\n\xc8\xd5\xb1\xbe\t1\n");
    let (schema, sink) = read(Form::Native, json!({ "path": gbk, "encoding": "gbk" })).await.unwrap();
    assert_eq!(schema.columns[0].name, "名");
    assert_eq!(sink.rows(), [some(&["日本", "1"])]);

    let missing = read(Form::Native, json!({ "path": format!("{root}/none/*.csv") })).await.err().unwrap();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    for bad in [json!({}), json!({ "path": "x", "compress": "lzo" }), json!({ "path": "ftp://b/x.csv" })] {
        assert!(reader(Form::Native, bad).is_err());
    }
}

fn flate2_like(data: &[u8]) -> Vec<u8> {
    let mut pack = weir_files::Pack::new(weir_files::Compression::Zstd).unwrap();
    let mut out = Vec::new();
    pack.write(data, &mut out).unwrap();
    pack.finish(&mut out).unwrap();
    out
}

#[tokio::test]
async fn json_lines_keep_digits_and_nested_text() {
    let folder = tempfile::tempdir().unwrap();
    let text = "{\"id\":1,\"big\":18446744073709551615,\"price\":1.10,\"tags\":{\"a\": [1.0, 2]},\"s\":\"x\\u00e9\\n\"}\n\n\
        {\"s\":null,\"id\":2,\"price\":0.30}\n\
        {\"id\":\"three\"}\n\
        {\"id\":4,\n\
        [5]\n\
        {\"id\":6,\"tags\":{\"z\":1e400}}\n";
    let path = write(folder.path(), "a.jsonl", text);
    let parameters = json!({ "path": path, "sampleRows": 2 });
    let (schema, sink) = read(Form::Native, parameters).await.unwrap();
    assert_eq!(types(&schema), ["Int64", "Decimal128(38, 0)", "Decimal128(38, 2)", "json", "Utf8"]);
    assert_eq!(
        sink.rows(),
        [
            some(&["1", "18446744073709551615", "1.10", "{\"a\": [1.0, 2]}", "xé\n"]),
            some(&["2", "NULL", "0.30", "NULL", "NULL"]),
            some(&["6", "NULL", "NULL", "{\"z\":1e400}", "NULL"]),
        ]
    );
    let lines: Vec<_> = sink.rejected.iter().map(|r| r.reason.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["line 5", "line 6", "line 4"]);
}

#[tokio::test]
async fn a_large_row_travels_alone_and_batches_stay_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.csv");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    writeln!(file, "id,text").unwrap();
    for i in 0..200_000 {
        writeln!(file, "{i},row {i}").unwrap();
        if i == 1000 {
            writeln!(file, "-1,\"{}\"", "x\n".repeat(6 << 20)).unwrap();
        }
    }
    file.into_inner().unwrap();
    let (_, sink) = read(Form::Native, json!({ "path": path })).await.unwrap();
    assert_eq!(sink.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 200_001);
    assert!(sink.batches.iter().any(|b| b.num_rows() == 1 && batch_bytes(b) > MAX_BATCH_BYTES));
    let sum: i64 = sink.batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).sum();
    assert_eq!(sum, (0..200_000i64).sum::<i64>() - 1);
}

#[tokio::test]
async fn parquet_goes_by_row_groups_and_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let words = arrow::array::StringViewArray::from_iter_values((0..1000).map(|i| format!("word {i}")));
    let numbers = arrow::array::Int64Array::from_iter_values(0..1000);
    let batch = RecordBatch::try_from_iter([("w", Arc::new(words) as _), ("n", Arc::new(numbers) as _)]).unwrap();
    let properties =
        parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(300)).build();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let (schema, sink) = read(Form::Native, json!({ "path": path, "column": ["n", "w", "n"] })).await.unwrap();
    assert_eq!(types(&schema), ["Int64", "Utf8", "Int64"]);
    let n: Vec<i64> =
        sink.batches.iter().flat_map(|b| b.column(2).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(n, (0..1000).collect::<Vec<_>>());
    let cut = &std::fs::read(&path).unwrap()[..500];
    let cut = write(folder.path(), "cut.parquet", cut);
    assert_eq!(read(Form::Native, json!({ "path": cut })).await.err().unwrap().kind(), ErrorKind::Data);
    let near = read(Form::Native, json!({ "path": path, "column": ["nn"] })).await.err().unwrap();
    assert_eq!(near.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn one_large_batch_of_arrow_gives_what_many_small_ones_give() {
    use arrow::array::{Int64Array, ListArray, StringArray, StructArray};
    let folder = tempfile::tempdir().unwrap();
    let rows = 40_000;
    let texts = StringArray::from_iter((0..rows).map(|n| (n % 7 > 0).then(|| format!("{n} ").repeat(n % 200))));
    let dictionary = DataType::Dictionary(Box::new(DataType::Int16), Box::new(DataType::Utf8));
    let words = StringArray::from_iter_values((0..rows).map(|n| format!("word {}", n % 9)));
    let words = arrow::compute::cast(&words, &dictionary).unwrap();
    let lists = (0..rows as i64).map(|n| (n % 5 > 0).then(|| (0..n % 4).map(Some)));
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
    let numbers = Arc::new(Int64Array::from_iter_values(0..rows as i64)) as arrow::array::ArrayRef;
    let structs = StructArray::try_from(vec![("n", numbers.clone())]).unwrap();
    let columns = [("n", numbers), ("text", Arc::new(texts) as _), ("word", words), ("list", Arc::new(lists) as _)];
    let batch = RecordBatch::try_from_iter(columns.into_iter().chain([("struct", Arc::new(structs) as _)])).unwrap();
    let mut read_back = Vec::new();
    for (name, step) in [("large.arrow", rows), ("small.arrow", 1000)] {
        let path = folder.path().join(name);
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = arrow::ipc::writer::FileWriter::try_new(file, batch.schema_ref()).unwrap();
        (0..rows).step_by(step).for_each(|from| writer.write(&batch.slice(from, step.min(rows - from))).unwrap());
        writer.finish().unwrap();
        assert!(path.metadata().unwrap().len() > 20_000_000);
        let columns = json!(["n", "text", "word", "list", "struct"]);
        let (_, sink) = read(Form::Native, json!({ "path": path, "column": columns })).await.unwrap();
        read_back.push(arrow::compute::concat_batches(sink.batches[0].schema_ref(), &sink.batches).unwrap());
    }
    assert_eq!(read_back[0].num_rows(), rows);
    assert_eq!(read_back[0], read_back[1]);
}

/// Reads with several channels, each split by a reader of its own, and returns how many splits there were.
async fn read_in_parts(parameters: &Value) -> (usize, Sink) {
    let schema = reader(Form::Native, parameters.clone()).unwrap().schema().await.unwrap();
    let columns = schema.columns.iter().enumerate();
    let columns = columns.map(|(index, c)| ReadColumn { index, field: c.canonical().clone() }).collect();
    let request = ReadRequest { columns, snapshot: None, limit: None };
    let wanted = SplitRequest { channels: 2, max_bytes: 1 << 30, snapshot: None, stable: false, limit: None };
    let splits = reader(Form::Native, parameters.clone()).unwrap().splits(&wanted).await.unwrap();
    let mut sink = Sink::default();
    for split in &splits {
        reader(Form::Native, parameters.clone()).unwrap().read(split, &request, &mut sink).await.unwrap();
    }
    (splits.len(), sink)
}

#[tokio::test]
async fn one_large_file_is_read_in_parts_that_hold_every_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let filler = "x".repeat(2000);
    let count = 18_000;
    let mut csv = String::from("id,text\n");
    let mut lines = String::new();
    for id in 0..count {
        // Line ends and quotes where a careless cut would stand.
        csv.push_str(&format!("{id},\"{filler}\n1,\"\"{id}\n\"\n"));
        lines.push_str(&format!("{{\"id\":{id},\"text\":\"{filler}\"}}\n"));
    }
    csv.push_str("bad,\"\"\n");
    lines.push_str("{\"id\":1.5}\n");
    let list = json!([{ "index": 0, "name": "id", "type": "long" }, { "index": 1, "name": "text", "type": "string" }]);
    let named = json!([{ "name": "id", "type": "long" }, { "name": "text", "type": "string" }]);
    for (name, text, column) in [("a.csv", csv, list), ("a.jsonl", lines, named)] {
        let path = write(folder.path(), name, &text);
        let (splits, sink) = read_in_parts(&json!({ "path": path, "column": column })).await;
        assert_eq!(splits, 2, "{name}");
        let mut ids = Vec::new();
        for batch in &sink.batches {
            ids.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
        }
        assert_eq!(ids, (0..count).collect::<Vec<i64>>(), "{name}");
        assert_eq!(sink.rejected.len(), 1, "{name}");
        // Of a file that was gone over the lines are known.
        let place = if name == "a.csv" { format!("line {}: ", 2 + 3 * count) } else { " after byte ".into() };
        assert!(sink.rejected[0].reason.contains(&place), "{} {place}", sink.rejected[0].reason);
        // The first rows are wanted: no need to cut.
        let all = reader(Form::Native, json!({ "path": path, "column": column })).unwrap();
        let wanted = SplitRequest { channels: 2, max_bytes: 1 << 30, snapshot: None, stable: false, limit: Some(5) };
        assert_eq!(all.splits(&wanted).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_file_that_changed_after_the_plan_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.csv", "a\n1\n");
    let reader = reader(Form::Native, json!({ "path": path })).unwrap();
    let columns = reader.schema().await.unwrap().columns;
    let columns = columns.iter().enumerate().map(|(index, c)| ReadColumn { index, field: c.canonical().clone() });
    let request = ReadRequest { columns: columns.collect(), snapshot: None, limit: None };
    let wanted = SplitRequest { channels: 2, max_bytes: 1 << 30, snapshot: None, stable: false, limit: None };
    let split = reader.splits(&wanted).await.unwrap().remove(0);
    reader.read(&split, &request, &mut Sink::default()).await.unwrap();
    write(folder.path(), "a.csv", "a\n1\n2\n");
    let error = reader.read(&split, &request, &mut Sink::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("a.csv"), "{error}");
    std::fs::remove_file(path).unwrap();
    let error = reader.read(&split, &request, &mut Sink::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn constants_and_repeated_columns_count_for_the_size_of_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..3000).map(|i| format!("{i}{}\n", "y".repeat(900))).collect();
    let path = write(folder.path(), "a.csv", text);
    let one = json!({ "index": 0, "type": "string" });
    let constant = json!({ "name": "c", "value": "z".repeat(3000), "type": "string" });
    let column = json!([one, one, one, one, constant]);
    // The sender of these tests refuses batches that are too large.
    let (_, sink) = read(Form::Native, json!({ "path": path, "header": false, "column": column })).await.unwrap();
    assert_eq!(sink.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 3000);
}

#[tokio::test]
async fn a_zip_archive_of_one_file_is_read_and_what_is_none_is_told() {
    let folder = tempfile::tempdir().unwrap();
    // `a,b\n1,2\n` stored, with its directory cut down to its signature.
    let text = b"a,b\n1,2\n";
    let mut crc = flate2::Crc::new();
    crc.update(text);
    let mut archive = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0".to_vec();
    archive.extend(crc.sum().to_le_bytes());
    archive.extend([8, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, b'a']);
    archive.extend(text);
    archive.extend(b"PK\x01\x02directory");
    let path = write(folder.path(), "a.csv.zip", &archive);
    assert_eq!(read(Form::Native, json!({ "path": path })).await.unwrap().1.rows(), [some(&["1", "2"])]);
    let path = write(folder.path(), "b", &archive);
    let parameters = json!({ "path": path, "compress": "zip", "column": ["*"], "fileFormat": "text" });
    assert_eq!(read(Form::DataX, parameters).await.unwrap().1.rows().len(), 2);
    let path = write(folder.path(), "c.csv.zip", text);
    assert_eq!(read(Form::Native, json!({ "path": path })).await.err().unwrap().kind(), ErrorKind::Data);
}

#[cfg(unix)]
#[test]
fn a_pipe_that_nobody_writes_to_is_waited_for_until_the_run_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.csv");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cancel = tokio_util::sync::CancellationToken::new();
        let context = ConnectorContext {
            cancel: cancel.clone(),
            io: tokio::runtime::Handle::current(),
            form: Form::Native,
            time_zone: chrono_tz::UTC,
            shared: Default::default(),
        };
        let plugin = readers().into_iter().find(|p| p.name == "files").unwrap();
        let column = json!([{ "index": 0, "name": "a", "type": "long" }]);
        let open = |parameters: Value| (plugin.open)(&parameters, &context).unwrap();
        // Its rows cannot be looked at twice.
        let error = open(json!({ "path": path })).schema().await.unwrap_err();
        assert!(error.to_string().contains("pipe"), "{error}");
        let reader = open(json!({ "path": path, "header": false, "column": column }));
        let field = reader.schema().await.unwrap().columns[0].canonical().clone();
        let request = ReadRequest { columns: vec![ReadColumn { index: 0, field }], snapshot: None, limit: None };
        let wanted = SplitRequest { channels: 2, max_bytes: 1 << 30, snapshot: None, stable: false, limit: None };
        let split = reader.splits(&wanted).await.unwrap().remove(0);
        let writer = path.clone();
        let written = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            std::fs::write(writer, "1\n2\n").unwrap();
        });
        let mut sink = Sink::default();
        reader.read(&split, &request, &mut sink).await.unwrap();
        written.join().unwrap();
        assert_eq!(sink.rows(), [some(&["1"]), some(&["2"])]);

        let stop = cancel.clone();
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            stop.cancel();
        });
        let started = weir_plugins_test::Stopwatch::start();
        let error = reader.read(&split, &request, &mut Sink::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(started.is_within(std::time::Duration::from_secs(1)), "{:?}", started.elapsed());
    });
}
