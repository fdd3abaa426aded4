//! What is written down of every change of a table, whatever was done about it.

use serde::{Deserialize, Serialize};
use weir_core::KeyDefinition;

/// One change of a source table, and what was done about it at the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableChangeRecord {
    /// What has changed at the source.
    pub kind: ChangeKind,
    /// What was done at the target.
    pub outcome: ChangeOutcome,
    /// The target's column, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// How it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What a person should know: why it was refused, what was run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// What has changed at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A table that the target does not have.
    TableAdded,
    /// A table that the source has no more.
    TableDeleted,
    /// A column that the target does not have.
    ColumnAdded,
    /// A column that the source has no more.
    ColumnDeleted,
    /// A column that the source has again.
    ColumnReturned,
    /// A type that holds more values of the same family.
    TypeWidened,
    /// A type that holds fewer values of the same family.
    TypeNarrowed,
    /// A type of another family, or one that holds neither all nor only the values of before.
    TypeChanged,
    /// A column that takes NULL now.
    NullAllowed,
    /// Other key columns, or a key column of another type.
    KeyChanged,
    /// A unique or a foreign key that the target's table had not.
    KeyAdded,
    /// A foreign key that the source has no more, and that a run of the job has made.
    KeyDeleted,
}

/// What was done about a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeOutcome {
    /// The target is to follow it, and is about to: of a run that has died, the next one finds out.
    Begun,
    /// The target follows it.
    Done,
    /// The target needs no change for it.
    Kept,
    /// A rule says to leave it out.
    Ignored,
    /// The table was not moved.
    Refused,
    /// The target was to follow it, and could not.
    Failed,
}

macro_rules! names {
    ($($type:ident: $($variant:ident = $name:literal),+;)+) => {$(
        impl $type {
            /// The word in the ledger and in `weir changes`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The one of that word.
            pub fn parse(name: &str) -> Option<Self> {
                [$(Self::$variant),+].into_iter().find(|one| one.name() == name)
            }
        }
    )+};
}

names! {
    ChangeKind:
        TableAdded = "table_added", TableDeleted = "table_deleted", ColumnAdded = "column_added",
        ColumnDeleted = "column_deleted", ColumnReturned = "column_returned", TypeWidened = "type_widened",
        TypeNarrowed = "type_narrowed", TypeChanged = "type_changed", NullAllowed = "null_allowed",
        KeyChanged = "key_changed", KeyAdded = "key_added", KeyDeleted = "key_deleted";
    ChangeOutcome:
        Begun = "begun", Done = "done", Kept = "kept", Ignored = "ignored", Refused = "refused", Failed = "failed";
}

impl TableChangeRecord {
    /// A change of a whole table.
    pub fn of_table(kind: ChangeKind, outcome: ChangeOutcome, detail: impl Into<String>) -> Self {
        Self { kind, outcome, column: None, from: None, to: None, detail: detail.into() }
    }

    /// A change of a column.
    pub fn of_column(kind: ChangeKind, outcome: ChangeOutcome, column: &str) -> Self {
        Self { kind, outcome, column: Some(column.to_owned()), from: None, to: None, detail: String::new() }
    }

    /// A foreign key that a run has made, and the source has no more.
    pub fn of_key(key: &KeyDefinition) -> Self {
        let record = Self::of_table(ChangeKind::KeyDeleted, ChangeOutcome::Done, "the source has it no more");
        record.between(Some(&key.statement), None)
    }

    /// With how it was and how it is.
    pub fn between(mut self, from: Option<&str>, to: Option<&str>) -> Self {
        (self.from, self.to) = (from.map(str::to_owned), to.map(str::to_owned));
        self
    }

    /// With what a person should know.
    pub fn because(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Whether the target's structure is altered for it.
    pub fn changes_target(&self) -> bool {
        let kinds = [ChangeKind::ColumnAdded, ChangeKind::TypeWidened, ChangeKind::NullAllowed];
        self.outcome == ChangeOutcome::Done && kinds.contains(&self.kind)
    }

    /// The change in one line: `column_added note: text (done)`.
    pub fn line(&self) -> String {
        let column = self.column.as_ref().map(|column| format!(" {column}")).unwrap_or_default();
        let types = match (&self.from, &self.to) {
            (Some(from), Some(to)) => format!(": {from} → {to}"),
            (None, Some(one)) | (Some(one), None) => format!(": {one}"),
            (None, None) => String::new(),
        };
        let detail = if self.detail.is_empty() { String::new() } else { format!(", {}", self.detail) };
        format!("{}{column}{types} ({}{detail})", self.kind.name(), self.outcome.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        for kind in [ChangeKind::TableAdded, ChangeKind::NullAllowed, ChangeKind::KeyChanged] {
            assert_eq!(ChangeKind::parse(kind.name()), Some(kind));
        }
        assert_eq!(ChangeOutcome::parse("refused"), Some(ChangeOutcome::Refused));
        assert_eq!(ChangeKind::parse("?"), None);
    }

    #[test]
    fn a_change_is_one_line() {
        let widened = TableChangeRecord::of_column(ChangeKind::TypeWidened, ChangeOutcome::Done, "n");
        let widened = widened.between(Some("integer"), Some("bigint"));
        assert_eq!(widened.line(), "type_widened n: integer → bigint (done)");
        let refused = TableChangeRecord::of_table(ChangeKind::KeyChanged, ChangeOutcome::Refused, "why");
        assert_eq!(refused.line(), "key_changed (refused, why)");
    }
}
