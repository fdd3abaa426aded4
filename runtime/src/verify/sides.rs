//! The two sides of a comparison: how each is read, and the common form that its values are brought into.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field};
use serde_json::{Map, Value};
use weir_core::convert::{Conversion, ConvertOptions};
use weir_core::field::{NATIVE, TEXT, extension, native_type};
use weir_core::{
    ConnectorContext, Error, ErrorKind, Form, OnTypeLoss, ReadColumn, ReadRequest, Reader, Result, Room, SourceColumn,
    SourceSchema, Watermark, Window, WriteMode, WritePlan, Writer,
};

use super::compare::Rule;
use crate::database::evolve::{Evolving, KnownTable};
use crate::entry::{PlannedEntry, plan_evolving};
use crate::job::{Endpoint, Entry, Job};
use crate::pipeline::{From, PipelineSpec};
use crate::plan::{channels, readers_at_once};

/// One side of a comparison.
pub struct Side {
    /// `source` or `target`.
    pub name: &'static str,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Where its sessions are counted, if they are.
    pub room: Option<Room>,
    /// Its reader, on the control runtime.
    pub reader: Arc<dyn Reader>,
    /// What is read.
    pub request: ReadRequest,
    /// The way to the written columns; `None` where those are read.
    pub pipeline: Option<(PipelineSpec, WritePlan)>,
    /// From these to the common form.
    pub conversions: Arc<Vec<Conversion>>,
    /// What is compared of each table of an incremental source.
    pub windows: Vec<Window>,
    /// For how many channels it is cut; the source as for the run, for some give rows by the channel.
    pub channels: usize,
}

/// What both sides share.
pub struct Common {
    /// The columns, named as at the target.
    pub fields: Arc<Vec<Field>>,
    /// Which of them make the key; all, where there is none.
    pub key: Arc<Vec<usize>>,
    /// For values that have a form of the job's.
    pub options: ConvertOptions,
    /// What the target owes the source.
    pub rule: Rule,
    /// Whether an upsert must leave as many rows at least as the source has: that of one table into its mirror, where two rows
    /// of one key are one row too few.
    pub distinct: bool,
}

/// An entry, ready to be compared.
pub struct Comparison {
    /// The source's tables.
    pub source_label: String,
    /// The target table.
    pub target_label: String,
    /// Both sides.
    pub sides: (Side, Side),
    /// What they share.
    pub common: Common,
}

/// Refuses what cannot be compared: a source that does not repeat itself, a target that nobody can read.
///
/// # Errors
/// [`Unsupported`](ErrorKind::Unsupported), with the reason.
pub fn comparable(entry: &Entry, reader: &dyn Reader, writer: &dyn Writer, plan: &WritePlan) -> Result<Endpoint> {
    if !reader.repeats() {
        let text =
            format!("{} gives other rows each time it is read: its target cannot be verified", entry.reader.plugin);
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    target_endpoint(&entry.writer, writer, plan)
}

/// The target as a source: the reader of the same name, with the writer's parameters as far as it knows them.
fn target_endpoint(written: &Endpoint, writer: &dyn Writer, plan: &WritePlan) -> Result<Endpoint> {
    let plugin = weir_core::readers().into_iter().find(|plugin| plugin.name == written.plugin).ok_or_else(|| {
        let text = format!("{} has no reader, so what it wrote cannot be verified", written.plugin);
        Error::new(ErrorKind::Unsupported, text)
    })?;
    let schema = (plugin.schema)();
    let knows = |key: &str| schema.get("properties").is_some_and(|properties| properties.get(key).is_some());
    let mut parameters: Map<String, Value> = written.parameter.as_object().cloned().unwrap_or_default();
    parameters.retain(|key, _| knows(key));
    if knows("column") {
        let names: Vec<&str> = plan.columns.iter().map(|column| column.name.as_str()).collect();
        parameters.insert("column".into(), names.into());
    }
    let parameter = writer.read_back(plan, Value::Object(parameters))?;
    // Our own defaults are the ones that lose nothing.
    Ok(Endpoint { plugin: written.plugin.clone(), form: Form::Native, parameter, pointer: written.pointer.clone() })
}

/// Plans an entry that was run, and finds the common form of every column; `known` is what the run knew of its source.
///
/// # Errors
/// Those of planning a run; what cannot be read twice or back.
pub async fn prepare(
    job: &Job,
    entry: &Entry,
    context: &ConnectorContext,
    (moved, known): (&[Watermark], Option<&KnownTable>),
) -> Result<Comparison> {
    let (entry, mut planned, fresh) = plan_again(job, entry, known, context).await?;
    let windows = moved_windows(job, &entry, &mut planned, context, moved).await?;
    let endpoint = comparable(&entry, planned.reader.as_ref(), planned.writer.as_ref(), &planned.plan)?;
    // Only a source's sessions are counted.
    let uncounted = ConnectorContext { shared: context.shared.within(None), ..context.clone() };
    let reader = endpoint.open_reader(&uncounted)?;
    let target = context.until_cancelled(reader.schema()).await.map_err(|error| error.with("side", "target"))?;
    if target.columns.len() != planned.plan.columns.len() {
        return Err(Error::internal("the target is read with other columns than were written"));
    }
    decode(&mut planned, &target);
    let options = planned.pipeline.convert.options()?;
    let (mut fields, mut from_source, mut from_target, mut read) = (vec![], vec![], vec![], vec![]);
    for (index, (written, column)) in planned.plan.columns.iter().zip(&target.columns).enumerate() {
        let found = common_form(&written.input, column, &options)?;
        fields.push(found.field.with_name(&written.name));
        from_source.push(found.from_source);
        from_target.push(found.from_target);
        read.push(ReadColumn { index, field: found.read });
    }
    let partition = entry.writer.parameter.get("partition").is_some_and(|partition| partition.is_object());
    let rule = match planned.plan.mode {
        // Where nothing was before, there may be nothing else afterwards.
        _ if fresh => Rule::Exact,
        WriteMode::Overwrite if !partition => Rule::Exact,
        WriteMode::Overwrite | WriteMode::Append => Rule::Contains,
        WriteMode::Upsert | WriteMode::Replace => Rule::Upsert,
        WriteMode::Ignore => Rule::Present,
    };
    let key = key_columns(&planned);
    let request = planned.pipeline.read.clone();
    // A merge says itself which of its rows meet; a window's rows may have changed meanwhile.
    let distinct = windows.is_empty() && entry.table.as_ref().is_some_and(|table| table.has_own_key());
    let at_once = readers_at_once(&planned, job);
    Ok(Comparison {
        source_label: planned.source.tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", "),
        target_label: planned.plan.table.clone(),
        sides: (
            Side {
                name: "source",
                endpoint: entry.reader.clone(),
                room: context.shared.room().cloned(),
                reader: planned.reader,
                request,
                pipeline: Some((planned.pipeline, planned.plan)),
                conversions: Arc::new(from_source),
                windows,
                channels: at_once,
            },
            Side {
                name: "target",
                endpoint,
                room: None,
                reader,
                request: ReadRequest { columns: read, snapshot: None, limit: None },
                pipeline: None,
                conversions: Arc::new(from_target),
                windows: Vec::new(),
                channels: channels(&job.setting),
            },
        ),
        common: Common { fields: Arc::new(fields), key: Arc::new(key), options, rule, distinct },
    })
}

