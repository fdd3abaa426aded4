//! Tables that are published together show one moment, also when the source's snapshot was lost while they were read.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::{FutureExt, StreamExt};
use weir_core::{ConnectorContext, Error, ErrorKind};

use super::Run;
use super::entry::{Done, Moved};
use super::outcome::EntryEnd;
use crate::observer::TableState;

/// How many tables a warning names.
const NAMED: usize = 20;

/// The moments that the entries of a run were read from.
#[derive(Default)]
pub(super) struct Moments(Mutex<Met>);

#[derive(Default)]
struct Met {
    /// The moments of each server, the latest last.
    of_server: BTreeMap<String, Vec<String>>,
    of_entry: HashMap<usize, BTreeMap<String, String>>,
}

impl Moments {
    fn met(&self) -> MutexGuard<'_, Met> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An entry is read from these moments, by server.
    pub(super) fn note(&self, entry: usize, moments: &BTreeMap<String, String>) {
        let mut met = self.met();
        for (server, moment) in moments {
            let known = met.of_server.entry(server.clone()).or_default();
            if !known.contains(moment) {
                known.push(moment.clone());
            }
        }
        if met.of_entry.insert(entry, moments.clone()).is_some_and(|before| before != *moments) {
            // A moment that nobody has any more makes nobody late.
            let Met { of_server, of_entry } = &mut *met;
            for (server, known) in of_server {
                known.retain(|moment| of_entry.values().any(|of| of.get(server) == Some(moment)));
            }
        }
    }

    /// Whether others are read from a later moment.
    fn is_behind(&self, entry: usize) -> bool {
        let met = self.met();
        let mut moments = met.of_entry.get(&entry).into_iter().flatten();
        moments.any(|(server, moment)| met.of_server.get(server).and_then(|all| all.last()) != Some(moment))
    }
}

impl Run {
    /// Tables that are published one by one show the moment at which they were read: not the same one, where an earlier
    /// process has read some of them.
    pub(super) fn say_earlier(&self, ends: &[EntryEnd]) {
        let well = || ends.iter().filter(|end| end.result.is_ok());
        let earlier: Vec<_> = well().filter(|end| end.earlier).map(|end| end.target.as_str()).collect();
        if earlier.is_empty() || !well().any(|end| !end.earlier && end.snapshot.is_some()) {
            return;
        }
        let more = match earlier.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        self.warn(&format!(
            "{} of {} tables were read before the run was taken up again, and show the source at an earlier moment than the \
             others: {}{more}",
            earlier.len(),
            self.job.entries.len(),
            earlier[..earlier.len().min(NAMED)].join(", ")
        ));
    }

    /// Reads the tables again that show an earlier moment than others.
    pub(super) async fn of_one_moment(
        &self,
        mut moved: Vec<Moved>,
        at_once: usize,
        context: &ConnectorContext,
    ) -> Vec<Moved> {
        let failed = AtomicBool::new(false);
        for _ in 0..self.job.setting.retry.times {
            let (behind, others): (Vec<_>, Vec<_>) = moved.into_iter().partition(|one| self.is_behind(one));
            moved = others;
            if behind.is_empty() {
                return moved;
            }
            // Once one has failed none is published.
            let again = |one: Moved| async {
                if failed.load(Relaxed) {
                    return one;
                }
                let one = self.move_again(one, context).await;
                failed.fetch_or(one.moved.is_err(), Relaxed);
                one
            };
            let again: Vec<_> = behind.into_iter().map(|one| again(one).boxed()).collect();
            moved.extend(futures::stream::iter(again).buffer_unordered(at_once).collect::<Vec<_>>().await);
            if failed.load(Relaxed) {
                return moved;
            }
        }
        for one in &mut moved {
            if self.is_behind(one) {
                let text = "the source's snapshot was lost, and other tables were read from a later one: with publish `all` a \
                            resume reads all of them anew";
                one.moved = Err(Error::new(ErrorKind::SnapshotLost, text));
            }
        }
        moved
    }

    fn is_behind(&self, one: &Moved) -> bool {
        // Splits that are to be seen already cannot be taken back.
        let can = self.begins_together && !one.entry.plan.commits_per_split && one.end.decided.is_some();
        can && matches!(one.moved, Ok(Done::Moved)) && self.moments.is_behind(one.end.index)
    }

    async fn move_again(&self, one: Moved, context: &ConnectorContext) -> Moved {
        let Moved { entry, mut end, .. } = one;
        let index = end.index;
        let context = ConnectorContext { cancel: self.stop(index), ..context.clone() };
        let table = &entry.plan.table;
        self.warn(&format!(
            "{table} starts again: the snapshot that it was read from is lost, others show a later one"
        ));
        let Some(decided) = end.decided.take() else {
            return Moved::new(entry, end, Err(Error::internal("nothing is known of a table that was moved")));
        };
        let moved = match self.start_again(index, &entry, decided, &end.receipts, &context).await {
            Ok(start) => self.move_whole(index, start, &context).await,
            Err(error) => Moved::new(entry, end, Err(error)),
        };
        let state = if moved.moved.is_ok() { TableState::Moved } else { TableState::Failed };
        self.progress.set_state(index, state);
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_read_before_a_snapshot_was_lost_is_behind() {
        let of = |pairs: &[(&str, &str)]| pairs.iter().map(|(s, m)| ((*s).to_owned(), (*m).to_owned())).collect();
        let moments = Moments::default();
        moments.note(0, &of(&[("a", "1")]));
        moments.note(1, &of(&[("a", "1"), ("b", "1")]));
        moments.note(2, &of(&[]));
        moments.note(3, &of(&[("b", "2")]));
        assert_eq!([0, 1, 2, 3, 4].map(|entry| moments.is_behind(entry)), [false, true, false, false, false]);
        moments.note(0, &of(&[("a", "2")]));
        moments.note(1, &of(&[("a", "2"), ("b", "2")]));
        assert_eq!([0, 1, 2, 3, 4].map(|entry| moments.is_behind(entry)), [false; 5]);
    }

    #[test]
    fn nobody_is_behind_a_moment_that_nobody_has() {
        let of = |moment: &str| BTreeMap::from([("a".to_owned(), moment.to_owned())]);
        let moments = Moments::default();
        moments.note(0, &of("2"));
        // Noted late.
        moments.note(1, &of("1"));
        assert_eq!([0, 1].map(|entry| moments.is_behind(entry)), [true, false]);
        moments.note(1, &of("2"));
        assert_eq!([0, 1].map(|entry| moments.is_behind(entry)), [false; 2]);
        moments.note(0, &of("3"));
        assert_eq!([0, 1].map(|entry| moments.is_behind(entry)), [false, true]);
    }
}
