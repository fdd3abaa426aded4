//! One moment for all tables: money moves between them while they are read, and none is lost or made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use serde_json::{Value, json};
use weir_plugins_test::servers::{self, Database};

use super::{database_job, run_ok};

const ROWS: u64 = 20_000;
const EACH: u64 = 100;

/// Moves money from one table to the other, a transaction at a time, until it is told to stop; says how often.
fn pay(bank: &Database, over: &Arc<AtomicBool>, number: u64) -> tokio::task::JoinHandle<u64> {
    let (bank, over) = (bank.clone(), over.clone());
    let paid = AtomicU64::new(0);
    tokio::spawn(async move {
        while !over.load(Relaxed) {
            let n = paid.fetch_add(1, Relaxed);
            // Far from each other, in either direction.
            let (from, to) = ((n * 7919 + number) % ROWS, ROWS - 1 - (n * 104_729 + number) % ROWS);
            let (payer, payee) = if n.is_multiple_of(2) { ("cash", "bank") } else { ("bank", "cash") };
            bank.execute(&format!(
                "BEGIN; UPDATE {payer} SET v = v - 1 WHERE id = {from}; UPDATE {payee} SET v = v + 1 WHERE id = {to}; COMMIT"
            ))
            .await;
        }
        paid.into_inner()
    })
}

async fn moved(source: (&str, Database, Value), target: Database) {
    let (connector, bank, mut parameter) = source;
    for table in ["cash", "bank"] {
        bank.execute(&format!(
            "CREATE TABLE {table} (id int NOT NULL PRIMARY KEY, v bigint NOT NULL, pad varchar(200))"
        ))
        .await;
        for first in (0..ROWS).step_by(2_000) {
            let values: Vec<_> =
                (first..first + 2_000).map(|id| format!("({id}, {EACH}, '{}')", "x".repeat(150))).collect();
            bank.execute(&format!("INSERT INTO {table} VALUES {}", values.join(", "))).await;
        }
    }
    parameter["url"] = bank.url().into();
    let to = json!({"url": target.url()});
    let more = json!({"naming": {"schema": "{TARGET_SCHEMA}"}});
    let job = database_job((connector, parameter), ("postgresql", to), more);
    let over = Arc::new(AtomicBool::new(false));
    let paying: Vec<_> = (0..3).map(|number| pay(&bank, &over, number)).collect();
    let mut sums = Vec::new();
    for _ in 0..3 {
        run_ok(&job).await;
        let sum = "SELECT (SELECT sum(v) FROM cash) || ' ' || (SELECT sum(v) FROM bank)";
        sums.push(target.value(sum).await);
    }
    over.store(true, Relaxed);
    for paying in paying {
        assert!(paying.await.unwrap() > 50, "{connector}: hardly anybody paid");
    }
    for sum in &sums {
        let total: u64 = sum.split(' ').map(|one| one.parse::<u64>().unwrap()).sum();
        assert_eq!(total, 2 * ROWS * EACH, "{connector}: {sums:?}");
    }
    let v = "SELECT count(*) FROM (SELECT * FROM cash UNION ALL SELECT * FROM bank) t WHERE v <> 100";
    assert_ne!(target.value(v).await, "0", "{connector}: nobody paid before the last run");
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_moves_in_postgresql_is_neither_lost_nor_made() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("money").await, server.fresh_database("moneytoo").await);
    moved(("postgresql", source, json!({})), target).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_moves_in_mariadb_is_neither_lost_nor_made() {
    let source = servers::mariadb().await.fresh_database("money").await;
    let target = servers::postgresql().await.fresh_database("moneymaria").await;
    moved(("mysql", source, json!({"consistency": "snapshot"})), target).await;
}
