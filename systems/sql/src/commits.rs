//! `weir_commits`: a target's own record of the runs that write to it.
//!
//! One row a finished split, written in the transaction of the split's rows; one more when the run is published. The
//! primary key makes a split that is written twice fail the second time, whoever writes it: an attempt whose connection
//! was lost while it committed, and the one that took its place, cannot both land.

use serde::{Deserialize, Serialize};
use weir_core::lease::ENTRY;
use weir_core::{Error, ErrorKind, Receipt, Recorded, Result};

use crate::names::{Quoting, TableName};

/// The table's name, in the schema of the target or in the one of `ledger.schema`.
pub const TABLE: &str = "weir_commits";

/// The columns by which it is told from a table of the same name that is somebody else's.
pub const COLUMNS: [&str; 5] = ["run_id", "split", "target", "receipt", "committed_at"];

/// Stands for the split in the record that says that preSql has been run and the staging made.
pub const PREPARED: i64 = -1;

/// Stands for the split in the record that says that the run is published.
pub const PUBLISHED: i64 = -2;

/// Stands for the split in the record that says that the run makes the target, where [`PREPARED`] does not say so too.
pub const MAKING: i64 = -3;

/// The longest run id the record takes, in bytes.
pub const MAX_RUN_ID: usize = 120;

/// The statements about one run's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commits {
    /// Where the records are.
    pub table: TableName,
    /// The run.
    pub run_id: String,
}

impl Commits {
    /// For the run `run_id` (see [`MAX_RUN_ID`]) into `target`: beside it, or in the schema that `ledger` names.
    pub fn new(run_id: &str, target: &TableName, ledger: Option<&str>) -> Self {
        let mut table = target.sibling(TABLE);
        if let Some(schema) = ledger {
            table.schema = Some(schema.to_owned());
        }
        Self { table, run_id: run_id.to_owned() }
    }

    /// `CREATE TABLE IF NOT EXISTS`, with the dialect's types for a name of up to 120 ASCII characters, for long text
    /// and for a moment that is filled in by itself (`timestamp DEFAULT CURRENT_TIMESTAMP`).
    pub fn create(&self, quoting: Quoting, name: &str, text: &str, moment: &str) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (run_id {name} NOT NULL, split bigint NOT NULL, target {text} NOT NULL, \
             receipt {text} NOT NULL, committed_at {moment}, PRIMARY KEY (run_id, split))",
            self.table.quoted(quoting)
        )
    }

    /// Whether the record is there, by how many columns the table has, and how many of these are [`COLUMNS`].
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) where the table is somebody else's.
    pub fn is_there(&self, columns: i64, own: i64) -> Result<bool> {
        if columns > 0 && own < COLUMNS.len() as i64 {
            let text = format!(
                "the table {} is not Weir's record of finished splits, for it does not have the columns {}: rename it, or keep \
                 Weir's own tables in another schema with the writer's `ledger` (`\"ledger\": {{\"schema\": …}}`)",
                self.table,
                COLUMNS.join(", ")
            );
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        Ok(columns > 0)
    }

    /// `INSERT` of one record; `literal` quotes a text in the dialect.
    ///
    /// # Errors
    /// Those of writing JSON.
    pub fn insert(
        &self,
        quoting: Quoting,
        split: i64,
        target: &str,
        receipt: Option<&Receipt>,
        literal: impl Fn(&str) -> String,
    ) -> Result<String> {
        let receipt = receipt.map_or_else(|| Ok("null".into()), serde_json::to_string);
        let receipt = receipt.map_err(|e| Error::internal("a receipt cannot be written").because(e))?;
        Ok(format!(
            "INSERT INTO {} (run_id, split, target, receipt) VALUES ({}, {split}, {}, {})",
            self.table.quoted(quoting),
            literal(&self.run_id),
            literal(target),
            literal(&receipt)
        ))
    }

    /// `SELECT` of all records: split and receipt. `hint` follows the table's name.
    pub fn select(&self, quoting: Quoting, hint: &str, literal: impl Fn(&str) -> String) -> String {
        let table = self.table.quoted(quoting);
        format!("SELECT split, receipt FROM {table}{hint} WHERE run_id = {} ORDER BY split", literal(&self.run_id))
    }

    /// `SELECT` of the names under which another run may have recorded what it has written; see
    /// [`is_of_run`](weir_core::lease::is_of_run).
    pub fn names(&self, run_id: &str, quoting: Quoting, literal: impl Fn(&str) -> String) -> String {
        let table = self.table.quoted(quoting);
        format!(
            "SELECT DISTINCT run_id FROM {table} WHERE substring(run_id, 1, {}) = {} \
             AND (split >= 0 OR split = {PUBLISHED})",
            run_id.len(),
            literal(run_id)
        )
    }

    /// `SELECT` of the names and the targets of the run's other entries that have prepared a table, or were about to make it: a
    /// job may merge many tables into one. `None` where there are no others.
    pub fn others(&self, quoting: Quoting, literal: impl Fn(&str) -> String) -> Option<String> {
        let (run, _) = self.run_id.rsplit_once(ENTRY)?;
        let entries = format!("{run}{ENTRY}");
        Some(format!(
            "SELECT run_id, target FROM {} WHERE substring(run_id, 1, {}) = {} AND run_id <> {} \
             AND split IN ({PREPARED}, {MAKING})",
            self.table.quoted(quoting),
            entries.len(),
            literal(&entries),
            literal(&self.run_id)
        ))
    }

    /// `DELETE` of all records.
    pub fn delete(&self, quoting: Quoting, literal: impl Fn(&str) -> String) -> String {
        format!("DELETE FROM {} WHERE run_id = {}", self.table.quoted(quoting), literal(&self.run_id))
    }
}

