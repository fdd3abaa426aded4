//! Entries of a job that must not meet at one target.

use std::collections::HashMap;
use std::hash::Hash;

use weir_core::{Error, ErrorKind, Result, WriteMode};

use crate::entry::PlannedEntry;
use crate::job::Job;

/// Refuses two entries that would replace or merge into the same target: each plans against what was there before.
pub(super) fn distinct_targets(job: &Job, planned: &[&PlannedEntry]) -> Result<()> {
    let places = job.entries.iter().zip(planned).map(|(entry, planned)| {
        let writer = &entry.writer;
        let of = |key: &str| writer.parameter.get(key).map(ToString::to_string);
        let place = ["url", "path", "fileName", "connection"].map(of);
        let whole = matches!(planned.plan.mode, WriteMode::Overwrite | WriteMode::Upsert);
        ((&writer.plugin, place, &planned.plan.table), whole)
    });
    let Some((earlier, later)) = taken_twice(places) else { return Ok(()) };
    let text = format!(
        "entries {earlier} and {later} of the job both write to {} as a whole: give them one reader with several tables, or \
         make two jobs",
        planned[later].plan.table
    );
    Err(Error::new(ErrorKind::Schema, text))
}

/// The first place that comes again for who needs it whole, as the indexes of both.
fn taken_twice<P: Hash + Eq>(places: impl Iterator<Item = (P, bool)>) -> Option<(usize, usize)> {
    let mut first = HashMap::new();
    places.enumerate().find_map(|(later, (place, whole))| {
        let earlier = *first.entry(place).or_insert(later);
        (whole && earlier < later).then_some((earlier, later))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_as_a_whole_by_one_entry() {
        let of = |places: &[(&'static str, bool)]| taken_twice(places.iter().copied());
        assert_eq!(of(&[("a", true), ("b", true), ("c", false), ("c", false)]), None);
        assert_eq!(of(&[("a", false), ("b", true), ("a", true)]), Some((0, 2)));
        assert_eq!(of(&[("a", true), ("a", false)]), None);
        // Each pair of them compared would be minutes of work.
        let many = (0..200_000).chain([77]).map(|number| (format!("table {number}"), true));
        assert_eq!(taken_twice(many), Some((77, 200_000)));
    }
}
