//! Where a table is and how to get there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltalake::DeltaTable;
use deltalake::logstore::{LogStoreRef, ObjectStoreRef, StorageConfig, default_logstore};
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;
use weir_core::{ConnectorContext, Error, ErrorKind, Faults, Result};
use weir_files::{StoreOptions, open_store};

use crate::durable::Durable;
use crate::error::delta_error;

/// The parameters that say where a table is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline)]
pub struct LocationConfig {
    /// The table's folder, or its URL in an object store: `lake/orders`, `s3://bucket/lake/orders`, `gs://…`, `az://…`,
    /// `abfss://container@account.dfs.core.windows.net/lake/orders`.
    #[serde(alias = "url")]
    #[schemars(extend("x-aliases" = ["url"]))]
    pub path: Option<String>,
    /// A folder below `path`, for a lake with many tables.
    pub table: Option<String>,
    /// Options of the object store, by name: accessKeyId, secretAccessKey, region, endpoint, pathStyle, anonymous (S3);
    /// serviceAccountPath or serviceAccountKey (Google); accountName, accountKey, sasToken, clientId, clientSecret,
    /// tenantId (Azure); allowHttp, timeout, proxyUrl (all). Write secrets as `${env:NAME}` or `${file:PATH}`.
    #[serde(alias = "options")]
    #[schemars(extend("x-aliases" = ["options"]))]
    pub storage_options: StoreOptions,
}

/// A table's place.
#[derive(Clone)]
pub struct Location {
    name: String,
    url: Url,
    local: Option<PathBuf>,
    /// The whole store, and the table's folder in it.
    store: ObjectStoreRef,
    folder: Key,
}

impl Location {
    /// Reads the parameters; touches nothing.
    ///
    /// # Errors
    /// No path, a `table` that leaves it, or a URL of an unknown kind.
    pub fn new(config: &LocationConfig, context: &ConnectorContext) -> Result<Self, Faults> {
        let path = config.path.as_deref().map(str::trim).filter(|p| !p.is_empty());
        let path = path.ok_or_else(|| Faults::one("", "`path` is missing: name the table's folder or URL"))?;
        let table = config.table.as_deref().unwrap_or("").trim_matches('/');
        if Path::new(table).components().any(|c| !matches!(c, std::path::Component::Normal(_))) {
            return Err(Faults::one("/table", "`table` is a folder below `path`, without `.` and `..`"));
        }
        let joined = if table.is_empty() { path.to_owned() } else { format!("{}/{table}", path.trim_end_matches('/')) };
        if !joined.contains("://") {
            return Self::local(Path::new(&joined), joined.clone());
        }
        if joined.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file://")) {
            let url = Url::parse(&joined).map_err(|e| Faults::one("/path", format!("`path` is no URL: {e}")))?;
            let path = url.to_file_path().map_err(|()| Faults::one("/path", "the file URL names no local path"))?;
            return Self::local(&path, path.display().to_string());
        }
        Self::remote(&joined, &config.storage_options, context).map_err(|message| Faults::one("/path", message))
    }

    fn remote(text: &str, options: &StoreOptions, context: &ConnectorContext) -> Result<Self, String> {
        let opened = open_store(text, options, &context.io)?;
        if opened.is_web {
            return Err("a web server can neither be listed nor written to, so it holds no Delta table".into());
        }
        let folder = Key::parse(opened.key.trim_matches('/')).map_err(|e| format!("`path` is no key: {e}"))?;
        let mut url = Url::parse(&opened.root).map_err(|e| format!("`path` is no URL: {e}"))?;
        let segments: Vec<String> = folder.parts().map(|part| part.as_ref().to_owned()).collect();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(&segments).push("");
        }
        let name = format!("{}/{folder}", opened.root);
        Ok(Self { name, url, local: None, store: opened.store, folder })
    }

    fn local(path: &Path, name: String) -> Result<Self, Faults> {
        let absolute =
            std::path::absolute(path).map_err(|e| Faults::one("/path", format!("`path` is no path: {e}")))?;
        let unusable = || Faults::one("/path", "`path` is no usable path");
        let url = Url::from_directory_path(&absolute).map_err(|()| unusable())?;
        let folder = Key::from_url_path(url.path()).map_err(|_| unusable())?;
        let name = if name.len() > 1 { name.trim_end_matches('/').to_owned() } else { name };
        let top = absolute.parent().unwrap_or(&absolute).to_owned();
        Ok(Self { name, url, local: Some(absolute), store: Arc::new(Durable::new(top)), folder })
    }

    /// The table as reports show it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder, when the table is on a local disk.
    pub fn local_path(&self) -> Option<&Path> {
        self.local.as_deref()
    }

    /// A folder below this one.
    pub(crate) fn below(&self, folder: &str) -> Self {
        let mut below = self.clone();
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            below.folder = below.folder.join(part);
            below.local = below.local.map(|local| local.join(part));
            below.name = format!("{}/{part}", below.name.trim_end_matches('/'));
            if let Ok(mut path) = below.url.path_segments_mut() {
                path.pop_if_empty().push(part).push("");
            }
        }
        below
    }

    /// The whole store that the table lies in.
    pub fn store(&self) -> ObjectStoreRef {
        self.store.clone()
    }

    /// The key in the whole store of a file below the table's folder, by its path as the log has it.
    ///
    /// # Errors
    /// A path that no store has.
    pub fn key(&self, below: &str) -> Result<Key> {
        let impossible = |e| Error::new(ErrorKind::Data, "the log names an impossible file").because(e);
        let below = Key::parse(below).map_err(impossible)?;
        Ok(Key::from_iter(self.folder.parts().chain(below.parts())))
    }

    /// The same place through another store, which `wrap` puts around this one; also what else `wrap` gives.
    pub fn through<T>(&self, wrap: impl FnOnce(ObjectStoreRef) -> (ObjectStoreRef, T)) -> (Self, T) {
        let (store, more) = wrap(self.store.clone());
        (Self { store, ..self.clone() }, more)
    }

    /// The store of the table's folder.
    pub fn folder(&self) -> ObjectStoreRef {
        Arc::new(PrefixStore::new(self.store.clone(), self.folder.clone()))
    }

    /// The table's storage and log. Versions are made by putting a file that must not be there yet, which local disks
    /// and the object stores of today can do by themselves.
    pub fn log_store(&self) -> LogStoreRef {
        default_logstore(self.folder(), self.store.clone(), &self.url, &StorageConfig::default())
    }

    /// The table at `version`, or at its newest; `None` when there is no table. Call it on the I/O runtime.
    ///
    /// # Errors
    /// A version that does not exist, a log that cannot be read.
    pub async fn open(&self, version: Option<u64>) -> Result<Option<DeltaTable>> {
        let at = |e: Error| e.with("table", &self.name);
        // A local store would take a file for an empty folder, and a missing folder for an error.
        if let Some(path) = &self.local {
            match std::fs::metadata(path) {
                Ok(found) if !found.is_dir() => {
                    let message = "the table's path is a file: name the folder that holds `_delta_log`";
                    return Err(at(Error::new(ErrorKind::Conflict, message)));
                }
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(at(e.into())),
            }
        }
        let log_store = self.log_store();
        if !log_store.is_delta_table_location().await.map_err(delta_error).map_err(at)? {
            return Ok(None);
        }
        let mut table = DeltaTable::new(log_store);
        let loaded = match version {
            Some(version) => table.load_version(version).await,
            None => table.load().await,
        };
        if let Err(error) = loaded {
            let newest = table.get_latest_version().await.ok();
            let error = match (version, newest) {
                (Some(version), Some(newest)) if version > newest => {
                    let message = format!("the table has no version {version}: the newest is {newest}");
                    Error::new(ErrorKind::NotFound, message)
                }
                _ => delta_error(error),
            };
            return Err(at(error));
        }
        Ok(Some(table))
    }
}

