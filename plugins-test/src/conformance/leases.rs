//! The checks of a writer that keeps leases.

use weir_core::{Error, Lease, Renewal, Result, WriteMode};

use super::report::{Outcome, left_out, passed};
use super::{Table, Target};
use crate::harness::{self, WriteOptions, context, control, open_writer_in};

const TABLE: &str = "weir_w_lease";

fn lease(holder: &str) -> Lease {
    Lease {
        job: "nightly's".into(),
        run_id: format!("run-of-{holder}"),
        holder: holder.into(),
        machine: "here".into(),
        process: 1,
        seconds: 60,
    }
}

/// A lease is one holder's until it is given back, and renewed only by whoever still has it.
pub(super) async fn leases(target: &dyn Target) -> Outcome {
    let told = |error: Error| format!("{error:?}");
    let Some(parameters) = target.parameters(TABLE, WriteMode::Overwrite).await else {
        return left_out("it has no overwrite");
    };
    let writer = open_writer_in(target.plugin(), parameters, &context()).map_err(told)?;
    if writer.leases().is_none() {
        return left_out("it keeps no leases");
    }
    let table = Table::of_numbers(TABLE, true, vec![(Some(1), Some("one".into()))]);
    if !target.creates() {
        let bare = Table { rows: table.rows.slice(0, 0), ..table.clone() };
        if let Err(reason) = target.lay(&bare).await {
            return left_out(reason);
        }
    }
    let staged = harness::stage(&writer, vec![table.rows], WriteOptions::default()).await.map_err(told)?;
    let plan = staged.plan.clone();
    let seen: Result<_> = control(async move {
        let leases = writer.leases().ok_or_else(|| Error::internal("the leases are gone"))?;
        let (a, b) = (lease("a"), lease("b"));
        let none = leases.renew(&plan, &a).await?;
        let taken = (leases.take(&plan, &a).await?, leases.take(&plan, &a).await?);
        let held = (leases.renew(&plan, &a).await?, leases.renew(&plan, &a).await?);
        let refused = leases.take(&plan, &b).await?.map(|standing| standing.lease);
        leases.release(&plan, &b).await?;
        let others = leases.renew(&plan, &b).await?;
        leases.release(&plan, &a).await?;
        let gone = leases.renew(&plan, &a).await?;
        let free = leases.take(&plan, &b).await?;
        leases.release(&plan, &b).await?;
        Ok((none, taken, held, refused, others, gone, free))
    })
    .await;
    staged.commit().await.map_err(told)?;
    let (a, nobody) = (lease("a"), Renewal::Lost(None));
    let expected = (
        nobody.clone(),
        (None, None),
        (Renewal::Held, Renewal::Held),
        Some(a.clone()),
        Renewal::Lost(Some(a)),
        nobody,
        None,
    );
    let seen = seen.map_err(told)?;
    if seen == expected { passed() } else { Err(format!("{seen:?} instead of {expected:?}")) }
}
