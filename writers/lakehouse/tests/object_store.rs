//! Tables in an S3-compatible object store.

mod common;

use std::path::Path;
use std::sync::Arc;

use arrow::array::*;
use common::{attempt, plan, read, rows, run, task, writer};
use serde_json::{Value, json};
use weir_core::field::{KEY, with_metadata};
use weir_core::{ErrorKind, MappedColumn, TableChange};
use weir_plugins_test::s3::{ACCESS_KEY, Bucket, REGION, SECRET_KEY, fresh_bucket};

fn people(ids: &[i64], name: &str) -> RecordBatch {
    let id = with_metadata(arrow::datatypes::Field::new("id", arrow::datatypes::DataType::Int64, false), KEY, "1");
    let name_field = arrow::datatypes::Field::new("name", arrow::datatypes::DataType::Utf8, true);
    let names: StringArray = ids.iter().map(|_| Some(name)).collect();
    let schema = arrow::datatypes::Schema::new(vec![id, name_field]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(names)]).unwrap()
}

/// The parameters for a table of the bucket; `more` are added.
fn with(bucket: &Bucket, mut more: Value) -> Value {
    more["storageOptions"] = json!({
        "endpoint": bucket.endpoint(),
        "accessKeyId": ACCESS_KEY,
        "secretAccessKey": SECRET_KEY,
        "region": REGION,
    });
    more
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_appended_to_overwritten_merged_and_read() {
    let bucket = fresh_bucket("lake");
    let url = bucket.url("my lake/people");
    let path = Path::new(&url);
    let back = async || rows(&read(path, with(&bucket, json!({}))).await.unwrap());
    let missing = read(path, with(&bucket, json!({}))).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);

    let done = run(path, with(&bucket, json!({})), "one", &[people(&[1], "a"), people(&[2], "b")]).await.unwrap();
    assert!(done.description.contains("version 0") && done.warnings.is_empty(), "{done:?}");
    run(path, with(&bucket, json!({})), "two", &[people(&[3], "c")]).await.unwrap();
    assert_eq!(back().await, ["1|a", "2|b", "3|c"]);
    run(path, with(&bucket, json!({"writeMode": "upsert"})), "three", &[people(&[3, 4], "d")]).await.unwrap();
    assert_eq!(back().await, ["1|a", "2|b", "3|d", "4|d"]);
    run(path, with(&bucket, json!({"writeMode": "overwrite"})), "four", &[people(&[9], "e")]).await.unwrap();
    assert_eq!(back().await, ["9|e"]);
    assert_eq!(rows(&read(path, with(&bucket, json!({"version": 1}))).await.unwrap()).len(), 3);
    // The server keeps the folders of deleted objects.
    let left = common::files(&bucket.folder().join("my lake/people/_weir"));
    assert!(!left.iter().any(|f| f.contains('.')), "{left:?}");

    let config = weir_core::config::parse(&with(&bucket, json!({"path": bucket.url("my lake")}))).unwrap();
    let location = weir_lakehouse::Location::new(&config, &common::context()).unwrap();
    let catalog = weir_lakehouse::LakehouseCatalog::new(location, common::context());
    let tables = weir_core::Catalog::tables(&catalog, None).await.unwrap();
    assert_eq!((tables.len(), tables[0].name.as_str(), tables[0].rows), (1, "people", Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_replaced() {
    let bucket = fresh_bucket("partitions");
    let url = bucket.url("days");
    let path = Path::new(&url);
    let day = |pt: &str, mode: &str| with(&bucket, json!({"partition": {"PT": pt}, "writeMode": mode}));
    run(path, day("a b", "append"), "one", &[people(&[1], "a")]).await.unwrap();
    run(path, day("c", "append"), "two", &[people(&[2], "b")]).await.unwrap();
    run(path, day("a b", "overwrite"), "three", &[people(&[3], "c")]).await.unwrap();
    assert_eq!(rows(&read(path, with(&bucket, json!({}))).await.unwrap()), ["2|b|c", "3|c|a b"]);
}

/// A version, and the record of a split, is an object that must not be there yet: the server has to say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_created_once() {
    let bucket = fresh_bucket("once");
    let url = bucket.url("people");
    let path = Path::new(&url);
    run(path, with(&bucket, json!({})), "start", &[people(&[0], "a")]).await.unwrap();
    let runs: Vec<_> = (1..=6)
        .map(|n| {
            let (url, parameters) = (url.clone(), with(&bucket, json!({})));
            tokio::spawn(
                async move { run(Path::new(&url), parameters, &format!("run{n}"), &[people(&[n], "b")]).await },
            )
        })
        .collect();
    for run in runs {
        run.await.unwrap().unwrap();
    }
    assert_eq!(read(path, with(&bucket, json!({}))).await.unwrap().num_rows(), 7);

    let writer = writer(path, with(&bucket, json!({})));
    let batch = people(&[8], "c");
    let made = plan(writer.as_ref(), &batch, "run").await.unwrap();
    let receipt = task(writer.as_ref(), &made, 0, &batch).await.0;
    let again = attempt(writer.as_ref(), &made, 0, 2, &batch).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict, "{}", again.full());
    assert_eq!(writer.recorded(&made).await.unwrap().receipts, std::slice::from_ref(&receipt));
    writer.abort(&made, &[]).await.unwrap();
    assert!(writer.recorded(&made).await.unwrap().receipts.is_empty());
    assert!(
        !bucket.folder().join("people/_weir").exists() || writer.recorded(&made).await.unwrap().receipts.is_empty()
    );
    assert_eq!(read(path, with(&bucket, json!({}))).await.unwrap().num_rows(), 7);

    let denied = {
        let mut parameters = with(&bucket, json!({}));
        parameters["storageOptions"]["secretAccessKey"] = json!("wrong-secret");
        read(path, parameters).await.unwrap_err()
    };
    assert!(denied.kind() == ErrorKind::Denied && !denied.full().contains("wrong-secret"), "{}", denied.full());
}

/// The store takes a version, its answer is lost, and to the client's second request it says that the version is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_whose_answer_is_lost_keeps_its_files() {
    let bucket = fresh_bucket("unanswered");
    let path = |name: &str| bucket.url(name);
    let version = |name: &str, number: u32| format!("{name}/_delta_log/{number:020}.json");
    // Whole rows are written again by this writer, single columns by the library; the first version is another matter.
    for (name, more) in [("whole", json!({})), ("part", json!({"column": ["id"]}))] {
        let url = path(name);
        let parameters = |mut more: Value| {
            more["writeMode"] = json!("upsert");
            with(&bucket, more)
        };
        bucket.lose_answer(&version(name, 0));
        run(Path::new(&url), parameters(json!({})), "one", &[people(&[1, 2], "a")]).await.unwrap();
        bucket.lose_answer(&version(name, 1));
        let columns: Vec<usize> = if name == "part" { vec![0] } else { vec![0, 1] };
        let new = people(&[2, 3], "b").project(&columns).unwrap();
        run(Path::new(&url), parameters(more), "two", &[new]).await.unwrap();
        let back = rows(&read(Path::new(&url), with(&bucket, json!({}))).await.unwrap());
        let expected = if name == "part" { ["1|a", "2|a", "3|NULL"] } else { ["1|a", "2|b", "3|b"] };
        assert_eq!(back, expected, "{name}");
        assert!(bucket.get(&version(name, 2)).is_none());
    }
}

