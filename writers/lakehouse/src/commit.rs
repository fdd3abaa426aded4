//! One version of the log for one run: what goes into it, and whether it is there.

use std::collections::{BTreeMap, HashMap};
use std::path::Path as FsPath;

use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TableReference, TransactionError};
use deltalake::kernel::{
    Action, Add, DataType, PrimitiveType, Remove, StructField, StructType, Transaction, new_metadata,
};
use deltalake::logstore::{LogStoreRef, ObjectStoreRef};
use deltalake::protocol::{DeltaOperation, MergePredicate, SaveMode};
use deltalake::{DeltaTable, DeltaTableError};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStoreExt as _};
use serde_json::json;
use weir_core::lease::ENTRY;
use weir_core::{Error, ErrorKind, Receipt, Result, WriteMode, WritePlan};
use weir_lakehouse::{Location, arrow_schema, delta_error, partition_value};

use crate::plan::{State, application, run_prefix};
use crate::publish::Publication;

/// How often an append is tried again when others commit at the same time.
const RETRIES: usize = 20;

/// What names a version's run in its `commitInfo`, and where that is.
const RUN_ID: &str = "weirRunId";
const MAKER: &str = "/commitInfo/weirRunId";
/// What names in the `commitInfo` of a version that changes nothing the run whose own version must not come any more.
const GIVEN_UP: &str = "weirGivenUp";

/// The mark of a run whose version is there.
pub(crate) const PUBLISHED: i64 = 1;

/// How many files are looked for at once.
const LOOKS: usize = 16;

/// The files that the tasks wrote.
pub(crate) fn adds(receipts: &[Receipt]) -> Result<Vec<Add>> {
    let mut receipts: Vec<&Receipt> = receipts.iter().collect();
    receipts.sort_by_key(|r| r.split);
    let mut all = Vec::new();
    for receipt in receipts {
        let adds: Vec<Add> = receipt
            .data
            .get("adds")
            .cloned()
            .map(serde_json::from_value)
            .transpose()
            .map_err(|e| Error::internal("a receipt was not made by the lakehouse writer").because(e))?
            .unwrap_or_default();
        all.extend(adds);
    }
    Ok(all)
}

/// Refuses files that are gone: a table that was tidied up while a run lay unfinished has lost what no version names.
///
/// # Errors
/// [`Conflict`](ErrorKind::Conflict), naming the first of them.
pub(crate) async fn ensure_there(store: &ObjectStoreRef, adds: &[Add]) -> Result<()> {
    let paths: Vec<String> = adds.iter().map(|add| add.path.clone()).collect();
    let looks = paths.into_iter().map(|path| look(store.clone(), path));
    futures::stream::iter(looks).buffer_unordered(LOOKS).try_collect().await
}

async fn look(store: ObjectStoreRef, path: String) -> Result<()> {
    let location = deltalake::Path::parse(&path).map_err(|e| delta_error(DeltaTableError::generic(e.to_string())))?;
    match store.head(&location).await {
        Ok(_) => Ok(()),
        Err(deltalake::ObjectStoreError::NotFound { .. }) => {
            let message = "a data file is gone before it was published (a VACUUM deletes what no version of the table \
                           names): run the job again with --fresh";
            Err(Error::new(ErrorKind::Conflict, message).with("file", path))
        }
        Err(error) => Err(delta_error(error.into())),
    }
}

/// What the run has left in the table's log: [`PUBLISHED`], or a lower number each time that it was given up.
pub(crate) async fn mark(table: &DeltaTable, plan: &WritePlan) -> Result<Option<i64>> {
    let snapshot = table.snapshot().map_err(delta_error)?;
    let version = snapshot.transaction_version(table.log_store().as_ref(), application(plan)).await;
    version.map_err(delta_error)
}

/// Whether the run is in the table already.
pub(crate) async fn committed(table: &DeltaTable, plan: &WritePlan) -> Result<bool> {
    Ok(mark(table, plan).await? == Some(PUBLISHED))
}

/// Whether another entry of the plan's run has created the table.
pub(crate) async fn made_by_run(table: &DeltaTable, plan: &WritePlan) -> Result<bool> {
    let Some((run, _)) = plan.run_id.rsplit_once(ENTRY) else { return Ok(false) };
    let first = table.log_store().read_commit_entry(0).await.map_err(delta_error)?.unwrap_or_default();
    let actions = serde_json::Deserializer::from_slice(&first).into_iter::<serde_json::Value>();
    // A log that cannot be read is nobody's.
    let maker = actions.flatten().find_map(|action| Some(action.pointer(MAKER)?.as_str()?.to_owned()));
    Ok(maker.is_some_and(|maker| maker.rsplit_once(ENTRY).is_some_and(|(of, _)| of == run)))
}

