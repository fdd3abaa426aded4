//! A folder: files are added to it, or take the place of those that were there.

use std::collections::HashSet;

use tokio_util::sync::CancellationToken;
use weir_core::{Error, ErrorKind, Result, WritePlan};
use weir_files::{Hidden, Manifest, Sink};

use crate::commit::existing;
use crate::encode::Encoder;
use crate::plan::{Mode, Rules};
use crate::record::{Journal, Move, Records, Way, gone};
use crate::swap;
use crate::task::Part;

/// Decides what is going to change in the folder.
pub(crate) async fn decide(
    rules: &Rules,
    plan: &WritePlan,
    records: &Records<'_>,
    parts: &[(u32, Part)],
) -> Result<Journal> {
    let mut before = existing(rules).await?;
    // What an earlier try put there without a journal can only be ours.
    let mut moves: Vec<Move> = parts
        .iter()
        .map(|(split, part)| Move {
            from: records.path(&part.name),
            to: rules.place(&rules.part_name(&plan.run_id, *split, part.number)),
            bytes: part.bytes,
        })
        .collect();
    let own: HashSet<&str> = moves.iter().map(|m| m.to.trim_start_matches('/')).collect();
    before.retain(|e| !own.contains(e.path.trim_start_matches('/')));
    if let Some(first) = before.first()
        && rules.mode == Mode::NonConflict
    {
        let message = "files were made by somebody else while the job ran: remove them, or set writeMode";
        return Err(Error::new(ErrorKind::Conflict, message).with("file", &first.path));
    }
    if parts.is_empty() && (rules.mode != Mode::Append || before.is_empty()) {
        // A file without rows keeps the columns.
        let from = records.path("empty.part");
        let mut sink = Sink::create(records.store(), &from).await?;
        let encoder = Encoder::new(rules, plan, true, None, sink.buffer())?;
        encoder.finish(sink.buffer())?;
        let bytes = sink.finish().await?;
        moves.push(Move { from, to: rules.place(&rules.part_name(&plan.run_id, 0, 0)), bytes });
    }
    let (way, removes) = match rules.mode {
        Mode::Truncate if swap::obstacle(rules, &plan.run_id).is_none() => (Way::Exchange, before),
        Mode::Truncate => (Way::Manifest, before),
        _ => (Way::Add, Vec::new()),
    };
    let removes = removes.into_iter().map(|e| e.path).collect();
    Ok(Journal { way, moves, removes, old: None, bytes: 0 })
}

/// Does what the journal says, or what is left of it; `warnings` are of what went wrong after readers saw the new state.
pub(crate) async fn publish(
    rules: &Rules,
    records: &Records<'_>,
    mut journal: Journal,
    cancel: &CancellationToken,
    warnings: &mut Vec<String>,
) -> Result<()> {
    if journal.way == Way::Exchange {
        match swap::publish(rules, records, &journal).await? {
            None => {
                warnings.extend(swap::tidy(rules, records.run_id).await.err().map(|e| {
                    format!("the folder's former content could not be removed and lies beside it: {}", e.full())
                }));
                return Ok(());
            }
            Some(obstacle) => {
                warnings.push(format!(
                    "the folder could not be exchanged as a whole ({obstacle}): its files were replaced one by one, and \
                     other programs may have seen old and new ones together for a moment"
                ));
                journal.way = Way::Manifest;
                records.set_journal(&journal).await?;
            }
        }
    }
    let store = records.store();
    let (folder, run) = (rules.folder.as_str(), records.name());
    let by_manifest = journal.way == Way::Manifest;
    let switched = by_manifest && Manifest::read(store, folder).await?.runs.get(&run).is_some_and(|r| r.published);
    if !switched {
        if by_manifest {
            let coming =
                Hidden { published: false, files: journal.moves.iter().map(|m| m.name().to_owned()).collect() };
            Manifest::change(store, folder, |m| drop(m.runs.insert(run.clone(), coming.clone()))).await?;
        }
        for step in &journal.moves {
            place(records, step, cancel).await?;
        }
        store.sync_folder(folder)?;
        if by_manifest {
            let names = journal.removes.iter().map(|p| p.rsplit('/').next().unwrap_or(p).to_owned()).collect();
            let going = Hidden { published: true, files: names };
            Manifest::change(store, folder, |m| drop(m.runs.insert(run.clone(), going.clone()))).await?;
        }
    }
    records.set_published(journal.moves.len()).await?;
    if by_manifest {
        warnings.extend(tidy(rules, records, &journal).await.err().map(|e| {
            format!("replaced files could not be removed; they are hidden, but only from this program: {}", e.full())
        }));
    }
    Ok(())
}

/// Removes what was replaced, then what hides it.
async fn tidy(rules: &Rules, records: &Records<'_>, journal: &Journal) -> Result<()> {
    for old in &journal.removes {
        records.store().remove(old).await?;
    }
    records.store().sync_folder(&rules.folder)?;
    let run = records.name();
    Manifest::change(records.store(), &rules.folder, |m| drop(m.runs.remove(&run))).await
}

/// What a published run may have left undone: nothing that a reader sees.
pub(crate) async fn tidy_again(rules: &Rules, records: &Records<'_>) -> Result<()> {
    match records.journal().await? {
        Some(journal) if journal.way == Way::Manifest => tidy(rules, records, &journal).await,
        _ if rules.mode == Mode::Truncate => swap::tidy(rules, records.run_id).await,
        _ => Ok(()),
    }
}

/// Puts a part in its place, unless it is there.
async fn place(records: &Records<'_>, step: &Move, cancel: &CancellationToken) -> Result<()> {
    let store = records.store();
    let placed = store.entry(&step.to).await?.is_some_and(|e| e.size == step.bytes);
    // A rename takes the part away; a copy leaves it, and is whole when it can be seen.
    if placed && (!store.is_local() || store.entry(&step.from).await?.is_none()) {
        return Ok(());
    }
    store.place(&step.from, &step.to, step.bytes, cancel).await.map_err(|e| match e.kind() {
        ErrorKind::NotFound => gone().because(e).with("file", &step.from),
        _ => e,
    })
}

/// Takes back what a run that is not published put into the folder.
pub(crate) async fn undo(rules: &Rules, records: &Records<'_>, journal: &Journal) -> Result<()> {
    swap::tidy(rules, records.run_id).await?;
    if journal.way == Way::Exchange {
        return Ok(());
    }
    for step in &journal.moves {
        records.store().remove(&step.to).await?;
    }
    if journal.way == Way::Manifest {
        records.store().sync_folder(&rules.folder)?;
        let run = records.name();
        Manifest::change(records.store(), &rules.folder, |m| drop(m.runs.remove(&run))).await?;
    }
    Ok(())
}
