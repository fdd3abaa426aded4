//! What is known of the target's tables whose turn is to come, read for all of them at once.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use weir_core::{ConnectorContext, Hold};

use super::Run;
use crate::database::look_at_target;

/// How long it holds. Somebody may change a table between the look at it and its rows, as between its plan and its rows; that
/// is not to become the time that all tables before it take.
const FRESH: Duration = Duration::from_secs(30);

/// The last look at the target.
#[derive(Default)]
pub(super) struct TargetAhead(tokio::sync::Mutex<Ahead>);

#[derive(Default)]
struct Ahead {
    /// What it has left, if anything, and when it began.
    held: Option<(Option<Hold>, Instant)>,
    /// The entries that have had their turn.
    begun: HashSet<usize>,
}

impl Run {
    /// A table has its turn: looks at the target's tables that have had none, unless that was a moment ago.
    pub(super) async fn look_ahead(&self, index: usize, context: &ConnectorContext) {
        let Some(database) = &self.job.database else { return };
        let mut ahead = self.ahead.0.lock().await;
        if ahead.held.as_ref().is_none_or(|(_, at)| at.elapsed() >= FRESH) {
            // Before the next one: to drop it takes its tables away.
            ahead.held = None;
            let left = self.job.entries.iter().enumerate().filter(|(index, _)| !ahead.begun.contains(index));
            let left: Vec<_> = left.filter_map(|(_, entry)| Some(entry.table.as_ref()?.target.clone())).collect();
            let began = Instant::now();
            ahead.held = Some((look_at_target(database, &left, context).await, began));
        }
        ahead.begun.insert(index);
    }

    /// All tables have had their turn.
    pub(super) async fn forget_ahead(&self) {
        self.ahead.0.lock().await.held = None;
    }
}
