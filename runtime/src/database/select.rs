//! Which of a source's tables a job takes.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use weir_core::{LetterCase, Object, ObjectKind, ObjectName, Objects, Seen};

use super::job::Patterns;
use super::pattern::{Own, Pattern};

/// An object, and which of the job's sources it is in.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The source, from 0.
    pub source: usize,
    /// The object.
    pub object: Object,
}

/// What the patterns have found.
#[derive(Debug, Default)]
pub struct Selection {
    /// Tables that go each into one of their own.
    pub single: Vec<Found>,
    /// For each merge of the job: its tables.
    pub merges: Vec<Vec<Found>>,
    /// Patterns that name a table which no source has.
    pub missing: Vec<Pattern>,
    /// Patterns that match nothing.
    pub idle: Vec<Pattern>,
    /// Patterns of what to leave out that match nothing.
    pub idle_excludes: Vec<Pattern>,
    /// Tables that the patterns mean and the job itself has made.
    pub made: Vec<String>,
    /// How many there are.
    pub counts: Counts,
}

/// How much is selected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Databases with a selected table.
    pub databases: usize,
    /// Schemas with one, where there are schemas.
    pub schemas: usize,
    /// Source tables.
    pub tables: usize,
    /// Tables, views and the like that the connections reach.
    pub of: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        write!(f, "{}, ", number(self.databases, "database"))?;
        if self.schemas > 0 {
            write!(f, "{}, ", number(self.schemas, "schema"))?;
        }
        write!(f, "{}", number(self.tables, "table"))
    }
}

impl Selection {
    /// One table of each database of the sources.
    pub fn of_each_database(&self) -> impl Iterator<Item = &Found> {
        let mut seen = BTreeSet::new();
        let all = self.single.iter().chain(self.merges.iter().flatten());
        all.filter(move |found| seen.insert((found.source, found.object.name.database.as_str())))
    }
}

/// The parts that patterns leave out, for one source.
pub fn own(objects: &Objects) -> Own<'_> {
    Own {
        database: objects.database.as_deref(),
        schema: objects.schema.as_deref(),
        case: if objects.ignores_case { LetterCase::Ignore } else { LetterCase::Exact },
    }
}

