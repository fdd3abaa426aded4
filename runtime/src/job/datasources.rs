//! Named data sources: connections that jobs refer to by name, with one configuration per environment.
//!
//! ```json
//! {"shop": {"type": "mysql", "description": "the shop's orders",
//!           "dev":  {"url": "mysql://localhost/shop", "username": "me"},
//!           "prod": {"url": "mysql://db.example/shop", "username": "weir", "password": "${env:SHOP_PASSWORD}"}}}
//! ```
//!
//! A source with a single configuration may also write its keys right beside `type`: a key that the system's connectors
//! know is a parameter, never the name of an environment.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use serde_json::{Map, Value};
use weir_core::Faults;

use super::plugins::{Plugin, Side, find_plugin, plugins};
use super::schema::Node;
use super::secrets;
use super::text::{self, child};
use super::validate::is_empty;

/// The file's name beside a job or in the user's config folder.
pub const FILE_NAME: &str = "weir.datasources.json";

const MAX_DESCRIPTION: usize = 80;

/// A data source as listed: nothing secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSourceInfo {
    /// Its name.
    pub name: String,
    /// The system's name.
    pub kind: String,
    /// Its description.
    pub description: Option<String>,
    /// The environments that it has configurations for; empty when there is only one for all.
    pub environments: Vec<String>,
}

/// One configuration of a data source.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSource {
    /// Its name.
    pub name: String,
    /// The connector's plain name.
    pub plugin: String,
    /// Parameters that stand in for those a job leaves out. Secrets are references still.
    pub parameter: Map<String, Value>,
}

/// The file with the data sources, read when the first name is looked up.
#[derive(Debug)]
pub struct DataSources {
    given: Option<PathBuf>,
    beside: Option<PathBuf>,
    environment: Option<String>,
    file: OnceCell<Result<File, Faults>>,
}

#[derive(Debug, Clone)]
struct File {
    path: PathBuf,
    sources: Map<String, Value>,
}

impl DataSources {
    /// Data sources of `given`, else of the file beside the job, else of the user's config folder; `environment`
    /// chooses among the configurations of a name.
    pub fn new(given: Option<&Path>, job: Option<&Path>, environment: Option<&str>) -> Self {
        let beside = match job {
            Some(path) => path.parent().map(|folder| folder.join(FILE_NAME)),
            None => Some(PathBuf::from(FILE_NAME)),
        };
        Self {
            given: given.map(Path::to_owned),
            beside,
            environment: environment.filter(|e| !e.is_empty()).map(str::to_owned),
            file: OnceCell::new(),
        }
    }

