//! Publishing staged parts, in an order that a crash anywhere leaves repeatable.
//!
//! | step | a crash after it |
//! |-|-|
//! | one file: the parts are joined into `whole` in the staging folder | is joined again |
//! | `ready` is written beside it | `whole` is complete and is not joined again: an append would count twice |
//! | `whole` is renamed over the target | `ready` without `whole` says that this happened |
//! | a folder: each part is renamed into its place | parts that are gone from staging are in their places |
//! | a folder: old files are removed (truncate) | is done again: the run's own files are told by their names |
//! | the staging folder is removed | no staging folder: everything happened |

use std::collections::HashSet;
use std::path::PathBuf;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use weir_core::{Committed, Error, ErrorKind, OnEmpty, Receipt, Result, WritePlan};
use weir_files::{BLOCK, ByteStream, ColumnarReader, Entry, Format, Found, Sink, Store};

use crate::encode::Encoder;
use crate::parquet::splice;
use crate::plan::{Mode, Rules};
use crate::task::Part;

/// The target's files that are there, hidden ones left out.
pub(crate) async fn existing(rules: &Rules) -> Result<Vec<Entry>> {
    let store = &rules.location.store;
    if let Some(name) = &rules.single {
        let path = rules.place(name);
        return match store.look(&path).await? {
            Found::File(size) => Ok(vec![Entry { path, size }]),
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

/// Removes the staging of a run.
pub(crate) async fn clean(rules: &Rules, run_id: &str) -> Result<()> {
    let store = &rules.location.store;
    store.remove_folder(&rules.staging(run_id)).await?;
    // Another target of the run may still stage beside.
    store.remove_empty_folder(&rules.run_folder(run_id));
    Ok(())
}

pub(crate) async fn commit(
    rules: &Rules,
    plan: &WritePlan,
    receipts: &[Receipt],
    cancel: &CancellationToken,
) -> Result<Committed> {
    let store = &rules.location.store;
    let staging = rules.staging(&plan.run_id);
    let mut parts: Vec<(u32, Part)> = Vec::new();
    for receipt in receipts {
        let own = Vec::<Part>::deserialize(&receipt.data);
        let own = own.map_err(|e| Error::internal("a receipt is not one of files").because(e))?;
        parts.extend(own.into_iter().map(|p| (receipt.split, p)));
    }
    parts.sort_by_key(|(split, part)| (*split, part.number));
    let staged: HashSet<String> = match store.look(&staging).await? {
        Found::Folder => store.list_all(&staging).await?.into_iter().map(|e| e.path).collect(),
        _ if store.is_local() => return Ok(done(rules, "published already")),
        _ => HashSet::new(),
    };
    let mut committed = done(rules, "");
    let rows: u64 = receipts.iter().map(|r| r.rows).sum();
    if rows == 0 && rules.mode == Mode::Truncate {
        match rules.on_empty {
            OnEmpty::Overwrite => {
                committed.warnings.push(format!("the source is empty, and so is {} now", rules.display()));
            }
            OnEmpty::Keep => {
                clean(rules, &plan.run_id).await?;
                let mut kept = done(rules, "the source is empty: the target is left as it was");
                kept.warnings.push(format!("the source is empty: {} is kept as it was", rules.display()));
                return Ok(kept);
            }
            OnEmpty::Error => {
                clean(rules, &plan.run_id).await?;
                let message = "the source is empty, and onEmpty says that this is an error";
                return Err(Error::new(ErrorKind::Data, message).with("target", rules.display()));
            }
        }
    }
    match &rules.single {
        Some(name) => {
            let target = rules.place(name);
            publish_one(rules, plan, &parts, &staging, &target, &staged, cancel).await?;
            committed.description = format!("wrote {}", rules.display());
        }
        None => {
            let files = publish_many(rules, plan, &parts, &staging, &staged).await?;
            committed.description = format!("published {files} files in {}", rules.display());
        }
    }
    store.sync_folder(&rules.folder)?;
    clean(rules, &plan.run_id).await?;
    Ok(committed)
}

fn done(rules: &Rules, what: &str) -> Committed {
    Committed { description: format!("{}: {what}", rules.display()), ..Committed::default() }
}

async fn publish_many(
    rules: &Rules,
    plan: &WritePlan,
    parts: &[(u32, Part)],
    staging: &str,
    staged: &HashSet<String>,
) -> Result<usize> {
    let store = &rules.location.store;
    let mut before = existing(rules).await?;
    let mut ours = HashSet::new();
    for (split, part) in parts {
        let (from, to) =
            (format!("{staging}/{}", part.name), rules.place(&rules.part_name(&plan.run_id, *split, part.number)));
        if staged.contains(&from) || staged.contains(from.trim_start_matches('/')) {
            store.rename(&from, &to).await?;
        } else if store.look(&to).await? != Found::File(part.bytes) {
            let message = "a staged file is gone before it was published: run the job again";
            return Err(Error::new(ErrorKind::Conflict, message).with("file", from));
        }
        ours.insert(to);
    }
    if parts.is_empty() && (rules.mode != Mode::Append || before.is_empty()) {
        // A file without rows keeps the columns.
        let to = rules.place(&rules.part_name(&plan.run_id, 0, 0));
        let from = format!("{staging}/empty.part");
        let mut sink = Sink::create(store, &from).await?;
        let encoder = Encoder::new(rules, plan, true, None, sink.buffer())?;
        encoder.finish(sink.buffer())?;
        sink.finish().await?;
        store.rename(&from, &to).await?;
        ours.insert(to);
    }
    if rules.mode == Mode::Truncate {
        store.sync_folder(&rules.folder)?;
        before.retain(|e| !ours.contains(&e.path));
        for old in before {
            store.remove(&old.path).await?;
        }
    }
    Ok(ours.len())
}

async fn publish_one(
    rules: &Rules,
    plan: &WritePlan,
    parts: &[(u32, Part)],
    staging: &str,
    target: &str,
    staged: &HashSet<String>,
    cancel: &CancellationToken,
) -> Result<()> {
    let store = &rules.location.store;
    let (whole, ready) = (format!("{staging}/whole"), format!("{staging}/ready"));
    let has = |path: &str| staged.contains(path) || staged.contains(path.trim_start_matches('/'));
    match (has(&ready), has(&whole)) {
        (true, false) => return Ok(()),
        (true, true) => return store.rename(&whole, target).await,
        _ => {}
    }
    // A lone part becomes `whole` by a rename: that it is gone means that `whole` is complete.
    if let [(_, only)] = parts
        && has(&whole)
        && !has(&format!("{staging}/{}", only.name))
    {
        return finish_one(rules, staging, &whole, &ready, target).await;
    }
    if let Some((_, gone)) = parts.iter().find(|(_, p)| !has(&format!("{staging}/{}", p.name))) {
        // An object store has no empty folder to say that a commit without parts happened.
        if !store.is_local() && staged.is_empty() {
            return Ok(());
        }
        let message = "a staged part is gone before it was published: run the job again";
        return Err(Error::new(ErrorKind::Conflict, message).with("part", &gone.name));
    }
    let old = existing(rules).await?;
    if !old.is_empty() && rules.mode == Mode::NonConflict {
        let message = "the file was made by somebody else while the job ran: remove it, or set writeMode";
        return Err(Error::new(ErrorKind::Conflict, message).with("file", target));
    }
    let kept = (rules.mode == Mode::Append).then(|| old.first().filter(|e| e.size > 0)).flatten();
    let mut inputs: Vec<String> = kept.iter().map(|e| e.path.clone()).collect();
    inputs.extend(parts.iter().map(|(_, p)| format!("{staging}/{}", p.name)));
    if rules.format.is_text() {
        join_text(rules, plan, &inputs, kept.is_some(), &whole, cancel).await?;
    } else {
        join_columns(rules, plan, &inputs, &whole, cancel).await?;
    }
    finish_one(rules, staging, &whole, &ready, target).await
}

async fn finish_one(rules: &Rules, staging: &str, whole: &str, ready: &str, target: &str) -> Result<()> {
    let store = &rules.location.store;
    Sink::create(store, ready).await?.finish().await?;
    store.sync_folder(staging)?;
    store.rename(whole, target).await
}

/// Lines are joined end to end, and so are archives of them.
async fn join_text(
    rules: &Rules,
    plan: &WritePlan,
    inputs: &[String],
    appends: bool,
    whole: &str,
    cancel: &CancellationToken,
) -> Result<()> {
    let store = &rules.location.store;
    let mut sink = Sink::create(store, whole).await?;
    if !appends {
        let mut header = Vec::new();
        let head = Encoder::new(rules, plan, true, None, &mut header)?;
        head.finish(&mut header)?;
        // Without a header an archive of nothing would stand here, which some tools stumble over.
        if rules.header.is_some() || inputs.is_empty() {
            sink.buffer().append(&mut header);
        }
    }
    for (i, input) in inputs.iter().enumerate() {
        let mut bytes = ByteStream::open(store, input, cancel).await?;
        let mut last = None;
        loop {
            let before = sink.buffer().len();
            if !bytes.fill(sink.buffer(), BLOCK).await? {
                break;
            }
            last = sink.buffer()[before..].last().copied().or(last);
            sink.flush().await?;
        }
        // What others wrote may lack its last line end.
        let plain = rules.compression == weir_files::Compression::None;
        if i == 0 && appends && plain && last.is_some_and(|b| b != b'\n') && rules.encoding == encoding_rs::UTF_8 {
            sink.buffer().extend_from_slice(rules.line_end.as_bytes());
        }
    }
    sink.finish().await?;
    Ok(())
}

/// A lone part is whole already; the row groups of local Parquet files are taken over as they are; other files are
/// written anew, a batch at a time.
async fn join_columns(
    rules: &Rules,
    plan: &WritePlan,
    inputs: &[String],
    whole: &str,
    cancel: &CancellationToken,
) -> Result<()> {
    let store: &Store = &rules.location.store;
    if let [only] = inputs
        && only.ends_with(".part")
    {
        return store.rename(only, whole).await;
    }
    if store.is_local() && rules.format == Format::Parquet {
        let (inputs, path, cancel) = (inputs.to_vec(), PathBuf::from(whole), cancel.clone());
        let spliced = tokio::task::spawn_blocking(move || splice(&inputs, &path, &cancel)).await;
        if spliced.map_err(|e| Error::internal("joining files failed").because(e))?? {
            return Ok(());
        }
    }
    let mut sink = Sink::create(store, whole).await?;
    let schema = plan.input_schema();
    let mut encoder = Encoder::columnar(rules, schema.clone(), None)?;
    for input in inputs {
        let reader = ColumnarReader::open(store, input, rules.format, cancel).await?;
        let same = reader.schema().fields().len() == schema.fields().len()
            && reader
                .schema()
                .fields()
                .iter()
                .zip(schema.fields())
                .all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type());
        if !same {
            let message = "the file has other columns than the rows to append: write to another file, or truncate";
            return Err(Error::new(ErrorKind::Schema, message).with("file", input));
        }
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let rows = if rules.format == Format::Parquet { 8192 } else { 0 };
        let mut reader = reader.start(None, &all, rows).await?;
        while let Some(batch) = reader.next().await? {
            let batch = arrow::array::RecordBatch::try_new(schema.clone(), batch.columns().to_vec())?;
            encoder.write(&batch, sink.buffer())?;
            sink.flush().await?;
        }
    }
    encoder.finish(sink.buffer())?;
    sink.finish().await?;
    Ok(())
}
