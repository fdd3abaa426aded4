//! Quarantined rows as lines of a file that the files reader understands.

use arrow::datatypes::{DataType, Field};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weir_core::field::{DECIMAL, JSON, NATIVE, UUID, extension};
use weir_core::{Error, ErrorKind, Result};

use crate::dirty::{QuarantineRow, Side};
use crate::entry::PlannedEntry;
use crate::job::Entry;
use crate::pipeline::From;

/// Which columns a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// The target's.
    Written,
    /// All of the source's, for transformers to work on.
    Read,
}

impl Kind {
    /// The one that it is not.
    pub fn other(self) -> Self {
        match self {
            Self::Written => Self::Read,
            Self::Read => Self::Written,
        }
    }
}

/// The columns of a file, and how rows become its lines.
pub struct Rows {
    columns: Vec<Column>,
    entry: String,
}

struct Column {
    /// In the file.
    name: String,
    /// The reader's name for the type.
    kind: String,
    /// Where the value of a row that did not come as far as the writer stands.
    from: Place,
    /// Whether bytes stand as digits in such a row.
    hex: bool,
    /// Whether bytes stand as digits in a row that the writer refused.
    written_hex: bool,
}

enum Place {
    /// Under the source's name.
    Named(String),
    /// Nowhere: it is the same in every row.
    Constant(String),
    /// Nowhere, unless somebody has put it under the file's name: it follows from the row's table, as (table, text).
    PerTable(Vec<(String, String)>),
    /// Nowhere: there is none.
    Null,
}

/// What the file calls a column of the target whose values follow from the rows' tables, beside those of the source.
pub fn of_table(target: &str) -> String {
    format!("{target} of the row's table")
}

impl Place {
    /// The value of a row that does not have it itself.
    fn text(&self, row: &QuarantineRow) -> Result<Option<&str>> {
        match self {
            Self::Constant(text) => Ok(Some(text)),
            Self::PerTable(texts) => {
                let own = texts.iter().find(|(table, _)| *table == row.source);
                own.map(|(_, text)| Some(text.as_str())).ok_or_else(|| {
                    let text =
                        format!("the job has no table {} any more, by which some of its columns are known", row.source);
                    Error::new(ErrorKind::Data, text)
                })
            }
            Self::Named(_) | Self::Null => Ok(None),
        }
    }
}

impl Rows {
    /// For an entry; `fixed` says that the target knows its columns' types, so that texts will do.
    ///
    /// # Errors
    /// Columns whose values do not stand in the quarantine in a form that can be read.
    pub fn new(entry: &Entry, planned: &PlannedEntry, kind: Kind, fixed: bool) -> Result<Self> {
        let columns = match kind {
            Kind::Read => {
                let columns = planned.source.columns.iter().map(|column| Column {
                    name: column.name.clone(),
                    kind: type_of(column.canonical()),
                    from: Place::Named(column.name.clone()),
                    hex: is_bytes(column.canonical()),
                    written_hex: false,
                });
                let pairs = planned.plan.columns.iter().zip(&planned.pipeline.columns);
                let per_table = pairs.filter_map(|(written, from)| match from {
                    From::PerTable(texts) => Some(Column {
                        name: of_table(&written.name),
                        kind: "string".into(),
                        from: Place::PerTable(texts.clone()),
                        hex: false,
                        written_hex: false,
                    }),
                    From::Column(_) | From::Constant(_) | From::Null => None,
                });
                columns.chain(per_table).collect()
            }
            Kind::Written => {
                let pairs = planned.plan.columns.iter().zip(planned.pipeline.columns.iter().zip(&planned.columns));
                let columns = pairs.map(|(written, (from, source))| {
                    // What passes undecoded is shown in its canonical form.
                    let canonical = match from {
                        From::Column(at) => planned.pipeline.read.columns.get(*at).map(|read| read.index),
                        From::Constant(_) | From::PerTable(_) | From::Null => None,
                    };
                    let canonical = canonical.map(|index| planned.source.columns[index].canonical());
                    let shown = |field: &Field| match canonical {
                        Some(canonical) if extension(field) == Some(NATIVE) => is_bytes(canonical),
                        _ => is_bytes(field),
                    };
                    let (hex, written_hex) = (shown(&source.field), shown(&written.input));
                    let bytes = hex || written_hex;
                    let kind = match (bytes, fixed) {
                        (true, _) => "bytes".into(),
                        (false, true) => "string".into(),
                        (false, false) => type_of(&written.input),
                    };
                    Column {
                        name: written.name.clone(),
                        kind,
                        from: match from {
                            From::Constant(text) => Place::Constant(text.clone()),
                            From::PerTable(texts) => Place::PerTable(texts.clone()),
                            From::Null => Place::Null,
                            From::Column(_) => Place::Named(source.name.clone()),
                        },
                        hex,
                        written_hex,
                    }
                });
                columns.collect()
            }
        };
        Ok(Self { columns, entry: entry.reader.pointer.clone() })
    }

