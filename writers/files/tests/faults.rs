//! Runs that die, are overtaken or are watched: nothing lost, nothing doubled, nothing half.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::*;
use arrow::datatypes::*;
use serde_json::{Value, json};
use weir_core::*;
use weir_writer_files as _;

fn writer(parameters: &Value) -> Arc<dyn Writer> {
    let io = tokio::runtime::Handle::current();
    let (cancel, shared) = Default::default();
    let context = ConnectorContext { cancel, io, form: Form::Native, time_zone: chrono_tz::UTC, shared };
    let plugin = writers().into_iter().find(|p| p.name == "files").expect("the writer is linked");
    (plugin.open)(parameters, &context).unwrap()
}

fn rows(text: &str, count: usize) -> RecordBatch {
    RecordBatch::try_from_iter([("v", Arc::new(StringArray::from(vec![text; count])) as ArrayRef)]).unwrap()
}

async fn plan(writer: &Arc<dyn Writer>, run_id: &str) -> Result<WritePlan> {
    let column = MappedColumn {
        name: "v".into(),
        offers: vec![Field::new("v", DataType::Utf8, true)],
        source_type: "t".into(),
        nullable: true,
        key: None,
        comment: None,
    };
    let request = WriteRequest {
        run_id: run_id.into(),
        columns: vec![column],
        source: "test".into(),
        on_type_loss: OnTypeLoss::Error,
        described: None,
        decides_at_end: false,
    };
    writer.plan(&request).await
}

async fn split(writer: &Arc<dyn Writer>, plan: &WritePlan, split: u32, attempt: u32, text: &str) -> Result<Receipt> {
    let id = TaskId { run_id: plan.run_id.clone(), split, table: "t".into(), attempt };
    let mut task = writer.open(plan, &id).await?;
    task.write(&RecordBatch::try_new(plan.input_schema(), rows(text, 10).columns().to_vec())?, &mut Refused::default())
        .await?;
    task.finish(Account { attempt, ..Account::default() }).await
}

/// A run of three splits, not yet committed.
async fn staged(target: &Value, run_id: &str, text: &str) -> (Arc<dyn Writer>, WritePlan, Vec<Receipt>) {
    let writer = writer(target);
    let plan = plan(&writer, run_id).await.unwrap();
    writer.prepare(&plan).await.unwrap();
    let mut receipts = Vec::new();
    for number in 0..3 {
        receipts.push(split(&writer, &plan, number, 1, text).await.unwrap());
    }
    (writer, plan, receipts)
}

async fn written(target: &Value, run_id: &str, text: &str) {
    let (writer, plan, receipts) = staged(target, run_id, text).await;
    writer.commit(&plan, &receipts).await.unwrap();
    writer.forget(&plan).await.unwrap();
}

/// Everything below a folder, with its content.
fn tree(folder: &Path) -> Vec<(String, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(|e| e.unwrap().path()) {
            let name = entry.strip_prefix(folder).unwrap().display().to_string();
            match entry.is_dir() {
                true => {
                    folders.push(entry);
                    found.push((name, String::new()));
                }
                false => found.push((name, std::fs::read_to_string(&entry).unwrap())),
            }
        }
    }
    found.sort();
    found
}

/// How often each value stands in the files that a reader sees.
fn values(folder: &Path) -> Vec<(String, usize)> {
    // Called from tests that run on a runtime of their own.
    let list = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(weir_files::Store::Local.list(folder.to_str().unwrap())).unwrap()
    };
    let found = std::thread::scope(|s| s.spawn(list).join().unwrap());
    let mut counts = std::collections::BTreeMap::new();
    for entry in found.iter().filter(|e| e.path.ends_with(".csv")) {
        let text = std::fs::read_to_string(&entry.path).unwrap();
        text.lines().skip(1).for_each(|line| *counts.entry(line.to_owned()).or_insert(0) += 1);
    }
    counts.into_iter().collect()
}

fn seen(texts: &[&str]) -> Vec<(String, usize)> {
    texts.iter().map(|t| ((*t).to_owned(), 30)).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|e| e.unwrap().path()) {
        let to = to.join(entry.file_name().unwrap());
        match entry.is_dir() {
            true => copy(&entry, &to),
            false => assert!(std::fs::copy(&entry, &to).is_ok()),
        }
    }
}

