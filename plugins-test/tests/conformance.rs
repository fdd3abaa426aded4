//! The conformance library finds nothing wrong with the in-memory connectors, and does find what is wrong.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use serde_json::{Value, json};
use weir_core::WriteMode;
use weir_plugins_test::conformance::{self, Cells, Laid, Source, Table, Target};
use weir_plugins_test::memory::{self, Trouble};

static COUNT: AtomicUsize = AtomicUsize::new(0);

struct Memory {
    prefix: String,
    trouble: Trouble,
}

impl Memory {
    fn new(trouble: Trouble) -> Self {
        Self { prefix: format!("conformance {}", COUNT.fetch_add(1, Ordering::Relaxed)), trouble }
    }

    fn key(&self, table: &str) -> String {
        format!("{}/{table}", self.prefix)
    }
}

#[async_trait]
impl Source for Memory {
    fn plugin(&self) -> &'static str {
        "memory"
    }

    async fn lay(&self, table: &Table) -> Laid {
        let key = self.key(&table.name);
        memory::source(&key).splits(3).batches(vec![table.rows.clone()]).trouble(self.trouble.clone()).put();
        Laid::At(json!({ "key": key }))
    }

    async fn missing(&self) -> Option<Value> {
        Some(json!({ "key": self.key("missing") }))
    }
}

#[async_trait]
impl Target for Memory {
    fn plugin(&self) -> &'static str {
        "memory"
    }

    async fn parameters(&self, table: &str, mode: WriteMode) -> Option<Value> {
        Some(json!({ "key": self.key(table), "writeMode": mode.name() }))
    }

    async fn lay(&self, table: &Table) -> Result<(), &'static str> {
        let target = memory::target(&self.key(&table.name)).batches(vec![table.rows.clone()]);
        target.trouble(self.trouble.clone()).put();
        Ok(())
    }

    async fn contents(&self, table: &str) -> Option<Cells> {
        memory::exists(&self.key(table)).then(|| memory::published(&self.key(table)))
    }

    async fn inventory(&self) -> Vec<String> {
        memory::inventory(&self.prefix)
    }
}

#[test]
fn the_registry_is_in_order() {
    conformance::check_registry();
}

#[tokio::test]
async fn the_memory_reader_conforms() {
    conformance::check_source(&Memory::new(Trouble::none())).await;
}

#[tokio::test]
async fn the_memory_writer_conforms() {
    conformance::check_target(&Memory::new(Trouble::none())).await;
}

#[tokio::test]
async fn a_reader_that_loses_a_row_does_not() {
    let memory = Memory::new(Trouble::none().refuse_row(11));
    let check = std::panic::AssertUnwindSafe(conformance::check_source(&memory));
    let message = check.catch_unwind().await.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("- splits under skew: it rejects good rows"), "{message}");
}

#[tokio::test]
async fn a_writer_that_publishes_twice_does_not() {
    let memory = Memory::new(Trouble::none().forget_runs());
    let check = std::panic::AssertUnwindSafe(conformance::check_target(&memory));
    let message = check.catch_unwind().await.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("append: a second commit publishes nothing"), "{message}");
}
