//! Changing the table: new columns and NULLs are a matter of its log alone; a wider type is one of its files, which are
//! written anew, all in one version.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use async_trait::async_trait;
use deltalake::DeltaTable;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Add, MetadataExt as _, MetadataValue, StructField, StructType};
use deltalake::protocol::{DeltaOperation, SaveMode};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use weir_core::field::NATIVE_TYPE;
use weir_core::{
    ColumnDefault, Error, ErrorKind, Evolve, Family, Fit, MappedColumn, PresentColumn, Relation, Result, TableChange,
    WriteRequest,
};
use weir_lakehouse::{
    DataFile, Location, Scan, Scanned, active_files, arrow_schema, canonical, delta_error, ensure_writable, new_column,
    on_io, type_text,
};

use crate::commit::{Fault, delete, is_zoneless};
use crate::files::DataFiles;
use crate::writer::LakehouseWriter;

/// How often a version is tried to be made while others are faster.
const ATTEMPTS: u32 = 5;

/// What is other in the table.
#[derive(Debug, Clone, Default, PartialEq)]
struct Alteration {
    /// All columns, as they are to be.
    fields: Vec<StructField>,
    /// Whether the files are written anew.
    rewrites: bool,
    /// What is done, for people; empty when there is nothing to do.
    said: Vec<String>,
}

#[async_trait]
impl Evolve for LakehouseWriter {
    async fn compare(&self, request: &WriteRequest) -> Result<Vec<Fit>> {
        let fields = fields_of(&self.required().await?)?;
        request.columns.iter().map(|column| fit(&fields, column)).collect()
    }

    async fn alterations(&self, changes: &[TableChange]) -> Result<Vec<String>> {
        let table = self.required().await?;
        Ok(alteration(&fields_of(&table)?, self.location.name(), changes)?.said)
    }

    async fn alter(&self, changes: &[TableChange]) -> Result<Vec<String>> {
        let (location, changes, size) = (self.location.clone(), changes.to_vec(), self.config.target_file_size);
        let done = on_io(&self.context, async move {
            let mut raced = Vec::new();
            for attempt in 1.. {
                let Some(table) = location.open(None).await? else { return Err(gone()) };
                ensure_writable(&table)?;
                let alteration = alteration(&fields_of(&table)?, location.name(), &changes)?;
                if alteration.said.is_empty() {
                    // By the version that was in the way: ours, whose answer was lost, or one like it.
                    return Ok(raced);
                }
                match commit(&location, &table, &alteration, size).await {
                    Ok(()) => return Ok(alteration.said),
                    Err(Fault::Raced(error, _)) if attempt >= ATTEMPTS => return Err(error),
                    Err(Fault::Raced(..)) => raced = alteration.said,
                    Err(Fault::Other(error)) => return Err(error),
                }
            }
            Err(gone())
        });
        done.await.map_err(|e| e.with("table", self.location.name()))
    }
}

impl LakehouseWriter {
    async fn required(&self) -> Result<DeltaTable> {
        self.open_table().await?.ok_or_else(|| gone().with("table", self.location.name()))
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::NotFound, "there is no Delta table to change")
}

fn fields_of(table: &DeltaTable) -> Result<Vec<StructField>> {
    Ok(table.snapshot().map_err(delta_error)?.schema().fields().cloned().collect())
}

fn fit(fields: &[StructField], column: &MappedColumn) -> Result<Fit> {
    let wanted = new_column(column).field;
    let Some(field) = fields.iter().find(|field| field.name == column.name) else {
        return Ok(Fit { wanted: type_text(&wanted.data_type), present: None });
    };
    let relation = relation(field, &wanted)?;
    // Where Delta's type is the same, the source's is what became wider.
    let shown = |field: &StructField, other: &StructField| {
        let text = type_text(&field.data_type);
        let same = text == type_text(&other.data_type) && relation == Relation::Widens;
        if same { own_type(field).unwrap_or(text) } else { text }
    };
    let present = PresentColumn { native_type: shown(field, &wanted), relation };
    Ok(Fit { wanted: shown(&wanted, field), present: Some(present) })
}

