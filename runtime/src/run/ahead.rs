//! What is known of the target's tables whose turn is to come, read for all of them at once.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use weir_core::{ConnectorContext, Hold};

use super::Run;
use crate::database::look_at_target;

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
    /// What it has left, if anything, and when it ended.
    held: Option<(Option<Hold>, Instant)>,
    /// The entries that it was for.
    looked: HashSet<usize>,
    /// The entries that have had their turn.
    begun: HashSet<usize>,
}

impl Run {
    /// A table has its turn: looks at the target's next tables, it among them, unless that was done a moment ago.
    pub(super) async fn look_ahead(&self, index: usize, context: &ConnectorContext) {
        let Some(database) = &self.job.database else { return };
        let mut ahead = self.ahead.0.lock().await;
        if !ahead.looked.contains(&index) || ahead.held.as_ref().is_none_or(|(_, at)| at.elapsed() >= FRESH) {
            // Before the next one: to drop it takes its tables away.
            ahead.held = None;
            let others = (0..self.job.entries.len()).filter(|other| *other != index && !ahead.begun.contains(other));
            let next: Vec<usize> = std::iter::once(index).chain(others).take(TABLES).collect();
            let tables =
                next.iter().filter_map(|index| Some(self.job.entries.get(*index)?.table.as_ref()?.target.clone()));
            let found = look_at_target(database, &tables.collect::<Vec<_>>(), context).await;
            ahead.held = Some((found, Instant::now()));
            ahead.looked = next.into_iter().collect();
        }
        ahead.begun.insert(index);
    }

    /// All tables have had their turn.
    pub(super) async fn forget_ahead(&self) {
        self.ahead.0.lock().await.held = None;
    }
}
