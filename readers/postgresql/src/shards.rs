//! Several tables or queries read as one: which of their columns belong together, and as which type.

use std::collections::HashSet;

use weir_core::{Error, ErrorKind, Result};
use weir_postgresql::{PgType, Wire};

use crate::source::{Column, Described};

/// Brings the columns of all sources into the order and the types that they have in common.
///
/// # Errors
/// Columns that differ by more than order, the case of their names, length, precision or width; all of them named.
pub fn unify(all: &mut [Described]) -> Result<()> {
    let Some((first, others)) = all.split_first_mut() else { return Ok(()) };
    for other in others.iter_mut() {
        let columns = std::mem::take(&mut other.columns);
        other.columns = in_order(first, columns).map_err(|fault| refusal(&other.name, &fault))?;
    }
    let mut faults = Vec::new();
    for i in 0..first.columns.len() {
        let mut common = first.columns[i].pg.clone();
        for other in others.iter() {
            let Some(column) = other.columns.get(i) else { continue };
            match common_type(&common, &column.pg) {
                Some(wider) => common = wider,
                None => faults.push(refusal(
                    &other.name,
                    &format!(
                        "its column `{}` is {} and that of `{}` is {}",
                        column.name, column.pg.text, first.name, common.text
                    ),
                )),
            }
        }
        for described in std::iter::once(&mut *first).chain(others.iter_mut()) {
            let Some(column) = described.columns.get_mut(i) else { continue };
            // One label is the same bytes, whichever schema its enum is in.
            let is_enum = !common.labels.is_empty() && column.pg.labels == common.labels;
            if column.pg.base != common.base && !is_enum {
                column.sql = format!("({})::{}", column.sql, common.base);
            }
            if column.pg.text != common.text {
                column.declared = None;
            } else if let Some(declared) = &mut column.declared
                && column.pg.labels != common.labels
            {
                declared.relabel(&common.labels);
            }
            column.pg = common.clone();
        }
    }
    match faults.into_iter().next() {
        None => Ok(()),
        Some(fault) => Err(fault),
    }
}

fn refusal(name: &str, fault: &str) -> Error {
    Error::new(
        ErrorKind::Schema,
        format!("`{name}` cannot be read together with the others: {fault}; list `column`, or make a job of its own"),
    )
}

/// The columns in the order of `first`: as they stand if the names agree, whatever their case, else by name.
fn in_order(first: &Described, columns: Vec<Column>) -> std::result::Result<Vec<Column>, String> {
    if first.columns.len() != columns.len() {
        return Err(format!("it has {} columns and `{}` has {}", columns.len(), first.name, first.columns.len()));
    }
    let lower = |c: &Column| c.name.to_lowercase();
    let wrong = first.columns.iter().zip(&columns).find(|(a, b)| lower(a) != lower(b));
    let Some((a, b)) = wrong else { return Ok(columns) };
    let fault = format!("it has `{}` where `{}` has `{}`", b.name, first.name, a.name);
    let names: HashSet<String> = columns.iter().map(lower).collect();
    if names.len() != columns.len() || !first.columns.iter().all(|c| names.contains(&lower(c))) {
        return Err(fault);
    }
    let mut columns: Vec<Option<Column>> = columns.into_iter().map(Some).collect();
    let place = |a: &Column, columns: &mut [Option<Column>]| {
        columns.iter_mut().find(|b| b.as_ref().is_some_and(|b| lower(b) == lower(a))).and_then(Option::take)
    };
    first.columns.iter().map(|a| place(a, &mut columns).ok_or_else(|| fault.clone())).collect()
}

