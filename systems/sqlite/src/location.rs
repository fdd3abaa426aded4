//! How a job names a database file.

use std::path::PathBuf;

use serde_json::{Value, json};

/// Endings by which a bare path is known as an SQLite file.
const ENDINGS: [&str; 4] = [".db", ".sqlite", ".sqlite3", ".db3"];

/// The file that `sqlite://path`, `sqlite:path`, `jdbc:sqlite:path` or a plain path names; `~/` is the home folder.
/// Parameters after `?` of a URL are for other programs and left out.
///
/// # Errors
/// What is wrong with it: another system's URL, an in-memory database, no path at all.
pub fn path_of(location: &str) -> Result<PathBuf, String> {
    let location = location.trim();
    let path = match url_path(location) {
        Some(rest) => rest,
        None if location.contains("://") || location.starts_with("jdbc:") => {
            return Err("this is no SQLite database: write its path, or `sqlite://path`".into());
        }
        None => location,
    };
    if path.is_empty() || path.contains(":memory:") {
        return Err("a database in memory cannot be read or written by another program: name a file".into());
    }
    if let Some(rest) = path.strip_prefix("~/") {
        let home =
            std::env::home_dir().ok_or("`~/` stands for the home folder, and there is none: write the path out")?;
        return Ok(home.join(rest));
    }
    Ok(PathBuf::from(path))
}

fn url_path(location: &str) -> Option<&str> {
    let rest = strip_word(location, "jdbc:").unwrap_or(location);
    let rest = strip_word(rest, "sqlite:")?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let rest = rest.strip_prefix("file:").unwrap_or(rest);
    Some(rest.split_once('?').map_or(rest, |(path, _)| path))
}

fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.get(..word.len()).filter(|start| start.eq_ignore_ascii_case(word)).map(|_| &text[word.len()..])
}

/// The parameters for a bare location, if it is one of ours.
pub fn recognise(location: &str, table: Option<&str>) -> Option<Value> {
    let lower = location.to_ascii_lowercase();
    let plain = !lower.contains("://") && !lower.starts_with("jdbc:") && ENDINGS.iter().any(|e| lower.ends_with(e));
    if !plain && url_path(location).is_none() {
        return None;
    }
    let mut parameters = json!({ "path": location });
    if let Some(table) = table {
        parameters["table"] = table.into();
    }
    Some(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_file() {
        for (location, path) in [
            ("shop.db", "shop.db"),
            ("sqlite://shop.db", "shop.db"),
            ("sqlite:///data/shop.db?mode=ro", "/data/shop.db"),
            ("sqlite:a b.db", "a b.db"),
            ("JDBC:sqlite:/x/ü.sqlite", "/x/ü.sqlite"),
            ("jdbc:sqlite:file:x.db?cache=shared", "x.db"),
            ("what?.db", "what?.db"),
        ] {
            assert_eq!(path_of(location).unwrap(), PathBuf::from(path), "{location}");
        }
        assert!(path_of("~/x.db").unwrap().is_absolute());
        for bad in ["sqlite::memory:", "sqlite:", "mysql://h/x.db", "jdbc:mysql://h/x", ""] {
            assert!(path_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_our_locations_are_recognised() {
        assert_eq!(recognise("~/a.SQLITE3", Some("t")).unwrap(), json!({"path": "~/a.SQLITE3", "table": "t"}));
        assert!(recognise("jdbc:sqlite:whatever", None).is_some());
        for other in ["a.csv", "s3://bucket/a.db", "mysql://h/a.db", "folder/", "db"] {
            assert!(recognise(other, None).is_none(), "{other}");
        }
    }
}
