//! From hashes to findings: which rows are missing, extra or different.

/// A row as comparison knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hashed {
    /// Of the key's columns.
    pub key: u128,
    /// Of all columns.
    pub row: u128,
}

/// What a target owes its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The same rows, as often as the source has them.
    Exact,
    /// The source's rows, as often as it has them, among others.
    Contains,
    /// One row for each key of the source, as one of its rows with that key; among others.
    Upsert,
    /// A row for each key of the source, whatever its values.
    Present,
}

/// The most keys that are kept of each kind.
pub const EXAMPLES: usize = 20;

/// How many rows, and the hashes of the first keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Exactly.
    pub count: u64,
    /// At most [`EXAMPLES`].
    pub keys: Vec<u128>,
}

impl Found {
    fn add(&mut self, key: u128, count: usize) {
        if count > 0 {
            self.count += count as u64;
            if self.keys.len() < EXAMPLES {
                self.keys.push(key);
            }
        }
    }
}

/// What differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Rows of the source that the target lacks.
    pub missing: Found,
    /// Rows that only the target has.
    pub extra: Found,
    /// Rows of one key whose values differ.
    pub different: Found,
}

/// Compares rows; both sides are sorted here.
pub fn compare(source: &mut [Hashed], target: &mut [Hashed], rule: Rule, found: &mut Differences) {
    source.sort_unstable();
    target.sort_unstable();
    let (mut source, mut target) = (&*source, &*target);
    loop {
        let key = match (source.first(), target.first()) {
            (Some(s), Some(t)) => s.key.min(t.key),
            (Some(one), None) | (None, Some(one)) => one.key,
            (None, None) => return,
        };
        let (ours, theirs);
        (ours, source) = source.split_at(source.partition_point(|row| row.key == key));
        (theirs, target) = target.split_at(target.partition_point(|row| row.key == key));
        match rule {
            Rule::Exact | Rule::Contains => {
                let (lacking, left) = unmatched(ours, theirs);
                let different = lacking.min(left);
                found.different.add(key, different);
                found.missing.add(key, lacking - different);
                found.extra.add(key, left - different);
            }
            Rule::Upsert | Rule::Present => match (ours.is_empty(), theirs.is_empty()) {
                (true, _) => found.extra.add(key, theirs.len()),
                (false, true) => found.missing.add(key, 1),
                (false, false) => {
                    let as_one_of_ours = |theirs: &Hashed| ours.binary_search(theirs).is_ok();
                    let right = rule == Rule::Present || theirs.iter().any(as_one_of_ours);
                    found.different.add(key, usize::from(!right));
                }
            },
        }
    }
}

/// How many of each side's rows, both sorted and of one key, the other side lacks.
fn unmatched(mut ours: &[Hashed], mut theirs: &[Hashed]) -> (usize, usize) {
    let (mut lacking, mut left) = (0, 0);
    while let (Some(a), Some(b)) = (ours.first(), theirs.first()) {
        match a.row.cmp(&b.row) {
            std::cmp::Ordering::Less => (lacking, ours) = (lacking + 1, &ours[1..]),
            std::cmp::Ordering::Greater => (left, theirs) = (left + 1, &theirs[1..]),
            std::cmp::Ordering::Equal => (ours, theirs) = (&ours[1..], &theirs[1..]),
        }
    }
    (lacking + ours.len(), left + theirs.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(source: &[(u128, u128)], target: &[(u128, u128)], rule: Rule) -> (u64, u64, u64) {
        let of = |rows: &[(u128, u128)]| rows.iter().map(|(key, row)| Hashed { key: *key, row: *row }).collect();
        let (mut source, mut target): (Vec<_>, Vec<_>) = (of(source), of(target));
        let mut found = Differences::default();
        compare(&mut source, &mut target, rule, &mut found);
        (found.missing.count, found.extra.count, found.different.count)
    }

    #[test]
    fn rows_are_paired_by_key() {
        let source = [(3, 30), (1, 10), (2, 20), (5, 50), (5, 50)];
        assert_eq!(counts(&source, &source, Rule::Exact), (0, 0, 0));
        let target = [(1, 10), (2, 21), (4, 40), (5, 50)];
        assert_eq!(counts(&source, &target, Rule::Exact), (2, 1, 1));
        // Without keys a row is its own key, so nothing is "different".
        assert_eq!(counts(&[(1, 1), (1, 1)], &[(2, 2)], Rule::Exact), (2, 1, 0));
    }

    #[test]
    fn an_upsert_may_keep_any_of_the_rows_with_a_key() {
        let source = [(1, 10), (1, 11), (2, 20)];
        assert_eq!(counts(&source, &[(1, 11), (2, 20), (9, 9)], Rule::Upsert), (0, 1, 0));
        assert_eq!(counts(&source, &[(1, 12)], Rule::Upsert), (1, 0, 1));
        assert_eq!(counts(&source, &[(1, 12)], Rule::Present), (1, 0, 0));
    }
}
