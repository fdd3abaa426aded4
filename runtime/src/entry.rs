//! One entry of a job, planned: source, target, mapping, conversions and the writer's decisions.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use weir_core::convert::{Conversion, ConvertOptions, Loss};
use weir_core::field::{TEXT, extension, same_representation};
use weir_core::{
    ConnectorContext, Error, ErrorKind, Faults, Form, MappedColumn, OnTypeLoss, ReadColumn, ReadRequest, Reader,
    Result, SourceColumn, SourceSchema, TargetSchema, Window, WriteMode, WritePlan, WriteRequest, Writer,
};

use crate::convert::ConvertSpec;
use crate::database::evolve::{self, Evolution, Evolving};
use crate::job::{Endpoint, Entry, Job};
use crate::mapping::{MappedSource, Mapping, map};
use crate::pipeline::{From, Pipeline, PipelineSpec, constant_field};
use crate::plan::{of_source, of_target};
use crate::transform::Transformers;
use crate::verify::comparable;

/// An entry whose every decision is taken, and which has done nothing yet.
pub struct PlannedEntry {
    /// The source.
    pub reader: Arc<dyn Reader>,
    /// The target.
    pub writer: Arc<dyn Writer>,
    /// The source's columns and tables.
    pub source: SourceSchema,
    /// The recipe between the two.
    pub pipeline: PipelineSpec,
    /// The writer's decisions.
    pub plan: WritePlan,
    /// For each written column: the source's name and type, and what the conversion may lose.
    pub columns: Vec<PlannedSource>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// In a whole-database job: how the target becomes what the source is now.
    pub evolution: Option<Evolution>,
    /// What is read of each table, where that is a window: see
    /// [`decide_windows`](PlannedEntry::decide_windows).
    pub windows: Vec<Window>,
}

/// Where a written column comes from, for the plan.
pub struct PlannedSource {
    /// The source column's name, or the constant.
    pub name: String,
    /// The source's type text.
    pub native_type: String,
    /// In which form it is read.
    pub field: Field,
    /// What the conversion into the writer's form may lose.
    pub loss: Loss,
}

/// Opens all ends of all entries, which connects to nothing, so that their faults are told at once.
///
/// # Errors
/// Every fault with its pointer.
pub fn open_all(job: &Job, context: &ConnectorContext) -> Result<(), Faults> {
    let mut faults = Faults::default();
    for entry in &job.entries {
        if let Err(more) = entry.open(context) {
            faults.0.extend(more.0);
        }
    }
    faults.or(())
}

/// Opens both ends of an entry and plans it.
///
/// # Errors
/// Everything that is wrong between this source and this target, before anything is written.
pub async fn plan_entry(job: &Job, entry: &Entry, run_id: &str, context: &ConnectorContext) -> Result<PlannedEntry> {
    plan_evolving(job, entry, run_id, context, Evolving::default()).await
}

/// As [`plan_entry`], for a table whose target follows its source.
///
/// # Errors
/// As there, and changes of the source that the target does not follow.
pub async fn plan_evolving(
    job: &Job,
    entry: &Entry,
    run_id: &str,
    context: &ConnectorContext,
    evolving: Evolving<'_>,
) -> Result<PlannedEntry> {
    let of = |endpoint: &Endpoint| ConnectorContext { form: endpoint.form, ..context.clone() };
    let reader = entry.reader.open_reader(&of(&entry.reader))?;
    let writer = entry.writer.open_writer(&of(&entry.writer))?;
    // From here on both systems are asked, and `Config` is kept for what is known without that.
    plan_open(job, entry, run_id, context, (reader, writer), evolving).await.map_err(|error| match error.kind() {
        ErrorKind::Config => error.into_kind(ErrorKind::Schema),
        _ => error,
    })
}

