//! Sources, and databases of their servers, of which nothing was seen, and what there is to say of them.

use std::collections::BTreeSet;

use weir_core::{Error, ErrorKind, ObjectName, Objects, Seen};

use super::job::DatabaseJob;
use super::listing::Shut;
use super::pattern::Pattern;

/// What begins the names of tables, as ledgers have them, in databases of which nothing was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unseen {
    /// Nobody asked for these.
    unasked: Vec<String>,
    /// These are closed.
    closed: Vec<String>,
    /// Whether the servers, which are of one system, hide what their user has no right to.
    pub hides: bool,
}

impl Unseen {
    /// The databases of the sources; `shut` says that of one of these nothing can be read.
    pub fn of(job: &DatabaseJob, objects: &[Objects], shut: bool) -> Self {
        let mut unseen = Self { hides: objects.iter().any(|of| of.hides), ..Self::default() };
        for (source, other) in objects.iter().enumerate().flat_map(|(i, of)| of.others.iter().map(move |one| (i, one)))
        {
            let names = match other.seen {
                Seen::Listed => continue,
                Seen::Unasked => &mut unseen.unasked,
                Seen::Closed(_) => &mut unseen.closed,
            };
            // A name with nothing after the database's.
            let name = ObjectName { database: other.name.clone(), schema: None, table: String::new() };
            names.extend([job.identity(source, &name), name.to_string()]);
        }
        // Ledgers of before do not say which source a table is of: it may be any, and nothing is taken to be gone.
        unseen.closed.extend(shut.then(String::new));
        unseen
    }

    /// Whether a table, as a ledger names it, is in a database that nobody asks for any more.
    pub fn is_unasked(&self, table: &str) -> bool {
        self.unasked.iter().any(|database| table.starts_with(database))
    }

    /// Whether it is in a database that is closed: nobody knows whether it is still there.
    pub fn is_closed(&self, table: &str) -> bool {
        self.closed.iter().any(|database| table.starts_with(database))
    }
}

/// Why no source shows a database that the pattern names, if that is so.
pub fn unseen(pattern: &Pattern, objects: &[Objects]) -> Option<String> {
    let why = objects.iter().map(|of| of.unseen(&|database| pattern.looks_into(database)));
    let why: Option<BTreeSet<String>> = why.filter(|_| pattern.names_database()).collect();
    Some(Vec::from_iter(why?).join("; ")).filter(|why| !why.is_empty())
}

/// The databases that the patterns name and nobody can look into, each in a sentence.
pub fn closed(patterns: &[Pattern], objects: &[Objects]) -> Vec<String> {
    let looks_into = |database: &str| patterns.iter().any(|pattern| pattern.looks_into(database));
    objects.iter().flat_map(|of| of.closed(&looks_into)).collect()
}

/// Whether an error tells of a source as it is just now, and not of the job or the run.
pub fn is_shut(error: &Error) -> bool {
    use ErrorKind::{Denied, Io, NotFound, Remote, Timeout, Unreachable};
    matches!(error.kind(), Denied | Io | NotFound | Remote | Timeout | Unreachable)
}

/// Why nobody can tell whether the sources have something, if one of them is `shut`.
pub fn unknown(shut: &Shut) -> Option<(ErrorKind, String)> {
    let (_, error) = shut.iter().next()?;
    Some((error.kind(), format!("a source that may have tables of it cannot be read: {}", error.full())))
}

/// What a report calls all tables of a source that is shut.
pub fn all_of(source: &str) -> String {
    format!("{source}: *")
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::OtherDatabase;

    #[test]
    fn what_no_source_shows_is_told_once() {
        let source = |own: &str, others: &[&str]| Objects {
            database: Some(own.into()),
            others: others
                .iter()
                .map(|name| OtherDatabase { name: (*name).into(), seen: Seen::Closed("is offline".into()) })
                .collect(),
            ..Objects::default()
        };
        let pattern = |text: &str| Pattern::parse(text).unwrap();
        let both = [source("a", &["x_1"]), source("b", &["x_1", "x_2"])];
        let why = |text: &str, objects: &[Objects]| unseen(&pattern(text), objects);
        assert_eq!(why("x_1.dbo.*", &both).as_deref(), Some("database `x_1` is offline"));
        assert_eq!(why("/a|x_1/.dbo.*", &both), None, "one of them shows one of these");
        assert_eq!(why("dbo.*", &both), None);
        assert_eq!(closed(&[pattern("x_?.dbo.t"), pattern("t")], &both).len(), 3);
        assert!(why("x.dbo.t", &[source("a", &[])]).unwrap().contains("a alone"));
    }
}
