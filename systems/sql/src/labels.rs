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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equal_names_are_told_apart() {
        assert_eq!(distinct([("t", "a:1/d"), ("u", "a:1/d")]), ["t", "u"]);
        assert_eq!(
            distinct([("t", "a:1/d"), ("u", "a:1/d"), ("t", "b:1/d"), ("t", "a:1/d")]),
            ["t@a:1/d", "u", "t@b:1/d", "t@a:1/d (2)"]
        );
    }
}
