//! Staged rows of an append whose key a row of the target has: the publication would fail for them all at once, so each is
//! refused while it is staged, as the target itself would refuse it.

use sqlx::Row;
use weir_core::{Refusal, Result, WritePlan};
use weir_postgresql::error::map;
use weir_postgresql::{Session, literal};
use weir_sql::TableName;

use crate::plan::{Q, State};
use crate::stage::{Layout, ROW, SPLIT};

/// Looks for such rows.
pub(crate) struct Taken {
    /// Where rows are staged.
    stage: String,
    split: u32,
    /// Of each key: why a row is refused, as a literal, and the condition for it.
    keys: Vec<(String, String)>,
}

impl Taken {
    /// `None` where there is no key to clash in, or the login may not read the target, which an append else does not need to.
    pub(crate) async fn of(
        session: &mut Session,
        (plan, state): (&WritePlan, &State),
        stage: &TableName,
        split: u32,
    ) -> Result<Option<Self>> {
        let asked;
        let layout = match &state.layout {
            Some(layout) => layout,
            None => {
                asked = Layout::ask(session, plan, &state.table).await?;
                &asked
            }
        };
        let table = state.table.quoted(Q);
        let may_read = format!("SELECT has_table_privilege({}, 'SELECT')", literal(&table));
        if layout.unique.is_empty() || !session.value::<bool>(&may_read).await? {
            return Ok(None);
        }
        let of_key = |key: &Vec<String>| {
            let equal: Vec<_> = key.iter().map(|column| format!("t.{0} = s.{0}", Q.quote(column))).collect();
            let reason = literal(&format!("a row of the target has the same {}", key.join(", ")));
            (reason, format!("EXISTS (SELECT FROM {table} t WHERE {})", equal.join(" AND ")))
        };
        Ok(Some(Self { stage: stage.quoted(Q), split, keys: layout.unique.iter().map(of_key).collect() }))
    }

    /// The first row from number `first` on.
    pub(crate) async fn find(&self, session: &mut Session, first: i64) -> Result<Option<Refusal>> {
        let Self { stage, split, keys } = self;
        // One row after the other, by the target's index: how many there are is known to nobody.
        let of_key = |(reason, taken): &(String, String)| {
            format!(
                "(SELECT s.{ROW}, {reason}::text FROM {stage} s WHERE s.{SPLIT} = {split} AND s.{ROW} >= {first} AND {taken} \
                 ORDER BY s.{ROW} LIMIT 1)"
            )
        };
        let all: Vec<_> = keys.iter().map(of_key).collect();
        let rows =
            session.rows(&format!("SELECT * FROM ({}) found ORDER BY 1 LIMIT 1", all.join(" UNION ALL "))).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (number, reason): (i64, String) = (row.try_get(0).map_err(map)?, row.try_get(1).map_err(map)?);
        Ok(Some(Refusal { row: usize::try_from(number - first).ok(), column: None, reason }))
    }
}
