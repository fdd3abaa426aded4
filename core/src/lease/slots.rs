//! Leases at targets that are files: small numbered files, as old as the clock of whatever keeps them says.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::Leases;
use super::{Lease, Renewal, Standing};
use crate::{Error, ErrorKind, Result, ResultExt};

/// Small numbered files that are there or not, for leases at targets that are files. Of several who make the same number
/// one succeeds. Leases have the numbers from 1 on.
#[async_trait]
pub trait Slots: Send + Sync {
    /// The numbers that are there, in any order.
    async fn numbers(&self) -> Result<Vec<u64>>;
    /// What a file holds; `None` when it is not there.
    async fn get(&self, number: u64) -> Result<Option<Slot>>;
    /// Writes a file, whether it is there or not.
    async fn put(&self, number: u64, bytes: Vec<u8>) -> Result<()>;
    /// Writes a new file; `false` when it is there.
    async fn put_new(&self, number: u64, bytes: Vec<u8>) -> Result<bool>;
    /// Removes a file, if it is there.
    async fn remove(&self, number: u64) -> Result<()>;
}

/// What is found of such a file.
#[derive(Debug, Clone)]
pub struct Slot {
    /// What it holds.
    pub bytes: Vec<u8>,
    /// When it was written, by the clock of whatever keeps it.
    pub written: SystemTime,
}

impl Slot {
    /// The lease in it. One that cannot be read says nothing, and holds nobody up.
    fn lease(&self) -> Option<Lease> {
        serde_json::from_slice(&self.bytes).ok().map(|Kept { lease }| lease)
    }
}

/// What such a file holds. No time: the clocks of the machines that read it may differ by a day.
#[derive(Serialize, Deserialize)]
struct Kept {
    lease: Lease,
}

impl Kept {
    fn bytes(lease: &Lease) -> Result<Vec<u8>> {
        let kept = Self { lease: lease.clone() };
        serde_json::to_vec(&kept).map_err(|e| Error::internal("a lease cannot be written").because(e))
    }
}

/// The number of a file that is written for nothing but its time.
const CLOCK: u64 = 0;

/// How long a lease still holds that was `written` then, zero when it has ended: by the clock of whatever keeps the files,
/// which is asked by writing one more.
async fn left(slots: &dyn Slots, lease: &Lease, written: SystemTime) -> Result<Duration> {
    for _ in 0..10 {
        slots.put(CLOCK, Vec::new()).await?;
        let clock = slots.get(CLOCK).await?;
        slots.remove(CLOCK).await?;
        // Somebody else who asks may have removed it.
        if let Some(clock) = clock {
            // One that says it holds for ages says nothing, as one that cannot be read.
            let end = written.checked_add(Duration::from_secs(lease.seconds)).unwrap_or(written);
            return Ok(end.duration_since(clock.written).unwrap_or_default());
        }
    }
    Err(restless())
}

/// [`Leases::take`] in numbered files: the highest number holds, and who takes an expired one over makes the next number.
///
/// # Errors
/// Those of the files.
pub async fn take(slots: &dyn Slots, lease: &Lease) -> Result<Option<Standing>> {
    for _ in 0..10 {
        let numbers = slots.numbers().await?;
        let last = numbers.iter().copied().max().unwrap_or(0);
        if last > 0 {
            let Some(found) = slots.get(last).await? else { continue };
            if let Some(other) = found.lease() {
                if other.holder == lease.holder {
                    slots.put(last, Kept::bytes(lease)?).await?;
                    return Ok(None);
                }
                let left = left(slots, &other, found.written).await?;
                if !left.is_zero() {
                    return Ok(Some(Standing { lease: other, left }));
                }
            }
        }
        if slots.put_new(last.saturating_add(1), Kept::bytes(lease)?).await? {
            for old in numbers {
                slots.remove(old).await?;
            }
            return Ok(None);
        }
    }
    Err(restless())
}

fn restless() -> Error {
    Error::new(ErrorKind::Conflict, "the lease on the target changes hands all the time").retryable(true)
}

/// [`Leases::renew`] in numbered files. Nobody can read and write one in one step: whoever is frozen in between, for another
/// run's whole life, would make a lease again that was given back.
///
/// # Errors
/// Those of the files.
pub async fn renew(slots: &dyn Slots, lease: &Lease) -> Result<Renewal> {
    // What is not found is looked for again: the folder may just have changed places with a new one.
    for _ in 0..10 {
        let Some(last) = slots.numbers().await?.into_iter().max() else { continue };
        let looked = SystemTime::now();
        let Some(found) = slots.get(last).await? else { continue };
        let kept = found.lease();
        if kept.as_ref().is_none_or(|kept| kept.holder != lease.holder) {
            return Ok(Renewal::Lost(kept));
        }
        let left = left(slots, lease, found.written).await?;
        if left.is_zero() {
            // Others may take it over at this moment: as they would, in one step.
            if slots.put_new(last.saturating_add(1), Kept::bytes(lease)?).await? {
                slots.remove(last).await?;
                return Ok(Renewal::Held);
            }
            continue;
        }
        slots.put(last, Kept::bytes(lease)?).await?;
        if looked.elapsed().is_ok_and(|since| since >= left) {
            slots.remove(last).await?;
            return Ok(Renewal::Lost(None));
        }
        return Ok(Renewal::Held);
    }
    Ok(Renewal::Lost(None))
}