/// What an incremental source has moved so far, as one window of each table: rows that changed since have left it.
async fn moved_windows(
    job: &Job,
    entry: &Entry,
    planned: &mut PlannedEntry,
    context: &ConnectorContext,
    moved: &[Watermark],
) -> Result<Vec<Window>> {
    planned.decide_windows(job, entry, context, Vec::new(), None).await?;
    if !planned.windows.is_empty() && planned.plan.mode == WriteMode::Overwrite {
        let text =
            "an incremental source whose target is overwritten cannot be verified: the target holds one window only";
        return Err(Error::new(ErrorKind::Unsupported, text).with("target", &planned.plan.table));
    }
    let up_to = |window: &Window| {
        let same = |mark: &&Watermark| mark.place == window.place && mark.is_called(&window.table, &window.place);
        moved.iter().find(same).map(|mark| mark.value.clone())
    };
    Ok(planned.windows.iter().map(|window| Window { high: up_to(window), ..window.clone() }).collect())
}

/// Plans an entry whose target is there already, by a run that knew this of its source. A mode that wants an empty place is
/// planned as an append; `true` then.
pub async fn plan_again(
    job: &Job,
    entry: &Entry,
    written: Option<&KnownTable>,
    context: &ConnectorContext,
) -> Result<(Entry, PlannedEntry, bool)> {
    let evolving = Evolving { written, ..Evolving::default() };
    let error = match plan_evolving(job, entry, "verify", context, evolving).await {
        Ok(planned) => return Ok((entry.clone(), planned, false)),
        Err(error) => error,
    };
    let mode = entry.writer.parameter.get("writeMode").and_then(Value::as_str);
    if error.kind() != ErrorKind::Conflict || mode.is_none_or(|mode| WriteMode::parse(mode).is_some()) {
        return Err(error);
    }
    let entry = appending(entry);
    let planned = plan_evolving(job, &entry, "verify", context, evolving).await?;
    Ok((entry, planned, true))
}

/// The entry, in append mode.
pub fn appending(entry: &Entry) -> Entry {
    let mut entry = entry.clone();
    if let Some(parameters) = entry.writer.parameter.as_object_mut() {
        parameters.insert("writeMode".into(), "append".into());
    }
    entry
}

