//! Real files, written through the plugin as the runtime does it and read again by the reader.

mod common;

use std::path::Path;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use serde_json::{Value, json};
use weir_core::field::{DECIMAL, JSON, UUID, with_extension};
use weir_core::*;

use common::{Rows, context, read, request, stage, writer};

async fn write(parameters: &Value, run_id: &str, splits: &[Vec<RecordBatch>]) -> Result<Vec<DirtyRow>> {
    let schema = splits.iter().flatten().next().map_or_else(|| sample().schema(), |b| b.schema());
    let (writer, plan, receipts, refused) = stage(Form::Native, parameters, run_id, &schema, splits).await?;
    writer.commit(&plan, &receipts).await?;
    // A commit may be called again by a process that does not know that it happened.
    writer.commit(&plan, &receipts).await?;
    let recorded = writer.recorded(&plan).await?;
    assert!(recorded.published);
    assert_eq!(recorded.receipts.len(), splits.len());
    writer.forget(&plan).await?;
    Ok(refused)
}

fn sample() -> RecordBatch {
    let field = |name: &str, t: DataType| Field::new(name, t, true);
    let schema = Schema::new(vec![
        field("id", DataType::Int64),
        field("name, \"x\"", DataType::Utf8),
        field("price", DataType::Decimal128(12, 2)),
        field("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
        field("day", DataType::Date32),
        with_extension(field("doc", DataType::Utf8), JSON),
        with_extension(field("big", DataType::Utf8), DECIMAL),
        field("flag", DataType::Boolean),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![Some(1), Some(-2), None])),
        Arc::new(StringArray::from(vec![Some("a,\"b\"\r\nü\t\\"), Some(""), None])),
        Arc::new(Decimal128Array::from(vec![Some(1250), Some(-5), None]).with_precision_and_scale(12, 2).unwrap()),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1_709_200_800_123_456), Some(0), None])),
        Arc::new(Date32Array::from(vec![Some(19782), Some(-1), None])),
        Arc::new(StringArray::from(vec![Some("{\"a\": [1.10,\n 2]}"), Some("{}"), None])),
        Arc::new(StringArray::from(vec![Some("123456789012345678901234567890.123456789012"), Some("-0.10"), None])),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn column() -> Value {
    json!([
        { "name": "id", "type": "long" }, { "name": "name, \"x\"", "type": "string" },
        { "name": "price", "type": "decimal(12,2)" }, { "name": "at", "type": "timestamp" },
        { "name": "day", "type": "date" }, { "name": "doc", "type": "json" }, { "name": "big", "type": "decimal" },
        { "name": "flag", "type": "boolean" }
    ])
}

async fn expected() -> Vec<Vec<Option<String>>> {
    let mut rows = Rows::default();
    rows.send(sample()).await.unwrap();
    rows.0
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn every_format_and_compression_comes_back_as_it_went() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let one = expected().await;
    for extension in [
        "csv",
        "tsv",
        "jsonl",
        "csv.gz",
        "csv.zst",
        "csv.bz2",
        "csv.sz",
        "jsonl.gz",
        "jsonl.zst",
        "jsonl.bz2",
        "jsonl.sz",
        "parquet",
        "arrow",
    ] {
        let text = !matches!(extension, "parquet" | "arrow");
        // One file, of two splits and then of one more.
        let path = format!("{root}/one.{extension}");
        let splits = [vec![sample(), sample()], vec![sample()]];
        assert_eq!(write(&json!({ "path": path, "writeMode": "truncate" }), "r1", &splits).await.unwrap(), []);
        write(&json!({ "path": path, "writeMode": "append" }), "r2", &splits[1..]).await.unwrap();
        let mut parameters = json!({ "path": path });
        if text {
            parameters["column"] = column();
        }
        let mut wanted: Vec<_> = one.iter().cycle().take(12).cloned().collect();
        if extension.starts_with("jsonl") {
            // JSON text stays on one line there.
            wanted.iter_mut().for_each(|r| r[5] = r[5].as_ref().map(|t| t.replace('\n', " ")));
        }
        assert_eq!(read(&parameters).await, wanted, "{extension}");

        // A folder, cut into small files.
        let (format, compress) = extension.split_once('.').unwrap_or((extension, "none"));
        let format = if format == "tsv" { "csv" } else { format };
        let path = format!("{root}/many_{}", extension.replace('.', "_"));
        let target = json!({ "path": path, "writeMode": "truncate", "format": format, "compress": compress, "targetFileSize": 1 });
        write(&target, "r1", &[vec![sample(), sample()]]).await.unwrap();
        write(&target, "r2", &[vec![sample(), sample()], vec![sample()]]).await.unwrap();
        let files = names(Path::new(&path));
        assert!(files.len() >= 2 && files.iter().all(|f| f.starts_with("part-r2-")), "{extension} {files:?}");
        parameters["path"] = json!(path);
        wanted.truncate(9);
        assert_eq!(read(&parameters).await, wanted, "{extension}");
    }
    assert!(names(folder.path()).iter().all(|n| !n.starts_with('.')));
}

