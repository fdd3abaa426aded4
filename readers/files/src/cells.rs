//! Columns out of fields: one column after the other, no text copied that the column does not keep.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, BooleanBuilder, Date32Builder, Decimal128Builder, Decimal256Builder,
    Float64Builder, Int64Builder, RecordBatch, RecordBatchOptions, StringBuilder, TimestampMicrosecondBuilder,
    TimestampNanosecondBuilder, UInt64Builder,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, SchemaRef, i256};
use serde::de::IgnoredAny;
use weir_core::{Error, MAX_BATCH_BYTES, MAX_BATCH_ROWS, ReadRequest, Result};
use weir_files::Pattern;

use crate::kinds::{self, Kind};

/// A field of a row.
pub(crate) enum Cell<'a> {
    /// Surely NULL: a JSON null or a key that is not there.
    Null,
    /// Without quotes, so that it may be the text for NULL.
    Plain(Cow<'a, str>),
    /// In quotes.
    Quoted(Cow<'a, str>),
}

/// Some rows of a text format, scanned and not yet converted.
pub(crate) trait Cells {
    /// How many rows.
    fn rows(&self) -> usize;
    /// A field by its position in the source. `raw` asks for JSON exactly as written.
    fn cell(&self, row: usize, column: usize, raw: bool) -> Cell<'_>;
}

/// Which fields mean NULL.
#[derive(Debug, Clone, Default)]
pub(crate) struct NullRule {
    pub(crate) null_format: Option<String>,
    pub(crate) empty_as_null: bool,
    /// DataX and JSON: an empty field is an empty text, whatever the column.
    pub(crate) empty_is_text: bool,
}

impl NullRule {
    #[inline]
    fn value<'a>(&self, cell: Cell<'a>, text: bool) -> Option<Cow<'a, str>> {
        let (value, plain) = match cell {
            Cell::Null => return None,
            Cell::Plain(value) => (value, true),
            Cell::Quoted(value) => (value, false),
        };
        if (plain || self.empty_is_text) && self.null_format.as_deref() == Some(&value) {
            return None;
        }
        let null = value.is_empty()
            && (self.empty_as_null || (!self.empty_is_text && (!text || (plain && self.null_format.is_none()))));
        (!null).then_some(value)
    }
}

/// Where the values of a column come from.
#[derive(Debug, Clone)]
pub(crate) enum From {
    /// A field of the source.
    Field(usize),
    /// The same for every row.
    Constant(String),
}

/// A column to build.
pub(crate) struct Plan {
    pub(crate) from: From,
    pub(crate) pattern: Option<Pattern>,
    /// Bytes as hexadecimal digits, not as the text itself.
    pub(crate) hex: bool,
}

enum Builder {
    Int64(Int64Builder),
    UInt64(UInt64Builder),
    Float64(Float64Builder),
    Bool(BooleanBuilder),
    Date(Date32Builder),
    Micros(TimestampMicrosecondBuilder),
    Nanos(TimestampNanosecondBuilder),
    Decimal128(Decimal128Builder),
    Decimal256(Decimal256Builder),
    Bytes(BinaryBuilder),
    Text(StringBuilder),
}

struct Column {
    plan: Plan,
    kind: Kind,
    builder: Builder,
}

/// A row that does not fit: its position among the rows given, its column's position in the request, and why.
pub(crate) struct Misfit {
    pub(crate) row: usize,
    pub(crate) column: usize,
    pub(crate) reason: String,
}

/// Gathers rows into batches within the bounds of the contract.
pub(crate) struct Assembler {
    schema: SchemaRef,
    columns: Vec<Column>,
    nulls: NullRule,
    /// Bytes of a row beside its text, and how often the text may stand in it.
    row_width: usize,
    copies: usize,
    rows: usize,
    bytes: usize,
    bad: Vec<usize>,
}

