//! The foreign keys between the tables of a run: dropped when the first of their tables has its turn, put back however the
//! run ends.
//!
//! The tables become visible one by one, in any order: with the keys in force, rows would be refused whose counterparts come
//! a moment later, or be deleted with those that go first. What is dropped is in the ledger before it is, so that the next
//! run of the job puts back what a dead one could not.
//!
//! A key that a run of the job has made and the source has no more is dropped in the same way, and does not come back.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use weir_core::{ConnectorContext, Error, ErrorKind, Hold, Reference, Result, TargetName};

use super::waiting::{SOON, aloud};
use super::{CLEAN_UP, GIVEN_UP, Run};
use crate::database::evolve::TableChangeRecord;
use crate::database::references::{gone, is_made, place_of, present};
use crate::database::{at_target, look_at_target};
use crate::job::{Job, UNNAMED};
use crate::ledger::{DroppedKey, MadeKey};

/// Of how many tables the keys are dropped at once: each takes a connection.
const AT_ONCE: usize = 8;

/// What is left of [`CLEAN_UP`] to put keys back, but for what a task takes that does not notice the stop.
const FOR_KEYS: Duration = Duration::from_millis(600);

/// The keys of a run.
#[derive(Default)]
pub(super) struct KeyBook {
    /// The tables that refer to others of the run.
    children: Vec<Child>,
    /// For each entry those of them that have a part in it: itself, and those that refer to it.
    of_entry: HashMap<usize, Vec<usize>>,
    /// What is to be put back, by table and name.
    dropped: Mutex<BTreeMap<(String, String), DroppedKey>>,
}

/// A table that refers to others of the run.
struct Child {
    /// Its entry.
    index: usize,
    table: TargetName,
    references: Vec<Reference>,
    /// Keys that runs have made of it, and that the source has no more: these do not come back.
    gone: Vec<MadeKey>,
    /// Whether its keys are out of the way, or why not.
    released: OnceCell<Option<(ErrorKind, String)>>,
}

impl KeyBook {
    /// `made` are the keys that runs of the job have made, by their tables.
    pub fn of(job: &Job, made: HashMap<String, Vec<MadeKey>>) -> Self {
        let tables = || job.entries.iter().enumerate().filter_map(|(index, e)| Some((index, e.table.as_deref()?)));
        let at: HashMap<&TargetName, usize> = tables().map(|(index, table)| (&table.target, index)).collect();
        let mut book = Self::default();
        for (index, table) in tables() {
            let references: Vec<_> = table.references.iter().filter(|key| at.contains_key(&key.to)).cloned().collect();
            let made = made.get(&table.target.to_string()).zip(job.database.as_ref());
            let gone = made.map(|(made, database)| gone(table, made, database, |to| at.contains_key(to)));
            let gone = gone.unwrap_or_default();
            let onto = references.iter().map(|key| &key.to).chain(gone.iter().map(|one| &one.key.to));
            let mut parts: Vec<usize> = onto.filter_map(|to| at.get(to).copied()).collect();
            if gone.is_empty() && parts.is_empty() {
                continue;
            }
            parts.push(index);
            parts.sort_unstable();
            parts.dedup();
            for part in parts {
                book.of_entry.entry(part).or_default().push(book.children.len());
            }
            let (table, released) = (table.target.clone(), OnceCell::new());
            book.children.push(Child { index, table, references, gone, released });
        }
        book
    }

    fn dropped(&self) -> MutexGuard<'_, BTreeMap<(String, String), DroppedKey>> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, keys: Vec<DroppedKey>) {
        let name = |key: &DroppedKey| (key.table.to_string(), key.definition.key.name.clone());
        self.dropped().extend(keys.into_iter().map(|key| (name(&key), key)));
    }
}