    /// All data sources.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn list(&self) -> Result<Vec<DataSourceInfo>, Faults> {
        let file = self.file()?;
        Ok(file
            .sources
            .iter()
            .map(|(name, source)| DataSourceInfo {
                name: name.clone(),
                kind: source["type"].as_str().unwrap_or_default().to_owned(),
                description: source["description"].as_str().map(str::to_owned),
                environments: environments(source).map(|e| e.keys().cloned().collect()).unwrap_or_default(),
            })
            .collect())
    }

    /// Whether there is a data source of this name. A file that cannot be read has none.
    pub fn has(&self, name: &str) -> bool {
        self.file().is_ok_and(|file| file.sources.contains_key(name))
    }

    /// The configuration of `name` in the chosen environment, for a connector of `side`.
    ///
    /// # Errors
    /// No such name, several environments and none chosen, or whatever is wrong with the file; pointers are empty.
    pub fn get(&self, name: &str, side: Side) -> Result<DataSource, Faults> {
        let file = self.file()?;
        let shown = file.path.display();
        let Some(source) = file.sources.get(name) else {
            let near = weir_core::config::nearest(name, file.sources.keys().map(String::as_str));
            let hint = near.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
            let place = if file.sources.is_empty() && file.path.as_os_str().is_empty() {
                format!(
                    "no file {FILE_NAME} was found beside the job or in the config folder: give one with --datasources"
                )
            } else {
                format!("{shown} has none of that name{hint}")
            };
            return Err(Faults::one("", format!("there is no data source `{name}`: {place}")));
        };
        let kind = source["type"].as_str().unwrap_or_default();
        // A source named after its reader serves the writer of the same system just as well.
        let plugin = [Side::Reader, Side::Writer].into_iter().find_map(|side| find_plugin(kind, side).ok());
        let plugin = match plugin {
            Some((plugin, _)) => find_plugin(plugin.name, side),
            None => find_plugin(kind, side),
        };
        let (plugin, _) =
            plugin.map_err(|message| Faults::one("", format!("data source `{name}` in {shown}: type: {message}")))?;
        let parameter = self.configuration(name, source, file)?;
        Ok(DataSource { name: name.to_owned(), plugin: plugin.name.to_owned(), parameter })
    }

    fn configuration(&self, name: &str, source: &Value, file: &File) -> Result<Map<String, Value>, Faults> {
        let Some(environments) = environments(source) else {
            let own = source.as_object().cloned().unwrap_or_default();
            return Ok(own.into_iter().filter(|(key, _)| key != "type" && key != "description").collect());
        };
        let names = environments.keys().map(|e| format!("`{e}`")).collect::<Vec<_>>().join(", ");
        let chosen = match (&self.environment, environments.len()) {
            (Some(wanted), _) => environments.get(wanted).ok_or_else(|| {
                let shown = file.path.display();
                let message = format!("data source `{name}` in {shown} has no environment `{wanted}`, only {names}");
                Faults::one("", message)
            })?,
            (None, 1) => environments.values().next().unwrap_or(&Value::Null),
            (None, _) => {
                let message =
                    format!("data source `{name}` has the environments {names}: choose one with --env or WEIR_ENV");
                return Err(Faults::one("", message));
            }
        };
        Ok(chosen.as_object().cloned().unwrap_or_default())
    }

    fn file(&self) -> Result<&File, Faults> {
        self.file.get_or_init(|| self.read()).as_ref().map_err(Clone::clone)
    }

    fn read(&self) -> Result<File, Faults> {
        let path = match &self.given {
            Some(path) => Some(path.clone()),
            None => self.beside.iter().cloned().chain(user_file()).find(|path| path.is_file()),
        };
        let Some(path) = path else { return Ok(File { path: PathBuf::new(), sources: Map::new() }) };
        let shown = path.display().to_string();
        let content = std::fs::read_to_string(&path)
            .map_err(|error| Faults::one("", format!("the data sources file {shown} cannot be read: {error}")))?;
        let content = content.strip_prefix('\u{feff}').unwrap_or(&content);
        let place = |faults: Faults| faults.under(&format!("{shown}#"));
        let mut document = text::parse(content, content, |byte| byte).map_err(place)?;
        let faults = check(&document.value);
        if !faults.0.is_empty() {
            return Err(place(document.locate(faults)));
        }
        let folder = std::path::absolute(&path).ok().and_then(|p| p.parent().map(Path::to_owned)).unwrap_or_default();
        secrets::anchor(&mut document.value, &folder);
        let sources = match document.value {
            Value::Object(sources) => sources,
            _ => Map::new(),
        };
        Ok(File { path, sources })
    }
}

fn user_file() -> Option<PathBuf> {
    let folder = etcetera::choose_base_strategy().ok()?.config_dir();
    Some(folder.join("weir").join(FILE_NAME))
}

/// The configurations by environment, if the source has them: every key but `type` and `description` is an object, and
/// none is a parameter, for parameters may be objects too.
fn environments(source: &Value) -> Option<Map<String, Value>> {
    let map: Map<String, Value> = source
        .as_object()?
        .iter()
        .filter(|(key, _)| *key != "type" && *key != "description")
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let kind = source["type"].as_str().unwrap_or_default();
    let is_parameter = |key: &str| {
        let plugins = [Side::Reader, Side::Writer].into_iter().filter_map(|side| find_plugin(kind, side).ok());
        plugins.into_iter().any(|(plugin, _)| {
            let schema = plugin.schema();
            let keys = Node::root(&schema).keys();
            keys.iter().any(|(main, aliases)| *main == key || aliases.contains(&key))
        })
    };
    let named = !map.is_empty() && map.values().all(Value::is_object) && !map.keys().any(|key| is_parameter(key));
    named.then_some(map)
}

/// The rules of names, descriptions and types.
fn check(value: &Value) -> Faults {
    let mut faults = Faults::default();
    let Some(sources) = value.as_object() else {
        faults.add("", "expected an object with a data source for each name");
        return faults;
    };
    for (name, source) in sources {
        let at = child("", name);
        if !is_name(name) {
            faults.add(&at, format!("`{name}` is no name: a letter, then letters, digits and underscores"));
        }
        if !source.is_object() {
            faults.add(&at, "expected an object with `type` and the configuration of each environment");
            continue;
        }
        match &source["description"] {
            Value::Null => {}
            Value::String(text) if text.chars().count() <= MAX_DESCRIPTION => {}
            Value::String(text) => {
                let length = text.chars().count();
                let message = format!("the description has {length} characters: at most {MAX_DESCRIPTION} are allowed");
                faults.add(format!("{at}/description"), message);
            }
            _ => faults.add(format!("{at}/description"), "expected a text"),
        }
        match &source["type"] {
            Value::String(kind) if !is_empty(&source["type"]) => {
                // A connector may be a reader or a writer only.
                if let (Err(message), Err(_)) = (find_plugin(kind, Side::Reader), find_plugin(kind, Side::Writer)) {
                    faults.add(format!("{at}/type"), message.replace("no reader", "no system"));
                }
            }
            _ => faults.add(&at, format!("`type` is missing: name the system, one of {}", systems())),
        }
    }
    faults
}

