//! One moment for all splits: connections whose snapshots are opened together, before the first row is read.
//!
//! A MySQL connection cannot join another one's snapshot. So as many connections as there will be readers start their
//! transactions at one moment, and every split is read in one of them. That it was one moment is certain where locks
//! kept the writers out meanwhile (`consistency: snapshot`); by default the server's binlog position tells, where the
//! user may read it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures::future::try_join_all;
use serde_json::json;
use weir_core::{Check, ConnectorContext, Error, ErrorKind, Result, ResultExt, Snapshot, SnapshotGuard};
use weir_mysql::{
    Options, RowSession, Server, Session, Setup, connect_first, connect_rows, grants, position, server, written,
};

use crate::config::Consistency;
use crate::pool::{Pool, Token, turn};
use crate::reader::MySqlReader;

/// How often the connections are opened together anew while the position moves.
const ATTEMPTS: usize = 5;
/// How long a lock may be waited for. Who waits for one keeps all the others waiting.
const LOCK_SECONDS: u32 = 60;
/// How long the lock on all tables of a whole-database job is waited for, which may be kept from them by one.
const ALL_SECONDS: u32 = 5;
/// How long each table is waited for while those are looked for that somebody holds.
const EACH_SECONDS: u32 = 1;

/// How long a commit takes from the binlog to the tables, as a rule.
const SETTLE: Duration = Duration::from_millis(10);

const FLUSH: &str = "FLUSH TABLES WITH READ LOCK";
const START: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT";

/// The snapshots that the tables of a run share, where they lie on the same servers: one, or as many as there are sources of
/// a whole-database job that had to lock their tables one by one.
#[derive(Default)]
pub(crate) struct Common(pub(crate) tokio::sync::Mutex<Vec<Made>>);

impl Common {
    /// Under which name a run leaves it.
    pub(crate) fn name(servers: &[Option<ServerKey>], certain: bool, setup: &Setup) -> String {
        format!("mysql snapshot of {servers:?} {certain} {:?}", setup.session)
    }
}

/// What tells servers apart: place, user and database.
pub(crate) type ServerKey = (String, String, Option<String>);

pub(crate) fn server_key(options: &[Options]) -> Option<ServerKey> {
    options.first().map(|o| (o.place(), o.user.clone(), o.database.clone()))
}

#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) description: String,
    pools: Arc<Vec<Arc<Pool>>>,
    /// The only tables for which it is one moment; `None` for all of the servers'.
    covers: Option<Arc<HashSet<String>>>,
    /// Tables that it leaves out, for somebody held them or they were gone, and what is to be said of that.
    held: Arc<BTreeMap<String, String>>,
    /// How many connections to each server were asked for.
    channels: usize,
}

impl Made {
    pub(crate) fn pools(&self) -> Arc<Vec<Arc<Pool>>> {
        self.pools.clone()
    }

    /// Whether it is, or was, one moment for these tables; `None` where nobody knows which they are.
    pub(crate) fn covers(&self, tables: Option<&[String]>) -> bool {
        match (&self.covers, tables) {
            (None, _) => true,
            (Some(covers), Some(tables)) => tables.iter().all(|table| covers.contains(table)),
            (Some(_), None) => false,
        }
    }

    /// What to say of a table that it leaves out.
    fn refusal(&self, tables: &[String]) -> Option<Error> {
        let (table, reason) = tables.iter().find_map(|table| self.held.get_key_value(table))?;
        let text = format!("the snapshot was begun without the table: {reason}");
        Some(Error::new(ErrorKind::Conflict, text).with("table", table))
    }

    /// Whether tables can still be read in it.
    pub(crate) fn lives(&self) -> bool {
        self.pools.iter().all(|pool| pool.alive() > 0)
    }
}

/// What becomes of the connections when the splits of a table have been read.
struct Hold {
    context: ConnectorContext,
    made: Made,
    /// Whether other tables of the run go on with them.
    shared: bool,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.shared {
            self.context.shared.remove(&self.made.id);
            return;
        }
        // The tables that were read are locked against ALTER and DROP until then, also the run's own.
        for pool in self.made.pools.iter() {
            while let Some(mut loan) = pool.take() {
                let context = self.context.clone();
                self.context.io.spawn(async move {
                    let Ok(session) = loan.session() else { return };
                    session.serve(&context);
                    if session.run("ROLLBACK TO SAVEPOINT weir").await.is_ok() {
                        loan.give_back();
                    }
                });
            }
        }
    }
}

