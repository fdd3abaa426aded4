//! Rows into one text file: whole or not at all, and safely twice.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field};
use serde_json::json;
use weir_core::{
    ConnectorContext, Form, MappedColumn, OnTypeLoss, Receipt, Refused, TaskId, WritePlan, WriteRequest, Writer,
};

fn writer(parameters: serde_json::Value) -> Arc<dyn Writer> {
    let context = ConnectorContext {
        cancel: Default::default(),
        io: tokio::runtime::Handle::current(),
        form: Form::Native,
        time_zone: "UTC".parse().unwrap(),
        shared: Default::default(),
    };
    let config = weir_core::config::parse(&parameters).unwrap();
    Arc::new(weir_writer_stream::StreamWriter::new(config, context).unwrap())
}

async fn plan(writer: &dyn Writer) -> WritePlan {
    let column = MappedColumn {
        name: "n".into(),
        offers: vec![Field::new("n", DataType::Int64, false)],
        source_type: "long".into(),
        nullable: false,
        key: None,
        comment: None,
    };
    let request = WriteRequest {
        run_id: "run".into(),
        columns: vec![column],
        source: "stream".into(),
        on_type_loss: OnTypeLoss::Error,
        described: None,
        decides_at_end: false,
    };
    writer.plan(&request).await.unwrap()
}

async fn task(writer: &dyn Writer, plan: &WritePlan, split: u32, values: Vec<i64>) -> Receipt {
    let task = TaskId { run_id: "run".into(), split, table: "stream".into(), attempt: 1 };
    let mut open = writer.open(plan, &task).await.unwrap();
    let batch = RecordBatch::try_new(plan.input_schema(), vec![Arc::new(Int64Array::from(values))]).unwrap();
    open.write(&batch, &mut Refused::default()).await.unwrap();
    open.finish(Default::default()).await.unwrap()
}

#[tokio::test]
async fn the_file_appears_whole_in_the_order_of_the_splits() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(json!({"path": folder.path(), "fileName": "out.txt"}));
    let plan = plan(writer.as_ref()).await;
    writer.prepare(&plan).await.unwrap();
    let second = task(writer.as_ref(), &plan, 1, vec![3]).await;
    let first = task(writer.as_ref(), &plan, 0, vec![1, 2]).await;
    let receipts = [second, first];
    assert!(!folder.path().join("out.txt").exists());
    for _ in 0..2 {
        writer.commit(&plan, &receipts).await.unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("out.txt")).unwrap(), "1\n2\n3\n");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn an_aborted_run_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(json!({"path": folder.path(), "fileName": "out.txt"}));
    let plan = plan(writer.as_ref()).await;
    writer.prepare(&plan).await.unwrap();
    let receipt = task(writer.as_ref(), &plan, 0, vec![1]).await;
    let unfinished = TaskId { run_id: "run".into(), split: 1, table: "stream".into(), attempt: 1 };
    drop(writer.open(&plan, &unfinished).await.unwrap());
    writer.abort(&plan, &[receipt]).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
