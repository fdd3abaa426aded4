//! What a pass over one side collects.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use serde_json::{Map, Value};
use weir_core::row_values;

use super::compare::Hashed;

/// How many buckets keys fall into.
pub const BUCKETS: usize = 4096;

/// Rows whose keys fall into one bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// How many.
    pub rows: u64,
    /// The sum of their hashes, which does not depend on their order.
    pub sum: u128,
}

/// Which bucket a key falls into.
pub fn bucket_of(key: u128) -> usize {
    (key >> 64) as usize % BUCKETS
}

/// What a pass collects. Each split has one of its own, merged when it was read to its end, so that a split can be tried
/// again.
pub enum Gather {
    /// Counts and sums, which is enough where both sides are equal.
    Buckets(Vec<Bucket>),
    /// The rows of some buckets.
    Rows {
        /// Which buckets.
        wanted: Arc<HashSet<usize>>,
        /// Only rows with one of these keys, which are sorted; `None` for all.
        known: Option<Arc<Vec<u128>>>,
        /// What was found.
        rows: Vec<Hashed>,
        /// How many had another key.
        others: u64,
    },
    /// The rows with the smallest keys' hashes, as many as are wanted, or up to twice as many.
    Sample {
        /// How many are wanted.
        wanted: usize,
        /// Larger ones are left out.
        most: u128,
        /// What was found.
        rows: Vec<Hashed>,
    },
    /// The values of some keys.
    Names {
        /// The keys' hashes.
        wanted: Arc<HashSet<u128>>,
        /// Which columns make the key.
        key: Arc<Vec<usize>>,
        /// The table that is read.
        table: String,
        /// What was found.
        found: HashMap<u128, Named>,
    },
}

/// A row by the values of its key.
#[derive(Debug, Clone)]
pub struct Named {
    /// Values by column.
    pub key: Map<String, Value>,
    /// The table that it is in.
    pub table: String,
}

impl Gather {
    /// Empty buckets.
    pub fn buckets() -> Self {
        Self::Buckets(vec![Bucket::default(); BUCKETS])
    }

    /// One of the same kind that has collected nothing.
    pub fn fresh(&self) -> Self {
        match self {
            Self::Buckets(_) => Self::buckets(),
            Self::Rows { wanted, known, .. } => {
                Self::Rows { wanted: wanted.clone(), known: known.clone(), rows: Vec::new(), others: 0 }
            }
            Self::Sample { wanted, most, .. } => Self::Sample { wanted: *wanted, most: *most, rows: Vec::new() },
            Self::Names { wanted, key, table, .. } => {
                Self::Names { wanted: wanted.clone(), key: key.clone(), table: table.clone(), found: HashMap::new() }
            }
        }
    }

    /// Rows of this table come next.
    pub fn of_table(mut self, name: &str) -> Self {
        if let Self::Names { table, .. } = &mut self {
            name.clone_into(table);
        }
        self
    }

    /// Takes the rows of a batch; `hashes` are theirs.
    pub fn take(&mut self, batch: &RecordBatch, hashes: &[Hashed]) {
        match self {
            Self::Buckets(buckets) => {
                for row in hashes {
                    let bucket = &mut buckets[bucket_of(row.key)];
                    bucket.rows += 1;
                    bucket.sum = bucket.sum.wrapping_add(row.row);
                }
            }
            Self::Rows { wanted, known, rows, others } => {
                for row in hashes.iter().filter(|row| wanted.contains(&bucket_of(row.key))) {
                    match known {
                        Some(known) if known.binary_search(&row.key).is_err() => *others += 1,
                        _ => rows.push(*row),
                    }
                }
            }
            Self::Sample { wanted, most, rows } => {
                rows.extend(hashes.iter().filter(|row| row.key <= *most));
                shrink(rows, *wanted, most);
            }
            Self::Names { wanted, key, table, found } => {
                for (at, row) in hashes.iter().enumerate().filter(|(_, row)| wanted.contains(&row.key)) {
                    found.entry(row.key).or_insert_with(|| {
                        let key = batch.project(key).map_or_else(|_| Map::new(), |key| row_values(&key, at));
                        Named { key, table: table.clone() }
                    });
                }
            }
        }
    }

    /// Whether there is nothing left to look for.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Names { wanted, found, .. } if found.len() == wanted.len())
    }

    /// Adds what another one of the same kind has collected.
    pub fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Buckets(all), Self::Buckets(more)) => {
                for (bucket, more) in all.iter_mut().zip(more) {
                    bucket.rows += more.rows;
                    bucket.sum = bucket.sum.wrapping_add(more.sum);
                }
            }
            (Self::Rows { rows, others, .. }, Self::Rows { rows: more, others: more_others, .. }) => {
                rows.extend(more);
                *others += more_others;
            }
            (Self::Sample { wanted, most, rows }, Self::Sample { most: their_most, rows: more, .. }) => {
                *most = (*most).min(their_most);
                rows.extend(more);
                rows.retain(|row| row.key <= *most);
                shrink(rows, *wanted, most);
            }
            (Self::Names { found, .. }, Self::Names { found: more, .. }) => found.extend(more),
            // A pass has one kind.
            _ => {}
        }
    }
}

/// Keeps a sample near its size: when it is twice as large, the larger half of the keys goes. Rows of one key stay or go
/// together.
fn shrink(rows: &mut Vec<Hashed>, wanted: usize, most: &mut u128) {
    while rows.len() > wanted.max(1) * 2 && *most > 0 {
        *most /= 2;
        rows.retain(|row| row.key <= *most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::convert::ConvertOptions;

    #[test]
    fn a_sample_is_about_as_large_as_wanted_and_the_same_for_both_sides() {
        let options = ConvertOptions::default();
        let column: arrow::array::ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(0..10_000));
        let field = arrow::datatypes::Field::new("n", column.data_type().clone(), true);
        let mut hashes = super::super::hash::RowHashes::new(10_000);
        hashes.add(&super::super::hash::column_hashes(&column, &field, &options).unwrap());
        let rows: Vec<Hashed> = hashes.finish().into_iter().map(|key| Hashed { key, row: key }).collect();
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let sample = || Gather::Sample { wanted: 100, most: u128::MAX, rows: Vec::new() };
        let mut all = sample();
        let mut parts = sample();
        all.take(&batch, &rows);
        for part in rows.chunks(700) {
            let mut gather = parts.fresh();
            gather.take(&batch, part);
            parts.merge(gather);
        }
        let (Gather::Sample { rows: mut a, .. }, Gather::Sample { rows: mut b, .. }) = (all, parts) else { panic!() };
        assert!((80..=200).contains(&a.len()), "{}", a.len());
        a.sort_unstable();
        b.sort_unstable();
        assert_eq!(a, b);
    }
}
