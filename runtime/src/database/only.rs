//! A run of some tables of a whole-database job: `--tables`, `--failed-of`.

use std::collections::BTreeSet;

use weir_core::{Error, ErrorKind, LetterCase, Objects, Result, glob};

use super::expand::Expansion;
use super::job::DatabaseJob;
use super::pattern::{Own, Pattern};
use super::select::own;
use super::table::{FailedTable, TableJob, TableSource, some_of};
use super::unseen::all_of;

/// Which of the job's tables a run moves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Only {
    /// All of them.
    #[default]
    All,
    /// Those that these patterns name, by a source table or by the target table.
    Tables(Vec<String>),
    /// Those that did not end well in an earlier run.
    FailedOf(String),
    /// These, by their names in a report: their targets, or what else is known of a table that could not be mapped.
    Targets(BTreeSet<String>),
}

impl Only {
    /// Whether a run takes a table, as far as that can be told before the sources are asked: rather one too many.
    pub fn may_take(&self, table: &TableJob) -> bool {
        let any = Own { database: None, schema: None, case: LetterCase::Ignore };
        match self {
            Self::All | Self::FailedOf(_) => true,
            Self::Targets(targets) => targets.contains(&table.target.to_string()),
            Self::Tables(texts) => {
                let table = Candidate::from(table);
                texts
                    .iter()
                    .any(|text| Pattern::parse(text).map_or(true, |pattern| table.is_named(text, &pattern, |_| any)))
            }
        }
    }

    /// Leaves the others out.
    ///
    /// # Errors
    /// A pattern that names no table of the job.
    pub(super) fn narrow(&self, expansion: &mut Expansion, job: &DatabaseJob, objects: &[Objects]) -> Result<()> {
        match self {
            Self::All | Self::FailedOf(_) => {}
            Self::Targets(targets) => {
                let (mut kept, mut missing) = (Kept::default(), Vec::new());
                // Of a source that could not be read nothing was known but its name.
                let is_all_of = |table: &TableSource, text: &str| all_of(&job.sources[table.source].name) == text;
                for text in targets {
                    // What could not be mapped has no other name there than its source's, or a part of its target's.
                    let found = kept.add(expansion, |one| one.target == *text || one.unmapped == Some(text))
                        || Pattern::parse(text).is_ok_and(|pattern| {
                            kept.add(expansion, |one| one.is_named(text, &pattern, |source| own(&objects[source])))
                        })
                        || kept.add(expansion, |one| one.sources.iter().any(|of| is_all_of(of, text)));
                    if !found {
                        missing.push(text.clone());
                    }
                }
                let why = "none of the job's tables now, because they are gone from the source or from the job, or are named \
                           after another day (--at)";
                if kept.tables.is_empty() && kept.failed.is_empty() {
                    let text = format!("what is to run again is {why}: {}", some_of(missing));
                    return Err(Error::new(ErrorKind::NotFound, text));
                }
                kept.narrow(expansion);
                if !missing.is_empty() {
                    expansion.warnings.push(format!("left out, for they are {why}: {}", some_of(missing)));
                }
            }
            Self::Tables(texts) => {
                let mut kept = Kept::default();
                for text in texts {
                    let pattern = Pattern::parse(text).map_err(|fault| Error::config(format!("--tables: {fault}")))?;
                    if !kept.add(expansion, |one| one.is_named(text, &pattern, |source| own(&objects[source]))) {
                        let text = format!("--tables: `{text}` is none of the job's tables; `weir plan` lists them");
                        return Err(Error::new(ErrorKind::NotFound, text));
                    }
                }
                kept.narrow(expansion);
            }
        }
        Ok(())
    }
}

/// A table of the job, mapped or not, as a run may name it.
struct Candidate<'a> {
    /// The target.
    target: String,
    /// The target without its namespace.
    table: &'a str,
    /// What is said of the source where it could not be mapped.
    unmapped: Option<&'a str>,
    /// The source tables.
    sources: &'a [TableSource],
}

impl<'a> From<&'a TableJob> for Candidate<'a> {
    fn from(table: &'a TableJob) -> Self {
        let target = table.target.to_string();
        Self { target, table: &table.target.table, unmapped: None, sources: &table.sources }
    }
}

impl<'a> From<&'a FailedTable> for Candidate<'a> {
    fn from(table: &'a FailedTable) -> Self {
        let name = table.target.rsplit('.').next().unwrap_or_default();
        Self { target: table.target.clone(), table: name, unmapped: Some(&table.source), sources: &table.sources }
    }
}

impl Candidate<'_> {
    fn is_named<'o>(&self, text: &str, pattern: &Pattern, own: impl Fn(usize) -> Own<'o>) -> bool {
        self.target == text
            || self.table == text
            || self.sources.iter().any(|one| pattern.matches(&one.name, own(one.source)))
            || self.unmapped.is_some_and(|source| {
                // One that the source does not have is named as the job names it.
                let parts = [source, source.rsplit('.').next().unwrap_or(source)];
                source == text
                    || self.sources.is_empty() && parts.iter().any(|part| glob(text, part, LetterCase::Ignore))
            })
    }
}

/// Which tables stay, by their places in the expansion's lists.
#[derive(Default)]
struct Kept {
    tables: BTreeSet<usize>,
    failed: BTreeSet<usize>,
}

impl Kept {
    /// Adds those that match; whether there is one.
    fn add(&mut self, expansion: &Expansion, matches: impl Fn(&Candidate<'_>) -> bool) -> bool {
        fn found<'a, T>(list: &'a [T], matches: impl Fn(&Candidate<'_>) -> bool) -> BTreeSet<usize>
        where
            Candidate<'a>: From<&'a T>,
        {
            list.iter().enumerate().filter(|(_, one)| matches(&Candidate::from(*one))).map(|(at, _)| at).collect()
        }
        let (mut tables, mut failed) = (found(&expansion.tables, &matches), found(&expansion.failed, &matches));
        let any = !tables.is_empty() || !failed.is_empty();
        self.tables.append(&mut tables);
        self.failed.append(&mut failed);
        any
    }

    fn narrow(self, expansion: &mut Expansion) {
        let mut places = 0..;
        expansion.tables.retain(|_| places.next().is_some_and(|at: usize| self.tables.contains(&at)));
        let mut places = 0..;
        expansion.failed.retain(|_| places.next().is_some_and(|at: usize| self.failed.contains(&at)));
        expansion.gone.clear();
    }
}
