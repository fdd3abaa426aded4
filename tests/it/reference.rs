//! `docs/reference`: generated from the connectors' schemas and the command's help, and compared with what is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use weir::job::{ParameterInfo, Plugin, Side, parameters, plugins};

const RENEW: &str = "WEIR_BLESS=1 cargo test -p weir --test it reference";
const NOTE: &str = "<!-- Generated from the code; a test compares. -->\n";
/// What follows on a page is kept as it is: it tells of runs against servers that are not at hand everywhere.
pub const KEPT: &str = "\n<!-- Written by hand and by runs against a server from here on. -->\n";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference")
}

/// Both ends of every connector of this workspace, by name; tests link others.
fn connectors() -> BTreeMap<&'static str, Vec<(Side, Plugin)>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for side in [Side::Reader, Side::Writer] {
        let own = root.join(format!("{}s", side.name()));
        for plugin in plugins(side).into_iter().filter(|p| own.join(p.name).is_dir()) {
            all.entry(plugin.name).or_default().push((side, plugin));
        }
    }
    all
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn code_list(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    names.into_iter().map(|n| format!("`{}`", n.as_ref())).collect::<Vec<_>>().join(", ")
}

fn index() -> String {
    let mut page = format!("# Reference\n{NOTE}\n| connector | reads | writes | under DataX's names |\n|-|-|-|-|\n");
    for (name, ends) in connectors() {
        let of = |side| ends.iter().find(|(s, _)| *s == side).map(|(_, plugin)| plugin);
        let summary = |side| of(side).map(|p| cell(p.summary)).unwrap_or_default();
        let names = ends.iter().flat_map(|(_, p)| p.aliases);
        let _ = writeln!(
            page,
            "| [{name}]({name}.md) | {} | {} | {} |",
            summary(Side::Reader),
            summary(Side::Writer),
            code_list(names)
        );
    }
    page.push_str(
        "\nEvery connector takes `datasource`, the name of a [data source](../jobs.md#data-sources), and `timeZone`, whose \
         clocks its\nzone-less times show (see [time zones](../jobs.md#time-zones)); every writer takes `mapping`, `onTypeLoss` \
         and `emptyAsNull`\n(see [columns](../jobs.md#columns)). The commands are in [commands](commands.md).\n\n\
         Where a type says \"or a list\", one value may stand for a list of one. Numbers and booleans may stand in quotes, \
         and `\"\"`,\n`[]` and `null` mean that a parameter is absent. A secret is never shown; write it as `${env:NAME}` or \
         `${file:PATH}`.\n",
    );
    page
}

fn page(name: &str, ends: &[(Side, Plugin)]) -> String {
    let mut page = format!("# {name}\n{NOTE}");
    for (side, plugin) in ends {
        let title = if *side == Side::Reader { "Reader" } else { "Writer" };
        let _ = write!(page, "\n## {title}\n\n{}.", plugin.summary.trim_end_matches('.'));
        if !plugin.aliases.is_empty() {
            let _ = write!(page, " Under DataX's names: {}.", code_list(plugin.aliases));
        }
        page.push_str("\n\n| parameter | takes | default | meaning |\n|-|-|-|-|\n");
        for parameter in parameters(&plugin.schema()) {
            row(&mut page, &parameter, "");
        }
        for (title, list) in [("Accepted with a warning", plugin.ignored), ("Refused", plugin.refused)] {
            if !list.is_empty() {
                let _ = write!(page, "\n| {} | because |\n|-|-|\n", title.to_lowercase());
                for (key, reason) in list {
                    let _ = writeln!(page, "| `{key}` | {} |", cell(reason));
                }
            }
        }
    }
    page
}

