//! What arrived against what left: equal, spelled otherwise, or changed.

use std::collections::{BTreeMap, BTreeSet};

use super::Class;
use super::canon::canonical;
use super::matrix::{Cell, Table};
use super::place::System;
use super::target::Target;

/// A way there and back, as it is compared at its end.
pub struct Way<'a> {
    pub table: &'a Table,
    pub target: Target,
    pub before: &'a [(i64, Vec<Option<String>>)],
    pub source_types: &'a [(String, String)],
}

impl Way<'_> {
    pub async fn compare_back(&self, cells: &mut [Cell], columns: &[usize], to: &str, missing: &BTreeSet<i64>) {
        let types: Vec<_> = columns.iter().map(|i| self.source_types[*i].clone()).collect();
        let after: BTreeMap<i64, Vec<Option<String>>> = self.table.place.values(to, &types).await.into_iter().collect();
        let extra = after.keys().filter(|id| !self.before.iter().any(|(known, _)| known == *id)).count();
        if extra > 0 || self.table.place.count(to).await != after.len() {
            cells[0].changed.push(format!("rows came back that never left ({to})"));
        }
        let left = self.table.owners();
        for (id, values) in self.before {
            let own = left.get(id).copied();
            let Some(row) = after.get(id) else {
                if !missing.contains(id) && own.is_none_or(|i| columns.contains(&i)) {
                    let text = format!("{} is lost on the way to {to}", self.table.literal(*id));
                    cells[own.unwrap_or(0)].changed.push(text);
                }
                continue;
            };
            for (i, index) in columns.iter().enumerate() {
                if own == Some(*index) {
                    cells[*index].values += 1;
                }
                let (was, is) = (&values[*index], &row[i]);
                if was != is && !self.equal(*index, was.as_deref(), is.as_deref()) {
                    cells[*index].changed.push(format!("{} came back as {} ({to})", shown(was), shown(is)));
                }
            }
        }
    }

    /// Whether another spelling is the same value: what stood in another database is written as that one writes it.
    fn equal(&self, index: usize, was: Option<&str>, is: Option<&str>) -> bool {
        let (Some(was), Some(is)) = (was, is) else { return false };
        let (system, class, text) = (self.table.place.system, self.table.types[index].1, &self.source_types[index].1);
        let other = matches!(self.target, Target::Database(other) if other.connector() != system.connector()
            || other.is_mysql() && other != system);
        // A decimal has no sign of zero, though SQLite's text may show one.
        let zero = |text: &str| text.trim_start_matches("text:-").trim_start_matches("text:").to_owned();
        let respelled = match class {
            Class::Number if zero(was) == zero(is) => canonical(class, system, text, was).as_deref() == Some("0"),
            Class::Number | Class::Json => other,
            Class::Single | Class::Double => matches!(self.target, Target::Database(_)),
            // SQLite has no type for times: their texts are written in one way.
            Class::Date | Class::Time | Class::Timestamp | Class::Instant | Class::Duration => system == System::Sqlite,
            _ => false,
        };
        let reached = match self.target {
            Target::Database(other) => other,
            _ => system,
        };
        let [was, is] = [was, is].map(|value| canonical(class, system, text, value));
        respelled
            && was.is_some()
            && (was == is || without_sign_of_zero(system, reached) && unsigned(&was) == unsigned(&is))
    }
}

/// Whether both spell the same value. A char's spaces at the end are its length's, and MariaDB and SQLite, which have
/// no −0.0, hold the 0.0 that is equal to it.
pub fn same(class: Class, a: (System, &str, &str), b: (System, &str, &str)) -> bool {
    if class == Class::Other {
        // What it means is seen on the way back.
        return true;
    }
    let [a_text, b_text] = [a, b].map(|(system, type_text, text)| canonical(class, system, type_text, text));
    let trimmed = |text: &Option<String>| text.as_ref().map(|t| t.trim_end().to_owned());
    let char = [a, b].iter().any(|s| s.0 == System::PostgreSql && s.1.starts_with("character("));
    a_text.is_some()
        && (a_text == b_text
            || char && trimmed(&a_text) == trimmed(&b_text)
            || without_sign_of_zero(a.0, b.0) && unsigned(&a_text) == unsigned(&b_text))
}

fn without_sign_of_zero(a: System, b: System) -> bool {
    [a, b].iter().any(|s| matches!(s, System::MariaDb | System::Sqlite))
}

/// The bits of a float, of −0.0 those of 0.0.
fn unsigned(bits: &Option<String>) -> Option<&str> {
    bits.as_deref().map(|bits| match bits {
        "80000000" => "00000000",
        "8000000000000000" => "0000000000000000",
        other => other,
    })
}

pub fn shown(value: &Option<String>) -> String {
    match value {
        None => "NULL".into(),
        Some(text) if text.chars().count() > 120 => {
            format!("{:?}… ({} characters)", text.chars().take(80).collect::<String>(), text.chars().count())
        }
        Some(text) => format!("{text:?}"),
    }
}
