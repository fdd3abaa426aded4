//! What a run has written so far, for readers of the same run: a snapshot from before must not serve a table that an
//! earlier part of the job has filled.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use weir_core::Shared;

use crate::url::Options;

/// The tables by their quoted names.
#[derive(Default)]
struct Written(Mutex<HashSet<String>>);

fn name(options: &Options) -> String {
    format!("mysql tables written in {}", options.place())
}

/// Notes that the run writes to `table`, a quoted name.
pub fn note(shared: &Shared, options: &Options, table: String) {
    let written = shared.find_or_leave::<Written>(&name(options), Default::default);
    written.0.lock().unwrap_or_else(PoisonError::into_inner).insert(table);
}

/// Whether the run has written to one of `tables`; to any at all when nobody knows which they are.
pub fn any(shared: &Shared, options: &Options, tables: Option<&[String]>) -> bool {
    let Some(written) = shared.find::<Written>(&name(options)) else { return false };
    let written = written.0.lock().unwrap_or_else(PoisonError::into_inner);
    tables.map_or(!written.is_empty(), |tables| tables.iter().any(|table| written.contains(table)))
}
