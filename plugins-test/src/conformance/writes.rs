//! The checks of a writer.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use arrow::array::RecordBatch;
use serde_json::Value;
use weir_core::{CheckOutcome, ConnectorContext, DirtyRow, Error, ErrorKind, TaskId, WriteMode, Writer, row_values};

use super::evolve::evolves;
use super::leases::leases;
use super::reads::ends_as_cancelled;
use super::report::{Done, Outcome, Report, left_out, passed, same};
use super::table::{HARD_TEXTS, KEYS, TEXTS};
use super::{Cells, Refused, Table, Target, peers, sorted};
use crate::Stopwatch;
use crate::harness::{self, WriteOptions, cells, context, control, on_thread, open_writer_in};

/// Runs every check of a writer.
///
/// # Panics
/// When a check fails, with all that failed.
pub async fn check_target(target: &dyn Target) {
    let mut report = Report::new(format!("writer {}", target.plugin()));
    report.run("an empty table", empty(target)).await;
    report.run("NULLs and texts", texts(target)).await;
    report.run("mixed-case and unicode keys", text_keys(target)).await;
    report.run("many tasks at once", many_tasks(target)).await;
    // Many tables one after the other, on servers that may be slow to describe one.
    report.run_within(20, "every type", types(target)).await;
    report.run("append keeps what is there", append(target)).await;
    report.run("overwrite twice is overwrite once", overwrite(target)).await;
    report.run("overwrite with nothing", overwrite_with_nothing(target)).await;
    report.run("upsert by key", upsert(target)).await;
    for mode in [WriteMode::Append, WriteMode::Overwrite, WriteMode::Upsert] {
        report.run(&format!("{} is invisible before the commit", mode.name()), invisible(target, mode)).await;
        report.run(&format!("{}: a second commit publishes nothing", mode.name()), commit_twice(target, mode)).await;
        report.run(&format!("{}: abort leaves nothing", mode.name()), abort(target, mode)).await;
        report.run(&format!("{}: a dropped task leaves nothing", mode.name()), dropped(target, mode)).await;
        report
            .run(&format!("{}: a table made meanwhile is left alone", mode.name()), made_meanwhile(target, mode))
            .await;
    }
    let case = target.refused().await;
    report.run("a refused row too many ends its batch", one_too_many(target, case.as_ref())).await;
    report.run("refused rows come back, the others land", refused(target, case.as_ref())).await;
    report.run("a table follows its source", evolves(target)).await;
    report.run("a lease is renewed only by whoever has it", leases(target)).await;
    report.run("a missing table is NotFound", missing(target)).await;
    report.run("a wrong password is Denied", wrong_password(target)).await;
    report.run("a closed port is Unreachable", unreachable(target)).await;
    report.run("a cancelled run stops while the server is silent", cancelled_silent(target)).await;
    report.finish();
}

fn told(error: Error) -> String {
    format!("{error:?}")
}

fn open(target: &dyn Target, parameters: Value, context: &ConnectorContext) -> Result<Arc<dyn Writer>, String> {
    open_writer_in(target.plugin(), parameters, context).map_err(told)
}

/// Rows `ids` of a table of numbers, each with a value that tells the round.
fn numbers(name: &str, ids: impl IntoIterator<Item = i64>, round: &str) -> Table {
    let rows = ids.into_iter().map(|id| (Some(id), Some(format!("{round} {id}"))));
    Table::of_numbers(name, true, rows.collect())
}

/// What stands at the target; no table counts as no rows.
async fn standing(target: &dyn Target, table: &Table) -> Cells {
    sorted(target.contents(&table.name).await.unwrap_or_default())
}

async fn stands(target: &dyn Target, table: &Table, expected: Cells, when: &str) -> Result<(), String> {
    same(&standing(target, table).await, &sorted(expected)).map_err(|e| format!("{when}: {e}"))
}

