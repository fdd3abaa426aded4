//! Where files lie, behind one set of calls: this machine's folders, or an object store.

use std::fmt;
use std::path::Path as FsPath;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use glob::{MatchOptions, Pattern};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use weir_core::{Error, ErrorKind, Result, ResultExt};

use crate::{ByteStream, Sink, store_error};

/// The most that one copy request takes (S3; the others take as much or more).
const MAX_COPY: u64 = 5 << 30;

/// A file system or an object store.
#[derive(Clone)]
pub enum Store {
    /// This machine's file system.
    Local,
    /// An object store.
    Remote {
        /// The store.
        store: Arc<dyn ObjectStore>,
        /// What stands before a key in reports: `s3://bucket`.
        root: String,
        /// Whether it is a web server: its files can be read, and neither listed nor written.
        is_web: bool,
        /// Where requests run that nobody waits for.
        io: Handle,
    },
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The store's own Debug shows its configuration.
        f.write_str(match self {
            Self::Local => "Local",
            Self::Remote { root, .. } => root,
        })
    }
}

/// A file of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path or key.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// What changes when its content does: the time of its last change, or the store's own tag. Empty for what is no
    /// plain file (a pipe).
    pub stamp: String,
}

impl Entry {
    fn of_object(meta: object_store::ObjectMeta) -> Self {
        // A listing writes both otherwise than a look at one object: without quotes, with more decimals.
        let stamp = match &meta.e_tag {
            Some(tag) => format!("tag {}", tag.trim_start_matches("W/").trim_matches('"')),
            None => format!("time {}", meta.last_modified.timestamp()),
        };
        Self { path: meta.location.to_string(), size: meta.size, stamp }
    }

    fn of_file(path: String, data: &std::fs::Metadata) -> Self {
        let changed = data.modified().ok().filter(|_| data.is_file());
        let changed = changed.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        Self { path, size: data.len(), stamp: changed.map_or_else(String::new, |at| format!("ns {}", at.as_nanos())) }
    }

    /// Whether this is the same content as `other`, as far as size and stamp tell.
    pub fn is_like(&self, other: &Self) -> bool {
        let kind = |entry: &Self| entry.stamp.split_once(' ').map(|(kind, _)| kind.to_owned());
        // Some stores have a tag in one answer and none in another: then only the size can be compared.
        self.size == other.size && (self.stamp == other.stamp || kind(self) != kind(other))
    }
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A file of so many bytes.
    File(u64),
    /// A folder, or in an object store a prefix with at least one object.
    Folder,
}

impl Store {
    /// A path as reports show it.
    pub fn display(&self, path: &str) -> String {
        match self {
            Self::Local => path.to_owned(),
            Self::Remote { root, .. } => format!("{root}/{path}"),
        }
    }

    /// Whether this is a web server, which can only be read from, file by file.
    pub fn is_web(&self) -> bool {
        matches!(self, Self::Remote { is_web: true, .. })
    }

