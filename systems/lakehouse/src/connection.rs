//! Where a table is and how to get there.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltalake::logstore::LogStoreRef;
use deltalake::{DeltaTable, DeltaTableBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;
use weir_core::{Error, ErrorKind, Faults, Result, Secret};

use crate::error::delta_error;

/// The parameters that say where a table is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline)]
pub struct LocationConfig {
    /// The table's folder, or its URL in an object store: `lake/orders`, `s3://bucket/lake/orders`.
    #[serde(alias = "url")]
    #[schemars(extend("x-aliases" = ["url"]))]
    pub path: Option<String>,
    /// A folder below `path`, for a lake with many tables.
    pub table: Option<String>,
    /// Options of the object store, `aws_access_key_id` and the like. Write secrets as `${env:NAME}` or `${file:PATH}`.
    pub storage_options: BTreeMap<String, Secret>,
}

/// A table's place.
#[derive(Clone)]
pub struct Location {
    name: String,
    url: Url,
    local: Option<PathBuf>,
    options: HashMap<String, String>,
}

impl Location {
    /// Reads the parameters; touches nothing.
    ///
    /// # Errors
    /// No path, a `table` that leaves it, or a URL of an unknown kind.
    pub fn new(config: &LocationConfig) -> Result<Self, Faults> {
        let path = config.path.as_deref().map(str::trim).filter(|p| !p.is_empty());
        let path = path.ok_or_else(|| Faults::one("", "`path` is missing: name the table's folder or URL"))?;
        let table = config.table.as_deref().unwrap_or("").trim_matches('/');
        if Path::new(table).components().any(|c| !matches!(c, std::path::Component::Normal(_))) {
            return Err(Faults::one("/table", "`table` is a folder below `path`, without `.` and `..`"));
        }
        let options = config.storage_options.iter().map(|(k, v)| (k.clone(), v.reveal().to_owned())).collect();
        let joined = if table.is_empty() { path.to_owned() } else { format!("{}/{table}", path.trim_end_matches('/')) };
        if !joined.contains("://") {
            return Self::local(Path::new(&joined), joined.clone(), options);
        }
        let mut url = Url::parse(&joined).map_err(|e| Faults::one("/path", format!("`path` is no URL: {e}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Faults::one("/path", "put credentials into `storageOptions`, not into the URL"));
        }
        match url.scheme() {
            "file" => {
                let path = url.to_file_path().map_err(|()| Faults::one("/path", "the file URL names no local path"))?;
                Self::local(&path, path.display().to_string(), options)
            }
            "s3" | "s3a" => {
                if !url.path().ends_with('/') {
                    url.set_path(&format!("{}/", url.path()));
                }
                let name = joined.trim_end_matches('/').to_owned();
                Ok(Self { name, url, local: None, options })
            }
            other => {
                let known = "use a local folder, file:// or s3://";
                Err(Faults::one("/path", format!("tables at `{other}://` are not supported: {known}")))
            }
        }
    }

    fn local(path: &Path, name: String, options: HashMap<String, String>) -> Result<Self, Faults> {
        let absolute =
            std::path::absolute(path).map_err(|e| Faults::one("/path", format!("`path` is no path: {e}")))?;
        let url = Url::from_directory_path(&absolute).map_err(|()| Faults::one("/path", "`path` is no usable path"))?;
        let name = if name.len() > 1 { name.trim_end_matches('/').to_owned() } else { name };
        Ok(Self { name, url, local: Some(absolute), options })
    }

    /// The table as reports show it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder, when the table is on a local disk.
    pub fn local_path(&self) -> Option<&Path> {
        self.local.as_deref()
    }

    /// The table's storage and log.
    ///
    /// # Errors
    /// Options that the object store does not understand.
    pub fn log_store(&self) -> Result<LogStoreRef> {
        let builder = DeltaTableBuilder::from_url(self.url.clone()).map_err(delta_error)?;
        let builder = if self.url.scheme().starts_with("s3") {
            let (store, _) = object_store::parse_url_opts(&self.url, &self.options)
                .map_err(|e| Error::config("the object store cannot be opened: check `storageOptions`").because(e))?;
            builder.with_storage_backend(Arc::from(store), self.url.clone())
        } else {
            builder
        };
        builder.build_storage().map_err(delta_error).map_err(|e| e.with("table", &self.name))
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
        let log_store = self.log_store()?;
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
        Location::new(&LocationConfig {
            path: Some(path.into()),
            table: table.map(Into::into),
            storage_options: BTreeMap::new(),
        })
    }

    #[test]
    fn a_place_is_a_folder_or_a_url() {
        let local = location("/lake/", Some("orders")).unwrap();
        assert_eq!((local.name(), local.url.as_str()), ("/lake/orders", "file:///lake/orders/"));
        let remote = location("s3://bucket/lake", Some("orders")).unwrap();
        assert_eq!(remote.url.as_str(), "s3://bucket/lake/orders/");
        assert_eq!(location("file:///lake/orders", None).unwrap().local_path(), Some(Path::new("/lake/orders")));
        for (path, table) in [("", None), ("/lake", Some("../x")), ("ftp://h/x", None), ("s3://u:p@b/x", None)] {
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
