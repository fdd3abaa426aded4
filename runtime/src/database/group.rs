//! Which tables run together.

use weir_core::{Error, ErrorKind, Result};

use super::config::{GroupConfig, GroupStrategy};

/// What a table without an estimate is taken for.
const UNKNOWN: u64 = 1 << 20;

/// The group of each table, from 0, and the order in which tables begin (indices into `bytes`).
#[derive(Debug, PartialEq, Eq)]
pub struct Groups {
    /// The group of each table.
    pub of: Vec<usize>,
    /// How many there are.
    pub count: usize,
    /// All tables in the order in which they begin, as far as their groups let them.
    pub order: Vec<usize>,
}

/// Groups tables by their bytes.
pub fn group(bytes: &[Option<u64>], config: &GroupConfig) -> Groups {
    let mut order: Vec<usize> = (0..bytes.len()).collect();
    if config.strategy == GroupStrategy::Static {
        let of: Vec<usize> = order.iter().map(|i| i / config.tables_per_group.max(1)).collect();
        return Groups { count: of.last().map_or(0, |last| last + 1), of, order };
    }
    let size = |table: usize| bytes[table].unwrap_or(UNKNOWN);
    // The longest first, each into the group that has least so far: no group ends much later than another.
    order.sort_by_key(|table| std::cmp::Reverse(size(*table)));
    let count = config.concurrent_groups.clamp(1, bytes.len().max(1));
    let mut loads = vec![(0u64, 0usize); count];
    let mut of = vec![0; bytes.len()];
    for table in &order {
        let least = (0..count).min_by_key(|group| loads[*group]).unwrap_or(0);
        of[*table] = least;
        loads[least].0 = loads[least].0.saturating_add(size(*table));
        loads[least].1 += 1;
    }
    Groups { of, count: if bytes.is_empty() { 0 } else { count }, order }
}

/// Whether a group may have the sessions with one server that a table's snapshot keeps to itself.
///
/// # Errors
/// It has fewer.
pub fn check_kept(sessions: usize, config: &GroupConfig) -> Result<()> {
    let most = config.max_source_connections.max(1);
    if sessions <= most {
        return Ok(());
    }
    let text = format!(
        "the snapshot of this table keeps {sessions} sessions with one server, and a group may have {most}: raise \
         group.maxSourceConnections"
    );
    Err(Error::new(ErrorKind::Unsupported, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smart_groups_have_about_equal_bytes_longest_first() {
        let bytes: Vec<_> = [10, 900, 30, 500, 400, 20].map(|mb: u64| Some(mb << 20)).to_vec();
        let groups = group(&bytes, &GroupConfig::default());
        assert_eq!(groups.order, [1, 3, 4, 2, 5, 0]);
        let load = |g: usize| (0..6).filter(|i| groups.of[*i] == g).map(|i| bytes[i].unwrap() >> 20).sum::<u64>();
        assert_eq!((groups.count, load(0) + load(1)), (2, 1860));
        assert!(load(0).abs_diff(load(1)) <= 60, "{} {}", load(0), load(1));
    }

    #[test]
    fn smart_groups_begin_with_the_large_tables_one_in_each() {
        let bytes: Vec<_> = [1, 800, 2, 900, 700, 3, 600, 4].map(|mb: u64| Some(mb << 20)).to_vec();
        let config = GroupConfig { concurrent_groups: 4, ..GroupConfig::default() };
        let groups = group(&bytes, &config);
        // The four large ones are in four groups, and each group has its small ones after its large one.
        assert_eq!(&groups.order[..4], [3, 1, 4, 6]);
        let mut first: Vec<usize> = groups.order[..4].iter().map(|table| groups.of[*table]).collect();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2, 3]);
        let load = |g: usize| (0..8).filter(|i| groups.of[*i] == g).map(|i| bytes[i].unwrap() >> 20).sum::<u64>();
        assert!((0..4).all(|g| (600..=900).contains(&load(g))), "{:?}", (0..4).map(load).collect::<Vec<_>>());
        assert_eq!(load(groups.of[6]), 610, "what is small goes where least is");
    }

    #[test]
    fn static_groups_are_of_n_tables() {
        let config = GroupConfig { strategy: GroupStrategy::Static, tables_per_group: 2, ..GroupConfig::default() };
        let groups = group(&[None; 5], &config);
        assert_eq!((groups.of, groups.count, groups.order), (vec![0, 0, 1, 1, 2], 3, vec![0, 1, 2, 3, 4]));
    }

    #[test]
    fn a_group_has_as_many_sessions_as_a_snapshot_keeps() {
        let config = GroupConfig { max_source_connections: 2, ..GroupConfig::default() };
        assert!(check_kept(0, &config).is_ok() && check_kept(2, &config).is_ok());
        let error = check_kept(3, &config).unwrap_err();
        assert!(error.message().contains("raise group.maxSourceConnections"), "{error}");
    }

    #[test]
    fn tables_of_unknown_size_are_dealt_out() {
        let groups = group(&[None; 4], &GroupConfig::default());
        assert_eq!(groups.of.iter().filter(|g| **g == 0).count(), 2);
        assert_eq!(group(&[], &GroupConfig::default()), Groups { of: vec![], count: 0, order: vec![] });
        assert_eq!(group(&[None], &GroupConfig::default()).count, 1);
    }
}
