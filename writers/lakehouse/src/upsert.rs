//! Upserts: the staged rows are merged into the table by DataFusion, in one version.
//!
//! Jobs that write every column go the way of [`rewrite`]; for the others the library's merge keeps what they leave out.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::Column;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{DataFrame, Expr, ParquetReadOptions, SessionContext};
use deltalake::delta_datafusion::DeltaSessionContext;
use deltalake::kernel::Add;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::json;
use url::Url;
use weir_core::{Error, ErrorKind, Result};
use weir_sql::{DuplicateKeys, Quoting};

use crate::commit::{self, Fault, delete, ensure_unchanged, properties};
use crate::created::{Created, begun_files};
use crate::plan::{State, staging};
use crate::publish::Publication;
use crate::task::{ROW_COLUMN, SPLIT_COLUMN};
use crate::{rewrite, spill};

/// The staged rows as a table of the session, all of them.
pub(crate) const STAGED: &str = "staged";
const SOURCE: &str = "weir_source";
const TARGET: &str = "weir_target";
/// What has another meaning in an address.
const IN_ADDRESS: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#');
/// What a merge may hold in memory unless the job says otherwise.
const MERGE_MEMORY: u64 = 128 * 1024 * 1024;
/// What one of the streams that a merge runs side by side should have.
const PARTITION_MEMORY: usize = 48 * 1024 * 1024;

/// What a batch of rows should have.
const BATCH_BYTES: usize = 1024 * 1024;

/// What a merge did.
pub(crate) struct Merged {
    pub(crate) version: u64,
    pub(crate) updated: usize,
    pub(crate) inserted: usize,
}

/// Updates the rows whose key the table has and inserts the others; of rows with equal keys the last one counts.
///
/// # Errors
/// [`Fault::Raced`] when another writer made a version meanwhile, or the run's mark is not `mark` any more: read the table
/// again and repeat.
pub(crate) async fn merge(publication: &Publication, staged: &[Add], mark: Option<i64>) -> Result<Merged, Fault> {
    // A hash table of the new rows is the fastest way, and the one that cannot go on on disk.
    match try_merge(publication, staged, mark, Join::Hash).await {
        // Where the version of an earlier try may still come this one is asked for at the same place, or finds its mark.
        Err(Fault::Other(error)) if is_out_of_memory(&error) => {
            tracing::debug!("the merge sorts both sides, for its hash table is larger than `mergeMemory`");
            match try_merge(publication, staged, mark, Join::Sort).await {
                Err(Fault::Other(error)) if is_out_of_memory(&error) => Err(Fault::Other(too_little_memory(error))),
                done => done.map_err(in_own_words),
            }
        }
        done => done.map_err(in_own_words),
    }
}

/// Where the library passes on as text what went wrong with temporary files.
fn in_own_words(fault: Fault) -> Fault {
    match fault {
        Fault::Other(error) => Fault::Other(spill::fault(&error.full()).unwrap_or(error)),
        raced => raced,
    }
}

async fn try_merge(publication: &Publication, staged: &[Add], mark: Option<i64>, join: Join) -> Result<Merged, Fault> {
    let plan = &publication.plan;
    let state = State::of(plan)?;
    let (watched, begun) = publication.location.through(Created::watch);
    let table = watched.open(None).await?;
    let table = table.ok_or_else(|| Error::new(ErrorKind::NotFound, "the table is gone"))?;
    // Since it was looked at the run may have been published or given up, and others may have altered it.
    if commit::mark(&table, plan).await? != mark {
        let error = Error::new(ErrorKind::Conflict, "another process has published this run, or given it up");
        return Err(Fault::Raced(error, Vec::new()));
    }
    ensure_unchanged(&table, &state)?;
    if rewrite::takes(plan, &state, &table)? {
        return rewrite::rewrite(publication, staged, &table, join).await;
    }
    let (session, source) = newest(publication, staged, join).await?;
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
            .map_err(Fault::of)?;
    }
    merge = merge
        .when_not_matched_insert(|insert| {
            written.iter().fold(insert, |insert, name| insert.set(bare(name), column(SOURCE, name)))
        })
        .map_err(Fault::of)?;
    match publication.pending.ask(&publication.location, merge, |_| false).await {
        Ok((table, metrics)) => Ok(Merged {
            version: table.version().unwrap_or(0),
            updated: metrics.num_target_rows_updated,
            inserted: metrics.num_target_rows_inserted,
        }),
        Err(fault) => {
            // The whole store was watched, and files are called by their paths below the table's folder.
            let root = publication.location.key("")?;
            let own = |path: String| Some(path.strip_prefix(root.as_ref())?.trim_start_matches('/').to_owned());
            let mut files: Vec<String> = begun_files(&begun).into_iter().filter_map(own).collect();
            files.retain(|path| !path.starts_with("_delta_log/"));
            // What no version names now none ever will, unless one may still come.
            if !publication.pending.may_come() && matches!(publication.is_published().await, Ok(false)) {
                delete(&publication.location.folder(), files.iter().map(String::as_str)).await;
            }
            Err(fault.of_files(files))
        }
    }
}

