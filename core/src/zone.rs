//! A time zone in serialised form: its IANA name. For `#[serde(with = "weir_core::zone")]`.

use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serializer};

/// Writes the IANA name.
///
/// # Errors
/// Those of the serialiser.
pub fn serialize<S: Serializer>(zone: &Tz, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(zone.name())
}

/// Reads an IANA name.
///
/// # Errors
/// A name that is no zone.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tz, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}