/// A writer for the table, or why there is none. A table that the writer cannot create is laid, empty.
async fn writer_for(
    target: &dyn Target,
    table: &Table,
    mode: WriteMode,
    exists: bool,
) -> Result<Arc<dyn Writer>, Outcome> {
    let Some(parameters) = target.parameters(&table.name, mode).await else {
        return Err(left_out(format!("it has no {}", mode.name())));
    };
    if !exists && !target.creates() {
        let bare = Table { rows: table.rows.slice(0, 0), ..table.clone() };
        target.lay(&bare).await.map_err(left_out)?;
    }
    open(target, parameters, &context()).map_err(Err)
}

macro_rules! or_return {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(outcome) => return outcome,
        }
    };
}

async fn write(writer: &Arc<dyn Writer>, rows: RecordBatch) -> Result<harness::Written, String> {
    let written = harness::write_all(writer, vec![rows], WriteOptions::default()).await.map_err(told)?;
    match written.refused.first() {
        Some(row) => Err(format!("it refuses good rows: {row:?}")),
        None => Ok(written),
    }
}

/// Writes a table into nothing; all of it must stand there.
async fn fresh(target: &dyn Target, table: Table) -> Outcome {
    // Whichever mode the system has: a file may know no append.
    let mut writer = Err(left_out("it has neither append nor overwrite"));
    for mode in [WriteMode::Append, WriteMode::Overwrite] {
        if target.parameters(&table.name, mode).await.is_some() {
            writer = writer_for(target, &table, mode, false).await;
            break;
        }
    }
    let writer = or_return!(writer);
    let written = write(&writer, table.rows.clone()).await?;
    if written.rows() != table.rows.num_rows() as u64 {
        return Err(format!("its receipts say {} rows instead of {}", written.rows(), table.rows.num_rows()));
    }
    stands(target, &table, table.cells(), "after the commit").await?;
    let checks = control(async move { Ok(writer.check().await) }).await.map_err(told)?;
    match checks.iter().find(|c| c.outcome == CheckOutcome::Fault) {
        Some(check) => Err(format!("check() finds a fault where there is none: {check:?}")),
        None => passed(),
    }
}

async fn empty(target: &dyn Target) -> Outcome {
    let table = numbers("weir_w_empty", [], "");
    match fresh(target, table.clone()).await? {
        Done::Passed if target.creates() && target.contents(&table.name).await.is_none() => {
            Err("the table was not created".into())
        }
        outcome => Ok(outcome),
    }
}

async fn texts(target: &dyn Target) -> Outcome {
    let hard = if target.keeps_every_text() { &HARD_TEXTS[..] } else { &[] };
    let texts = TEXTS.iter().chain(hard).map(|text| Some((*text).to_owned())).chain([None, None]);
    let rows = texts.enumerate().map(|(i, text)| (Some(i as i64), text)).collect();
    fresh(target, Table::of_numbers("weir_W_Texts", true, rows)).await
}

async fn text_keys(target: &dyn Target) -> Outcome {
    let rows = KEYS.iter().map(|key| (Some((*key).to_owned()), Some(format!("value of {key}")))).collect();
    // Not a primary key: which texts are equal is the target's affair.
    fresh(target, Table::of_texts("weir_w_keys", false, rows)).await
}

async fn many_tasks(target: &dyn Target) -> Outcome {
    let table = numbers("weir_w_many", 0..6000, "v");
    let mode = match target.parameters(&table.name, WriteMode::Append).await {
        Some(_) => WriteMode::Append,
        None => WriteMode::Overwrite,
    };
    let writer = or_return!(writer_for(target, &table, mode, false).await);
    let splits = (0..6).map(|i| (0..4).map(|j| table.rows.slice(i * 1000 + j * 250, 250)).collect()).collect();
    let staged = harness::stage_splits(&writer, table.rows.schema_ref(), splits, WriteOptions::default());
    staged.await.map_err(told)?.commit().await.map_err(told)?;
    stands(target, &table, table.cells(), "after the commit").await?;
    passed()
}

