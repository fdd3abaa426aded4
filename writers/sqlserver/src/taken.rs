//! Staged rows of an append whose key a row of the target has: the publication would fail for them all at once, so each is
//! refused while it is staged, as the target itself would refuse it.

use arrow::array::RecordBatch;
use weir_core::{DirtyRow, Error, Refused, Result};
use weir_sqlserver::{QUOTING, Session, cell_number};

use crate::publish::Names;
use crate::state::{ROW, SPLIT, State};

/// Looks for such rows.
pub(crate) struct Taken {
    /// `FROM` and `WHERE` of a question for rows of the split.
    staged: String,
    /// Of each key: its columns, and the condition for a row.
    keys: Vec<(String, String)>,
}

impl Taken {
    /// `None` where nothing is to be compared. `names` are those of the written columns.
    pub(crate) fn of(state: &State, names: &[String], split: u32) -> Option<Self> {
        let staging = state.staging.as_ref().filter(|_| !state.taken.is_empty())?;
        // To a unique key of this system two NULLs are equal.
        let nullable = names.iter().zip(&state.columns).filter(|(_, written)| written.nullable);
        let nullable: Vec<String> = nullable.map(|(name, _)| name.clone()).collect();
        let table = state.table.quoted(QUOTING);
        let of_key = |key: &Vec<String>| {
            let equal = Names::equal(key, &nullable);
            (key.join(", "), format!("EXISTS (SELECT 1 FROM {table} AS t WHERE {equal})"))
        };
        Some(Self {
            staged: format!("FROM {} AS s WHERE s.{SPLIT} = {split}", staging.quoted(QUOTING)),
            keys: state.taken.iter().map(of_key).collect(),
        })
    }

    /// Takes those of a batch out of the staging table again; its first row has the number `first` in the split.
    pub(crate) async fn take_out(
        &self,
        session: &mut Session,
        batch: &RecordBatch,
        first: u64,
        refused: &mut Refused,
    ) -> Result<()> {
        for (key, taken) in &self.keys {
            let those = format!("{} AND s.{ROW} >= {first} AND {taken}", self.staged);
            let found = session.rows(&format!("SELECT s.{ROW} {those} ORDER BY s.{ROW}")).await?;
            for row in &found {
                let row = cell_number(row, 0).and_then(|number| usize::try_from(number - first as i64).ok());
                let row = row.filter(|row| *row < batch.num_rows());
                let row = row.ok_or_else(|| Error::internal("a staged row has lost its number"))?;
                let reason = format!("a row of the target has the same {key}");
                refused.add(DirtyRow::of_batch(batch, row, None, reason))?;
            }
            if !found.is_empty() {
                session.run(&format!("DELETE s {those}")).await?;
            }
        }
        Ok(())
    }
}