fn relation(field: &StructField, wanted: &StructField) -> Result<Relation> {
    let relation = Family::of(&canonical(field)?).relation(&Family::of(&canonical(wanted)?));
    // An unsigned number is stored as a wider signed one: what matters is that nothing has to be rewritten.
    Ok(match relation {
        Relation::Crosses if field.data_type == wanted.data_type => Relation::Same,
        Relation::Same => lengths(&own_type(field), &own_type(wanted)),
        relation => relation,
    })
}

/// The type that the column has at its source, which the table keeps in its metadata.
fn own_type(field: &StructField) -> Option<String> {
    match field.metadata.get(NATIVE_TYPE) {
        Some(MetadataValue::String(text)) => Some(text.clone()),
        _ => None,
    }
}

/// Texts of Delta have no length, but the table remembers the source's, by which it is read into other systems.
fn lengths(now: &Option<String>, wanted: &Option<String>) -> Relation {
    let (Some(now), Some(wanted)) = (now, wanted) else { return Relation::Same };
    let length = |text: &str| {
        let (base, rest) = text.split_once('(')?;
        let number: u64 = rest.split_once(')')?.0.trim().parse().ok()?;
        (base.contains("char") || base.contains("binary")).then_some(number)
    };
    match (length(now), length(wanted)) {
        (Some(now), Some(wanted)) if now < wanted => Relation::Widens,
        (Some(now), Some(wanted)) if now > wanted => Relation::Holds,
        (Some(_), None) => Relation::Widens,
        (None, Some(_)) => Relation::Holds,
        _ => Relation::Same,
    }
}

fn alteration(fields: &[StructField], name: &str, changes: &[TableChange]) -> Result<Alteration> {
    let mut done = Alteration { fields: fields.to_vec(), ..Alteration::default() };
    for change in changes {
        let column = change.column();
        let wanted = new_column(column).field;
        let at = done.fields.iter().position(|field| field.name == column.name);
        match (change, at) {
            (TableChange::AddColumn { .. }, Some(_)) => {}
            (TableChange::AddColumn { default, .. }, None) => {
                // Delta itself gives rows that are there NULL, and to write them anew is not what a column more is worth.
                let not = match default {
                    Some(ColumnDefault::Literal(text)) => format!(" and not the default {text}"),
                    Some(_) => " and no default".into(),
                    None => String::new(),
                };
                done.said.push(format!(
                    "ALTER TABLE {name} ADD COLUMN {} {}, with NULL in the rows that are there{not}",
                    wanted.name,
                    type_text(&wanted.data_type)
                ));
                done.fields.push(StructField { nullable: true, ..wanted });
            }
            (TableChange::WidenColumn { .. }, Some(at)) => match relation(&done.fields[at], &wanted)? {
                Relation::Same | Relation::Holds => {}
                Relation::Widens => {
                    let (from, to) = (type_text(&done.fields[at].data_type), type_text(&wanted.data_type));
                    if from == to {
                        let own = own_type(&wanted).unwrap_or_default();
                        done.said.push(format!("ALTER TABLE {name}: column {} is {own} at its source", wanted.name));
                    } else {
                        done.rewrites = true;
                        let column = &wanted.name;
                        done.said.push(format!("{name} is written anew, column {column} as {to} and no longer {from}"));
                    }
                    done.fields[at] = StructField { nullable: done.fields[at].nullable, ..wanted };
                }
                Relation::Crosses | Relation::Apart => {
                    let (from, to) = (type_text(&done.fields[at].data_type), type_text(&wanted.data_type));
                    let text = format!("{from} cannot be widened to {to}");
                    return Err(Error::new(ErrorKind::Unsupported, text).with("column", &column.name));
                }
            },
            (TableChange::AllowNull { .. }, Some(at)) if !done.fields[at].nullable => {
                done.said.push(format!("ALTER TABLE {name} ALTER COLUMN {} DROP NOT NULL", column.name));
                done.fields[at].nullable = true;
            }
            (TableChange::AllowNull { .. }, Some(_)) => {}
            (_, None) => {
                return Err(Error::new(ErrorKind::Conflict, "the column is gone from the target: run again")
                    .with("column", &column.name));
            }
        }
    }
    Ok(done)
}

