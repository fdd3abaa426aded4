//! What a source has and what a target has, before a job maps one onto the other.

use arrow::datatypes::Field;
use serde::{Deserialize, Serialize};

/// The columns that a reader delivers, and the tables they come from.
#[derive(Debug, Clone, Default)]
pub struct SourceSchema {
    /// The columns, in the order of the job's `column` list or else of the source.
    pub columns: Vec<SourceColumn>,
    /// The tables, files or queries behind them, each with estimates where the source has them. Shards have one entry
    /// each; all of them have the same columns, or `schema()` failed.
    pub tables: Vec<SourceTable>,
    /// Whether the job lists the columns itself (a `column` other than `*`): then they map by position.
    pub listed: bool,
    /// What a user should know before a run, for the plan.
    pub warnings: Vec<String>,
}

/// One column of a source.
#[derive(Debug, Clone)]
pub struct SourceColumn {
    /// The name at the source; an expression's own text where it has no name.
    pub name: String,
    /// The source's own type text, as the plan shows it: `numeric(38,10)`.
    pub native_type: String,
    /// Whether values may be NULL.
    pub nullable: bool,
    /// The position in the source's primary key, from 1.
    pub key: Option<u32>,
    /// The forms in which the reader can deliver the values, best first and never empty. Every field carries the
    /// column's name, and [`NATIVE_TYPE`](crate::field::NATIVE_TYPE) where a same-system target could use it.
    pub representations: Vec<Field>,
    /// The column's comment at the source.
    pub comment: Option<String>,
}

impl SourceColumn {
    /// A column that is delivered in one form. Name, type text and key are the field's own.
    pub fn of(field: Field) -> Self {
        use crate::field::{KEY, native_type, type_text};
        Self {
            name: field.name().clone(),
            native_type: native_type(&field).map_or_else(|| type_text(&field), |(_, text)| text.to_owned()),
            nullable: field.is_nullable(),
            key: field.metadata().get(KEY).and_then(|position| position.parse().ok()),
            comment: None,
            representations: vec![field],
        }
    }

    /// The first representation that is neither native nor plain source text: the column's canonical Arrow form.
    /// Falls back to the last one.
    pub fn canonical(&self) -> &Field {
        use crate::field::{NATIVE, TEXT, extension};
        self.representations
            .iter()
            .find(|f| !matches!(extension(f), Some(NATIVE | TEXT)))
            .or(self.representations.last())
            .expect("a source column has at least one representation")
    }
}

/// A table, file or query of a source, with what is known of its size.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SourceTable {
    /// The name as reports show it: `shop.orders`, `in/a.csv`, `query 1`.
    pub name: String,
    /// Estimated rows.
    pub rows: Option<u64>,
    /// Estimated bytes.
    pub bytes: Option<u64>,
}

/// What a target has under the job's table name before the run.
#[derive(Debug, Clone, Default)]
pub struct TargetSchema {
    /// The target as reports show it: `public.orders`, `lake/orders`. In whole, so that two names of one table are one here.
    pub table: String,
    /// Whether it exists.
    pub exists: bool,
    /// Its columns if it exists and has fixed columns; empty for files, streams and what is yet to be created.
    pub columns: Vec<TargetColumn>,
    /// The job's own `column` list, resolved to the target's names: then columns map onto these by position.
    pub listed: Option<Vec<String>>,
}

/// One column of an existing target.
#[derive(Debug, Clone)]
pub struct TargetColumn {
    /// The name at the target.
    pub name: String,
    /// The target's own type text.
    pub native_type: String,
    /// Whether it takes NULL.
    pub nullable: bool,
    /// Whether the target fills it when a row does not name it: a default, identity or generated column.
    pub has_default: bool,
    /// Whether it is generated always and so cannot be written.
    pub generated: bool,
    /// The position in the target's primary key, from 1.
    pub key: Option<u32>,
}
