//! What lies between a reader and a writer, measured by criterion: the time that one batch takes on its way through
//! metering, limits, conversion and the channel of a real run. Its rows are not copied, so how many they are hardly counts.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use weir_benches::{KINDS, batch};
use weir_plugins_test::memory;
use weir_runtime::{LoadOptions, RunOptions, job};

/// As many as `lineitem` has.
const COLUMNS: usize = 16;

/// A run of `batches` times the same batch.
fn run(runtime: &Runtime, batch: &RecordBatch, batches: u64, speed: &Value) -> Duration {
    memory::source("rows").batches(vec![batch.clone(); batches as usize]).put();
    memory::target("rows").put();
    let end = json!({"name": "memory", "parameter": {"key": "rows"}});
    let job = json!({"job": {"content": [{"reader": end, "writer": end}], "setting": {"speed": speed}}});
    let job = job::load(&job.to_string(), &LoadOptions::default()).unwrap();
    let start = Instant::now();
    let report = runtime.block_on(weir_runtime::run(&job, RunOptions::default()));
    let elapsed = start.elapsed();
    assert_eq!((report.exit_code(), report.rows_written), (0, batches * batch.num_rows() as u64));
    elapsed
}

fn channel(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let columns = (0..COLUMNS).map(|n| (format!("c{n}"), batch(KINDS[n % KINDS.len()]).column(0).clone(), false));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut group = criterion.benchmark_group("a batch, from reader to writer");
    let limited = json!({"channel": 1, "byte": u64::MAX >> 12, "record": u64::MAX >> 12});
    for (name, speed) in [("no limit", json!({"channel": 1})), ("rows and bytes limited", limited)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|batches| run(&runtime, &batch, batches, &speed));
        });
    }
}

criterion_group!(runs, channel);
criterion_main!(runs);
