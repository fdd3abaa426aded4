//! The lease of the job's run: a hidden file beside the database's own. A row in the database could not be renewed while a
//! split's transaction has the file to itself.

use std::path::Path;

use async_trait::async_trait;
use weir_core::lease::{self, FolderSlots};
use weir_core::{Lease, Leases, Renewal, Result, Standing, WritePlan};
use weir_sqlite::{Access, Database};

use crate::records;
use crate::writer::{SqliteWriter, state_of};

impl SqliteWriter {
    /// `None` where the run will say better what is wrong with the place.
    fn slots(&self, lease: &Lease) -> Option<FolderSlots> {
        let folder = match self.file.path.parent()? {
            folder if folder.as_os_str().is_empty() => Path::new("."),
            folder => folder,
        };
        folder.is_dir().then(|| FolderSlots::new(folder, &lease.key()))
    }
}

#[async_trait]
impl Leases for SqliteWriter {
    fn place(&self, plan: &WritePlan) -> Option<String> {
        state_of(plan).ok()?.commits?;
        Some(self.file.path.display().to_string())
    }

    async fn take(&self, _: &WritePlan, lease: &Lease) -> Result<Option<Standing>> {
        match self.slots(lease) {
            Some(slots) => lease::take(&slots, lease).await,
            None => Ok(None),
        }
    }

    async fn renew(&self, _: &WritePlan, lease: &Lease) -> Result<Renewal> {
        match self.slots(lease) {
            Some(slots) => lease::renew(&slots, lease).await,
            None => Ok(Renewal::Held),
        }
    }

    async fn orphan(&self, plan: &WritePlan, lease: &Lease) -> Result<Option<Lease>> {
        let commits = state_of(plan)?.commits.filter(|_| self.file.exists());
        let (Some(slots), Some(commits)) = (self.slots(lease), commits) else { return Ok(None) };
        let Some(left) = lease::ended(&slots, lease).await? else { return Ok(None) };
        let run_id = left.run_id.clone();
        let recorded = move |database: &Database<'_>| records::has_of_run(database, &commits, &run_id);
        Ok(self.in_file(Access::Read, recorded).await?.then_some(left))
    }

    async fn release(&self, _: &WritePlan, lease: &Lease) -> Result<()> {
        match self.slots(lease) {
            Some(slots) => lease::release(&slots, lease).await,
            None => Ok(()),
        }
    }
}