async fn plan_open(
    job: &Job,
    entry: &Entry,
    run_id: &str,
    context: &ConnectorContext,
    (reader, writer): (Arc<dyn Reader>, Arc<dyn Writer>),
    evolving: Evolving<'_>,
) -> Result<PlannedEntry> {
    let source = context.until_cancelled(reader.schema()).await.map_err(of_source)?;
    let target = context.until_cancelled(writer.target()).await.map_err(of_target)?;
    let form = match (entry.reader.form, entry.writer.form) {
        (Form::Native, Form::Native) => Form::Native,
        _ => Form::DataX,
    };
    let convert = ConvertSpec {
        time_zone: context.time_zone,
        source_zone: entry.source_zone.clone(),
        target_zone: entry.target_zone.clone(),
        formats: job.setting.column_formats.clone(),
        on_type_loss: entry.on_type_loss,
        empty_as_null: entry.empty_as_null,
    };
    let options = convert.options()?;
    let transformers = compile_transformers(entry, &source, &options)?;
    let request = |mapping: &Mapping| {
        let mut columns = offers(&source, mapping, transformers.as_ref(), &options);
        if let Some(table) = &entry.table {
            // By what rows are told apart is decided for the table as a whole.
            for column in &mut columns {
                column.key = (1..).zip(&table.key).find(|(_, key)| **key == column.name).map(|(position, _)| position);
            }
        }
        WriteRequest {
            run_id: run_id.to_owned(),
            columns,
            source: source.tables.first().map(|t| t.name.clone()).unwrap_or_default(),
            on_type_loss: entry.on_type_loss,
            described: entry.table.as_ref().map(|table| table.described.clone()),
            decides_at_end: job.setting.error_limit.decides_at_end().is_some(),
        }
    };
    let mut evolution = None;
    let mut pairs = entry.mapping.clone();
    if let Some(table) = &entry.table {
        let evolved = match evolving.applied {
            Some(applied) => Evolution { changes: Vec::new(), ..applied.clone() },
            None => {
                // All columns, as they would be written to a table that is not there yet.
                let nowhere = TargetSchema { table: target.table.clone(), ..TargetSchema::default() };
                let whole = map(&source, &nowhere, form, &evolve::all_pairs(&entry.mapping, &source, &target))?;
                let whole = request(&whole);
                let in_parts = job.database.as_ref().is_some_and(|database| database.config.partition.is_some());
                let evolving = Evolving { in_parts, ..evolving };
                let evolved = evolve::evolve(writer.as_ref(), &whole, &target, table, evolving);
                context.until_cancelled(evolved).await?
            }
        };
        if !target.columns.is_empty() || !evolved.left_out.is_empty() {
            pairs = evolve::pairs(&entry.mapping, &source, &target, &evolved);
        }
        evolution = Some(evolved);
    }
    let mapping = map(&source, &target, form, &pairs)?;
    let mut request = request(&mapping);
    let offers = request.columns.clone();
    // What a run would change first is not there yet: then types are looked at as if nothing could be lost.
    let looked_at = evolution.as_ref().is_some_and(|evolution| !evolution.changes.is_empty());
    let convert = if looked_at { ConvertSpec { on_type_loss: OnTypeLoss::Cast, ..convert } } else { convert };
    request.on_type_loss = convert.on_type_loss;
    let plan = context.until_cancelled(writer.plan(&request)).await?;
    if plan.columns.len() != offers.len() {
        return Err(Error::internal("the writer planned another number of columns than it was asked for"));
    }
    if job.setting.verify && !looked_at {
        comparable(entry, reader.as_ref(), writer.as_ref(), &plan)?;
    }
    if entry.table.is_none() {
        not_its_own(reader.as_ref(), writer.as_ref(), &source, &plan)?;
    }
    let mut warnings: Vec<String> =
        source.warnings.iter().chain(&mapping.warnings).chain(&plan.warnings).cloned().collect();
    let (pipeline, columns) = choose(entry, &source, &mapping, transformers.as_ref(), &offers, &plan, convert)?;
    // What a task would stumble over, a constant that does not fit say, is known before anything is written.
    Pipeline::new(&pipeline, &plan, None).map_err(|error| error.with("table", &plan.table))?;
    for (from, to) in columns.iter().zip(&plan.columns) {
        if let Some(warning) = &to.warning {
            warnings.push(format!("column {}: {warning}", to.name));
        }
        if options.moves(&from.field) {
            warnings.push(format!(
                "column {}: its times move from the clocks of {} to those of {}",
                to.name, options.source.clocks, options.target.clocks
            ));
        }
        match &from.loss {
            Loss::None => {}
            Loss::PerValue => warnings.push(format!(
                "column {}: {} from the source becomes {} at the target; a value that does not fit is a dirty row",
                to.name, from.native_type, to.native_type
            )),
            Loss::Every(what) => warnings.push(format!("column {}: {what} (onTypeLoss: cast)", to.name)),
        }
    }
    let windows = Vec::new();
    Ok(PlannedEntry { reader, writer, source, pipeline, plan, columns, warnings, evolution, windows })
}

