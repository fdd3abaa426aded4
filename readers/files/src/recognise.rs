//! Which bare locations of `weir copy` are files.

use serde_json::{Value, json};
use weir_core::Form;
use weir_files::split_extension;

/// Paths and URLs with a known extension, globs, and existing folders that are no Delta table.
pub(crate) fn recognise(location: &str, table: Option<&str>) -> Option<Value> {
    if table.is_some() {
        return None;
    }
    let path = match location.split_once("://") {
        Some((scheme, path)) => {
            let known = ["file", "s3", "s3a", "gs", "az", "abfs", "abfss", "http", "https"];
            known.contains(&scheme.to_ascii_lowercase().as_str()).then_some(path)?
        }
        // `sqlite:x.db`, `jdbc:…`; a drive letter is no scheme.
        None if location.split_once(':').is_some_and(|(s, _)| s.len() > 1 && !s.contains(['/', '.'])) => return None,
        None => location,
    };
    let is_file = split_extension(path, Form::Native).0.is_some();
    let is_glob = path.contains(['*', '?']) && !location.starts_with("http");
    let is_folder = || {
        let folder = std::path::Path::new(location.strip_prefix("file://").unwrap_or(location));
        let is_table = |path: &std::path::Path| path.join("_delta_log").is_dir();
        let mut inner = std::fs::read_dir(folder).into_iter().flatten().flatten();
        folder.is_dir() && !is_table(folder) && !inner.any(|entry| is_table(&entry.path()))
    };
    // A folder may be called `x.parquet` and be a Delta table all the same.
    let is_table = || std::path::Path::new(path).join("_delta_log").exists();
    ((is_file && !is_table()) || is_glob || is_folder()).then(|| json!({ "path": location }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_claimed() {
        for ours in
            ["a.csv", "x/b.TSV.gz", "s3://b/k.parquet", "file:///x.jsonl.zst", "in/*", "a.ndjson.bz2", "b.sz.arrow"]
        {
            assert!(recognise(ours, None).is_some(), "{ours}");
        }
        for other in ["shop.db", "mysql://h/db?a=*", "sqlite:a.csv", "jdbc:x", "no/such/folder", "s3://lake/orders"] {
            assert!(recognise(other, None).is_none(), "{other}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert!(recognise(path, None).is_some());
        std::fs::create_dir(folder.path().join("_delta_log")).unwrap();
        assert!(recognise(path, None).is_none());
    }
}
