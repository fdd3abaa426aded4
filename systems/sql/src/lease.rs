//! The lease of a job's run, as one row of [`weir_commits`](crate::commits): under the job's key instead of a run's id, with
//! its holder as the target. The server's clock says how old it is.

use std::time::Duration;

use weir_core::{Error, ErrorKind, Lease, Renewal, Result, Standing};

use crate::commits::Commits;
use crate::names::Quoting;

/// Stands for the split.
pub const LEASE: i64 = -3;

/// The statements about one lease.
pub struct LeaseRow<'a> {
    /// Where it is kept.
    pub commits: &'a Commits,
    /// The lease.
    pub lease: &'a Lease,
    /// The dialect's quotation marks.
    pub quoting: Quoting,
    /// Quotes a text in the dialect.
    pub literal: fn(&str) -> String,
    /// The whole seconds since the moment in the column `committed_at`, in the dialect.
    pub age: &'a str,
}

impl LeaseRow<'_> {
    /// The table.
    pub fn table(&self) -> String {
        self.commits.table.quoted(self.quoting)
    }

    fn is_it(&self) -> String {
        format!("run_id = {} AND split = {LEASE}", (self.literal)(&self.lease.key()))
    }

    fn is_own(&self) -> String {
        format!("{} AND target = {}", self.is_it(), (self.literal)(&self.lease.holder))
    }

    /// `DELETE` of one that has expired, or is the holder's own.
    pub fn delete(&self) -> String {
        let (table, holder) = (self.table(), (self.literal)(&self.lease.holder));
        format!(
            "DELETE FROM {table} WHERE {} AND (target = {holder} OR {} > {})",
            self.is_it(),
            self.age,
            self.lease.seconds
        )
    }

    /// `DELETE` of the holder's own.
    pub fn release(&self) -> String {
        format!("DELETE FROM {} WHERE {}", self.table(), self.is_own())
    }

    /// `SELECT` of the number of the holder's own.
    pub fn own(&self) -> String {
        format!("SELECT count(*) AS n FROM {} WHERE {}", self.table(), self.is_own())
    }

    /// `SELECT` of the number of leases of others that hold.
    pub fn others(&self) -> String {
        let (table, holder) = (self.table(), (self.literal)(&self.lease.holder));
        let holds = format!("target <> {holder} AND {} <= {}", self.age, self.lease.seconds);
        format!("SELECT count(*) AS n FROM {table} WHERE {} AND {holds}", self.is_it())
    }

    /// The columns of a new row, and its values as a list for `VALUES` or `SELECT`.
    ///
    /// # Errors
    /// Those of writing JSON.
    pub fn row(&self) -> Result<(&'static str, String)> {
        let text = serde_json::to_string(self.lease);
        let text = text.map_err(|e| Error::internal("a lease cannot be written").because(e))?;
        let of = |text: &str| (self.literal)(text);
        let values = format!("{}, {LEASE}, {}, {}", of(&self.lease.key()), of(&self.lease.holder), of(&text));
        Ok(("run_id, split, target, receipt", values))
    }

    /// `SELECT` of the lease that is there, and its age.
    pub fn select(&self) -> String {
        format!("SELECT receipt, {} FROM {} WHERE {}", self.age, self.table(), self.is_it())
    }

    /// The lease in the row of [`select`](Self::select), if it is somebody else's and has ended.
    pub fn ended(&self, row: Option<(String, i64)>) -> Option<Lease> {
        let (text, age) = row?;
        let lease: Lease = serde_json::from_str(&text).ok()?;
        (lease.holder != self.lease.holder && age > self.lease.seconds as i64).then_some(lease)
    }

    /// What the row of [`select`](Self::select) says to who has just tried to take the lease.
    ///
    /// # Errors
    /// It is gone again.
    pub fn standing(&self, row: Option<(String, i64)>) -> Result<Option<Standing>> {
        let Some((text, age)) = row else {
            return Err(Error::new(ErrorKind::Conflict, "the lease on the target was taken away").retryable(true));
        };
        let lease = self.kept(&text);
        let left = lease.seconds.saturating_sub(age.max(0) as u64);
        let others = lease.holder != self.lease.holder;
        Ok(others.then(|| Standing { lease, left: Duration::from_secs(left) }))
    }

    /// What the row of [`select`](Self::select) says to who has just tried to renew the lease.
    pub fn renewed(&self, row: Option<(String, i64)>) -> Renewal {
        match row.map(|(text, _)| self.kept(&text)) {
            Some(lease) if lease.holder == self.lease.holder => Renewal::Held,
            other => Renewal::Lost(other),
        }
    }

    /// The lease that is kept. One that cannot be read is somebody else's too.
    fn kept(&self, text: &str) -> Lease {
        serde_json::from_str(text).unwrap_or_else(|_| Lease {
            run_id: "of an unknown name".into(),
            holder: String::new(),
            machine: "unknown".into(),
            process: 0,
            ..self.lease.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::TableName;

    #[test]
    fn a_lease_is_a_row_of_its_own() {
        let target = TableName::parse("shop.orders", Quoting::DOUBLE).unwrap();
        let commits = Commits::new("r1", &target, None);
        let lease = Lease {
            job: "o'clock".into(),
            run_id: "r1".into(),
            holder: "me".into(),
            machine: "here".into(),
            process: 1,
            seconds: 60,
        };
        let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let row =
            LeaseRow { commits: &commits, lease: &lease, quoting: Quoting::DOUBLE, literal, age: "age(committed_at)" };
        let delete = row.delete();
        assert!(delete.ends_with("AND split = -3 AND (target = 'me' OR age(committed_at) > 60)"), "{delete}");
        let (_, values) = row.row().unwrap();
        assert!(values.contains("o''clock"), "{values}");
        assert_eq!(row.standing(Some((serde_json::to_string(&lease).unwrap(), 3))).unwrap(), None);
        let other = Lease { holder: "you".into(), ..lease.clone() };
        let standing = row.standing(Some((serde_json::to_string(&other).unwrap(), 20))).unwrap().unwrap();
        assert_eq!((standing.left.as_secs(), &standing.lease), (40, &other));
        assert!(row.standing(Some(("{".into(), 100))).unwrap().is_some());
        assert!(row.standing(None).unwrap_err().is_retryable());
        let renewed = |lease: &Lease| row.renewed(Some((serde_json::to_string(lease).unwrap(), 90)));
        assert_eq!(
            (renewed(&lease), renewed(&other), row.renewed(None)),
            (Renewal::Held, Renewal::Lost(Some(other.clone())), Renewal::Lost(None))
        );
        let ended = |lease: &Lease, age| row.ended(Some((serde_json::to_string(lease).unwrap(), age)));
        assert_eq!((ended(&other, 61), ended(&other, 60), ended(&lease, 61)), (Some(other), None, None));
    }
}
