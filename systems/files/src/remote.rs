//! Object stores and web servers, opened by URL.

use std::str::FromStr;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use percent_encoding::percent_decode_str;
use tokio::runtime::Handle;
use weir_core::config::nearest;

use crate::StoreOptions;
use crate::silence::{Patient, retries};

/// The names that users are likely to mean, for a misspelt one.
const USUAL: &[&str] = &[
    "accessKeyId",
    "secretAccessKey",
    "sessionToken",
    "region",
    "endpoint",
    "pathStyle",
    "anonymous",
    "allowHttp",
    "timeout",
    "connectTimeout",
    "proxyUrl",
    "accountName",
    "accountKey",
    "sasToken",
    "clientId",
    "clientSecret",
    "tenantId",
    "serviceAccountPath",
    "serviceAccountKey",
];

/// A store that was opened by a URL into it.
pub struct Opened {
    /// The whole store: bucket, container or server.
    pub store: Arc<dyn ObjectStore>,
    /// What stands before a key in reports: `s3://bucket`.
    pub root: String,
    /// The rest of the URL: a key, a prefix or a pattern; empty for the whole store.
    pub key: String,
    /// Whether this is a web server, which can be read from and neither listed nor written to.
    pub is_web: bool,
}

/// Opens the store of a URL: `s3://bucket/key` (`s3a`, `s3n`), `gs://bucket/key` (`gcs`), `az://container/key` (`azure`,
/// `adl`), `abfss://container@account.dfs.core.windows.net/key` (`abfs`), `https://host/key` (`http`). Connects to
/// nothing. Requests run on `io`, for tasks live on current-thread runtimes of their own.
///
/// # Errors
/// A text that says what is wrong, without credentials.
pub fn open_store(url: &str, options: &StoreOptions, io: &Handle) -> Result<Opened, String> {
    let (scheme, rest) =
        url.split_once("://").ok_or_else(|| "a store is named by a URL, s3://bucket/key".to_owned())?;
    let scheme = scheme.to_ascii_lowercase();
    let (host, key) = rest.split_once('/').unwrap_or((rest, ""));
    if host.is_empty() || host.contains(['?', '#']) {
        return Err(format!("a {scheme}:// URL is written {scheme}://name/key"));
    }
    let of_account = matches!(scheme.as_str(), "az" | "azure" | "adl" | "abfs" | "abfss");
    if host.split_once('@').is_some_and(|(user, _)| !of_account || user.contains(':')) {
        return Err("credentials belong into `storageOptions`, not into the URL".into());
    }
    let root = format!("{scheme}://{host}");
    let connector = || Patient::new(io.clone());
    let failed = |e: object_store::Error| format!("{root} cannot be opened: {e}");
    let opened = |store: Arc<dyn ObjectStore>, is_web: bool, root: String, key: &str| {
        Ok(Opened { store, root, key: key.to_owned(), is_web })
    };
    match scheme.as_str() {
        "s3" | "s3a" | "s3n" => {
            let builder = AmazonS3Builder::from_env()
                .with_bucket_name(host)
                .with_http_connector(connector())
                .with_retry(retries());
            let builder = configure(builder, options, AmazonS3Builder::with_config, |name, value| match name {
                "path_style" => Some(("virtual_hosted_style_request".into(), not(value))),
                "anonymous" => Some(("skip_signature".into(), value.into())),
                _ => None,
            })?;
            let builder = match builder.get_config_value(&AmazonS3ConfigKey::Region) {
                None => builder.with_region("us-east-1"),
                Some(_) => builder,
            };
            let plain = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).is_some_and(|e| is_plain(&e));
            let builder = match plain && options.get("allow_http").is_none() {
                true => builder.with_allow_http(true),
                false => builder,
            };
            opened(Arc::new(builder.build().map_err(failed)?), false, root.clone(), key)
        }
        "gs" | "gcs" => {
            let builder = GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(host)
                .with_http_connector(connector())
                .with_retry(retries());
            let builder =
                configure(builder, options, GoogleCloudStorageBuilder::with_config, |name, value| match name {
                    "endpoint" => Some(("base_url".into(), value.into())),
                    "anonymous" => Some(("skip_signature".into(), value.into())),
                    "service_account_path" => Some(("google_service_account".into(), value.into())),
                    _ => None,
                })?;
            let plain = builder.get_config_value(&GoogleConfigKey::BaseUrl).is_some_and(|e| is_plain(&e));
            let builder = match plain && options.get("allow_http").is_none() {
                true => builder.with_config(GoogleConfigKey::Client(ClientConfigKey::AllowHttp), "true"),
                false => builder,
            };
            opened(Arc::new(builder.build().map_err(failed)?), false, root.clone(), key)
        }
        _ if of_account || (scheme == "https" && is_azure(host)) => {
            // An https URL has the container as the first part of its path.
            let (place, root, key) = match scheme.as_str() {
                "https" => {
                    let (container, key) = key.split_once('/').unwrap_or((key, ""));
                    (format!("https://{host}/{container}"), format!("{root}/{container}"), key)
                }
                _ => (root.clone(), root.clone(), key),
            };
            let builder = MicrosoftAzureBuilder::from_env()
                .with_url(place)
                .with_http_connector(connector())
                .with_retry(retries());
            let builder = configure(builder, options, MicrosoftAzureBuilder::with_config, |name, value| match name {
                "anonymous" => Some(("skip_signature".into(), value.into())),
                _ => None,
            })?;
            let plain = builder.get_config_value(&AzureConfigKey::Endpoint).is_some_and(|e| is_plain(&e));
            let builder = match plain && options.get("allow_http").is_none() {
                true => builder.with_allow_http(true),
                false => builder,
            };
            opened(Arc::new(builder.build().map_err(failed)?), false, root, key)
        }
        "http" | "https" => {
            if key.contains(['?', '#']) {
                return Err("a URL with `?` or `#` cannot be read: give the plain URL of a file".into());
            }
            let builder =
                HttpBuilder::new().with_url(&root).with_http_connector(connector().of_web()).with_retry(retries());
            let builder = configure(builder, options, HttpBuilder::with_config, |_, _| None)?;
            let builder = match scheme == "http" && options.get("allow_http").is_none() {
                true => builder.with_config(ClientConfigKey::AllowHttp, "true"),
                false => builder,
            };
            let key = percent_decode_str(key).decode_utf8().map_err(|_| "the URL is not UTF-8".to_owned())?;
            opened(Arc::new(builder.build().map_err(failed)?), true, root.clone(), &key)
        }
        "oss" | "cos" | "obs" | "hdfs" | "ftp" | "sftp" | "wasb" | "wasbs" => Err(format!(
            "{scheme}:// is not built into this program: use s3:// with `endpoint` in `storageOptions` where the store \
             speaks S3, or copy the files to a local folder"
        )),
        _ => Err(format!(
            "{scheme}:// is no known kind of location: use a path, file://, s3://, gs://, az:// or https://"
        )),
    }
}