/// Commit properties that mark the version as this run's. Only what does not depend on the rows that are there may be
/// tried again on top of others' versions; the rest starts again from the table as it is then.
pub(crate) fn properties(plan: &WritePlan) -> CommitProperties {
    CommitProperties::default()
        .with_application_transaction(Transaction::new(application(plan), PUBLISHED))
        .with_max_retries(if plan.mode == WriteMode::Append { RETRIES } else { 0 })
        .with_metadata([(RUN_ID.to_owned(), json!(plan.run_id))])
}

/// Publishes the files: appended, or in place of what the table or the partition holds. Gives the version.
///
/// # Errors
/// [`Fault::Raced`] when another writer's change does not go together with this one.
pub(crate) async fn publish(of: &Publication, table: &DeltaTable, adds: Vec<Add>) -> Result<u64, Fault> {
    let plan = &of.plan;
    let state = State::of(plan)?;
    let snapshot = table.snapshot().map_err(Fault::of)?;
    let mut actions: Vec<Action> = adds.into_iter().map(Action::Add).collect();
    let overwrite = plan.mode == WriteMode::Overwrite;
    if overwrite {
        let wanted = partition(&state)?;
        for view in snapshot.log_data().iter() {
            if in_partition(&view.partition_values_map(), &wanted)? {
                actions.push(Action::Remove(view.remove_action(true)));
            }
        }
    }
    let operation = DeltaOperation::Write {
        mode: if overwrite { SaveMode::Overwrite } else { SaveMode::Append },
        partition_by: Some(state.partition_columns.clone()).filter(|c| !c.is_empty()),
        predicate: None,
    };
    let builder = CommitBuilder::from(properties(plan)).with_actions(actions);
    run(of, builder, Some(snapshot), table.log_store(), operation).await
}

/// Publishes an upsert: files in place of others. Gives the version.
///
/// # Errors
/// [`Fault::Raced`] when another writer made a version since the table was read.
#[cfg_attr(not(feature = "datafusion"), allow(dead_code, reason = "only an upsert replaces single files"))]
pub(crate) async fn replace(
    of: &Publication,
    table: &DeltaTable,
    removes: Vec<Remove>,
    adds: Vec<Add>,
) -> Result<u64, Fault> {
    let plan = &of.plan;
    let snapshot = table.snapshot().map_err(Fault::of)?;
    let actions = removes.into_iter().map(Action::Remove).chain(adds.into_iter().map(Action::Add)).collect();
    let did = |what: &str| vec![MergePredicate { action_type: what.into(), predicate: None }];
    let equal: Vec<String> = plan.keys.iter().map(|key| format!("source.{key} = target.{key}")).collect();
    let operation = DeltaOperation::Merge {
        predicate: None,
        merge_predicate: Some(equal.join(" AND ")),
        matched_predicates: did("update"),
        not_matched_predicates: did("insert"),
        not_matched_by_source_predicates: Vec::new(),
    };
    let builder = CommitBuilder::from(properties(plan)).with_actions(actions);
    run(of, builder, Some(snapshot), table.log_store(), operation).await
}

/// Creates the table with the files in its first version.
///
/// # Errors
/// [`Fault::Raced`] when another writer created it meanwhile.
pub(crate) async fn create(of: &Publication, adds: Vec<Add>) -> Result<u64, Fault> {
    let plan = &of.plan;
    let state = State::of(plan)?;
    let invalid = |e| Error::new(ErrorKind::Schema, "Delta takes no table with these columns").because(e);
    let schema = StructType::try_new(state.fields.iter().cloned())
        .map_err(|e| Error::new(ErrorKind::Schema, "Delta takes no table with these columns").because(e))?;
    let metadata =
        new_metadata(&schema, &state.partition_columns, HashMap::<String, String>::new()).map_err(invalid)?;
    let mut actions = vec![protocol(&state.fields)?, Action::Metadata(metadata)];
    actions.extend(adds.into_iter().map(Action::Add));
    let operation = DeltaOperation::Write {
        mode: SaveMode::ErrorIfExists,
        partition_by: Some(state.partition_columns.clone()).filter(|c| !c.is_empty()),
        predicate: None,
    };
    // No retries: were the table there, its columns might be others.
    let builder = CommitBuilder::from(properties(plan).with_max_retries(0)).with_actions(actions);
    run(of, builder, None, of.location.log_store(), operation).await
}

