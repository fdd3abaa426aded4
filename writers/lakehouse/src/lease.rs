//! The lease of the job's run: a numbered file in `_weir/KEY` below the table's folder.

use async_trait::async_trait;
use bytes::Bytes;
use deltalake::ObjectStoreError;
use deltalake::logstore::ObjectStoreRef;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutMode, PutOptions};
use weir_core::lease::{self, Slot, Slots};
use weir_core::{Lease, Leases, Renewal, Result, Standing, WritePlan};
use weir_lakehouse::{delta_error, on_io};

use crate::writer::LakehouseWriter;

struct Objects {
    store: ObjectStoreRef,
    folder: String,
}

impl Objects {
    fn path(&self, number: u64) -> Path {
        Path::from(format!("{}/{number}", self.folder))
    }
}

fn failed(error: ObjectStoreError) -> weir_core::Error {
    delta_error(error.into())
}

#[async_trait]
impl Slots for Objects {
    async fn numbers(&self) -> Result<Vec<u64>> {
        match self.store.list_with_delimiter(Some(&Path::from(self.folder.as_str()))).await {
            Ok(listed) => Ok(listed.objects.iter().filter_map(|o| o.location.filename()?.parse().ok()).collect()),
            Err(ObjectStoreError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(failed(error)),
        }
    }

    async fn get(&self, number: u64) -> Result<Option<Slot>> {
        match self.store.get(&self.path(number)).await {
            Ok(found) => {
                let written = found.meta.last_modified.into();
                Ok(Some(Slot { bytes: found.bytes().await.map_err(failed)?.to_vec(), written }))
            }
            Err(ObjectStoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    async fn put(&self, number: u64, bytes: Vec<u8>) -> Result<()> {
        self.store.put(&self.path(number), Bytes::from(bytes).into()).await.map(drop).map_err(failed)
    }

    async fn put_new(&self, number: u64, bytes: Vec<u8>) -> Result<bool> {
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.path(number), Bytes::from(bytes).into(), create).await {
            Ok(_) => Ok(true),
            Err(ObjectStoreError::AlreadyExists { .. } | ObjectStoreError::Precondition { .. }) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    async fn remove(&self, number: u64) -> Result<()> {
        match self.store.delete(&self.path(number)).await {
            Ok(()) | Err(ObjectStoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

impl LakehouseWriter {
    fn slots(&self, lease: &Lease) -> Objects {
        Objects { store: self.location.folder(), folder: format!("_weir/{}", lease.key()) }
    }
}

#[async_trait]
impl Leases for LakehouseWriter {
    fn place(&self, _: &WritePlan) -> Option<String> {
        Some(self.location.name().to_owned())
    }

    async fn take(&self, _: &WritePlan, lease: &Lease) -> Result<Option<Standing>> {
        if let Some(path) = self.location.local_path() {
            std::fs::create_dir_all(path).map_err(|e| self.at(e.into()))?;
        }
        let (slots, lease) = (self.slots(lease), lease.clone());
        let taken = on_io(&self.context, async move { lease::take(&slots, &lease).await }).await;
        taken.map_err(|e| self.at(e))
    }

    async fn renew(&self, _: &WritePlan, lease: &Lease) -> Result<Renewal> {
        let (slots, lease) = (self.slots(lease), lease.clone());
        let renewed = on_io(&self.context, async move { lease::renew(&slots, &lease).await }).await;
        renewed.map_err(|e| self.at(e))
    }

    async fn orphan(&self, plan: &WritePlan, lease: &Lease) -> Result<Option<Lease>> {
        let (slots, own) = (self.slots(lease), lease.clone());
        let left = on_io(&self.context, async move { lease::ended(&slots, &own).await }).await;
        let Some(left) = left.map_err(|e| self.at(e))? else { return Ok(None) };
        for plan in lease.of_other(plan, &left.run_id) {
            if self.is_published(&plan).await? {
                return Ok(Some(left));
            }
        }
        Ok(None)
    }

    async fn release(&self, plan: &WritePlan, lease: &Lease) -> Result<()> {
        let slots = self.slots(lease);
        let own = format!("{}/x", slots.folder);
        let lease = lease.clone();
        let released = on_io(&self.context, async move { lease::release(&slots, &lease).await }).await;
        self.tidy(plan, &[own], plan.creates);
        released.map_err(|e| self.at(e))
    }
}
