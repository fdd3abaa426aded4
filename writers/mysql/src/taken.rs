//! Staged rows of an append whose key a row of the target has: the publication would fail for them all at once, so each is
//! refused while it is staged, as the target itself would refuse it.

use weir_core::{Refusal, Result};
use weir_mysql::{QUOTING, Session};

use crate::state::{ROW, SPLIT, State};

/// Looks for such rows.
pub(crate) struct Taken {
    target: String,
    staging: String,
    keys: Vec<Vec<String>>,
}

impl Taken {
    /// `None` where nothing is to be compared.
    pub(crate) fn of(state: &State) -> Option<Self> {
        let staging = state.staging.as_ref().filter(|_| !state.taken.is_empty())?;
        let (target, staging) = (state.table.quoted(QUOTING), staging.quoted(QUOTING));
        Some(Self { target, staging, keys: state.taken.clone() })
    }

    /// The first row of a split from number `first` on.
    pub(crate) async fn find(&self, session: &mut Session, split: u64, first: u64) -> Result<Option<Refusal>> {
        let Self { target, staging, keys } = self;
        let mut found: Option<(u64, String)> = None;
        for key in keys {
            let equal: Vec<_> = key.iter().map(|column| format!("t.{0} = s.{0}", QUOTING.quote(column))).collect();
            // One staged row after the other, by the target's index: the target is not read for them.
            let sql = format!(
                "SELECT STRAIGHT_JOIN s.{ROW} FROM {staging} s JOIN {target} t ON {} WHERE s.{SPLIT} = {split} AND \
                 s.{ROW} >= {first} ORDER BY s.{ROW} LIMIT 1",
                equal.join(" AND ")
            );
            if let Some(row) = session.row::<u64>(&sql).await?
                && found.as_ref().is_none_or(|(before, _)| row < *before)
            {
                found = Some((row, format!("a row of the target has the same {}", key.join(", "))));
            }
        }
        let refusal =
            |(row, reason): (u64, String)| Refusal { row: usize::try_from(row - first).ok(), column: None, reason };
        Ok(found.map(refusal))
    }
}
