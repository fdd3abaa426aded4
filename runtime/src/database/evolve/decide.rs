//! What a table's changes mean for its target: decided from what is known, what is there, and the rules.
//!
//! | the source | the target |
//! |-|-|
//! | has a column more | gets it, leaves it out, or the table is refused (`columnAdded`) |
//! | has a column less | gets NULLs in it; refused where it takes none, or by rule (`columnDeleted`) |
//! | has a wider type of the same family, or takes NULL | follows, or the table is refused (`typeWidened`) |
//! | has a narrower type of the same family | stays as it is |
//! | has a type of another family, another key, a key of another type | the table is refused |
//! | has a unique key less | the table is refused, as long as the target has that key |
//!
//! Foreign keys that the source has no more are dropped by the run itself, before it looks at the tables.
//!
//! A column that was renamed is one less and one more.

use std::collections::BTreeMap;

use weir_core::{
    Error, ErrorKind, Fit, MappedColumn, PresentColumn, Relation, TableChange, TableDescription, TargetColumn,
};

use super::by_memory::by_memory;
use super::known::{KnownColumn, KnownTable};
use super::record::{ChangeKind, ChangeOutcome, TableChangeRecord};
use crate::database::config::{ColumnAdded, ColumnDeleted, RulesConfig, TypeWidened};

/// All that a decision rests on.
pub struct Seen<'a> {
    /// What the last run knew; `None` when there was none, or nobody remembers it.
    pub known: Option<&'a KnownTable>,
    /// The source's columns, by their names at the target.
    pub columns: &'a [MappedColumn],
    /// How each of them stands to the target.
    pub fits: &'a [Fit],
    /// The target's columns; none of files, which have no columns of their own.
    pub target: &'a [TargetColumn],
    /// The source's key, by the target's names.
    pub key: &'a [String],
    /// The source's other unique keys, alike.
    pub unique: &'a [Vec<String>],
    /// The target's unique keys, as far as it was asked for them.
    pub target_unique: &'a [Vec<String>],
    /// The rules of the job.
    pub rules: &'a RulesConfig,
    /// The source's structure, columns by their names at the target: it has the defaults of new columns.
    pub described: Option<&'a TableDescription>,
    /// Whether what earlier runs wrote, with types, stays beside what this one writes.
    pub keeps: bool,
}

/// What is done about the changes of a table.
#[derive(Debug, Default)]
pub struct Decision {
    /// Changes to the target; none when the table is refused.
    pub changes: Vec<TableChange>,
    /// Columns of the source, by their names at the target, that are left out.
    pub left_out: Vec<String>,
    /// Columns of the target that get NULL in every row.
    pub nulls: Vec<String>,
    /// What is written down.
    pub records: Vec<TableChangeRecord>,
}

impl Decision {
    /// Why the table is not moved, if it is not.
    pub fn refusal(&self) -> Option<Error> {
        let refused = self.records.iter().filter(|record| record.outcome == ChangeOutcome::Refused);
        let reasons: Vec<_> = refused.map(|record| record.detail.as_str()).collect();
        let text = format!("the source has changed in a way that the target does not follow: {}", reasons.join("; "));
        (!reasons.is_empty()).then(|| Error::new(ErrorKind::Schema, text))
    }

    pub(super) fn refuse(&mut self, record: TableChangeRecord, reason: String) {
        self.records.push(TableChangeRecord { outcome: ChangeOutcome::Refused, ..record.because(reason) });
    }
}

/// Decides.
pub fn decide(seen: &Seen<'_>) -> Decision {
    let mut decision = Decision::default();
    if seen.target.is_empty() {
        by_memory(seen, &mut decision);
    } else {
        look(seen, &mut decision);
    }
    say_renames(seen, &mut decision);
    if decision.refusal().is_some() {
        decision.changes.clear();
        // Of a table that is not moved, nothing else was done.
        decision.records.retain(|record| record.outcome == ChangeOutcome::Refused);
    }
    decision
}

