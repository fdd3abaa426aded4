//! Publishing staged parts, and taking them back; in an order that a crash anywhere leaves repeatable.
//!
//! | step | a crash after it |
//! |-|-|
//! | the parts of all splits and their receipts are durable | everything below is to be done |
//! | keys are compared, if the job says so | as before; from the journal on they are known to differ |
//! | the journal says what is going to change | is done as it says, or taken back as it says |
//! | one file: the joined whole takes the target's place | the journal without the whole says that this happened |
//! | a folder: parts get their places, and a manifest shows them | places that are taken are left, the rest is done |
//! | a folder: another folder takes its place | the record in the new folder says that this happened |
//! | the run is recorded as published | what was replaced, and the parts, are removed |

use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use weir_core::{Committed, Error, ErrorKind, OnEmpty, Receipt, Result, WritePlan};
use weir_files::{Entry, Found};

use crate::plan::{Mode, Rules};
use crate::record::Records;
use crate::task::Part;
use crate::{distinct, many, single};

/// The target's files that are there, hidden ones left out.
pub(crate) async fn existing(rules: &Rules) -> Result<Vec<Entry>> {
    let store = &rules.location.store;
    if let Some(name) = &rules.single {
        let path = rules.place(name);
        return match store.look(&path).await? {
            Found::File(_) => Ok(store.entry(&path).await?.into_iter().collect()),
            Found::Nothing => Ok(Vec::new()),
            Found::Folder if store.is_local() => {
                let message = "the file to write is a folder: choose another name";
                Err(Error::new(ErrorKind::Conflict, message).with("path", path))
            }
            Found::Folder => Ok(Vec::new()),
        };
    }
    let folder = if rules.folder.is_empty() { "." } else { &rules.folder };
    if store.is_local() && store.look(folder).await? != Found::Folder {
        return Ok(Vec::new());
    }
    let mut found = store.list(&rules.folder).await?;
    // Files of deeper folders are not this target's.
    found.retain(|e| {
        let name = e.path.rsplit('/').next().unwrap_or(&e.path);
        rules.place(name).trim_start_matches('/') == e.path.trim_start_matches('/') && rules.owns(name)
    });
    Ok(found)
}

fn parts_of(receipts: &[Receipt]) -> Result<Vec<(u32, Part)>> {
    let mut parts: Vec<(u32, Part)> = Vec::new();
    for receipt in receipts {
        let own = Vec::<Part>::deserialize(&receipt.data);
        let own = own.map_err(|e| Error::internal("a receipt is not one of files").because(e))?;
        parts.extend(own.into_iter().map(|p| (receipt.split, p)));
    }
    parts.sort_by_key(|(split, part)| (*split, part.number));
    Ok(parts)
}

pub(crate) async fn commit(
    rules: &Rules,
    plan: &WritePlan,
    receipts: &[Receipt],
    cancel: &CancellationToken,
) -> Result<Committed> {
    let records = Records { rules, run_id: &plan.run_id };
    let parts = parts_of(receipts)?;
    let mut committed = Committed::default();
    if records.is_published().await? {
        // Whatever shows that shows it again.
        if let Err(e) = records.set_published(parts.len()).await {
            committed.warnings.push(unrecorded(&e));
        }
        committed.description = format!("{} was published already", rules.display());
        tidy(rules, &records, &parts, &mut committed.warnings).await;
        return Ok(committed);
    }
    let rows: u64 = receipts.iter().map(|r| r.rows).sum();
    if rows == 0 && rules.mode == Mode::Truncate {
        match rules.on_empty {
            OnEmpty::Overwrite => {
                committed.warnings.push(format!("the source is empty, and so is {} now", rules.display()));
            }
            OnEmpty::Keep => {
                committed.warnings.push(format!("the source is empty: {} is kept as it was", rules.display()));
                committed.description = "nothing was written".into();
                records.set_published(0).await?;
                return Ok(committed);
            }
            OnEmpty::Error => {
                let message = "the source is empty, and onEmpty says that this is an error";
                return Err(Error::new(ErrorKind::Data, message).with("target", rules.display()));
            }
        }
    }
    let journal = records.journal().await?;
    if journal.is_none() {
        distinct::ensure(rules, plan, &records, &parts, rows, cancel).await?;
    }
    match &rules.single {
        Some(name) => {
            let warnings = &mut committed.warnings;
            single::publish(rules, plan, &records, &parts, name, cancel, warnings).await?;
            // The file itself and the journal say it as well.
            if let Err(e) = records.set_published(1).await {
                warnings.push(unrecorded(&e));
            }
            committed.description = format!("wrote {}", rules.display());
        }
        None => {
            let journal = match journal {
                Some(journal) => journal,
                None => {
                    let journal = many::decide(rules, plan, &records, &parts).await?;
                    records.set_journal(&journal).await?;
                    journal
                }
            };
            committed.description = format!("published {} files in {}", journal.moves.len(), rules.display());
            many::publish(rules, &records, journal, cancel, &mut committed.warnings).await?;
        }
    }
    // From here on the job has succeeded, whatever is left lying about.
    if let Err(e) = records.drop_parts(&parts).await {
        committed.warnings.push(format!("staged files could not be removed: {}", e.full()));
    }
    Ok(committed)
}

fn unrecorded(error: &Error) -> String {
    format!("the rows are published, which the run could not record: {}", error.full())
}

async fn tidy(rules: &Rules, records: &Records<'_>, parts: &[(u32, Part)], warnings: &mut Vec<String>) {
    let done = async {
        if rules.single.is_none() {
            many::tidy_again(rules, records).await?;
        }
        records.drop_parts(parts).await
    };
    if let Err(e) = done.await {
        warnings.push(format!("what the run replaced could not be removed: {}", e.full()));
    }
}

/// As [`clear`], but not of an append that is published: without its records a later run would append its rows again.
///
/// # Errors
/// [`Conflict`](ErrorKind::Conflict) then, and those of the store.
pub(crate) async fn take_back(rules: &Rules, run_id: &str) -> Result<()> {
    if rules.mode == Mode::Append && (Records { rules, run_id }).is_published().await? {
        let message = "the rows are there for good, and are not taken back: go on with the run (--resume)";
        return Err(Error::new(ErrorKind::Conflict, message).with("target", rules.display()));
    }
    clear(rules, run_id).await
}

/// Takes back what is not published, finishes the tidying of what is, and removes the run's records.
pub(crate) async fn clear(rules: &Rules, run_id: &str) -> Result<()> {
    let records = Records { rules, run_id };
    if rules.single.is_none() {
        match records.journal().await? {
            _ if records.is_published().await? => many::tidy_again(rules, &records).await?,
            Some(journal) => many::undo(rules, &records, &journal).await?,
            None => {}
        }
    }
    records.clean().await
}