    /// Whether this is this machine's file system.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local)
    }

    pub(crate) fn key(&self, path: &str) -> Result<Key> {
        Key::parse(path.trim_matches('/')).map_err(|e| store_error(e.into(), &self.display(path)))
    }

    /// What stands at `path`.
    pub async fn look(&self, path: &str) -> Result<Found> {
        match self {
            Self::Local => match std::fs::metadata(path) {
                Ok(data) if data.is_dir() => Ok(Found::Folder),
                Ok(data) => Ok(Found::File(data.len())),
                Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                    Ok(Found::Nothing)
                }
                Err(e) => Err(e).context("file", path),
            },
            Self::Remote { store, is_web: true, .. } => match store.head(&self.key(path)?).await {
                Ok(meta) => Ok(Found::File(meta.size)),
                Err(object_store::Error::NotFound { .. }) => Ok(Found::Nothing),
                Err(e) => Err(store_error(e, &self.display(path))),
            },
            Self::Remote { store, .. } => {
                // Listed first: stores on top of a file system answer a HEAD of a folder with an error of their own.
                let key = self.key(path)?;
                let first = store.list(Some(&key)).next().await.transpose();
                if first.map_err(|e| store_error(e, &self.display(path)))?.is_some() {
                    return Ok(Found::Folder);
                }
                if path.ends_with('/') || key.as_ref().is_empty() {
                    return Ok(Found::Nothing);
                }
                match store.head(&key).await {
                    Ok(meta) => Ok(Found::File(meta.size)),
                    Err(object_store::Error::NotFound { .. }) => Ok(Found::Nothing),
                    Err(e) => Err(store_error(e, &self.display(path))),
                }
            }
        }
    }

    /// The file at `path`; `None` when there is nothing or a folder.
    pub async fn entry(&self, path: &str) -> Result<Option<Entry>> {
        match self {
            Self::Local => match std::fs::metadata(path) {
                Ok(data) if data.is_dir() => Ok(None),
                Ok(data) => Ok(Some(Entry::of_file(path.to_owned(), &data))),
                Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                    Ok(None)
                }
                Err(e) => Err(e).context("file", path),
            },
            Self::Remote { store, .. } => match store.head(&self.key(path)?).await {
                Ok(meta) => Ok(Some(Entry { path: path.to_owned(), ..Entry::of_object(meta) })),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(e) => Err(store_error(e, &self.display(path))),
            },
        }
    }

    /// All files under a folder, at any depth and in path order; what is hidden (`.x`, `_x`) is left out, and what the
    /// folders' [manifests](crate::Manifest) hide.
    pub async fn list(&self, folder: &str) -> Result<Vec<Entry>> {
        let mut found = crate::manifest::visible(self, folder).await?;
        let root = folder.trim_end_matches('/').len();
        found.retain(|entry| {
            !entry.path.get(root..).unwrap_or(&entry.path).split('/').any(|p| p.starts_with(['.', '_']))
        });
        Ok(found)
    }

    /// All files under a folder, hidden ones too.
    pub async fn list_all(&self, folder: &str) -> Result<Vec<Entry>> {
        let mut found = match self {
            Self::Local => {
                let root = folder.to_owned();
                let walk = tokio::task::spawn_blocking(move || walk(&root));
                walk.await.map_err(|e| Error::internal("the folder could not be listed").because(e))??
            }
            Self::Remote { store, .. } => {
                let key = self.key(folder)?;
                let objects = store.list(Some(&key)).try_collect::<Vec<_>>().await;
                let objects = objects.map_err(|e| store_error(e, &self.display(folder)))?;
                objects.into_iter().map(Entry::of_object).collect()
            }
        };
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// The files that a path of a job means: one file, all files of a folder, or the matches of a glob (`*`, `?`,
    /// `[a-z]` within a name, `**` any depth).
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when there is none.
    pub async fn find(&self, path: &str) -> Result<Vec<Entry>> {
        let found = match self.look(path).await? {
            Found::File(_) => self.entry(path).await?.into_iter().collect(),
            Found::Folder => self.list(path).await?,
            Found::Nothing => match path.find(['*', '?', '[']) {
                Some(_) if self.is_web() => {
                    let message = "a web server lists no files: give the URL of each file, without a pattern";
                    return Err(Error::new(ErrorKind::Unsupported, message).with("path", self.display(path)));
                }
                Some(first) => {
                    let folder = path[..first].rfind('/').map_or("", |slash| &path[..slash.max(1)]);
                    self.glob(path, folder).await?
                }
                None => {
                    return Err(
                        Error::new(ErrorKind::NotFound, "no such file or folder").with("path", self.display(path))
                    );
                }
            },
        };
        if found.is_empty() {
            let message = "no file matches the path: check it, and that the folder holds visible files";
            return Err(Error::new(ErrorKind::NotFound, message).with("path", self.display(path)));
        }
        Ok(found)
    }

    async fn glob(&self, pattern: &str, folder: &str) -> Result<Vec<Entry>> {
        let wrong = |e: glob::PatternError| Error::config(format!("`{pattern}` is no valid pattern: {}", e.msg));
        let matcher = Pattern::new(pattern).map_err(wrong)?;
        // A pattern may also end at folders, all of whose files are meant then.
        let below = Pattern::new(&format!("{}/**/*", pattern.trim_end_matches('/'))).map_err(wrong)?;
        let options =
            MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
        if self.look(if folder.is_empty() && self.is_local() { "." } else { folder }).await? != Found::Folder {
            return Ok(Vec::new());
        }
        let mut found = self.list(folder).await?;
        found.retain(|entry| matcher.matches_with(&entry.path, options) || below.matches_with(&entry.path, options));
        Ok(found)
    }

    /// Makes a folder and those above it; object stores have none.
    pub fn create_folder(&self, folder: &str) -> Result<()> {
        match self {
            Self::Local if !folder.is_empty() => std::fs::create_dir_all(folder).context("folder", folder),
            _ => Ok(()),
        }
    }

    /// Puts a finished file in its place, replacing what is there: a rename, or in an object store a copy.
    pub async fn place(&self, from: &str, to: &str, bytes: u64, cancel: &CancellationToken) -> Result<()> {
        match self {
            Self::Local => std::fs::rename(from, to).context("file", to),
            // What the store copies by itself has a bound; what is larger goes through here.
            Self::Remote { .. } if bytes > MAX_COPY => {
                let mut input = ByteStream::open(self, from, cancel).await?;
                let mut sink = Sink::create(self, to).await?;
                while input.fill(sink.buffer(), crate::BLOCK).await? {
                    sink.flush().await?;
                }
                sink.finish().await.map(drop)
            }
            Self::Remote { store, .. } => {
                let (from_key, to_key) = (self.key(from)?, self.key(to)?);
                let copied = tokio::select! {
                    biased;
                    () = cancel.cancelled() => return Err(Error::cancelled()),
                    copied = store.copy(&from_key, &to_key) => copied,
                };
                copied.map_err(|e| store_error(e, &self.display(to)))
            }
        }
    }

    /// Removes a file; one that is gone already is no fault.
    pub async fn remove(&self, path: &str) -> Result<()> {
        match self {
            Self::Local => match std::fs::remove_file(path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).context("file", path),
                _ => Ok(()),
            },
            Self::Remote { store, .. } => match store.delete(&self.key(path)?).await {
                Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
                Err(e) => Err(store_error(e, &self.display(path))),
            },
        }
    }

    /// Removes a folder with everything in it.
    pub async fn remove_folder(&self, folder: &str) -> Result<()> {
        match self {
            Self::Local => match std::fs::remove_dir_all(folder) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).context("folder", folder),
                _ => Ok(()),
            },
            Self::Remote { .. } => {
                for entry in self.list_all(folder).await? {
                    self.remove(&entry.path).await?;
                }
                Ok(())
            }
        }
    }

    /// Removes a folder if it is empty.
    pub fn remove_empty_folder(&self, folder: &str) {
        if self.is_local() {
            // Not empty or gone already: both are fine.
            let _ = std::fs::remove_dir(folder);
        }
    }

    /// Makes renames and new files in a folder durable.
    pub fn sync_folder(&self, folder: &str) -> Result<()> {
        match self {
            Self::Local => {
                let folder = if folder.is_empty() { "." } else { folder };
                std::fs::File::open(folder).and_then(|f| f.sync_all()).context("folder", folder)
            }
            Self::Remote { .. } => Ok(()),
        }
    }
}

