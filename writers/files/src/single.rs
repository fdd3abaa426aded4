//! One file: the parts are joined, and the whole takes the target's place in one step.
//!
//! On a disk the whole is staged and renamed over the target; in an object store it is uploaded under the target's own
//! key, where it is seen when the upload is completed. The parts stay until that is recorded, so it can be done again.

use std::path::{Path, PathBuf};

use arrow::datatypes::DataType;
use tokio_util::sync::CancellationToken;
use weir_core::{Error, ErrorKind, Refused, Result, ResultExt, WritePlan};
use weir_files::{BLOCK, ByteStream, ColumnarReader, Entry, Format, Sink};

use crate::columns::same as same_columns;
use crate::encode::Encoder;
use crate::plan::{Mode, Rules};
use crate::record::{Journal, Records, Way, gone};
use crate::splice::splice;
use crate::task::Part;

/// Publishes the file; not to be called when it is published. `warnings` are of what went wrong after readers saw it.
pub(crate) async fn publish(
    rules: &Rules,
    plan: &WritePlan,
    records: &Records<'_>,
    parts: &[(u32, Part)],
    name: &str,
    cancel: &CancellationToken,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let store = records.store();
    let target = rules.place(name);
    let whole = records.path("whole");
    let journal = records.journal().await?;
    let now = current(rules, &target).await?;
    if let Some(journal) = &journal {
        if same(now.as_ref(), journal.old.as_ref()) {
            if store.is_local() {
                return put(rules, records, &whole, &target, now.as_ref(), warnings);
            }
        } else if rules.mode == Mode::NonConflict || (!store.is_local() && rules.mode == Mode::Append) {
            let message = "the file was changed by somebody else while the job published it: run the job again";
            return Err(Error::new(ErrorKind::Conflict, message).with("file", target));
        }
        // Joined with a state of the target that is no more, or in an upload that is lost: joined again.
        records.drop_journal().await?;
    }
    if now.is_some() && rules.mode == Mode::NonConflict {
        let message = "the file was made by somebody else while the job ran: remove it, or set writeMode";
        return Err(Error::new(ErrorKind::Conflict, message).with("file", target));
    }
    let kept = (rules.mode == Mode::Append).then(|| now.clone().filter(|e| e.size > 0)).flatten();
    let mut inputs: Vec<String> = kept.iter().map(|e| e.path.clone()).collect();
    inputs.extend(parts.iter().map(|(_, p)| records.path(&p.name)));
    for (_, part) in parts {
        if store.entry(&records.path(&part.name)).await?.is_none_or(|e| e.size != part.bytes) {
            return Err(gone().with("part", &part.name));
        }
    }
    let journal = |bytes| Journal { way: Way::Single, moves: Vec::new(), removes: Vec::new(), old: now.clone(), bytes };
    if !store.is_local() {
        let mut sink = Sink::create(store, &target).await?;
        let joined = join(rules, plan, &inputs, kept.is_some(), &mut sink, cancel).await;
        let sealed = match joined {
            Ok(()) => sink.seal().await,
            Err(e) => Err(e),
        };
        return match sealed {
            Ok(bytes) => {
                records.set_journal(&journal(bytes)).await?;
                sink.complete().await.map(drop)
            }
            Err(e) => {
                sink.discard().await;
                Err(e)
            }
        };
    }
    store.remove(&whole).await?;
    join_local(rules, plan, &inputs, kept.is_some(), &whole, cancel).await?;
    let bytes = store.entry(&whole).await?.map_or(0, |e| e.size);
    records.set_journal(&journal(bytes)).await?;
    // Somebody may have added to it meanwhile: what is joined lacks that.
    if !same(current(rules, &target).await?.as_ref(), now.as_ref()) && rules.mode != Mode::Truncate {
        records.drop_journal().await?;
        let message = "the file was changed by somebody else while the job published it: run the job again";
        return Err(Error::new(ErrorKind::Conflict, message).with("file", target));
    }
    put(rules, records, &whole, &target, now.as_ref(), warnings)
}

async fn current(rules: &Rules, target: &str) -> Result<Option<Entry>> {
    rules.location.store.entry(target).await
}