/// Gives a builder the options; `special` knows names of ours that the store has not.
fn configure<B, K: FromStr>(
    mut builder: B,
    options: &StoreOptions,
    set: impl Fn(B, K, String) -> B,
    special: impl Fn(&str, &str) -> Option<(String, String)>,
) -> Result<B, String> {
    for (name, written, value) in options.named() {
        let (name, value) = special(&name, value).unwrap_or_else(|| (name.clone(), value.to_owned()));
        let value = if name.contains("endpoint") { value.trim_end_matches('/').to_owned() } else { value };
        let Ok(key) = name.parse::<K>() else {
            let near = nearest(written, USUAL.iter().copied().filter(|u| *u != written));
            let hint = near.map_or(String::new(), |n| format!(": did you mean `{n}`?"));
            return Err(format!("`storageOptions` has `{written}`, which this kind of store does not know{hint}"));
        };
        builder = set(builder, key, value);
    }
    Ok(builder)
}

fn not(value: &str) -> String {
    (!matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on")).to_string()
}

fn is_plain(endpoint: &str) -> bool {
    endpoint.to_ascii_lowercase().starts_with("http://")
}

fn is_azure(host: &str) -> bool {
    host.ends_with(".blob.core.windows.net") || host.ends_with(".dfs.core.windows.net")
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::Secret;

    fn open(url: &str, options: &[(&str, &str)]) -> Result<Opened, String> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), Secret::new(*v))).collect();
        open_store(url, &StoreOptions(options), &Handle::current())
    }

    #[tokio::test]
    async fn stores_are_opened_by_their_urls() {
        let azure = [("accountName", "acc"), ("accountKey", "a2V5")];
        for (url, options, root, key) in [
            ("s3://b/x/*.csv", &[("accessKeyId", "i"), ("secretAccessKey", "s")][..], "s3://b", "x/*.csv"),
            ("gs://b/x.csv", &[("anonymous", "true")], "gs://b", "x.csv"),
            ("az://c/x.csv", &azure, "az://c", "x.csv"),
            ("abfss://c@acc.dfs.core.windows.net/x", &azure[1..], "abfss://c@acc.dfs.core.windows.net", "x"),
            ("https://acc.blob.core.windows.net/c/x", &azure[1..], "https://acc.blob.core.windows.net/c", "x"),
            ("https://example.org/a%20b.csv", &[], "https://example.org", "a b.csv"),
            ("http://127.0.0.1:80/a.csv", &[], "http://127.0.0.1:80", "a.csv"),
        ] {
            let opened = open(url, options).unwrap();
            assert_eq!((opened.root.as_str(), opened.key.as_str()), (root, key));
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_without_secrets() {
        for (url, options, said) in [
            ("s3://key:hidden@b/x", &[][..], "storageOptions"),
            ("abfss://u:hidden@a/x", &[], "storageOptions"),
            ("s3://b/x", &[("accessKeyIdd", "hidden")], "did you mean `accessKeyId`"),
            ("gs://b/x", &[("serviceAccountKey", "hidden")], "gs://b cannot be opened"),
            ("az://c/x", &[("accountName", "a"), ("accountKey", "not base64: hidden")], "az://c cannot be opened"),
            ("ftp://h/x", &[], "ftp://"),
            ("https://h/x?sig=hidden", &[], "plain URL"),
        ] {
            let Err(message) = open(url, options) else { panic!("{url} was opened") };
            assert!(message.contains(said) && !message.contains("hidden"), "{url}: {message}");
        }
    }
}