/// The type that holds every value of both, equal to what it was.
fn common_type(a: &PgType, b: &PgType) -> Option<PgType> {
    if a.base == b.base {
        let mut common = a.clone();
        if a.text != b.text {
            common.text = a.base.clone();
        }
        common.labels.extend(b.labels.iter().filter(|l| !a.labels.contains(l)).cloned());
        return Some(common);
    }
    let is_array = |pg: &PgType| pg.base.ends_with("[]");
    if !a.labels.is_empty() && a.labels == b.labels && is_array(a) == is_array(b) {
        return Some(a.clone());
    }
    if !a.is_built_in() || !b.is_built_in() {
        return None;
    }
    let digits = |wire: &Wire| match wire {
        Wire::Int2 => Some(5),
        Wire::Int4 => Some(10),
        Wire::Int8 => Some(19),
        _ => None,
    };
    let numeric = |whole: i32, scale: i32| {
        PgType::parse(&if whole + scale > 1000 {
            "numeric".into()
        } else {
            format!("numeric({},{scale})", whole + scale)
        })
    };
    match (a.wire(), b.wire()) {
        (x, y) if digits(&x).is_some() && digits(&y).is_some() => {
            PgType::parse(if digits(&x).max(digits(&y)) == Some(19) { "bigint" } else { "integer" })
        }
        (Wire::Numeric(x), Wire::Numeric(y)) => match (x, y) {
            (Some((p, s)), Some((q, t))) if s >= 0 && t >= 0 => numeric((p - s).max(q - t), s.max(t)),
            _ => PgType::parse("numeric"),
        },
        (Wire::Numeric(x), y) | (y, Wire::Numeric(x)) if digits(&y).is_some() => match (x, digits(&y)) {
            (Some((p, s)), Some(whole)) if s >= 0 => numeric((p - s).max(whole), s),
            _ => PgType::parse("numeric"),
        },
        _ if a.oid == b.oid => {
            // Of lengths the longer one; of other modifiers none, which holds all.
            let bare = a.base.split('(').next().unwrap_or_default().trim_end();
            match (a.oid, a.typmod.min(b.typmod)) {
                (1043, least) if least > 4 => {
                    PgType::parse(&format!("character varying({})", a.typmod.max(b.typmod) - 4))
                }
                (1042, _) => PgType::parse("bpchar"),
                (1560, _) => PgType::parse("bit varying"),
                (1083 | 1114 | 1184 | 1266, _) => {
                    let after = a.base.split_once(')').map_or("", |(_, after)| after);
                    let name = if after.is_empty() { &b.base } else { &a.base };
                    let (before, after) = name.split_once('(').zip(name.split_once(')')).map(|(x, y)| (x.0, y.1))?;
                    PgType::parse(&format!("{before}{after}"))
                }
                _ => PgType::parse(bare),
            }
        }
        _ if [a.oid, b.oid].iter().all(|oid| matches!(oid, 25 | 1043)) => PgType::parse("text"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_type_holds_every_value() {
        let of = |a: &str, b: &str| {
            let (a, b) = (PgType::parse(a).unwrap(), PgType::parse(b).unwrap());
            let (common, same) = (common_type(&a, &b).map(|t| t.text), common_type(&b, &a).map(|t| t.text));
            assert_eq!(common, same);
            common
        };
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(of("integer", "bigint"), is("bigint"));
        assert_eq!(of("smallint", "integer"), is("integer"));
        assert_eq!(of("numeric(10,2)", "numeric(8,4)"), is("numeric(12,4)"));
        assert_eq!(of("numeric(10,2)", "numeric"), is("numeric"));
        assert_eq!(of("numeric(10,2)", "bigint"), is("numeric(21,2)"));
        assert_eq!(of("character varying(5)", "character varying(50)"), is("character varying(50)"));
        assert_eq!(of("character varying(5)", "character varying"), is("character varying"));
        assert_eq!(of("character varying(5)", "text"), is("text"));
        assert_eq!(of("character(3)", "character(5)"), is("bpchar"));
        assert_eq!(
            of("timestamp(3) without time zone", "timestamp without time zone"),
            is("timestamp without time zone")
        );
        assert_eq!(
            of("timestamp(3) without time zone", "timestamp(0) without time zone"),
            is("timestamp without time zone")
        );
        assert_eq!(of("timestamp without time zone", "timestamp with time zone"), None);
        assert_eq!(of("real", "double precision"), None, "0.1 would become another number");
        assert_eq!(of("character(3)", "text"), None, "the blanks at the end would go");
        assert_eq!(of("integer", "text"), None);
    }
}
