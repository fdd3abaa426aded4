//! Files and lakehouse tables that a job reads and replaces: what is there stays until all of it is read.

use serde_json::{Value, json};
use weir_plugins_test::s3;

use crate::support::{counts, job_of, run_failing, run_ok, with_channels};

/// A thousand rows, of which some files have each a part.
fn fill(place: &Value, connector: &str) -> Value {
    let column = json!([{"incr": "1,1", "type": "long"}, {"value": "x", "type": "string"}]);
    with_channels(job_of("stream", json!({"column": column, "sliceRecordCount": 500}), connector, place.clone()), 2)
}

#[tokio::test]
async fn rows_that_replace_those_that_they_are_read_from_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = s3::fresh_bucket("own");
    let store = json!({
        "endpoint": bucket.endpoint(), "region": s3::REGION, "accessKeyId": s3::ACCESS_KEY,
        "secretAccessKey": s3::SECRET_KEY
    });
    let at = |name: &str| folder.path().join(name);
    let places = [
        ("files", json!({"path": at("one.csv")}), "truncate"),
        ("files", json!({"path": at("many"), "format": "csv"}), "truncate"),
        ("files", json!({"path": bucket.url("many"), "options": store, "format": "parquet"}), "truncate"),
        ("files", json!({"path": bucket.url("one.parquet"), "options": store}), "truncate"),
        ("lakehouse", json!({"path": at("table")}), "overwrite"),
    ];
    for (connector, place, mode) in places {
        let mut to = place.clone();
        to["writeMode"] = mode.into();
        run_ok(&fill(&to, connector)).await;
        for round in ["once", "and again"] {
            let report = run_ok(&with_channels(job_of(connector, place.clone(), connector, to.clone()), 2)).await;
            assert_eq!(counts(&report), (1_000, 1_000, 0), "{place} {round}");
        }
        // A run that fails in the midst of it leaves what is there.
        let mut broken = job_of(connector, place.clone(), connector, to.clone());
        broken["job"]["content"][0]["transformer"] =
            json!([{"name": "dx_substr", "parameter": {"columnIndex": 1, "paras": ["5", "1"]}}]);
        run_failing(&broken).await;
        let printed = job_of(connector, place.clone(), "stream", json!({}));
        assert_eq!(run_ok(&printed).await.rows_read, 1_000, "{place}");
    }
}