impl Assembler {
    /// Builds the columns of `request`, each as its plan says.
    pub(crate) fn new(request: &ReadRequest, plans: Vec<Plan>, nulls: NullRule) -> Result<Self> {
        let mut columns = Vec::new();
        for (wanted, plan) in request.columns.iter().zip(plans) {
            let kind = Kind::of(&wanted.field).ok_or_else(|| {
                Error::internal("a text file cannot deliver this type").with("column", wanted.field.name())
            })?;
            columns.push(Column { plan, builder: builder(&kind, wanted.field.data_type())?, kind });
        }
        let constant = |c: &Column| match &c.plan.from {
            From::Constant(value) => value.len(),
            From::Field(_) => 0,
        };
        let row_width = columns.iter().map(|c| c.kind.width() + constant(c)).sum();
        let same =
            |field: &usize| columns.iter().filter(|c| matches!(&c.plan.from, From::Field(f) if f == field)).count();
        let fields = columns.iter().filter_map(|c| match &c.plan.from {
            From::Field(field) => Some(same(field)),
            From::Constant(_) => None,
        });
        let copies = fields.max().unwrap_or(0).max(1);
        Ok(Self {
            schema: request.arrow_schema(),
            columns,
            nulls,
            row_width,
            copies,
            rows: 0,
            bytes: 0,
            bad: Vec::new(),
        })
    }

    /// Whether a row of `bytes` bytes more would be too much for the batch, with `waiting` rows of `waiting_bytes` not
    /// yet added.
    pub(crate) fn is_full(&self, waiting: usize, waiting_bytes: usize, bytes: usize) -> bool {
        let rows = self.rows + waiting;
        let size = self.bytes + (waiting_bytes + bytes) * self.copies + (waiting + 1) * self.row_width;
        rows > 0 && (rows >= MAX_BATCH_ROWS || size > MAX_BATCH_BYTES)
    }

    /// Rows in the batch so far, misfits included.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds rows of `bytes` bytes of text; returns those that do not fit, each once.
    pub(crate) fn add(&mut self, cells: &impl Cells, bytes: usize) -> Vec<Misfit> {
        let rows = cells.rows();
        let mut misfits: Vec<Misfit> = Vec::new();
        for (index, column) in self.columns.iter_mut().enumerate() {
            let Column { plan, kind, builder } = column;
            let text = matches!(kind, Kind::Text) || (matches!(kind, Kind::Bytes) && !plan.hex);
            let raw = matches!(kind, Kind::Json);
            let pattern = plan.pattern.as_ref();
            let nulls = &self.nulls;
            let value = |row: usize| match &plan.from {
                From::Field(field) => nulls.value(cells.cell(row, *field, raw), text),
                From::Constant(value) => Some(Cow::Borrowed(value.as_str())),
            };
            let mut fail = |row: usize, reason: String| misfits.push(Misfit { row, column: index, reason });
            // One loop a type, so that the type is looked at once a column and not once a field.
            macro_rules! fill {
                ($builder:ident, $parse:expr) => {
                    for row in 0..rows {
                        match value(row) {
                            None => $builder.append_null(),
                            Some(text) => match $parse(&text) {
                                Ok(value) => $builder.append_value(value),
                                Err(reason) => {
                                    $builder.append_null();
                                    fail(row, reason);
                                }
                            },
                        }
                    }
                };
            }
            let instant = matches!(kind, Kind::Timestamp(_, true));
            match (builder, kind) {
                (Builder::Int64(b), _) => fill!(b, |t: &str| kinds::integer(t)),
                (Builder::UInt64(b), _) => fill!(b, |t: &str| kinds::unsigned(t)),
                (Builder::Float64(b), _) => fill!(b, |t: &str| kinds::float(t)),
                (Builder::Bool(b), _) => fill!(b, |t: &str| kinds::boolean(t)),
                (Builder::Date(b), _) => fill!(b, |t: &str| kinds::date(t, pattern)),
                (Builder::Micros(b), _) => fill!(b, |t: &str| kinds::timestamp(t, pattern, false, instant)),
                (Builder::Nanos(b), _) => fill!(b, |t: &str| kinds::timestamp(t, pattern, true, instant)),
                (Builder::Decimal128(b), Kind::Decimal128(p, s)) => fill!(b, |t: &str| kinds::decimal(t, *p, *s)),
                (Builder::Decimal256(b), Kind::Decimal256(p, s)) => fill!(b, |t: &str| wide_decimal(t, *p, *s)),
                (Builder::Bytes(b), _) if plan.hex => fill!(b, |t: &str| kinds::hex(t)),
                (Builder::Bytes(b), _) => {
                    (0..rows).for_each(|row| b.append_option(value(row).as_deref().map(str::as_bytes)));
                }
                (Builder::Text(b), Kind::Json) => {
                    for row in 0..rows {
                        let value = value(row);
                        match &value {
                            Some(text) if serde_json::from_str::<IgnoredAny>(text).is_err() => {
                                b.append_null();
                                fail(row, format!("`{}` is no JSON", kinds::short(text)));
                            }
                            _ => b.append_option(value),
                        }
                    }
                }
                (Builder::Text(b), Kind::DecimalText) => {
                    for row in 0..rows {
                        let value = value(row);
                        match value.as_deref().map(kinds::decimal_text) {
                            Some(Err(reason)) => {
                                b.append_null();
                                fail(row, reason);
                            }
                            _ => b.append_option(value),
                        }
                    }
                }
                (Builder::Text(b), _) => (0..rows).for_each(|row| b.append_option(value(row))),
                // A builder is made from its kind: these pairs do not occur.
                (Builder::Decimal128(_) | Builder::Decimal256(_), _) => {}
            }
        }
        misfits.sort_by_key(|m| m.row);
        misfits.dedup_by_key(|m| m.row);
        self.bad.extend(misfits.iter().map(|m| self.rows + m.row));
        self.rows += rows;
        self.bytes += bytes * self.copies + rows * self.row_width;
        misfits
    }

