//! Locks that keep writers out while the connections of a snapshot begin.

use std::collections::BTreeMap;

use weir_core::{Error, ErrorKind, Result, ResultExt};
use weir_mysql::Session;

use crate::snapshot::{Place, count, start};

/// How long the lock on all tables of a whole-database job is waited for, which may be kept from them by one.
const ALL_SECONDS: u32 = 5;
/// How long each table is waited for while those are looked for that somebody holds.
const EACH_SECONDS: u32 = 1;
/// How often the tables are gone through for those that somebody holds.
const ATTEMPTS: usize = 5;

const FLUSH: &str = "FLUSH TABLES WITH READ LOCK";
const LOCK: &str = "LOCK TABLES … READ";
const LOCK_INSTEAD: &str = "LOCK TABLES … READ, for FLUSH TABLES WITH READ LOCK waited in vain";

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

/// Passes on what no other statement could do better.
fn pass(error: Error) -> Result<()> {
    match error.kind() {
        ErrorKind::Cancelled | ErrorKind::Unreachable | ErrorKind::Timeout => Err(error),
        _ => Ok(()),
    }
}

/// Keeps writers out while the snapshots are opened.
/// Also says whether the moment is one for tables that are not the job entry's own.
pub(crate) async fn locked(places: &mut [Place], locks: Locks) -> Result<(String, bool)> {
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
    let told = |error: Error| {
        match error.kind() {
        // Another attempt would keep everybody else waiting for as long again.
        ErrorKind::Timeout => Error::new(
            ErrorKind::Timeout,
            "no lock within lock_wait_timeout (a minute, unless `session` sets it): a long statement or transaction holds \
             the tables; wait for it, or use `consistency: auto`",
        )
        .retryable(false)
        .because(error),
        _ => error,
    }
    };
    let statement = match place.control.run(FLUSH).await {
        Ok(()) => return Ok(Ok(FLUSH)),
        // It waits for statements too that are in nobody's way.
        Err(error) if locks == Locks::AllButHeld && error.kind() == ErrorKind::Timeout => LOCK_INSTEAD,
        Err(error) => pass(error).map(|()| LOCK).map_err(told)?,
    };
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
        Ok(()) => Ok(Ok(statement)),
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
