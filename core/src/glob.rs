//! Patterns over names, as catalogues and whole-database jobs have them.

/// Whether the case of letters matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterCase {
    /// `Orders` and `orders` are two names.
    Exact,
    /// They are one.
    Ignore,
}

/// Whether all of `name` matches `pattern`, in which `*` stands for any text, also none, and `?` for one character. There
/// are no escapes and no other signs.
///
/// Only the last star is ever tried again, so the time is at most the product of both lengths, whatever the pattern.
pub fn glob(pattern: &str, name: &str, case: LetterCase) -> bool {
    let letters = |text: &str| -> Vec<char> {
        match case {
            LetterCase::Exact => text.chars().collect(),
            LetterCase::Ignore => text.to_lowercase().chars().collect(),
        }
    };
    let (pattern, name) = (letters(pattern), letters(name));
    let (mut p, mut n) = (0, 0);
    // Where the last star stood, and how far it has taken the name.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let exact = |pattern, name| glob(pattern, name, LetterCase::Exact);
        for (pattern, name) in [("order_*", "order_01"), ("*", ""), ("a?c*", "abcd"), ("*.t*x", "s.tax"), ("?s", "üs")]
        {
            assert!(exact(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("order", "orders"), ("?", ""), ("a*b", "abc"), ("", "x"), ("Orders", "orders")] {
            assert!(!exact(pattern, name), "{pattern} {name}");
        }
        assert!(glob("ÖR*s", "örderS", LetterCase::Ignore) && !glob("or*x", "orders", LetterCase::Ignore));
    }

    #[test]
    fn many_stars_take_no_longer() {
        let name = "a".repeat(2_000);
        assert!(!glob(&format!("{}b", "*a".repeat(500)), &name, LetterCase::Exact));
    }
}