/// One server of the job, while the snapshot is made.
struct Place {
    control: Session,
    server: Server,
    sessions: Vec<RowSession>,
    /// What LOCK TABLES would name.
    tables: Option<Vec<String>>,
    /// Those of them that were left out, and what is to be said of that.
    held: BTreeMap<String, String>,
}

#[async_trait]
impl Snapshot for MySqlReader {
    async fn begin(&self, channels: usize) -> Result<SnapshotGuard> {
        let described = self.described().await?;
        let mut keys = Vec::new();
        let (mut sites, mut servers) = (Vec::<Site>::new(), Vec::new());
        let mut tables = Some(Vec::new());
        let mut unsafe_tables = Vec::new();
        for (location, described) in self.locations.iter().zip(described.iter()) {
            let key = server_key(&location.options);
            tables = tables.filter(|_| !described.query);
            tables.iter_mut().for_each(|all: &mut Vec<String>| all.push(described.from.clone()));
            let number = keys.iter().position(|k| *k == key).unwrap_or(keys.len());
            if number == keys.len() {
                keys.push(key);
                sites.push(Site { options: location.options.clone(), tables: Some(Vec::new()) });
            }
            servers.push(number);
            match (&mut sites[number].tables, &described.table) {
                (Some(tables), Some(table)) if !table.view => tables.push(described.from.clone()),
                (tables, _) => *tables = None,
            }
            if described.table.as_ref().is_some_and(|t| !t.transactional) {
                unsafe_tables.push(described.label.clone());
            }
        }
        let certain = self.consistency() == Consistency::Snapshot;
        if certain && !unsafe_tables.is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the storage engine of {} has no snapshots: use InnoDB, or `consistency: auto`",
                    unsafe_tables.join(", ")
                ),
            ));
        }
        // What an earlier part of the run has written needs a snapshot from after that.
        let written = sites.iter().any(|site| {
            let first = site.options.first();
            first.is_some_and(|o| written::any(&self.context.shared, o, site.tables.as_deref()))
        });
        let name = Common::name(&keys, certain, &self.setup);
        let common: Arc<Common> =
            if written { Arc::default() } else { self.context.shared.find_or_leave(&name, Default::default) };
        let mut slot = common.0.lock().await;
        let apart = !slot.is_empty() || keys.len() > 1;
        let at = slot.iter().position(|made| made.covers(tables.as_deref()));
        let refusal = |made: &Made| made.refusal(tables.as_deref().unwrap_or_default());
        if let Some(error) = slot.iter().find_map(refusal).filter(|_| at.is_none()) {
            return Err(error);
        }
        let found = at.and_then(|at| slot.get(at)).cloned();
        // Tables that were read in a lost one show an earlier moment: the runtime learns that from what is reported here.
        let mut reported = found.is_some();
        let (made, shared) = match found {
            Some(made) if made.lives() => (made, true),
            lost => {
                let covered = lost.as_ref().and_then(|lost| lost.covers.clone());
                // The others may have to be read again, at this moment. Only one server's tables are ever covered so.
                if let (Some(covered), [site]) = (&covered, sites.as_mut_slice()) {
                    site.tables = Some(covered.iter().cloned().collect());
                }
                let before = lost.as_ref().map(|lost| lost.held.clone()).unwrap_or_default();
                let channels = lost.map_or(1, |lost| lost.channels).max(channels);
                let locks = match (certain, &covered) {
                    (false, _) => Locks::None,
                    (true, None) => Locks::All,
                    (true, Some(_)) => Locks::AllButHeld,
                };
                let mut made = make(sites, channels, locks, &self.setup, &self.context).await?;
                // What the run's first moment was begun without has none in the next one.
                if !before.is_empty() {
                    Arc::make_mut(&mut made.held)
                        .extend(before.iter().map(|(table, why)| (table.clone(), why.clone())));
                }
                let shared = !written && (made.covers.is_none() || covered.is_some());
                if shared {
                    match at.and_then(|at| slot.get_mut(at)) {
                        Some(lost) => *lost = made.clone(),
                        None => slot.push(made.clone()),
                    }
                }
                reported |= shared;
                if let Some(error) = refusal(&made) {
                    // The others go on with what was made, or nobody does.
                    drop(Hold { context: self.context.clone(), made, shared });
                    return Err(error);
                }
                (made, shared)
            }
        };
        let mut description = made.description.clone();
        if apart && !shared && made.covers.is_some() {
            description += "; the moment is one of these tables alone, other tables of the run have others";
        }
        if !unsafe_tables.is_empty() {
            description += &format!("; {} is read as it is, for its engine has no snapshots", unsafe_tables.join(", "));
        }
        let token = json!(Token { id: made.id.clone(), servers });
        let moments = reported.then(|| (name, made.id.clone())).into_iter().collect();
        let hold = Box::new(Hold { context: self.context.clone(), made, shared });
        Ok(SnapshotGuard { token, description, moments, hold })
    }
}

