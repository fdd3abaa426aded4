//! What `tables` says of single tables and of merges.

use weir_core::Objects;

use super::job::{DatabaseJob, Override};
use super::select::{Found, Selection, own};

/// Whether words are about a source table.
fn about(words: &Override, found: &Found, objects: &[Objects]) -> bool {
    words.pattern.matches(&found.object.name, own(&objects[found.source]))
}

/// What is said of a table that goes into one of its own.
///
/// # Errors
/// It is said twice: whoever leaves a column out for all tables, and says something else of one of them, would not find out
/// that the column of that one is read.
pub(super) fn of_table<'j>(
    job: &'j DatabaseJob,
    found: &Found,
    objects: &[Objects],
) -> Result<Option<&'j Override>, String> {
    let mut words = job.tables.iter().filter(|words| about(words, found, objects));
    match (words.next(), words.next()) {
        (Some(one), Some(other)) => Err(format!(
            "`{}` and `{}` under `tables` are both about it, and only one of them would be followed: say under one of them \
             what holds for it, and let the other not match it",
            one.pattern, other.pattern
        )),
        (words, _) => Ok(words),
    }
}

/// What is said of a merge, by its name.
pub(super) fn of_merge<'j>(job: &'j DatabaseJob, into: &str) -> Option<&'j Override> {
    job.tables.iter().find(|words| words.pattern.to_string() == into)
}

/// What is said of a part of a merge, and nobody would follow. A pattern that the part happens to match gives way to words for
/// the merge.
pub(super) fn of_part<'j>(
    job: &'j DatabaseJob,
    parts: &[Found],
    of_merge: Option<&Override>,
    objects: &[Objects],
) -> Option<&'j Override> {
    let others = job.tables.iter().filter(|words| of_merge.is_none() || words.pattern.is_name());
    let mut others = others.filter(|words| of_merge.is_none_or(|own| !std::ptr::eq(own, *words)));
    others.find(|words| parts.iter().any(|part| about(words, part, objects)))
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

    #[test]
    fn two_words_for_one_table_are_refused() {
        let found = |table: &str| Found {
            source: 0,
            object: Object {
                name: ObjectName { database: "shop".into(), schema: None, table: table.into() },
                kind: ObjectKind::Table,
                rows: None,
                bytes: None,
            },
        };
        let objects = [Objects { database: Some("shop".into()), ..Objects::default() }];
        let job = DatabaseJob::of(&json!({"tables": {
            "*.customers": {"columns": {"ssn": false}}, "shop.customers": {"where": "active"}, "/o.*/": {"key": ["id"]},
        }}));
        let fault = of_table(&job, &found("customers"), &objects).unwrap_err();
        assert!(fault.contains("`*.customers` and `shop.customers` under `tables`"), "{fault}");
        let of = |table: &str| of_table(&job, &found(table), &objects).unwrap().map(|words| words.pattern.to_string());
        assert_eq!((of("orders").as_deref(), of("items")), (Some("/o.*/"), None));
    }
}
