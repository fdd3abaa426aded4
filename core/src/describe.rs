//! What a table is made of, beyond its columns' types: what a mirror carries over.

use serde::{Deserialize, Serialize};

use crate::{ObjectKind, ObjectName};

/// The structure of one table or view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableDescription {
    /// Its name.
    pub name: ObjectName,
    /// What it is.
    pub kind: ObjectKind,
    /// The columns in order.
    pub columns: Vec<ColumnDescription>,
    /// The columns of the primary key, in the key's order; empty without one.
    pub primary_key: Vec<String>,
    /// Unique constraints and indexes over plain columns, without conditions, the primary key left out.
    #[serde(default)]
    pub unique: Vec<UniqueKey>,
    /// What it refers to.
    #[serde(default)]
    pub foreign_keys: Vec<ForeignKey>,
    /// The table's comment.
    #[serde(default)]
    pub comment: Option<String>,
}

impl TableDescription {
    /// A column by its exact name.
    pub fn column(&self, name: &str) -> Option<&ColumnDescription> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The columns by which rows are told apart: the primary key; else, with `unique`, the first unique key none of whose
    /// columns takes NULL. Empty for a keyless table.
    pub fn key(&self, unique: bool) -> &[String] {
        if !self.primary_key.is_empty() || !unique {
            return &self.primary_key;
        }
        let certain = |key: &&UniqueKey| {
            !key.columns.is_empty()
                && key.columns.iter().all(|name| self.column(name).is_some_and(|column| !column.nullable))
        };
        self.unique.iter().find(certain).map_or(&[], |key| &key.columns)
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnDescription {
    /// Its name.
    pub name: String,
    /// The system's own type text, as [`SourceColumn::native_type`](crate::SourceColumn::native_type) has it.
    pub native_type: String,
    /// The labels of an enum, or of an array of one, that is a type of the user's own with a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Whether values may be NULL.
    pub nullable: bool,
    /// What a row that does not name it gets.
    #[serde(default)]
    pub default: Option<ColumnDefault>,
    /// The expression it is always computed by, as the system writes it.
    #[serde(default)]
    pub generated: Option<String>,
    /// How the system numbers its rows, where it does (identity, serial, auto_increment).
    #[serde(default)]
    pub identity: Option<Identity>,
    /// The column's comment.
    #[serde(default)]
    pub comment: Option<String>,
}

/// A default value, in a form that carries over where one can be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnDefault {
    /// A value, as its plain text: `0`, `new`, `2024-01-01`, `true`.
    Literal(String),
    /// The moment of the insert (`now()`, `CURRENT_TIMESTAMP`, `getdate()`).
    Now,
    /// An expression of this system only.
    Expression(String),
}

/// A column that the system numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Whether the system refuses values of others (`GENERATED ALWAYS`).
    pub always: bool,
    /// The number that the next row would get, where the user may see it.
    pub next: Option<i64>,
    /// The step.
    pub increment: i64,
}

/// A unique constraint or index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UniqueKey {
    /// Its name.
    pub name: String,
    /// Its columns in order.
    pub columns: Vec<String>,
}

/// A reference to another table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// Its name.
    pub name: String,
    /// The columns that refer.
    pub columns: Vec<String>,
    /// The table referred to.
    pub to: ObjectName,
    /// Its columns, in the same order.
    pub to_columns: Vec<String>,
    /// What becomes of these rows when one that they refer to is deleted: `NO ACTION`, `RESTRICT`, `CASCADE`, `SET NULL`,
    /// `SET DEFAULT`.
    pub on_delete: String,
    /// The same when its key changes.
    pub on_update: String,
}
