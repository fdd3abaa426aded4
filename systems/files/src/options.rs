//! How to reach an object store.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_core::Secret;

/// Options of an object store, by name. What is missing is taken from the store's usual environment variables (`AWS_*`,
/// `AZURE_*`, `GOOGLE_*`). Write secrets as `${env:NAME}` or `${file:PATH}`.
///
/// A name may be written `accessKeyId`, `access_key_id` or `aws_access_key_id`.
///
/// | store | names |
/// |-|-|
/// | `s3://` | accessKeyId, secretAccessKey, sessionToken, region, endpoint, pathStyle, anonymous, roleArn … |
/// | `gs://` | serviceAccountPath, serviceAccountKey, endpoint, anonymous … |
/// | `az://`, `abfss://` | accountName, accountKey, sasToken, clientId, clientSecret, tenantId, endpoint, anonymous … |
/// | all | allowHttp, allowInvalidCertificates, timeout (`30s`), connectTimeout, proxyUrl … |
///
/// A store that has answered no request for `timeout` is not asked again. An authority of one's own for its certificate is
/// named by the environment's SSL_CERT_FILE.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct StoreOptions(pub BTreeMap<String, Secret>);

impl StoreOptions {
    /// Every option under the name that stores know, as it was written, and its value.
    pub(crate) fn named(&self) -> impl Iterator<Item = (String, &str, &str)> {
        self.0.iter().map(|(name, value)| (snake(name), name.as_str(), value.reveal()))
    }

    /// An option by the name that stores know.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.named().find(|(n, ..)| n == name).map(|(_, _, value)| value)
    }
}

/// `accessKeyId` and `AWS_ACCESS_KEY_ID` as `access_key_id` and `aws_access_key_id`.
fn snake(name: &str) -> String {
    let camel = name.contains(|c: char| c.is_ascii_lowercase()) && !name.contains('_');
    let mut out = String::with_capacity(name.len() + 4);
    for (i, c) in name.chars().enumerate() {
        if camel && i > 0 && c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_three_spellings_and_values_never_show() {
        let options: StoreOptions =
            serde_json::from_str(r#"{"accessKeyId": "a", "secret_access_key": "b", "AWS_REGION": "c"}"#).unwrap();
        assert_eq!(options.get("access_key_id"), Some("a"));
        assert_eq!(options.get("secret_access_key"), Some("b"));
        assert_eq!(options.get("aws_region"), Some("c"));
        assert!(!format!("{options:?}").contains("\"b\""));
        assert!(!serde_json::to_string(&options).unwrap().contains("\"b\""));
    }
}
