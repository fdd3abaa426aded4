//! The checks of a reader.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use weir_core::{
    BatchSender, CheckOutcome, ConnectorContext, DirtyRow, Error, ErrorKind, ReadColumn, ReadRequest, Reader, Result,
};

use super::report::{Outcome, Report, left_out, passed, same};
use super::table::{HARD_TEXTS, KEYS, TEXTS};
use super::{Laid, Source, Table, peers, sorted};
use crate::Stopwatch;
use crate::harness::{self, Read, ReadOptions, context, control, on_thread, open_reader_in, split_request};

/// Runs every check of a reader.
///
/// # Panics
/// When a check fails, with all that failed.
pub async fn check_source(source: &dyn Source) {
    let mut report = Report::new(format!("reader {}", source.plugin()));
    report.run("an empty table", empty(source)).await;
    report.run("NULLs and texts", texts(source)).await;
    report.run("columns in any order, twice, and none", projection(source)).await;
    report.run("splits under skew", skew(source)).await;
    report.run("mixed-case and unicode keys", text_keys(source)).await;
    report.run("NULL keys", null_keys(source)).await;
    // Many tables one after the other, on servers that may be slow to describe one.
    report.run_within(20, "every type", types(source)).await;
    report.run("a missing table is NotFound", missing(source)).await;
    report.run("a wrong password is Denied", wrong_password(source)).await;
    report.run("a closed port is Unreachable", unreachable(source)).await;
    report.run("a cancelled run stops before it reads", cancelled_before(source)).await;
    report.run("a cancelled run stops while the target waits", cancelled_within(source)).await;
    report.run("a cancelled run stops while the server is silent", cancelled_silent(source)).await;
    report.run("a cancelled run stops while the server works", cancelled_slow(source)).await;
    report.finish();
}

fn told(error: Error) -> String {
    format!("{error:?}")
}

fn open(source: &dyn Source, parameters: Value, context: &ConnectorContext) -> Result<Arc<dyn Reader>, String> {
    open_reader_in(source.plugin(), parameters, context).map_err(told)
}

async fn read(source: &dyn Source, parameters: Value, options: ReadOptions) -> Result<Read, String> {
    let reader = open(source, parameters, &context())?;
    let read = harness::read_with(&reader, options).await.map_err(told)?;
    for column in &read.schema.columns {
        if let Some(field) = column.representations.iter().find(|f| *f.name() != column.name) {
            return Err(format!("column {} has a representation called {}", column.name, field.name()));
        }
    }
    let known: Vec<_> = read.schema.tables.iter().map(|t| &t.name).collect();
    if let Some(split) = read.splits.iter().find(|s| !known.contains(&&s.split.table)) {
        return Err(format!("a split belongs to `{}`, the tables are {known:?}", split.split.table));
    }
    match read.rejected().first() {
        Some(row) => Err(format!("it rejects good rows: {row:?}")),
        None => Ok(read),
    }
}

/// Lays a table and reads it with many splits; every row must come once, and come again from the same splits.
async fn there_and_back(source: &dyn Source, table: Table) -> Outcome {
    let parameters = match source.lay(&table).await {
        Laid::At(parameters) => parameters,
        Laid::Cannot(reason) => return left_out(reason),
    };
    let expected = sorted(table.cells());
    for channels in [1, 8] {
        let mut options = ReadOptions { splits: split_request(channels), ..ReadOptions::default() };
        options.splits.max_bytes = 64 * 1024;
        let found = read(source, parameters.clone(), options).await?;
        let names: Vec<_> = found.schema.columns.iter().map(|c| c.name.as_str()).collect();
        if names != [table.key(), "value"] {
            return Err(format!("its columns are {names:?}"));
        }
        same(&found.sorted_cells(), &expected).map_err(|e| format!("for {channels} channels: {e}"))?;
    }
    let reader = open(source, parameters, &context())?;
    let checks = control(async move { Ok(reader.check().await) }).await.map_err(told)?;
    match checks.iter().find(|c| c.outcome == CheckOutcome::Fault) {
        Some(check) => Err(format!("check() finds a fault where there is none: {check:?}")),
        None => passed(),
    }
}

async fn empty(source: &dyn Source) -> Outcome {
    there_and_back(source, Table::of_numbers("weir_empty", true, Vec::new())).await
}

async fn texts(source: &dyn Source) -> Outcome {
    let hard = if source.keeps_every_text() { &HARD_TEXTS[..] } else { &[] };
    let texts = TEXTS.iter().chain(hard).map(|text| Some((*text).to_owned())).chain([None, None]);
    let rows = texts.enumerate().map(|(i, text)| (Some(i as i64), text)).collect();
    there_and_back(source, Table::of_numbers("weir Texts", true, rows)).await
}

