//! What a table's changes mean for a target that has no columns of its own, as a folder of files: every run writes them as the
//! source is. So the rules go by what the last run knew, and without that there is nothing to go by. Where files of earlier
//! runs stay beside the new ones, both are read as one table, and a type changes within its family only.

use weir_core::{Family, Fit, MappedColumn, Relation};

use super::decide::{Decision, Seen, added};
use super::known::KnownColumn;
use super::record::{ChangeKind, ChangeOutcome, TableChangeRecord};
use crate::database::config::{ColumnAdded, ColumnDeleted, TypeWidened};

const FROM_NOW_ON: &str = "in what is written from now on";

/// Decides.
pub(super) fn by_memory(seen: &Seen<'_>, decision: &mut Decision) {
    let Some(known) = seen.known else { return };
    let strict = seen.rules.type_widened == TypeWidened::Error;
    for column in seen.columns {
        let name = &column.name;
        let now = known.column(name);
        let is_left_out = now.is_none() && seen.rules.column_added == ColumnAdded::Ignore;
        let held = now.or_else(|| known.held.iter().find(|held| held.name == *name));
        let held = held.filter(|held| held.has_changed(column) && !goes_with(held, column));
        if let Some(held) = held.filter(|_| seen.keeps && !is_left_out) {
            let (from, to) = (held.native_type.as_str(), column.source_type.as_str());
            let record = TableChangeRecord::of_column(ChangeKind::TypeChanged, ChangeOutcome::Refused, name);
            let reason = format!(
                "column `{name}` was {from} and is {to}, and files of both would lie side by side, which readers refuse \
                 as one table: begin anew at another `path`, under another job `name`"
            );
            decision.refuse(record.between(Some(from), Some(to)), reason);
            continue;
        }
        let Some(before) = now else {
            added(seen, column, &Fit { wanted: column.source_type.clone(), present: None }, decision);
            continue;
        };
        let (from, to) = (before.native_type.as_str(), column.source_type.as_str());
        let mut follow = |kind, (from, to): (&str, &str)| {
            let record = TableChangeRecord::of_column(kind, ChangeOutcome::Done, name).between(Some(from), Some(to));
            match strict {
                true => {
                    let reason = format!("column `{name}` was {from} and is {to}, and rules.typeWidened is error");
                    decision.refuse(record, reason);
                }
                false => decision.records.push(record.because(FROM_NOW_ON)),
            }
        };
        if before.has_changed(column) {
            // Nobody is there who knew whether the new type holds all values of the old one.
            follow(ChangeKind::TypeChanged, (from, to));
        }
        if column.nullable && !before.nullable {
            follow(ChangeKind::NullAllowed, ("NOT NULL", "NULL"));
        }
    }
    for before in known.columns.iter().filter(|before| !seen.columns.iter().any(|column| column.name == before.name)) {
        let name = &before.name;
        let record = TableChangeRecord::of_column(ChangeKind::ColumnDeleted, ChangeOutcome::Done, name);
        let record = record.between(Some(&before.native_type), None);
        match seen.rules.column_deleted {
            ColumnDeleted::Error => {
                let reason = format!("column `{name}` is gone from the source, and rules.columnDeleted is error");
                decision.refuse(record, reason);
            }
            ColumnDeleted::Null => decision.records.push(record.because(format!("not {FROM_NOW_ON}"))),
        }
    }
    // There is nothing to alter.
    decision.changes.clear();
}

/// Whether files that hold the column as it was, and files that hold it as it is, can be read as one table. Where nobody has
/// noted what it could hold, they are taken to.
fn goes_with(before: &KnownColumn, column: &MappedColumn) -> bool {
    let (Some(old), Some(new)) = (&before.family, KnownColumn::of(column).family) else { return true };
    // Files hold it as a text.
    let is_any = |family: &Family| matches!(family, Family::Decimal { limits: None });
    is_any(old) == is_any(&new) && matches!(old.relation(&new), Relation::Same | Relation::Widens)
}