/// What the rows of [`Commits::select`] say.
#[derive(Debug, Default)]
pub struct Records {
    /// Whether preSql has been run.
    pub prepared: bool,
    /// Whether the run makes the target, or was about to.
    pub making: bool,
    /// Splits and publication.
    pub recorded: Recorded,
}

impl Records {
    /// Reads the rows.
    ///
    /// # Errors
    /// A receipt that somebody has changed.
    pub fn of(rows: impl IntoIterator<Item = (i64, String)>) -> Result<Self> {
        let mut records = Self::default();
        for (split, receipt) in rows {
            match split {
                PREPARED => records.prepared = true,
                MAKING => records.making = true,
                PUBLISHED => records.recorded.published = true,
                _ => records.recorded.receipts.push(serde_json::from_str(&receipt).map_err(|e| {
                    Error::internal(format!("the receipt in {TABLE} cannot be read")).because(e).with("split", split)
                })?),
            }
        }
        Ok(records)
    }
}

/// What a run that was to make its target says where the table is there by then, and the run has not made it.
pub fn made_by_others() -> Error {
    let text = "the table was made by somebody else after the run had looked for it: run the job again (with --fresh where it \
                is resumed)";
    Error::new(ErrorKind::Conflict, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::Account;

    #[test]
    fn a_receipt_comes_back_from_its_record() {
        let target = TableName::parse("shop.orders", Quoting::DOUBLE).unwrap();
        let commits = Commits::new("r1", &target, None);
        assert_eq!(commits.table.to_string(), "shop.weir_commits");
        assert_eq!(Commits::new("r1", &target, Some("etl")).table.to_string(), "etl.weir_commits");
        let account = Account { attempt: 2, epoch: "e".into(), ..Account::default() };
        let receipt = Receipt { split: 3, rows: 5, skipped: 0, account, data: serde_json::json!({"a": 1}) };
        let literal = |text: &str| format!("'{text}'");
        let insert = commits.insert(Quoting::DOUBLE, 3, "shop.orders", Some(&receipt), literal).unwrap();
        assert!(insert.starts_with(r#"INSERT INTO "shop"."weir_commits" (run_id"#), "{insert}");
        let text = serde_json::to_string(&receipt).unwrap();
        let rows = [(MAKING, "null".into()), (PUBLISHED, "null".into()), (PREPARED, "null".into()), (3, text)];
        let records = Records::of(rows).unwrap();
        assert!(records.making && records.prepared && records.recorded.published);
        assert_eq!(records.recorded.receipts, [receipt]);
        assert!(Records::of([(0, "{".into())]).is_err());
    }

    #[test]
    fn only_entries_of_one_run_have_others() {
        let others =
            |run_id| Commits::new(run_id, &TableName::bare("t"), None).others(Quoting::DOUBLE, |t| format!("'{t}'"));
        assert_eq!(others("r"), None);
        let sql = others("r!12").unwrap();
        assert!(sql.contains("substring(run_id, 1, 2) = 'r!' AND run_id <> 'r!12'"), "{sql}");
    }

    #[test]
    fn a_table_of_others_is_named_with_the_way_around_it() {
        let target = TableName::parse("shop.orders", Quoting::DOUBLE).unwrap();
        let commits = Commits::new("r1", &target, None);
        assert!(!commits.is_there(0, 0).unwrap());
        assert!(commits.is_there(5, 5).unwrap() && commits.is_there(6, 5).unwrap());
        let error = commits.is_there(5, 4).unwrap_err().to_string();
        assert!(error.contains("shop.weir_commits") && error.contains("`ledger`"), "{error}");
    }
}
