//! A path or URL, and the store it lies in.

use url::Url;
use weir_core::ConnectorContext;

use crate::{Store, StoreOptions, open_store};

/// A place for files: a store, and a path, folder or glob within it.
#[derive(Debug, Clone)]
pub struct Location {
    /// The store.
    pub store: Store,
    /// The file's path on this machine, or the object's key.
    pub path: String,
}

impl Location {
    /// Understands a path of this machine, `file://`, and the URLs of [`open_store`]. Connects to nothing.
    ///
    /// # Errors
    /// A text that says what is wrong with it, without credentials.
    pub fn parse(text: &str, options: &StoreOptions, context: &ConnectorContext) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self { store: Store::Local, path: text.to_owned() });
        };
        if scheme.eq_ignore_ascii_case("file") {
            // `file://` paths are percent-encoded; globs must survive, so the URL parser sees the rest only.
            let path = Url::parse(&format!("file://{}", rest.replace('?', "%3F").replace('#', "%23")))
                .ok()
                .and_then(|url| url.to_file_path().ok())
                .and_then(|path| path.to_str().map(str::to_owned))
                .ok_or_else(|| format!("`{text}` is no local file URL: write file:///folder/name"))?;
            return Ok(Self { store: Store::Local, path });
        }
        let opened = open_store(text, options, &context.io)?;
        let store =
            Store::Remote { store: opened.store, root: opened.root, is_web: opened.is_web, io: context.io.clone() };
        Ok(Self { store, path: opened.key })
    }

    /// The location as reports show it.
    pub fn display(&self) -> String {
        self.store.display(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::Form;

    #[tokio::test]
    async fn places_are_understood_or_refused_by_name() {
        let context = ConnectorContext {
            cancel: Default::default(),
            io: tokio::runtime::Handle::current(),
            form: Form::Native,
            time_zone: chrono_tz::UTC,
            shared: Default::default(),
        };
        let parse = |text: &str| Location::parse(text, &StoreOptions::default(), &context);
        assert_eq!(parse("a b/c.csv").unwrap().path, "a b/c.csv");
        assert_eq!(parse("file:///a%20b/*?.csv").unwrap().path, "/a b/*?.csv");
        assert_eq!(parse("s3://bucket/x/y.csv").unwrap().display(), "s3://bucket/x/y.csv");
        assert!(parse("ftp://host/x").unwrap_err().contains("ftp://"));
        assert!(!parse("s3://key:secret@bucket/x").unwrap_err().contains("secret@"));
    }
}
