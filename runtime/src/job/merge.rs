//! Named data sources, merged into the parameters that name them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::loader::Loader;
use super::plugins::{Plugin, Side};
use super::schema::Node;
use super::text::child;
use super::validate::{is_empty, rename_aliases};

impl Loader<'_> {
    /// Fills in what the named data sources say and the job does not. Returns which top-level key came from which.
    pub(super) fn merge(
        &mut self,
        map: &mut Map<String, Value>,
        plugin: &Plugin,
        side: Side,
        schema: &Value,
        pointer: &str,
    ) -> BTreeMap<String, String> {
        let root = Node::root(schema);
        let mut borrowed = BTreeMap::new();
        let takes = |key: &str| root.property(key).is_some() || root.additional().is_some();
        let mut defaults: Vec<(String, Map<String, Value>)> = Vec::new();
        if let Some(name) = map.shift_remove("datasource")
            && let Some(source) = self.look_up(&name, plugin, side, &child(pointer, "datasource"))
        {
            defaults.push(source);
        }
        // A source may also be named for one connection of several; what a connection cannot say goes beside it.
        if let (Some(connections), Some(node)) = (map.get_mut("connection"), root.property("connection")) {
            let list = connections.is_array();
            let entries = match connections {
                Value::Array(items) => items.as_mut_slice(),
                single => std::slice::from_mut(single),
            };
            for (i, entry) in entries.iter_mut().enumerate() {
                let node = node.branches().into_iter().find_map(|b| b.items()).unwrap_or(node).branch(entry);
                let Some(entry) = entry.as_object_mut() else { continue };
                let Some(name) = entry.shift_remove("datasource") else { continue };
                let at = if list { format!("{pointer}/connection/{i}") } else { format!("{pointer}/connection") };
                let Some((name, mut source)) = self.look_up(&name, plugin, side, &child(&at, "datasource")) else {
                    continue;
                };
                rename_aliases(entry, node);
                rename_aliases(&mut source, node);
                let (inner, mut outer): (Map<String, Value>, Map<String, Value>) =
                    source.into_iter().partition(|(key, _)| node.property(key).is_some());
                fill(entry, inner);
                outer.retain(|key, _| takes(key));
                defaults.push((name, outer));
            }
        }
        rename_aliases(map, root);
        for (name, mut source) in defaults {
            rename_aliases(&mut source, root);
            for key in fill(map, source) {
                borrowed.insert(key, name.clone());
            }
        }
        borrowed
    }

    fn look_up(
        &mut self,
        name: &Value,
        plugin: &Plugin,
        side: Side,
        pointer: &str,
    ) -> Option<(String, Map<String, Value>)> {
        let name = self.notes.text(name, pointer)?;
        match self.sources.get(name, side) {
            Ok(source) if source.plugin != plugin.name => {
                let (kind, who) = (source.plugin, plugin.name);
                let message = format!("data source `{name}` is of type {kind}, and this {} is {who}", side.name());
                self.notes.faults.add(pointer, message);
                None
            }
            Ok(source) => Some((name.to_owned(), source.parameter)),
            Err(faults) => {
                for fault in faults.0 {
                    let place = if fault.pointer.is_empty() { String::new() } else { format!("{}: ", fault.pointer) };
                    let message = format!("{place}{}", fault.message);
                    // One broken file of data sources is told of once.
                    if fault.pointer.is_empty() || !self.notes.faults.0.iter().any(|f| f.message == message) {
                        self.notes.faults.add(pointer, message);
                    }
                }
                None
            }
        }
    }
}

/// Adds what `map` does not have; returns the keys.
fn fill(map: &mut Map<String, Value>, defaults: Map<String, Value>) -> Vec<String> {
    let mut filled = Vec::new();
    for (key, value) in defaults {
        if map.get(&key).is_none_or(is_empty) {
            map.insert(key.clone(), value);
            filled.push(key);
        }
    }
    filled
}
