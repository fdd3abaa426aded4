//! Whether the target still has the types that the plan has seen: what a column of another type makes of a value, it makes of
//! it without a word.

use std::collections::HashMap;

use weir_core::{Error, ErrorKind, Result, WritePlan};
use weir_mysql::{Session, escape};
use weir_sql::TableName;

use crate::state::State;

/// Refuses to go on where somebody has altered a column. To be called when the session's transaction has written to the
/// target, which keeps it as it is: what it is now it was then.
///
/// # Errors
/// [`ErrorKind::Conflict`].
pub(crate) async fn check(session: &mut Session, plan: &WritePlan, state: &State) -> Result<()> {
    if state.alters {
        return Ok(());
    }
    let seen: HashMap<String, String> = match (&state.create, &state.staging) {
        (None, _) => plan.columns.iter().map(|c| c.name.to_lowercase()).zip(state.types.iter().cloned()).collect(),
        // Made by the run, and the staging table like it: the server's own words for its types.
        (Some(_), Some(staging)) => types(session, staging).await?,
        (Some(_), None) => return Ok(()),
    };
    let now = types(session, &state.table).await?;
    for column in &plan.columns {
        let name = column.name.to_lowercase();
        if let (Some(seen), Some(now)) = (seen.get(&name), now.get(&name))
            && seen != now
        {
            let text = format!(
                "the table was altered after the run had looked at it, from {seen} to {now}: run again, with --fresh where the \
                 run is resumed"
            );
            return Err(Error::new(ErrorKind::Conflict, text).with("column", &column.name));
        }
    }
    Ok(())
}

/// The types of a table's columns, by their names in small letters.
async fn types(session: &mut Session, table: &TableName) -> Result<HashMap<String, String>> {
    let sql = format!(
        "SELECT COLUMN_NAME AS as_planned, CAST(COLUMN_TYPE AS CHAR) FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        escape(table.schema.as_deref().unwrap_or_default()),
        escape(&table.name)
    );
    let rows: Vec<(String, String)> = session.rows(&sql).await?;
    Ok(rows.into_iter().map(|(name, text)| (name.to_lowercase(), text)).collect())
}