fn same(one: Option<&Entry>, other: Option<&Entry>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_like(other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

fn put(
    rules: &Rules,
    records: &Records<'_>,
    whole: &str,
    target: &str,
    old: Option<&Entry>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let mut place = PathBuf::from(target);
    if old.is_some() {
        // A link stays, and what it leads to is replaced.
        place = std::fs::canonicalize(target).context("file", target)?;
        if let Ok(data) = std::fs::metadata(&place) {
            std::fs::set_permissions(whole, data.permissions()).context("file", whole)?;
            #[cfg(unix)]
            {
                use std::os::unix::fs::MetadataExt;
                // Only root may give files away; for anybody else the file is their own from now on.
                let _ = std::os::unix::fs::chown(whole, Some(data.uid()), Some(data.gid()));
            }
        }
    }
    std::fs::rename(whole, &place).map_err(|e| {
        let is_elsewhere = e.kind() == std::io::ErrorKind::CrossesDevices;
        let error = Error::from(e).with("file", target);
        match is_elsewhere {
            true => {
                Error::new(ErrorKind::Unsupported, "the file is a link into another file system: write to its target")
                    .because(error)
            }
            false => error,
        }
    })?;
    // Now it is published, and the journal without the whole says so: what fails must not have it done once more.
    for folder in place.parent().and_then(Path::to_str).into_iter().chain([rules.folder.as_str()]) {
        if let Err(e) = records.store().sync_folder(folder) {
            warnings.push(format!("{target} is written, and might be lost if the machine stopped now: {}", e.full()));
        }
    }
    Ok(())
}

/// Joins into a new local file.
async fn join_local(
    rules: &Rules,
    plan: &WritePlan,
    inputs: &[String],
    appends: bool,
    whole: &str,
    cancel: &CancellationToken,
) -> Result<()> {
    if !rules.format.is_text() {
        // A lone part is whole already, under one more name.
        if let [only] = inputs
            && !appends
            && std::fs::hard_link(only, whole).is_ok()
        {
            return Ok(());
        }
        if rules.format == Format::Parquet {
            let (inputs, path, cancel) = (inputs.to_vec(), PathBuf::from(whole), cancel.clone());
            let spliced = tokio::task::spawn_blocking(move || splice(&inputs, &path, &cancel)).await;
            if spliced.map_err(|e| Error::internal("joining files failed").because(e))?? {
                return Ok(());
            }
        }
    }
    let mut sink = Sink::create(&rules.location.store, whole).await?;
    join(rules, plan, inputs, appends, &mut sink, cancel).await?;
    sink.finish().await.map(drop)
}

async fn join(
    rules: &Rules,
    plan: &WritePlan,
    inputs: &[String],
    appends: bool,
    sink: &mut Sink,
    cancel: &CancellationToken,
) -> Result<()> {
    match rules.format.is_text() {
        true => join_text(rules, plan, inputs, appends, sink, cancel).await,
        false => join_columns(rules, plan, inputs, sink, cancel).await,
    }
}

/// Lines are joined end to end, and so are archives of them.
async fn join_text(
    rules: &Rules,
    plan: &WritePlan,
    inputs: &[String],
    appends: bool,
    sink: &mut Sink,
    cancel: &CancellationToken,
) -> Result<()> {
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
        let mut bytes = ByteStream::open(&rules.location.store, input, cancel).await?;
        let mut last = None;
        loop {
            let before = sink.buffer().len();
            if !bytes.fill(sink.buffer(), BLOCK).await? {
                break;
            }
            last = sink.buffer()[before..].last().copied().or(last);
            sink.flush().await?;
            // Files of this machine are read and written without a wait: others want to run too.
            tokio::task::yield_now().await;
        }
        // What others wrote may lack its last line end.
        let plain = rules.compression == weir_files::Compression::None;
        if i == 0 && appends && plain && last.is_some_and(|b| b != b'\n') && rules.encoding == encoding_rs::UTF_8 {
            sink.buffer().extend_from_slice(rules.line_end.as_bytes());
        }
    }
    Ok(())
}

/// Files are written anew, a batch at a time; a lone one is taken as it is.
async fn join_columns(
    rules: &Rules,
    plan: &WritePlan,
    inputs: &[String],
    sink: &mut Sink,
    cancel: &CancellationToken,
) -> Result<()> {
    let store = &rules.location.store;
    if let [only] = inputs
        && only.ends_with(".part")
    {
        let mut bytes = ByteStream::open(store, only, cancel).await?;
        while bytes.fill(sink.buffer(), BLOCK).await? {
            sink.flush().await?;
            tokio::task::yield_now().await;
        }
        return Ok(());
    }
    let schema = plan.input_schema();
    let mut encoder = Encoder::columnar(rules, schema.clone(), None)?;
    for input in inputs {
        let reader = ColumnarReader::open(store, input, rules.format, cancel).await?;
        same_columns(reader.schema(), &schema, DataType::eq).context("file", input)?;
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let mut reader = reader.start(None, &all, false).await?;
        while let Some(batch) = reader.next().await? {
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let batch = arrow::array::RecordBatch::try_new(schema.clone(), batch.columns().to_vec())?;
            encoder.write(&batch, sink.buffer(), &mut Refused::default())?;
            sink.flush().await?;
            tokio::task::yield_now().await;
        }
    }
    encoder.finish(sink.buffer())
}
