//! What a run leaves in its staging folder to tell a later process how far it came.
//!
//! | file | written | says |
//! |-|-|-|
//! | `NNNNN.receipt` | after the parts of the split are complete and durable | the split is finished |
//! | `journal` | before the first change outside of the staging folder | what is going to change, and how |
//! | `published` | after the last change that a reader can see | nothing is left to do |
//!
//! All are durable when the call that writes them returns, and stay until [`forget`](weir_core::Writer::forget).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use weir_core::{Error, ErrorKind, Receipt, Recorded, Result};
use weir_files::{Entry, Manifest, Store};

use crate::plan::Rules;
use crate::task::Part;

/// How a run is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// One file, by a rename or by the end of its upload.
    Single,
    /// Files are added one after the other.
    Add,
    /// Another folder takes the place of the folder.
    Exchange,
    /// Files are added and removed, and a manifest says which of them count.
    Manifest,
}

/// What is going to change, written down before it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Journal {
    pub(crate) way: Way,
    /// Staged parts and where they go.
    #[serde(default)]
    pub(crate) moves: Vec<Move>,
    /// Files that are replaced.
    #[serde(default)]
    pub(crate) removes: Vec<String>,
    /// One file: what stood there, and the bytes that are to stand there.
    #[serde(default)]
    pub(crate) old: Option<Entry>,
    #[serde(default)]
    pub(crate) bytes: u64,
}

/// A staged part on its way into its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Move {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) bytes: u64,
}

impl Move {
    /// The name in the folder.
    pub(crate) fn name(&self) -> &str {
        self.to.rsplit('/').next().unwrap_or(&self.to)
    }
}

/// The records of one run in one target.
pub(crate) struct Records<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) run_id: &'a str,
}

impl Records<'_> {
    pub(crate) fn store(&self) -> &Store {
        &self.rules.location.store
    }

    /// A path in the staging folder.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.rules.staging(self.run_id))
    }

    /// The run's name in the folder's manifest.
    pub(crate) fn name(&self) -> String {
        match &self.rules.prefix {
            Some(prefix) => format!("{}/{prefix}", self.run_id),
            None => self.run_id.to_owned(),
        }
    }

    async fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.path(name);
        let Some(bytes) = self.store().get(&path).await? else { return Ok(None) };
        let read = serde_json::from_slice(&bytes);
        let damaged = "a record of the run is damaged: begin the run anew";
        read.map(Some).map_err(|e| Error::new(ErrorKind::Data, damaged).because(e).with("file", path))
    }

    /// Records a finished split; `false` when another attempt has recorded it already.
    pub(crate) async fn add(&self, receipt: &Receipt) -> Result<bool> {
        let (path, bytes) = (self.path(&receipt_name(receipt.split)), json(receipt)?);
        if self.store().put_new(&path, bytes.clone()).await? {
            return Ok(true);
        }
        // A store may have taken it and lost its answer, so that it was sent again: no other has its parts' names.
        Ok(self.store().get(&path).await?.is_some_and(|there| there == bytes))
    }

    /// The finished splits.
    pub(crate) async fn receipts(&self) -> Result<Vec<Receipt>> {
        let folder = self.rules.staging(self.run_id);
        if self.store().is_local() && !std::path::Path::new(&folder).is_dir() {
            return Ok(Vec::new());
        }
        let mut receipts = Vec::new();
        for entry in self.store().list_all(&folder).await? {
            let name = entry.path.rsplit('/').next().unwrap_or_default();
            if name.ends_with(".receipt") && !name.starts_with('.') {
                receipts.extend(self.read::<Receipt>(name).await?);
            }
        }
        Ok(receipts)
    }

    pub(crate) async fn journal(&self) -> Result<Option<Journal>> {
        self.read("journal").await
    }

    pub(crate) async fn set_journal(&self, journal: &Journal) -> Result<()> {
        self.store().put(&self.path("journal"), json(journal)?).await
    }

    pub(crate) async fn drop_journal(&self) -> Result<()> {
        self.store().remove(&self.path("journal")).await?;
        self.store().sync_folder(&self.rules.staging(self.run_id))
    }

    /// Says that the run is published, and with how many files.
    pub(crate) async fn set_published(&self, files: usize) -> Result<()> {
        self.store().put(&self.path("published"), json(&files)?).await
    }

    /// Whether the run is published: said so, or seen by what only a publishing run leaves behind.
    pub(crate) async fn is_published(&self) -> Result<bool> {
        if self.read::<usize>("published").await?.is_some() {
            return Ok(true);
        }
        let Some(journal) = self.journal().await? else { return Ok(false) };
        Ok(match journal.way {
            // The folder that takes the place of the other brings the record along.
            Way::Add | Way::Exchange => false,
            Way::Manifest => {
                let manifest = Manifest::read(self.store(), &self.rules.folder).await?;
                manifest.runs.get(&self.name()).is_some_and(|run| run.published)
            }
            Way::Single if self.store().is_local() => self.store().entry(&self.path("whole")).await?.is_none(),
            Way::Single => {
                let Some(name) = &self.rules.single else { return Ok(false) };
                let now = self.store().entry(&self.rules.place(name)).await?;
                let is_old = match (&now, &journal.old) {
                    (Some(now), Some(old)) => now.is_like(old),
                    (now, old) => now.is_none() && old.is_none(),
                };
                !is_old && now.is_some_and(|now| now.size == journal.bytes)
            }
        })
    }

    pub(crate) async fn recorded(&self) -> Result<Recorded> {
        Ok(Recorded { receipts: self.receipts().await?, published: self.is_published().await? })
    }

    /// Removes the staged parts; the records stay.
    pub(crate) async fn drop_parts(&self, parts: &[(u32, Part)]) -> Result<()> {
        for (_, part) in parts {
            self.store().remove(&self.path(&part.name)).await?;
        }
        self.store().remove(&self.path("empty.part")).await
    }

    /// Removes the staging of the run with its records: first what would make others believe in the rest.
    pub(crate) async fn clean(&self) -> Result<()> {
        let is_there = !self.store().is_local() || std::path::Path::new(&self.rules.staging(self.run_id)).is_dir();
        if is_there {
            self.drop_journal().await?;
            for receipt in self.receipts().await? {
                self.store().remove(&self.path(&receipt_name(receipt.split))).await?;
            }
        }
        self.store().remove_folder(&self.rules.staging(self.run_id)).await?;
        // Another target of the run may still stage beside.
        self.store().remove_empty_folder(&self.rules.run_folder(self.run_id));
        Ok(())
    }
}

/// A part that a receipt names and that is not there.
pub(crate) fn gone() -> Error {
    let message = "a staged file is gone before it was published: run the job again with --fresh";
    Error::new(ErrorKind::Conflict, message)
}

fn receipt_name(split: u32) -> String {
    format!("{split:05}.receipt")
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::internal("a record cannot be written").because(e))
}