/// How often a folder is listed again because it was exchanged for another one meanwhile.
const LISTINGS: usize = 100;

/// Lists a local folder as it is at one moment: another directory in its place while it is listed means that it is
/// listed again.
fn walk(root: &str) -> Result<Vec<Entry>> {
    let folder = FsPath::new(if root.is_empty() { "." } else { root });
    for _ in 0..LISTINGS {
        let mut found = Vec::new();
        if walk_into(folder, root, &mut found)? {
            return Ok(found);
        }
    }
    let message = "the folder changes faster than it can be listed: read it when nothing writes to it";
    Err(Error::new(ErrorKind::Conflict, message).with("folder", root))
}

/// `false`: the folder was exchanged.
fn walk_into(folder: &FsPath, shown: &str, found: &mut Vec<Entry>) -> Result<bool> {
    let before = inode(folder);
    for entry in std::fs::read_dir(folder).context("folder", folder.display())? {
        let entry = entry.context("folder", folder.display())?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(Error::new(ErrorKind::Data, "a file name is not UTF-8: rename the file")
                .with("file", entry.path().display()));
        };
        let path = match shown {
            "" => name.to_owned(),
            folder if folder.ends_with('/') => format!("{folder}{name}"),
            folder => format!("{folder}/{name}"),
        };
        // Asked of the opened folder, not of the path, behind which there may be another folder by now.
        let Ok(own) = entry.metadata() else { continue };
        let data = match own.is_symlink() {
            // Follows links to files and folders, as a shell's glob does; a dangling link is no file.
            true => match std::fs::metadata(entry.path()) {
                Ok(data) => data,
                Err(_) => continue,
            },
            false => own.clone(),
        };
        if !data.is_dir() {
            found.push(Entry::of_file(path, &data));
        // A link to a folder could lead around in a circle.
        } else if !own.is_symlink() {
            match walk_into(&entry.path(), &path, found) {
                Ok(true) => {}
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                other => return other,
            }
        }
    }
    Ok(inode(folder) == before)
}

#[cfg(unix)]
fn inode(folder: &FsPath) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(folder).ok().map(|data| (data.dev(), data.ino()))
}

#[cfg(not(unix))]
fn inode(_: &FsPath) -> Option<(u64, u64)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_folders_and_globs_are_found_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        for name in ["b.csv", "a.csv", "sub/c.csv", "sub/deep/d.csv", ".hidden.csv", "_tmp/e.csv"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let find = async |pattern: &str| match Store::Local.find(&format!("{root}/{pattern}")).await {
            Ok(found) => found.iter().map(|e| e.path[root.len() + 1..].to_owned()).collect::<Vec<_>>(),
            Err(e) => vec![e.kind().name().to_owned()],
        };
        assert_eq!(find("").await.len(), 4);
        assert_eq!(find("*.csv").await, ["a.csv", "b.csv"]);
        assert_eq!(find("?.csv").await, ["a.csv", "b.csv"]);
        assert_eq!(find("**/*.csv").await, ["a.csv", "b.csv", "sub/c.csv", "sub/deep/d.csv"]);
        assert_eq!(find("s*").await, ["sub/c.csv", "sub/deep/d.csv"]);
        assert_eq!(find("a.csv").await, ["a.csv"]);
        assert_eq!(find("z*.csv").await, ["not_found"]);
        assert_eq!(find("z.csv").await, ["not_found"]);
    }
}