#[tokio::test]
async fn other_types_have_a_text() {
    let folder = tempfile::tempdir().unwrap();
    let id: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter([[0x12u8; 16]].iter()).unwrap());
    let field = |name: &str, a: &ArrayRef| Field::new(name, a.data_type().clone(), true);
    let columns: Vec<ArrayRef> = vec![
        id.clone(),
        Arc::new(BinaryArray::from(vec![&[0u8, 255][..]])),
        Arc::new(TimestampMicrosecondArray::from(vec![1_500_000]).with_timezone("UTC")),
        Arc::new(Float64Array::from(vec![f64::NAN])),
        Arc::new(UInt64Array::from(vec![u64::MAX])),
        Arc::new(Time64MicrosecondArray::from(vec![3_661_000_001])),
        // A list comes as the JSON that the runtime makes of it.
        Arc::new(StringArray::from(vec!["[1,null]"])),
    ];
    let mut fields: Vec<_> =
        columns.iter().zip(["u", "b", "i", "f", "n", "t", "l"]).map(|(a, n)| field(n, a)).collect();
    fields[0] = with_extension(fields[0].clone(), UUID);
    fields[6] = with_extension(fields[6].clone(), JSON);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let path = folder.path().join("a.csv");
    let target = json!({ "path": path, "writeMode": "truncate", "header": false, "delimiter": "|" });
    write(&target, "r", &[vec![batch.clone()]]).await.unwrap();
    let uuid = "12121212-1212-1212-1212-121212121212";
    let line = format!("{uuid}|\\x00ff|1970-01-01 00:00:01.500Z|NaN|18446744073709551615|01:01:01.000001|[1,null]\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), line);
    let path = folder.path().join("a.jsonl");
    write(&json!({ "path": path, "writeMode": "truncate" }), "r", &[vec![batch]]).await.unwrap();
    let line = format!(
        "{{\"u\":\"{uuid}\",\"b\":\"\\\\x00ff\",\"i\":\"1970-01-01 00:00:01.500Z\",\"f\":\"NaN\",\"n\":18446744073709551615,\
         \"t\":\"01:01:01.000001\",\"l\":[1,null]}}\n"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), line);
}

#[tokio::test]
async fn years_before_one_and_after_9999_come_back_from_text() {
    let folder = tempfile::tempdir().unwrap();
    let days = vec![-735_160, -719_529, -719_528, 2_932_897, -96_465_292, 95_026_236, 0];
    let micros: Vec<i64> = days.iter().map(|day| i64::from(*day) * 86_400_000_000 + 1).collect();
    let batch = RecordBatch::try_from_iter([
        ("d", Arc::new(Date32Array::from(days.clone())) as ArrayRef),
        ("t", Arc::new(TimestampMicrosecondArray::from(micros.clone()))),
        ("i", Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC"))),
    ])
    .unwrap();
    let column = json!([
        { "name": "d", "type": "date" }, { "name": "t", "type": "timestamp" }, { "name": "i", "type": "instant" }
    ]);
    let mut wanted = Rows::default();
    wanted.send(batch.clone()).await.unwrap();
    for format in ["csv", "jsonl"] {
        let path = folder.path().join(format!("far.{format}"));
        write(&json!({ "path": path, "writeMode": "truncate" }), "far", &[vec![batch.clone()]]).await.unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("-0043-03-15"));
        assert_eq!(read(&json!({ "path": path, "column": column })).await, wanted.0, "{format}");
        // Without types they are found out.
        assert_eq!(
            read(&json!({ "path": path })).await.iter().map(|row| &row[0]).collect::<Vec<_>>(),
            wanted.0.iter().map(|row| &row[0]).collect::<Vec<_>>(),
            "{format}"
        );
    }
    // A date format of the job's has no place for a sign.
    let path = folder.path().join("pattern.csv");
    let target = json!({ "path": path, "writeMode": "truncate", "dateFormat": "yyyy-MM-dd" });
    let refused = write(&target, "pattern", &[vec![batch]]).await.unwrap();
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(refused[0].reason.contains("the year -43 has no form"), "{}", refused[0].reason);
}

