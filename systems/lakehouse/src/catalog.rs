//! The tables of a lake: the folders that hold a Delta log.

use async_trait::async_trait;
use deltalake::logstore::ObjectStoreRef;
use object_store::path::Path as Key;
use weir_core::{Catalog, ConnectorContext, Error, LetterCase, Result, TableInfo, glob};

use crate::connection::Location;
use crate::error::delta_error;
use crate::files::active_files;
use crate::on_io;

/// How deep below the lake's folder tables are looked for.
const DEPTH: usize = 4;

/// Lists the tables below a folder.
pub struct LakehouseCatalog {
    location: Location,
    context: ConnectorContext,
}

impl LakehouseCatalog {
    /// The catalogue of the tables at and below `location`.
    pub fn new(location: Location, context: ConnectorContext) -> Self {
        Self { location, context }
    }
}

#[async_trait]
impl Catalog for LakehouseCatalog {
    async fn tables(&self, pattern: Option<&str>) -> Result<Vec<TableInfo>> {
        let (pattern, location) = (pattern.map(str::to_owned), self.location.clone());
        on_io(&self.context, async move {
            // A local store takes a missing folder for an empty one.
            if let Some(folder) = location.local_path() {
                std::fs::read_dir(folder).map_err(|e| Error::from(e).with("path", location.name()))?;
            }
            let mut found = tables_below(&location.folder()).await.map_err(|e| e.with("path", location.name()))?;
            found.sort();
            let mut tables = Vec::new();
            for folder in found {
                let name = if folder.is_empty() { "." } else { &folder };
                if pattern.as_deref().is_some_and(|p| !glob(p, name, LetterCase::Exact)) {
                    continue;
                }
                tables.push(describe(name.to_owned(), location.below(&folder)).await);
            }
            Ok(tables)
        })
        .await
    }
}

/// The folders that hold a Delta log, relative to the store's root.
async fn tables_below(store: &ObjectStoreRef) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![(Key::default(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let prefix = Some(&folder).filter(|folder| !folder.as_ref().is_empty());
        let listed = store.list_with_delimiter(prefix).await.map_err(|e| delta_error(e.into()))?;
        let inner = listed.common_prefixes;
        if inner.iter().any(|below| below.filename() == Some("_delta_log")) {
            found.push(folder.to_string());
        } else if depth < DEPTH {
            let shown = inner.into_iter().filter(|below| !below.filename().is_some_and(|n| n.starts_with(['.', '_'])));
            folders.extend(shown.map(|below| (below, depth + 1)));
        }
    }
    Ok(found)
}

/// Sizes where the log can be read; a table that cannot is listed all the same.
async fn describe(name: String, location: Location) -> TableInfo {
    let mut info = TableInfo { name, kind: "table".into(), rows: None, bytes: None };
    if let Ok(Some(table)) = location.open(None).await
        && let Ok(files) = active_files(&table)
    {
        info.rows = files.iter().map(|f| f.rows).sum();
        info.bytes = Some(files.iter().map(|f| f.size).sum());
    }
    info
}
