//! Which source column, or which constant, fills which target column.
//!
//! | the job | columns map |
//! |-|-|
//! | has pairs (`mapping` of the writer) | as the pairs say, and no others |
//! | lists `column` on both sides | by position, with equal counts |
//! | under a DataX name or in script mode, lists it on one side | by position, with equal counts |
//! | under a DataX name or in script mode, lists none | by name where the name sets agree, else by position with a warning |
//! | under plain names, lists it on one side or none | by name where that side's names are all found on the other, else by position with a warning |
//!
//! A target without columns of its own (a file, a table to be created) gets the names that the writer lists, or else
//! the source's. Names match exactly, else without regard to case where that is unique. A target column that nothing
//! fills is left to its default or NULL, and is an error when it can be neither; one that is generated is never written.

mod names;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_core::config::nearest;
use weir_core::{Error, ErrorKind, Form, Result, SourceSchema, TargetColumn, TargetSchema};

use self::names::{Found, find, shortened};

/// One explicit pair of a writer's `mapping`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingPair {
    /// The source column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A constant instead of a source column; a list has a text for each of the reader's tables, in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// The target column.
    pub to: String,
}

/// What fills which target column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The columns to write, in order.
    pub columns: Vec<Mapped>,
    /// What a user should know before a run.
    pub warnings: Vec<String>,
}

/// One column to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// What fills it.
    pub source: MappedSource,
    /// The target column's name.
    pub target: String,
}

/// What fills a target column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MappedSource {
    /// A source column, by index.
    Column(usize),
    /// The same text in every row.
    Constant(String),
    /// The same text in every row of one source table, in the order of the source's tables.
    PerTable(Vec<String>),
    /// NULL in every row.
    Null,
}

/// Maps a source's columns onto a target's. `form` is [`Form::DataX`] as soon as either end goes by DataX's rules.
///
/// # Errors
/// [`Schema`](ErrorKind::Schema) with all columns that do not fit, [`Config`](ErrorKind::Config) for pairs that are
/// wrong in themselves.
pub fn map(source: &SourceSchema, target: &TargetSchema, form: Form, pairs: &[MappingPair]) -> Result<Mapping> {
    if source.columns.is_empty() {
        return Err(fault(target, "the source has no columns".into()));
    }
    let sides = Sides::new(source, target);
    let mapping = if pairs.is_empty() { sides.all(form)? } else { sides.pairs(pairs)? };
    sides.check_unfilled(&mapping)?;
    Ok(mapping)
}

/// A column's name as the target spells it: exactly, else in any case if that is unique; what it does not have stays.
pub fn spelled(name: &str, target: &TargetSchema) -> String {
    let names: Vec<_> = target.columns.iter().map(|column| column.name.as_str()).collect();
    match find(name, &names) {
        Found::At(at) => names[at].to_owned(),
        _ => name.to_owned(),
    }
}

fn texts(list: &[Value]) -> Option<Vec<String>> {
    list.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

struct Sides<'a> {
    source: &'a SourceSchema,
    target: &'a TargetSchema,
    from: Vec<&'a str>,
    /// The target columns that are to be filled when the job has no pairs.
    to: Vec<&'a str>,
}

impl<'a> Sides<'a> {
    fn new(source: &'a SourceSchema, target: &'a TargetSchema) -> Self {
        let from: Vec<_> = source.columns.iter().map(|c| c.name.as_str()).collect();
        let to = match (&target.listed, target.columns.as_slice()) {
            (Some(listed), _) => listed.iter().map(String::as_str).collect(),
            (None, []) => from.clone(),
            (None, columns) => columns.iter().filter(|c| !c.generated).map(|c| c.name.as_str()).collect(),
        };
        Self { source, target, from, to }
    }

