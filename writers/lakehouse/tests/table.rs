//! Real Delta tables in temporary folders, written and read back.

mod common;

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Date32Type, Field, Int32Type, Schema, TimeUnit};
use common::{files, plan, read, rows, run, task, writer};
use serde_json::json;
use weir_core::field::{DECIMAL, JSON, KEY, UUID, with_extension, with_metadata, with_native_type};
use weir_core::{ErrorKind, Refused};

fn people(ids: &[i64], names: &[Option<&str>]) -> RecordBatch {
    let id = with_metadata(Field::new("Id", DataType::Int64, false), KEY, "1");
    let schema = Schema::new(vec![id, Field::new("naïve name", DataType::Utf8, true)]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(StringArray::from(names.to_vec()))];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_make_versions_that_stay_readable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people");
    let first = [people(&[1], &[Some("a")]), people(&[2], &[None])];
    let done = run(&path, json!({}), "one", &first).await.unwrap();
    assert!(done.description.contains("version 0"), "{}", done.description);
    let done = run(&path, json!({}), "two", &[people(&[3], &[Some("")])]).await.unwrap();
    assert!(done.description.contains("version 1"), "{}", done.description);

    assert_eq!(rows(&read(&path, json!({})).await.unwrap()), ["1|a", "2|NULL", "3|"]);
    assert_eq!(rows(&read(&path, json!({"version": 0})).await.unwrap()), ["1|a", "2|NULL"]);
    assert_eq!(read(&path, json!({"version": 9})).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(
        rows(&read(&path, json!({"column": ["NAÏVE name"], "where": "\"Id\" > 1"})).await.unwrap()),
        ["", "NULL"]
    );
    let error = read(&path, json!({"column": ["idd"]})).await.unwrap_err();
    assert!(error.message().contains("did you mean `Id`"), "{error}");
    assert!(read(&path, json!({"where": "nonsense ="})).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_comes_back_as_it_was() {
    let micros = TimeUnit::Microsecond;
    let columns: Vec<(Field, ArrayRef)> = vec![
        (Field::new("i8", DataType::Int8, true), Arc::new(Int8Array::from(vec![Some(i8::MIN), None]))),
        (Field::new("i16", DataType::Int16, true), Arc::new(Int16Array::from(vec![Some(i16::MAX), None]))),
        (Field::new("i32", DataType::Int32, true), Arc::new(Int32Array::from(vec![Some(i32::MIN), None]))),
        (Field::new("i64", DataType::Int64, true), Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
        (Field::new("u8", DataType::UInt8, true), Arc::new(UInt8Array::from(vec![Some(u8::MAX), None]))),
        (Field::new("u16", DataType::UInt16, true), Arc::new(UInt16Array::from(vec![Some(u16::MAX), None]))),
        (Field::new("u32", DataType::UInt32, true), Arc::new(UInt32Array::from(vec![Some(u32::MAX), None]))),
        (Field::new("u64", DataType::UInt64, true), Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]))),
        (Field::new("f32", DataType::Float32, true), Arc::new(Float32Array::from(vec![Some(f32::NAN), None]))),
        (Field::new("f64", DataType::Float64, true), Arc::new(Float64Array::from(vec![Some(f64::NEG_INFINITY), None]))),
        (Field::new("flag", DataType::Boolean, true), Arc::new(BooleanArray::from(vec![Some(true), None]))),
        (Field::new("text", DataType::Utf8, true), Arc::new(StringArray::from(vec![Some("a\0😀"), None]))),
        (
            Field::new("bytes", DataType::Binary, true),
            Arc::new(BinaryArray::from(vec![Some([0u8, 255].as_slice()), None])),
        ),
        (Field::new("date", DataType::Date32, true), Arc::new(Date32Array::from(vec![Some(-719_162), None]))),
        (
            Field::new("number", DataType::Decimal128(38, 10), true),
            Arc::new(
                Decimal128Array::from(vec![Some(10i128.pow(38) - 1), None]).with_precision_and_scale(38, 10).unwrap(),
            ),
        ),
        (
            Field::new("instant", DataType::Timestamp(micros, Some("UTC".into())), true),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None]).with_timezone("UTC")),
        ),
        (
            Field::new("local", DataType::Timestamp(micros, None), true),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(253_402_300_799_999_999), None])),
        ),
        (
            Field::new("time", DataType::Time64(micros), true),
            Arc::new(Time64MicrosecondArray::from(vec![Some(86_399_999_999), None])),
        ),
        (
            Field::new("span", DataType::Duration(micros), true),
            Arc::new(DurationMicrosecondArray::from(vec![Some(-5), None])),
        ),
        (
            Field::new("list", DataType::List(Arc::new(Field::new("element", DataType::Int32, true))), true),
            Arc::new(ListArray::new(
                Arc::new(Field::new("element", DataType::Int32, true)),
                arrow::buffer::OffsetBuffer::from_lengths([2, 0]),
                Arc::new(Int32Array::from(vec![Some(1), None])),
                Some(vec![true, false].into()),
            )),
        ),
        (
            with_extension(Field::new("json", DataType::Utf8, true), JSON),
            Arc::new(StringArray::from(vec![Some("{\"a\": 1.0}"), None])),
        ),
        (
            with_extension(Field::new("digits", DataType::Utf8, true), DECIMAL),
            Arc::new(StringArray::from(vec![Some("NaN"), None])),
        ),
        (
            with_extension(Field::new("uuid", DataType::FixedSizeBinary(16), true), UUID),
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some([7u8; 16]), None].into_iter(), 16).unwrap(),
            ),
        ),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(f, _)| with_native_type(f.clone(), "postgresql", &format!("pg {}", f.name()))).collect();
    let batch =
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, a)| a).collect()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), json!({}), "one", std::slice::from_ref(&batch)).await.unwrap();
    // Into the table that is there now, too.
    run(folder.path(), json!({"writeMode": "overwrite"}), "two", std::slice::from_ref(&batch)).await.unwrap();
    let back = read(folder.path(), json!({})).await.unwrap();
    for (index, field) in batch.schema_ref().fields().iter().enumerate() {
        assert_eq!(field, &back.schema_ref().fields()[index]);
        assert_eq!(batch.column(index), back.column(index), "{}", field.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn years_that_statistics_cannot_tell_are_refused_row_by_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("far");
    // The first and the last day that fit, one beyond each, and years of five digits and before 1.
    let days = [-96_465_292, 95_026_236, -96_465_293, 95_026_237, i32::MIN, i32::MAX, 2_932_897, -735_160];
    let micros = |day: &i32| i64::from(*day).checked_mul(86_400_000_000).unwrap_or(i64::MAX);
    let lists = ListArray::from_iter_primitive::<Date32Type, _, _>(days.iter().map(|day| Some(vec![Some(*day)])));
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(Int32Array::from_iter_values(0..8)) as ArrayRef),
        ("d", Arc::new(Date32Array::from(days.to_vec()))),
        ("t", Arc::new(TimestampMicrosecondArray::from_iter_values(days.iter().map(micros)))),
    ])
    .unwrap();
    let writer = writer(&path, json!({}));
    let plan = plan(writer.as_ref(), &batch, "far").await.unwrap();
    writer.prepare(&plan).await.unwrap();
    let (receipt, refused) = task(writer.as_ref(), &plan, 0, &batch).await;
    let columns: Vec<_> = refused.iter().map(|r| r.column.as_deref().unwrap()).collect();
    assert_eq!(columns, ["d"; 4], "{refused:?}");
    assert!(refused[0].reason.contains("262142"), "{}", refused[0].reason);
    writer.commit(&plan, &[receipt]).await.unwrap();
    assert_eq!(read(&path, json!({})).await.unwrap().num_rows(), 4);
    assert_eq!(read(&path, json!({"where": "d > '9999-12-31'"})).await.unwrap().num_rows(), 2);

    // Statistics are of what lists hold, too.
    let path = folder.path().join("lists");
    let batch = RecordBatch::try_from_iter([("d", Arc::new(lists) as ArrayRef)]).unwrap();
    let writer = common::writer(&path, json!({}));
    let plan = common::plan(writer.as_ref(), &batch, "lists").await.unwrap();
    writer.prepare(&plan).await.unwrap();
    let (receipt, refused) = task(writer.as_ref(), &plan, 0, &batch).await;
    assert_eq!(refused.len(), 4, "{refused:?}");
    writer.commit(&plan, &[receipt]).await.unwrap();
    let back = read(&path, json!({})).await.unwrap();
    let kept: Vec<_> = back.column(0).as_list::<i32>().values().as_primitive::<Date32Type>().values().to_vec();
    assert_eq!(kept, [days[0], days[1], days[6], days[7]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overwrite_replaces_the_table_or_one_partition() {
    let folder = tempfile::tempdir().unwrap();
    let day = |pt: &str, mode: &str| json!({"partition": {"pt": pt}, "writeMode": mode});
    run(folder.path(), day("20250101", "append"), "a", &[people(&[1], &[Some("a")])]).await.unwrap();
    run(folder.path(), day("20250102", "append"), "b", &[people(&[2, 3], &[Some("b"), Some("c")])]).await.unwrap();
    run(folder.path(), day("20250102", "overwrite"), "c", &[people(&[4], &[Some("d")])]).await.unwrap();
    assert_eq!(rows(&read(folder.path(), json!({})).await.unwrap()), ["1|a|20250101", "4|d|20250102"]);
    assert_eq!(
        rows(&read(folder.path(), json!({"where": "pt = '20250101'", "column": ["pt", "Id"]})).await.unwrap()),
        ["20250101|1"]
    );
    assert!(folder.path().join("pt=20250101").is_dir());

    let empty = people(&[], &[]);
    let keep = |how: &str| json!({"writeMode": "overwrite", "partition": {"pt": "20250102"}, "onEmpty": how});
    run(folder.path(), keep("keep"), "d", std::slice::from_ref(&empty)).await.unwrap();
    let error = run(folder.path(), keep("error"), "e", std::slice::from_ref(&empty)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert_eq!(read(folder.path(), json!({})).await.unwrap().num_rows(), 2);
    run(folder.path(), keep("overwrite"), "f", &[empty]).await.unwrap();
    assert_eq!(rows(&read(folder.path(), json!({})).await.unwrap()), ["1|a|20250101"]);

    let target = writer(folder.path(), day("20250101", "append")).target().await.unwrap();
    assert!(target.exists && target.columns[2].generated && !target.columns[0].nullable);
    let error =
        run(folder.path(), json!({"partition": {"day": "1"}}), "g", &[people(&[1], &[None])]).await.unwrap_err();
    assert!(error.message().contains("`day`"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_of_the_source_can_be_the_partition() {
    let batch = |days: &[i32]| {
        RecordBatch::try_from_iter([
            ("day", Arc::new(Date32Array::from(days.to_vec())) as ArrayRef),
            ("n", Arc::new(Int32Array::from_iter_values(0..days.len() as i32))),
        ])
        .unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), json!({"partitionBy": "day"}), "a", &[batch(&[0, 1, 0])]).await.unwrap();
    let back = read(folder.path(), json!({"where": "day = date '1970-01-01'"})).await.unwrap();
    assert_eq!(rows(&back), ["1970-01-01|0", "1970-01-01|2"]);
    // A constant that the rows have to agree with.
    let writer = writer(folder.path(), json!({"partition": {"day": "1970-01-02"}, "writeMode": "overwrite"}));
    let values = batch(&[1, 5]);
    let plan = plan(writer.as_ref(), &values, "b").await.unwrap();
    let (receipt, refused) = task(writer.as_ref(), &plan, 0, &values).await;
    assert_eq!((receipt.rows, refused.len(), refused[0].column.as_deref()), (1, 1, Some("day")));
    writer.commit(&plan, &[receipt]).await.unwrap();
    assert_eq!(rows(&read(folder.path(), json!({})).await.unwrap()), ["1970-01-01|0", "1970-01-01|2", "1970-01-02|0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upsert_updates_and_inserts_and_the_last_row_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people");
    let upsert = json!({"writeMode": "upsert"});
    let first = [people(&[1, 2, 2], &[Some("a"), Some("old"), Some("b")]), people(&[1], &[Some("A")])];
    let done = run(&path, upsert.clone(), "one", &first).await.unwrap();
    assert_eq!(done.rows, Some(2));
    assert_eq!(rows(&read(&path, json!({})).await.unwrap()), ["1|A", "2|b"]);

    let done = run(&path, upsert.clone(), "two", &[people(&[2, 3, 3], &[None, Some("x"), Some("c")])]).await.unwrap();
    assert_eq!(done.rows, Some(2), "{}", done.description);
    assert_eq!(rows(&read(&path, json!({})).await.unwrap()), ["1|A", "2|NULL", "3|c"]);
    assert!(!files(&path).iter().any(|f| f.starts_with("_weir")), "{:?}", files(&path));

    // Only the columns that the job writes change.
    let only_key = people(&[1, 9], &[None, None]).project(&[0]).unwrap();
    run(&path, upsert, "three", &[only_key]).await.unwrap();
    assert_eq!(rows(&read(&path, json!({})).await.unwrap()), ["1|A", "2|NULL", "3|c", "9|NULL"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upsert_needs_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let batch =
        RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef)]).unwrap();
    let error =
        run(folder.path(), json!({"writeMode": "upsert"}), "a", std::slice::from_ref(&batch)).await.unwrap_err();
    assert!(error.message().contains("`key`"), "{error}");
    let writer = writer(folder.path(), json!({"writeMode": "upsert", "key": "n"}));
    let plan = plan(writer.as_ref(), &batch, "b").await.unwrap();
    let (receipt, refused) = task(writer.as_ref(), &plan, 0, &batch).await;
    assert_eq!((receipt.rows, refused.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aborted_run_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for parameters in [json!({}), json!({"writeMode": "upsert"}), json!({"partition": {"pt": "x"}})] {
        let path = folder.path().join("people");
        let writer = writer(&path, parameters);
        let batch = people(&[1], &[None]);
        let plan = plan(writer.as_ref(), &batch, "run").await.unwrap();
        writer.prepare(&plan).await.unwrap();
        let (receipt, _) = task(writer.as_ref(), &plan, 0, &batch).await;
        assert!(!path.join("_delta_log").exists());
        writer.abort(&plan, &[receipt]).await.unwrap();
        assert!(!path.exists(), "{:?}", files(&path));
    }
    // Files of a run that was published stay, also when it is aborted afterwards.
    let path = folder.path().join("kept");
    let writer = writer(&path, json!({}));
    let batch = people(&[1], &[None]);
    let plan = plan(writer.as_ref(), &batch, "run").await.unwrap();
    writer.prepare(&plan).await.unwrap();
    let receipts = [task(writer.as_ref(), &plan, 0, &batch).await.0];
    writer.commit(&plan, &receipts).await.unwrap();
    writer.abort(&plan, &receipts).await.unwrap();
    assert_eq!(read(&path, json!({})).await.unwrap().num_rows(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_task_takes_its_file_back() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(folder.path(), json!({}));
    let batch = people(&[1], &[None]);
    let plan = plan(writer.as_ref(), &batch, "run").await.unwrap();
    let task = weir_core::TaskId { run_id: "run".into(), split: 0, table: "t".into(), attempt: 1 };
    let mut open = writer.open(&plan, &task).await.unwrap();
    open.write(&RecordBatch::try_new(plan.input_schema(), batch.columns().to_vec()).unwrap(), &mut Refused::default())
        .await
        .unwrap();
    drop(open);
    for _ in 0..100 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        if files(folder.path()).is_empty() {
            return;
        }
    }
    panic!("{:?}", files(folder.path()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_at_the_same_time_all_arrive() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), json!({}), "start", &[people(&[0], &[None])]).await.unwrap();
    let tasks: Vec<_> = (1..=6)
        .map(|n| {
            let path = folder.path().to_owned();
            tokio::spawn(async move { run(&path, json!({}), &format!("run{n}"), &[people(&[n], &[None])]).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let back = read(folder.path(), json!({})).await.unwrap();
    assert_eq!(rows(&back).len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_with_other_columns_takes_what_fits() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), json!({}), "a", &[people(&[1], &[Some("a")])]).await.unwrap();
    // A narrower type: the plan asks for the table's own.
    let id = RecordBatch::try_from_iter([("Id", Arc::new(Int32Array::from(vec![2])) as ArrayRef)]).unwrap();
    assert_eq!(id.column(0).as_primitive::<Int32Type>().value(0), 2);
    run(folder.path(), json!({}), "b", &[id]).await.unwrap();
    assert_eq!(rows(&read(folder.path(), json!({})).await.unwrap()), ["1|a", "2|NULL"]);

    let no_id = people(&[1], &[Some("a")]).project(&[1]).unwrap();
    let error = run(folder.path(), json!({}), "c", &[no_id]).await.unwrap_err();
    assert!(error.message().contains("`Id` does not take NULL"), "{error}");
    let other = RecordBatch::try_from_iter([("other", Arc::new(Int32Array::from(vec![2])) as ArrayRef)]).unwrap();
    let error = run(folder.path(), json!({}), "d", &[other]).await.unwrap_err();
    assert!(error.message().contains("no column `other`"), "{error}");

    // NULL in a column that takes none is a dirty row.
    let writer = writer(folder.path(), json!({}));
    let nullable = RecordBatch::try_from_iter_with_nullable([(
        "Id",
        Arc::new(Int64Array::from(vec![Some(5), None])) as ArrayRef,
        true,
    )])
    .unwrap();
    let plan = plan(writer.as_ref(), &nullable, "e").await.unwrap();
    let (receipt, refused) = task(writer.as_ref(), &plan, 0, &nullable).await;
    assert_eq!((receipt.rows, refused.len(), refused[0].column.as_deref()), (1, 1, Some("Id")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_table_is_made_only_if_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none");
    let error = run(&path, json!({"createTable": false}), "a", &[people(&[1], &[None])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(read(&path, json!({})).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!path.exists());
    // An empty source makes an empty table.
    run(&path, json!({}), "b", &[people(&[], &[])]).await.unwrap();
    assert_eq!(read(&path, json!({})).await.unwrap().num_rows(), 0);
    let checks = writer(&path, json!({})).check().await;
    assert!(checks.iter().all(|c| c.outcome == weir_core::CheckOutcome::Ok), "{checks:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runs_do_not_create_the_same_table() {
    let folder = tempfile::tempdir().unwrap();
    for mode in ["append", "upsert"] {
        let path = folder.path().join(mode);
        let late = writer(&path, json!({"writeMode": mode}));
        let batch = people(&[1], &[Some("late")]);
        let late_plan = plan(late.as_ref(), &batch, "late").await.unwrap();
        late.prepare(&late_plan).await.unwrap();
        let receipts = [task(late.as_ref(), &late_plan, 0, &batch).await.0];
        run(&path, json!({"writeMode": mode}), "early", &[people(&[1], &[Some("early")])]).await.unwrap();
        let error = late.commit(&late_plan, &receipts).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        late.abort(&late_plan, &receipts).await.unwrap();
        assert_eq!(rows(&read(&path, json!({})).await.unwrap()), ["1|early"]);
        let left = files(&path);
        assert_eq!(left.iter().filter(|f| f.ends_with(".parquet")).count(), 1, "{left:?}");
    }
}
