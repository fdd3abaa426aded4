//! Random tables on every route, compared inside the databases.
//!
//! `WEIR_TABLES=10000 WEIR_SEED=1 cargo test -p weir --test it random_tables` runs as many tables as one likes; a
//! failure prints the seed of its table, which `WEIR_SEED=… WEIR_TABLES=1` runs again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use tokio::sync::Mutex;

use super::Type;
use super::literals::{Random, literal, varied};
use super::matrix::{FULL, Table, cells};
use super::page::types_of;
use super::place::{Place, System};
use super::target::Target;

/// What one worker's tables stand in, made when the first of them needs it: a database is dearer than a table.
struct Places {
    number: usize,
    folder: PathBuf,
    places: BTreeMap<(System, bool), Place>,
}

impl Places {
    async fn at(&mut self, system: System, target: bool) -> Place {
        if let Some(place) = self.places.get(&(system, target)) {
            return place.clone();
        }
        let role = if target { "to" } else { "from" };
        let place = Place::new(system, &format!("random_{role}{}", self.number), &self.folder).await;
        // A target gets the types of the user with the first table that needs them.
        if !target {
            place.execute(types_of(system).1).await;
        }
        self.places.insert((system, target), place.clone());
        place
    }
}

/// The table of a seed and its route: up to eight columns with up to twenty values each, and rows that have all of them.
async fn faults_of(seed: u64, places: &mut Places) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = Random(seed);
    let system = *random.pick(&System::ALL);
    let target = *random.pick(&Target::ALL);
    let all = types_of(system).0;
    let types: Vec<Type> = (0..1 + random.below(8))
        .map(|_| {
            let of = *random.pick(&all);
            if random.below(2) == 0 { varied(&mut random, system, of) } else { of }
        })
        .collect();
    let mut values = Vec::new();
    for (index, of) in types.iter().enumerate() {
        for i in 0..1 + random.below(20) {
            values.push(((index as i64) * 100 + i as i64 + 1, index, literal(&mut random, system, of, true)));
        }
    }
    for row in 0..random.below(8) as i64 {
        for (index, of) in types.iter().enumerate() {
            values.push((FULL + row, index, literal(&mut random, system, of, false)));
        }
    }
    let channels = 1 + random.below(3) as usize;
    let there = match target {
        Target::Database(to) => Some(places.at(to, true).await),
        _ => None,
    };
    let place = places.at(system, false).await;
    let table = Table { channels, ..Table::new(place, &format!("t{seed}"), types, values).await };
    let cells = cells(&table, target, there.as_ref(), folder.path()).await;
    table.place.clear().await;
    if let Some(place) = &there {
        place.clear().await;
    }
    let route = format!("{} → {}", system.name(), target.name());
    let of = table.types.iter().zip(cells);
    of.flat_map(|(Type(name, ..), cell)| cell.changed.into_iter().map(move |fault| format!("{name}: {fault}")))
        .map(|fault| format!("{route}: {fault}"))
        .collect()
}

/// What the workers share: the next seed, the one after the last, and what was found.
struct Run {
    first: u64,
    next: Cell<u64>,
    end: u64,
    faults: RefCell<BTreeMap<u64, Vec<String>>>,
}

async fn work(number: usize, run: Rc<Run>) {
    let folder = tempfile::tempdir().expect("a folder");
    let make = || Places { number, folder: folder.path().to_owned(), places: BTreeMap::new() };
    let mut places = Rc::new(Mutex::new(make()));
    while run.next.get() < run.end {
        let seed = run.next.replace(run.next.get() + 1);
        let of = places.clone();
        let done = tokio::task::spawn_local(async move { faults_of(seed, &mut *of.lock().await).await }).await;
        let found = done.unwrap_or_else(|error| {
            // What it left stays where it is.
            places = Rc::new(Mutex::new(make()));
            vec![format!("it broke: {error}")]
        });
        for fault in &found {
            eprintln!("WEIR_SEED={seed}: {fault}");
        }
        if !found.is_empty() {
            run.faults.borrow_mut().insert(seed, found);
        }
        let done = seed + 1 - run.first;
        if done.is_multiple_of(250) {
            eprintln!("{done} tables, {} of them with a difference", run.faults.borrow().len());
        }
    }
}

#[tokio::test]
async fn random_tables_arrive_intact() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("WEIR_SEED").unwrap_or(20_261_121);
    let end = first + number("WEIR_TABLES").unwrap_or(200);
    let run = Rc::new(Run { first, next: Cell::new(first), end, faults: RefCell::default() });
    let local = tokio::task::LocalSet::new();
    let workers = std::thread::available_parallelism().map_or(2, usize::from) + 1;
    for number in 0..workers {
        local.spawn_local(work(number, run.clone()));
    }
    local.await;
    assert!(run.faults.borrow().is_empty(), "run again with WEIR_SEED=… WEIR_TABLES=1: {:#?}", run.faults.borrow());
}