    fn all(&self, form: Form) -> Result<Mapping> {
        self.check_listed()?;
        let to_listed = self.target.listed.is_some();
        let fixed = !self.target.columns.is_empty();
        if !fixed && !to_listed {
            self.check_doubles(&self.from, "the source delivers")?;
            return Ok(self.by_position(Vec::new()));
        }
        let by_position_only = match form {
            Form::DataX => self.source.listed || to_listed,
            Form::Native => self.source.listed && to_listed,
        };
        if by_position_only {
            self.check_counts(None)?;
            return Ok(self.by_position(Vec::new()));
        }
        let (mapping, strangers) = self.by_name();
        let agrees = match form {
            Form::DataX => strangers.is_empty() && mapping.columns.len() == self.to.len(),
            // Whoever lists the target's columns wants all of them filled, and may leave out some of the source's.
            Form::Native if to_listed => mapping.columns.len() == self.to.len(),
            Form::Native => strangers.is_empty(),
        };
        if agrees {
            let mut mapping = mapping;
            if !strangers.is_empty() {
                mapping.warnings.push(format!("source columns that are not written: {}", strangers.join(", ")));
            }
            return Ok(mapping);
        }
        self.check_counts(Some(&strangers))?;
        let differing: Vec<_> =
            self.from.iter().zip(&self.to).filter(|(a, b)| a != b).map(|(a, b)| format!("{a} → {b}")).collect();
        let warning = format!("columns are mapped by position, for their names differ: {}", shortened(&differing));
        Ok(self.by_position(vec![warning]))
    }

    fn by_position(&self, warnings: Vec<String>) -> Mapping {
        let columns = self.to.iter().enumerate();
        let columns = columns.map(|(i, to)| Mapped { source: MappedSource::Column(i), target: (*to).to_owned() });
        Mapping { columns: columns.collect(), warnings }
    }

    /// The columns whose names agree, and the source columns that the target lacks.
    fn by_name(&self) -> (Mapping, Vec<&'a str>) {
        let mut mapping = Mapping { columns: Vec::with_capacity(self.from.len()), warnings: Vec::new() };
        let mut strangers = Vec::new();
        let mut filled = vec![false; self.to.len()];
        for (i, name) in self.from.iter().enumerate() {
            match find(name, &self.to) {
                // A second column of the same name has no place.
                Found::At(at) if !filled[at] => {
                    filled[at] = true;
                    let target = self.to[at].to_owned();
                    mapping.columns.push(Mapped { source: MappedSource::Column(i), target });
                }
                _ if self.generated(name).is_some() && self.target.listed.is_none() => {
                    mapping.warnings.push(format!("column `{name}` is not written: the target generates it itself"));
                }
                _ => strangers.push(*name),
            }
        }
        (mapping, strangers)
    }

    fn generated(&self, name: &str) -> Option<&TargetColumn> {
        let names: Vec<_> = self.target.columns.iter().map(|c| c.name.as_str()).collect();
        match find(name, &names) {
            Found::At(at) => Some(&self.target.columns[at]).filter(|c| c.generated),
            _ => None,
        }
    }

    fn pairs(&self, pairs: &[MappingPair]) -> Result<Mapping> {
        let columns = &self.target.columns;
        let known: Vec<&str> = match (columns.as_slice(), &self.target.listed) {
            ([], Some(listed)) => listed.iter().map(String::as_str).collect(),
            _ => columns.iter().map(|c| c.name.as_str()).collect(),
        };
        let mut mapped: Vec<Mapped> = Vec::with_capacity(pairs.len());
        let mut faults = Vec::new();
        let mut kind = ErrorKind::Schema;
        for pair in pairs {
            let source = match (&pair.from, &pair.value) {
                (Some(from), None) => match find(from, &self.from) {
                    Found::At(at) => Some(MappedSource::Column(at)),
                    missing => {
                        faults.push(format!(
                            "mapping onto `{}`: {}",
                            pair.to,
                            missing.message("source column", from, &self.from)
                        ));
                        None
                    }
                },
                (None, Some(Value::String(text))) => Some(MappedSource::Constant(text.clone())),
                (None, Some(value @ (Value::Number(_) | Value::Bool(_)))) => {
                    Some(MappedSource::Constant(value.to_string()))
                }
                (None, Some(Value::Null)) => Some(MappedSource::Null),
                (None, Some(Value::Array(list))) if list.len() == self.source.tables.len() && texts(list).is_some() => {
                    texts(list).map(MappedSource::PerTable)
                }
                (None, Some(Value::Array(list))) if texts(list).is_some() => {
                    faults.push(format!(
                        "mapping onto `{}`: `value` lists {} values and the source has {} tables: give a text for each",
                        pair.to,
                        list.len(),
                        self.source.tables.len()
                    ));
                    None
                }
                (None, Some(_)) => {
                    kind = ErrorKind::Config;
                    faults.push(format!("mapping onto `{}`: `value` is to be a text, a number or a boolean", pair.to));
                    None
                }
                _ => {
                    kind = ErrorKind::Config;
                    faults.push(format!("mapping onto `{}`: give either `from` or `value`", pair.to));
                    None
                }
            };
            let target = match find(&pair.to, &known) {
                _ if known.is_empty() => Some(pair.to.clone()),
                Found::At(at) => Some(known[at].to_owned()),
                missing => {
                    faults.push(format!("mapping: {}", missing.message("target column", &pair.to, &known)));
                    None
                }
            };
            let (Some(source), Some(target)) = (source, target) else { continue };
            if self.generated(&target).is_some() {
                faults.push(format!("mapping: the target generates column `{target}` itself, so it cannot be written"));
            } else if mapped.iter().any(|m| m.target == target) {
                kind = ErrorKind::Config;
                faults.push(format!("mapping: column `{target}` is filled twice"));
            } else {
                mapped.push(Mapped { source, target });
            }
        }
        if !faults.is_empty() {
            return Err(Error::new(kind, faults.join("\n")).with("table", &self.target.table));
        }
        Ok(Mapping { columns: mapped, warnings: Vec::new() })
    }