    /// The rows added since the last call, without the misfits; `None` if there are none.
    pub(crate) fn take(&mut self) -> Result<Option<RecordBatch>> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let arrays: Vec<ArrayRef> = self.columns.iter_mut().map(|c| finish(&mut c.builder)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let mut batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?;
        if !self.bad.is_empty() {
            let mut keep = vec![true; rows];
            self.bad.drain(..).for_each(|row| keep[row] = false);
            batch = filter_record_batch(&batch, &BooleanArray::from(keep))?;
        }
        Ok((batch.num_rows() > 0).then_some(batch))
    }
}

fn builder(kind: &Kind, data_type: &DataType) -> Result<Builder> {
    Ok(match kind {
        Kind::Int64 => Builder::Int64(Int64Builder::new()),
        Kind::UInt64 => Builder::UInt64(UInt64Builder::new()),
        Kind::Float64 => Builder::Float64(Float64Builder::new()),
        Kind::Bool => Builder::Bool(BooleanBuilder::new()),
        Kind::Date => Builder::Date(Date32Builder::new()),
        Kind::Timestamp(false, _) => {
            Builder::Micros(TimestampMicrosecondBuilder::new().with_data_type(data_type.clone()))
        }
        Kind::Timestamp(true, _) => Builder::Nanos(TimestampNanosecondBuilder::new().with_data_type(data_type.clone())),
        Kind::Decimal128(p, s) => Builder::Decimal128(Decimal128Builder::new().with_precision_and_scale(*p, *s)?),
        Kind::Decimal256(p, s) => Builder::Decimal256(Decimal256Builder::new().with_precision_and_scale(*p, *s)?),
        Kind::Bytes => Builder::Bytes(BinaryBuilder::new()),
        Kind::Text | Kind::Json | Kind::DecimalText => Builder::Text(StringBuilder::new()),
    })
}

fn finish(builder: &mut Builder) -> ArrayRef {
    match builder {
        Builder::Int64(b) => Arc::new(b.finish()),
        Builder::UInt64(b) => Arc::new(b.finish()),
        Builder::Float64(b) => Arc::new(b.finish()),
        Builder::Bool(b) => Arc::new(b.finish()),
        Builder::Date(b) => Arc::new(b.finish()),
        Builder::Micros(b) => Arc::new(b.finish()),
        Builder::Nanos(b) => Arc::new(b.finish()),
        Builder::Decimal128(b) => Arc::new(b.finish()),
        Builder::Decimal256(b) => Arc::new(b.finish()),
        Builder::Bytes(b) => Arc::new(b.finish()),
        Builder::Text(b) => Arc::new(b.finish()),
    }
}

fn wide_decimal(text: &str, precision: u8, scale: i8) -> Result<i256, String> {
    let misfit = || format!("`{}` does not fit decimal({precision},{scale})", kinds::short(text));
    kinds::decimal_text(text)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    let missing = usize::from(scale as u8).checked_sub(fraction.len()).ok_or_else(misfit)?;
    let digits = format!("{}{fraction}{}", whole.trim_start_matches('+'), "0".repeat(missing));
    let significant = digits.trim_start_matches('-').trim_start_matches('0').len();
    if significant > usize::from(precision) {
        return Err(misfit());
    }
    i256::from_string(&digits).ok_or_else(misfit)
}