/// The parameters for a bare location of the command line that names a Delta table in so many words: `delta:lake/orders`,
/// `delta:s3://bucket/orders`, `delta:///data/orders`.
pub fn location_of(location: &str, table: Option<&str>) -> Option<Value> {
    let path = location.strip_prefix("delta://").or_else(|| location.strip_prefix("delta:"))?;
    if path.is_empty() {
        return None;
    }
    Some(match table {
        Some(table) => json!({"path": path, "table": table}),
        None => json!({"path": path}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(path: &str, table: Option<&str>) -> Result<Location, Faults> {
        let context = ConnectorContext {
            cancel: Default::default(),
            io: tokio::runtime::Handle::current(),
            form: weir_core::Form::Native,
            time_zone: "UTC".parse().unwrap(),
            shared: Default::default(),
        };
        let config = LocationConfig { path: Some(path.into()), table: table.map(Into::into), ..Default::default() };
        Location::new(&config, &context)
    }

    #[tokio::test]
    async fn a_place_is_a_folder_or_a_url() {
        let local = location("/lake/", Some("orders")).unwrap();
        assert_eq!((local.name(), local.url.as_str()), ("/lake/orders", "file:///lake/orders/"));
        let remote = location("s3://bucket/lake", Some("my orders")).unwrap();
        assert_eq!(
            (remote.name(), remote.url.as_str()),
            ("s3://bucket/lake/my orders", "s3://bucket/lake/my%20orders/")
        );
        assert_eq!(location("file:///lake/orders", None).unwrap().local_path(), Some(Path::new("/lake/orders")));
        for (path, table) in
            [("", None), ("/lake", Some("../x")), ("ftp://h/x", None), ("s3://u:p@b/x", None), ("https://h/x", None)]
        {
            assert!(location(path, table).is_err(), "{path}");
        }
    }

    #[test]
    fn bare_locations() {
        assert_eq!(location_of("delta:lake/a", None), Some(json!({"path": "lake/a"})));
        assert_eq!(location_of("delta:///lake", Some("a")), Some(json!({"path": "/lake", "table": "a"})));
        assert_eq!(location_of("delta:s3://b/a", None), Some(json!({"path": "s3://b/a"})));
        assert_eq!(location_of("lake/a", None), None);
    }
}
