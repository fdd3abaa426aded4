//! Faults at random moments of real runs: whatever breaks, calling again with the same `--run-id` brings every row to the
//! target once, and no reader is ever shown half of an overwrite. One case in four is a whole database of several tables.
//!
//! `WEIR_FAULTS` is how many (a few by default, for CI), `WEIR_SEED` where the random choices begin: a failure prints
//! the seed of its own case, so that `WEIR_SEED=… WEIR_FAULTS=1` repeats it. `WEIR_AT_ONCE` is how many cases go on side by
//! side. The whole:
//!
//! ```text
//! WEIR_FAULTS=300 cargo test -p weir --test faults -- --nocapture
//! ```

#![cfg(feature = "cli")]

mod call;
mod case;
mod database;
mod fault;
mod place;
mod random;
mod watch;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::{FutureExt, StreamExt};

use case::Case;
use database::DatabaseCase;
use fault::NOT_RUN;
use place::Places;
use random::Random;

/// How many faults a plain test run makes.
const FEW: u64 = 12;

/// How many cases go on side by side, each with servers of its own: most of the time of each is waiting.
const AT_ONCE: u64 = 3;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// One case of so many is of a whole database.
const DATABASES: u64 = 4;

enum AnyCase {
    Table(Case),
    Database(DatabaseCase),
}

impl AnyCase {
    fn random(seed: u64) -> Self {
        let mut random = Random::new(seed);
        match seed % DATABASES {
            0 => Self::Database(DatabaseCase::random(&mut random, seed)),
            _ => Self::Table(Case::random(&mut random, seed)),
        }
    }

    fn route(&self) -> String {
        match self {
            Self::Table(case) => case.route(),
            Self::Database(case) => case.route(),
        }
    }

    async fn run(&self, places: &mut Places) -> Result<(), String> {
        match self {
            Self::Table(case) => case.run(places).await,
            Self::Database(case) => case.run(places).await,
        }
    }
}

impl std::fmt::Display for AnyCase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Table(case) => write!(f, "{case}"),
            Self::Database(case) => write!(f, "{case}"),
        }
    }
}

/// How one case ended.
enum Ended {
    Well,
    NotRun(String),
    Broken(String),
}

async fn one(seed: u64, case: &AnyCase, pool: &Mutex<Vec<Places>>) -> Ended {
    println!("seed {seed}: {case}");
    let begun = Instant::now();
    let places = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let Some(mut places) = places else { return Ended::Broken(format!("seed {seed}: no servers are free")) };
    // What panics is a case that failed, not the end of the others.
    let ended = AssertUnwindSafe(case.run(&mut places)).catch_unwind().await;
    pool.lock().unwrap_or_else(PoisonError::into_inner).push(places);
    let ended = ended.unwrap_or_else(|_| Err("the case panicked, see above".into()));
    println!(
        "seed {seed}: {} in {:.1} s",
        if ended.is_ok() { "well" } else { "FAILED" },
        begun.elapsed().as_secs_f64()
    );
    match ended {
        Ok(()) => Ended::Well,
        Err(reason) if reason.starts_with(NOT_RUN) => Ended::NotRun(reason),
        Err(fault) => {
            println!("seed {seed} FAILED: {fault}");
            Ended::Broken(format!("seed {seed}: {case}\n{fault}"))
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_row_arrives_once_whatever_breaks() {
    let (faults, first) = (number("WEIR_FAULTS", FEW), number("WEIR_SEED", 1));
    let at_once = number("WEIR_AT_ONCE", AT_ONCE).clamp(1, faults.max(1));
    let mut all = Vec::new();
    // One after the other: servers that are set up at once get into each other's way.
    for _ in 0..at_once {
        all.push(Places::start().await);
    }
    let (begun, pool) = (Instant::now(), Arc::new(Mutex::new(all)));
    let cases = futures::stream::iter(first..first + faults).map(|seed| {
        let pool = pool.clone();
        async move {
            let case = AnyCase::random(seed);
            let route = case.route();
            // A task of its own: a case that holds its thread up, for a server starts, holds up no other.
            let ended = tokio::spawn(async move { one(seed, &case, &pool).await }).await;
            (route, ended.unwrap_or_else(|error| Ended::Broken(format!("seed {seed}: {error}"))))
        }
    });
    let mut cases = cases.buffer_unordered(usize::try_from(at_once).unwrap());
    let mut broken = Vec::new();
    let mut told = std::collections::BTreeMap::<String, usize>::new();
    while let Some((route, ended)) = cases.next().await {
        *told.entry(route).or_default() += 1;
        match ended {
            Ended::Well => {}
            Ended::NotRun(reason) => weir_plugins_test::not_run(&reason),
            Ended::Broken(fault) => broken.push(fault),
        }
    }
    for (route, number) in told {
        println!("{number:4}  {route}");
    }
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let met = call::MET.load(Relaxed);
    println!(
        "{faults} cases in {minutes:.1} minutes, {:.1} a minute; {met} faults met a run at work",
        faults as f64 / minutes
    );
    assert!(broken.is_empty(), "{} of {faults} cases failed:\n\n{}", broken.len(), broken.join("\n\n"));
}