fn text_batch(values: Vec<Option<&str>>) -> RecordBatch {
    let text: ArrayRef = Arc::new(StringArray::from(values));
    RecordBatch::try_from_iter([("k", text.clone()), ("v", text)]).unwrap()
}

#[tokio::test]
async fn datax_files_have_its_names_and_null() {
    let folder = tempfile::tempdir().unwrap();
    let batch = text_batch(vec![Some("a"), None, Some(""), Some("x,y")]);
    let mut target =
        json!({ "path": folder.path(), "fileName": "out", "writeMode": "truncate", "dateFormat": "yyyy-MM-dd" });
    std::fs::write(folder.path().join("out__old"), "old").unwrap();
    std::fs::write(folder.path().join("other"), "stays").unwrap();
    let splits = [vec![batch.clone()]];
    let (writer, plan, receipts, refused) = stage(Form::DataX, &target, "r", &batch.schema(), &splits).await.unwrap();
    assert_eq!(names(folder.path()), [".weir-r", "other", "out__old"]);
    writer.commit(&plan, &receipts).await.unwrap();
    writer.forget(&plan).await.unwrap();
    assert_eq!(names(folder.path()), ["other", "out__r_0_0"]);
    assert_eq!(std::fs::read_to_string(folder.path().join("out__r_0_0")).unwrap(), "a,a\nnull,null\n,\n");
    assert_eq!(refused.len(), 1);
    assert!(refused[0].reason.contains("csv"));

    target["writeMode"] = json!("nonConflict");
    let error = stage(Form::DataX, &target, "r", &batch.schema(), &splits).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    for (key, value, schema) in
        [("fileFormat", "csv", "x,y"), ("fileFormat", "sql", "INSERT INTO \"t\" (\"k\", \"v\") VALUES ('a', 'a');\n")]
    {
        target["writeMode"] = json!("append");
        target["table"] = json!("t");
        target[key] = json!(value);
        let (writer, plan, receipts, _) = stage(Form::DataX, &target, value, &batch.schema(), &splits).await.unwrap();
        writer.commit(&plan, &receipts).await.unwrap();
        writer.forget(&plan).await.unwrap();
        let text = std::fs::read_to_string(folder.path().join(format!("out__{value}_0_0"))).unwrap();
        assert!(text.contains(schema), "{text}");
    }
}

#[tokio::test]
async fn an_append_to_other_columns_is_refused_before_a_row_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let columns = |fields: &[(&str, DataType)]| {
        Schema::new(fields.iter().map(|(name, t)| Field::new(*name, t.clone(), true)).collect::<Vec<_>>())
    };
    for extension in ["parquet", "arrow"] {
        let path = folder.path().join(format!("a.{extension}"));
        let there = Arc::new(columns(&[("k", DataType::Utf8), ("n", DataType::Int32)]));
        let rows: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["a"])), Arc::new(Int32Array::from(vec![1]))];
        let splits = [vec![RecordBatch::try_new(there.clone(), rows).unwrap()]];
        write(&json!({ "path": path, "writeMode": "truncate" }), "r", &splits).await.unwrap();
        let target = json!({ "path": path, "writeMode": "append" });
        let appending = writer(Form::Native, &target).unwrap();
        appending.plan(&request(&there, "r")).await.unwrap();
        for (fields, said) in [
            (&[("k", DataType::Utf8), ("n", DataType::Int64)][..], "`n` is Int32 in it, and Int64 in the rows"),
            (&[("n", DataType::Int32), ("k", DataType::Utf8)], "where it has `k` they have `n`"),
            (&[("k", DataType::Utf8)], "the rows have no `n`"),
            (&[("k", DataType::Utf8), ("n", DataType::Int32), ("m", DataType::Utf8)], "it has no `m`"),
        ] {
            let error = appending.plan(&request(&columns(fields), "r")).await.unwrap_err();
            let text = error.full();
            assert!(error.kind() == ErrorKind::Schema && text.contains(said), "{extension}: {text}");
            assert!(text.contains(&path.display().to_string()), "{text}");
        }
    }
}

