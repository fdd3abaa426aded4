//! The leases of a run: one at each place that it writes to, by which a run of the job on another machine is refused.
//!
//! They are taken after planning and before anything is changed at the target, renewed while the run works, and given back at its end.
//! The state folder's lock keeps a second run of the job out on this machine, so whatever else holds a lease under the
//! folder's name has died.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use tokio_util::sync::CancellationToken;
use weir_core::{ConnectorContext, Error, ErrorKind, Lease, Leases, Result, ResultExt, TargetName, WriteMode};

use super::abandon::appends;
use super::outcome::{Ended, EntryEnd};
use super::publish::twice;
use super::resume::EntryStart;
use super::{CLEAN_UP, Run};
use crate::database::evolve::Evolving;
use crate::entry::{PlannedEntry, plan_evolving};
use crate::job::UNNAMED;
use crate::options::Start;
use crate::place::{Place, RENEWAL, SECONDS, Seen, TakenOver};

/// How often it is looked whether the time has come.
const LOOK: Duration = Duration::from_secs(1);

/// How many are renewed at once, where a job writes to many places.
const AT_ONCE: usize = 8;

/// How many tables are looked at for the first lease, and how long each.
const GUARDS: usize = 3;
const GUARD: Duration = Duration::from_secs(30);

/// The leases that a run has asked for.
pub(super) struct LeaseBook {
    /// Whether another run has taken the job over.
    pub(super) taken_over: Arc<TakenOver>,
    /// Held while one is asked for, so that entries of one place wait for each other, and renewals for none of them.
    asking: tokio::sync::Mutex<()>,
    places: Mutex<Vec<Arc<Place>>>,
    /// Where each entry writes.
    of: Mutex<BTreeMap<usize, Arc<Place>>>,
    /// The target's schemas whose place has a lease before any of their tables is planned.
    ahead: tokio::sync::Mutex<BTreeSet<Option<String>>>,
}

impl LeaseBook {
    /// `stop` ends the run.
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self {
            taken_over: Arc::new(TakenOver::new(stop)),
            asking: tokio::sync::Mutex::default(),
            places: Mutex::default(),
            of: Mutex::default(),
            ahead: tokio::sync::Mutex::default(),
        }
    }

    /// Where an entry writes, if the run has a lease there.
    pub(super) fn place_of(&self, index: usize) -> Option<Arc<Place>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).get(&index).cloned()
    }

    fn places(&self) -> MutexGuard<'_, Vec<Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self) -> Vec<Arc<Place>> {
        self.places().iter().filter(|place| place.refused.is_none()).cloned().collect()
    }

    /// An entry writes there, if it may.
    fn enter(&self, index: usize, place: Arc<Place>) -> Result<()> {
        if let Some(standing) = &place.refused {
            return Err(standing.refusal());
        }
        self.of.lock().unwrap_or_else(PoisonError::into_inner).insert(index, place);
        Ok(())
    }
}

impl Run {
    /// A table of a whole-database job that may start, with the lease where it writes.
    pub(super) async fn start_leased(&self, index: usize, context: &ConnectorContext) -> Result<EntryStart> {
        let plan = || async {
            // It takes a connection to the source, which is left to others while this one waits.
            let _connection = self.connection(index).await?;
            self.start_entry(index, context).await
        };
        let what = format!("planning {}", self.table_name(index).unwrap_or_default());
        let start = self.asking(&context.cancel, &what, plan).await?;
        self.reached.fetch_or(!start.is_over(), Relaxed);
        let taken = self.take_lease(index, &start.planned, context).await;
        // Where nothing is left to do it is taken only to be given back: the process that died has left it.
        if start.is_over() { Ok(start) } else { taken.map(|()| start) }
    }

