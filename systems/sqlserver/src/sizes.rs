//! How large the server takes its tables to be.

use std::collections::HashMap;

use tiberius::Row;
use weir_core::Result;

use crate::cells::{number, optional};
use crate::connection::Session;

/// Rows and bytes of the tables that the server counts, by their numbers; `among` is a condition on these.
pub(crate) async fn sizes(session: &mut Session, among: &str) -> Result<HashMap<i64, (Option<u64>, Option<u64>)>> {
    let rows = format!(
        "SELECT CAST(object_id AS bigint), CAST(SUM(rows) AS bigint) FROM sys.partitions \
         WHERE {among} AND index_id IN (0, 1) GROUP BY object_id"
    );
    let pages = format!(
        "SELECT CAST(object_id AS bigint), CAST(SUM(a.used_pages) AS bigint) FROM sys.partitions p \
         JOIN sys.allocation_units a ON a.container_id = p.partition_id WHERE {among} AND p.index_id IN (0, 1) \
         GROUP BY p.object_id"
    );
    let (rows, pages) = (counts(&optional(session, &rows).await?), counts(&optional(session, &pages).await?));
    // A relative that keeps no count says zero of everything.
    let of = |(id, rows): (&i64, &u64)| {
        let bytes = pages.get(id).filter(|n| **n > 0).map(|n| n * 8192);
        (*id, (Some(*rows).filter(|n| *n > 0 || bytes.is_some()), bytes))
    };
    Ok(rows.iter().map(of).collect())
}

fn counts(rows: &[Row]) -> HashMap<i64, u64> {
    rows.iter().filter_map(|row| Some((number(row, 0)?, number(row, 1)?.max(0) as u64))).collect()
}
