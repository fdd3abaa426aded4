//! Which bare locations of `weir copy` are files to write.

use serde_json::{Value, json};
use weir_core::Form;
use weir_files::split_extension;

/// Paths and URLs with a known extension; folders belong to the lakehouse.
pub(crate) fn recognise(location: &str, table: Option<&str>) -> Option<Value> {
    if table.is_some() || location.contains(['*', '?']) {
        return None;
    }
    let path = match location.split_once("://") {
        Some((scheme, path)) => {
            let known = ["file", "s3", "s3a", "gs", "az", "abfs", "abfss", "http", "https"];
            known.contains(&scheme.to_ascii_lowercase().as_str()).then_some(path)?
        }
        None if location.split_once(':').is_some_and(|(s, _)| s.len() > 1 && !s.contains(['/', '.'])) => return None,
        None => location,
    };
    split_extension(path, Form::Native).0?;
    // Without a mode of its own a copy never replaces anything.
    (!std::path::Path::new(path).is_dir()).then(|| json!({ "path": location, "writeMode": "nonConflict" }))
}