/// Makes the version with the new columns, and with files that have them.
async fn commit(
    location: &Location,
    table: &DeltaTable,
    alteration: &Alteration,
    size: Option<u64>,
) -> Result<(), Fault> {
    let snapshot = table.snapshot().map_err(Fault::of)?;
    let schema = StructType::try_new(alteration.fields.iter().cloned())
        .map_err(|e| Error::new(ErrorKind::Schema, "Delta takes no table with these columns").because(e))?;
    let metadata = snapshot.metadata().clone().with_schema(&schema).map_err(|e| delta_error(e.into()))?;
    let mut actions = Vec::new();
    actions.extend(protocol(snapshot, &alteration.fields)?);
    actions.push(Action::Metadata(metadata));
    let mut written = Vec::new();
    if alteration.rewrites {
        let adds = rewrite(location, table, alteration, size).await?;
        written.extend(adds.iter().map(|add| add.path.clone()));
        for view in snapshot.log_data().iter() {
            actions.push(Action::Remove(view.remove_action(false)));
        }
        // The rows are those that were there before.
        actions.extend(adds.into_iter().map(|add| Action::Add(Add { data_change: false, ..add })));
    }
    let partition = snapshot.metadata().partition_columns().to_vec();
    let operation = match alteration.rewrites {
        true => DeltaOperation::Write {
            mode: SaveMode::Overwrite,
            partition_by: Some(partition).filter(|columns| !columns.is_empty()),
            predicate: None,
        },
        false => DeltaOperation::AddColumn { fields: alteration.fields.clone() },
    };
    let properties = CommitProperties::default().with_max_retries(0);
    let builder = CommitBuilder::from(properties).with_actions(actions);
    match builder.build(Some(snapshot), table.log_store(), operation).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let fault = Fault::of(error);
            if let (Fault::Raced(..), Some(file)) = (&fault, written.first()) {
                if names(table, file).await? {
                    return Ok(());
                }
                // What was in the way is another's.
                delete(&location.folder(), written.iter().map(String::as_str)).await;
            }
            Err(fault)
        }
    }
}

