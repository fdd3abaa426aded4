//! Tables of one run that become visible at one moment.

use async_trait::async_trait;

use crate::{Committed, Receipt, Result, WritePlan};

/// The ability of a target to publish several tables of a run in one transaction.
#[async_trait]
pub trait PublishTogether: Send + Sync {
    /// Whether so many tables can be published at one moment; asked before a row is moved. By default any number can.
    ///
    /// # Errors
    /// What of the target's settings does not allow it.
    async fn check_together(&self, tables: usize) -> Result<()> {
        let _ = tables;
        Ok(())
    }

    /// Publishes every split that has a receipt, of all these tables at one moment; what is published already stays as it
    /// is. `tables` are tables of this target and of one run, in the order in which they are to be written. The rest of
    /// [`Writer::commit`](crate::Writer::commit), postSql, is not done here: it is called for each table afterwards, and
    /// finds its rows published. Gives what each table came to, in the same order. Safe to call again.
    ///
    /// # Errors
    /// Either all tables are published then or none is. The error's context `target` names the table that it is about, if
    /// it is about one.
    async fn publish_together(&self, tables: &[(&WritePlan, &[Receipt])]) -> Result<Vec<Committed>>;
}
