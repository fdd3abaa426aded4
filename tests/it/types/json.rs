//! JSON texts compared by value: the order of keys and spaces do not count, every digit of a number does.

use super::canon::number;

/// The text in a form that is the same for equal values; `None` for what is no JSON.
pub fn canonical(text: &str) -> Option<String> {
    let mut reader = Reader { text, at: 0 };
    let out = reader.value()?;
    reader.spaces();
    (reader.at == text.len()).then_some(out)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn spaces(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn take(&mut self, c: char) -> bool {
        self.spaces();
        let found = self.text[self.at..].starts_with(c);
        self.at += if found { c.len_utf8() } else { 0 };
        found
    }

    fn value(&mut self) -> Option<String> {
        self.spaces();
        match self.text[self.at..].chars().next()? {
            '{' => {
                self.at += 1;
                let mut members = std::collections::BTreeMap::new();
                if !self.take('}') {
                    loop {
                        self.spaces();
                        let key = self.string()?;
                        if !self.take(':') {
                            return None;
                        }
                        members.insert(key, self.value()?);
                        if self.take('}') {
                            break;
                        }
                        if !self.take(',') {
                            return None;
                        }
                    }
                }
                let members: Vec<_> = members.into_iter().map(|(k, v)| format!("{k}:{v}")).collect();
                Some(format!("{{{}}}", members.join(",")))
            }
            '[' => {
                self.at += 1;
                let mut items = Vec::new();
                if !self.take(']') {
                    loop {
                        items.push(self.value()?);
                        if self.take(']') {
                            break;
                        }
                        if !self.take(',') {
                            return None;
                        }
                    }
                }
                Some(format!("[{}]", items.join(",")))
            }
            '"' => self.string(),
            _ => {
                let rest = &self.text[self.at..];
                let end = rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
                self.at += end;
                match &rest[..end] {
                    word @ ("true" | "false" | "null") => Some(word.into()),
                    digits => number(digits),
                }
            }
        }
    }

    /// A string as serde spells it, for one character has many spellings.
    fn string(&mut self) -> Option<String> {
        let rest = &self.text[self.at..];
        let mut escaped = false;
        let end = rest.char_indices().skip(1).find(|(_, c)| {
            let quote = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            quote
        })?;
        self.at += end.0 + 1;
        let text: String = serde_json::from_str(&rest[..=end.0]).ok()?;
        serde_json::to_string(&text).ok()
    }
}
