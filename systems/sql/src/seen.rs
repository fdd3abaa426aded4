//! What a writer has seen of its target: itself, a moment ago, or with all others of a whole-database job.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use weir_core::{Hold, Result, Shared, TargetName};

use crate::{Ahead, TableName};

/// How long what a look at the target saw holds for the plan that follows it.
const FRESH: Duration = Duration::from_secs(10);

/// What is known of one writer's table. `T` is what a writer knows of a target.
pub struct Seen<T> {
    shared: Shared,
    place: String,
    table: TableName,
    last: Mutex<Option<(T, Instant)>>,
}

impl<T: Clone + Send + Sync + 'static> Seen<T> {
    /// Nothing yet; `place` says in which server, database and user's eyes, as for [`Ahead`].
    pub fn new(shared: &Shared, place: String, table: TableName) -> Self {
        Self { shared: shared.clone(), place, table, last: Mutex::default() }
    }

    /// The names of tables that are to be looked at together.
    pub fn names(tables: &[TargetName]) -> Vec<TableName> {
        let name = |table: &TargetName| TableName { schema: table.schema.clone(), name: table.table.clone() };
        tables.iter().map(name).collect()
    }

    /// Leaves what was read of these tables, in their order, for their writers. What is wrong with one is found again by its
    /// own.
    pub fn leave(&self, names: Vec<TableName>, known: Vec<Result<T>>) -> Hold {
        let all = names.into_iter().zip(known).filter_map(|(name, known)| Some((name, known.ok()?)));
        Ahead::leave(&self.shared, self.place.clone(), all.collect())
    }

    /// What was read of the table with all others, once.
    pub fn take_left(&self) -> Option<T> {
        Ahead::take(&self.shared, &self.place, &self.table)
    }

    /// As [`take_left`](Self::take_left), and it stays there.
    pub fn find_left(&self) -> Option<T> {
        Ahead::find(&self.shared, &self.place, &self.table)
    }

    /// Notes what was seen just now.
    pub fn note(&self, known: T) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((known, Instant::now()));
    }

    /// What was [noted](Self::note) a moment ago, once.
    pub fn take(&self) -> Option<T> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        last.filter(|(_, when)| when.elapsed() < FRESH).map(|(known, _)| known)
    }

    /// As [`take`](Self::take), and it stays noted.
    pub fn find(&self) -> Option<T> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        last.filter(|(_, when)| when.elapsed() < FRESH).map(|(known, _)| known)
    }

    /// The table is another one from here on: whatever was seen of it before is not to be planned with.
    pub fn forget(&self) {
        self.take();
        self.take_left();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_or_noted_is_there_until_the_table_changes() {
        let shared = Shared::default();
        let name = TargetName { schema: None, table: "t".into() };
        let names = Seen::<u32>::names(&[name.clone(), name]);
        let seen = |place: &str| Seen::<u32>::new(&shared, place.into(), TableName::bare("t"));
        let (one, other) = (seen("here"), seen("there"));
        let broken = || Err(weir_core::Error::internal("no"));
        let _held = one.leave(names, vec![Ok(1), broken()]);
        assert_eq!((one.find_left(), one.find_left(), other.find_left()), (Some(1), Some(1), None));
        one.note(2);
        assert_eq!((one.find(), one.take(), one.take()), (Some(2), Some(2), None));
        one.note(3);
        one.forget();
        assert_eq!((one.find(), one.take_left()), (None, None));
    }
}
