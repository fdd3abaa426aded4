//! `weir connectors`

use serde::Serialize;
use serde_json::{Map, Value};
use weir::core::Error;
use weir::job::{self, ParameterInfo, Plugin, Side, plugins};

use super::arguments::{ConnectorFormat, ConnectorsArguments};
use super::style::{Align, Paint, table, wrap};
use super::{Outcome, output};

/// A connector for programs.
#[derive(Serialize)]
struct Description {
    name: &'static str,
    side: &'static str,
    aliases: &'static [&'static str],
    summary: &'static str,
    parameters: Vec<ParameterInfo>,
    /// Accepted with a warning.
    ignored: Map<String, Value>,
    refused: Map<String, Value>,
}

/// Lists what is linked in, or one connector's parameters.
pub(crate) fn connectors(arguments: &ConnectorsArguments) -> Outcome {
    let all: Vec<(Side, Plugin)> = match &arguments.name {
        Some(name) => named(name)?,
        None => {
            let of = |side| plugins(side).into_iter().map(move |plugin| (side, plugin));
            let mut all: Vec<_> = of(Side::Reader).chain(of(Side::Writer)).collect();
            all.sort_by_key(|(side, plugin)| (plugin.name, side.name()));
            all
        }
    };
    match arguments.format {
        ConnectorFormat::Text if arguments.name.is_none() => output::print(&list(&all))?,
        ConnectorFormat::Text => {
            let paint = Paint::stdout();
            let parts: Vec<String> = all.iter().map(|(side, plugin)| detail(*side, plugin, paint)).collect();
            output::print(&parts.join("\n"))?;
        }
        ConnectorFormat::Json => {
            output::print_json(&all.iter().map(|(side, plugin)| describe(*side, plugin)).collect::<Vec<_>>())?;
        }
        ConnectorFormat::Schema => {
            let mut schemas = Map::new();
            for (side, plugin) in &all {
                let of = schemas.entry(plugin.name).or_insert_with(|| Value::Object(Map::new()));
                of[side.name()] = plugin.schema();
            }
            match (&arguments.name, schemas.values().next()) {
                (Some(_), Some(one)) => output::print_json(one)?,
                _ => output::print_json(&schemas)?,
            }
        }
    }
    Ok(0)
}

/// Both ends of a connector, or the one that a DataX name stands for.
fn named(name: &str) -> Result<Vec<(Side, Plugin)>, Error> {
    let exact = |p: &Plugin| {
        p.name.eq_ignore_ascii_case(name) || p.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    };
    let found: Vec<_> = [Side::Reader, Side::Writer]
        .into_iter()
        .flat_map(|side| plugins(side).into_iter().map(move |plugin| (side, plugin)))
        .filter(|(_, plugin)| exact(plugin))
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let known: Vec<_> = plugins(Side::Reader).into_iter().chain(plugins(Side::Writer)).collect();
    let names = known.iter().flat_map(|p| std::iter::once(&p.name).chain(p.aliases)).copied();
    let hint = match weir::core::config::nearest(name, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`weir connectors` lists them".into(),
    };
    Err(Error::config(format!("there is no connector `{name}`: {hint}")))
}

fn list(all: &[(Side, Plugin)]) -> String {
    let head =
        [("connector", Align::Left), ("side", Align::Left), ("DataX names", Align::Left), ("summary", Align::Left)];
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|(side, p)| vec![p.name.into(), side.name().into(), p.aliases.join(", "), p.summary.into()])
        .collect();
    table(&head, &rows, Paint::stdout())
}

fn describe(side: Side, plugin: &Plugin) -> Description {
    let map = |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect();
    Description {
        name: plugin.name,
        side: side.name(),
        aliases: plugin.aliases,
        summary: plugin.summary,
        parameters: job::parameters(&plugin.schema()),
        ignored: map(plugin.ignored),
        refused: map(plugin.refused),
    }
}

fn detail(side: Side, plugin: &Plugin, paint: Paint) -> String {
    let mut text = format!("{}\n{}\n", paint.bold(format!("{} {}", plugin.name, side.name())), plugin.summary);
    if !plugin.aliases.is_empty() {
        text.push_str(&format!("DataX: {}\n", plugin.aliases.join(", ")));
    }
    text.push('\n');
    for parameter in job::parameters(&plugin.schema()) {
        show(&mut text, &parameter, 1, paint);
    }
    for (title, list) in [("Accepted and ignored", plugin.ignored), ("Refused", plugin.refused)] {
        if !list.is_empty() {
            text.push_str(&format!("{title}\n"));
            for (key, reason) in list {
                text.push_str(&format!("  {key}: {reason}\n"));
            }
        }
    }
    text
}

fn show(text: &mut String, parameter: &ParameterInfo, depth: usize, paint: Paint) {
    let indent = "  ".repeat(depth);
    let mut facts = vec![parameter.kind.clone()];
    if parameter.required {
        facts.push("required".into());
    }
    if parameter.secret {
        facts.push("secret".into());
    }
    if let Some(default) = &parameter.default {
        facts.push(format!("default {default}"));
    }
    if !parameter.aliases.is_empty() {
        facts.push(format!("also {}", parameter.aliases.join(", ")));
    }
    text.push_str(&format!("{indent}{}  {}\n", paint.bold(&parameter.name), paint.dim(facts.join("; "))));
    for line in wrap(&parameter.description, 100 - 2 * depth) {
        text.push_str(&format!("{indent}    {line}\n"));
    }
    for field in &parameter.fields {
        show(text, field, depth + 2, paint);
    }
}