#[tokio::test]
async fn nothing_is_seen_before_commit_and_abort_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sub/a.csv");
    let target = json!({ "path": path, "writeMode": "nonConflict" });
    let batch = text_batch(vec![Some("a")]);
    let splits = [vec![batch.clone()], vec![]];
    let (writer, plan, receipts, _) = stage(Form::Native, &target, "r", &batch.schema(), &splits).await.unwrap();
    assert!(!path.exists());
    writer.abort(&plan, &receipts).await.unwrap();
    assert_eq!(names(path.parent().unwrap()), Vec::<String>::new());

    // A task that fails takes its part along.
    writer.prepare(&plan).await.unwrap();
    let id = TaskId { run_id: "r".into(), split: 0, table: "t".into(), attempt: 2 };
    let mut task = writer.open(&plan, &id).await.unwrap();
    task.write(&RecordBatch::try_new(plan.input_schema(), batch.columns().to_vec()).unwrap(), &mut Refused::default())
        .await
        .unwrap();
    drop(task);
    assert_eq!(names(&path.parent().unwrap().join(".weir-r/a.csv")), Vec::<String>::new());
    writer.abort(&plan, &[]).await.unwrap();

    write(&target, "r", &splits).await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "k,v\na,a\n");
    let error = write(&target, "r2", &splits).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(names(path.parent().unwrap()), ["a.csv"]);
}

#[tokio::test]
async fn an_empty_source_leaves_a_header_or_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    std::fs::write(&path, "old").unwrap();
    let mut target = json!({ "path": path, "writeMode": "truncate", "onEmpty": "keep" });
    write(&target, "r0", &[]).await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    target["onEmpty"] = json!("error");
    assert_eq!(write(&target, "r", &[]).await.unwrap_err().kind(), ErrorKind::Data);
    target["onEmpty"] = json!("overwrite");
    write(&target, "r", &[]).await.unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("id,\"name, \"\"x\"\"\",price"));
    let parquet = folder.path().join("p");
    write(&json!({ "path": parquet, "writeMode": "truncate", "format": "parquet" }), "r", &[]).await.unwrap();
    assert_eq!(read(&json!({ "path": parquet })).await.len(), 0);
}

#[tokio::test]
async fn encodings_refuse_what_they_have_no_code_for_and_faults_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let target = json!({ "path": path, "writeMode": "truncate", "encoding": "gbk", "header": false });
    let refused = write(&target, "r", &[vec![text_batch(vec![Some("日"), Some("😀")])]]).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"\xc8\xd5,\xc8\xd5\n");
    assert!(refused.len() == 1 && refused[0].reason.contains('😀'));
    for (parameters, pointer) in [
        (json!({ "path": "x.csv" }), "/writeMode"),
        (json!({ "path": "x.csv", "writeMode": "upsert" }), "/writeMode"),
        (json!({ "path": "x", "writeMode": "append" }), "/format"),
        (json!({ "writeMode": "append" }), "/path"),
        (json!({ "path": "x.csv", "writeMode": "append", "compress": "zip" }), "/compress"),
        (json!({ "path": "x.parquet.gz", "writeMode": "append" }), "/path"),
        (json!({ "path": "https://h/x.csv", "writeMode": "append" }), "/path"),
    ] {
        let faults = writer(Form::Native, &parameters).err().unwrap();
        assert_eq!(faults.0[0].pointer, pointer, "{faults}");
    }
    let error = write(&json!({ "path": folder.path().join("a.csv/b.csv"), "writeMode": "append" }), "r", &[])
        .await
        .unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Conflict), "{error:?}");
}

/// Native types, labels of enumerations and everything else that a field says of itself.
fn told(batch: &RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let fields = schema.fields().iter().map(|f| {
        let labels = [("weir.enum".to_owned(), "[\"a\",\"b,c\"]".to_owned())];
        let field = f.as_ref().clone().with_metadata(labels.into());
        field::with_native_type(field, "postgresql", &format!("own type of {}", f.name()))
    });
    RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), batch.columns().to_vec()).unwrap()
}

#[tokio::test]
async fn columns_keep_their_native_types_and_nanoseconds_through_files() {
    let folder = tempfile::tempdir().unwrap();
    let nanos = vec![Some(1_709_200_800_123_456_789), Some(-1), Some(i64::MIN + 1), Some(i64::MAX), None];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("at", Arc::new(TimestampNanosecondArray::from(nanos.clone()))),
        ("instant", Arc::new(TimestampNanosecondArray::from(nanos).with_timezone("UTC"))),
        ("big", Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(0), None, Some(1), Some(2)]))),
        ("text", Arc::new(StringArray::from(vec![Some("\\N"), Some(""), None, Some("\0"), Some("\u{feff}e\u{301}")]))),
        ("float", Arc::new(Float64Array::from(vec![Some(-0.0), Some(f64::MAX), Some(5e-324), None, Some(f64::NAN)]))),
    ];
    let batch =
        told(&RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap());
    for extension in ["parquet", "arrow"] {
        let path = folder.path().join(format!("a.{extension}"));
        write(&json!({ "path": path, "writeMode": "truncate" }), "r", &[vec![batch.clone()], vec![batch.clone()]])
            .await
            .unwrap();
        let plugin = readers().into_iter().find(|p| p.name == "files").unwrap();
        let reader = (plugin.open)(&json!({ "path": path }), &context(Form::Native)).unwrap();
        let fields: Vec<Field> = reader.schema().await.unwrap().columns.iter().map(|c| c.canonical().clone()).collect();
        assert_eq!(
            fields,
            batch.schema().fields().iter().map(|f| f.as_ref().clone()).collect::<Vec<_>>(),
            "{extension}"
        );
        let mut wanted = Rows::default();
        wanted.send(batch.clone()).await.unwrap();
        wanted.send(batch.clone()).await.unwrap();
        assert_eq!(read(&json!({ "path": path })).await, wanted.0, "{extension}");
    }
}