/// Makes the first files of a table out of the staged rows.
///
/// # Errors
/// Staged files that cannot be read, a target that cannot be written.
pub(crate) async fn first(publication: &Publication, staged: &[Add]) -> Result<(Vec<Add>, u64)> {
    let mut files = publication.new_files()?;
    let mut count = 0;
    if !staged.is_empty() {
        let copied = match newest(publication, staged, Join::Sort).await {
            Ok((_session, rows)) => rewrite::copy(rows, &mut files).await,
            Err(error) => Err(error),
        };
        match copied {
            Ok(copied) => count = copied as u64,
            Err(error) => {
                files.discard().await;
                return Err(error);
            }
        }
    }
    Ok((files.close().await?, count))
}

/// How rows and table are brought together.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Join {
    Hash,
    Sort,
}

/// A session that holds no more than `mergeMemory`, and goes on on disk.
fn session(publication: &Publication, join: Join) -> Result<SessionContext> {
    let memory = publication.config.merge_memory.unwrap_or(MERGE_MEMORY);
    let memory = usize::try_from(memory).unwrap_or(usize::MAX);
    let environment = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(memory)))
        .with_disk_manager_builder(spill::on_disk().map_err(unreadable)?);
    let environment = environment.build_arc().map_err(unreadable)?;
    let context = DeltaSessionContext::with_runtime_env(environment).into_inner();
    let state = context.state_ref();
    let mut state = state.write();
    let options = state.config_mut().options_mut();
    options.execution.parquet.schema_force_view_types = false;
    options.optimizer.prefer_hash_join = join == Join::Hash;
    // Each partition has sorts of its own, and each sort keeps something back for its last step.
    // DataFusion merges sorted sides only where there are two or more of them.
    let fewest = if join == Join::Sort { 2 } else { 1 };
    let partitions = (memory / PARTITION_MEMORY).clamp(fewest, options.execution.target_partitions.max(fewest));
    options.execution.target_partitions = partitions;
    options.execution.sort_spill_reservation_bytes = memory / partitions / 16;
    // Every operator holds a few batches that it does not account for; a sort cannot begin with less than one batch.
    let most = if join == Join::Sort { BATCH_BYTES / 4 } else { BATCH_BYTES };
    let rows = publication.row_width().map_or(256, |width| (most / width.max(1)).clamp(256, 8192));
    options.set("datafusion.execution.batch_size", &rows.to_string()).map_err(unreadable)?;
    drop(state);
    Ok(context)
}

/// The staged rows, the last one of each key, and the session in which all of them are the table [`STAGED`].
pub(crate) async fn newest(
    publication: &Publication,
    staged: &[Add],
    join: Join,
) -> Result<(SessionContext, DataFrame)> {
    let plan = &publication.plan;
    let state = State::of(plan)?;
    let folder = staging(plan);
    let context = session(publication, join)?;
    register(&context, publication, staged.iter().map(|add| format!("{folder}/{}", add.path))).await?;
    let columns: Vec<String> = state.fields.iter().map(|f| Quoting::DOUBLE.quote(&f.name)).collect();
    let keys = Quoting::DOUBLE.quote_all(&plan.keys);
    let columns = columns.join(", ");
    let latest = format!(
        "SELECT {columns} FROM (SELECT {columns}, row_number() OVER (PARTITION BY {keys} \
         ORDER BY {SPLIT_COLUMN} DESC, {ROW_COLUMN} DESC) AS __weir_nth FROM {STAGED}) WHERE __weir_nth = 1",
    );
    // To look at the keys alone is cheap; to sort whole rows for the few jobs that bring a key twice is not.
    let sql = match twice(&context, &keys).await {
        Ok(None) => format!("SELECT {columns} FROM {STAGED}"),
        Ok(Some(key)) if publication.config.duplicate_keys == DuplicateKeys::Error => return Err(doubled(key)),
        Err(error) if publication.config.duplicate_keys == DuplicateKeys::Error => return Err(error),
        // With too little memory for that the sort, which goes on on disk, is the way.
        Ok(Some(_)) | Err(_) => latest,
    };
    let rows = context.sql(&sql).await.map_err(unreadable)?;
    Ok((context, rows))
}

