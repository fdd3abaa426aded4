//! `setting.verify`: a run that succeeded is compared with its source before it is reported.

use std::collections::BTreeMap;

use weir_core::{ConnectorContext, Error, ErrorKind, Window};

use super::Run;
use super::outcome::{Ended, EntryEnd};
use crate::job::Job;
use crate::verify::{Memory, verify_moved};

impl Run {
    /// Compares targets and sources; a difference is the run's error.
    pub(super) async fn verify(&self, ended: &mut Ended, context: &ConnectorContext) {
        if !self.job.setting.verify || !ended.succeeded() {
            return;
        }
        if self.options.limit.is_some() {
            return self.warn("not verified: a try of a few rows leaves the others out");
        }
        // The watermarks move with the run's success only, and that is what is asked here.
        let left = |end: &EntryEnd| (end.index, end.windows.iter().filter_map(Window::leaves).collect());
        let left: BTreeMap<usize, Vec<_>> = ended.entries.iter().map(left).collect();
        let moved = |_: &Job, index: usize| left.get(&index).cloned().unwrap_or_default();
        let dirty = self.progress.snapshot().0.rows_dirty;
        // What the run's connectors knew is of the past, and the sessions that they held would be there besides.
        context.shared.clear();
        let compared = async {
            let tables = match self.ledger.as_ref().filter(|_| self.job.database.is_some()) {
                Some(ledger) => ledger.known_tables(&self.job.name).await?,
                None => Vec::new(),
            };
            verify_moved(&self.job, None, &Memory { moved: &moved, tables: &tables }, context).await
        };
        ended.error = match compared.await {
            // What the target refused is in the quarantine, and not at the target for that.
            Ok(found) if found.equal || found.lacks_only(dirty) => None,
            Ok(found) => Some(Error::new(ErrorKind::Data, format!("verification failed: {}", found.summary()))),
            Err(error) => Some(error.with("while", "verifying what the run wrote")),
        };
    }
}
