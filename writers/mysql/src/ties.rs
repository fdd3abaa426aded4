//! What ties rows of a table to each other: its foreign keys on itself.
//!
//! The server checks them row by row and puts nothing off, so no order of the rows is right for all of them: rows go and
//! come with NULL in a column of each key, and get its value when all of them are there.

use weir_core::Reference;
use weir_mysql::Table;

/// The foreign keys of a table on itself.
#[derive(Debug, Default)]
pub(crate) struct Own {
    pub(crate) keys: Vec<Reference>,
    /// Whether the table has triggers; asked only where it has such keys.
    pub(crate) triggers: bool,
}

/// How a table that refers to itself can be written.
#[derive(Debug, Default)]
pub(crate) struct Ties {
    /// Columns that may be NULL for a while: one of each key.
    pub(crate) columns: Vec<String>,
    /// The names of written keys that have no such column, or of a table whose triggers would see it NULL.
    bound: Vec<String>,
    /// Those of `columns` that are written.
    written: Vec<String>,
    /// A key without NULLs by which rows that were added are found again.
    key: Option<Vec<String>>,
}

impl Ties {
    /// Of `own`, the keys of the table on itself; `found_by` are the columns by which rows are found.
    pub(crate) fn of(own: &Own, table: &Table, found_by: &[String], written: &[&str]) -> Self {
        let is_written = |name: &String| written.contains(&name.as_str());
        // What others may refer to keeps its value.
        let in_key = |name: &String| {
            table.unique.iter().any(|(_, key)| key.contains(name))
                || own.keys.iter().any(|key| key.to_columns.contains(name))
        };
        let may_be_null = |name: &String| {
            !own.triggers && !in_key(name) && table.column(name).is_some_and(|c| c.nullable && !c.generated)
        };
        let mut ties = Self::default();
        for key in &own.keys {
            match key.columns.iter().find(|name| may_be_null(name) && !found_by.contains(name)) {
                Some(column) if ties.columns.contains(column) => {}
                Some(column) => ties.columns.push(column.clone()),
                None if key.columns.iter().any(is_written) => ties.bound.push(key.name.clone()),
                None => {}
            }
        }
        ties.written = ties.columns.iter().filter(|name| is_written(name)).cloned().collect();
        let certain = |name: &String| is_written(name) && table.column(name).is_some_and(|c| !c.nullable);
        ties.key = table.unique.iter().map(|(_, key)| key).find(|key| key.iter().all(certain)).cloned();
        ties
    }

    /// The key by which rows that are added get what ties them; `None` where nothing does, or it cannot be done.
    pub(crate) fn added_by(&self) -> Option<&Vec<String>> {
        self.key.as_ref().filter(|_| self.is_written())
    }

    /// Whether rows that come are tied to each other.
    pub(crate) fn is_written(&self) -> bool {
        !self.written.is_empty()
    }

    /// What to know where rows are refused that come before those that they refer to; `unties`: they come without what ties
    /// them, as far as that can be done.
    pub(crate) fn warning(&self, unties: bool) -> Option<String> {
        if unties {
            return (!self.bound.is_empty()).then(|| {
                format!(
                    "the foreign key {} of the table on itself has no column that may be NULL and is in no other key, or the \
                     table has triggers that would see it NULL; the server checks row by row: where a row comes before the \
                     one that it refers to, or goes after it, the publication is refused, and nothing is changed",
                    self.bound.join(", ")
                )
            });
        }
        let tied = self.is_written() || !self.bound.is_empty();
        tied.then(|| {
            "the table refers to itself by a foreign key, which the server checks row by row: a row that comes before the one \
             that it refers to is refused"
                .into()
        })
    }
}