/// The lease of [`Leases::orphan`] in numbered files, whatever is recorded.
///
/// # Errors
/// Those of the files.
pub async fn ended(slots: &dyn Slots, lease: &Lease) -> Result<Option<Lease>> {
    let Some(last) = slots.numbers().await?.into_iter().max() else { return Ok(None) };
    let Some(found) = slots.get(last).await? else { return Ok(None) };
    let Some(other) = found.lease().filter(|other| other.holder != lease.holder) else { return Ok(None) };
    Ok(left(slots, &other, found.written).await?.is_zero().then_some(other))
}

/// [`Leases::release`] in numbered files.
///
/// # Errors
/// Those of the files.
pub async fn release(slots: &dyn Slots, lease: &Lease) -> Result<()> {
    let mut numbers = slots.numbers().await?;
    numbers.sort_unstable();
    let Some(last) = numbers.last() else { return Ok(()) };
    let found = slots.get(*last).await?.and_then(|found| found.lease());
    if found.is_some_and(|kept| kept.holder == lease.holder) {
        // The one that holds goes last.
        for number in numbers {
            slots.remove(number).await?;
        }
    }
    Ok(())
}

/// Numbered files of a local folder: `.weir-KEY-1`, `.weir-KEY-2` …
pub struct FolderSlots {
    folder: PathBuf,
    prefix: String,
}

impl FolderSlots {
    /// In a folder that is there, for what `key` names.
    pub fn new(folder: &Path, key: &str) -> Self {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Self { folder: folder.to_owned(), prefix: format!(".weir-{key}-") }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{}{number}", self.prefix))
    }

    /// Writes a file whole, under a name that nobody looks at.
    fn beside(&self, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.folder.join(format!("{}{}.new", self.prefix, uuid::Uuid::now_v7().simple()));
        std::fs::write(&path, bytes).context("file", path.display())?;
        Ok(path)
    }
}