impl Run {
    /// Takes over the keys that an earlier run has dropped and could not put back.
    pub(super) async fn take_over_keys(&self) -> Result<()> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            ledger.dropped_keys(self.keys_of()).await?.into_iter().partition(|key| key.place == self.place());
        for key in elsewhere {
            self.warn(&format!(
                "run {} has dropped a foreign key of {}, and the job writes elsewhere now: {}",
                key.run_id, key.table, key.definition.statement
            ));
            ledger.forget_key(self.keys_of(), &key).await?;
        }
        self.keys.add(here);
        Ok(())
    }

    /// Lets a table become visible in any order with those that it refers to, and that refer to it.
    ///
    /// # Errors
    /// That its own keys cannot be dropped. Those of another table onto this one then stay in force, and the other one fails.
    pub(super) async fn release_keys(&self, index: usize, context: &ConnectorContext) -> Result<()> {
        let Some(children) = self.keys.of_entry.get(&index) else { return Ok(()) };
        if self.is_published(index).await? {
            return Ok(());
        }
        let name = self.table_name(index);
        // Boxed, here and below: the compiler cannot prove a stream of plain borrowing futures to be `Send`.
        let work = children.iter().filter_map(|child| self.keys.children.get(*child)).map(|child| {
            let released = child.released.get_or_init(|| self.release_all(child, context));
            async move { (child, released.await) }.boxed()
        });
        let mut work = futures::stream::iter(work.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        let mut own = Ok(());
        while let Some((child, released)) = work.next().await {
            if let Some((kind, why)) = released
                && Some(child.table.to_string()) == name
            {
                own = Err(Error::new(*kind, format!("its foreign keys cannot be dropped while it is moved: {why}")));
            }
        }
        own
    }

    async fn release_all(&self, child: &Child, context: &ConnectorContext) -> Option<(ErrorKind, String)> {
        let what = format!("dropping the foreign keys of {}", child.table);
        let once = || aloud(self.options.observer.as_ref(), &what, SOON, self.release_once(child, context));
        let released = self.step(&what, &context.cancel, Error::is_retryable, once).await;
        released.err().map(|error| (error.kind(), error.full()))
    }

    async fn release_once(&self, child: &Child, context: &ConnectorContext) -> Result<()> {
        let Some(database) = &self.job.database else { return Ok(()) };
        let endpoint = at_target(database, &child.table)?;
        let writer = endpoint.open_writer(&ConnectorContext { form: endpoint.form, ..context.clone() })?;
        let Some(able) = writer.evolve() else { return Ok(()) };
        let mut keys = context.until_cancelled(able.foreign_keys(&child.references)).await?;
        let gone = context.until_cancelled(present(able, &child.gone)).await?;
        keys.retain(|key| !gone.iter().any(|gone| gone.key.name == key.key.name));
        if keys.is_empty() && gone.is_empty() {
            return self.forget_gone(child, &[]).await;
        }
        self.take_lease_before(child.index, &child.table, context).await?;
        let of = |definition: &weir_core::KeyDefinition| DroppedKey {
            run_id: self.run_id.clone(),
            place: self.place(),
            table: child.table.clone(),
            definition: definition.clone(),
        };
        let dropped: Vec<_> = keys.iter().map(of).collect();
        // Before they are dropped: whatever ends the run in between, somebody puts them back.
        if let Some(ledger) = &self.ledger {
            ledger.drop_keys(self.keys_of(), &dropped).await?;
        }
        self.keys.add(dropped);
        let records: Vec<_> = gone.iter().map(TableChangeRecord::of_key).collect();
        let numbers = match self.journal() {
            Some(journal) => {
                let source = self.job.entries[child.index].table.as_ref().map(|table| table.source());
                journal.write(&source.unwrap_or_default(), &child.table.to_string(), &records, true).await?
            }
            None => Vec::new(),
        };
        keys.extend(gone);
        // Not left in mid-air by a stop: the server would drop them after they were put back.
        able.release(&keys).await?;
        self.forget_gone(child, &numbers).await
    }

    /// The keys of a table that the source has no more are at the target no more either: the changes of these numbers are done.
    /// What an earlier run has dropped of them does not come back.
    async fn forget_gone(&self, child: &Child, numbers: &[i64]) -> Result<()> {
        if child.gone.is_empty() {
            return Ok(());
        }
        let is_gone = |key: &DroppedKey| {
            let made = || child.gone.iter().any(|one| is_made(&key.definition.key, &one.key));
            key.table == child.table && made()
        };
        let forgotten: Vec<_> = self.keys.dropped().extract_if(.., |_, key| is_gone(key)).map(|(_, key)| key).collect();
        if let Some(ledger) = &self.ledger {
            for key in &forgotten {
                ledger.forget_key(self.keys_of(), key).await?;
            }
        }
        let Some(journal) = self.journal() else { return Ok(()) };
        journal.ledger.changes_done(numbers).await?;
        journal.ledger.unmake_keys(journal.job, &child.table.to_string(), &child.gone).await
    }

    /// Puts back what was dropped, whoever wants the run to end: then only until [`CLEAN_UP`] is over. What cannot be put back
    /// is said.
    pub(super) async fn put_keys_back(&self, context: &ConnectorContext) {
        let mut left = std::mem::take(&mut *self.keys.dropped());
        if left.is_empty() {
            return;
        }
        let stop = CancellationToken::new();
        let context = ConnectorContext { cancel: stop.clone(), ..context.clone() };
        let keys: Vec<DroppedKey> = left.values().cloned().collect();
        // A run that has taken the job over has its own tables in hand.
        let overtaken = self.leases.taken_over.is();
        let keys = if overtaken { Vec::new() } else { keys };
        let _ahead = tokio::select! {
            biased;
            ahead = self.look_at_tables_of(&keys, &context) => ahead,
            () = self.clock.since_stop(CLEAN_UP) => None,
        };
        let late = self.clock.since_stop(CLEAN_UP);
        tokio::pin!(late);
        // One after the other: each locks the table that it refers to as well, and would wait for others until it gives up.
        for key in &keys {
            let mut work = self.restore(key, &context).boxed();
            let result = tokio::select! {
                biased;
                result = &mut work => result,
                () = &mut late => {
                    stop.cancel();
                    // The server is told, and its answer is waited for: it may have made the key meanwhile.
                    tokio::select! {
                        result = &mut work => result,
                        () = self.clock.since_stop(GIVEN_UP) => Err(Error::cancelled()),
                    }
                }
            };
            if stop.is_cancelled() && result.is_err() {
                break;
            }
            left.remove(&(key.table.to_string(), key.definition.key.name.clone()));
            match (result, &self.ledger) {
                (Ok(()), Some(ledger)) => {
                    if let Err(error) = ledger.forget_key(self.keys_of(), key).await {
                        tracing::debug!(%error, "a key that is back stays in the ledger");
                    }
                }
                (Ok(()), None) => {}
                (Err(error), _) => self.missing_key(key, &error.full()),
            }
            if stop.is_cancelled() {
                break;
            }
        }
        let why = match overtaken {
            true => "a run on another machine has the job now",
            false => "there was no time to put it back",
        };
        for key in left.values() {
            self.missing_key(key, why);
        }
    }

    /// Looks at the tables of keys.
    async fn look_at_tables_of(&self, keys: &[DroppedKey], context: &ConnectorContext) -> Option<Hold> {
        let mut tables: Vec<TargetName> = keys.iter().map(|key| key.table.clone()).collect();
        tables.dedup();
        look_at_target(self.job.database.as_ref()?, &tables, context).await
    }

    /// How long after a stop the run may finish or take back what goes on: keys that are dropped are to be put back as well.
    pub(super) fn clean_up(&self) -> Duration {
        if self.keys.dropped().is_empty() { CLEAN_UP } else { CLEAN_UP - FOR_KEYS }
    }

    async fn restore(&self, key: &DroppedKey, context: &ConnectorContext) -> Result<()> {
        let Some(database) = &self.job.database else { return Ok(()) };
        let what = format!("putting the foreign keys of {} back", key.table);
        let restore = || async {
            let endpoint = at_target(database, &key.table)?;
            let writer = endpoint.open_writer(&ConnectorContext { form: endpoint.form, ..context.clone() })?;
            match writer.evolve() {
                Some(able) => able.restore(&key.definition).await,
                None => Ok(()),
            }
        };
        let once = || aloud(self.options.observer.as_ref(), &what, SOON, restore());
        self.step(&what, &context.cancel, Error::is_retryable, once).await
    }

    fn missing_key(&self, key: &DroppedKey, why: &str) {
        let next = match &self.ledger {
            Some(_) => "the next run of the job tries again",
            None => "make it yourself",
        };
        self.warn(&format!(
            "{} is not complete: its foreign key {} was dropped by run {} and is not back: {why}; {next}: {}",
            key.table, key.definition.key.name, key.run_id, key.definition.statement
        ));
    }

    /// Says which keys are still missing, when the run ends before it can do anything about it.
    pub(super) async fn say_missing_keys(&self) {
        let Some(ledger) = self.ledger.as_ref().filter(|_| self.job.database.is_some()) else { return };
        match ledger.dropped_keys(self.keys_of()).await {
            Ok(keys) => keys.iter().for_each(|key| self.missing_key(key, "this run did not come to it")),
            Err(error) => self.warn(&format!("whether foreign keys are still missing is not known: {}", error.full())),
        }
    }

    /// Whose keys they are in the ledger: jobs without a name of their own have only their runs in common.
    fn keys_of(&self) -> &str {
        if self.job.name == UNNAMED && self.job.path.is_none() { &self.run_id } else { &self.job.name }
    }

    /// The target system, as far as it tells where keys were dropped.
    fn place(&self) -> String {
        self.job.database.as_deref().map(place_of).unwrap_or_default()
    }

    /// Whether an earlier process has published an entry for good.
    async fn is_published(&self, index: usize) -> Result<bool> {
        let Some(ledger) = self.ledger.as_ref().filter(|_| self.continued) else { return Ok(false) };
        let records = self.records.get_or_try_init(|| ledger.entries(&self.run_id)).await?;
        Ok(records.iter().any(|record| record.entry as usize == index && record.committed.is_some()))
    }
}
