//! What a split of files says, for the task that reads it.

use serde::{Deserialize, Serialize};
use weir_core::{Error, Result, Split};
use weir_files::{Compression, Format};

/// One file, or some row groups or bytes of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// The position in the job's list of paths, which names the store.
    pub(crate) location: usize,
    /// The file's path or key.
    pub(crate) file: String,
    pub(crate) format: Format,
    pub(crate) compression: Compression,
    /// Whether the name ends in `.tsv`.
    #[serde(default)]
    pub(crate) tabs: bool,
    /// The names of all columns, where the files' content decides on them.
    #[serde(default)]
    pub(crate) names: Vec<String>,
    /// Row groups of a Parquet file, from and to (exclusive).
    #[serde(default)]
    pub(crate) groups: Option<(usize, usize)>,
    /// Bytes of a text file, from and to (exclusive); they begin and end with records.
    #[serde(default)]
    pub(crate) range: Option<(u64, u64)>,
    /// The line at the start of `range`, where it is known.
    #[serde(default)]
    pub(crate) line: Option<u64>,
    /// The file's size and stamp when the split was planned: another file is not read as if it were this one.
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) stamp: String,
}

impl Part {
    pub(crate) fn of(split: &Split) -> Result<Self> {
        Self::deserialize(&split.part).map_err(|e| Error::internal("the split is not one of files").because(e))
    }
}

/// Cuts row groups, each as (rows, bytes), into runs of about `bytes` bytes: from, to, rows, bytes.
pub(crate) fn runs(groups: &[(u64, u64)], bytes: u64) -> Vec<(usize, usize, u64, u64)> {
    let mut runs: Vec<(usize, usize, u64, u64)> = Vec::new();
    for (i, (rows, size)) in groups.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if run.3 + size <= bytes => {
                run.1 = i + 1;
                run.2 += rows;
                run.3 += size;
            }
            _ => runs.push((i, i + 1, *rows, *size)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_every_group_once() {
        assert_eq!(runs(&[(1, 40), (2, 70), (3, 20), (4, 200)], 100), [(0, 1, 1, 40), (1, 3, 5, 90), (3, 4, 4, 200)]);
        assert_eq!(runs(&[], 100), []);
    }
}
