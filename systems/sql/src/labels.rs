//! What tables are called in plans, progress and reports.

use std::collections::HashMap;

/// Tells apart the tables of several databases, given as (name, place) with a place such as `host:port/database`: where
/// names are equal, each gets its place. The same table of the same place, listed twice, gets a number besides.
pub fn distinct<'a>(tables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let tables: Vec<_> = tables.into_iter().collect();
    let mut names: HashMap<&str, usize> = HashMap::new();
    for (name, _) in &tables {
        *names.entry(name).or_default() += 1;
    }
    let mut labels: HashMap<String, usize> = HashMap::new();
    let label = |(name, place): (&str, &str)| {
        let label = if names[name] > 1 { format!("{name}@{place}") } else { name.to_owned() };
        let seen = labels.entry(label.clone()).or_default();
        *seen += 1;
        if *seen > 1 { format!("{label} ({seen})") } else { label }
    };
    tables.into_iter().map(label).collect()
}

/// What tells a table apart from those of the same full name elsewhere, for readers and writers of one system alike: its server,
/// and its database where full names are unique only there. This machine has several names.
pub fn home(system: &str, server: &str, database: Option<&str>) -> String {
    let host = |one: &str| {
        let one = one.to_lowercase();
        let local = ["localhost", "[::1]", "::1"].iter().find_map(|name| one.strip_prefix(name));
        local.filter(|rest| !rest.starts_with('.')).map(|rest| format!("127.0.0.1{rest}")).unwrap_or(one)
    };
    // A file's or a socket's path is as it is.
    let server = match server.contains('/') {
        true => server.to_owned(),
        false => server.split(',').map(host).collect::<Vec<_>>().join(","),
    };
    format!("{system}://{server}/{}", database.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_one_whatever_its_machine_is_called() {
        let one = home("postgresql", "127.0.0.1:5432", Some("shop"));
        assert_eq!(home("postgresql", "LocalHost:5432", Some("shop")), one);
        assert_eq!(home("postgresql", "[::1]:5432", Some("shop")), one);
        for (system, server, database) in [
            ("postgresql", "localhost:5433", "shop"),
            ("postgresql", "localhost.example:5432", "shop"),
            ("postgresql", "localhost:5432", "Shop"),
            ("mysql", "localhost:5432", "shop"),
        ] {
            assert_ne!(home(system, server, Some(database)), one);
        }
        assert_ne!(home("sqlite", "/data/A.db", None), home("sqlite", "/data/a.db", None));
    }

    #[test]
    fn only_equal_names_are_told_apart() {
        assert_eq!(distinct([("t", "a:1/d"), ("u", "a:1/d")]), ["t", "u"]);
        assert_eq!(
            distinct([("t", "a:1/d"), ("u", "a:1/d"), ("t", "b:1/d"), ("t", "a:1/d")]),
            ["t@a:1/d", "u", "t@b:1/d", "t@a:1/d (2)"]
        );
    }
}