/// Refuses to replace a table by rows of its own: those that are left out, or change meanwhile, would be lost.
fn not_its_own(reader: &dyn Reader, writer: &dyn Writer, source: &SourceSchema, plan: &WritePlan) -> Result<()> {
    let Some(home) = writer.home().filter(|_| plan.mode == WriteMode::Overwrite) else { return Ok(()) };
    // Tables of several places that are called alike have their places in their names.
    let named =
        |name: &str| name.strip_prefix(&plan.table).is_some_and(|rest| rest.is_empty() || rest.starts_with('@'));
    let homes = reader.homes();
    match source.tables.iter().zip(&homes).any(|(table, of)| *of == home && named(&table.name)) {
        false => Ok(()),
        true => {
            let text = "the job reads this table, and mode overwrite would replace it by what was read: rows that are left \
                        out, or change meanwhile, would be lost; write to another table, or use append or upsert";
            Err(Error::new(ErrorKind::Schema, text).with("table", &plan.table))
        }
    }
}

fn compile_transformers(
    entry: &Entry,
    source: &SourceSchema,
    options: &ConvertOptions,
) -> Result<Option<Transformers>> {
    if entry.transformers.is_empty() {
        return Ok(None);
    }
    let fields: Vec<Field> = source.columns.iter().map(|c| c.canonical().clone()).collect();
    // What can be known from the job alone was found when it was read; this is about the source's columns.
    let planned = Transformers::plan(&entry.transformers, &fields, options);
    planned.map(Some).map_err(|faults| Error::new(ErrorKind::Schema, faults.to_string()))
}

/// The forms in which each mapped column can come.
fn offers(
    source: &SourceSchema,
    mapping: &Mapping,
    transformers: Option<&Transformers>,
    options: &ConvertOptions,
) -> Vec<MappedColumn> {
    let of = |mapped: &crate::mapping::Mapped| match &mapped.source {
        MappedSource::Constant(text) => MappedColumn {
            name: mapped.target.clone(),
            offers: vec![constant_field(&mapped.target)],
            source_type: format!("constant '{text}'"),
            nullable: false,
            key: None,
            comment: None,
        },
        MappedSource::Null => MappedColumn {
            name: mapped.target.clone(),
            offers: vec![constant_field(&mapped.target)],
            source_type: "NULL".into(),
            nullable: true,
            key: None,
            comment: None,
        },
        MappedSource::PerTable(_) => MappedColumn {
            name: mapped.target.clone(),
            offers: vec![constant_field(&mapped.target)],
            source_type: "one constant a table".into(),
            nullable: false,
            key: None,
            comment: None,
        },
        MappedSource::Column(index) => {
            let column = &source.columns[*index];
            let touched = transformers.filter(|t| t.touches(*index));
            MappedColumn {
                name: mapped.target.clone(),
                offers: match touched {
                    Some(transformers) => vec![transformers.output_fields()[*index].clone()],
                    // Nobody can move the clocks of native and text forms.
                    None if options.moves(column.canonical()) => vec![column.canonical().clone()],
                    None => column.representations.iter().filter(|f| speaks_for(f, column, options)).cloned().collect(),
                },
                source_type: column.native_type.clone(),
                nullable: column.nullable || touched.is_some(),
                key: column.key,
                comment: column.comment.clone(),
            }
        }
    };
    mapping.columns.iter().map(of).collect()
}

/// Whether a form may stand for the column: not a source's own text of what has a text in all systems (`t` for `true`,
/// `\x6162` for `ab`), or one that the job gives a format.
fn speaks_for(form: &Field, column: &SourceColumn, options: &ConvertOptions) -> bool {
    if extension(form) != Some(TEXT) {
        return true;
    }
    let formats = &options.formats;
    match column.canonical().data_type() {
        DataType::Boolean | DataType::Binary => false,
        DataType::Date32 => formats.date.is_none(),
        DataType::Time32(_) | DataType::Time64(_) => formats.time.is_none(),
        DataType::Timestamp(_, Some(_)) if options.target.texts != chrono_tz::Tz::UTC => false,
        DataType::Timestamp(..) => formats.datetime.is_none(),
        _ => true,
    }
}

