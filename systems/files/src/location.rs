//! A path or URL, and the store it lies in.

use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::SpawnedReqwestConnector;
use url::Url;
use weir_core::ConnectorContext;

use crate::{Store, StoreOptions};

/// A place for files: a store, and a path, folder or glob within it.
#[derive(Debug, Clone)]
pub struct Location {
    /// The store.
    pub store: Store,
    /// The file's path on this machine, or the object's key.
    pub path: String,
}

impl Location {
    /// Understands a path of this machine, `file://`, and `s3://bucket/key`. Connects to nothing.
    ///
    /// # Errors
    /// A text that says what is wrong with it, without credentials.
    pub fn parse(text: &str, options: &StoreOptions, context: &ConnectorContext) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self { store: Store::Local, path: text.to_owned() });
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => {
                // `file://` paths are percent-encoded; globs must survive, so the URL parser sees the rest only.
                let path = Url::parse(&format!("file://{}", rest.replace('?', "%3F").replace('#', "%23")))
                    .ok()
                    .and_then(|url| url.to_file_path().ok())
                    .and_then(|path| path.to_str().map(str::to_owned))
                    .ok_or_else(|| format!("`{text}` is no local file URL: write file:///folder/name"))?;
                Ok(Self { store: Store::Local, path })
            }
            "s3" | "s3a" | "s3n" => {
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() || bucket.contains(['@', '?', '#']) {
                    return Err("an S3 URL is written s3://bucket/key; credentials belong into `options`".into());
                }
                let root = format!("s3://{bucket}");
                let store = amazon(bucket, options, context).map_err(|e| format!("{root} cannot be opened: {e}"))?;
                Ok(Self { store: Store::Remote { store: Arc::new(store), root }, path: key.to_owned() })
            }
            "gs" | "gcs" | "az" | "azure" | "abfs" | "abfss" | "adl" | "wasb" | "oss" | "cos" | "hdfs" | "http"
            | "https" | "ftp" | "sftp" => Err(format!(
                "{scheme}:// is not built into this program: copy the files to a local folder or an S3-compatible store \
                 (s3:// with options.endpoint)"
            )),
            _ => Err(format!("{scheme}:// is no known kind of file location: use a path, file:// or s3://")),
        }
    }

    /// The location as reports show it.
    pub fn display(&self) -> String {
        self.store.display(&self.path)
    }
}

fn amazon(
    bucket: &str,
    options: &StoreOptions,
    context: &ConnectorContext,
) -> object_store::Result<object_store::aws::AmazonS3> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_virtual_hosted_style_request(options.path_style == Some(false))
        // Tasks live on current-thread runtimes of their own: requests run on the job's.
        .with_http_connector(SpawnedReqwestConnector::new(context.io.clone()));
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    } else if builder.get_config_value(&AmazonS3ConfigKey::Region).is_none() {
        builder = builder.with_region("us-east-1");
    }
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    if let Some(id) = &options.access_key_id {
        builder = builder.with_access_key_id(id);
    }
    if let Some(secret) = &options.secret_access_key {
        builder = builder.with_secret_access_key(secret.reveal());
    }
    if let Some(token) = &options.session_token {
        builder = builder.with_token(token.reveal());
    }
    let plain = options.endpoint.as_deref().is_some_and(|e| e.starts_with("http://"));
    if let Some(allow) = options.allow_http.or(plain.then_some(true)) {
        builder = builder.with_allow_http(allow);
    }
    if options.anonymous == Some(true) {
        builder = builder.with_skip_signature(true);
    }
    builder.build()
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
        assert!(parse("gs://bucket/x").unwrap_err().contains("gs://"));
        assert!(!parse("s3://key:secret@bucket/x").unwrap_err().contains("secret@"));
    }
}
