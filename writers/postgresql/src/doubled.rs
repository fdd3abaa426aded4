//! Keys that the input holds more than once.

use weir_core::{Error, ErrorKind, Result};
use weir_postgresql::Session;

use crate::plan::Q;

/// Refuses staged rows, those `among` them that can be equal, of which two have one key.
pub(crate) async fn refuse_doubled(session: &mut Session, keys: &[String], from: &str, among: &str) -> Result<()> {
    let keys = Q.quote_all(keys);
    let sql = format!(
        "SELECT ROW({keys})::text || ' ' || count(*) || ' times' FROM {from} WHERE {among} GROUP BY {keys} \
         HAVING count(*) > 1 LIMIT 1"
    );
    let rows = session.rows(&sql).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let twice: String = sqlx::Row::try_get(row, 0).map_err(weir_postgresql::error::map)?;
    Err(Error::new(
        ErrorKind::Data,
        format!("the input holds the key {twice}, and `duplicateKeys` is error: nothing was written"),
    ))
}

/// `among`, without rows of which a part of the key is NULL: they are equal to none.
pub(crate) fn all_there(keys: &[String], among: &str) -> String {
    let there = keys.iter().map(|key| format!(" AND {} IS NOT NULL", Q.quote(key)));
    format!("{among}{}", there.collect::<String>())
}
