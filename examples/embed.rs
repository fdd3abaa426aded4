//! Jobs inside a service: two at once, watched by an observer, one of them stopped half-way.
//!
//! `cargo run --example embed`

// A service links the connectors it wants by naming their crates; the `weir` facade links those of its features.
use std::sync::Arc;
use std::time::Duration;

use weir::{Event, LoadOptions, Observer, Quarantine, RunOptions, Status, job};

/// Tells a log what happens; a service would feed its metrics here.
struct Log(&'static str);

impl Observer for Log {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Started { run_id, .. } => println!("{}: run {run_id} begins", self.0),
            Event::Committed { target, description } => println!("{}: {target}: {description}", self.0),
            Event::Warning(text) => println!("{}: warning: {text}", self.0),
            // Called from the run's threads, ten times a second: quick work only.
            _ => {}
        }
    }
}

const COUNT: &str = r#"{"job": {"name": "count", "content": [{
    "reader": {"name": "stream", "parameter": {"column": ["a", 1], "sliceRecordCount": 100000}},
    "writer": {"name": "stream", "parameter": {}}}]}}"#;

const SLOW: &str = r#"{"job": {"name": "slow", "setting": {"speed": {"record": 1000}}, "content": [{
    "reader": {"name": "stream", "parameter": {"column": ["b", 2], "sliceRecordCount": 1000000}},
    "writer": {"name": "stream", "parameter": {}}}]}}"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count = job::load(COUNT, &LoadOptions::default())?;
    let slow = job::load(SLOW, &LoadOptions::default())?;

    // Each run has its own threads, counters and limits; nothing is shared, nothing is global.
    let options =
        |name| RunOptions { observer: Arc::new(Log(name)), quarantine: Quarantine::Off, ..RunOptions::default() };
    let slow_options = options("slow");
    let stop = slow_options.cancel.clone();
    let (count, slow, ()) =
        tokio::join!(weir::run(&count, options("count")), weir::run(&slow, slow_options), async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            stop.cancel();
        });

    println!("count: {:?}, {} rows in {} ms", count.status, count.rows_written, count.elapsed_ms);
    println!("slow: {:?} after {} ms", slow.status, slow.elapsed_ms);
    assert_eq!(count.status, Status::Succeeded);
    assert_eq!(slow.status, Status::Stopped);
    Ok(())
}
