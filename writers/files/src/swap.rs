//! A folder of this machine is replaced by another one, in one step.
//!
//! The new folder is built beside the old one: the run's parts under their final names, everything else that stands in
//! the old folder and is none of this target's business, and the run's records with the word that it is published.
//! Files come into it as further names of themselves, so nothing is copied. Then the two folders change places.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use weir_core::{Result, ResultExt};
use weir_files::{MANIFEST, Manifest, Store, dress, exchange, is_writable};

use crate::plan::Rules;
use crate::record::{Journal, Records, gone};

/// Where the new folder is built, and the old one stands after the exchange; both as they really are, without links.
fn places(rules: &Rules, run_id: &str) -> Option<(PathBuf, PathBuf)> {
    let folder = if rules.folder.is_empty() { "." } else { &rules.folder };
    let folder = fs::canonicalize(folder).ok()?;
    let name = folder.file_name()?.to_str()?.to_owned();
    let own = rules.prefix.as_deref().unwrap_or("parts").replace('/', "_");
    let beside = folder.parent()?.join(format!(".weir-{run_id}-{name}-{own}"));
    Some((folder, beside))
}

/// Why the folder cannot be exchanged; `None` when it can be, as far as one can see without trying.
pub(crate) fn obstacle(rules: &Rules, run_id: &str) -> Option<String> {
    if !cfg!(target_os = "linux") || !rules.location.store.is_local() {
        return Some("only folders of a Linux machine's own file systems can be".into());
    }
    // A folder that is not there yet is made by the run.
    let mut there = PathBuf::from(if rules.folder.is_empty() { "." } else { &rules.folder });
    while !there.exists() {
        match there.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => there = parent.to_owned(),
            _ => return None,
        }
    }
    if there != Path::new(&rules.folder) && !rules.folder.is_empty() {
        return None;
    }
    let Some((folder, beside)) = places(rules, run_id) else {
        return Some("it has no folder above it".into());
    };
    let above = beside.parent()?;
    if !is_writable(above) {
        return Some("the folder above it may not be written to".into());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let device = |p: &Path| fs::metadata(p).map(|m| m.dev()).ok();
        if device(&folder) != device(above) {
            return Some("it is a file system of its own".into());
        }
    }
    if is_hiding(&folder) {
        return Some("another run hides files in it".into());
    }
    fs::read_dir(&folder).ok()?.flatten().find_map(|entry| stranger(&entry, run_id))
}

/// Whether a run hides files in the folder: in the new folder, without the manifest, they would be seen.
fn is_hiding(folder: &Path) -> bool {
    let Ok(bytes) = fs::read(folder.join(MANIFEST)) else { return false };
    serde_json::from_slice::<Manifest>(&bytes).map_or(true, |m| !m.runs.is_empty())
}

/// Whether an entry of the folder cannot be taken along: a folder that others may be writing to.
fn stranger(entry: &fs::DirEntry, run_id: &str) -> Option<String> {
    let name = entry.file_name().to_string_lossy().into_owned();
    if !entry.file_type().is_ok_and(|t| t.is_dir()) || name == format!(".weir-{run_id}") || is_record(&entry.path()) {
        return None;
    }
    Some(format!("the folder `{name}` lies in it"))
}

/// Whether this is all that is left of a run that is published: its records.
fn is_record(folder: &Path) -> bool {
    let is_run = folder.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(".weir-"));
    let targets = || -> std::io::Result<Vec<_>> { fs::read_dir(folder)?.collect() };
    is_run && targets().is_ok_and(|t| !t.is_empty() && t.iter().all(|t| t.path().join("published").is_file()))
}

/// Exchanges the folder; gives the reason when that cannot be done here, and then nothing has changed.
pub(crate) async fn publish(rules: &Rules, records: &Records<'_>, journal: &Journal) -> Result<Option<String>> {
    if let Some(obstacle) = obstacle(rules, records.run_id) {
        return Ok(Some(obstacle));
    }
    let Some((folder, beside)) = places(rules, records.run_id) else {
        return Ok(Some("it has no folder above it".into()));
    };
    remove(&beside)?;
    let built = build(rules, records, journal, &folder, &beside);
    let done = built.and_then(|()| exchange(&folder, &beside));
    if let Err(e) = done {
        remove(&beside)?;
        if matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) {
            return Err(e).context("folder", beside.display());
        }
        if e.kind() == std::io::ErrorKind::NotFound {
            return Err(gone().because(e).with("folder", &rules.folder));
        }
        return Ok(Some(e.to_string()));
    }
    if let Some(above) = beside.parent().and_then(Path::to_str) {
        Store::Local.sync_folder(above)?;
    }
    Ok(None)
}

