//! The upsert of whole rows: files that hold keys of the new rows are written again without these keys, and the new rows
//! go in beside what is left.
//!
//! The library's own merge joins whole rows of both sides, for an update may take what it likes from either. Where the
//! job writes every column nothing of an old row is needed but its key: the new rows' part of the join are keys only, whatever
//! the width of the rows, files without such keys are not touched, and the rest streams.
//!
//! Rows of the table that share a key, which an upsert does not make, become one.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::prelude::{DataFrame, SessionContext};
use deltalake::DeltaTable;
use deltalake::kernel::{Add, Remove};
use futures::StreamExt;
use url::Url;
use weir_core::{Error, Result, WritePlan};
use weir_lakehouse::{delta_error, to_stored};
use weir_sql::Quoting;

use crate::commit::{self, Fault};
use crate::files::DataFiles;
use crate::plan::State;
use crate::publish::Publication;
use crate::upsert::{Join, Merged, STAGED, newest, unreadable};

const TARGET: &str = "weir_target";
const FILE_COLUMN: &str = "__weir_file";

/// Whether an upsert of this plan may go this way: it writes every column, and nobody wants to hear which rows changed.
pub(crate) fn takes(plan: &WritePlan, state: &State, table: &DeltaTable) -> Result<bool> {
    let snapshot = table.snapshot().map_err(delta_error)?;
    let written = |name: &str| state.partition.contains_key(name) || plan.columns.iter().any(|c| c.name == name);
    let followed = snapshot.metadata().configuration().get("delta.enableChangeDataFeed").is_some_and(|v| v == "true");
    Ok(!followed && snapshot.schema().fields().all(|f| written(&f.name)))
}

/// What new data files stand for.
struct Rewritten {
    removes: Vec<Remove>,
    updated: usize,
    inserted: usize,
}

/// Makes the version.
///
/// # Errors
/// As [`upsert::merge`](crate::upsert::merge).
pub(crate) async fn rewrite(
    publication: &Publication,
    staged: &[Add],
    table: &DeltaTable,
    join: Join,
) -> Result<Merged, Fault> {
    let mut new = publication.new_files()?;
    let made = match write(publication, staged, table, join, &mut new).await {
        Ok(made) => made,
        Err(error) => {
            new.discard().await;
            return Err(error.into());
        }
    };
    let adds = new.close().await?;
    let files = adds.iter().map(|add| add.path.clone()).collect();
    // After a fault the version may be there, and name the files.
    let version =
        commit::replace(publication, table, made.removes, adds).await.map_err(|fault| fault.of_files(files))?;
    Ok(Merged { version, updated: made.updated, inserted: made.inserted })
}

async fn write(
    publication: &Publication,
    staged: &[Add],
    table: &DeltaTable,
    join: Join,
    files: &mut DataFiles,
) -> Result<Rewritten> {
    let state = State::of(&publication.plan)?;
    let (context, new) = newest(publication, staged, join).await?;
    let touched = touched(&context, publication, table).await?;
    let mut kept = 0;
    if !touched.is_empty() {
        let paths = touched.iter().map(|file| file.id.as_str());
        let provider = table.table_provider().with_session(Arc::new(context.state())).with_file_paths(paths);
        context.register_table(TARGET, provider.await.map_err(unreadable)?).map_err(unreadable)?;
        let columns: Vec<String> =
            state.fields.iter().map(|f| format!("{TARGET}.{}", Quoting::DOUBLE.quote(&f.name))).collect();
        let sql = format!("SELECT {} FROM {}", columns.join(", "), joined("ANTI", &publication.plan.keys));
        kept = copy(context.sql(&sql).await.map_err(unreadable)?, files).await?;
    }
    let written = copy(new, files).await?;
    let gone: usize = touched.iter().map(|file| file.rows).sum();
    let updated = gone.min(written);
    tracing::debug!(files = touched.len(), kept, updated, inserted = written - updated, "merged by keys");
    let removes = touched.into_iter().map(|file| file.remove).collect();
    Ok(Rewritten { removes, updated, inserted: written - updated })
}