/// Values that pass from system to system undecoded are compared in their text, else in their canonical form.
fn decode(planned: &mut PlannedEntry, target: &SourceSchema) {
    let PlannedEntry { source, pipeline, plan, .. } = planned;
    for ((from, written), target) in pipeline.columns.iter().zip(&mut plan.columns).zip(&target.columns) {
        if extension(&written.input) != Some(NATIVE) {
            continue;
        }
        let From::Column(at) = from else { continue };
        let Some(read) = pipeline.read.columns.get_mut(*at) else { continue };
        let column = &source.columns[read.index];
        let text = |column: &SourceColumn| column.representations.iter().find(|f| extension(f) == Some(TEXT)).cloned();
        let alike = native_type(column.canonical()) == native_type(target.canonical());
        let field = text(column).filter(|_| alike && text(target).is_some());
        let field = field.unwrap_or_else(|| column.canonical().clone());
        written.input = field.clone().with_name(&written.name).with_nullable(true);
        read.field = field;
    }
}

/// How the two sides of a column meet.
struct Meeting {
    field: Field,
    from_source: Conversion,
    /// How the target is read.
    read: Field,
    from_target: Conversion,
}

/// The form in which a column is compared: the one in which it was written, for whatever the target made of that has to
/// lead back to it; but where it was written as text into a column of another type, the target's, for texts have many
/// spellings.
fn common_form(written: &Field, target: &SourceColumn, options: &ConvertOptions) -> Result<Meeting> {
    let canonical = target.canonical();
    let plain = |field: &Field| field.data_type() == &DataType::Utf8 && matches!(extension(field), None | Some(TEXT));
    let same_text = extension(written) == Some(TEXT)
        && target.representations.iter().any(|field| extension(field) == Some(TEXT))
        && native_type(written) == native_type(canonical);
    let forms = match plain(written) && !plain(canonical) && !same_text {
        true => [canonical, written],
        false => [written, canonical],
    };
    let mut first = None;
    for on_type_loss in [OnTypeLoss::Error, OnTypeLoss::Cast] {
        let options = ConvertOptions { on_type_loss, ..options.clone() };
        for field in forms {
            match meet(written, target, field, &options) {
                Ok(meeting) => return Ok(meeting),
                Err(error) => first = first.or(Some(error)),
            }
        }
    }
    let error = first.unwrap_or_else(|| Error::internal("a column has no form"));
    let text = format!("column {} cannot be compared: {}", written.name(), error.message());
    Err(Error::new(ErrorKind::Unsupported, text).with("column", written.name()))
}

fn meet(written: &Field, target: &SourceColumn, field: &Field, options: &ConvertOptions) -> Result<Meeting> {
    let from_source = Conversion::plan(written, field, options)?;
    let offers = || target.representations.iter().filter(|offer| extension(offer) != Some(NATIVE));
    let same = offers().find(|offer| weir_core::field::same_representation(offer, field));
    let read = same.unwrap_or_else(|| target.canonical()).clone();
    let from_target = Conversion::plan(&read, field, options)?;
    Ok(Meeting { field: field.clone(), from_source, read, from_target })
}

/// The written columns that tell rows apart: the upsert's keys, else the source's, else all.
fn key_columns(planned: &PlannedEntry) -> Vec<usize> {
    let PlannedEntry { source, pipeline, plan, .. } = planned;
    let all = || (0..plan.columns.len()).collect();
    let named = |name: &String| plan.columns.iter().position(|column| &column.name == name);
    let keys: Option<Vec<usize>> = plan.keys.iter().map(named).collect();
    if let Some(keys) = keys.filter(|keys| !keys.is_empty()) {
        return keys;
    }
    // Tables of one shape may have the same keys each.
    if source.tables.len() > 1 {
        return all();
    }
    let source_index = |from: &From| match from {
        From::Column(at) => pipeline.read.columns.get(*at).map(|column| column.index),
        From::Constant(_) | From::PerTable(_) | From::Null => None,
    };
    let of_source = |index: usize| pipeline.columns.iter().position(|from| source_index(from) == Some(index));
    let keys = source.columns.iter().enumerate().filter(|(_, column)| column.key.is_some());
    let keys: Option<Vec<usize>> = keys.map(|(index, _)| of_source(index)).collect();
    keys.filter(|keys| !keys.is_empty()).unwrap_or_else(all)
}

/// A batch in the common form.
pub struct CommonBatch {
    /// The columns.
    pub batch: RecordBatch,
    /// Cells that have no common form, as (column, row).
    pub faults: Vec<(usize, usize)>,
}

/// Brings written columns into the common form.
///
/// # Errors
/// Faults of Weir only.
pub fn to_common(batch: &RecordBatch, conversions: &[Conversion], fields: &[Field]) -> Result<CommonBatch> {
    let mut faults = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(fields.len());
    for (index, (column, conversion)) in batch.columns().iter().zip(conversions).enumerate() {
        let converted = conversion.apply(column)?;
        faults.extend(converted.faults.iter().map(|fault| (index, fault.row)));
        columns.push(converted.column);
    }
    let fields: Vec<Field> = fields.iter().map(|field| field.clone().with_nullable(true)).collect();
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    Ok(CommonBatch { batch: RecordBatch::try_new(schema, columns)?, faults })
}
