//! How many sessions a run has open at its sources.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::Kept;
use crate::kept::Shelf;

/// The sessions that the readers of a run may have open at one place, those that rest among them.
///
/// How many work at once is the runtime's business, and is no more than that. So where all are open, one that rests makes
/// room for one that is to work.
#[derive(Clone)]
pub struct Room(Arc<Seats>);

struct Seats {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    /// Open sessions by their places.
    open: HashMap<String, usize>,
    /// Where sessions rest.
    shelves: Vec<Weak<Mutex<Shelf>>>,
}

/// A session's place among those that are open; free again when it is dropped, with the session.
pub struct Seat {
    seats: Arc<Seats>,
    place: String,
}

impl Seats {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// Room for so many sessions at each place.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Seats { most, taken: Mutex::default() }))
    }

    /// A seat for a session that is to be opened at a place. Where all are taken, a session that rests there says goodbye
    /// first.
    pub async fn enter(&self, place: &str) -> Seat {
        loop {
            // Taken out of the lock: what goes with the last of a shelf gives its seat back.
            let shelves: Vec<Kept> = {
                let mut taken = self.0.taken();
                let open = taken.open.entry(place.to_owned()).or_default();
                if *open < self.0.most {
                    *open += 1;
                    return self.seat(place);
                }
                taken.shelves.iter().filter_map(Weak::upgrade).map(Kept::of).collect()
            };
            match shelves.iter().find_map(|kept| kept.take_seated(place)) {
                Some(resting) => resting.close().await,
                None => {
                    *self.0.taken().open.entry(place.to_owned()).or_default() += 1;
                    return self.seat(place);
                }
            }
        }
    }

    fn seat(&self, place: &str) -> Seat {
        Seat { seats: self.0.clone(), place: place.to_owned() }
    }

    /// Sessions of this room may rest there.
    pub(crate) fn knows(&self, kept: &Kept) {
        let shelf = kept.shelf();
        let mut taken = self.0.taken();
        taken.shelves.retain(|known| known.strong_count() > 0);
        if !taken.shelves.iter().any(|known| known.ptr_eq(&shelf)) {
            taken.shelves.push(shelf);
        }
    }
}

impl Seat {
    /// Where it is.
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(open) = self.seats.taken().open.get_mut(&self.place) {
            *open = open.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::Keep;

    struct Session(Seat);

    #[async_trait]
    impl Keep for Session {
        async fn close(self: Box<Self>) {}

        fn seat(&self) -> Option<&Seat> {
            Some(&self.0)
        }
    }

    fn open(room: &Room, place: &str) -> usize {
        room.0.taken().open.get(place).copied().unwrap_or_default()
    }

    #[tokio::test]
    async fn one_that_rests_makes_room_for_one_that_works() {
        let (room, here, there) = (Room::new(2), Kept::default(), Kept::default());
        room.knows(&here);
        room.knows(&there);
        room.knows(&there);
        assert_eq!(room.0.taken().shelves.len(), 2);
        let (first, second) = (room.enter("a").await, room.enter("a").await);
        assert!(there.put(Session(first)).is_none());
        let elsewhere = room.enter("b").await;
        let third = room.enter("a").await;
        assert!(there.take::<Session>(|_| true).is_none(), "it has gone");
        assert_eq!((open(&room, "a"), open(&room, "b")), (2, 1));
        // All are at work.
        let fourth = room.enter("a").await;
        assert_eq!(open(&room, "a"), 3);
        drop((second, third, fourth, elsewhere));
        assert_eq!((open(&room, "a"), open(&room, "b")), (0, 0));
    }
}
