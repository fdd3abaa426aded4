//! What a whole-database job has read of the tables of its source, or its target, at once, for the reader or the writer of each of them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use weir_core::{Hold, Shared};

use crate::TableName;

/// Tables of one place that nobody needs to ask about any more. `T` is what a reader or a writer knows of a table.
pub struct Ahead<T>(Mutex<HashMap<TableName, T>>);

impl<T: Clone + Send + Sync + 'static> Ahead<T> {
    /// Leaves tables for the connectors of `place`, which says which server, database and user that is, until what is given is
    /// dropped.
    pub fn leave(shared: &Shared, place: String, tables: HashMap<TableName, T>) -> Hold {
        let names = tables.keys().cloned().collect();
        // Several sources of a job may be one place.
        let all = shared.find_or_leave(&place, || Self(Mutex::default()));
        all.0.lock().unwrap_or_else(PoisonError::into_inner).extend(tables);
        Box::new(Left::<T> { shared: shared.clone(), place, names, of: std::marker::PhantomData })
    }

    /// A table by its exact name, if it was left.
    pub fn find(shared: &Shared, place: &str, table: &TableName) -> Option<T> {
        shared.find::<Self>(place)?.0.lock().unwrap_or_else(PoisonError::into_inner).get(table).cloned()
    }

    /// As [`find`](Self::find), for one use: whoever comes after it asks the server, for the table may be another one by then.
    pub fn take(shared: &Shared, place: &str, table: &TableName) -> Option<T> {
        shared.find::<Self>(place)?.0.lock().unwrap_or_else(PoisonError::into_inner).remove(table)
    }

    /// All tables that were left.
    pub fn all(shared: &Shared, place: &str) -> Vec<T> {
        let Some(all) = shared.find::<Self>(place) else { return Vec::new() };
        let all = all.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().cloned().collect()
    }
}

/// Takes what was left away again.
struct Left<T: Clone + Send + Sync + 'static> {
    shared: Shared,
    place: String,
    names: Vec<TableName>,
    of: std::marker::PhantomData<T>,
}

impl<T: Clone + Send + Sync + 'static> Drop for Left<T> {
    fn drop(&mut self) {
        let Some(all) = self.shared.find::<Ahead<T>>(&self.place) else { return };
        let mut all = all.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.names.iter().for_each(|name| drop(all.remove(name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_found_until_its_hold_is_dropped() {
        let shared = Shared::default();
        let name = |name: &str| TableName { schema: Some("s".into()), name: name.into() };
        let leave = |text: &str| Ahead::leave(&shared, "here".into(), HashMap::from([(name(text), text.to_owned())]));
        let find = |place: &str, text: &str| Ahead::<String>::find(&shared, place, &name(text));
        let (a, b) = (leave("a"), leave("b"));
        assert_eq!((find("here", "a"), find("here", "b")), (Some("a".into()), Some("b".into())));
        assert_eq!((find("there", "a"), find("here", "A")), (None, None));
        assert_eq!((Ahead::<String>::all(&shared, "here").len(), Ahead::<String>::all(&shared, "there").len()), (2, 0));
        drop(a);
        assert_eq!((find("here", "a"), find("here", "b")), (None, Some("b".into())));
        let take = || Ahead::<String>::take(&shared, "here", &name("b"));
        assert_eq!((take(), take()), (Some("b".into()), None));
        drop(b);
        let b = leave("b");
        drop(b);
        assert_eq!(find("here", "b"), None);
    }
}
