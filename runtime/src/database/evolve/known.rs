//! What the last run that published a table knew of its source.
//!
//! The live target says what has to be done; this says what has *changed*. A column whose type differs from the target's
//! since ever, because somebody made the target so, is none of evolution's business.

use serde::{Deserialize, Serialize};
use weir_core::MappedColumn;

/// The structure of a source table, by the target's column names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTable {
    /// The columns.
    pub columns: Vec<KnownColumn>,
    /// Columns that the source has had and has no more, and the target still has.
    #[serde(default)]
    pub gone: Vec<String>,
    /// The key.
    #[serde(default)]
    pub key: Vec<String>,
}

/// A column of a source table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownColumn {
    /// Its name at the target.
    pub name: String,
    /// Its type at the source.
    pub native_type: String,
    /// Whether it takes NULL at the source.
    pub nullable: bool,
}

impl KnownTable {
    /// What is known after a run with these columns. `before` is what was known before it.
    pub fn after(columns: &[MappedColumn], key: &[String], before: Option<&Self>) -> Self {
        let known = columns.iter().map(|column| KnownColumn {
            name: column.name.clone(),
            native_type: column.source_type.clone(),
            nullable: column.nullable,
        });
        let mut table = Self { columns: known.collect(), gone: Vec::new(), key: key.to_vec() };
        if let Some(before) = before {
            let missing = |name: &&String| table.column(name).is_none();
            let names = before.columns.iter().map(|column| &column.name).chain(&before.gone);
            table.gone = names.filter(missing).cloned().collect();
        }
        table
    }

    /// A column by its name.
    pub fn column(&self, name: &str) -> Option<&KnownColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}
