//! What every reader must do, as far as one does it that makes its rows up.

use async_trait::async_trait;
use serde_json::{Value, json};
use weir_plugins_test::conformance::{self, Laid, Source, Table, TypeCase};
use weir_reader_stream as _;

struct Nowhere;

#[async_trait]
impl Source for Nowhere {
    fn plugin(&self) -> &'static str {
        "stream"
    }

    async fn lay(&self, _table: &Table) -> Laid {
        Laid::Cannot("its rows are made up")
    }

    async fn types(&self) -> Vec<TypeCase> {
        // A row from each of the library's four channels.
        let case = |name: &str, column: Value, value: &str| {
            let parameters = json!({ "sliceRecordCount": 1, "column": [column] });
            TypeCase::new(name, parameters, "v", [Some(value); 4])
        };
        let counter = json!({ "sliceRecordCount": 2, "column": [{ "name": "v", "incr": "10,-5" }] });
        vec![
            case("string", json!({ "name": "v", "value": "wéir 🦀" }), "wéir 🦀"),
            case("long", json!({ "name": "v", "type": "long", "value": i64::MIN }), "-9223372036854775808"),
            case("double", json!({ "name": "v", "type": "double", "value": 0.1 }), "0.1"),
            case("bool", json!({ "name": "v", "type": "bool", "value": true }), "true"),
            case("date", json!({ "name": "v", "type": "date", "value": "2024-02-29 01:02:03" }), "2024-02-29T01:02:03"),
            case("bytes", json!({ "name": "v", "type": "bytes", "value": "ab" }), "6162"),
            case("random string", json!({ "name": "v", "random": "0,0" }), ""),
            case("random long", json!({ "name": "v", "type": "long", "random": "5,5" }), "5"),
            case("random bool", json!({ "name": "v", "type": "bool", "random": "0,1" }), "true"),
            TypeCase::new("incr", counter, "v", ["10", "5", "0", "-5", "-10", "-15", "-20", "-25"].map(Some)),
        ]
    }

    async fn missing(&self) -> Option<Value> {
        None
    }

    async fn slow(&self) -> Option<Value> {
        let column = json!({ "name": "v", "random": "20,40" });
        Some(json!({ "sliceRecordCount": 1_000_000_000_u64, "column": [column] }))
    }
}

#[tokio::test]
async fn the_reader_conforms() {
    conformance::check_source(&Nowhere).await;
}