    /// The reader's `column`.
    pub fn columns(&self) -> Value {
        let columns = self.columns.iter().map(|column| {
            let mut entry = json!({"name": column.name, "type": column.kind});
            if column.kind == "bytes" {
                entry["format"] = "hex".into();
            }
            entry
        });
        columns.collect()
    }

    /// Adds a row as a line.
    ///
    /// # Errors
    /// A value that is missing, or is no text.
    pub fn write(&self, row: &QuarantineRow, lines: &mut String) -> Result<()> {
        let written = row.side == Side::Writer;
        for (index, column) in self.columns.iter().enumerate() {
            let (name, hex) = match (&column.from, written) {
                (_, true) => (&column.name, column.written_hex),
                (Place::Named(name), false) => (name, column.hex),
                (Place::PerTable(_), false) if row.values.contains_key(&column.name) => (&column.name, column.hex),
                (from, false) => {
                    let text = from.text(row).map_err(|error| error.with("entry", &self.entry))?;
                    self.add(index, column, text, false, lines);
                    continue;
                }
            };
            let text = match row.values.get(name) {
                Some(Value::Null) => None,
                Some(Value::String(text)) => Some(text.clone()),
                Some(Value::Bool(value)) => Some(value.to_string()),
                Some(Value::Number(number)) => Some(number.to_string()),
                // Whoever mends JSON may write it as it is.
                Some(other) => Some(other.to_string()),
                None => {
                    let text = format!("the row has no value for `{name}`: add it to `values`, null for NULL");
                    return Err(Error::new(ErrorKind::Data, text).with("column", name).with("entry", &self.entry));
                }
            };
            self.add(index, column, text.as_deref(), hex, lines);
        }
        lines.push_str("}\n");
        Ok(())
    }

    fn add(&self, index: usize, column: &Column, text: Option<&str>, hex: bool, lines: &mut String) {
        lines.push_str(if index == 0 { "{" } else { "," });
        lines.push_str(&Value::from(column.name.as_str()).to_string());
        lines.push(':');
        match text {
            None => lines.push_str("null"),
            Some(text) if column.kind == "json" && serde_json::from_str::<Value>(text).is_ok() => {
                // One line a row; a JSON text breaks only between its parts.
                lines.push_str(&text.replace(['\n', '\r'], " "));
            }
            Some(text) if column.kind == "bytes" && !hex => {
                let digits: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
                lines.push_str(&Value::from(digits).to_string());
            }
            Some(text) => lines.push_str(&Value::from(text).to_string()),
        }
    }
}

/// Whether the quarantine shows a column's values as hexadecimal digits of bytes.
fn is_bytes(field: &Field) -> bool {
    match field.data_type() {
        DataType::Binary | DataType::LargeBinary => extension(field) != Some(NATIVE),
        DataType::FixedSizeBinary(_) => extension(field) != Some(UUID),
        _ => false,
    }
}

/// The files reader's name for a type; what it has none for comes as text.
fn type_of(field: &Field) -> String {
    match (field.data_type(), extension(field)) {
        _ if is_bytes(field) => "bytes".into(),
        (DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64, _) => "long".into(),
        (DataType::UInt8 | DataType::UInt16 | DataType::UInt32, _) => "long".into(),
        (DataType::UInt64, _) => "ulong".into(),
        (DataType::Float32 | DataType::Float64, _) => "double".into(),
        (DataType::Boolean, _) => "boolean".into(),
        (DataType::Date32, _) => "date".into(),
        (DataType::Timestamp(_, zone), _) => if zone.is_some() { "instant" } else { "timestamp" }.into(),
        (DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale), _) if *scale >= 0 => {
            format!("decimal({precision},{scale})")
        }
        (DataType::Utf8, Some(DECIMAL)) => "decimal".into(),
        (DataType::Utf8, Some(JSON)) => "json".into(),
        _ => "string".into(),
    }
}