/// One server of the job.
pub(crate) struct Site {
    pub(crate) options: Vec<Options>,
    /// The tables that are read there; `None` where nobody knows them all, for views and statements are read.
    pub(crate) tables: Option<Vec<String>>,
}

/// Whether writers are kept out while snapshots begin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locks {
    /// They are not.
    None,
    /// From all tables that are read.
    All,
    /// From those tables that nobody holds, for what is wrong with one is no fault of the others.
    AllButHeld,
}

/// Opens connections and begins in them.
pub(crate) async fn make(
    sites: Vec<Site>,
    channels: usize,
    locks: Locks,
    setup: &Setup,
    context: &ConnectorContext,
) -> Result<Made> {
    let mut places = Vec::with_capacity(sites.len());
    let turn = turn(context).await;
    for Site { options, tables } in sites {
        let mut control = connect_first(&options, setup, context).await?;
        let server = server(&mut control).await?;
        let connect = || connect_rows(&options, setup, context);
        let sessions = try_join_all((0..channels).map(|_| connect())).await?;
        places.push(Place { control, server, sessions, tables, held: BTreeMap::new() });
    }
    let (description, for_all) =
        if locks == Locks::None { (together(&mut places).await?, true) } else { locked(&mut places, locks).await? };
    let sessions = places.iter_mut().flat_map(|p| &mut p.sessions);
    try_join_all(sessions.map(|session| session.run("SAVEPOINT weir"))).await?;
    let covers = (!for_all).then(|| Arc::new(places.iter_mut().filter_map(|p| p.tables.take()).flatten().collect()));
    let (mut pools, mut held) = (Vec::with_capacity(places.len()), BTreeMap::new());
    for place in places {
        place.control.close().await;
        held.extend(place.held);
        pools.push(Arc::new(Pool::of(place.sessions)));
    }
    drop(turn);
    let pools = Arc::new(pools);
    let id = fresh_id();
    context.shared.leave(id.clone(), pools.clone());
    Ok(Made { id, description, pools, covers, held: Arc::new(held), channels })
}

fn fresh_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_nanos()).unwrap_or_default();
    format!("mysql snapshot {}-{now}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Begins a transaction in every connection, all at once.
async fn start(places: &mut [Place]) -> Result<()> {
    let sessions = places.iter_mut().flat_map(|p| &mut p.sessions);
    try_join_all(sessions.map(|session| session.run(START))).await.map(drop)
}

fn count(places: &[Place]) -> String {
    match places.iter().map(|p| p.sessions.len()).sum() {
        1 => "one connection".into(),
        n => format!("{n} connections"),
    }
}

/// Opens the snapshots at one moment and looks whether the servers stood still meanwhile; no lock, no privilege.
async fn together(places: &mut [Place]) -> Result<String> {
    // One connection sees one moment, whatever the server does.
    if places.iter().map(|p| p.sessions.len()).sum::<usize>() == 1 {
        start(places).await?;
        return Ok("one snapshot in one connection".into());
    }
    let mut taken = Duration::ZERO;
    for attempt in 1..=ATTEMPTS {
        let before = positions(places).await?;
        if before.is_some() {
            // A transaction stands in the binlog a moment before its rows are to be seen: let such ones come to an end.
            tokio::time::sleep(SETTLE).await;
        }
        let begun = Instant::now();
        start(places).await?;
        taken = begun.elapsed();
        let (after, inside) = (positions(places).await?, inside(places).await?);
        if let Some(inside) = inside {
            return Ok(format!("one snapshot in {}, binlog {inside} in each of them", count(places)));
        }
        let (Some(before), Some(after)) = (before, after) else {
            return Ok(format!(
                "{} opened together within {} ms; the server's position is not readable, so it is not certain that they \
                 see one moment: `consistency: snapshot` makes sure",
                count(places),
                taken.as_millis()
            ));
        };
        if before == after {
            return Ok(format!("one snapshot in {}, binlog {after} equal before and after", count(places)));
        }
        if attempt < ATTEMPTS {
            let sessions = places.iter_mut().flat_map(|p| &mut p.sessions);
            try_join_all(sessions.map(|session| session.run("ROLLBACK"))).await?;
            // Another pause each time, so that a writer with a beat of its own is not met at the same point.
            tokio::time::sleep(Duration::from_millis(7 * attempt as u64)).await;
        }
    }
    Ok(format!(
        "{} opened together within {} ms; the server was written to meanwhile in each of {ATTEMPTS} attempts, so splits \
         may see moments that far apart: `consistency: snapshot` makes sure",
        count(places),
        taken.as_millis()
    ))
}

/// The servers' positions in their binlogs; `None` where one does not tell.
async fn positions(places: &mut [Place]) -> Result<Option<String>> {
    let mut all = Vec::new();
    for place in places {
        match position(&mut place.control, &place.server).await? {
            Some(position) => all.push(position),
            None => return Ok(None),
        }
    }
    Ok(Some(all.join(", ")))
}

/// The binlog position that every snapshot itself was taken at, which MariaDB tells everybody; `None` where they differ
/// or nobody tells.
async fn inside(places: &mut [Place]) -> Result<Option<String>> {
    let mut found = Vec::new();
    for place in places {
        if !place.server.mariadb {
            return Ok(None);
        }
        let mut of_place = Vec::new();
        for session in &mut place.sessions {
            let rows = session.cells("SHOW STATUS LIKE 'binlog\\_snapshot\\_%'").await?;
            let rows = rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect());
            let mut rows: Vec<Vec<String>> = rows.collect();
            rows.retain(|row| {
                matches!(row[0].to_lowercase().as_str(), "binlog_snapshot_file" | "binlog_snapshot_position")
            });
            rows.sort();
            of_place.push(rows.into_iter().map(|mut row| row.pop().unwrap_or_default()).collect::<Vec<_>>().join(":"));
        }
        of_place.dedup();
        match of_place.as_slice() {
            [one] if !one.starts_with(':') && !one.is_empty() => found.push(one.clone()),
            _ => return Ok(None),
        }
    }
    Ok(Some(found.join(", ")))
}

