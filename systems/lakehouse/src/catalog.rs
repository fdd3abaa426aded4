//! The tables of a lake: the folders that hold a Delta log.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use weir_core::{Catalog, ConnectorContext, Error, ErrorKind, LetterCase, Result, TableInfo, glob};

use crate::connection::Location;
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
        let Some(root) = self.location.local_path().map(Path::to_path_buf) else {
            return Err(Error::new(ErrorKind::Unsupported, "tables can be listed below a local folder only"));
        };
        let pattern = pattern.map(str::to_owned);
        on_io(&self.context, async move {
            let mut found = Vec::new();
            collect(&root, DEPTH, &mut found)?;
            found.sort();
            let mut tables = Vec::new();
            for path in found {
                let name = match path.strip_prefix(&root) {
                    Ok(below) if !below.as_os_str().is_empty() => below.display().to_string(),
                    _ => ".".to_owned(),
                };
                if pattern.as_deref().is_some_and(|p| !glob(p, &name, LetterCase::Exact)) {
                    continue;
                }
                tables.push(describe(name, &path).await);
            }
            Ok(tables)
        })
        .await
    }
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    if folder.join("_delta_log").is_dir() {
        found.push(folder.to_owned());
        return Ok(());
    }
    if depth == 0 {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let hidden = entry.file_name().to_str().is_none_or(|n| n.starts_with(['.', '_']));
        if !hidden && entry.file_type()?.is_dir() {
            collect(&entry.path(), depth - 1, found)?;
        }
    }
    Ok(())
}

/// Sizes where the log can be read; a table that cannot is listed all the same.
async fn describe(name: String, path: &Path) -> TableInfo {
    let mut info = TableInfo { name, kind: "table".into(), rows: None, bytes: None };
    let config = crate::LocationConfig { path: path.to_str().map(Into::into), ..Default::default() };
    let Ok(location) = Location::new(&config) else { return info };
    if let Ok(Some(table)) = location.open(None).await
        && let Ok(files) = active_files(&table)
    {
        info.rows = files.iter().map(|f| f.rows).sum();
        info.bytes = Some(files.iter().map(|f| f.size).sum());
    }
    info
}