    /// Takes the lease where the first table of a whole database goes, before anything is changed at the target. Where each
    /// table has a lease of its own, two runs would else go on side by side, each with the tables that it came to first.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) when a run of the job is at work there.
    pub(super) async fn take_first_lease(&self, context: &ConnectorContext) -> Result<()> {
        if !self.keeps_leases() {
            return Ok(());
        }
        let mut order: Vec<usize> = (0..self.job.entries.len()).collect();
        order.sort_by_cached_key(|index| self.table_name(*index));
        for index in order.into_iter().take(GUARDS) {
            let (entry, id) = (&self.job.entries[index], self.entry_id(index));
            let planning = plan_evolving(&self.job, entry, &id, context, Evolving::default());
            // What is wrong with a table is said when it has its turn.
            let Ok(Ok(planned)) = tokio::time::timeout(GUARD, planning).await else { continue };
            self.reached.store(true, Relaxed);
            match self.take_lease(index, &planned, context).await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Conflict => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Takes the lease where a table goes, before something of it is changed ahead of its turn; once for each schema.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) when a run of the job is at work there.
    pub(super) async fn take_lease_before(
        &self,
        index: usize,
        table: &TargetName,
        context: &ConnectorContext,
    ) -> Result<()> {
        if !self.keeps_leases() {
            return Ok(());
        }
        let mut ahead = self.leases.ahead.lock().await;
        if ahead.contains(&table.schema) {
            return Ok(());
        }
        let _connection = self.connection(index).await?;
        let (entry, id) = (&self.job.entries[index], self.entry_id(index));
        let planning = plan_evolving(&self.job, entry, &id, context, Evolving::default());
        let planned = match tokio::time::timeout(GUARD, planning).await {
            Ok(Ok(planned)) => planned,
            _ if context.cancel.is_cancelled() => return Err(Error::cancelled()),
            // What is wrong with a table is said when it has its turn; who does not answer is asked once.
            failed => {
                ahead.extend(failed.is_err().then(|| table.schema.clone()));
                return Ok(());
            }
        };
        match self.take_lease(index, &planned, context).await {
            Err(error) if error.kind() == ErrorKind::Conflict => return Err(error),
            taken => ahead.extend(taken.is_ok().then(|| table.schema.clone())),
        }
        Ok(())
    }

    /// Whether the run keeps others out. A job that nobody can tell from another, and a try of a few rows, keep nobody out,
    /// as on this machine.
    fn keeps_leases(&self) -> bool {
        (self.job.path.is_some() || self.job.name != UNNAMED) && self.options.limit.is_none()
    }

    /// Takes the lease at the place that an entry writes to, unless the run has it.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) when a run of the job is at work there.
    pub(super) async fn take_lease(
        &self,
        index: usize,
        planned: &PlannedEntry,
        context: &ConnectorContext,
    ) -> Result<()> {
        if !self.keeps_leases() {
            return Ok(());
        }
        let Some(leases) = planned.writer.leases() else { return Ok(()) };
        let Some(name) = leases.place(&planned.plan) else { return Ok(()) };
        let endpoint = self.job.entries[index].writer.clone();
        let _asking = self.leases.asking.lock().await;
        let enter = |place| self.leases.enter(index, place).map_err(|error| error.with("target", &planned.plan.table));
        let here = |known: &&Arc<Place>| known.endpoint.plugin == endpoint.plugin && known.name == name;
        let known = self.leases.places().iter().find(here).cloned();
        if let Some(known) = known {
            return enter(known);
        }
        let first = self.leases.places().first().map(|first| first.lease.clone());
        let lease = match first {
            Some(lease) => lease,
            None => Lease {
                job: self.job.name.clone(),
                run_id: self.run_id.clone(),
                holder: self.holder()?,
                machine: machine(),
                process: std::process::id(),
                seconds: SECONDS,
            },
        };
        self.refuse_orphan(index, planned, leases, &lease, context).await?;
        let asked = SystemTime::now();
        let take = || context.until_cancelled(leases.take(&planned.plan, &lease));
        let refused = self.again(index, &planned.plan, take, "taking the lease on").await;
        let refused = refused.map_err(|error| error.with("target", &planned.plan.table))?;
        let place = Arc::new(Place {
            name,
            endpoint,
            plan: planned.plan.clone(),
            lease,
            refused,
            io: context.io.clone(),
            time_zone: context.time_zone,
            seen: Seen::at(asked),
            taken_over: self.leases.taken_over.clone(),
        });
        self.leases.places().push(place.clone());
        enter(place)
    }

    /// Returns when something may be changed, or land, where an entry writes: at once, unless the run was away for longer than
    /// its lease lasts.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) when another run has taken the job over; else why the target did not tell, or that
    /// `stop` came first.
    pub(super) async fn still_leased(&self, index: usize, stop: &CancellationToken) -> Result<()> {
        match self.leases.place_of(index) {
            Some(place) => place.still_held(stop).await,
            None => Ok(()),
        }
    }

    /// Whatever this state folder knows: another one's run may have died here, and its lease is all that tells.
    async fn refuse_orphan(
        &self,
        index: usize,
        planned: &PlannedEntry,
        leases: &dyn Leases,
        lease: &Lease,
        context: &ConnectorContext,
    ) -> Result<()> {
        // Tables of a whole database share places.
        let mut tables = self.job.entries.iter().filter_map(|entry| entry.table.as_ref());
        let appends = appends(&planned.plan) || tables.any(|table| table.mode == WriteMode::Append);
        if !appends || self.options.start == Start::Fresh {
            return Ok(());
        }
        let asking = || context.until_cancelled(leases.orphan(&planned.plan, lease));
        let orphan = self.again(index, &planned.plan, asking, "looking at").await;
        match orphan.map_err(|error| error.with("target", &planned.plan.table))? {
            // By its own name too: what an earlier version wrote under it, and another state folder remembers.
            Some(orphan) if orphan.run_id != self.run_id || !self.continued => {
                Err(orphan.refusal().with("target", &planned.plan.table))
            }
            _ => Ok(()),
        }
    }

    /// Renews the leases until it is stopped. A run that finds that another one has taken one over, while this one was frozen
    /// or cut off, ends.
    pub(super) async fn renew_leases(&self) {
        let (mut begun, mut told) = (SystemTime::now(), BTreeSet::new());
        loop {
            // By the clock on the wall: a machine that sleeps counts no time of its own.
            while begun.elapsed().is_ok_and(|since| since < RENEWAL) {
                tokio::time::sleep(LOOK).await;
            }
            begun = SystemTime::now();
            let renewing = self.leases.taken().into_iter().map(|place| async move { (place.renew().await, place) });
            let mut renewing = futures::stream::iter(renewing).buffer_unordered(AT_ONCE);
            while let Some((renewed, place)) = renewing.next().await {
                if self.leases.taken_over.is() {
                    return;
                }
                // The next round may do better; until the target has said so, nothing counts as renewed.
                if let Err(error) = renewed {
                    let table = &place.plan.table;
                    tracing::debug!(%error, table, "a lease was not renewed");
                    if !place.seen.is_fresh() && told.insert(table.clone()) {
                        self.warn(&format!("nothing lands in {table} until the run's lease there is renewed: {error}"));
                    }
                }
            }
        }
    }

    /// Gives the leases back. What fails leaves one that ends by itself. So does what is kept on purpose: where a run falls
    /// short of its end and rows are there for good, the lease tells other machines of it.
    pub(super) async fn give_leases_back(&self, ended: &Ended) {
        let stays = |end: &EntryEnd| match &end.plan {
            Some(plan) if plan.commits_per_split => !end.receipts.is_empty(),
            Some(plan) => plan.mode == WriteMode::Append && end.result.is_ok(),
            None => false,
        };
        let keeps = !ended.succeeded() && (self.continued || ended.entries.iter().any(stays)) && self.ledger.is_some();
        let taken = if keeps { Vec::new() } else { self.leases.taken() };
        let give = |place: Arc<Place>| async move {
            let (writer, _stop) = place.writer()?;
            match writer.leases() {
                Some(leases) => leases.release(&place.plan, &place.lease).await,
                None => Ok(()),
            }
        };
        let giving = taken.iter().map(|place| twice(move || give(place.clone())));
        // Who stops a run does not wait for a courtesy.
        let patience = if self.options.cancel.is_cancelled() { CLEAN_UP / 10 } else { CLEAN_UP * 2 };
        match tokio::time::timeout(patience, futures::future::join_all(giving)).await {
            Ok(given) => {
                for error in given.into_iter().filter_map(Result::err) {
                    tracing::debug!(%error, "a lease was not given back");
                }
            }
            Err(_) => tracing::debug!("the leases were not given back in time"),
        }
    }

    /// The state folder's own name; a run without one can never be sure to be the only one.
    fn holder(&self) -> Result<String> {
        match &self.options.state_dir {
            Some(folder) if self.ledger.is_some() => name_of(folder),
            _ => Ok(uuid::Uuid::now_v7().simple().to_string()),
        }
    }
}

/// The name of a state folder, which it is given once.
fn name_of(folder: &Path) -> Result<String> {
    use std::io::Write;
    let path = folder.join("id");
    for _ in 0..3 {
        match std::fs::read_to_string(&path) {
            Ok(name) if name.len() == 32 && name.chars().all(|c| c.is_ascii_hexdigit()) => return Ok(name),
            Ok(_) => std::fs::remove_file(&path).context("file", path.display())?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("file", path.display()),
        }
        let name = uuid::Uuid::now_v7().simple().to_string();
        let draft = folder.join(format!("id.{name}"));
        let written = std::fs::File::create(&draft).and_then(|mut file| {
            file.write_all(name.as_bytes())?;
            file.sync_all()
        });
        // Of two that name it at once the first one's name stands.
        let linked = written.and_then(|()| std::fs::hard_link(&draft, &path));
        let linked = match linked {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            // A file system without further names.
            Err(_) => std::fs::rename(&draft, &path),
            Ok(()) => Ok(()),
        };
        let _ = std::fs::remove_file(&draft);
        linked.context("file", path.display())?;
    }
    Err(Error::internal("the state folder cannot be named").with("folder", folder.display()))
}

/// The machine's name, as far as it has one.
fn machine() -> String {
    let file = |path| std::fs::read_to_string(path).ok();
    let name = file("/proc/sys/kernel/hostname").or_else(|| file("/etc/hostname"));
    let name = name.or_else(|| std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME")).ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "without a name".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_keeps_its_name() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = name_of(one.path()).unwrap();
        assert_eq!(name_of(one.path()).unwrap(), name);
        assert_ne!(name_of(other.path()).unwrap(), name);
        std::fs::write(one.path().join("id"), "torn").unwrap();
        assert_ne!(name_of(one.path()).unwrap(), name);
        assert_eq!(std::fs::read_dir(one.path()).unwrap().count(), 1);
    }
}
