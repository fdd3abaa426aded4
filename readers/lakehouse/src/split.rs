//! Splits are groups of data files of one version.

use serde::{Deserialize, Serialize};
use weir_core::{Error, Result, Split, SplitRequest};
use weir_lakehouse::DataFile;

/// What a task needs to find its files.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) version: u64,
    pub(crate) files: Vec<DataFile>,
}

/// Groups files to at most about `max_bytes`, and into a few times as many splits as there are channels, for balance.
/// A larger file is a split of its own.
pub(crate) fn group(table: &str, version: u64, files: Vec<DataFile>, request: &SplitRequest) -> Result<Vec<Split>> {
    let total: u64 = files.iter().map(|f| f.size).sum();
    let fair = total / (request.channels.max(1) as u64 * 4);
    let most = fair.clamp(1, request.max_bytes.max(1));
    let mut groups: Vec<Vec<DataFile>> = Vec::new();
    let mut bytes = u64::MAX;
    for file in files {
        if bytes.saturating_add(file.size) > most {
            groups.push(Vec::new());
            bytes = 0;
        }
        bytes += file.size;
        if let Some(group) = groups.last_mut() {
            group.push(file);
        }
    }
    let several = groups.len() > 1;
    groups
        .into_iter()
        .enumerate()
        .map(|(index, files)| {
            let description = match files.as_slice() {
                [file] => format!("version {version}, {}", file.path),
                files if several => format!("version {version}, part {}, {} files", index + 1, files.len()),
                files => format!("version {version}, {} files", files.len()),
            };
            Ok(Split {
                id: 0,
                table: table.to_owned(),
                description,
                rows: files.iter().map(|f| f.rows).sum(),
                bytes: Some(files.iter().map(|f| f.size).sum()),
                // Data files are never changed.
                stable: true,
                part: serde_json::to_value(Part { version, files })
                    .map_err(|e| Error::internal("a split cannot be written down").because(e))?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_in_one_group_and_groups_are_bounded() {
        let file = |n: u64, size| DataFile { path: format!("{n}"), size, rows: Some(n), partition: Default::default() };
        let files: Vec<_> = [10, 10, 500, 10, 90, 20].into_iter().zip(0..).map(|(size, n)| file(n, size)).collect();
        for (channels, max_bytes) in [(1, 100), (1, 1), (8, 1000)] {
            let request = SplitRequest { channels, max_bytes, snapshot: None, stable: false, limit: None };
            let splits = group("t", 3, files.clone(), &request).unwrap();
            let parts: Vec<Part> = splits.iter().map(|s| serde_json::from_value(s.part.clone()).unwrap()).collect();
            let all: Vec<_> = parts.iter().flat_map(|p| p.files.clone()).collect();
            assert_eq!(all, files);
            assert!(parts.iter().all(|p| p.version == 3 && !p.files.is_empty()));
            assert!(splits.iter().zip(&parts).all(|(s, p)| p.files.len() == 1 || s.bytes.unwrap() <= max_bytes));
        }
        assert!(
            group(
                "t",
                0,
                vec![],
                &SplitRequest { channels: 1, max_bytes: 9, snapshot: None, stable: false, limit: None }
            )
            .unwrap()
            .is_empty()
        );
    }
}
