//! A run of some tables of a whole-database job: `--tables`, `--failed-of`.

use std::collections::BTreeSet;

use weir_core::{Error, ErrorKind, LetterCase, Objects, Result};

use super::expand::Expansion;
use super::pattern::{Own, Pattern};
use super::select::own;
use super::table::TableJob;

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
    /// These, by their targets.
    Targets(BTreeSet<String>),
}

impl Only {
    /// Whether a run takes a table, as far as that can be told before the sources are asked: rather one too many.
    pub fn may_take(&self, table: &TableJob) -> bool {
        let any = Own { database: None, schema: None, case: LetterCase::Ignore };
        match self {
            Self::All | Self::FailedOf(_) => true,
            Self::Targets(targets) => targets.contains(&table.target.to_string()),
            Self::Tables(texts) => texts
                .iter()
                .any(|text| Pattern::parse(text).map_or(true, |pattern| names(text, &pattern, table, |_| any))),
        }
    }

    /// Leaves the others out.
    ///
    /// # Errors
    /// A pattern that names no table of the job.
    pub(super) fn narrow(&self, expansion: &mut Expansion, objects: &[Objects]) -> Result<()> {
        match self {
            Self::All | Self::FailedOf(_) => {}
            Self::Targets(targets) => {
                expansion.tables.retain(|table| targets.contains(&table.target.to_string()));
                expansion.failed.retain(|table| targets.contains(&table.target) || targets.contains(&table.source));
                expansion.gone.clear();
            }
            Self::Tables(texts) => {
                let mut keep = BTreeSet::new();
                let mut failed = BTreeSet::new();
                for text in texts {
                    let pattern = Pattern::parse(text).map_err(|fault| Error::config(format!("--tables: {fault}")))?;
                    let matched: Vec<_> = (expansion.tables.iter())
                        .filter(|table| names(text, &pattern, table, |source| own(&objects[source])))
                        .map(|table| table.target.clone())
                        .collect();
                    let broken: Vec<_> = (expansion.failed.iter())
                        .filter(|table| {
                            table.source == *text
                                || table.target == *text
                                || table.source.ends_with(&format!(".{text}"))
                        })
                        .map(|table| table.source.clone())
                        .collect();
                    if matched.is_empty() && broken.is_empty() {
                        let text = format!("--tables: `{text}` is none of the job's tables; `weir plan` lists them");
                        return Err(Error::new(ErrorKind::NotFound, text));
                    }
                    keep.extend(matched);
                    failed.extend(broken);
                }
                expansion.tables.retain(|table| keep.contains(&table.target));
                expansion.failed.retain(|table| failed.contains(&table.source));
                expansion.gone.clear();
            }
        }
        Ok(())
    }
}

fn names<'o>(text: &str, pattern: &Pattern, table: &TableJob, own: impl Fn(usize) -> Own<'o>) -> bool {
    table.target.to_string() == text
        || table.target.table == text
        || table.sources.iter().any(|one| pattern.matches(&one.name, own(one.source)))
}
