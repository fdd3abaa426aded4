//! What is dear to open and cheap to keep: sessions with servers, between the calls of one run.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;

use crate::Seat;

/// The most that is kept at once; what was kept first goes first.
const MOST: usize = 16;

/// Something that can be kept, and ended in good order.
#[async_trait]
pub trait Keep: Any + Send {
    /// Says goodbye.
    async fn close(self: Box<Self>);

    /// The seat that it takes, if its run counts such things.
    fn seat(&self) -> Option<&Seat> {
        None
    }
}

/// What connectors keep for each other on one runtime, for a connection belongs to the runtime that opened it: one on a
/// run's control runtime, one on each thread of a channel. It ends with the run.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Shelf>>);

#[derive(Default)]
pub(crate) struct Shelf {
    items: Vec<Box<dyn Keep>>,
    /// Whether nothing is taken in any more.
    closed: bool,
}

impl Kept {
    pub(crate) fn of(shelf: Arc<Mutex<Shelf>>) -> Self {
        Self(shelf)
    }

    pub(crate) fn shelf(&self) -> Weak<Mutex<Shelf>> {
        Arc::downgrade(&self.0)
    }

    /// Takes what was kept first of all that has a seat at a place.
    pub(crate) fn take_seated(&self, place: &str) -> Option<Box<dyn Keep>> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = shelf.items.iter().position(|item| item.seat().is_some_and(|seat| seat.place() == place))?;
        Some(shelf.items.remove(at))
    }

    /// Takes what was kept last and fits.
    pub fn take<T: Keep>(&self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |item: &dyn Keep| (item as &dyn Any).downcast_ref::<T>().is_some_and(&fits);
        let at = shelf.items.iter().rposition(|item| of(item.as_ref()))?;
        let item: Box<dyn Any> = shelf.items.remove(at);
        item.downcast().ok().map(|item| *item)
    }

    /// Keeps a thing, as good as new; gives back what there is no more room for, to be closed.
    #[must_use]
    pub fn put<T: Keep>(&self, item: T) -> Option<Box<dyn Keep>> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.closed {
            return Some(Box::new(item));
        }
        shelf.items.push(Box::new(item));
        (shelf.items.len() > MOST).then(|| shelf.items.remove(0))
    }

    /// Closes all that is kept, and takes nothing in any more.
    pub async fn close(&self) {
        let items = {
            let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            shelf.closed = true;
            std::mem::take(&mut shelf.items)
        };
        for item in items {
            item.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(usize, Arc<Mutex<Vec<usize>>>);

    #[async_trait]
    impl Keep for Thing {
        async fn close(self: Box<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[tokio::test]
    async fn what_fits_comes_back_and_the_rest_is_closed() {
        let (kept, closed) = (Kept::default(), Arc::new(Mutex::new(Vec::new())));
        for number in 0..MOST {
            assert!(kept.put(Thing(number, closed.clone())).is_none());
        }
        let first = kept.put(Thing(MOST, closed.clone())).expect("there is no room for all");
        first.close().await;
        assert_eq!(*closed.lock().unwrap(), [0]);
        assert_eq!(kept.take::<Thing>(|thing| thing.0 < 5).map(|thing| thing.0), Some(4));
        assert!(kept.take::<Thing>(|thing| thing.0 == 4).is_none());
        kept.close().await;
        assert_eq!(closed.lock().unwrap().len(), MOST);
        assert!(kept.put(Thing(99, closed.clone())).is_some(), "it is closed");
    }
}
