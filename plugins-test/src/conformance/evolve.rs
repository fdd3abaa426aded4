//! The checks of a writer whose tables can be changed.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use weir_core::field::{KEY, with_metadata};
use weir_core::{
    ColumnDefault, Error, ErrorKind, Fit, MappedColumn, OnTypeLoss, Relation, TableChange, WriteMode, WriteRequest,
    Writer,
};

use super::report::{Outcome, left_out, passed, passed_but, same};
use super::{Cells, Target, sorted};
use crate::harness::{self, WriteOptions, columns_of, context, control, open_writer_in};

const TABLE: &str = "weir_w_evolve";

fn told(error: Error) -> String {
    format!("{error:?}")
}

/// A column more, wider numbers, NULLs where there were none: the rows stay, and new ones go in.
pub(super) async fn evolves(target: &dyn Target) -> Outcome {
    let Some(parameters) = target.parameters(TABLE, WriteMode::Append).await else {
        return left_out("it has no append");
    };
    let writer = open_writer_in(target.plugin(), parameters, &context()).map_err(told)?;
    if writer.evolve().is_none() {
        return left_out("its tables cannot be changed");
    }
    write(&writer, before(), "create").await?;
    let columns = columns_of(&after(None).schema());
    let fits = compare(&writer, &columns).await?;
    let seen: Vec<_> = fits.iter().map(|fit| fit.present.as_ref().map(|present| present.relation)).collect();
    let expected =
        [Some(Relation::Same), Some(Relation::Widens), Some(Relation::Widens), Some(Relation::Same), None, None];
    if seen != expected {
        return Err(format!("compare() sees {fits:?}"));
    }
    let change = |at: usize| columns[at].clone();
    let mut changes = vec![
        TableChange::AddColumn { column: change(4), default: None },
        TableChange::AddColumn { column: change(5), default: Some(ColumnDefault::Literal("7".into())) },
        TableChange::WidenColumn { column: change(1) },
        TableChange::WidenColumn { column: change(2) },
    ];
    let not_null = target.keeps_not_null();
    if not_null.is_none() {
        changes.push(TableChange::AllowNull { column: change(1) });
    }
    let last = not_null.map(|_| 7);
    let shown = alterations(&writer, &changes).await?;
    let done = alter(&writer, &changes).await.map_err(told)?;
    if shown.is_empty() || shown != done {
        return Err(format!("it shows {shown:?} and does {done:?}"));
    }
    for again in [alterations(&writer, &changes).await?, alter(&writer, &changes).await.map_err(told)?] {
        if !again.is_empty() {
            return Err(format!("what is done is done again: {again:?}"));
        }
    }
    let fits = compare(&writer, &columns).await?;
    let all_same = |fit: &Fit| fit.present.as_ref().is_some_and(|present| present.relation == Relation::Same);
    if !fits.iter().all(all_same) {
        return Err(format!("after the changes compare() sees {fits:?}"));
    }
    // Where a default is not kept with the table, rows of before have NULL.
    let with = |value: Option<&str>| -> Cells {
        let row = |key: &str, n: &str, price: &str, note: &str| {
            let cells = [Some(key), Some(n), Some(price), Some(note), None, value];
            cells.into_iter().map(|cell| cell.map(str::to_owned)).collect()
        };
        vec![row("1", "10", "12.25", "a"), row("2", "-20", "0.75", "b")]
    };
    let standing = sorted(target.contents(TABLE).await.unwrap_or_default());
    if standing != with(Some("7")) {
        same(&standing, &with(None)).map_err(|e| format!("after the changes: {e}"))?;
    }
    write(&writer, after(last), "after the changes").await?;
    let new: Cells = vec![
        vec![
            Some("3".into()),
            Some("5000000000".into()),
            Some("1234567890.25".into()),
            Some("c".into()),
            Some("new".into()),
            Some("1".into()),
        ],
        vec![
            Some("4".into()),
            last.map(|n| n.to_string()),
            Some("0.25".into()),
            Some("d".into()),
            None,
            Some("2".into()),
        ],
    ];
    let expected = sorted(standing.into_iter().chain(new).collect());
    let now = sorted(target.contents(TABLE).await.unwrap_or_default());
    same(&now, &expected).map_err(|e| format!("new rows: {e}"))?;

    let mut other = columns_of(&Arc::new(Schema::new(vec![Field::new("n", DataType::Float64, true)])));
    let fits = compare(&writer, &other).await?;
    if fits[0].present.as_ref().map(|present| present.relation) != Some(Relation::Apart) {
        return Err(format!("a whole number and a double are of one family: {fits:?}"));
    }
    let other = vec![TableChange::WidenColumn { column: other.remove(0) }];
    match alter(&writer, &other).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        result => return Err(format!("a change of another family gives {result:?}")),
    }
    same(&sorted(target.contents(TABLE).await.unwrap_or_default()), &expected).map_err(|e| format!("refused: {e}"))?;
    not_null.map_or_else(passed, |why| passed_but(format!("a column that begins to take NULL: {why}")))
}