async fn types(target: &dyn Target) -> Outcome {
    let cases = target.types().await;
    if cases.is_empty() {
        return left_out("it names no types");
    }
    let mut faults = Vec::new();
    for case in cases {
        let mode = match target.parameters(&case.table, WriteMode::Append).await {
            Some(_) => WriteMode::Append,
            None => WriteMode::Overwrite,
        };
        let Some(parameters) = target.parameters(&case.table, mode).await else {
            return left_out("it has neither append nor overwrite");
        };
        let written = async { write(&open(target, parameters, &context())?, case.rows.clone()).await };
        if let Err(error) = written.await {
            faults.push(format!("{}: {error}", case.name));
            continue;
        }
        let found = sorted(target.contents(&case.table).await.unwrap_or_default());
        faults.extend(same(&found, &sorted(case.expected)).err().map(|e| format!("{}: {e}", case.name)));
    }
    if faults.is_empty() { passed() } else { Err(faults.join("\n  ")) }
}

async fn append(target: &dyn Target) -> Outcome {
    let (old, new) = (numbers("weir_w_append", 0..10, "old"), numbers("weir_w_append", 10..30, "new"));
    let writer = or_return!(over(target, &old, WriteMode::Append).await);
    write(&writer, new.rows.clone()).await?;
    stands(target, &old, [old.cells(), new.cells()].concat(), "after the commit").await?;
    passed()
}

/// A writer for a table that exists with rows.
async fn over(target: &dyn Target, old: &Table, mode: WriteMode) -> Result<Arc<dyn Writer>, Outcome> {
    if target.parameters(&old.name, mode).await.is_none() {
        return Err(left_out(format!("it has no {}", mode.name())));
    }
    target.lay(old).await.map_err(left_out)?;
    stands(target, old, old.cells(), "as laid by the test").await.map_err(Err)?;
    writer_for(target, old, mode, true).await
}

async fn overwrite(target: &dyn Target) -> Outcome {
    let (old, new) = (numbers("weir_w_overwrite", 0..30, "old"), numbers("weir_w_overwrite", 20..40, "new"));
    let writer = or_return!(over(target, &old, WriteMode::Overwrite).await);
    for round in ["the first run", "the second run"] {
        write(&writer, new.rows.clone()).await?;
        stands(target, &old, new.cells(), round).await?;
    }
    passed()
}

async fn overwrite_with_nothing(target: &dyn Target) -> Outcome {
    let old = numbers("weir_w_emptied", 0..30, "old");
    let writer = or_return!(over(target, &old, WriteMode::Overwrite).await);
    write(&writer, old.rows.slice(0, 0)).await?;
    match target.contents(&old.name).await {
        Some(rows) if rows.is_empty() => passed(),
        Some(rows) => Err(format!("{} rows are left", rows.len())),
        None => Err("the table is gone".into()),
    }
}

async fn upsert(target: &dyn Target) -> Outcome {
    let (old, new) = (numbers("weir_w_upsert", 0..30, "old"), numbers("weir_w_upsert", 20..40, "new"));
    let writer = or_return!(over(target, &old, WriteMode::Upsert).await);
    let kept = numbers("weir_w_upsert", 0..20, "old");
    for round in ["the first run", "the second run"] {
        write(&writer, new.rows.clone()).await?;
        stands(target, &old, [kept.cells(), new.cells()].concat(), round).await?;
    }
    passed()
}

/// What a mode makes of old and new rows whose keys differ.
fn outcome_of(mode: WriteMode, old: &Table, new: &Table) -> Cells {
    match mode {
        WriteMode::Overwrite => new.cells(),
        _ => [old.cells(), new.cells()].concat(),
    }
}

