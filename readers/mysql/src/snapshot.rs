//! One moment for all splits: connections whose snapshots are opened together, before the first row is read.
//!
//! A MySQL connection cannot join another one's snapshot. So as many connections as there will be readers start their
//! transactions at one moment, and every split is read in one of them. That it was one moment is certain where locks
//! kept the writers out meanwhile (`consistency: snapshot`); by default the server's binlog position tells, where the
//! user may read it (see `together`).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures::future::try_join_all;
use serde_json::json;
use weir_core::{Check, ConnectorContext, Error, ErrorKind, Result, Snapshot, SnapshotGuard};
use weir_mysql::{
    Options, QUOTING, RowSession, Server, Session, Setup, Table, committed, connect_first, connect_rows, grants,
    looked_ahead_all, position, server, written,
};

use crate::config::Consistency;
use crate::lock::{Locks, locked};
use crate::pool::{Pool, Token, turn};
use crate::reader::MySqlReader;
use crate::together::together;

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

    /// Finds out which of these tables have rows, of each server's.
    pub(crate) async fn look(&self, tables: &[Vec<String>], context: &ConnectorContext) -> Result<()> {
        for (pool, tables) in self.pools.iter().zip(tables) {
            pool.look(tables, context).await?;
        }
        Ok(())
    }

    /// Whether tables can still be read in it.
    pub(crate) fn lives(&self) -> bool {
        self.pools.iter().all(|pool| pool.alive() > 0)
    }
}

/// Whether the rows of a table stay in a snapshot.
fn is_kept(table: &Table) -> bool {
    !table.view && table.transactional
}

/// The tables that a whole-database job has looked at, and whose rows stay in a snapshot.
pub(crate) fn tables_ahead(context: &ConnectorContext, options: &[Options]) -> Vec<String> {
    let all = looked_ahead_all(&context.shared, options).into_iter().filter(is_kept);
    all.map(|table| table.name.quoted(QUOTING)).collect()
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
pub(crate) struct Place {
    pub(crate) control: Session,
    pub(crate) server: Server,
    pub(crate) sessions: Vec<RowSession>,
    /// What LOCK TABLES would name.
    pub(crate) tables: Option<Vec<String>>,
    /// Those of them that were left out, and what is to be said of that.
    pub(crate) held: BTreeMap<String, String>,
}

#[async_trait]
impl Snapshot for MySqlReader {
    async fn begin(&self, channels: usize) -> Result<SnapshotGuard> {
        let described = self.described().await?;
        let mut keys = Vec::new();
        let (mut sites, mut bases, mut servers) = (Vec::<Site>::new(), Vec::<Vec<String>>::new(), Vec::new());
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
                bases.push(Vec::new());
            }
            servers.push(number);
            if described.table.as_ref().is_some_and(is_kept) {
                bases[number].push(described.from.clone());
            }
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
                // What the run will read besides may be emptied before it has its turn.
                for (site, bases) in sites.iter().zip(&mut bases) {
                    bases.extend(tables_ahead(&self.context, &site.options));
                }
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
        let hold = Hold { context: self.context.clone(), made, shared };
        let made = &hold.made;
        made.look(&bases, &self.context).await?;
        let mut description = made.description.clone();
        if apart && !shared && made.covers.is_some() {
            description += "; the moment is one of these tables alone, other tables of the run have others";
        }
        if !unsafe_tables.is_empty() {
            description += &format!("; {} is read as it is, for its engine has no snapshots", unsafe_tables.join(", "));
        }
        let token = json!(Token { id: made.id.clone(), servers });
        let moments = reported.then(|| (name, made.id.clone())).into_iter().collect();
        Ok(SnapshotGuard { token, description, moments, hold: Box::new(hold) })
    }
}

/// One server of the job.
pub(crate) struct Site {
    pub(crate) options: Vec<Options>,
    /// The tables that are read there; `None` where nobody knows them all, for views and statements are read.
    pub(crate) tables: Option<Vec<String>>,
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
pub(crate) async fn start(places: &mut [Place]) -> Result<()> {
    let sessions = places.iter_mut().flat_map(|p| &mut p.sessions);
    try_join_all(sessions.map(|session| session.run(START))).await.map(drop)
}

pub(crate) fn count(places: &[Place]) -> String {
    match places.iter().map(|p| p.sessions.len()).sum() {
        1 => "one connection".into(),
        n => format!("{n} connections"),
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
    let found = async {
        let server = server(session).await?;
        let told = position(session, &server).await?.is_some();
        Ok::<_, Error>((told, server.mariadb || committed(session, &server).await?.is_some()))
    };
    match found.await {
        Ok((true, true)) => Check::ok(
            what,
            "connections that are opened together, and the server's position tells whether that was one moment: the \
             report says so",
        ),
        Ok((true, false)) => Check::warning(
            what,
            "connections that are opened together, and the server's position tells whether that was one moment, but for \
             transactions in the midst of their commit, which MySQL tells only with gtid_mode = ON: \
             `consistency: snapshot` makes sure",
        ),
        Ok((false, _)) => Check::warning(
            what,
            "connections that are opened together; the server's position is not readable, so it is not certain that they \
             see one moment: `consistency: snapshot` makes sure",
        ),
        Err(error) => Check::fault(what, error.full()),
    }
}