fn before() -> RecordBatch {
    let decimals = Decimal128Array::from(vec![1225, 75]).with_precision_and_scale(10, 2);
    batch(vec![
        (key(), Arc::new(Int64Array::from(vec![1, 2]))),
        (Field::new("n", DataType::Int32, false), Arc::new(Int32Array::from(vec![10, -20]))),
        (Field::new("price", DataType::Decimal128(10, 2), true), Arc::new(decimals.expect("fits"))),
        (Field::new("note", DataType::Utf8, true), Arc::new(StringArray::from(vec!["a", "b"]))),
    ])
}

/// New rows; `last` is the last one's number.
fn after(last: Option<i64>) -> RecordBatch {
    let decimals = Decimal128Array::from(vec![123_456_789_025, 25]).with_precision_and_scale(14, 2);
    batch(vec![
        (key(), Arc::new(Int64Array::from(vec![3, 4]))),
        (Field::new("n", DataType::Int64, true), Arc::new(Int64Array::from(vec![Some(5_000_000_000), last]))),
        (Field::new("price", DataType::Decimal128(14, 2), true), Arc::new(decimals.expect("fits"))),
        (Field::new("note", DataType::Utf8, true), Arc::new(StringArray::from(vec!["c", "d"]))),
        (Field::new("extra", DataType::Utf8, true), Arc::new(StringArray::from(vec![Some("new"), None]))),
        (Field::new("points", DataType::Int64, true), Arc::new(Int64Array::from(vec![1, 2]))),
    ])
}

fn key() -> Field {
    with_metadata(Field::new("key", DataType::Int64, false), KEY, "1")
}

fn batch(columns: Vec<(Field, ArrayRef)>) -> RecordBatch {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("columns of one length")
}

async fn write(writer: &Arc<dyn Writer>, rows: RecordBatch, when: &str) -> Result<(), String> {
    // A run of its own each time.
    let options = WriteOptions { run_id: format!("evolve{}", when.len()), ..WriteOptions::default() };
    let written = harness::write_all(writer, vec![rows], options).await.map_err(|e| format!("{when}: {}", told(e)))?;
    match written.refused.first() {
        Some(row) => Err(format!("{when}: it refuses good rows: {row:?}")),
        None => Ok(()),
    }
}

async fn compare(writer: &Arc<dyn Writer>, columns: &[MappedColumn]) -> Result<Vec<Fit>, String> {
    let request = WriteRequest {
        run_id: "evolve".into(),
        columns: columns.to_vec(),
        source: "source".into(),
        on_type_loss: OnTypeLoss::Error,
        described: None,
        decides_at_end: false,
    };
    let writer = writer.clone();
    control(async move { able(&writer)?.compare(&request).await }).await.map_err(told)
}

async fn alterations(writer: &Arc<dyn Writer>, changes: &[TableChange]) -> Result<Vec<String>, String> {
    let (writer, changes) = (writer.clone(), changes.to_vec());
    control(async move { able(&writer)?.alterations(&changes).await }).await.map_err(told)
}

async fn alter(writer: &Arc<dyn Writer>, changes: &[TableChange]) -> weir_core::Result<Vec<String>> {
    let (writer, changes) = (writer.clone(), changes.to_vec());
    control(async move { able(&writer)?.alter(&changes).await }).await
}

fn able(writer: &Arc<dyn Writer>) -> weir_core::Result<&dyn weir_core::Evolve> {
    writer.evolve().ok_or_else(|| Error::internal("the writer evolves no more"))
}
