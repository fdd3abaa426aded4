//! The quarantine file, and the parts that it is made of.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use weir_core::{Error, ErrorKind, Result, ResultExt};

use crate::dirty::QuarantineRow;

/// What ends the name of a file that becomes the quarantine file when it is whole.
const JOINING: &str = ".joining";

/// A row has less bytes: what has no end of a line before is none.
pub(crate) const LONGEST_ROW: u64 = 1 << 30;

/// Copies the parts into one file. It takes the place of an earlier one only when it is whole and on the disk: whatever
/// happens meanwhile, the rows of an earlier call are not lost.
///
/// # Errors
/// [`Io`](ErrorKind::Io); an earlier file stays as it was.
pub(crate) fn join(path: &Path, run_id: &str, parts: &[PathBuf]) -> Result<()> {
    // A device or a pipe cannot be replaced, and has nothing to sync.
    if path.exists() && !path.is_file() {
        return copy(parts, &mut create_private(path)?, path);
    }
    let beside = named(path, &format!(".{run_id}{JOINING}"));
    let joining = || {
        let mut file = create_private(&beside)?;
        copy(parts, &mut file, path)?;
        file.sync_data().and_then(|()| fs::rename(&beside, path)).context("quarantine", path.display())
    };
    let joined = joining();
    match &joined {
        // Not every file system can sync a folder, and none needs it but for a power cut.
        Ok(()) => drop(File::open(folder_of(path)).and_then(|folder| folder.sync_all())),
        Err(_) => drop(fs::remove_file(&beside)),
    }
    joined
}

fn copy(parts: &[PathBuf], to: &mut File, path: &Path) -> Result<()> {
    for part in parts {
        let mut rows = File::open(part).map_err(|error| lost(error, part))?;
        std::io::copy(&mut rows, to).context("quarantine", path.display())?;
    }
    Ok(())
}

/// A part that is not where it was put.
fn lost(error: std::io::Error, part: &Path) -> Error {
    let text = format!(
        "dirty rows of an earlier call cannot be read from {}: put the file back, or go on without a file of dirty rows \
         (--quarantine off)",
        part.display()
    );
    Error::new(ErrorKind::Io, text).because(error)
}

/// The part of an earlier call by its recorded name: where it was put, or beside today's file where the folder is called
/// otherwise now, or no folder was recorded.
pub(crate) fn part(file: &Path, recorded: &str) -> PathBuf {
    let recorded = Path::new(recorded);
    let beside = recorded.file_name().map(|name| file.with_file_name(name));
    match beside {
        Some(beside) if !recorded.is_absolute() || (beside.exists() && !recorded.exists()) => beside,
        _ => recorded.to_owned(),
    }
}

/// The part of an attempt of this process.
pub(crate) fn part_of(file: &Path, run_id: &str, entry: usize, split: u32, attempt: u32) -> PathBuf {
    let path = named(file, &format!(".{run_id}-{entry}-{split}-{attempt}-{}.part", std::process::id()));
    std::path::absolute(&path).unwrap_or(path)
}

/// Removes the parts of a run, those of attempts that were killed too, and a file of earlier calls where no row counts in the end
/// (`none`). What cannot be removed is litter, not harm.
pub(crate) fn clear(file: &Path, run_id: &str, parts: &BTreeSet<PathBuf>, none: bool) {
    parts.iter().for_each(|part| drop(fs::remove_file(part)));
    let file = &std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let beside = named(file, &format!(".{run_id}"));
    let _ = fs::remove_file(named(&beside, JOINING));
    // Where another call of the run had its file, there may be more of them too.
    let stems: BTreeSet<PathBuf> = parts.iter().filter_map(|part| stem(part)).chain([beside]).collect();
    for part in stems.iter().flat_map(|stem| fs::read_dir(folder_of(stem)).into_iter().flatten().flatten()) {
        let path = part.path();
        if stem(&path).is_some_and(|of| stems.contains(&of)) {
            let _ = fs::remove_file(path);
        }
    }
    if none && matches!(whose(file), Ok(Some(Some(of))) if of == run_id) {
        let _ = fs::remove_file(file);
    }
}

/// The path of a part without its four numbers.
fn stem(part: &Path) -> Option<PathBuf> {
    let name = part.file_name()?.to_str()?.strip_suffix(".part")?;
    let mut pieces = name.rsplitn(5, '-');
    let numbers = pieces.by_ref().take(4).filter(|piece| piece.parse::<u32>().is_ok()).count();
    pieces.next().filter(|_| numbers == 4).map(|name| part.with_file_name(name))
}

/// Whether a file may be used for dirty rows: one that has anything else in it would be lost.
///
/// # Errors
/// [`Config`](ErrorKind::Config), with what to do.
pub(crate) fn check(path: &Path) -> Result<()> {
    match whose(&real(path))? {
        Some(None) => Err(Error::config(format!(
            "{} holds something else than dirty rows, and this run would put its own in their place: give another \
             --quarantine, or take the file away",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Makes room for the rows of a run: a file with those of another run is kept beside, with that run's id at the end of its
/// name. Says where.
///
/// # Errors
/// Those of [`check`]; a file that cannot be renamed.
pub(crate) fn make_room(path: &Path, own: Option<&str>) -> Result<Option<PathBuf>> {
    check(path)?;
    let path = real(path);
    let Some(run_id) = whose(&path)?.flatten().filter(|run_id| own != Some(run_id.as_str())) else { return Ok(None) };
    let numbered = (2..).map(|n| named(&path, &format!(".{run_id}.{n}")));
    let free = std::iter::once(named(&path, &format!(".{run_id}"))).chain(numbered).find(|beside| !beside.exists());
    let Some(beside) = free else { return Ok(None) };
    fs::rename(&path, &beside).context("quarantine", path.display())?;
    Ok(Some(beside))
}

/// The file behind a symbolic link: only that can be replaced by another one.
pub(crate) fn real(path: &Path) -> PathBuf {
    let behind = if path.is_symlink() { path.canonicalize().ok() } else { None };
    behind.unwrap_or_else(|| path.to_owned())
}

/// The run whose rows a file begins with, if it is a file and has anything in it.
fn whose(path: &Path) -> Result<Option<Option<String>>> {
    if !path.is_file() {
        return Ok(None);
    }
    let mut line = Vec::new();
    let read = File::open(path).and_then(|file| BufReader::new(file.take(LONGEST_ROW)).read_until(b'\n', &mut line));
    read.context("quarantine", path.display())?;
    let row = serde_json::from_slice::<QuarantineRow>(&line).ok();
    Ok(Some(row.map(|row| row.run_id)).filter(|_| !line.is_empty()))
}

/// A path with more at its end.
pub(crate) fn named(path: &Path, more: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(more);
    name.into()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a file that only its owner may read: quarantined rows are the user's data.
pub(crate) fn create_private(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).context("folder", folder.display())?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).context("file", path.display())?;
    // A file that was there keeps its mode when it is opened. Where it cannot be changed (a device) there is nothing to
    // protect.
    #[cfg(unix)]
    let _ = file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600));
    Ok(file)
}