/// Most keys close together, some spread out, the ends of the range; more rows than one batch of a small reader.
async fn skew(source: &dyn Source) -> Outcome {
    let dense = 0..4000;
    let sparse = (1..200).map(|i| i * 46_116_860_184_273);
    let keys = dense.chain(sparse).chain([i64::MIN + 1, -1, i64::MAX]);
    let rows = keys.map(|key| (Some(key), Some(format!("value of {key}")))).collect();
    there_and_back(source, Table::of_numbers("weir_skew", true, rows)).await
}

async fn text_keys(source: &dyn Source) -> Outcome {
    let single = KEYS.iter().map(|key| (*key).to_owned());
    let pairs = KEYS.iter().flat_map(|a| (0..20).map(move |i| format!("{a}{}{i}", KEYS[i % KEYS.len()])));
    let rows = single.chain(pairs).map(|key| (Some(key.clone()), Some(format!("value of {key}")))).collect();
    there_and_back(source, Table::of_texts("weir_Keys", true, rows)).await
}

async fn null_keys(source: &dyn Source) -> Outcome {
    let key = |i: i64| (i % 3 != 0).then_some(i / 10);
    let rows = (0..500).map(|i| (key(i), Some(format!("row {i}")))).collect();
    there_and_back(source, Table::of_numbers("weir_null_keys", false, rows)).await
}

async fn projection(source: &dyn Source) -> Outcome {
    let rows: Vec<_> = (0..50).map(|i| (Some(i), Some(format!("v{i}")))).collect();
    let table = Table::of_numbers("weir_projection", true, rows);
    let parameters = match source.lay(&table).await {
        Laid::At(parameters) => parameters,
        Laid::Cannot(reason) => return left_out(reason),
    };
    for columns in [vec![1, 0], vec![1], vec![0, 1, 0], vec![]] {
        let options = ReadOptions { columns: Some(columns.clone()), ..ReadOptions::default() };
        let found = read(source, parameters.clone(), options).await.map_err(|e| format!("columns {columns:?}: {e}"))?;
        let pick = |row: Vec<Option<String>>| columns.iter().map(|c| row[*c].clone()).collect();
        let expected = sorted(table.cells().into_iter().map(pick).collect());
        same(&found.sorted_cells(), &expected).map_err(|e| format!("columns {columns:?}: {e}"))?;
    }
    passed()
}

async fn types(source: &dyn Source) -> Outcome {
    let cases = source.types().await;
    if cases.is_empty() {
        return left_out("it names no types");
    }
    let mut faults = Vec::new();
    for case in cases {
        let name = &case.name;
        match read(source, case.parameters.clone(), ReadOptions::default()).await {
            Ok(found) if found.arrow.index_of(&case.column).is_err() => {
                faults.push(format!("{name}: no column {}", case.column));
            }
            Ok(found) => {
                let one = |values: Vec<Option<String>>| sorted(values.into_iter().map(|v| vec![v]).collect());
                let compared = same(&one(found.column(&case.column)), &one(case.values));
                faults.extend(compared.err().map(|e| format!("{name}: {e}")));
            }
            Err(error) => faults.push(format!("{name}: {error}")),
        }
        // Whatever else it offers must be readable too.
        for choose in [first_form, last_form] {
            let options = ReadOptions { choose, ..ReadOptions::default() };
            let read = read(source, case.parameters.clone(), options).await;
            faults.extend(read.err().map(|e| format!("{name} in another form: {e}")));
        }
    }
    if faults.is_empty() { passed() } else { Err(faults.join("\n  ")) }
}

fn first_form(column: &weir_core::SourceColumn) -> &arrow::datatypes::Field {
    column.representations.first().unwrap_or_else(|| column.canonical())
}

fn last_form(column: &weir_core::SourceColumn) -> &arrow::datatypes::Field {
    column.representations.last().unwrap_or_else(|| column.canonical())
}

/// Everything a run does with a reader must fail with `kind`, and `check` must find a fault.
async fn fails(source: &dyn Source, parameters: Value, kind: ErrorKind) -> Outcome {
    let reader = open(source, parameters, &context())?;
    match harness::read_all(&reader).await {
        Ok(read) => return Err(format!("it reads {} rows", read.rows())),
        Err(error) if error.kind() != kind => return Err(format!("{:?} instead of {kind:?}: {error}", error.kind())),
        Err(_) => {}
    }
    let checks = control(async move { Ok(reader.check().await) }).await.map_err(told)?;
    match checks.iter().any(|c| c.outcome == CheckOutcome::Fault) {
        true => passed(),
        false => Err(format!("check() finds no fault: {checks:?}")),
    }
}