#[tokio::test]
async fn the_second_attempt_to_finish_a_split_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let target = json!({ "path": folder.path(), "format": "csv", "writeMode": "append" });
    let (writer, plan, receipts) = staged(&target, "r", "a").await;
    let error = split(&writer, &plan, 1, 2, "doubled").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let recorded = writer.recorded(&plan).await.unwrap();
    assert!(!recorded.published);
    let mut known = recorded.receipts;
    known.sort_by_key(|r| r.split);
    assert_eq!(known, receipts);
    // Prepared again by a resume: what is staged stays.
    writer.prepare(&plan).await.unwrap();
    writer.commit(&plan, &known).await.unwrap();
    assert!(writer.recorded(&plan).await.unwrap().published);
    assert_eq!(values(folder.path()), seen(&["a"]));
    writer.forget(&plan).await.unwrap();
    assert_eq!(tree(folder.path()).len(), 3);
    assert!(writer.recorded(&plan).await.unwrap().receipts.is_empty());
}

/// Stops a commit at each change it makes to the file system, by making the rest of it fail, and looks at what a resume
/// and an abort make of each state.
async fn cut_everywhere(mode: &str, strangers: bool, single: bool) {
    // What one commit does is replayed from a recording of every state that it goes through.
    let place = tempfile::tempdir().unwrap();
    let home = place.path().join("home");
    let folder = home.join("t");
    let target = match single {
        true => json!({ "path": folder.join("one.csv"), "writeMode": mode }),
        false => json!({ "path": folder, "format": "csv", "writeMode": mode }),
    };
    std::fs::create_dir_all(&folder).unwrap();
    written(&target, "r0", "old").await;
    if strangers {
        std::fs::create_dir(folder.join("sub")).unwrap();
    }
    std::fs::write(folder.join("note.md"), "stays").unwrap();
    let (writer, plan, receipts) = staged(&target, "r1", "new").await;
    let before = values(&folder);
    let after = match mode {
        "append" => seen(&["new", "old"]),
        _ => seen(&["new"]),
    };
    let start = place.path().join("start");
    copy(&home, &start);
    let exe = std::env::current_exe().unwrap();
    // A process of its own is killed after so many system calls, by a limit on what it may do: time, in small steps.
    for step in 0..60u64 {
        std::fs::remove_dir_all(&home).unwrap();
        copy(&start, &home);
        let mut child = std::process::Command::new(&exe)
            .args(["--exact", "a_process_that_commits", "--ignored", "--nocapture"])
            .env("WEIR_TARGET", target.to_string())
            .env("WEIR_PLAN", serde_json::to_string(&plan).unwrap())
            .env("WEIR_RECEIPTS", serde_json::to_string(&receipts).unwrap())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait_for_start(&mut child);
        std::thread::sleep(std::time::Duration::from_micros(step * step * 2));
        child.kill().unwrap();
        child.wait().unwrap();
        let seen_now = values(&folder);
        if mode == "truncate" {
            assert!(seen_now == before || seen_now == after, "{mode} {step}: {seen_now:?}");
        }
        let cut = place.path().join("cut");
        let _ = std::fs::remove_dir_all(&cut);
        copy(&home, &cut);

        let published = writer.recorded(&plan).await.unwrap().published;
        writer.commit(&plan, &receipts).await.unwrap();
        assert_eq!(values(&folder), after, "{mode} {step}");
        writer.commit(&plan, &receipts).await.unwrap();
        writer.forget(&plan).await.unwrap();
        assert_eq!(values(&folder), after, "{mode} {step}");
        let left = tree(&home);
        assert!(!left.iter().any(|(n, _)| n.contains(".weir-")), "{mode} {step}: {left:?}");
        assert!(left.iter().any(|(n, t)| n == "t/note.md" && t == "stays"));

        std::fs::remove_dir_all(&home).unwrap();
        copy(&cut, &home);
        let aborted = writer.abort(&plan, &receipts).await;
        if published && mode == "append" {
            // A later run, which would append the rows again, has to hear of them.
            assert_eq!(aborted.unwrap_err().kind(), ErrorKind::Conflict);
            assert!(writer.recorded(&plan).await.unwrap().published);
            writer.forget(&plan).await.unwrap();
        } else {
            aborted.unwrap();
        }
        assert_eq!(values(&folder), if published { after.clone() } else { before.clone() }, "{mode} {step}");
        let left = tree(&home);
        assert!(!left.iter().any(|(n, _)| n.contains(".weir-")), "{mode} {step}: {left:?}");
    }
}