fn systems() -> String {
    plugins(Side::Reader).iter().map(|p: &Plugin| p.name).collect::<Vec<_>>().join(", ")
}

/// A letter, then letters, digits and underscores.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(folder: &Path, text: &str, environment: Option<&str>) -> DataSources {
        let path = folder.join("sources.json");
        std::fs::write(&path, text).unwrap();
        DataSources::new(Some(&path), None, environment)
    }

    const SHOP: &str = r#"{ // two environments
        "shop": {"type": "fake", "description": "orders", "dev": {"url": "fake://dev"}, "prod": {"url": "fake://prod",
            "password": "${file:pw}"}},
        "one": {"type": "fakereader", "url": "fake://one"},
        "only": {"type": "fake", "prod": {"url": "fake://only"}},
    }"#;

    #[test]
    fn an_environment_chooses_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let prod = sources(folder.path(), SHOP, Some("prod"));
        let shop = prod.get("shop", Side::Reader).unwrap();
        assert_eq!((shop.plugin.as_str(), &shop.parameter["url"]), ("fake", &"fake://prod".into()));
        assert_eq!(shop.parameter["password"], format!("${{file:{}}}", folder.path().join("pw").display()));
        assert_eq!(prod.get("one", Side::Writer).unwrap().parameter["url"], "fake://one");
        assert_eq!(prod.list().unwrap()[0].environments, ["dev", "prod"]);
        assert!(prod.has("only") && !prod.has("none"));
        let none = sources(folder.path(), SHOP, None);
        assert_eq!(none.get("only", Side::Reader).unwrap().parameter["url"], "fake://only");
        assert!(none.get("shop", Side::Reader).unwrap_err().to_string().contains("--env or WEIR_ENV"));
        let other = sources(folder.path(), SHOP, Some("test"));
        assert!(other.get("shop", Side::Reader).unwrap_err().to_string().contains("only `dev`, `prod`"));
        assert!(other.get("shp", Side::Reader).unwrap_err().to_string().contains("did you mean `shop`"));
    }

    #[test]
    fn a_parameter_that_is_an_object_is_no_environment() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"flat": {"type": "fake", "connection": {"jdbcUrl": "fake://a"}},
            "named": {"type": "fake", "test": {"connection": {"jdbcUrl": "fake://b"}}}}"#;
        let sources = sources(folder.path(), text, Some("test"));
        let url = |name: &str| sources.get(name, Side::Reader).unwrap().parameter["connection"]["jdbcUrl"].clone();
        assert_eq!((url("flat"), url("named")), ("fake://a".into(), "fake://b".into()));
        assert_eq!(sources.list().unwrap()[0].environments, [""; 0]);
    }

    #[test]
    fn every_fault_of_the_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(81);
        let text = format!(
            r#"{{"1a": {{"type": "fake"}}, "b": {{"type": "fak", "description": "{long}"}}, "c": {{"url": "x"}}, "d": 1, "e-f": {{"type": "fake"}}}}"#
        );
        let faults = sources(folder.path(), &text, None).get("b", Side::Reader).unwrap_err();
        assert_eq!(faults.0.len(), 6, "{faults}");
        assert!(faults.0[0].pointer.ends_with("sources.json#/1a"), "{faults}");
        assert!(sources(folder.path(), "{", None).get("b", Side::Reader).is_err());
        assert!(sources(folder.path(), "[]", None).list().is_err());
        let missing = DataSources::new(Some(Path::new("/nowhere/x.json")), None, None);
        assert!(missing.get("a", Side::Reader).unwrap_err().to_string().contains("/nowhere/x.json"));
    }

    #[test]
    fn the_file_beside_the_job_is_found() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), SHOP).unwrap();
        let beside = DataSources::new(None, Some(&folder.path().join("job.json")), Some("dev"));
        assert_eq!(beside.get("shop", Side::Reader).unwrap().parameter["url"], "fake://dev");
    }
}