#[async_trait]
impl Slots for FolderSlots {
    async fn numbers(&self) -> Result<Vec<u64>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context("folder", self.folder.display())?,
        };
        let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix(&self.prefix)?.parse().ok();
        Ok(entries.flatten().filter_map(number).collect())
    }

    async fn get(&self, number: u64) -> Result<Option<Slot>> {
        let path = self.path(number);
        // Opened first: a network file system then tells of the file as it is, and not as it was when last looked at.
        let read = || -> std::io::Result<Slot> {
            let mut file = std::fs::File::open(&path)?;
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut bytes)?;
            Ok(Slot { bytes, written: file.metadata()?.modified()? })
        };
        match read() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some).context("file", path.display()),
        }
    }

    async fn put(&self, number: u64, bytes: Vec<u8>) -> Result<()> {
        let (new, path) = (self.beside(&bytes)?, self.path(number));
        std::fs::rename(&new, &path).context("file", path.display())
    }

    async fn put_new(&self, number: u64, bytes: Vec<u8>) -> Result<bool> {
        let (new, path) = (self.beside(&bytes)?, self.path(number));
        // A second name for it comes about whole, or not at all.
        let made = std::fs::hard_link(&new, &path);
        let _ = std::fs::remove_file(&new);
        match made {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            // A file system without further names.
            Err(_) => {
                use std::io::Write;
                match std::fs::File::create_new(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
                    made => {
                        made.and_then(|mut file| file.write_all(&bytes)).map(|()| true).context("file", path.display())
                    }
                }
            }
        }
    }

    async fn remove(&self, number: u64) -> Result<()> {
        let path = self.path(number);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("file", path.display()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::lease;
    use super::*;

    #[tokio::test]
    async fn one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let slots = FolderSlots::new(folder.path(), &lease("a", 60).key());
        let files = || std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(take(&slots, &lease("a", 60)).await.unwrap(), None);
        assert_eq!(renew(&slots, &lease("a", 60)).await.unwrap(), Renewal::Held);
        // After its process died it is taken again by its own state folder.
        assert_eq!(take(&slots, &lease("a", 60)).await.unwrap(), None);
        let standing = take(&slots, &lease("b", 60)).await.unwrap().unwrap();
        assert_eq!(standing.lease, lease("a", 60));
        let refusal = standing.refusal();
        for word in ["run-of-a", "machine-of-a", "process 7", "ends in"] {
            assert!(refusal.message().contains(word), "{refusal}");
        }
        assert_eq!(refusal.kind(), ErrorKind::Conflict);
        // Another's cannot be given back.
        release(&slots, &lease("b", 60)).await.unwrap();
        assert_eq!(files(), 1);
        release(&slots, &lease("a", 60)).await.unwrap();
        assert_eq!(files(), 0);
        assert_eq!(take(&slots, &lease("b", 60)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn who_renews_learns_of_whoever_has_been_there_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let slots = FolderSlots::new(folder.path(), "k");
        let (a, b) = (lease("a", 60), lease("b", 60));
        assert_eq!(take(&slots, &a).await.unwrap(), None);
        age(&slots, 1, 61);
        assert_eq!(renew(&slots, &a).await.unwrap(), Renewal::Held, "nobody has come since it expired");
        age(&slots, 2, 61);
        assert_eq!(take(&slots, &b).await.unwrap(), None);
        assert_eq!(renew(&slots, &a).await.unwrap(), Renewal::Lost(Some(b.clone())));
        release(&slots, &b).await.unwrap();
        assert_eq!(renew(&slots, &a).await.unwrap(), Renewal::Lost(None));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// By the file system's clock alone, whatever the machine that wrote it, or one that reads it, thinks of the time. Files
    /// of earlier versions say what their writer thought.
    #[tokio::test]
    async fn how_old_a_lease_is_the_files_time_tells() {
        let folder = tempfile::tempdir().unwrap();
        let slots = FolderSlots::new(folder.path(), "k");
        let (a, b) = (lease("a", 60), lease("b", 60));
        let day = 24 * 3600;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        for until in [now - day, now + day].map(|seconds| seconds * 1000) {
            std::fs::write(slots.path(1), serde_json::json!({"lease": a, "until": until}).to_string()).unwrap();
            age(&slots, 1, 20);
            let left = take(&slots, &b).await.unwrap().unwrap().left.as_secs();
            assert!((30..=40).contains(&left), "{left} s are left");
            assert_eq!(ended(&slots, &b).await.unwrap(), None);
            age(&slots, 1, 61);
            assert_eq!(ended(&slots, &b).await.unwrap(), Some(a.clone()));
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "looking at the time leaves nothing");
        }
        assert_eq!(take(&slots, &b).await.unwrap(), None);
    }

    fn age(slots: &FolderSlots, number: u64, seconds: u64) {
        let file = std::fs::File::options().write(true).open(slots.path(number)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    /// Whoever writes a lease is frozen before.
    struct Frozen<'a>(&'a FolderSlots, Duration);

    #[async_trait]
    impl Slots for Frozen<'_> {
        async fn numbers(&self) -> Result<Vec<u64>> {
            self.0.numbers().await
        }

        async fn get(&self, number: u64) -> Result<Option<Slot>> {
            self.0.get(number).await
        }

        async fn put(&self, number: u64, bytes: Vec<u8>) -> Result<()> {
            if number != CLOCK {
                std::thread::sleep(self.1);
            }
            self.0.put(number, bytes).await
        }

        async fn put_new(&self, number: u64, bytes: Vec<u8>) -> Result<bool> {
            // Somebody takes over what has expired meanwhile.
            assert_eq!(take(self.0, &lease("b", 60)).await.unwrap(), None);
            self.0.put_new(number, bytes).await
        }

        async fn remove(&self, number: u64) -> Result<()> {
            self.0.remove(number).await
        }
    }

    #[tokio::test]
    async fn a_lease_that_is_written_too_late_is_not_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let slots = FolderSlots::new(folder.path(), "k");
        let short = lease("a", 1);
        assert_eq!(take(&slots, &short).await.unwrap(), None);
        let frozen = Frozen(&slots, Duration::from_millis(1050));
        assert_eq!(renew(&frozen, &short).await.unwrap(), Renewal::Lost(None));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        // Of one that has expired before, whoever takes it over at this moment has it.
        assert_eq!(take(&slots, &lease("a", 60)).await.unwrap(), None);
        age(&slots, 1, 61);
        assert_eq!(renew(&frozen, &lease("a", 60)).await.unwrap(), Renewal::Lost(Some(lease("b", 60))));
    }

    #[tokio::test]
    async fn an_expired_lease_is_taken_over_by_one_of_many() {
        let folder = tempfile::tempdir().unwrap();
        let slots = FolderSlots::new(folder.path(), "k");
        assert_eq!(take(&slots, &lease("a", 0)).await.unwrap(), None);
        std::thread::sleep(Duration::from_millis(5));
        let mut taken = 0;
        for holder in ["b", "c", "d"] {
            taken += usize::from(take(&slots, &lease(holder, 60)).await.unwrap().is_none());
        }
        assert_eq!(taken, 1);
        // The first one learns it when it renews.
        assert_eq!(take(&slots, &lease("a", 60)).await.unwrap().unwrap().lease.holder, "b");
        std::fs::write(folder.path().join(".weir-k-9"), "{").unwrap();
        assert_eq!(take(&slots, &lease("e", 60)).await.unwrap(), None);
    }
}
