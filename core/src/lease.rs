//! A target's word that one run of a job is at work there, so that no second one begins on another machine.
//!
//! The run of a job takes the lease before it changes anything at the target, renews it while it works, and gives it back
//! at its end. One that died leaves it to expire; a run of the same [holder](Lease::holder) need not wait for that. It
//! guards against wasted and confusing work, and remembers a run that died here for those who have not its state folder.
//! That no row lands twice in one run is the [record](crate::Recorded)'s business.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result, ResultExt, WritePlan};

/// Stands between a run's id and the number of one of its entries, where a target keeps apart what each of them writes. No
/// run id that a caller may give holds it, so that the name of an entry is never that of another run.
pub const ENTRY: char = '!';

/// What stood there in earlier versions, whose records may still be at a target.
const OLD_ENTRY: char = '-';

/// What names one of a job's entries at its target; the only one of a job bears the run's own name.
pub fn entry_name(run_id: &str, index: usize, entries: usize) -> String {
    if entries == 1 { run_id.to_owned() } else { format!("{run_id}{ENTRY}{index}") }
}

/// Whether a record under `name` is of the run, or of one of its entries, also as earlier versions named them.
pub fn is_of_run(name: &str, run_id: &str) -> bool {
    name.strip_prefix(run_id).is_some_and(|rest| {
        let number = rest.strip_prefix([ENTRY, OLD_ENTRY]).unwrap_or("x");
        rest.is_empty() || (!number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
    })
}

/// Who works for which job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The job.
    pub job: String,
    /// The run.
    pub run_id: String,
    /// Whoever can be sure that no other run of its own is at work: a state folder, of which a run has the job's lock.
    pub holder: String,
    /// The machine, for a person.
    pub machine: String,
    /// The process there.
    pub process: u32,
    /// For how long it holds, unless it is renewed; in seconds.
    pub seconds: u64,
}

/// A lease of somebody else that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The lease.
    pub lease: Lease,
    /// How long it still holds.
    pub left: Duration,
}

/// What a run finds that renews its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// It was still the run's, and holds on.
    Held,
    /// Somebody else has taken it over meanwhile: whose it is, unless that one has given it back.
    Lost(Option<Lease>),
}

/// The ability to keep leases. They are at the target, and last whatever becomes of the process.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Where the lease for `plan` is kept: all entries of a job with one place share one lease. `None` when there is none
    /// to be kept.
    fn place(&self, plan: &WritePlan) -> Option<String>;

    /// Takes the lease, also the holder's own, unless somebody else's holds. Makes what it takes to keep one. May be called
    /// at any time between `plan` and the end of the run.
    async fn take(&self, plan: &WritePlan, lease: &Lease) -> Result<Option<Standing>>;

    /// Renews the lease that was taken: as long as nobody else has taken it over, also one that has expired. Never makes
    /// one: where none is left somebody else has been at work meanwhile. Databases do it in one step; where it is a file that
    /// is read and then written, a lease that was written only after it may have ended counts as lost.
    async fn renew(&self, plan: &WritePlan, lease: &Lease) -> Result<Renewal>;

    /// Gives it back; what belongs to somebody else stays.
    async fn release(&self, plan: &WritePlan, lease: &Lease) -> Result<()>;

    /// Somebody else's lease that has ended without being given back, if the target has a record of what its run has
    /// written: a finished split, or its publication. Where a plan publishes the splits of a run together, its publication
    /// counts alone. Changes nothing; asked before [`take`](Self::take), which wipes it out.
    async fn orphan(&self, plan: &WritePlan, lease: &Lease) -> Result<Option<Lease>>;
}