/// Picks for every written column the form in which it is read, and fixes the recipe.
fn choose(
    entry: &Entry,
    source: &SourceSchema,
    mapping: &Mapping,
    transformers: Option<&Transformers>,
    offers: &[MappedColumn],
    plan: &WritePlan,
    convert: ConvertSpec,
) -> Result<(PipelineSpec, Vec<PlannedSource>)> {
    let options = convert.options()?;
    let mut faults = Faults::default();
    let mut read: Vec<ReadColumn> = Vec::new();
    if transformers.is_some() {
        // Transformers count columns as the reader has them, so all of them are read, each once.
        let fields = source.columns.iter().map(|c| c.canonical().clone()).enumerate();
        read.extend(fields.map(|(index, field)| ReadColumn { index, field }));
    }
    let mut columns = Vec::with_capacity(plan.columns.len());
    let mut shown = Vec::with_capacity(plan.columns.len());
    for ((mapped, offer), planned) in mapping.columns.iter().zip(offers).zip(&plan.columns) {
        let candidates: Vec<&Field> = match &mapped.source {
            MappedSource::Column(index) if transformers.is_some_and(|t| !t.touches(*index)) => {
                vec![&read[*index].field]
            }
            MappedSource::Column(index) => order(&source.columns[*index], &offer.offers),
            MappedSource::Constant(_) | MappedSource::PerTable(_) => offer.offers.iter().collect(),
            // Whatever the target wants, none of its values is one.
            MappedSource::Null => vec![&planned.input],
        };
        let (field, loss) = match convertible(&candidates, &planned.input, &options) {
            Ok(found) => found,
            Err(error) => {
                let (name, from, to) = (&planned.name, &offer.source_type, &planned.native_type);
                faults.add("", format!("column {name}: {from} cannot become {to}: {}", error.message()));
                continue;
            }
        };
        let (from, name) = match &mapped.source {
            MappedSource::Constant(text) => (From::Constant(text.clone()), format!("'{text}'")),
            MappedSource::Null => (From::Null, "NULL".into()),
            MappedSource::PerTable(texts) => {
                let tables = source.tables.iter().map(|table| table.name.clone());
                (From::PerTable(tables.zip(texts.iter().cloned()).collect()), "one constant a table".into())
            }
            MappedSource::Column(index) => {
                let at = if transformers.is_some() {
                    *index
                } else {
                    let known = read.iter().position(|c| c.index == *index && same_representation(&c.field, &field));
                    known.unwrap_or_else(|| {
                        read.push(ReadColumn { index: *index, field: field.clone() });
                        read.len() - 1
                    })
                };
                (From::Column(at), source.columns[*index].name.clone())
            }
        };
        columns.push(from);
        shown.push(PlannedSource { name, native_type: offer.source_type.clone(), field, loss });
    }
    if !faults.0.is_empty() {
        let text: Vec<_> = faults.0.into_iter().map(|f| f.message).collect();
        return Err(Error::new(ErrorKind::Schema, text.join("\n")).with("table", &plan.table));
    }
    let read = ReadRequest { columns: read, snapshot: None, limit: None };
    Ok((PipelineSpec { read, transformers: entry.transformers.clone(), columns, convert }, shown))
}

/// The canonical form first, then the others: only it has a meaning that every conversion knows.
fn order<'a>(column: &'a SourceColumn, offers: &'a [Field]) -> Vec<&'a Field> {
    let canonical = column.canonical();
    let mut ordered: Vec<&Field> = offers.iter().filter(|f| same_representation(f, canonical)).collect();
    ordered.extend(offers.iter().filter(|f| !same_representation(f, canonical)));
    ordered
}

/// The first form that is the wanted one, else the first that can be converted into it.
fn convertible(candidates: &[&Field], wanted: &Field, convert: &ConvertOptions) -> Result<(Field, Loss)> {
    if let Some(same) = candidates.iter().find(|f| same_representation(f, wanted) && !convert.moves(f)) {
        return Ok(((*same).clone(), Loss::None));
    }
    let mut first = None;
    for field in candidates {
        match Conversion::plan(field, wanted, convert) {
            Ok(conversion) => return Ok(((*field).clone(), conversion.loss().clone())),
            // Another form of the same values would only hide what they lose.
            Err(error) if loses(field, wanted, convert) => return Err(error),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| Error::internal("a column has no representation")))
}

/// Whether every value would lose something, which nobody has asked for.
fn loses(field: &Field, wanted: &Field, convert: &ConvertOptions) -> bool {
    let asked = ConvertOptions { on_type_loss: OnTypeLoss::Cast, ..convert.clone() };
    Conversion::plan(field, wanted, &asked).is_ok_and(|conversion| matches!(conversion.loss(), Loss::Every(_)))
}

impl PlannedEntry {
    /// The source's types by column name, for the quarantine.
    pub fn types(&self) -> BTreeMap<String, String> {
        self.source.columns.iter().map(|c| (c.name.clone(), c.native_type.clone())).collect()
    }
}
