//! `dx_digest`: MD5 and SHA-1 in hexadecimal digits.

use std::fmt::Write;

use md5::Digest as _;

/// A digest function and the case of its digits.
#[derive(Debug)]
pub(super) struct Digest {
    algorithm: Algorithm,
    upper: bool,
}

#[derive(Debug)]
enum Algorithm {
    Md5,
    Sha1,
}

impl Digest {
    /// Reads `["md5", "toUpperCase"]`, in any case; also `upper` and `lower`.
    pub(super) fn plan(paras: &[String], mut fault: impl FnMut(usize, String)) -> Option<Self> {
        let algorithm = match paras[0].to_ascii_lowercase().as_str() {
            "md5" => Some(Algorithm::Md5),
            "sha1" => Some(Algorithm::Sha1),
            other => {
                fault(0, format!("algorithm `{other}` is neither `md5` nor `sha1`"));
                None
            }
        };
        let upper = match paras[1].to_ascii_lowercase().as_str() {
            "touppercase" | "upper" => Some(true),
            "tolowercase" | "lower" => Some(false),
            _ => {
                fault(1, format!("case `{}` is neither `toUpperCase` nor `toLowerCase`", paras[1]));
                None
            }
        };
        Some(Self { algorithm: algorithm?, upper: upper? })
    }

    /// Appends the digest of the text's UTF-8 bytes.
    pub(super) fn write(&self, text: &str, out: &mut String) {
        match self.algorithm {
            Algorithm::Md5 => self.digits(&md5::Md5::digest(text), out),
            Algorithm::Sha1 => self.digits(&sha1::Sha1::digest(text), out),
        }
    }

    fn digits(&self, bytes: &[u8], out: &mut String) {
        for byte in bytes {
            let _ = if self.upper { write!(out, "{byte:02X}") } else { write!(out, "{byte:02x}") };
        }
    }
}