#[tokio::test]
async fn null_and_texts_that_look_like_it_stay_apart() {
    let folder = tempfile::tempdir().unwrap();
    let values =
        vec![None, Some(""), Some("\\N"), Some("null"), Some("NULL"), Some(" "), Some("\u{feff}x"), Some("a\nb")];
    let one = RecordBatch::try_from_iter_with_nullable([("v", Arc::new(StringArray::from(values)) as ArrayRef, true)]);
    let one = one.unwrap();
    let mut wanted = Rows::default();
    wanted.send(one.clone()).await.unwrap();
    for (number, parameters) in [
        json!({}),
        json!({ "nullFormat": "\\N" }),
        json!({ "nullFormat": "null" }),
        json!({ "header": false }),
        json!({ "nullFormat": "NULL", "header": false }),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(format!("{number}.csv"));
        let mut target = parameters.clone();
        target["path"] = json!(path);
        target["writeMode"] = json!("truncate");
        write(&target, "r", &[vec![one.clone()]]).await.unwrap();
        let mut source = parameters;
        source["path"] = json!(path);
        source["column"] = json!([{ "index": 0, "name": "v", "type": "string" }]);
        assert_eq!(read(&source).await, wanted.0, "{source} {:?}", std::fs::read_to_string(&path));
    }
    // Without quotes there is no telling them apart, and the plan says so.
    let target = json!({ "path": folder.path().join("x.csv"), "writeMode": "truncate", "quoteStyle": "none" });
    let plan = writer(Form::Native, &target).unwrap().plan(&request(&one.schema(), "r")).await.unwrap();
    assert!(plan.warnings.iter().any(|w| w.contains("NULL")), "{:?}", plan.warnings);
}

#[tokio::test]
async fn large_cells_go_through() {
    let folder = tempfile::tempdir().unwrap();
    for (name, size) in [("a.parquet", 64 << 20), ("a.csv", 2 << 20), ("a.jsonl", 2 << 20)] {
        let cell = "a\"b,\n日".repeat(size / 8);
        let batch = text_batch(vec![Some(&cell), Some("small")]);
        let path = folder.path().join(name);
        write(&json!({ "path": path, "writeMode": "truncate" }), "r", &[vec![batch]]).await.unwrap();
        let rows = read(&json!({ "path": path })).await;
        assert!(rows.len() == 2 && rows[0].iter().all(|c| c.as_deref() == Some(cell.as_str())), "{name}");
    }
}

#[tokio::test]
async fn no_column_of_a_table_is_named_as_its_partition() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop/orders/pt=20260102/");
    let parameters = json!({"path": path, "format": "parquet", "writeMode": "truncate"});
    let target = writer(Form::Native, &parameters).unwrap();
    let asked = |column: &str, whole: bool| {
        let schema = Schema::new(vec![Field::new(column, DataType::Utf8, true)]);
        let described = whole.then(|| TableDescription {
            name: ObjectName { database: "shop".into(), schema: None, table: "orders".into() },
            kind: ObjectKind::Table,
            columns: Vec::new(),
            primary_key: Vec::new(),
            unique: Vec::new(),
            foreign_keys: Vec::new(),
            comment: None,
        });
        WriteRequest { described, ..request(&schema, "r") }
    };
    let error = target.plan(&asked("Pt", true)).await.unwrap_err();
    let said = error.message();
    assert!(said.contains("`Pt`") && said.contains("another `field`") && said.contains(r#"{"Pt": false}"#), "{said}");
    assert!(target.plan(&asked("day", true)).await.is_ok());
    assert!(target.plan(&asked("pt", false)).await.is_ok(), "a job that names its folder itself means it so");
}