async fn run(
    of: &Publication,
    builder: CommitBuilder,
    snapshot: Option<&dyn TableReference>,
    log_store: LogStoreRef,
    operation: DeltaOperation,
) -> Result<u64, Fault> {
    // When a place is taken the library looks at the log again, and may find nothing there that it can read.
    let is_unclear =
        |e: &DeltaTableError| matches!(e, DeltaTableError::InvalidVersion(_) | DeltaTableError::Generic(_));
    let committed = of.pending.ask(&of.location, builder.build(snapshot, log_store, operation), is_unclear).await?;
    Ok(committed.version())
}

/// Makes a version that changes nothing, so that no other can come at its place. Its mark is another than the run's one
/// so far: whoever is still about to publish, on top of an older version, learns that the files are gone.
///
/// # Errors
/// [`Fault::Raced`] when another writer made a version since the table was read.
pub(crate) async fn occupy(table: &DeltaTable, plan: &WritePlan) -> Result<(), Fault> {
    let snapshot = table.snapshot().map_err(Fault::of)?;
    let mark = mark(table, plan).await?.map_or(0, |mark| mark.min(PUBLISHED) - 1);
    let properties = CommitProperties::default()
        .with_application_transaction(Transaction::new(application(plan), mark))
        .with_max_retries(0)
        .with_create_checkpoint(false)
        .with_cleanup_expired_logs(Some(false))
        .with_metadata([(GIVEN_UP.to_owned(), json!(plan.run_id))]);
    let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
    let made = CommitBuilder::from(properties).build(Some(snapshot), table.log_store(), operation).await;
    made.map(drop).map_err(Fault::of)
}

/// Why it is not known that a version was made.
pub(crate) enum Fault {
    /// There is a version where this one was to go, or one is being made: another writer's, or this very one, where the store took it,
    /// its answer was lost, and the request was sent again. Look at the table again. With the data files that were made
    /// for the version: they are of no use only when it is another's.
    Raced(Error, Vec<String>),
    /// Anything else; the version may have been made all the same.
    Other(Error),
}

impl Fault {
    pub(crate) fn of(error: DeltaTableError) -> Self {
        match Self::is_race(&error) {
            true => Self::Raced(delta_error(error), Vec::new()),
            false => Self::Other(delta_error(error)),
        }
    }

    /// Whether the library says that there is a version where this one was to go.
    pub(crate) fn is_race(error: &DeltaTableError) -> bool {
        matches!(
            error,
            DeltaTableError::VersionAlreadyExists(_)
                | DeltaTableError::Transaction {
                    source: TransactionError::CommitConflict(_)
                        | TransactionError::MaxCommitAttempts(_)
                        | TransactionError::VersionAlreadyExists(_),
                }
        )
    }

    /// The same, with the data files that were made for the version.
    pub(crate) fn of_files(self, files: Vec<String>) -> Self {
        match self {
            Self::Raced(error, _) => Self::Raced(error, files),
            Self::Other(error) => Self::Other(error),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Refuses a table that was altered since the files for it were written.
///
/// # Errors
/// [`Conflict`](ErrorKind::Conflict), naming what is other.
pub(crate) fn ensure_unchanged(table: &DeltaTable, state: &State) -> Result<()> {
    let snapshot = table.snapshot().map_err(delta_error)?;
    let schema = snapshot.schema();
    let altered = |what: String| {
        let message = format!("the table was altered while the job ran: {what}; run the job again");
        Err(Error::new(ErrorKind::Conflict, message))
    };
    for field in &state.fields {
        match schema.field(&field.name) {
            None => return altered(format!("column `{}` is gone", field.name)),
            Some(now) if now.data_type != field.data_type || (field.nullable && !now.nullable) => {
                return altered(format!("column `{}` is of another type", field.name));
            }
            Some(_) => {}
        }
    }
    if let Some(added) = schema.fields().find(|f| !f.nullable && state.field(&f.name).is_none()) {
        return altered(format!("column `{}` is new and takes no NULL", added.name));
    }
    if snapshot.metadata().partition_columns() != state.partition_columns {
        return altered("it is partitioned by other columns".into());
    }
    Ok(())
}

/// The least protocol that the columns need.
fn protocol(fields: &[StructField]) -> Result<Action> {
    let zoneless = fields.iter().any(|f| is_zoneless(&f.data_type));
    let action = if zoneless {
        let features = ["timestampNtz"];
        json!({"protocol": {
            "minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": features, "writerFeatures": ["appendOnly", "invariants", "timestampNtz"],
        }})
    } else {
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}})
    };
    serde_json::from_value(action).map_err(|e| Error::internal("the protocol cannot be written down").because(e))
}

