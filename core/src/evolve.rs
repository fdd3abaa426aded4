//! Changing a target's table when its source has changed: optional for writers, used by whole-database jobs only.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{ColumnDefault, MappedColumn, Relation, Result, TargetName, UniqueKey, WriteRequest};

/// A target whose table can be changed and keeps its rows. See [`Writer::evolve`](crate::Writer::evolve).
///
/// Every call looks at the live table. What is changed already is passed over, so each may be called again after a crash.
#[async_trait]
pub trait Evolve: Send + Sync {
    /// How each column of the request stands to the table that is there, in the request's order. Reads only.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no table.
    async fn compare(&self, request: &WriteRequest) -> Result<Vec<Fit>>;

    /// What [`alter`](Self::alter) would do, for a person to read. Reads only.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for what the target cannot do.
    async fn alterations(&self, changes: &[TableChange]) -> Result<Vec<String>>;

    /// Makes the changes: all of them, or none where the target can take them together. Rows that are there keep their values, and get a
    /// new column's default or NULL. Gives what was done, as [`alterations`](Self::alterations) shows it.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for what the target cannot do, before anything is changed.
    async fn alter(&self, changes: &[TableChange]) -> Result<Vec<String>>;

    /// The sets of columns in each of which the table takes no two equal rows, as far as that is known; none without a table. Reads
    /// only.
    async fn unique_keys(&self) -> Result<Vec<Vec<String>>> {
        Ok(Vec::new())
    }

    /// Those of the table's foreign keys that are meant, whatever they are called, as they stand; none without a table. Reads
    /// only.
    async fn foreign_keys(&self, meant: &[Reference]) -> Result<Vec<KeyDefinition>> {
        let _ = meant;
        Ok(Vec::new())
    }

    /// Drops these foreign keys of the table, as far as they are there: the tables of a run become visible one after the
    /// other, and would refuse each other's rows meanwhile. [`restore`](Self::restore) makes them again.
    async fn release(&self, keys: &[KeyDefinition]) -> Result<()> {
        let _ = keys;
        Ok(())
    }

    /// Makes a foreign key again as it was, unless the table has one that says the same, or is gone itself.
    ///
    /// # Errors
    /// Why the key is not there; rows that do not allow it are one.
    async fn restore(&self, key: &KeyDefinition) -> Result<()> {
        let _ = key;
        Ok(())
    }

    /// Gives a table whose rows have come what makes it whole, if it has not got it already.
    async fn complete(&self, completion: &Completion) -> Result<Completed> {
        let _ = completion;
        Ok(Completed::default())
    }
}

/// How a column of the source stands to the target's live table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    /// The type text that the target would give the column today.
    pub wanted: String,
    /// The target's column, if there is one.
    pub present: Option<PresentColumn>,
}

/// A column that the target has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentColumn {
    /// The type text.
    pub native_type: String,
    /// How it stands to the column that would be made today.
    pub relation: Relation,
}

/// One change to a table.
#[derive(Debug, Clone)]
pub enum TableChange {
    /// A column more. It takes NULL, unless the source's takes none and there is a default that carries over.
    AddColumn {
        /// The column as it would be created.
        column: MappedColumn,
        /// What rows have in it that were there before, and rows that do not name it.
        default: Option<ColumnDefault>,
    },
    /// A column gets the type that it would be given today, which holds all its values.
    WidenColumn {
        /// The column as it would be created.
        column: MappedColumn,
    },
    /// A column takes NULL from now on.
    AllowNull {
        /// The column as it would be created.
        column: MappedColumn,
    },
}

impl TableChange {
    /// The target's column.
    pub fn column(&self) -> &MappedColumn {
        match self {
            Self::AddColumn { column, .. } | Self::WidenColumn { column } | Self::AllowNull { column } => column,
        }
    }
}

/// What a table gets once its rows are there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Completion {
    /// For columns that number themselves: the least number that the next row is to get.
    pub positions: Vec<(String, i64)>,
    /// Unique keys besides the primary one.
    pub unique: Vec<UniqueKey>,
    /// Foreign keys.
    pub foreign_keys: Vec<Reference>,
}

/// What a table got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completed {
    /// The keys that it had not, as statements.
    pub keys: Vec<String>,
    /// The foreign keys among them; without a name where the target has found one.
    pub foreign_keys: Vec<Reference>,
    /// In words what could not be done.
    pub undone: Vec<String>,
}

/// A foreign key in the target's own names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The name, if the target takes it.
    pub name: String,
    /// The columns that refer.
    pub columns: Vec<String>,
    /// The table referred to.
    pub to: TargetName,
    /// Its columns, in the same order.
    pub to_columns: Vec<String>,
    /// SQL's word for what becomes of a row when the one it refers to is deleted.
    pub on_delete: String,
    /// The same when its key changes.
    pub on_update: String,
}

/// A foreign key that a table has, and how the target makes the same again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDefinition {
    /// The key.
    pub key: Reference,
    /// The statement, with everything that the target knows of the key.
    pub statement: String,
}