/// Passes on what no other statement could do better.
fn pass(error: Error) -> Result<()> {
    match error.kind() {
        ErrorKind::Cancelled | ErrorKind::Unreachable | ErrorKind::Timeout => Err(error),
        _ => Ok(()),
    }
}

/// Keeps writers out while the snapshots are opened.
/// Also says whether the moment is one for tables that are not the job entry's own.
async fn locked(places: &mut [Place], locks: Locks) -> Result<(String, bool)> {
    let mut how = Vec::new();
    let mut refused = None;
    for place in places.iter_mut() {
        match lock(place, locks).await? {
            Ok(statement) => how.push(statement),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    if let Some(error) = refused {
        release(places).await?;
        if places.len() > 1 {
            return Err(Error::new(
                ErrorKind::Denied,
                "`consistency: snapshot` over several servers takes locks on each of them: grant RELOAD, or SELECT and \
                 LOCK TABLES on the tables",
            )
            .because(error));
        }
        // One connection sees one moment without any lock, and all tables in it.
        places.iter_mut().for_each(|place| {
            place.sessions.truncate(1);
            place.held.clear();
        });
        start(places).await?;
        let description = "one snapshot in one connection, in which splits are read one after another: the user may not \
                           lock tables (grant RELOAD, or LOCK TABLES)";
        return Ok((description.into(), true));
    }
    let started = start(places).await;
    release(places).await?;
    started?;
    how.dedup();
    let for_all = how == [FLUSH];
    Ok((format!("one snapshot in {}, opened under {}", count(places), how.join(", ")), for_all))
}

async fn release(places: &mut [Place]) -> Result<()> {
    for place in places {
        place.control.run("UNLOCK TABLES").await?;
    }
    Ok(())
}

/// Locks a server's tables against writers. The inner error is a privilege that is missing.
async fn lock(place: &mut Place, locks: Locks) -> Result<Result<&'static str>> {
    // Relatives that do not know the variable wait as long as they like.
    let _ = place.control.raw(&format!("SET SESSION lock_wait_timeout = {LOCK_SECONDS}")).await?;
    let told = |error: Error| {
        match error.kind() {
        // Another attempt would keep everybody else waiting for as long again.
        ErrorKind::Timeout => Error::new(
            ErrorKind::Timeout,
            format!(
                "no lock within {LOCK_SECONDS} s: a long statement or transaction holds the tables; wait for it, or use \
                 `consistency: auto`"
            ),
        )
        .retryable(false)
        .because(error),
        _ => error,
    }
    };
    match place.control.run(FLUSH).await {
        Ok(()) => return Ok(Ok(FLUSH)),
        // It waits for statements too that are in nobody's way.
        Err(error) if locks == Locks::AllButHeld && error.kind() == ErrorKind::Timeout => {}
        Err(error) => pass(error).map_err(told)?,
    }
    let Some(tables) = &place.tables else {
        return Ok(Err(Error::new(ErrorKind::Denied, "LOCK TABLES cannot name the tables of a statement")));
    };
    let mut tables = tables.clone();
    tables.sort();
    tables.dedup();
    let locked = match locks {
        Locks::AllButHeld => all_but_held(&mut place.control, &mut tables, &mut place.held).await,
        _ => place.control.run(&lock_tables(&tables)).await,
    };
    place.tables = Some(tables);
    match locked {
        Ok(()) => Ok(Ok("LOCK TABLES … READ")),
        Err(error) => match pass(Error::new(error.kind(), error.message())) {
            Ok(()) => Ok(Err(error)),
            Err(_) => Err(told(error)).context("statement", "LOCK TABLES"),
        },
    }
}

fn lock_tables(tables: &[String]) -> String {
    let tables: Vec<_> = tables.iter().map(|table| format!("{table} READ")).collect();
    format!("LOCK TABLES {}", tables.join(", "))
}

/// Locks those of the tables that are there and that nobody holds; the others go from `tables` to `held`, with what is to be
/// said of them.
async fn all_but_held(
    control: &mut Session,
    tables: &mut Vec<String>,
    held: &mut BTreeMap<String, String>,
) -> Result<()> {
    let patience = |seconds| format!("SET SESSION lock_wait_timeout = {seconds}");
    for attempt in 1.. {
        if tables.is_empty() {
            return Ok(());
        }
        let _ = control.raw(&patience(ALL_SECONDS)).await?;
        // Where one is gone, nothing is known of the others yet.
        let each = match control.run(&lock_tables(tables)).await {
            Err(error) if error.kind() == ErrorKind::NotFound && attempt < ATTEMPTS => ALL_SECONDS,
            Err(error) if left_out(&error).is_some() && attempt < ATTEMPTS => EACH_SECONDS,
            done => return done,
        };
        let _ = control.raw(&patience(each)).await?;
        for table in std::mem::take(tables) {
            // Each lock gives back the one before.
            match control.run(&lock_tables(std::slice::from_ref(&table))).await {
                Ok(()) => tables.push(table),
                Err(error) => match left_out(&error) {
                    Some(reason) => drop(held.insert(table, reason)),
                    None => return Err(error),
                },
            }
        }
    }
    Ok(())
}

/// What to say of a table that cannot be locked, where that is no fault of the others.
fn left_out(error: &Error) -> Option<String> {
    match error.kind() {
        ErrorKind::Timeout => Some(format!("another session holds it: {}", error.full())),
        ErrorKind::NotFound => Some(error.full()),
        _ => None,
    }
}

/// How `consistency` would be kept; the attempt itself would stop others. `database` is where the tables are, the
/// connection's own where nothing else is said.
pub(crate) async fn check(session: &mut Session, consistency: Consistency, database: Option<String>) -> Check {
    let what = Check::ONE_SNAPSHOT;
    match consistency {
        Consistency::Snapshot => {}
        Consistency::Auto => return by_position(session).await,
        Consistency::None => {
            return Check::ok(what, "none, as the job says: each split sees the moment of its own read");
        }
    }
    let own: Option<String> = session.row::<Option<String>>("SELECT DATABASE()").await.ok().flatten().flatten();
    let database = database.or(own);
    match grants(session).await {
        Ok(Some(grants)) if grants.allow("RELOAD", "", "") => Check::ok(what, "by FLUSH TABLES WITH READ LOCK"),
        Ok(Some(grants)) if grants.allow("LOCK TABLES", &database.unwrap_or_default(), "") => {
            Check::ok(what, "by LOCK TABLES … READ")
        }
        Ok(Some(_)) => Check::warning(
            what,
            "the user may not lock tables, so all splits are read in one connection: grant RELOAD, or LOCK TABLES",
        ),
        Ok(None) => Check::warning(what, "the server does not tell whether the user may lock tables"),
        Err(error) => Check::fault(what, error.full()),
    }
}

/// What `consistency: auto` comes to.
async fn by_position(session: &mut Session) -> Check {
    let what = Check::ONE_SNAPSHOT;
    let found = match server(session).await {
        Ok(server) => position(session, &server).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(Some(_)) => Check::ok(
            what,
            "connections that are opened together, and the server's position tells whether that was one moment: the \
             report says so",
        ),
        Ok(None) => Check::warning(
            what,
            "connections that are opened together; the server's position is not readable, so it is not certain that they \
             see one moment: `consistency: snapshot` makes sure",
        ),
        Err(error) => Check::fault(what, error.full()),
    }
}