/// Selects out of what the sources hold, without what the job itself has `made` there. A table that a merge takes is in no
/// other place.
pub fn select(patterns: &Patterns, sources: &[Objects], made: &HashSet<(usize, ObjectName)>) -> Selection {
    let mut found = Selection { merges: vec![Vec::new(); patterns.merges.len()], ..Selection::default() };
    let mut used: BTreeSet<String> = BTreeSet::new();
    let mut excludes: BTreeSet<usize> = BTreeSet::new();
    let mut databases = BTreeSet::new();
    let mut schemas = BTreeSet::new();
    for (source, objects) in sources.iter().enumerate() {
        let own = own(objects);
        found.counts.of += objects.list.len();
        for object in &objects.list {
            let takes = |pattern: &Pattern| {
                let kind = object.kind == ObjectKind::Table || patterns.views || pattern.is_name();
                kind && pattern.matches(&object.name, own)
            };
            let mut first = |list: &[Pattern]| {
                let pattern = list.iter().find(|pattern| takes(pattern))?;
                used.insert(pattern.to_string());
                Some(())
            };
            let merged: Vec<usize> =
                (0..patterns.merges.len()).filter(|i| first(&patterns.merges[*i]).is_some()).collect();
            let included = match patterns.is_whole() {
                // Nothing said: the connection's database, all schemas of it that the user may look into.
                true => {
                    let is_closed = |schema: &String| objects.closed_schemas.contains(schema);
                    (object.kind == ObjectKind::Table || patterns.views)
                        && objects.database.as_ref().is_none_or(|own| *own == object.name.database)
                        && !object.name.schema.as_ref().is_some_and(is_closed)
                }
                false => first(&patterns.include).is_some(),
            };
            let excluding = patterns.exclude.iter().enumerate();
            let excluding: Vec<_> = excluding.filter(|(_, pattern)| pattern.matches(&object.name, own)).collect();
            excludes.extend(excluding.iter().map(|(at, _)| *at));
            if !excluding.is_empty() || (merged.is_empty() && !included) {
                continue;
            }
            if made.contains(&(source, object.name.clone())) {
                found.made.push(object.name.to_string());
                continue;
            }
            found.counts.tables += 1;
            databases.insert((source, object.name.database.clone()));
            schemas.extend(object.name.schema.clone().map(|schema| (source, object.name.database.clone(), schema)));
            let one = Found { source, object: object.clone() };
            if merged.is_empty() {
                found.single.push(one);
            } else {
                merged.into_iter().for_each(|merge| found.merges[merge].push(one.clone()));
            }
        }
    }
    found.counts.databases = databases.len();
    found.counts.schemas = schemas.len();
    for pattern in patterns.include.iter().chain(patterns.merges.iter().flatten()) {
        if !used.contains(&pattern.to_string()) {
            match pattern.is_name() {
                true => found.missing.push(pattern.clone()),
                false => found.idle.push(pattern.clone()),
            }
        }
    }
    // One that means a whole database keeps everybody from looking into it.
    let unseen = |pattern: &Pattern| {
        sources
            .iter()
            .flat_map(|of| &of.others)
            .any(|other| other.seen != Seen::Listed && pattern.is_all_of(&other.name))
    };
    let idle = patterns.exclude.iter().enumerate().filter(|(at, pattern)| !excludes.contains(at) && !unseen(pattern));
    found.idle_excludes = idle.map(|(_, pattern)| pattern.clone()).collect();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(names: &[(&str, &str)]) -> Objects {
        let object = |(database, table): &(&str, &str)| Object {
            name: ObjectName { database: (*database).into(), schema: None, table: (*table).into() },
            kind: if table.starts_with("v_") { ObjectKind::View } else { ObjectKind::Table },
            rows: None,
            bytes: None,
        };
        Objects {
            database: Some("shop".into()),
            ignores_case: true,
            list: names.iter().map(object).collect(),
            ..Objects::default()
        }
    }

    fn patterns(include: &[&str], exclude: &[&str], merges: &[&[&str]]) -> Patterns {
        let all = |texts: &[&str]| texts.iter().map(|text| Pattern::parse(text).unwrap()).collect::<Vec<_>>();
        Patterns {
            include: all(include),
            exclude: all(exclude),
            merges: merges.iter().map(|m| all(m)).collect(),
            ..Default::default()
        }
    }

    fn of(patterns: &Patterns, sources: &[Objects]) -> Selection {
        select(patterns, sources, &HashSet::new())
    }

    fn names(found: &[Found]) -> Vec<String> {
        found.iter().map(|found| format!("{}:{}", found.source, found.object.name)).collect()
    }

    #[test]
    fn patterns_include_exclude_and_merge() {
        let sources = [
            source(&[("shop", "orders"), ("shop", "tmp_1"), ("shop", "v_sum"), ("other", "orders")]),
            source(&[("shop_1", "orders_00"), ("shop_1", "orders_01"), ("shop", "orders")]),
        ];
        let found = of(
            &patterns(
                &["shop.*", "gone", "x*"],
                &["shop.tmp_*", "tmp_*", "temp_*"],
                &[&["/shop_[0-9]+/./orders_[0-9]+/"]],
            ),
            &sources,
        );
        assert_eq!(names(&found.single), ["0:shop.orders", "1:shop.orders"]);
        assert_eq!(names(&found.merges[0]), ["1:shop_1.orders_00", "1:shop_1.orders_01"]);
        let texts = |patterns: &[Pattern]| patterns.iter().map(Pattern::to_string).collect::<Vec<_>>();
        assert_eq!((texts(&found.missing), texts(&found.idle)), (vec!["gone".to_owned()], vec!["x*".to_owned()]));
        assert_eq!(texts(&found.idle_excludes), ["temp_*"]);
        assert_eq!(found.counts.to_string(), "3 databases, 4 tables");
        assert_eq!(found.counts.of, 7);
    }

    #[test]
    fn without_patterns_it_is_the_connections_database_and_views_are_left_out() {
        let sources = [source(&[("shop", "orders"), ("shop", "v_sum"), ("other", "orders")])];
        assert_eq!(names(&of(&patterns(&[], &[], &[]), &sources).single), ["0:shop.orders"]);
        assert_eq!(names(&of(&patterns(&["v_sum"], &[], &[]), &sources).single), ["0:shop.v_sum"]);
        let views = Patterns { views: true, ..patterns(&["v_*"], &[], &[]) };
        assert_eq!(names(&of(&views, &sources).single), ["0:shop.v_sum"]);
        assert_eq!(of(&patterns(&[], &[], &[]), &sources).counts.to_string(), "1 database, 1 table");
    }
}