async fn invisible(target: &dyn Target, mode: WriteMode) -> Outcome {
    let name = format!("weir_w_invisible_{}", mode.name());
    let (old, new) = (numbers(&name, 0..10, "old"), numbers(&name, 10..30, "new"));
    let writer = or_return!(over(target, &old, mode).await);
    let staged = harness::stage(&writer, vec![new.rows.clone()], WriteOptions::default()).await.map_err(told)?;
    let before = if staged.plan.commits_per_split { outcome_of(mode, &old, &new) } else { old.cells() };
    stands(target, &old, before, "before the commit").await?;
    staged.commit().await.map_err(told)?;
    stands(target, &old, outcome_of(mode, &old, &new), "after the commit").await?;
    match (staged.plan.commits_per_split, mode) {
        (false, _) => passed(),
        (true, WriteMode::Append) => left_out("each split commits by itself, as its plan says"),
        (true, _) => Err("its plan says that each split commits by itself: only an append may".into()),
    }
}

async fn commit_twice(target: &dyn Target, mode: WriteMode) -> Outcome {
    let name = format!("weir_w_twice_{}", mode.name());
    let (old, new) = (numbers(&name, 0..10, "old"), numbers(&name, 10..30, "new"));
    let writer = or_return!(over(target, &old, mode).await);
    let staged = harness::stage(&writer, vec![new.rows.clone()], WriteOptions::default()).await.map_err(told)?;
    for round in ["the first commit", "the second commit"] {
        staged.commit().await.map_err(|e| format!("{round}: {e:?}"))?;
        stands(target, &old, outcome_of(mode, &old, &new), round).await?;
    }
    passed()
}

async fn abort(target: &dyn Target, mode: WriteMode) -> Outcome {
    let name = format!("weir_w_abort_{}", mode.name());
    let (old, new) = (numbers(&name, 0..10, "old"), numbers(&name, 10..30, "new"));
    // A first run makes what every run shares (the table of commits), which is no litter.
    let writer = or_return!(over(target, &old, mode).await);
    write(&writer, new.rows.clone()).await?;
    let before = (standing(target, &old).await, sorted_names(target).await);
    let more = numbers(&name, 30..50, "more");
    let staged = harness::stage(&writer, vec![more.rows], WriteOptions::default()).await.map_err(told)?;
    let stays = staged.plan.commits_per_split;
    for round in ["after the abort", "after a second abort"] {
        staged.abort().await.map_err(told)?;
        if !stays {
            same(&standing(target, &old).await, &before.0).map_err(|e| format!("{round}: {e}"))?;
        }
        let names = sorted_names(target).await;
        if names != before.1 {
            return Err(format!("{round} the target holds {names:?}, before the run it held {:?}", before.1));
        }
    }
    passed()
}

async fn sorted_names(target: &dyn Target) -> Vec<String> {
    let mut names = target.inventory().await;
    names.sort();
    names
}

/// A first attempt writes and breaks off, a second one finishes.
async fn dropped(target: &dyn Target, mode: WriteMode) -> Outcome {
    let name = format!("weir_w_dropped_{}", mode.name());
    let (old, new) = (numbers(&name, 0..10, "old"), numbers(&name, 10..30, "new"));
    let writer = or_return!(over(target, &old, mode).await);
    let options = WriteOptions::default();
    let plan = harness::plan_for(&writer, new.rows.schema_ref(), &options).await.map_err(told)?;
    let (preparing, prepared) = (writer.clone(), plan.clone());
    control(async move { preparing.prepare(&prepared).await }).await.map_err(told)?;
    let task = |attempt| TaskId { run_id: plan.run_id.clone(), split: 0, table: "source".into(), attempt };
    let (first, planned, id) = (writer.clone(), plan.clone(), task(1));
    let rows = harness::fitted(&new.rows, &plan).map_err(told)?;
    on_thread(async move {
        let mut open = first.open(&planned, &id).await?;
        open.write(&rows, &mut weir_core::Refused::default()).await
    })
    .await
    .map_err(told)?;
    stands(target, &old, old.cells(), "after a task was dropped").await?;
    let (finished, _) = harness::run_task(&writer, &plan, task(2), vec![new.rows.clone()]).await.map_err(told)?;
    control(async move { writer.commit(&plan, &[finished]).await }).await.map_err(told)?;
    stands(target, &old, outcome_of(mode, &old, &new), "after the second attempt").await?;
    passed()
}