/// Whether a version that was made since the table was read names the file. Alterations leave no mark by which to know
/// them, but no two of them write files of one name.
async fn names(table: &DeltaTable, file: &str) -> Result<bool> {
    let log = table.log_store();
    for version in table.version().map_or(0, |read| read + 1).. {
        let Some(entry) = log.read_commit_entry(version).await.map_err(delta_error)? else { break };
        for action in serde_json::Deserializer::from_slice(&entry).into_iter::<Value>() {
            let unreadable = |e| Error::new(ErrorKind::Data, "the table's log is damaged").because(e);
            if Add::deserialize(&action.map_err(unreadable)?["add"]).is_ok_and(|add| add.path == file) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Writes all rows of the table with its new types.
async fn rewrite(
    location: &Location,
    table: &DeltaTable,
    alteration: &Alteration,
    size: Option<u64>,
) -> Result<Vec<Add>> {
    let old = active_files(table)?;
    let partition_columns = table.snapshot().map_err(delta_error)?.metadata().partition_columns().to_vec();
    let schema = arrow_schema(&alteration.fields)?;
    let nullable: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let scan = Scan {
        store: table.object_store(),
        scanned: Scanned { columns: Arc::new(Schema::new(nullable)), filter: None, expressions: Vec::new() },
        partition_columns: partition_columns.clone(),
        version: table.version().unwrap_or(0),
    };
    let mut files = DataFiles::new(location.folder(), "part-".into(), schema, partition_columns, size);
    match copy(scan, old, &mut files).await {
        Ok(()) => files.close().await,
        Err(error) => {
            files.discard().await;
            Err(error)
        }
    }
}

async fn copy(scan: Scan, old: Vec<DataFile>, files: &mut DataFiles) -> Result<()> {
    let (sender, mut receiver) = mpsc::channel(2);
    // Ends by itself once the receiver is dropped.
    let reading = tokio::spawn(async move { scan.run(old, &sender).await });
    while let Some(batch) = receiver.recv().await {
        let batch = RecordBatch::try_new(files.schema().clone(), batch?.columns().to_vec())?;
        files.write(&batch).await?;
    }
    reading.await.map_err(|e| Error::internal("the table's files could not be read").because(e))
}

/// The protocol with the feature that zoneless times need, where they are new to the table.
fn protocol(snapshot: &deltalake::table::state::DeltaTableState, fields: &[StructField]) -> Result<Option<Action>> {
    let had = snapshot.schema().fields().any(|field| is_zoneless(&field.data_type));
    if had || !fields.iter().any(|field| is_zoneless(&field.data_type)) {
        return Ok(None);
    }
    let unreadable = |e| Error::internal("the protocol cannot be written down").because(e);
    let now = serde_json::to_value(snapshot.protocol()).map_err(unreadable)?;
    let action = json!({ "protocol": with_zoneless(&now) });
    serde_json::from_value(action).map(Some).map_err(unreadable)
}

/// Features that each version of the protocol for writers stands for, as Delta's own description of it lists them.
const OF_VERSIONS: &[(i64, &str)] = &[
    (2, "appendOnly"),
    (2, "invariants"),
    (3, "checkConstraints"),
    (4, "changeDataFeed"),
    (4, "generatedColumns"),
    (5, "columnMapping"),
    (6, "identityColumns"),
];

fn with_zoneless(now: &Value) -> Value {
    let list = |key: &str| -> Vec<String> {
        let names = now[key].as_array().into_iter().flatten();
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let (mut reader, mut writer) = (list("readerFeatures"), list("writerFeatures"));
    let version = now["minWriterVersion"].as_i64().unwrap_or(2);
    if version < 7 {
        writer.extend(OF_VERSIONS.iter().filter(|(from, _)| *from <= version).map(|(_, name)| (*name).to_owned()));
    }
    if now["minReaderVersion"] == json!(2) {
        reader.push("columnMapping".into());
    }
    for features in [&mut reader, &mut writer] {
        if !features.iter().any(|name| name == "timestampNtz") {
            features.push("timestampNtz".into());
        }
    }
    json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": reader, "writerFeatures": writer})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_the_source_are_compared() {
        let of = |now: &str, wanted: &str| lengths(&Some(now.into()), &Some(wanted.into()));
        assert_eq!(of("varchar(10)", "varchar(20)"), Relation::Widens);
        assert_eq!(of("character varying(10)", "text"), Relation::Widens);
        assert_eq!(of("text", "varchar(20)"), Relation::Holds);
        assert_eq!(of("int(11)", "int"), Relation::Same);
        assert_eq!(lengths(&None, &Some("text".into())), Relation::Same);
    }

    #[test]
    fn the_protocol_keeps_what_its_version_stood_for() {
        let raised = with_zoneless(&json!({"minReaderVersion": 1, "minWriterVersion": 3}));
        assert_eq!(raised["readerFeatures"], json!(["timestampNtz"]));
        assert_eq!(raised["writerFeatures"], json!(["appendOnly", "invariants", "checkConstraints", "timestampNtz"]));
        let listed = json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["v2Checkpoint"],
            "writerFeatures": ["v2Checkpoint", "timestampNtz"]});
        let raised = with_zoneless(&listed);
        assert_eq!(raised["readerFeatures"], json!(["v2Checkpoint", "timestampNtz"]));
        assert_eq!(raised["writerFeatures"], json!(["v2Checkpoint", "timestampNtz"]));
    }
}