fn build(rules: &Rules, records: &Records<'_>, journal: &Journal, folder: &Path, beside: &Path) -> std::io::Result<()> {
    fs::create_dir(beside)?;
    let removes: HashSet<&str> = journal.removes.iter().filter_map(|p| p.rsplit('/').next()).collect();
    let own = format!(".weir-{}", records.run_id);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if text == own || text == MANIFEST || removes.contains(text.as_ref()) {
            continue;
        }
        match take_along(&entry.path(), &beside.join(&name)) {
            // Somebody removed it just now.
            Err(_) if fs::symlink_metadata(entry.path()).is_err() => {}
            other => other?,
        }
    }
    for step in &journal.moves {
        fs::hard_link(&step.from, beside.join(step.name()))?;
    }
    let staging = PathBuf::from(rules.staging(records.run_id));
    let kept = beside.join(&own).join(staging.file_name().unwrap_or_default());
    fs::create_dir_all(&kept)?;
    for entry in fs::read_dir(&staging)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().ends_with(".receipt") || name == "journal" {
            fs::hard_link(entry.path(), kept.join(name))?;
        }
    }
    let published = fs::File::create(kept.join("published"))?;
    std::io::Write::write_all(&mut &published, journal.moves.len().to_string().as_bytes())?;
    published.sync_all()?;
    // Last, for a folder that may not be written to stays so.
    dress(beside, folder)?;
    for made in [kept.as_path(), &beside.join(&own), beside] {
        fs::File::open(made)?.sync_all()?;
    }
    if let Some(above) = beside.parent() {
        fs::File::open(above)?.sync_all()?;
    }
    Ok(())
}

/// Gives a file a second name; links are made again, the records of other runs are taken along with their folder.
fn take_along(from: &Path, to: &Path) -> std::io::Result<()> {
    let kind = fs::symlink_metadata(from)?.file_type();
    if !kind.is_dir() {
        return fs::hard_link(from, to);
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        take_along(&entry.path(), &to.join(entry.file_name()))?;
    }
    dress(to, from)?;
    fs::File::open(to)?.sync_all()
}

/// Removes what stands beside the folder: before the exchange the new one, after it the old one, out of which first
/// goes back what others have put there at the last moment.
pub(crate) async fn tidy(rules: &Rules, run_id: &str) -> Result<()> {
    if !rules.location.store.is_local() {
        return Ok(());
    }
    let Some((folder, beside)) = places(rules, run_id) else { return Ok(()) };
    if !beside.is_dir() {
        return Ok(());
    }
    let own = format!(".weir-{run_id}");
    let staging = PathBuf::from(rules.staging(run_id));
    let target = staging.file_name().unwrap_or_default();
    let is_old = !beside.join(&own).join(target).join("published").exists();
    if is_old {
        for entry in fs::read_dir(&beside).context("folder", beside.display())? {
            let entry = entry.context("folder", beside.display())?;
            let name = entry.file_name();
            let text = name.to_string_lossy();
            let back = folder.join(&name);
            let others = text != own && text != MANIFEST && !rules.owns(&text);
            if others && is_newer(&entry.path(), &back) {
                fs::rename(entry.path(), &back).context("file", back.display())?;
            }
        }
    }
    remove(&beside)
}

/// Whether `one` was made or replaced after `other` was taken along.
fn is_newer(one: &Path, other: &Path) -> bool {
    let changed = |p: &Path| fs::symlink_metadata(p).and_then(|m| m.modified());
    match (changed(one), changed(other)) {
        (Ok(one), Ok(other)) => one > other,
        (one, other) => one.is_ok() && other.is_err(),
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).context("folder", folder.display()),
        _ => Ok(()),
    }
}