/// By the target's columns.
fn look(seen: &Seen<'_>, decision: &mut Decision) {
    key(seen, decision);
    unique_keys(seen, decision);
    for (column, fit) in seen.columns.iter().zip(seen.fits) {
        match &fit.present {
            None => added(seen, column, fit, decision),
            Some(present) => present_column(seen, column, fit, present, decision),
        }
    }
    for column in seen.target {
        if !seen.columns.iter().any(|source| source.name == column.name) && !column.generated {
            deleted(seen, column, decision);
        }
    }
}

fn same(one: &[String], other: &[String]) -> bool {
    one.len() == other.len() && one.iter().all(|name| other.contains(name))
}

fn shown(key: &[String]) -> String {
    if key.is_empty() { "none".to_owned() } else { format!("({})", key.join(", ")) }
}

fn key(seen: &Seen<'_>, decision: &mut Decision) {
    let mut own: Vec<_> = seen.target.iter().filter_map(|c| Some((c.key?, c.name.clone()))).collect();
    own.sort();
    let own: Vec<String> = own.into_iter().map(|(_, name)| name).collect();
    let before: Vec<String> = match seen.known {
        // Somebody has made the target so.
        Some(_) if same(&own, seen.key) => return,
        Some(known) => known.key.clone(),
        None => {
            // Without a memory the target's own key speaks, if it is one that the source could have.
            let mapped = |name: &String| seen.columns.iter().any(|column| column.name == *name);
            if own.is_empty() || seen.key.is_empty() || !own.iter().all(mapped) {
                return;
            }
            own
        }
    };
    if same(&before, seen.key) {
        return;
    }
    let (from, to) = (shown(&before), shown(seen.key));
    let record = TableChangeRecord::of_table(ChangeKind::KeyChanged, ChangeOutcome::Refused, "");
    let reason = format!("the key was {from} and is {to}: drop the target's table, or exclude this one");
    decision.refuse(record.between(Some(&from), Some(&to)), reason);
}

/// A unique key that the source has had and has no more: the target would refuse rows that are right.
fn unique_keys(seen: &Seen<'_>, decision: &mut Decision) {
    let Some(known) = seen.known else { return };
    // Rows that differ in some of a key's columns differ in all of them.
    let holds = |key: &[String]| {
        let mut now = seen.unique.iter().map(Vec::as_slice).chain([seen.key]);
        now.any(|own| !own.is_empty() && own.iter().all(|name| key.contains(name)))
    };
    // A column that is not written any more is NULL, which no key minds.
    let written = |key: &&Vec<String>| key.iter().all(|name| seen.columns.iter().any(|column| column.name == *name));
    for key in known.unique.iter().filter(written).filter(|key| !holds(key)) {
        if seen.target_unique.iter().any(|own| same(own, key)) {
            let from = format!("unique {}", shown(key));
            let record = TableChangeRecord::of_table(ChangeKind::KeyChanged, ChangeOutcome::Refused, "");
            let reason = format!(
                "the source has the unique key {} no more, and the target's would refuse rows: drop it there",
                shown(key)
            );
            decision.refuse(record.between(Some(&from), None), reason);
        }
    }
}

pub(super) fn added(seen: &Seen<'_>, column: &MappedColumn, fit: &Fit, decision: &mut Decision) {
    let name = &column.name;
    let known = seen.known.is_some_and(|known| known.column(name).is_some() || known.left_out.contains(name));
    let record =
        |outcome| TableChangeRecord::of_column(ChangeKind::ColumnAdded, outcome, name).between(None, Some(&fit.wanted));
    match seen.rules.column_added {
        ColumnAdded::Add => {
            let described = seen.described.and_then(|table| table.column(name));
            let default = described.and_then(|described| described.default.clone());
            decision.changes.push(TableChange::AddColumn { column: column.clone(), default });
            decision.records.push(record(ChangeOutcome::Done));
        }
        ColumnAdded::Ignore => {
            decision.left_out.push(name.clone());
            // Said once, and not with every run.
            if !known {
                decision.records.push(record(ChangeOutcome::Ignored).because("rules.columnAdded is ignore"));
            }
        }
        ColumnAdded::Error => {
            let reason = format!("column `{name}` is new, and rules.columnAdded is error");
            decision.refuse(record(ChangeOutcome::Refused), reason);
        }
    }
}

