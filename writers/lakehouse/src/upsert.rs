//! Upserts: the staged rows are merged into the table by DataFusion, in one version.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::Column;
use datafusion::error::DataFusionError;
use datafusion::prelude::{DataFrame, Expr, ParquetReadOptions, SessionContext};
use deltalake::DeltaTable;
use deltalake::datafile::writer::DeltaWriter;
use deltalake::delta_datafusion::create_session;
use deltalake::kernel::Add;
use deltalake::logstore::LogStoreRef;
use futures::StreamExt;
use url::Url;
use weir_core::{Error, ErrorKind, Result, WritePlan};
use weir_lakehouse::{arrow_schema, delta_error, to_stored};

use crate::commit::properties;
use crate::plan::{State, staging};
use crate::task::{ROW_COLUMN, SPLIT_COLUMN, files};

const SOURCE: &str = "weir_source";
const TARGET: &str = "weir_target";

/// What a merge did.
pub(crate) struct Merged {
    pub(crate) version: u64,
    pub(crate) updated: usize,
    pub(crate) inserted: usize,
}

/// Updates the rows whose key the table has and inserts the others; of rows with equal keys the last one counts.
///
/// # Errors
/// [`Conflict`](ErrorKind::Conflict) when another writer changed the same rows meanwhile: read the table again and
/// repeat.
pub(crate) async fn merge(table: DeltaTable, plan: &WritePlan, staged: &[Add]) -> Result<Merged> {
    let state = State::of(plan)?;
    let (session, source) = newest(&table.log_store(), plan, staged).await?;
    let mut condition: Option<Expr> = None;
    for key in &plan.keys {
        let equal = column(TARGET, key).eq(column(SOURCE, key));
        condition = Some(match condition {
            Some(condition) => condition.and(equal),
            None => equal,
        });
    }
    let condition = condition.ok_or_else(|| Error::internal("an upsert was planned without a key"))?;
    // What the job does not write stays as it is.
    let written: Vec<&str> = state
        .fields
        .iter()
        .map(|f| f.name.as_str())
        .filter(|name| state.partition.contains_key(*name) || plan.columns.iter().any(|c| c.name == *name))
        .collect();
    let updated: Vec<&str> = written.iter().copied().filter(|name| !plan.keys.iter().any(|k| k == name)).collect();
    let mut merge = table
        .merge(source, condition)
        .with_source_alias(SOURCE)
        .with_target_alias(TARGET)
        .with_session_state(Arc::new(session.state()))
        .with_commit_properties(properties(plan));
    let bare = |name: &str| Column::new_unqualified(name);
    if !updated.is_empty() {
        merge = merge
            .when_matched_update(|update| {
                updated.iter().fold(update, |update, name| update.update(bare(name), column(SOURCE, name)))
            })
            .map_err(delta_error)?;
    }
    merge = merge
        .when_not_matched_insert(|insert| {
            written.iter().fold(insert, |insert, name| insert.set(bare(name), column(SOURCE, name)))
        })
        .map_err(delta_error)?;
    let (table, metrics) = merge.await.map_err(delta_error)?;
    Ok(Merged {
        version: table.version().unwrap_or(0),
        updated: metrics.num_target_rows_updated,
        inserted: metrics.num_target_rows_inserted,
    })
}

/// Makes the first files of a table out of the staged rows.
///
/// # Errors
/// Staged files that cannot be read, a target that cannot be written.
pub(crate) async fn first(log_store: &LogStoreRef, plan: &WritePlan, staged: &[Add]) -> Result<(Vec<Add>, u64)> {
    let state = State::of(plan)?;
    let schema = arrow_schema(&state.fields)?;
    let (_session, rows) = newest(log_store, plan, staged).await?;
    let mut rows = rows.execute_stream().await.map_err(unreadable)?;
    let mut writer =
        DeltaWriter::new(log_store.object_store(None), files(schema.clone(), state.partition_columns, None));
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(unreadable)?;
        let columns: Result<Vec<_>> =
            batch.columns().iter().zip(schema.fields()).map(|(values, f)| to_stored(values, f.data_type())).collect();
        count += batch.num_rows() as u64;
        writer.write(&RecordBatch::try_new(schema.clone(), columns?)?).await.map_err(delta_error)?;
    }
    Ok((writer.close().await.map_err(delta_error)?, count))
}

/// The staged rows, the last one of each key.
async fn newest(log_store: &LogStoreRef, plan: &WritePlan, staged: &[Add]) -> Result<(SessionContext, DataFrame)> {
    let state = State::of(plan)?;
    let context = create_session().into_inner();
    context.state_ref().write().config_mut().options_mut().execution.parquet.schema_force_view_types = false;
    let root = Url::parse("weir-staging://table/").map_err(|e| Error::internal("a fixed URL is wrong").because(e))?;
    // Not the table's own store: what that one says of a single file carries the path below the root.
    context.register_object_store(&root, log_store.root_object_store(None));
    let table = log_store.config().location().path().trim_matches('/').to_owned();
    let folder = staging(plan).unwrap_or_default();
    let files: Vec<String> = staged.iter().map(|add| format!("{root}{table}/{folder}/{}", add.path)).collect();
    let rows = context.read_parquet(files, ParquetReadOptions::default()).await.map_err(unreadable)?;
    context.register_table("staged", rows.into_view()).map_err(unreadable)?;
    let columns: Vec<String> = state.fields.iter().map(|f| quote(&f.name)).collect();
    let keys: Vec<String> = plan.keys.iter().map(|k| quote(k)).collect();
    let columns = columns.join(", ");
    let sql = format!(
        "SELECT {columns} FROM (SELECT {columns}, row_number() OVER (PARTITION BY {} \
         ORDER BY {SPLIT_COLUMN} DESC, {ROW_COLUMN} DESC) AS __weir_nth FROM staged) WHERE __weir_nth = 1",
        keys.join(", "),
    );
    let rows = context.sql(&sql).await.map_err(unreadable)?;
    Ok((context, rows))
}

fn column(table: &str, name: &str) -> Expr {
    Expr::Column(Column::new(Some(table), name))
}

fn unreadable(error: DataFusionError) -> Error {
    Error::new(ErrorKind::Data, "the staged rows cannot be read").because(error)
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
