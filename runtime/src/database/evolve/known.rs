//! What the last run that published a table knew of its source.
//!
//! The live target says what has to be done; this says what has *changed*. A column whose type differs from the target's
//! since ever, because somebody made the target so, is none of evolution's business.

use serde::{Deserialize, Serialize};
use weir_core::field::{NATIVE, TEXT, extension};
use weir_core::{Family, MappedColumn};

/// The structure of a source table, by the target's column names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTable {
    /// The columns.
    pub columns: Vec<KnownColumn>,
    /// Columns that the source has had and has no more, and the target still has.
    #[serde(default)]
    pub gone: Vec<String>,
    /// Of a target that has no columns of its own: those that the source has no more, and files of earlier runs still hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<KnownColumn>,
    /// Columns that the source has and a rule leaves out, where the target does not tell that it has them not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// The key.
    #[serde(default)]
    pub key: Vec<String>,
    /// The other unique keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unique: Vec<Vec<String>>,
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
    /// The labels of an enum, where the type's text does not tell them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// What its canonical form can hold, by which types are compared where the target has none; `None` where an earlier
    /// version of the program has noted the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
}

impl KnownColumn {
    /// What is to be known of a column.
    pub fn of(column: &MappedColumn) -> Self {
        // Each system has a key of its own for them.
        let labels = column.offers.iter().flat_map(|offer| offer.metadata()).find(|(key, _)| key.ends_with(".labels"));
        let canonical = column.offers.iter().find(|offer| !matches!(extension(offer), Some(NATIVE | TEXT)));
        Self {
            name: column.name.clone(),
            native_type: column.source_type.clone(),
            nullable: column.nullable,
            labels: labels.map(|(_, labels)| labels.clone()),
            family: canonical.or(column.offers.last()).map(Family::of),
        }
    }

    /// Whether the column's type is another one now.
    pub fn has_changed(&self, column: &MappedColumn) -> bool {
        let now = Self::of(column);
        self.native_type != now.native_type || self.labels != now.labels
    }
}

impl KnownTable {
    /// What is known after a run with these columns. `before` is what was known before it.
    pub fn after(columns: &[MappedColumn], key: &[String], before: Option<&Self>) -> Self {
        let known = columns.iter().map(KnownColumn::of);
        let mut table = Self { columns: known.collect(), key: key.to_vec(), ..Self::default() };
        if let Some(before) = before {
            let missing = |name: &&String| table.column(name).is_none();
            let names = before.columns.iter().map(|column| &column.name).chain(&before.gone);
            table.gone = names.filter(missing).cloned().collect();
        }
        table
    }

    /// What files of earlier runs hold beside these columns, by what was known `before`.
    pub fn held_of(&self, before: &Self) -> Vec<KnownColumn> {
        let all = before.columns.iter().chain(&before.held);
        all.filter(|column| self.column(&column.name).is_none()).cloned().collect()
    }

    /// A column by its name.
    pub fn column(&self, name: &str) -> Option<&KnownColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}
