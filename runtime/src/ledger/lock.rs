//! One run of a job at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use weir_core::{Error, ErrorKind, Result};

use super::faults::unusable;

/// How often a lock is tried that somebody has: whoever [looks](JobLock::is_free) has it for a moment too.
const TRIES: usize = 5;

/// How long between two of them.
const AGAIN: Duration = Duration::from_millis(10);

/// Held while a job runs; the operating system lets go of it when the process ends, however it ends. The file says by whom.
#[derive(Debug)]
pub struct JobLock {
    file: File,
    holder: String,
}

impl JobLock {
    /// Takes the lock of a job.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) when another run of the job holds it; [`Io`](ErrorKind::Io) when the state folder
    /// cannot be written.
    pub fn take(state_dir: &Path, job: &str) -> Result<Self> {
        let path = path_of(state_dir, job);
        let folder = path.parent().unwrap_or(state_dir);
        std::fs::create_dir_all(folder).map_err(|error| unusable(state_dir, error))?;
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(|error| unusable(state_dir, error))?;
        for again in (0..TRIES).rev() {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if again > 0 => std::thread::sleep(AGAIN),
                Err(TryLockError::WouldBlock) => return Err(held(&path).with("job", job)),
                Err(TryLockError::Error(error)) => return Err(unusable(state_dir, error)),
            }
        }
        let since = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let mut lock = Self { file, holder: format!("process {}, since {since}", std::process::id()) };
        lock.write(&lock.holder.clone());
        Ok(lock)
    }

    /// Lets those that are refused know the run that holds it.
    pub fn name(&mut self, run_id: &str) {
        self.write(&format!("run {run_id}, {}", self.holder));
    }

    /// Whether nobody holds the lock of a job, which somebody has held; `false` where that cannot be told.
    pub fn is_free(state_dir: &Path, job: &str) -> bool {
        File::open(path_of(state_dir, job)).is_ok_and(|file| file.try_lock_shared().is_ok())
    }

    /// A courtesy: without room for it the lock holds all the same.
    fn write(&mut self, holder: &str) {
        let written = self.file.set_len(0).and_then(|()| self.file.rewind());
        if let Err(error) = written.and_then(|()| self.file.write_all(holder.as_bytes())) {
            tracing::debug!(%error, "who holds the job's lock is not written down");
        }
    }
}

fn path_of(state_dir: &Path, job: &str) -> PathBuf {
    let mut hash = DefaultHasher::new();
    job.hash(&mut hash);
    state_dir.join("locks").join(format!("{:016x}.lock", hash.finish()))
}

/// What to tell whoever is refused.
fn held(path: &Path) -> Error {
    let holder = std::fs::read_to_string(path).unwrap_or_default();
    let holder = if holder.is_empty() { holder } else { format!(" ({holder})") };
    let text = format!("another run of this job is going on{holder}: wait for it to end, or stop it");
    Error::new(ErrorKind::Conflict, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_learns_by_whom() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!JobLock::is_free(folder.path(), "job"), "of a lock that nobody has had nothing is known");
        let mut lock = JobLock::take(folder.path(), "job").unwrap();
        assert!(!JobLock::is_free(folder.path(), "job"));
        let process = format!("process {}, since 2", std::process::id());
        let refused = || JobLock::take(folder.path(), "job").unwrap_err().to_string();
        assert!(refused().contains(&format!("is going on ({process}")), "{}", refused());
        lock.name("r1");
        assert!(refused().contains(&format!("is going on (run r1, {process}")), "{}", refused());
        drop(lock);
        assert!(JobLock::is_free(folder.path(), "job"));
        // Whoever looks keeps nobody out.
        let looks = File::open(path_of(folder.path(), "job")).unwrap();
        looks.try_lock_shared().unwrap();
        let waits = std::thread::spawn({
            let folder = folder.path().to_owned();
            move || JobLock::take(&folder, "job").map(drop)
        });
        drop(looks);
        waits.join().unwrap().unwrap();
    }
}