/// Somebody else makes the table that the run has planned to make.
async fn made_meanwhile(target: &dyn Target, mode: WriteMode) -> Outcome {
    if let Some(why) = target.takes_what_is_there() {
        return left_out(why);
    }
    let name = format!("weir_w_meanwhile_{}", mode.name());
    let (theirs, new) = (numbers(&name, 0..10, "theirs"), numbers(&name, 10..30, "new"));
    let Some(parameters) = target.parameters(&name, mode).await else {
        return left_out(format!("it has no {}", mode.name()));
    };
    let writer = open(target, parameters, &context())?;
    let options = WriteOptions::default();
    let plan = harness::plan_for(&writer, new.rows.schema_ref(), &options).await.map_err(told)?;
    if !plan.creates {
        return left_out("its plan creates nothing");
    }
    or_return!(target.lay(&theirs).await.map_err(left_out));
    let (preparing, prepared) = (writer.clone(), plan.clone());
    let moved = async {
        control(async move { preparing.prepare(&prepared).await }).await?;
        let task = TaskId { run_id: plan.run_id.clone(), split: 0, table: "source".into(), attempt: 1 };
        let (finished, _) = harness::run_task(&writer, &plan, task, vec![new.rows.clone()]).await?;
        let (publishing, planned) = (writer.clone(), plan.clone());
        control(async move { publishing.commit(&planned, &[finished]).await }).await
    };
    match moved.await {
        Err(error) if error.kind() == ErrorKind::Conflict => {}
        Err(error) => return Err(format!("{:?} instead of Conflict: {error}", error.kind())),
        Ok(_) => return Err("it takes the table for the one that it was to make".into()),
    }
    let planned = plan.clone();
    control(async move { writer.abort(&planned, &[]).await }).await.map_err(told)?;
    stands(target, &theirs, theirs.cells(), "after the abort").await?;
    passed()
}

/// However many rows are tolerated: the next one is the last that is told, and nothing of its task lands.
async fn one_too_many(target: &dyn Target, case: Option<&Refused>) -> Outcome {
    let Some(case) = case else { return left_out("it names no rows to refuse") };
    let writer = open(target, case.parameters.clone(), &context())?;
    let options = WriteOptions::default();
    let plan = harness::plan_for(&writer, case.rows.schema_ref(), &options).await.map_err(told)?;
    let (preparing, prepared) = (writer.clone(), plan.clone());
    control(async move { preparing.prepare(&prepared).await }).await.map_err(told)?;
    let rows = harness::fitted(&case.rows, &plan).map_err(told)?;
    for (most, attempt) in (0..case.refused.len()).zip(1..) {
        let id = TaskId { run_id: plan.run_id.clone(), split: 0, table: "source".into(), attempt };
        let (writer, plan, rows) = (writer.clone(), plan.clone(), rows.clone());
        let (sender, found) = mpsc::channel();
        let mut left = most;
        let tell = move |row: DirtyRow| {
            let _ = sender.send(row.values);
            left = left.checked_sub(1).ok_or_else(|| Error::new(ErrorKind::DirtyLimit, "one row too many"))?;
            Ok(())
        };
        let writing = async move {
            let mut task = writer.open(&plan, &id).await?;
            Ok(task.write(&rows, &mut weir_core::Refused::told(tell)).await)
        };
        match on_thread(writing).await.map_err(told)? {
            Err(error) if error.kind() == ErrorKind::DirtyLimit => {}
            end => return Err(format!("with {most} rows tolerated it ends with {end:?}")),
        }
        let found: Vec<_> = found.try_iter().collect();
        let expected: Vec<_> = case.refused[..=most].iter().map(|row| row_values(&case.rows, *row)).collect();
        if found != expected {
            return Err(format!("with {most} rows tolerated it refuses {found:?} instead of {expected:?}"));
        }
    }
    control(async move { writer.abort(&plan, &[]).await }).await.map_err(told)?;
    match target.contents(&case.table).await.unwrap_or_default() {
        rows if rows.is_empty() => passed(),
        rows => Err(format!("{rows:?} has landed")),
    }
}