    /// What the writer lists must be writable.
    fn check_listed(&self) -> Result<()> {
        let Some(listed) = &self.target.listed else { return Ok(()) };
        self.check_doubles(&self.to, "the writer's `column` lists")?;
        let generated: Vec<_> = listed.iter().filter(|name| self.generated(name).is_some()).cloned().collect();
        if generated.is_empty() {
            return Ok(());
        }
        Err(fault(
            self.target,
            format!(
                "the target generates {} itself, so they cannot be written: take them out of the writer's `column`",
                generated.join(", ")
            ),
        ))
    }

    fn check_doubles(&self, names: &[&str], who: &str) -> Result<()> {
        let mut seen = std::collections::HashSet::new();
        let doubles: Vec<_> = names.iter().filter(|name| !seen.insert(**name)).map(|n| format!("`{n}`")).collect();
        if doubles.is_empty() {
            return Ok(());
        }
        Err(fault(
            self.target,
            format!(
                "{who} more than one column named {}: list the columns, or give them other names",
                doubles.join(", ")
            ),
        ))
    }

    fn check_counts(&self, strangers: Option<&[&str]>) -> Result<()> {
        let (from, to) = (self.from.len(), self.to.len());
        if from == to {
            return Ok(());
        }
        let mut text = format!(
            "the source has {from} columns ({}) and the target {to} ({})",
            shortened(&self.from),
            shortened(&self.to)
        );
        match strangers {
            None => text
                .push_str(": columns map by position, so list as many on both sides, or use `mapping` in the writer"),
            Some(strangers) => {
                let of_one = |name: &&str| match nearest(name, self.to.iter().copied()) {
                    Some(near) => format!("`{name}` (did you mean `{near}`?)"),
                    None => format!("`{name}`"),
                };
                let strangers: Vec<_> = strangers.iter().map(of_one).collect();
                if !strangers.is_empty() {
                    text.push_str(&format!("; the target has no {}", shortened(&strangers)));
                }
                text.push_str(": list `column` on both sides, or use `mapping` in the writer");
            }
        }
        Err(fault(self.target, text))
    }

    /// A target column that nothing fills must have something to fall back on.
    fn check_unfilled(&self, mapping: &Mapping) -> Result<()> {
        let unfilled: Vec<_> = self
            .target
            .columns
            .iter()
            .filter(|c| !c.nullable && !c.has_default && !c.generated)
            .filter(|c| !mapping.columns.iter().any(|m| m.target == c.name))
            .map(|c| format!("`{}` ({})", c.name, c.native_type))
            .collect();
        if unfilled.is_empty() {
            return Ok(());
        }
        Err(fault(
            self.target,
            format!(
                "nothing fills {}, which take no NULL and have no default: add them to `column` on both sides, or fill \
                 them with a `value` in the writer's `mapping`",
                unfilled.join(", ")
            ),
        ))
    }
}

fn fault(target: &TargetSchema, message: String) -> Error {
    Error::new(ErrorKind::Schema, message).with("table", &target.table)
}