fn present_column(seen: &Seen<'_>, column: &MappedColumn, fit: &Fit, present: &PresentColumn, decision: &mut Decision) {
    let name = &column.name;
    let target = seen.target.iter().find(|target| target.name == *name);
    if target.is_some_and(|target| target.generated) {
        return;
    }
    let before = seen.known.and_then(|known| known.column(name));
    // Another one that nobody knows was made by hand, or by a run that died before it published the table.
    let returned = seen.known.is_some_and(|known| known.gone.contains(name));
    let unknown = seen.known.is_some() && before.is_none();
    // Whether the source's type is another one than the last run saw, as far as anybody knows.
    let changed = before.map(|before| before.has_changed(column));
    let is_key = seen.key.contains(name);
    let from = before.map_or(present.native_type.as_str(), |before| before.native_type.as_str());
    let record = |kind, outcome| {
        TableChangeRecord::of_column(kind, outcome, name).between(Some(from), Some(&column.source_type))
    };
    let mut follows = false;
    match present.relation {
        Relation::Same | Relation::Holds if returned => {
            let kind = ChangeKind::ColumnReturned;
            decision.records.push(
                TableChangeRecord::of_column(kind, ChangeOutcome::Done, name)
                    .between(None, Some(&column.source_type))
                    .because("the target has kept the column"),
            );
        }
        Relation::Same => {}
        Relation::Holds => {
            if changed == Some(true) {
                let kept = record(ChangeKind::TypeNarrowed, ChangeOutcome::Kept);
                decision.records.push(kept.because(format!("the target stays {}", present.native_type)));
            }
        }
        // Somebody has made the target so, and the source is as it was.
        Relation::Widens if changed == Some(false) => {}
        Relation::Widens if is_key => {
            let reason = format!(
                "key column `{name}` is {} and the target's {}: key columns are not changed",
                column.source_type, present.native_type
            );
            decision.refuse(record(ChangeKind::KeyChanged, ChangeOutcome::Refused), reason);
        }
        Relation::Widens => match seen.rules.type_widened {
            TypeWidened::Widen => follows = true,
            TypeWidened::Error => {
                let reason = format!(
                    "column `{name}` is {} and the target's {}, and rules.typeWidened is error",
                    column.source_type, present.native_type
                );
                decision.refuse(record(ChangeKind::TypeWidened, ChangeOutcome::Refused), reason);
            }
        },
        Relation::Crosses | Relation::Apart => {
            if changed == Some(true) || unknown {
                let reason = format!(
                    "column `{name}` was {from} and is {}, which {} cannot become: types are widened within one family \
                     only",
                    column.source_type, present.native_type
                );
                decision.refuse(record(ChangeKind::TypeChanged, ChangeOutcome::Refused), reason);
            }
        }
    }
    if follows {
        decision.changes.push(TableChange::WidenColumn { column: column.clone() });
        decision.records.push(
            TableChangeRecord::of_column(ChangeKind::TypeWidened, ChangeOutcome::Done, name)
                .between(Some(&present.native_type), Some(&fit.wanted)),
        );
    }
    null_allowed(seen, column, target, before, decision);
}

