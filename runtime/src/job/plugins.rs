//! Connectors by the names that jobs give them.

use serde_json::Value;
use weir_core::{Form, ReaderPlugin, WriterPlugin};

use super::reference::parameters;

/// Which end of an entry a connector serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The source.
    Reader,
    /// The target.
    Writer,
}

impl Side {
    /// `reader` or `writer`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
        }
    }
}

/// What readers and writers have in common.
#[derive(Clone, Copy)]
pub struct Plugin {
    /// The plain name.
    pub name: &'static str,
    /// DataX's names.
    pub aliases: &'static [&'static str],
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// Parameters accepted with a warning.
    pub ignored: &'static [(&'static str, &'static str)],
    /// Parameters that are refused.
    pub refused: &'static [(&'static str, &'static str)],
    schema: fn() -> schemars::Schema,
}

impl Plugin {
    /// The JSON schema of its parameters.
    pub fn schema(&self) -> Value {
        (self.schema)().into()
    }

    /// Whether it has a parameter of this name.
    pub fn knows(&self, key: &str) -> bool {
        self.schema()["properties"].get(key).is_some()
    }

    /// The write mode that never touches what is there, of a writer that has such a mode and wants one written.
    pub fn careful_mode(&self) -> Option<&'static str> {
        const CAREFUL: &str = "nonConflict";
        let parameters = parameters(&self.schema());
        let has = parameters.iter().any(|p| p.name == "writeMode" && p.kind.contains(&format!("`{CAREFUL}`")));
        has.then_some(CAREFUL)
    }

    /// Whether it goes by `name`; in whose words.
    fn goes_by(&self, name: &str, side: Side) -> Option<Form> {
        if self.name.eq_ignore_ascii_case(name) {
            return Some(Form::Native);
        }
        let with_suffix = format!("{name}{}", side.name());
        let alias = self.aliases.iter().any(|a| a.eq_ignore_ascii_case(name) || a.eq_ignore_ascii_case(&with_suffix));
        alias.then_some(Form::DataX)
    }
}

impl From<&'static ReaderPlugin> for Plugin {
    fn from(p: &'static ReaderPlugin) -> Self {
        Self {
            name: p.name,
            aliases: p.aliases,
            summary: p.summary,
            ignored: p.ignored,
            refused: p.refused,
            schema: p.schema,
        }
    }
}

impl From<&'static WriterPlugin> for Plugin {
    fn from(p: &'static WriterPlugin) -> Self {
        Self {
            name: p.name,
            aliases: p.aliases,
            summary: p.summary,
            ignored: p.ignored,
            refused: p.refused,
            schema: p.schema,
        }
    }
}

/// All connectors of one side, in name order.
pub fn plugins(side: Side) -> Vec<Plugin> {
    match side {
        Side::Reader => weir_core::readers().into_iter().map(Plugin::from).collect(),
        Side::Writer => weir_core::writers().into_iter().map(Plugin::from).collect(),
    }
}

/// Finds a connector by its plain name, its DataX name, or a DataWorks `stepType`, and says whose words that is.
///
/// # Errors
/// A sentence that names the nearest connector, or all of them.
pub fn find_plugin(name: &str, side: Side) -> Result<(Plugin, Form), String> {
    let all = plugins(side);
    let name = name.trim();
    if let Some(found) = all.iter().find_map(|p| p.goes_by(name, side).map(|form| (*p, form))) {
        return Ok(found);
    }
    let other = if side == Side::Reader { Side::Writer } else { Side::Reader };
    if let Some((p, _)) = plugins(other).iter().find_map(|p| p.goes_by(name, other).map(|form| (*p, form))) {
        let (here, there) = (side.name(), other.name());
        let own = all.iter().find(|q| q.name == p.name).map(|q| format!(": write `{}`", q.name)).unwrap_or_default();
        return Err(format!("`{name}` is a {there}, and a {here} is needed here{own}"));
    }
    let names = all.iter().flat_map(|p| std::iter::once(&p.name).chain(p.aliases)).copied();
    Err(match weir_core::config::nearest(name, names) {
        Some(near) => format!("there is no {} `{name}`: did you mean `{near}`?", side.name()),
        None => {
            let known = all.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "none is linked into this program".into() } else { known };
            format!("there is no {} `{name}`; known are: {known}", side.name())
        }
    })
}
