//! Hashes of JSON texts by meaning: neither the order of keys counts nor a space, nor `1.0` for `1`, but every digit does.
//!
//! Read here, for the common readers know numbers as doubles only: they round some and refuse others.

use std::collections::BTreeMap;

use weir_core::Digits;

use super::hash::{KEYS, bytes_hash, fold};

/// How deep arrays and objects may lie in each other.
const DEEPEST: usize = 256;

/// The hash of a text; `None` for what is no JSON, or nested past all use.
pub fn json_hash(text: &str) -> Option<u64> {
    let mut reader = Reader { text, at: 0 };
    let hash = reader.value(0)?;
    reader.spaces();
    (reader.at == text.len()).then_some(hash)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn spaces(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    /// Passes over `mark`, if it is next.
    fn take(&mut self, mark: char) -> bool {
        self.spaces();
        let found = self.rest().starts_with(mark);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Option<u64> {
        if depth > DEEPEST {
            return None;
        }
        if self.take('{') {
            let mut members = BTreeMap::new();
            self.items('}', |reader| {
                reader.spaces();
                let key = reader.string()?;
                // Of two members of one name the last one counts, as everywhere.
                let value = if reader.take(':') { reader.value(depth + 1)? } else { return None };
                members.insert(key, value);
                Some(())
            })?;
            let of_member = |state, (key, value): (&String, &u64)| {
                fold(fold(state ^ bytes_hash(key.as_bytes()), KEYS[0]) ^ value, KEYS[1]).wrapping_add(1)
            };
            return Some(members.iter().fold(KEYS[3], of_member));
        }
        if self.take('[') {
            let mut state = KEYS[1];
            self.items(']', |reader| {
                state = fold(state ^ reader.value(depth + 1)?, KEYS[2]).wrapping_add(1);
                Some(())
            })?;
            return Some(state);
        }
        if self.rest().starts_with('"') {
            return Some(KEYS[3] ^ bytes_hash(self.string()?.as_bytes()));
        }
        let rest = self.rest();
        let end = rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
        self.at += end;
        match &rest[..end] {
            "null" => Some(KEYS[0]),
            "true" => Some(fold(KEYS[1], 3)),
            "false" => Some(fold(KEYS[1], 2)),
            number => {
                let Digits { negative, digits, exponent } = Digits::of(number)?;
                let place = (exponent as u64) << 1 | u64::from(negative);
                Some(KEYS[2] ^ fold(bytes_hash(digits.as_bytes()) ^ place, KEYS[2]))
            }
        }
    }

    /// What stands between commas, up to `end`.
    fn items(&mut self, end: char, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if self.take(end) {
            return Some(());
        }
        loop {
            item(self)?;
            if self.take(end) {
                return Some(());
            }
            if !self.take(',') {
                return None;
            }
        }
    }

    /// A string without its quotes, for one character has many spellings.
    fn string(&mut self) -> Option<String> {
        let mut texts = serde_json::Deserializer::from_str(self.rest()).into_iter::<String>();
        let text = texts.next()?.ok()?;
        self.at += texts.byte_offset();
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::json_hash;

    fn hash(text: &str) -> u64 {
        json_hash(text).unwrap_or_else(|| panic!("{text} is no JSON"))
    }

    #[test]
    fn spelling_does_not_count() {
        for (one, other) in [
            (r#"{"n": 12345678901234567890123}"#, r#"{"n":1.2345678901234567890123e22}"#),
            ("[1e400]", " [ 10E399\n] "),
            ("[-0, 1, true]", "[0.0,1.0,true]"),
            (r#"{"a":1,"b":"\u00e9\n"}"#, r#"{"b":"é\n", "a":1}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            ("{ }", "{}"),
            ("[ ]", "[]"),
        ] {
            assert_eq!(hash(one), hash(other), "{one} {other}");
        }
    }

    #[test]
    fn every_digit_counts() {
        let all = [
            "12345678901234567890123",
            "12345678901234567890124",
            "1.2345678901234568e22",
            "1e400",
            "1e401",
            "1e-400",
            "-1e400",
            "0",
            "1",
            "-1",
            "10",
            "0.1",
            "true",
            "false",
            "null",
            r#""1""#,
            "[]",
            "[1]",
            "[[1]]",
            "[1,0]",
            "[0,1]",
            "{}",
            r#"{"1":0}"#,
            r#"{"0":1}"#,
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| hash(other) != hash(one)), "{one}");
        }
    }

    #[test]
    fn what_is_no_json_has_no_hash() {
        let deep = "[".repeat(100_000);
        for text in ["", "[1,]", "[1", "{\"a\"}", "{a:1}", "1 2", "nul", "[1]]", "\"a", "+1", "\"a\\x\"", &deep] {
            assert_eq!(json_hash(text), None, "{}", &text[..text.len().min(20)]);
        }
    }
}
