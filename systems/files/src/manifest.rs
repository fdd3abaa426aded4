//! Which files of a folder are not to be seen, where a folder cannot be exchanged as a whole.
//!
//! A run that overwrites writes it twice: first it hides the files to come, then, in the same write that shows them,
//! those to go. The file stays in the folder afterwards and counts on, so that a reader that finds the same manifest
//! before and after it listed the folder knows that it saw one state. Plain listers, which know nothing of it, may see
//! files of both states while a run publishes.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use weir_core::{Error, ErrorKind, Result};

use crate::durable::{self, parent};
use crate::{Entry, Found, Store};

/// The name of a folder's manifest.
pub const MANIFEST: &str = "_weir_manifest.json";
/// How often something is tried again because another process came in between.
const TRIES: usize = 50;

/// What the runs that publish in a folder hide.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Counts the changes.
    pub generation: u64,
    /// What each run that publishes just now hides.
    #[serde(default)]
    pub runs: BTreeMap<String, Hidden>,
}

/// What one run hides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden {
    /// Whether the run's files are the ones to be seen already.
    pub published: bool,
    /// The names of the files that are not to be seen.
    pub files: Vec<String>,
}

impl Manifest {
    /// The manifest of a folder, an empty one where there is none.
    pub async fn read(store: &Store, folder: &str) -> Result<Self> {
        let path = path(folder);
        match store.get(&path).await? {
            Some(bytes) => parse(&bytes, store, &path),
            None => Ok(Self::default()),
        }
    }

    /// Changes the manifest of a folder, against others that may do so at the same time.
    pub async fn change(store: &Store, folder: &str, change: impl Fn(&mut Self)) -> Result<()> {
        let path = path(folder);
        for _ in 0..TRIES {
            let _held = if store.is_local() { Some(durable::lock(folder).await?) } else { None };
            if store.is_local() {
                durable::sweep(&path);
            }
            let found = store.get_versioned(&path).await?;
            let (before, version) = match &found {
                Some(read) => (parse(&read.bytes, store, &path)?, read.version.clone()),
                None => (Self::default(), None),
            };
            let mut after = before.clone();
            change(&mut after);
            if after == before {
                return Ok(());
            }
            after.generation += 1;
            let bytes = serde_json::to_vec(&after).map_err(|e| Error::internal("no manifest").because(e))?;
            if store.put_if(&path, bytes, version).await? {
                return Ok(());
            }
        }
        let message = "other runs change the folder's manifest all the time: try again later";
        Err(Error::new(ErrorKind::Conflict, message).with("file", store.display(&path)))
    }
}

fn path(folder: &str) -> String {
    match folder {
        "" => MANIFEST.to_owned(),
        folder => format!("{}/{MANIFEST}", folder.trim_end_matches('/')),
    }
}

fn parse(bytes: &[u8], store: &Store, path: &str) -> Result<Manifest> {
    serde_json::from_slice(bytes).map_err(|e| {
        let message = "the folder's manifest is damaged: a run that publishes writes it; remove it when none does";
        Error::new(ErrorKind::Data, message).because(e).with("file", store.display(path))
    })
}

/// All files under a folder that no manifest hides, as of one moment.
pub(crate) async fn visible(store: &Store, folder: &str) -> Result<Vec<Entry>> {
    if store.is_local() && store.look(if folder.is_empty() { "." } else { folder }).await? != Found::Folder {
        return store.list_all(folder).await;
    }
    let mut known: Vec<String> = vec![path(folder)];
    let mut before = read_all(store, &known).await?;
    for _ in 0..TRIES {
        let found = store.list_all(folder).await?;
        let mut here: Vec<String> = vec![path(folder)];
        here.extend(found.iter().map(|e| e.path.clone()).filter(|p| is_manifest(p)));
        here.sort();
        here.dedup();
        let after = read_all(store, &here).await?;
        if here == known && after == before {
            return Ok(hide(found, &after));
        }
        (known, before) = (here, after);
    }
    let message = "the folder is published anew faster than it can be listed: try again later";
    Err(Error::new(ErrorKind::Conflict, message).with("folder", store.display(folder)))
}

fn is_manifest(path: &str) -> bool {
    path.rsplit('/').next() == Some(MANIFEST)
}

async fn read_all(store: &Store, paths: &[String]) -> Result<Vec<(String, Manifest)>> {
    let mut all = Vec::new();
    for path in paths {
        if let Some(bytes) = store.get(path).await? {
            all.push((path.clone(), parse(&bytes, store, path)?));
        }
    }
    Ok(all)
}

fn hide(mut found: Vec<Entry>, manifests: &[(String, Manifest)]) -> Vec<Entry> {
    let hidden: HashSet<String> = manifests
        .iter()
        .flat_map(|(path, manifest)| {
            let folder = parent(path);
            manifest.runs.values().flat_map(|run| &run.files).map(move |file| match folder {
                "" => file.clone(),
                "/" => format!("/{file}"),
                folder => format!("{folder}/{file}"),
            })
        })
        .collect();
    // Stores know no leading slash.
    found.retain(|e| !hidden.contains(&e.path) && !hidden.contains(&format!("/{}", e.path)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_manifest_hides_is_not_listed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        for name in ["a.csv", "sub/b.csv", "sub/c.csv"] {
            std::fs::create_dir_all(folder.path().join("sub")).unwrap();
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let names = async || {
            let found = Store::Local.list(root).await.unwrap();
            found.iter().map(|e| e.path[root.len() + 1..].to_owned()).collect::<Vec<_>>()
        };
        let sub = format!("{root}/sub");
        let hides = |run: &'static str, file: &'static str| {
            move |m: &mut Manifest| {
                m.runs.insert(run.into(), Hidden { published: false, files: vec![file.into()] });
            }
        };
        Manifest::change(&Store::Local, &sub, hides("r", "b.csv")).await.unwrap();
        Manifest::change(&Store::Local, &sub, hides("s", "c.csv")).await.unwrap();
        assert_eq!(names().await, ["a.csv"]);
        Manifest::change(&Store::Local, &sub, |m| drop(m.runs.remove("r"))).await.unwrap();
        Manifest::change(&Store::Local, &sub, |m| drop(m.runs.remove("r"))).await.unwrap();
        assert_eq!(names().await, ["a.csv", "sub/b.csv"]);
        assert_eq!(Manifest::read(&Store::Local, &sub).await.unwrap().generation, 3);
        std::fs::write(format!("{sub}/{MANIFEST}"), "{").unwrap();
        assert_eq!(Store::Local.list(root).await.unwrap_err().kind(), ErrorKind::Data);
    }
}