fn null_allowed(
    seen: &Seen<'_>,
    column: &MappedColumn,
    target: Option<&TargetColumn>,
    before: Option<&KnownColumn>,
    decision: &mut Decision,
) {
    let is_new = column.nullable && before.is_some_and(|before| !before.nullable);
    if !is_new || target.is_none_or(|target| target.nullable) {
        return;
    }
    let record = |outcome| {
        TableChangeRecord::of_column(ChangeKind::NullAllowed, outcome, &column.name)
            .between(Some("NOT NULL"), Some("NULL"))
    };
    if seen.key.contains(&column.name) {
        let reason = format!("key column `{}` takes NULL now: key columns are not changed", column.name);
        decision.refuse(record(ChangeOutcome::Refused), reason);
    } else if seen.rules.type_widened == TypeWidened::Error {
        let reason = format!("column `{}` takes NULL now, and rules.typeWidened is error", column.name);
        decision.refuse(record(ChangeOutcome::Refused), reason);
    } else {
        decision.changes.push(TableChange::AllowNull { column: column.clone() });
        decision.records.push(record(ChangeOutcome::Done));
    }
}

fn deleted(seen: &Seen<'_>, column: &TargetColumn, decision: &mut Decision) {
    let name = &column.name;
    let before = seen.known.and_then(|known| known.column(name));
    let was_ours = before.is_some() || seen.known.is_some_and(|known| known.gone.contains(name));
    let record = |outcome| {
        TableChangeRecord::of_column(ChangeKind::ColumnDeleted, outcome, name)
            .between(Some(before.map_or(column.native_type.as_str(), |before| before.native_type.as_str())), None)
    };
    if !was_ours {
        // Nobody remembers such a column to have come from the source. It is the target's own, and gets its default or NULL.
        let strict = seen.rules.column_deleted == ColumnDeleted::Error && seen.known.is_none() && !column.has_default;
        if strict {
            let reason = format!("the source has no column `{name}`, and rules.columnDeleted is error");
            decision.refuse(record(ChangeOutcome::Refused), reason);
        }
        return;
    }
    if seen.rules.column_deleted == ColumnDeleted::Error {
        let reason = format!("column `{name}` is gone from the source, and rules.columnDeleted is error");
        decision.refuse(record(ChangeOutcome::Refused), reason);
    } else if !column.nullable {
        let reason = format!(
            "column `{name}` is gone from the source, and the target's takes no NULL: drop it there, or let it take NULL"
        );
        decision.refuse(record(ChangeOutcome::Refused), reason);
    } else {
        decision.nulls.push(name.clone());
        if before.is_some() {
            decision.records.push(record(ChangeOutcome::Done).because("NULL from now on"));
        }
    }
}

/// A column less and one more of the same type may be one that was renamed; of several nobody knows which.
fn say_renames(seen: &Seen<'_>, decision: &mut Decision) {
    let type_of = |record: &TableChangeRecord| {
        let name = record.column.as_deref()?;
        match record.kind {
            ChangeKind::ColumnDeleted => Some(seen.known?.column(name)?.native_type.clone()),
            ChangeKind::ColumnAdded => Some(seen.columns.iter().find(|c| c.name == name)?.source_type.clone()),
            _ => None,
        }
    };
    // By the type: what is gone, and what is new.
    let mut changed: BTreeMap<String, [Vec<usize>; 2]> = BTreeMap::new();
    for (index, record) in decision.records.iter().enumerate() {
        if let Some(native_type) = type_of(record) {
            changed.entry(native_type).or_default()[usize::from(record.kind == ChangeKind::ColumnAdded)].push(index);
        }
    }
    for [gone, new] in changed.values() {
        let (&[gone], &[new]) = (gone.as_slice(), new.as_slice()) else { continue };
        for (record, other, is) in [(gone, new, "new"), (new, gone, "gone")] {
            let name = decision.records[other].column.clone().unwrap_or_default();
            let hint = format!("`{name}` of the same type is {is}: a rename is one column less and one more");
            let detail = &mut decision.records[record].detail;
            *detail = if detail.is_empty() { hint } else { format!("{detail}; {hint}") };
        }
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
