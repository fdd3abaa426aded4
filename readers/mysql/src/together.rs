//! Connections that begin together, without a lock: whether that was one moment, the server's position in its binlog tells.
//!
//! MySQL's binlog has a transaction before the tables do, so its position stands still while one comes to an end. Where
//! transactions have names (`gtid_mode`), it says which of them have; else such a one may be in some snapshots only.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use weir_core::Result;
use weir_mysql::{Committed, committed, position};

use crate::snapshot::{Place, count, start};

/// How often the connections are opened together anew while the position moves.
const ATTEMPTS: usize = 5;

/// How long a commit takes from the binlog to the tables, as a rule: what is waited for needs no other attempt.
const SETTLE: Duration = Duration::from_millis(10);

/// Opens the snapshots at one moment and looks whether the servers stood still meanwhile; no lock, no privilege.
pub(crate) async fn together(places: &mut [Place]) -> Result<String> {
    // One connection sees one moment, whatever the server does.
    if places.iter().map(|p| p.sessions.len()).sum::<usize>() == 1 {
        start(places).await?;
        return Ok("one snapshot in one connection".into());
    }
    let mut taken = Duration::ZERO;
    for attempt in 1..=ATTEMPTS {
        let (before, old, applied) = (positions(places).await?, ended(places).await?, received(places).await?);
        if before.is_some() {
            // A transaction stands in the binlog a moment before its rows are to be seen: let such ones come to an end.
            tokio::time::sleep(SETTLE).await;
        }
        let begun = Instant::now();
        start(places).await?;
        taken = begun.elapsed();
        let new = ended(places).await?;
        let (after, inside) = (positions(places).await?, inside(places).await?);
        let still = applied == received(places).await?;
        if let Some(inside) = inside.filter(|_| still) {
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
        if before == after && still {
            match (old, new) {
                (Some(old), Some(new)) if !all_ended(&old, &new) => {}
                (Some(_), Some(_)) => {
                    return Ok(format!("one snapshot in {}, binlog {after} equal before and after", count(places)));
                }
                _ => {
                    return Ok(format!(
                        "{} opened together within {} ms, binlog {after} equal before and after: they see one moment, but \
                         for transactions in the midst of their commit, which MySQL tells only with gtid_mode = ON: \
                         `consistency: snapshot` makes sure",
                        count(places),
                        taken.as_millis()
                    ));
                }
            }
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

/// How far MariaDB servers that follow others have come with what they receive, which is in their own binlog only where they
/// are told to (`log_slave_updates`).
async fn received(places: &mut [Place]) -> Result<Vec<Option<String>>> {
    let mut all = Vec::new();
    for place in places.iter_mut().filter(|place| place.server.mariadb) {
        all.push(place.control.row::<Option<String>>("SELECT @@GLOBAL.gtid_slave_pos").await?.flatten());
    }
    Ok(all)
}

/// What MySQL servers say of transactions that have come to an end, empty for MariaDB, which begins a snapshot at a position of
/// its binlog; `None` where one does not tell.
async fn ended(places: &mut [Place]) -> Result<Option<Vec<Committed>>> {
    let mut all = Vec::new();
    for place in places.iter_mut().filter(|place| !place.server.mariadb) {
        match committed(&mut place.control, &place.server).await? {
            Some(committed) => all.push(committed),
            None => return Ok(None),
        }
    }
    Ok(Some(all))
}

/// Whether no transaction has come to an end between the two, nor is about to.
fn all_ended(old: &[Committed], new: &[Committed]) -> bool {
    old.iter().zip(new).all(|(old, new)| old.executed == new.executed && !new.more)
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