fn wait_for_start(child: &mut std::process::Child) {
    use std::io::{BufRead, BufReader};
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap());
    let mut line = String::new();
    while !line.contains("committing") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the process ended before it began");
    }
}

/// Not a test: the process that the others kill.
#[test]
#[ignore = "the process that other tests start and kill"]
fn a_process_that_commits() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let writer = writer(&serde_json::from_str(&variable("WEIR_TARGET")).unwrap());
        let plan: WritePlan = serde_json::from_str(&variable("WEIR_PLAN")).unwrap();
        let receipts: Vec<Receipt> = serde_json::from_str(&variable("WEIR_RECEIPTS")).unwrap();
        println!("committing");
        writer.commit(&plan, &receipts).await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_overwrite_by_exchange_is_finished_or_taken_back() {
    cut_everywhere("truncate", false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_overwrite_by_manifest_is_finished_or_taken_back() {
    cut_everywhere("truncate", true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_append_is_finished_or_taken_back() {
    cut_everywhere("append", false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_single_file_is_finished_or_taken_back() {
    cut_everywhere("append", false, true).await;
    cut_everywhere("truncate", false, true).await;
}

/// The disk is full, or broken, just when the rows are to be seen: the record of that cannot be written any more.
#[tokio::test]
async fn an_append_that_cannot_be_recorded_is_not_appended_again() {
    let folder = tempfile::tempdir().unwrap();
    let target = json!({ "path": folder.path().join("one.csv"), "writeMode": "append" });
    written(&target, "r0", "old").await;
    let (writer, plan, receipts) = staged(&target, "r1", "new").await;
    let names = tree(folder.path()).into_iter().map(|(name, _)| name);
    let receipt = names.into_iter().find(|name| name.ends_with(".receipt")).unwrap();
    let staging = folder.path().join(receipt).parent().unwrap().to_owned();
    // Where drafts of the record would be made.
    let draft = |number| staging.join(format!(".weir-draft-{}-{number}-published", std::process::id()));
    (0..20_000).for_each(|number| std::fs::create_dir(draft(number)).unwrap());
    let done = writer.commit(&plan, &receipts).await.unwrap();
    assert!(done.warnings.iter().any(|w| w.contains("could not record")), "{done:?}");
    assert_eq!(values(folder.path()), seen(&["new", "old"]));
    // A process that knows only what it can see here.
    assert!(writer.recorded(&plan).await.unwrap().published);
    assert_eq!(writer.abort(&plan, &receipts).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(writer.recorded(&plan).await.unwrap().published);
    (0..20_000).for_each(|number| std::fs::remove_dir(draft(number)).unwrap());
    writer.commit(&plan, &receipts).await.unwrap();
    assert_eq!(values(folder.path()), seen(&["new", "old"]));
    writer.forget(&plan).await.unwrap();
    assert_eq!(tree(folder.path()).len(), 1);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_never_sees_an_empty_or_mixed_folder() {
    use std::os::fd::AsRawFd;
    for strangers in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("t");
        let target = json!({ "path": folder, "format": "csv", "writeMode": "truncate" });
        written(&target, "r0", "0").await;
        if strangers {
            std::fs::create_dir(folder.join("sub")).unwrap();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, watched) = (stop.clone(), folder.clone());
        let watcher = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut states = BTreeSet::new();
            while !stopped.load(Ordering::Relaxed) {
                // Of a folder that was exchanged meanwhile the files go: seen through the opened folder, all or some.
                let open = std::fs::File::open(&watched).unwrap();
                let names: Vec<PathBuf> = match strangers {
                    // A plain lister, where no manifest is needed.
                    false => std::fs::read_dir(format!("/proc/self/fd/{}", open.as_raw_fd()))
                        .unwrap()
                        .map(|e| e.unwrap().path())
                        .filter(|p| p.extension().is_some_and(|e| e == "csv"))
                        .collect(),
                    true => {
                        let found = runtime.block_on(weir_files::Store::Local.list(watched.to_str().unwrap()));
                        found.unwrap().into_iter().map(|e| e.path.into()).collect()
                    }
                };
                let texts: Vec<_> = names.iter().map(std::fs::read_to_string).collect();
                if texts.iter().any(Result::is_err) {
                    // Replaced while it was read; a reader fails then and is run again.
                    continue;
                }
                let lines: Vec<String> = texts
                    .into_iter()
                    .flatten()
                    .flat_map(|t| t.lines().map(str::to_owned).collect::<Vec<_>>())
                    .collect();
                let all: BTreeSet<&String> = lines.iter().filter(|l| *l != "v").collect();
                // A folder whose old files are just being removed lists fewer of them: gone ones are no state.
                if !strangers && std::fs::metadata(&watched).unwrap().ino() != open.metadata().unwrap().ino() {
                    continue;
                }
                assert_eq!((lines.len(), all.len()), (33, 1), "{names:?}");
                states.insert(lines.last().unwrap().clone());
            }
            states.len()
        });
        use std::os::unix::fs::MetadataExt;
        for run in 1..60 {
            written(&target, &format!("r{run}"), &run.to_string()).await;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(watcher.join().unwrap() > 5);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_exchanged_folder_keeps_its_looks_and_what_others_put_there() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("t");
    let target = json!({ "path": folder, "format": "csv", "writeMode": "truncate" });
    written(&target, "r0", "old").await;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o2751)).unwrap();
    std::fs::write(folder.join("note.md"), "n").unwrap();
    std::os::unix::fs::symlink("note.md", folder.join("link")).unwrap();
    let link = place.path().join("way");
    std::os::unix::fs::symlink(&folder, &link).unwrap();
    let inode = std::fs::metadata(&folder).unwrap().ino();
    // Through a link, too, it is the folder that is exchanged.
    let target = json!({ "path": link, "format": "csv", "writeMode": "truncate" });
    let (writer, plan, receipts) = staged(&target, "r1", "new").await;
    assert!(plan.warnings.is_empty() && plan.method.contains("takes the place"), "{plan:?}");
    let committed = writer.commit(&plan, &receipts).await.unwrap();
    assert_eq!(committed.warnings, Vec::<String>::new());
    writer.forget(&plan).await.unwrap();
    assert!(link.is_symlink());
    assert_ne!(std::fs::metadata(&folder).unwrap().ino(), inode);
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o7777, 0o2751);
    assert_eq!(values(&folder), seen(&["new"]));
    assert_eq!(std::fs::read_to_string(folder.join("link")).unwrap(), "n");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);

    // A folder in it belongs to somebody else, who may be writing there.
    std::fs::create_dir(folder.join("sub")).unwrap();
    let plan = plan_of(&target).await;
    assert!(plan.warnings.iter().any(|w| w.contains("`sub`")), "{plan:?}");
}

async fn plan_of(target: &Value) -> WritePlan {
    plan(&writer(target), "rx").await.unwrap()
}

#[tokio::test]
async fn a_header_that_is_there_has_to_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let target = json!({ "path": path, "writeMode": "append" });
    for (text, fits) in [("v\nx\n", true), ("\"v\"\r\n", true), ("", true), ("w\nx\n", false), ("v,w\n1,2\n", false)] {
        std::fs::write(&path, text).unwrap();
        let planned = plan(&writer(&target), "r").await;
        assert_eq!(planned.is_ok(), fits, "{text:?} {planned:?}");
        if let Err(e) = planned {
            assert!(e.kind() == ErrorKind::Schema && e.to_string().contains("`v`"), "{e}");
        }
    }
    std::fs::write(&path, "no header\n").unwrap();
    let target = json!({ "path": path, "writeMode": "append", "header": false });
    assert!(plan(&writer(&target), "r").await.is_ok());
    // Changed between the plan and the end: what is joined would lack it, or it would lack what is joined.
    let (writer, plan, receipts) = staged(&target, "r", "new").await;
    std::fs::write(&path, "changed\n").unwrap();
    writer.commit(&plan, &receipts).await.unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("changed\nnew\n"));
}
