//! What is known of the target's tables whose turn is to come, read for all of them at once.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use weir_core::{ConnectorContext, Hold};

use super::Run;
use crate::database::{TableJob, look_at_target};

/// How long it holds. Somebody may change a table between the look at it and its rows, as between its plan and its rows; that
/// is not to become the time that all tables before it take.
const FRESH: Duration = Duration::from_secs(30);

/// How many tables one look is for: what it finds is to be used before it is old.
const TABLES: usize = 500;

/// The last look at the target.
#[derive(Default)]
pub(super) struct TargetAhead(tokio::sync::Mutex<Ahead>);

#[derive(Default)]
struct Ahead {
    last: Option<Look>,
    /// The entries that have had their turn.
    begun: HashSet<usize>,
}

struct Look {
    /// What it has left, if anything.
    _held: Option<Hold>,
    /// When it ended.
    at: Instant,
    /// The entries that it was for.
    entries: HashSet<usize>,
}

impl Run {
    /// A table has its turn: looks at the target's next tables, it among them, unless that was done a moment ago.
    pub(super) async fn look_ahead(&self, index: usize, context: &ConnectorContext) {
        let Some(database) = &self.job.database else { return };
        let mut ahead = self.ahead.0.lock().await;
        if ahead.last.as_ref().is_none_or(|look| !look.entries.contains(&index) || look.at.elapsed() >= FRESH) {
            // Before the next one: to drop it takes its tables away.
            ahead.last = None;
            let entries = next(index, &self.groups(), database.config.group.concurrent_groups, &ahead.begun);
            let tables = entries.iter().filter_map(|index| Some(self.table(*index)?.target.clone()));
            let held = look_at_target(database, &tables.collect::<Vec<_>>(), context).await;
            ahead.last = Some(Look { _held: held, at: Instant::now(), entries: entries.into_iter().collect() });
        }
        ahead.begun.insert(index);
    }

    fn table(&self, index: usize) -> Option<&TableJob> {
        self.job.entries.get(index)?.table.as_deref()
    }

    /// The group of each entry.
    fn groups(&self) -> Vec<usize> {
        (0..self.job.entries.len()).map(|index| self.table(index).map_or(0, |table| table.group)).collect()
    }

    /// All tables have had their turn.
    pub(super) async fn forget_ahead(&self) {
        self.ahead.0.lock().await.last = None;
    }
}

/// The entries whose turn it is, or comes next: those of the groups that run now, each in its order, before others.
fn next(index: usize, group_of: &[usize], at_once: usize, begun: &HashSet<usize>) -> Vec<usize> {
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (other, group) in group_of.iter().enumerate().filter(|(other, _)| *other != index && !begun.contains(other)) {
        groups.entry(*group).or_default().push(other);
    }
    let groups: Vec<Vec<usize>> = groups.into_values().collect();
    let mut next = vec![index];
    for running in groups.chunks(at_once.max(1)) {
        let longest = running.iter().map(Vec::len).max().unwrap_or_default();
        next.extend((0..longest).flat_map(|at| running.iter().filter_map(move |group| group.get(at))));
    }
    next.truncate(TABLES);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_run_come_first_and_side_by_side() {
        let group_of = [2, 0, 0, 0, 1, 1, 2];
        assert_eq!(next(5, &group_of, 2, &HashSet::from([1])), [5, 2, 4, 3, 0, 6]);
        let many = vec![0; 2 * TABLES];
        assert_eq!(next(7, &many, 1, &HashSet::new()).len(), TABLES);
    }
}
