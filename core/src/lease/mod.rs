//! A target's word that one run of a job is at work there, so that no second one begins on another machine.
//!
//! The run of a job takes the lease before it changes anything at the target, renews it while it works, and gives it back
//! at its end. One that died leaves it to expire; a run of the same [holder](Lease::holder) need not wait for that. It
//! guards against wasted and confusing work, and remembers a run that died here for those who have not its state folder.
//! That no row lands twice in one run is the [record](crate::Recorded)'s business.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result, WritePlan};

mod slots;

pub use slots::{FolderSlots, Slot, Slots, ended, release, renew, take};

/// Stands between a run's id and the number of one of its entries, where a target keeps apart what each of them writes. No
/// run id that a caller may give holds it, so that the name of an entry is never that of another run.
pub const ENTRY: char = '!';

/// What stood there in earlier versions, whose records may still be at a target.
const OLD_ENTRY: char = '-';

/// What names one of a job's entries at its target; the only one of a job bears the run's own name.
pub fn entry_name(run_id: &str, index: usize, entries: usize) -> String {
    if entries == 1 { run_id.to_owned() } else { format!("{run_id}{ENTRY}{index}") }
}

/// The run that an id is of: of an entry, what comes before its number; else the id itself.
pub fn run_of(id: &str) -> &str {
    id.rsplit_once(ENTRY).map_or(id, |(run, _)| run)
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
    /// counts alone. Takes nothing, and leaves nothing; asked before [`take`](Self::take), which wipes it out.
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

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn lease(holder: &str, seconds: u64) -> Lease {
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

    #[test]
    fn keys_are_short_and_plain() {
        let long = Lease { job: "/srv/jobs/ä/".repeat(50), ..lease("a", 1) };
        assert_eq!(long.key().len(), 38);
        assert!(long.key().chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
        assert_ne!(long.key(), lease("a", 1).key());
    }
}
