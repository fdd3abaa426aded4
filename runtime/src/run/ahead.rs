//! What is known of the target's tables whose turn is to come, read for all of them at once.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use weir_core::{ConnectorContext, Hold};

use super::Run;
use crate::database::look_at_target;

/// How long it holds. Somebody may change a table between the look at it and its rows, as between its plan and its rows; that
/// is not to become the time that all tables before it take.
const FRESH: Duration = Duration::from_secs(30);

/// How many tables one look is for: what it finds is to be used before it is old.
const TABLES: usize = 500;

/// The last looks at the target.
#[derive(Default)]
pub(super) struct TargetAhead(tokio::sync::Mutex<Ahead>);

#[derive(Default)]
struct Ahead {
    /// The last one for the tables of each group, which have their turns one after the other.
    looks: HashMap<usize, Look>,
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
        let table = |index: usize| self.job.entries.get(index)?.table.as_ref();
        let Some(group) = table(index).map(|table| table.group) else { return };
        let mut ahead = self.ahead.0.lock().await;
        let last = ahead.looks.get(&group);
        if last.is_none_or(|look| !look.entries.contains(&index) || look.at.elapsed() >= FRESH) {
            // Before the next one: to drop it takes its tables away.
            ahead.looks.remove(&group);
            let others = (0..self.job.entries.len()).filter(|other| *other != index && !ahead.begun.contains(other));
            let others = others.filter(|other| table(*other).is_some_and(|table| table.group == group));
            let entries: Vec<usize> = std::iter::once(index).chain(others).take(TABLES).collect();
            let tables = entries.iter().filter_map(|index| Some(table(*index)?.target.clone()));
            let held = look_at_target(database, &tables.collect::<Vec<_>>(), context).await;
            let look = Look { _held: held, at: Instant::now(), entries: entries.into_iter().collect() };
            ahead.looks.insert(group, look);
        }
        ahead.begun.insert(index);
    }

    /// All tables have had their turn.
    pub(super) async fn forget_ahead(&self) {
        self.ahead.0.lock().await.looks.clear();
    }
}