pub(crate) fn is_zoneless(data_type: &DataType) -> bool {
    match data_type {
        DataType::Primitive(PrimitiveType::TimestampNtz) => true,
        DataType::Array(list) => is_zoneless(list.element_type()),
        _ => false,
    }
}

/// The constant partition values with their types, for comparing them with those of the log.
type Partition = BTreeMap<String, arrow::array::ArrayRef>;

fn partition(state: &State) -> Result<Partition> {
    let mut values = BTreeMap::new();
    for (name, text) in &state.partition {
        if let Some(field) = state.field(name) {
            let arrow = arrow_schema([field])?;
            values.insert(name.clone(), partition_value(Some(text), arrow.field(0).data_type())?);
        }
    }
    Ok(values)
}

fn in_partition(file: &HashMap<String, Option<String>>, wanted: &Partition) -> Result<bool> {
    for (name, value) in wanted {
        let text = file.get(name).and_then(|v| v.as_deref());
        if partition_value(text, value.data_type())?.as_ref() != value.as_ref() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Deletes files that no version names, and says what is left. What cannot be deleted is litter, not wrong data.
pub(crate) async fn delete<'a>(store: &ObjectStoreRef, paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut left = Vec::new();
    for path in paths {
        let Ok(location) = deltalake::Path::parse(path) else { continue };
        match store.delete(&location).await {
            Ok(()) | Err(deltalake::ObjectStoreError::NotFound { .. }) => {}
            Err(error) => {
                tracing::warn!(file = path, %error, "an unpublished file could not be deleted");
                left.push(format!("{path} is of no use and could not be deleted: {error}"));
            }
        }
    }
    left
}

/// The data files of the run, published or not, by their names.
pub(crate) async fn files_of_run(location: &Location, plan: &WritePlan) -> Result<Vec<String>> {
    let (prefix, is_flat) = (run_prefix(plan), State::of(plan)?.partition_columns.is_empty());
    if let Some(root) = location.local_path() {
        // The store does not show files that were never completed.
        let root = root.to_owned();
        let found = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            walk(&root, "", &prefix, is_flat, &mut found)?;
            Ok(found)
        });
        return found.await.map_err(|e| Error::internal("the table's folder could not be listed").because(e))?;
    }
    let store = location.folder();
    let failed = |e: deltalake::ObjectStoreError| delta_error(e.into());
    let of_run = |object: &ObjectMeta| object.location.filename().is_some_and(|name| name.starts_with(&prefix));
    let found: Vec<ObjectMeta> = match is_flat {
        true => store.list_with_delimiter(None).await.map_err(failed)?.objects.into_iter().filter(of_run).collect(),
        false => {
            let all = store.list(None).try_filter(|object| std::future::ready(of_run(object)));
            all.try_collect().await.map_err(failed)?
        }
    };
    Ok(found.into_iter().map(|object| object.location.to_string()).collect())
}

/// Looks for files whose names begin with `prefix`: in `folder`, and unless the table has no partitions below it.
fn walk(folder: &FsPath, shown: &str, prefix: &str, is_flat: bool, found: &mut Vec<String>) -> Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if shown.is_empty() { name.clone() } else { format!("{shown}/{name}") };
        if name.starts_with(prefix) {
            found.push(path);
        } else if !is_flat && !name.starts_with(['_', '.']) && entry.file_type()?.is_dir() {
            walk(&entry.path(), &path, prefix, is_flat, found)?;
        }
    }
    Ok(())
}

/// Deletes files below the table's folder, also ones that were never completed. Says what is left.
pub(crate) async fn remove(location: &Location, paths: &[String]) -> Vec<String> {
    let Some(root) = location.local_path() else {
        return delete(&location.folder(), paths.iter().map(String::as_str)).await;
    };
    let gone = |path: &String| match std::fs::remove_file(root.join(path)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Some(format!("{path} is of no use and could not be deleted: {error}"))
        }
        _ => None,
    };
    paths.iter().filter_map(gone).collect()
}
