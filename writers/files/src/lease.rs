//! The lease of the job's run: a hidden file in the folder, in an object store an object under a hidden prefix.

use std::path::Path;

use async_trait::async_trait;
use weir_core::lease::{self, FolderSlots, Slot, Slots};
use weir_core::{Lease, Leases, Renewal, Result, Standing, WritePlan, Writer};
use weir_files::Store;

use crate::writer::FilesWriter;

/// Numbered objects under one prefix.
struct Objects<'a> {
    store: &'a Store,
    prefix: String,
}

impl Objects<'_> {
    fn path(&self, number: u64) -> String {
        format!("{}/{number}", self.prefix)
    }
}

#[async_trait]
impl Slots for Objects<'_> {
    async fn numbers(&self) -> Result<Vec<u64>> {
        let found = self.store.list_all(&self.prefix).await?;
        Ok(found.iter().filter_map(|entry| entry.path.rsplit('/').next()?.parse().ok()).collect())
    }

    async fn get(&self, number: u64) -> Result<Option<Slot>> {
        let found = self.store.get_dated(&self.path(number)).await?;
        Ok(found.map(|(bytes, written)| Slot { bytes, written }))
    }

    async fn put(&self, number: u64, bytes: Vec<u8>) -> Result<()> {
        self.store.put(&self.path(number), bytes).await
    }

    async fn put_new(&self, number: u64, bytes: Vec<u8>) -> Result<bool> {
        self.store.put_new(&self.path(number), bytes).await
    }

    async fn remove(&self, number: u64) -> Result<()> {
        self.store.remove(&self.path(number)).await
    }
}

impl FilesWriter {
    fn slots(&self, lease: &Lease) -> Box<dyn Slots + '_> {
        let (store, folder) = (&self.rules.location.store, &self.rules.folder);
        match store.is_local() {
            true => Box::new(FolderSlots::new(Path::new(folder), &lease.key())),
            false => Box::new(Objects { store, prefix: self.rules.place(&format!(".weir-{}", lease.key())) }),
        }
    }
}

#[async_trait]
impl Leases for FilesWriter {
    fn place(&self, _: &WritePlan) -> Option<String> {
        Some(self.rules.location.store.display(&self.rules.folder))
    }

    async fn take(&self, _: &WritePlan, lease: &Lease) -> Result<Option<Standing>> {
        self.rules.location.store.create_folder(&self.rules.folder)?;
        self.context.until_cancelled(lease::take(self.slots(lease).as_ref(), lease)).await
    }

    async fn renew(&self, _: &WritePlan, lease: &Lease) -> Result<Renewal> {
        self.context.until_cancelled(lease::renew(self.slots(lease).as_ref(), lease)).await
    }

    async fn orphan(&self, plan: &WritePlan, lease: &Lease) -> Result<Option<Lease>> {
        let Some(left) = self.context.until_cancelled(lease::ended(self.slots(lease).as_ref(), lease)).await? else {
            return Ok(None);
        };
        for plan in lease.of_other(plan, &left.run_id) {
            if self.recorded(&plan).await?.published {
                return Ok(Some(left));
            }
        }
        Ok(None)
    }

    async fn release(&self, _: &WritePlan, lease: &Lease) -> Result<()> {
        lease::release(self.slots(lease).as_ref(), lease).await
    }
}