/// A parameter, and those inside it under `name.key`.
fn row(page: &mut String, parameter: &ParameterInfo, above: &str) {
    let name = format!("{above}{}", parameter.name);
    let mut shown = format!("`{name}`");
    if !parameter.aliases.is_empty() {
        let _ = write!(shown, ", also {}", code_list(&parameter.aliases));
    }
    let mut takes = parameter.kind.clone();
    if parameter.secret {
        takes.push_str(", secret");
    }
    if parameter.required {
        takes.push_str(", required");
    }
    let default = parameter.default.as_ref().map(|d| format!("`{d}`")).unwrap_or_default();
    let _ = writeln!(page, "| {shown} | {} | {} | {} |", cell(&takes), cell(&default), cell(&parameter.description));
    for field in &parameter.fields {
        row(page, field, &format!("{name}."));
    }
}

#[cfg(feature = "cli")]
fn help(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    // Neither the terminal's width nor the caller's settings may show in the pages.
    let command = command.args(arguments).env("COLUMNS", "100").env_remove("WEIR_ENV");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim().to_owned()
}

#[cfg(feature = "cli")]
fn commands() -> String {
    let main = help(&["--help"]);
    let list = main.split_once("Commands:\n").expect("a list of commands").1;
    let names: Vec<&str> = list
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(names.contains(&"run"), "{names:?}");
    let mut page = format!("# Commands\n{NOTE}\n```text\n{main}\n```\n");
    for name in names {
        let _ = write!(page, "\n## {name}\n\n```text\n{}\n```\n", help(&[name, "--help"]));
    }
    page
}

fn pages() -> BTreeMap<String, String> {
    let mut pages: BTreeMap<String, String> =
        connectors().iter().map(|(name, ends)| (format!("{name}.md"), page(name, ends))).collect();
    for (name, page) in &mut pages {
        let committed = std::fs::read_to_string(folder().join(name)).unwrap_or_default();
        if let Some(at) = committed.find(KEPT) {
            page.push_str(&committed[at..]);
        }
    }
    pages.insert("README.md".into(), index());
    #[cfg(feature = "cli")]
    pages.insert("commands.md".into(), commands());
    pages
}

#[test]
fn the_reference_is_what_the_code_says() {
    let (folder, pages) = (folder(), pages());
    if std::env::var_os("WEIR_BLESS").is_some_and(|v| !v.is_empty()) {
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in &pages {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
    for (name, text) in &pages {
        let committed = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let differs = committed.lines().zip(text.lines()).position(|(a, b)| a != b);
        let line = differs.unwrap_or_else(|| committed.lines().count().min(text.lines().count())) + 1;
        assert!(committed == *text, "docs/reference/{name} is stale from line {line}; renew it with: {RENEW}");
    }
    let found: BTreeSet<String> =
        std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    // The page of types is written by the tests of types.
    let left: Vec<&String> = found.iter().filter(|name| !pages.contains_key(*name) && *name != "types.md").collect();
    assert!(left.is_empty(), "docs/reference has pages for nothing that is linked, remove them: {left:?}");
}

#[test]
fn every_parameter_has_a_meaning_and_every_password_is_secret() {
    fn look(parameter: &ParameterInfo, at: &str, wrong: &mut Vec<String>) {
        let name = format!("{at}.{}", parameter.name);
        if parameter.description.is_empty() {
            wrong.push(format!("{name}: no doc comment"));
        }
        let lower = parameter.name.to_lowercase();
        if ["password", "secret", "token"].iter().any(|word| lower.contains(word)) && !parameter.secret {
            wrong.push(format!("{name}: not a weir_core::Secret"));
        }
        parameter.fields.iter().for_each(|field| look(field, &name, wrong));
    }
    let mut wrong = Vec::new();
    for (name, ends) in connectors() {
        for (side, plugin) in ends {
            let at = format!("{name} {}", side.name());
            parameters(&plugin.schema()).iter().for_each(|p| look(p, &at, &mut wrong));
            for (key, reason) in plugin.ignored.iter().chain(plugin.refused) {
                if reason.is_empty() {
                    wrong.push(format!("{at}: no reason for `{key}`"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
