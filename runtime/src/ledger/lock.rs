//! One run of a job at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use weir_core::{Error, ErrorKind, Result, ResultExt};

/// Held while a job runs; the operating system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct JobLock {
    _file: File,
}

impl JobLock {
    /// Takes the lock of a job.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) when another run of the job holds it.
    pub fn take(state_dir: &Path, job: &str) -> Result<Self> {
        let mut hash = DefaultHasher::new();
        job.hash(&mut hash);
        let folder = state_dir.join("locks");
        let path = folder.join(format!("{:016x}.lock", hash.finish()));
        std::fs::create_dir_all(&folder).context("folder", folder.display())?;
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = open.context("file", path.display())?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                ErrorKind::Conflict,
                "another run of this job is going on: wait for it to end, or stop it",
            )
            .with("job", job)),
            Err(TryLockError::Error(error)) => Err(error).context("file", path.display()),
        }
    }
}
