//! The columns that the benches decode and encode: one kind of value each, as much alike those of TPC-H as the time that a
//! cell takes depends on.
//!
//! `cargo bench -p weir-benches` prints, for every decoder and encoder and every kind, the time of 65,536 cells, cells and
//! bytes per second, with a plain copy of the same bytes beside them. `benches/weir-bench` measures whole jobs.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Decimal128Array, Int64Array, RecordBatch, StringArray};

/// Rows of each batch.
pub const ROWS: usize = 65_536;

/// A kind of column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// For the report.
    pub name: &'static str,
    /// Its type at PostgreSQL.
    pub postgresql: &'static str,
    /// Its type at MySQL.
    pub mysql: &'static str,
}

/// All kinds.
pub const KINDS: [Kind; 5] = [
    Kind { name: "bigint, few", postgresql: "bigint", mysql: "bigint" },
    Kind { name: "bigint, all different", postgresql: "bigint", mysql: "bigint" },
    Kind { name: "decimal", postgresql: "numeric(15,2)", mysql: "decimal(15,2)" },
    Kind { name: "date", postgresql: "date", mysql: "date" },
    Kind { name: "text", postgresql: "text", mysql: "varchar(44)" },
];

/// A column of a kind, alone in a batch, without NULLs.
///
/// # Panics
/// Never: the columns are fixed.
pub fn batch(kind: Kind) -> RecordBatch {
    let rows = 0..ROWS as i64;
    let column: ArrayRef = match kind.name {
        "bigint, few" => Arc::new(Int64Array::from_iter_values(rows.map(|n| n * n % 50))),
        "bigint, all different" => Arc::new(Int64Array::from_iter_values(rows.map(|n| n * 4 + n % 3))),
        "decimal" => {
            let prices = Decimal128Array::from_iter_values(rows.map(|n| i128::from(n * 7919 % 10_000_019)));
            Arc::new(prices.with_precision_and_scale(15, 2).expect("15 digits are not too many"))
        }
        "date" => Arc::new(Date32Array::from_iter_values(rows.map(|n| 8036 + (n * 31 % 2500) as i32))),
        _ => {
            let words = ["regular", "furiously", "deposits", "ironic", "the", "packages", "sleep", "blithely"];
            let word = |n: i64| words[n as usize % words.len()];
            let text = |n: i64| format!("{} {} {}", word(n), word(n * 31 / 7), word(n / 3));
            Arc::new(StringArray::from_iter_values(rows.map(text)))
        }
    };
    RecordBatch::try_from_iter_with_nullable([("c", column, false)]).expect("one column is as long as itself")
}
