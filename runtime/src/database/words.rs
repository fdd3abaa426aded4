//! What `tables` says of single tables and of merges.

use std::borrow::Cow;

use weir_core::Objects;

use super::config::TableConfig;
use super::job::{DatabaseJob, Override};
use super::select::{Found, Selection, own};

/// Whether words are about a source table.
fn about(words: &Override, found: &Found, objects: &[Objects]) -> bool {
    words.pattern.matches(&found.object.name, own(&objects[found.source]))
}

/// What is said of a table that goes into one of its own: under its name, and where that says nothing, under a pattern that
/// matches it.
///
/// # Errors
/// Two names, or two patterns, are about it, and nobody knows which of them comes first: whoever leaves a column out for all
/// tables, and says something else of one of them, would not find out that the column of that one is read.
pub(super) fn of_table<'j>(
    job: &'j DatabaseJob,
    found: &Found,
    objects: &[Objects],
) -> Result<Option<Cow<'j, Override>>, String> {
    let (mut name, mut pattern) = (None, None);
    for words in job.tables.iter().filter(|words| about(words, found, objects)) {
        let of_kind: &mut Option<&Override> = if words.pattern.is_name() { &mut name } else { &mut pattern };
        if let Some(other) = of_kind.replace(words) {
            return Err(format!(
                "`{}` and `{}` under `tables` are both about it, and neither comes before the other: say under one of them \
                 what holds for it, and let the other not match it",
                other.pattern, words.pattern
            ));
        }
    }
    Ok(match (name, pattern) {
        (Some(name), Some(pattern)) => Some(Cow::Owned(over(name, pattern))),
        (words, None) | (None, words) => words.map(Cow::Borrowed),
    })
}

/// Words under a name, and what they leave to those under a pattern.
fn over(name: &Override, pattern: &Override) -> Override {
    let TableConfig { filter, columns, write_mode, key, split_pk, incremental, target } = name.config.clone();
    let under = pattern.config.clone();
    let config = TableConfig {
        filter: filter.or(under.filter),
        columns: under.columns.into_iter().chain(columns).collect(),
        write_mode: write_mode.or(under.write_mode),
        key: if key.is_empty() { under.key } else { key },
        split_pk: split_pk.or(under.split_pk),
        incremental: incremental.or(under.incremental),
        target: target.or(under.target),
    };
    Override { pattern: name.pattern.clone(), config, target: name.target.clone().or_else(|| pattern.target.clone()) }
}

/// What is said of a merge, by its name.
pub(super) fn of_merge<'j>(job: &'j DatabaseJob, into: &str) -> Option<&'j Override> {
    job.tables.iter().find(|words| words.pattern.to_string() == into)
}

/// What is said of parts of a merge, and nobody follows.
pub(super) fn of_parts<'j>(
    job: &'j DatabaseJob,
    parts: &[Found],
    of_merge: Option<&Override>,
    objects: &[Objects],
) -> impl Iterator<Item = &'j Override> {
    let others = job.tables.iter().filter(move |words| of_merge.is_none_or(|own| !std::ptr::eq(own, *words)));
    others.filter(move |words| parts.iter().any(|part| about(words, part, objects)))
}

/// Words that are about nothing of the job.
pub(super) fn unused<'a>(
    job: &'a DatabaseJob,
    selection: &'a Selection,
    objects: &'a [Objects],
) -> impl Iterator<Item = &'a Override> {
    job.tables.iter().filter(move |words| {
        let text = words.pattern.to_string();
        let of_merge = job.into.iter().any(|into| into.to_string() == text);
        let mut selected = selection.single.iter().chain(selection.merges.iter().flatten());
        !of_merge && !selected.any(|found| about(words, found, objects))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use weir_core::{Object, ObjectKind, ObjectName};

    fn found(table: &str) -> Found {
        Found {
            source: 0,
            object: Object {
                name: ObjectName { database: "shop".into(), schema: None, table: table.into() },
                kind: ObjectKind::Table,
                rows: None,
                bytes: None,
            },
        }
    }

    fn objects() -> [Objects; 1] {
        [Objects { database: Some("shop".into()), ..Objects::default() }]
    }

    #[test]
    fn words_of_which_neither_comes_first_are_refused() {
        let job = DatabaseJob::of(&json!({"tables": {
            "*.customers": {"columns": {"ssn": false}}, "/c.*/": {"where": "active"}, "/o.*/": {"key": ["id"]},
            "items": {"key": ["id"]}, "shop.items": {"where": "active"},
        }}));
        let fault = |table: &str| of_table(&job, &found(table), &objects()).unwrap_err();
        assert!(fault("customers").contains("`*.customers` and `/c.*/` under `tables`"), "{}", fault("customers"));
        assert!(fault("items").contains("`items` and `shop.items` under `tables`"), "{}", fault("items"));
        let of =
            |table: &str| of_table(&job, &found(table), &objects()).unwrap().map(|words| words.pattern.to_string());
        assert_eq!((of("orders").as_deref(), of("parts")), (Some("/o.*/"), None));
    }

    #[test]
    fn a_name_comes_before_a_pattern_and_leaves_it_what_it_does_not_say() {
        let job = DatabaseJob::of(&json!({"tables": {
            "*": {"where": "active", "columns": {"ssn": false, "nm": "name"}, "writeMode": "append", "key": ["a"]},
            "orders": {"key": ["id"], "columns": {"nm": true, "x": "y"}, "splitPk": "id", "writeMode": "upsert"},
        }}));
        let orders = of_table(&job, &found("orders"), &objects()).unwrap().unwrap();
        let both = json!({"where": "active", "columns": {"ssn": false, "nm": true, "x": "y"}, "writeMode": "upsert",
            "key": ["id"], "splitPk": "id"});
        assert_eq!(orders.config, weir_core::config::parse::<TableConfig>(&both).unwrap());
        let others = of_table(&job, &found("items"), &objects()).unwrap().unwrap();
        assert_eq!(others.config, job.config.tables["*"]);
    }
}