/// A file of the table that holds keys of the new rows.
struct Touched {
    /// How the library calls it.
    id: String,
    /// How many of its rows have such keys.
    rows: usize,
    remove: Remove,
}

async fn touched(context: &SessionContext, publication: &Publication, table: &DeltaTable) -> Result<Vec<Touched>> {
    let provider = table.table_provider().with_session(Arc::new(context.state())).with_file_column(FILE_COLUMN);
    context.register_table(TARGET, provider.await.map_err(unreadable)?).map_err(unreadable)?;
    let sql = format!(
        "SELECT CAST({TARGET}.{FILE_COLUMN} AS VARCHAR) AS file, count(*) FROM {} GROUP BY 1",
        joined("SEMI", &publication.plan.keys)
    );
    let found = context.sql(&sql).await.map_err(unreadable)?.collect().await.map_err(unreadable)?;
    context.deregister_table(TARGET).map_err(unreadable)?;
    let snapshot = table.snapshot().map_err(delta_error)?;
    let store = table.log_store();
    let root = plain(store.config().location());
    let views: HashMap<String, _> = snapshot.log_data().iter().map(|view| (view.path().into_owned(), view)).collect();
    let mut touched = Vec::new();
    for batch in found {
        let files = cast(batch.column(0), &DataType::Utf8)?;
        let rows = batch.column(1).as_primitive::<Int64Type>();
        for (id, rows) in files.as_string::<i32>().iter().flatten().zip(rows.values()) {
            let view = Url::parse(id).ok().and_then(|id| views.get(below(&root, &plain(&id))?));
            let view = view.ok_or_else(|| Error::internal("a file of the table is not in its log").with("file", id))?;
            let rows = usize::try_from(*rows).unwrap_or(usize::MAX);
            touched.push(Touched { id: id.to_owned(), rows, remove: view.remove_action(true) });
        }
    }
    Ok(touched)
}

/// An address's path as it is meant.
fn plain(address: &Url) -> String {
    percent_encoding::percent_decode_str(address.path()).decode_utf8_lossy().into_owned()
}

/// A data file's path below the table's folder, which is how the log calls it.
fn below<'a>(root: &str, path: &'a str) -> Option<&'a str> {
    path.strip_prefix(root.trim_end_matches('/'))?.strip_prefix('/')
}

/// The table's rows with keys of the new rows (`SEMI`), or without (`ANTI`). The new rows come first, of which the hash
/// table is made.
fn joined(kind: &str, keys: &[String]) -> String {
    let equal = |key: &String| {
        let key = Quoting::DOUBLE.quote(key);
        format!("{STAGED}.{key} = {TARGET}.{key}")
    };
    let equal: Vec<String> = keys.iter().map(equal).collect();
    format!("{STAGED} RIGHT {kind} JOIN {TARGET} ON {}", equal.join(" AND "))
}

/// Writes rows into data files, and counts them.
pub(crate) async fn copy(rows: DataFrame, files: &mut DataFiles) -> Result<usize> {
    let mut rows = rows.execute_stream().await.map_err(unreadable)?;
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(unreadable)?;
        let schema = files.schema().clone();
        let columns: Result<Vec<_>> =
            batch.columns().iter().zip(schema.fields()).map(|(values, f)| to_stored(values, f.data_type())).collect();
        count += batch.num_rows();
        files.write(&RecordBatch::try_new(schema, columns?)?).await?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::{below, plain};
    use url::Url;

    #[test]
    fn files_are_known_by_their_addresses() {
        for root in ["file:///lake/my%20table/", "file:///lake/my%20table"].map(|root| Url::parse(root).unwrap()) {
            for (path, id) in [
                ("a.parquet", "file:///lake/my%20table/a.parquet"),
                ("pt=x y/a.parquet", "file:///lake/my%20table/pt=x%20y/a.parquet"),
                ("pt=x%20y/a.parquet", "file:///lake/my%20table/pt=x%2520y/a.parquet"),
            ] {
                assert_eq!(below(&plain(&root), &plain(&Url::parse(id).unwrap())), Some(path));
            }
            assert_eq!(below(&plain(&root), "/lake/my tables/a.parquet"), None);
        }
    }
}
