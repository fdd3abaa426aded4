//! Faults at random moments of real runs: whatever breaks, calling again with the same `--run-id` brings every row to the
//! target once, and no reader is ever shown half of an overwrite. One case in four is a whole database of several tables.
//!
//! `WEIR_FAULTS` is how many have to meet a run at work (a few by default, for CI): one that comes when the run is over, or
//! that this machine cannot make, proves nothing, and another case takes its place. `WEIR_SEED` is where the random choices
//! begin: a failure prints the seed of its own case, so that `WEIR_SEED=… WEIR_FAULTS=1` repeats it. `WEIR_AT_ONCE` is how
//! many cases go on side by side. The whole, which has to meet every route in every mode too:
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

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
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

/// From how many on it is the whole, which leaves no route out.
const WHOLE: u64 = 300;

/// How many cases there are at most for each fault that has to meet a run.
const CASES: u64 = 2;

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
            _ => {
                let number = usize::try_from(seed - seed / DATABASES).unwrap();
                Self::Table(Case::random(&mut random, seed, number))
            }
        }
    }

    fn route(&self) -> String {
        match self {
            Self::Table(case) => case.route(),
            Self::Database(case) => case.route(),
        }
    }

    async fn run(&self, places: &mut Places) -> Result<usize, String> {
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
    /// So many of its faults have met a run at work.
    Well(usize),
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
        Ok(met) => Ended::Well(met),
        Err(reason) if reason.starts_with(NOT_RUN) => Ended::NotRun(reason),
        Err(fault) => {
            println!("seed {seed} FAILED: {fault}");
            Ended::Broken(format!("seed {seed}: {case}\n{fault}"))
        }
    }
}

/// What has come of the cases so far.
#[derive(Default)]
struct Tally {
    cases: u64,
    met: u64,
    not_run: u64,
    broken: Vec<String>,
    /// By route: cases, and faults that met a run at work.
    routes: BTreeMap<String, (u64, u64)>,
}

impl Tally {
    fn add(&mut self, route: String, ended: Ended) {
        self.cases += 1;
        let (cases, met) = self.routes.entry(route).or_default();
        *cases += 1;
        match ended {
            Ended::Well(faults) => {
                *met += faults as u64;
                self.met += faults as u64;
            }
            Ended::NotRun(reason) => {
                self.not_run += 1;
                weir_plugins_test::not_run(&reason);
            }
            Ended::Broken(fault) => self.broken.push(fault),
        }
    }

    /// The routes on which no fault has met a run, as far as all of them have to be met.
    fn unmet(&self, faults: u64) -> BTreeSet<String> {
        let is_met = |route: &String| self.routes.get(route).is_some_and(|(_, met)| *met > 0);
        case::routes().filter(|route| faults >= WHOLE && !is_met(route)).collect()
    }

    fn is_enough(&self, faults: u64) -> bool {
        self.met >= faults && self.unmet(faults).is_empty()
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
    let tally = Mutex::new(Tally::default());
    let told = || tally.lock().unwrap_or_else(PoisonError::into_inner);
    // A seed is taken when the case before has made room, and only as long as something is missing.
    let seeds = (first..first + faults * CASES).take_while(|_| !told().is_enough(faults));
    let cases = futures::stream::iter(seeds).for_each_concurrent(usize::try_from(at_once).unwrap(), |seed| {
        let pool = pool.clone();
        async move {
            let case = AnyCase::random(seed);
            let route = case.route();
            // A task of its own: a case that holds its thread up, for a server starts, holds up no other.
            let ended = tokio::spawn(async move { one(seed, &case, &pool).await }).await;
            told().add(route, ended.unwrap_or_else(|error| Ended::Broken(format!("seed {seed}: {error}"))));
        }
    });
    cases.await;
    let unmet = told().unmet(faults);
    let Tally { cases, met, not_run, broken, routes } = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (route, (cases, met)) in routes {
        println!("{cases:4} cases, {met:4} faults met  {route}");
    }
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    println!(
        "{cases} cases in {minutes:.1} minutes, {:.1} a minute; {met} faults met a run at work, {not_run} cases not run",
        cases as f64 / minutes
    );
    assert!(broken.is_empty(), "{} of {cases} cases failed:\n\n{}", broken.len(), broken.join("\n\n"));
    assert!(met >= faults, "only {met} of {faults} faults met a run at work ({not_run} of {cases} cases not run)");
    assert!(unmet.is_empty(), "no fault met a run of {unmet:?}");
}
