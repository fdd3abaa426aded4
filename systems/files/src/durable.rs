//! Small files that are there whole or not at all, whatever happens: receipts, journals, manifests.

use std::fs::OpenOptions;
use std::io::{Read as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};
use weir_core::{Error, ErrorKind, Result, ResultExt};

use crate::{Store, store_error};

/// What a small file held, which version of it that was, and when that was written by the store's clock.
pub(crate) struct Read {
    pub(crate) bytes: Vec<u8>,
    pub(crate) version: Option<UpdateVersion>,
    written: SystemTime,
}

impl Store {
    /// The content of a small file; `None` if there is none.
    pub async fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.get_versioned(path).await?.map(|read| read.bytes))
    }

    /// The content of a small file, and when it was written, by the clock of the file system or the object store; `None` if
    /// there is none.
    pub async fn get_dated(&self, path: &str) -> Result<Option<(Vec<u8>, SystemTime)>> {
        Ok(self.get_versioned(path).await?.map(|read| (read.bytes, read.written)))
    }

    pub(crate) async fn get_versioned(&self, path: &str) -> Result<Option<Read>> {
        match self {
            Self::Local => match read_local(path) {
                Ok(read) => Ok(Some(read)),
                Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                    Ok(None)
                }
                Err(e) => Err(e).context("file", path),
            },
            Self::Remote { store, .. } => {
                let failed = |e| store_error(e, &self.display(path));
                match store.get(&self.key(path)?).await {
                    Ok(found) => {
                        let version =
                            UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
                        let written = found.meta.last_modified.into();
                        let bytes = found.bytes().await.map_err(failed)?.to_vec();
                        Ok(Some(Read { bytes, version: Some(version), written }))
                    }
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(e) => Err(failed(e)),
                }
            }
        }
    }

    /// Writes a small file, in place of one that may be there.
    pub async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        match self {
            Self::Local => {
                let draft = draft(path, &bytes)?;
                std::fs::rename(&draft, path).context("file", path)?;
                self.sync_folder(parent(path))
            }
            Self::Remote { store, .. } => {
                let put = store.put(&self.key(path)?, PutPayload::from(bytes)).await;
                put.map(drop).map_err(|e| store_error(e, &self.display(path)))
            }
        }
    }

    /// Writes a small file where there is none; `false` if there is one.
    pub async fn put_new(&self, path: &str, bytes: Vec<u8>) -> Result<bool> {
        if let Self::Local = self {
            let draft = draft(path, &bytes)?;
            let linked = match std::fs::hard_link(&draft, path) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                    // A file system without links: the file is made first and filled then.
                    OpenOptions::new().write(true).create_new(true).open(path).and_then(|mut file| {
                        file.write_all(&bytes)?;
                        file.sync_all()
                    })
                }
                other => other,
            };
            std::fs::remove_file(&draft).context("file", &draft)?;
            return match linked {
                Ok(()) => self.sync_folder(parent(path)).map(|()| true),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
                Err(e) => Err(e).context("file", path),
            };
        }
        self.put_if(path, bytes, None).await
    }

    /// Writes a small object if it still has the version; `None`: if there is none. `false` if it does not.
    pub(crate) async fn put_if(&self, path: &str, bytes: Vec<u8>, version: Option<UpdateVersion>) -> Result<bool> {
        let Self::Remote { store, .. } = self else { return self.put(path, bytes).await.map(|()| true) };
        let key = self.key(path)?;
        let is_new = version.is_none();
        let options = PutOptions { mode: version.map_or(PutMode::Create, PutMode::Update), ..PutOptions::default() };
        match store.put_opts(&key, PutPayload::from(bytes.clone()), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            // A store without conditions: looked at first, which leaves a gap of one request.
            Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
                if is_new && self.entry(path).await?.is_some() {
                    return Ok(false);
                }
                self.put(path, bytes).await.map(|()| true)
            }
            Err(e) => Err(store_error(e, &self.display(path))),
        }
    }
}

fn read_local(path: &str) -> std::io::Result<Read> {
    let mut file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Read { bytes, version: None, written: file.metadata()?.modified()? })
}

/// The folder of a local path.
pub(crate) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((folder, _)) => folder,
        None => "",
    }
}

fn manifest_draft(folder: &str) -> String {
    format!("{folder}/.weir-draft-{}", crate::MANIFEST)
}

/// Removes what a killed process left of a manifest that it was about to write; called by whoever holds the folder.
pub(crate) fn sweep(manifest: &str) {
    let folder = parent(manifest);
    // There is none, nearly always.
    let _ = std::fs::remove_file(manifest_draft(if folder.is_empty() { "." } else { folder }));
}

/// A durable file beside `path`, hidden.
fn draft(path: &str, bytes: &[u8]) -> Result<String> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.rsplit('/').next().unwrap_or(path);
    let folder = parent(path);
    let folder = if folder.is_empty() { "." } else { folder };
    let draft = match name {
        // Written by one process at a time, in a folder that nobody sweeps: what a killed one left is written over.
        crate::MANIFEST => manifest_draft(folder),
        _ => {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            format!("{folder}/.weir-draft-{}-{number}-{name}", std::process::id())
        }
    };
    let written = std::fs::File::create(&draft).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    match written {
        Ok(()) => Ok(draft),
        Err(e) => {
            let _ = std::fs::remove_file(&draft);
            Err(e).context("file", path)
        }
    }
}

/// Holds a local folder against others that would change its manifest; released when dropped.
pub(crate) async fn lock(folder: &str) -> Result<std::fs::File> {
    let folder = if folder.is_empty() { "." } else { folder };
    let file = std::fs::File::open(folder).context("folder", folder)?;
    for _ in 0..1500 {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            // A file system without locks.
            Err(std::fs::TryLockError::Error(_)) => return Ok(file),
        }
    }
    let message = "another run publishes in the folder and does not come to an end: try again later";
    Err(Error::new(ErrorKind::Timeout, message).with("folder", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_new_file_is_made_once_and_leaves_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let path = format!("{}/a", folder.path().display());
        assert!(Store::Local.get(&path).await.unwrap().is_none());
        assert!(Store::Local.put_new(&path, b"1".to_vec()).await.unwrap());
        assert!(!Store::Local.put_new(&path, b"2".to_vec()).await.unwrap());
        assert_eq!(Store::Local.get(&path).await.unwrap().unwrap(), b"1");
        Store::Local.put(&path, b"3".to_vec()).await.unwrap();
        assert_eq!(Store::Local.get(&path).await.unwrap().unwrap(), b"3");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