/// As above, for the version of a column that is written anew with a wider type.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wider_column_whose_answer_is_lost_keeps_its_files() {
    let bucket = fresh_bucket("wider");
    let url = bucket.url("t");
    let small = RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef)]).unwrap();
    run(Path::new(&url), with(&bucket, json!({})), "one", &[small]).await.unwrap();
    bucket.lose_answer("t/_delta_log/00000000000000000001.json");
    let field = arrow::datatypes::Field::new("n", arrow::datatypes::DataType::Int64, true);
    let column = MappedColumn {
        name: "n".into(),
        offers: vec![field],
        source_type: "bigint".into(),
        nullable: true,
        key: None,
        comment: None,
    };
    let writer = writer(Path::new(&url), with(&bucket, json!({})));
    let done = writer.evolve().unwrap().alter(&[TableChange::WidenColumn { column }]).await.unwrap();
    assert!(done.len() == 1 && done[0].contains("written anew"), "{done:?}");
    let back = read(Path::new(&url), with(&bucket, json!({}))).await.unwrap();
    assert_eq!(
        (rows(&back), back.schema().field(0).data_type().to_string()),
        (vec!["1".into(), "2".into()], "Int64".into())
    );
}

/// As above, for the record of a split; another attempt's record is still another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_whose_answer_is_lost_is_the_runs_own() {
    let bucket = fresh_bucket("recorded");
    for how in ["append", "upsert"] {
        let url = bucket.url(how);
        let writer = writer(Path::new(&url), with(&bucket, json!({"writeMode": how})));
        let batch = people(&[1, 2], "a");
        let made = plan(writer.as_ref(), &batch, "run").await.unwrap();
        bucket.lose_answer(&format!("{how}/_weir/run/split-0.json"));
        let receipt = task(writer.as_ref(), &made, 0, &batch).await.0;
        let again = attempt(writer.as_ref(), &made, 0, 2, &batch).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Conflict, "{}", again.full());
        assert_eq!(writer.recorded(&made).await.unwrap().receipts, std::slice::from_ref(&receipt));
        writer.commit(&made, &[receipt]).await.unwrap();
        assert_eq!(rows(&read(Path::new(&url), with(&bucket, json!({}))).await.unwrap()), ["1|a", "2|a"], "{how}");
    }
}