async fn refused(target: &dyn Target, case: Option<&Refused>) -> Outcome {
    let Some(case) = case else { return left_out("it names no rows to refuse") };
    let writer = open(target, case.parameters.clone(), &context())?;
    let options = WriteOptions::default();
    let written = harness::write_all(&writer, vec![case.rows.clone()], options).await.map_err(told)?;
    let expected: Vec<_> = case.refused.iter().map(|row| row_values(&case.rows, *row)).collect();
    let found: Vec<_> = written.refused.iter().map(|row| row.values.clone()).collect();
    if found != expected {
        return Err(format!("it refuses {found:?} instead of {expected:?}"));
    }
    if let Some(row) = written.refused.iter().find(|row| row.reason.is_empty()) {
        return Err(format!("it gives no reason for {row:?}"));
    }
    let rows = cells([&case.rows]).into_iter().enumerate();
    let good = rows.filter(|(row, _)| !case.refused.contains(row)).map(|(_, cells)| cells).collect();
    let standing = sorted(target.contents(&case.table).await.unwrap_or_default());
    same(&standing, &sorted(good))?;
    let (taken, good) = (written.rows(), case.rows.num_rows() - case.refused.len());
    if taken != good as u64 {
        return Err(format!("its receipts say {taken} rows instead of {good}"));
    }
    passed()
}

/// A run must fail with `kind`.
async fn fails(target: &dyn Target, parameters: Value, kind: ErrorKind) -> Outcome {
    let writer = open(target, parameters, &context())?;
    let rows = numbers("weir_w_fails", 0..3, "v").rows;
    match harness::write_all(&writer, vec![rows], WriteOptions::default()).await {
        Ok(written) => return Err(format!("it writes {} rows", written.rows())),
        Err(error) if error.kind() != kind => return Err(format!("{:?} instead of {kind:?}: {error}", error.kind())),
        Err(_) => {}
    }
    let checks = control(async move { Ok(writer.check().await) }).await.map_err(told)?;
    match checks.iter().any(|c| c.outcome == CheckOutcome::Fault) {
        true => passed(),
        false => Err(format!("check() finds no fault: {checks:?}")),
    }
}

async fn missing(target: &dyn Target) -> Outcome {
    match target.missing().await {
        Some(parameters) => fails(target, parameters, ErrorKind::NotFound).await,
        None => left_out("it has nothing that could be missing"),
    }
}

async fn wrong_password(target: &dyn Target) -> Outcome {
    match target.wrong_password().await {
        Some(parameters) => fails(target, parameters, ErrorKind::Denied).await,
        None => left_out("it knows no passwords"),
    }
}

async fn unreachable(target: &dyn Target) -> Outcome {
    let (_socket, address) = peers::closed()?;
    match target.at(address) {
        Some(parameters) => fails(target, parameters, ErrorKind::Unreachable).await,
        None => left_out("it has no server"),
    }
}

async fn cancelled_silent(target: &dyn Target) -> Outcome {
    let (_listener, address) = peers::silent()?;
    let Some(parameters) = target.at(address) else { return left_out("it has no server") };
    let context = context();
    let writer = open(target, parameters, &context)?;
    let rows = numbers("weir_w_silent", 0..3, "v").rows;
    let writing =
        tokio::spawn(async move { harness::write_all(&writer, vec![rows], WriteOptions::default()).await.map(|_| ()) });
    tokio::time::sleep(Duration::from_millis(500)).await;
    context.cancel.cancel();
    let begun = Stopwatch::start();
    let end = tokio::time::timeout(Duration::from_secs(20), writing).await;
    let end = end.map_err(|_| "no end within 20 seconds")?.map_err(|e| e.to_string())?;
    ends_as_cancelled(end, &begun)
}
