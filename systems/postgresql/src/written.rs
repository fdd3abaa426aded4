//! What a run has written so far, for readers of the same run: a snapshot from before must not serve a table that an
//! earlier part of the job has filled.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use weir_core::Shared;
use weir_sql::TableName;

use crate::connection::Endpoint;

#[derive(Default)]
struct Written(Mutex<HashSet<TableName>>);

fn name(endpoint: &Endpoint) -> String {
    format!("postgresql tables written in {}", endpoint.place())
}

/// Notes that the run writes to `table`.
pub fn note(shared: &Shared, endpoint: &Endpoint, table: &TableName) {
    let written = shared.find_or_leave::<Written>(&name(endpoint), Default::default);
    written.0.lock().unwrap_or_else(PoisonError::into_inner).insert(table.clone());
}

/// Whether the run has written to one of `tables`; to any at all when there are none to name.
pub fn any(shared: &Shared, endpoint: &Endpoint, tables: &[&TableName]) -> bool {
    let Some(written) = shared.find::<Written>(&name(endpoint)) else { return false };
    let written = written.0.lock().unwrap_or_else(PoisonError::into_inner);
    if tables.is_empty() { !written.is_empty() } else { tables.iter().any(|table| written.contains(table)) }
}