impl Lease {
    /// The job's name in places that take no long ones: up to 40 ASCII letters, digits and hyphens.
    pub fn key(&self) -> String {
        let hash = self.job.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
            (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        });
        format!("lease-{hash:032x}")
    }

    /// The plans that another run of the job may have had of the entry that `plan` is of this one's, for targets that know a
    /// run by its name alone: as it is named now, and as earlier versions named it.
    pub fn of_other(&self, plan: &WritePlan, run_id: &str) -> Vec<WritePlan> {
        let entry = plan.run_id.strip_prefix(&self.run_id).unwrap_or_default();
        let number = entry.strip_prefix([ENTRY, OLD_ENTRY]);
        let names = match number {
            None => vec![format!("{run_id}{entry}")],
            Some(number) => [ENTRY, OLD_ENTRY].map(|mark| format!("{run_id}{mark}{number}")).into(),
        };
        names.into_iter().map(|run_id| WritePlan { run_id, ..plan.clone() }).collect()
    }

    /// What to tell the user whose run would write again what the one that left this lease has written.
    pub fn refusal(&self) -> Error {
        let Self { job, run_id, machine, .. } = self;
        Error::new(
            ErrorKind::Conflict,
            format!(
                "run {run_id} of this job, on machine {machine}, did not end, and rows of it are at the target for good: go on \
                 with it there (--resume), or with its state folder, which keeps these rows, or, also where it had none, start \
                 anew with --fresh, which leaves these rows where they are and writes them again"
            ),
        )
        .with("job", job)
    }
}

impl Standing {
    /// What to tell the user whose run is refused.
    pub fn refusal(&self) -> Error {
        let Lease { job, run_id, machine, process, .. } = &self.lease;
        Error::new(
            ErrorKind::Conflict,
            format!(
                "run {run_id} of this job is at work at the target, on machine {machine} (process {process}): wait for it to \
                 end, or stop it; if it has died, its lease ends in {} s",
                self.left.as_secs().max(1)
            ),
        )
        .with("job", job)
    }
}

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
            let end = written + Duration::from_secs(lease.seconds);
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
        if slots.put_new(last + 1, Kept::bytes(lease)?).await? {
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
        slots.put(last, Kept::bytes(lease)?).await?;
        if looked.elapsed().is_ok_and(|since| since > Duration::from_secs(lease.seconds)) {
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
    use super::*;

    fn lease(holder: &str, seconds: u64) -> Lease {
        Lease {
            job: "nightly".into(),
            run_id: format!("run-of-{holder}"),
            holder: holder.into(),
            machine: format!("machine-of-{holder}"),
            process: 7,
            seconds,
        }
    }

    #[test]
    fn records_of_entries_are_the_runs() {
        assert_eq!((entry_name("r", 0, 1), entry_name("r", 3, 4)), ("r".into(), "r!3".into()));
        for (name, is) in [("r", true), ("r!0", true), ("r!12", true), ("r!1x", false), ("r!", false), ("r2", false)] {
            assert_eq!(is_of_run(name, "r"), is, "{name}");
        }
        assert!(is_of_run("r-0", "r"), "of an earlier version");
    }

    #[test]
    fn an_entry_of_another_run_is_looked_for_under_both_names() {
        let request = crate::WriteRequest {
            run_id: String::new(),
            columns: Vec::new(),
            source: String::new(),
            on_type_loss: crate::OnTypeLoss::default(),
            decides_at_end: false,
            described: None,
        };
        let of = |run_id: &str| {
            let plan = WritePlan { run_id: run_id.into(), ..WritePlan::new(&request, "t", crate::WriteMode::Append) };
            let others = lease("a", 60).of_other(&plan, "other").into_iter().map(|plan| plan.run_id);
            others.collect::<Vec<_>>()
        };
        assert_eq!(of("run-of-a"), ["other"]);
        for own in ["run-of-a!2", "run-of-a-2"] {
            assert_eq!(of(own), ["other!2", "other-2"]);
        }
    }

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
        age(&slots, 1, 61);
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

    #[tokio::test]
    async fn a_lease_that_is_written_too_late_is_not_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let slots = FolderSlots::new(folder.path(), "k");
        // Between looking at it and writing it more time passes than it lasts.
        let short = lease("a", 0);
        assert_eq!(take(&slots, &short).await.unwrap(), None);
        assert_eq!(renew(&slots, &short).await.unwrap(), Renewal::Lost(None));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
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

    #[test]
    fn keys_are_short_and_plain() {
        let long = Lease { job: "/srv/jobs/ä/".repeat(50), ..lease("a", 1) };
        assert_eq!(long.key().len(), 38);
        assert!(long.key().chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
        assert_ne!(long.key(), lease("a", 1).key());
    }
}