async fn missing(source: &dyn Source) -> Outcome {
    match source.missing().await {
        Some(parameters) => fails(source, parameters, ErrorKind::NotFound).await,
        None => left_out("it has nothing that could be missing"),
    }
}

async fn wrong_password(source: &dyn Source) -> Outcome {
    match source.wrong_password().await {
        Some(parameters) => fails(source, parameters, ErrorKind::Denied).await,
        None => left_out("it knows no passwords"),
    }
}

async fn unreachable(source: &dyn Source) -> Outcome {
    let (_socket, address) = peers::closed()?;
    match source.at(address) {
        Some(parameters) => fails(source, parameters, ErrorKind::Unreachable).await,
        None => left_out("it has no server"),
    }
}

/// The most time between the cancellation and the end. A second, and a little for a busy machine.
const PATIENCE: Duration = Duration::from_millis(1500);

async fn cancelled_before(source: &dyn Source) -> Outcome {
    cancelled_at(source, 0).await
}

async fn cancelled_within(source: &dyn Source) -> Outcome {
    cancelled_at(source, 1).await
}

/// Reads a table whose target takes `batches` batches and then no more, and cancels there.
async fn cancelled_at(source: &dyn Source, batches: usize) -> Outcome {
    let rows = (0..2000).map(|i| (Some(i), Some(format!("value {i}")))).collect();
    let table = Table::of_numbers(&format!("weir_cancel_{batches}"), true, rows);
    let parameters = match source.lay(&table).await {
        Laid::At(parameters) => parameters,
        Laid::Cannot(reason) => return left_out(reason),
    };
    let context = context();
    let reader = open(source, parameters, &context)?;
    let planning = reader.clone();
    let (schema, splits) =
        control(async move { Ok((planning.schema().await?, planning.splits(&split_request(1)).await?)) })
            .await
            .map_err(told)?;
    let columns = schema.columns.iter().enumerate();
    let columns = columns.map(|(index, c)| ReadColumn { index, field: c.canonical().clone() }).collect();
    let request = ReadRequest { columns, snapshot: None, limit: None };
    let Some(split) = splits.into_iter().next() else { return Err("a full table gives no split".into()) };
    let mut full = Full { cancel: context.cancel.clone(), batches };
    if batches == 0 {
        context.cancel.cancel();
    }
    let begun = Stopwatch::start();
    let end = on_thread(async move { reader.read(&split, &request, &mut full).await }).await;
    ends_as_cancelled(end, &begun)
}

/// A target that takes some batches, then has the run cancelled and refuses the rest.
struct Full {
    cancel: CancellationToken,
    batches: usize,
}

#[async_trait]
impl BatchSender for Full {
    async fn send(&mut self, _: arrow::array::RecordBatch) -> Result<()> {
        if self.batches > 1 {
            self.batches -= 1;
            return Ok(());
        }
        self.cancel.cancel();
        Err(Error::cancelled())
    }

    async fn reject(&mut self, _: DirtyRow) -> Result<()> {
        Ok(())
    }
}

async fn cancelled_silent(source: &dyn Source) -> Outcome {
    let (listener, address) = peers::silent()?;
    let Some(parameters) = source.at(address) else { return left_out("it has no server") };
    let outcome = cancelled_while(source, parameters).await;
    drop(listener);
    outcome
}

async fn cancelled_slow(source: &dyn Source) -> Outcome {
    match source.slow().await {
        Some(parameters) => cancelled_while(source, parameters).await,
        None => left_out("it names no slow read"),
    }
}

async fn cancelled_while(source: &dyn Source, parameters: Value) -> Outcome {
    let context = context();
    let reader = open(source, parameters, &context)?;
    let reading = tokio::spawn(async move { harness::read_all(&reader).await.map(|_| ()) });
    tokio::time::sleep(Duration::from_millis(500)).await;
    if reading.is_finished() {
        let end = reading.await.map_err(|e| e.to_string())?;
        return Err(format!("it ends by itself: {end:?}"));
    }
    context.cancel.cancel();
    let begun = Stopwatch::start();
    let end = tokio::time::timeout(Duration::from_secs(20), reading).await;
    let end = end.map_err(|_| "no end within 20 seconds")?.map_err(|e| e.to_string())?;
    ends_as_cancelled(end, &begun)
}

pub(super) fn ends_as_cancelled(end: Result<()>, since: &Stopwatch) -> Outcome {
    if !since.is_within(PATIENCE) {
        return Err(format!("it ends {:?} after the cancellation", since.elapsed()));
    }
    match end {
        Err(error) if error.kind() == ErrorKind::Cancelled => passed(),
        Err(error) => Err(format!("{:?} instead of Cancelled: {error}", error.kind())),
        Ok(()) => Err("it says that everything was read".into()),
    }
}