/// Refuses files that hold a key more than once.
///
/// # Errors
/// [`Data`](ErrorKind::Data), with the key.
pub(crate) async fn ensure_distinct(publication: &Publication, files: &[Add]) -> Result<()> {
    let partitioned = State::of(&publication.plan)?.partition_columns;
    // Files do not hold what the log says of them: keys are compared among the files of equal values.
    let (told, compared): (Vec<&String>, Vec<&String>) =
        publication.plan.keys.iter().partition(|key| partitioned.contains(key));
    let mut alike: BTreeMap<Vec<Option<&String>>, Vec<&Add>> = BTreeMap::new();
    for add in files {
        let values = told.iter().map(|key| add.partition_values.get(*key).and_then(Option::as_ref)).collect();
        alike.entry(values).or_default().push(add);
    }
    for (values, files) in alike {
        let context = session(publication, Join::Hash)?;
        register(&context, publication, files.iter().map(|add| add.path.clone())).await?;
        let keys = match compared.is_empty() {
            // Each partition may have one row.
            true => "1".to_owned(),
            false => Quoting::DOUBLE.quote_all(&compared),
        };
        if let Some(key) = twice(&context, &keys).await? {
            let error = doubled(key);
            return Err(if told.is_empty() { error } else { error.with("partition", json!(values)) });
        }
    }
    Ok(())
}

fn doubled(key: serde_json::Value) -> Error {
    let message = "the input holds a key more than once, and `duplicateKeys` is error: nothing was published";
    Error::new(ErrorKind::Data, message).with("key", key)
}

/// Makes files, by their paths below the table's folder, the table [`STAGED`].
async fn register(
    context: &SessionContext,
    publication: &Publication,
    paths: impl Iterator<Item = String>,
) -> Result<()> {
    let root = Url::parse("weir-staging://table/").map_err(|e| Error::internal("a fixed URL is wrong").because(e))?;
    // Not the table's own store: what that one says of a single file carries the path below the root.
    context.register_object_store(&root, publication.location.store());
    let address = |path: String| {
        let key = publication.location.key(&path)?;
        Ok(format!("{root}{}", utf8_percent_encode(key.as_ref(), IN_ADDRESS)))
    };
    let files: Vec<String> = paths.map(address).collect::<Result<_>>()?;
    let rows = context.read_parquet(files, ParquetReadOptions::default()).await.map_err(unreadable)?;
    context.register_table(STAGED, rows.into_view()).map_err(unreadable)?;
    Ok(())
}

/// A key that more than one of the staged rows has.
async fn twice(context: &SessionContext, keys: &str) -> Result<Option<serde_json::Value>> {
    let sql = format!("SELECT {keys} FROM {STAGED} GROUP BY {keys} HAVING count(*) > 1 LIMIT 1");
    let found = context.sql(&sql).await.map_err(unreadable)?.collect().await.map_err(unreadable)?;
    let batch = found.iter().find(|batch| batch.num_rows() > 0);
    Ok(batch.map(|batch| serde_json::Value::from(weir_core::row_values(batch, 0))))
}

/// The library passes the fault on as text only.
fn is_out_of_memory(error: &Error) -> bool {
    error.full().contains("Resources exhausted")
}

fn column(table: &str, name: &str) -> Expr {
    Expr::Column(Column::new(Some(table), name))
}

fn too_little_memory(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = "the merge does not find its way with so little memory: raise `mergeMemory`";
    Error::new(ErrorKind::Io, message).because(error)
}

pub(crate) fn unreadable(error: DataFusionError) -> Error {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => too_little_memory(error),
        _ if let Some(fault) = spill::fault(&error.to_string()) => fault,
        _ => Error::new(ErrorKind::Data, "the rows to publish, or those of the table, cannot be read").because(error),
    }
}
