//! What the in-memory writer writes to.

use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::Trouble;
use crate::harness::cells;

#[derive(Clone, Default)]
pub(super) struct Target {
    /// `None` until it is created.
    pub schema: Option<SchemaRef>,
    pub created: bool,
    pub published: Vec<RecordBatch>,
    /// Finished tasks that wait for a commit, by run and split: a second attempt replaces the first.
    pub staged: HashMap<(String, u32), Vec<RecordBatch>>,
    /// The runs that were published, so that a second commit does nothing.
    pub runs: HashSet<String>,
    pub commits: usize,
    pub aborts: usize,
    pub max_channels: Option<usize>,
    pub trouble: Trouble,
}

static TARGETS: LazyLock<Mutex<HashMap<String, Target>>> = LazyLock::new(Mutex::default);

fn all() -> MutexGuard<'static, HashMap<String, Target>> {
    TARGETS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at a target, or changes it; one that nobody has put is made.
pub(super) fn with<T>(key: &str, change: impl FnOnce(&mut Target) -> T) -> T {
    change(all().entry(key.to_owned()).or_default())
}

/// The rows that are visible at the target, every value as text; see [`cells`].
pub fn published(key: &str) -> Vec<Vec<Option<String>>> {
    with(key, |target| cells(&target.published))
}

/// Whether the target exists.
pub fn exists(key: &str) -> bool {
    with(key, |target| target.schema.is_some())
}

/// The existing targets whose key begins with `prefix`, and what is staged at them.
pub fn inventory(prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (key, target) in all().iter().filter(|(key, target)| key.starts_with(prefix) && target.schema.is_some()) {
        names.push(key.clone());
        names.extend(target.staged.keys().map(|(run, split)| format!("{key}: split {split} of run {run}")));
    }
    names.sort();
    names
}

/// How often `commit` published something at the target: a second call for the same run does not count.
pub fn commits(key: &str) -> usize {
    with(key, |target| target.commits)
}

/// How often `abort` was called.
pub fn aborts(key: &str) -> usize {
    with(key, |target| target.aborts)
}

/// Whether a run created the target.
pub fn created(key: &str) -> bool {
    with(key, |target| target.created)
}

/// Begins a target; [`TargetBuilder::put`] makes it known. A target that is not put is created by the first run.
pub fn target(key: &str) -> TargetBuilder {
    TargetBuilder { key: key.into(), target: Target::default() }
}

/// A target that is being made.
pub struct TargetBuilder {
    key: String,
    target: Target,
}

impl TargetBuilder {
    /// It exists with these columns.
    pub fn columns(mut self, schema: SchemaRef) -> Self {
        self.target.schema = Some(schema);
        self
    }

    /// It exists and holds these rows.
    pub fn batches(mut self, batches: Vec<RecordBatch>) -> Self {
        self.target.schema = batches.first().map(RecordBatch::schema).or(self.target.schema);
        self.target.published = batches;
        self
    }

    /// It takes no more tasks at once.
    pub fn max_channels(mut self, channels: usize) -> Self {
        self.target.max_channels = Some(channels);
        self
    }

    /// What goes wrong.
    pub fn trouble(mut self, trouble: Trouble) -> Self {
        self.target.trouble = trouble;
        self
    }

    /// Makes the target known under its key.
    pub fn put(self) {
        all().insert(self.key, self.target);
    }
}
