//! Faults at random moments of real runs: whatever breaks, calling again with the same `--run-id` brings every row to the
//! target once, and no reader is ever shown half of an overwrite.
//!
//! `WEIR_FAULTS` is how many (a few by default, for CI), `WEIR_SEED` where the random choices begin: a failure prints
//! the seed of its own case, so that `WEIR_SEED=… WEIR_FAULTS=1` repeats it. The whole:
//!
//! ```text
//! WEIR_FAULTS=300 cargo test --test faults -- --nocapture
//! ```

#![cfg(feature = "cli")]

mod case;
mod fault;
mod place;
mod random;
mod watch;

use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use case::Case;
use fault::NOT_RUN;
use place::Places;
use random::Random;

/// How many faults a plain test run makes.
const FEW: u64 = 12;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_arrives_once_whatever_breaks() {
    let (faults, first) = (number("WEIR_FAULTS", FEW), number("WEIR_SEED", 1));
    let mut places = Places::start().await;
    let mut broken = Vec::new();
    let mut told = std::collections::BTreeMap::<String, usize>::new();
    for seed in first..first + faults {
        let case = Case::random(&mut Random::new(seed), seed);
        println!("seed {seed}: {case}");
        *told.entry(case.route()).or_default() += 1;
        // What panics is a case that failed, not the end of the others.
        let ended = AssertUnwindSafe(case.run(&mut places)).catch_unwind().await;
        let ended = ended.unwrap_or_else(|_| Err("the case panicked, see above".into()));
        match ended {
            Ok(()) => {}
            Err(reason) if reason.starts_with(NOT_RUN) => weir_plugins_test::not_run(&reason),
            Err(fault) => {
                println!("seed {seed} FAILED: {fault}");
                broken.push(format!("seed {seed}: {case}\n{fault}"));
            }
        }
    }
    for (route, number) in told {
        println!("{number:4}  {route}");
    }
    assert!(broken.is_empty(), "{} of {faults} cases failed:\n\n{}", broken.len(), broken.join("\n\n"));
}
