//! Finding a column by its name.

use weir_core::config::nearest;

/// Where a name is among others.
pub(super) enum Found {
    At(usize),
    Nowhere,
    Ambiguous(usize, usize),
}

impl Found {
    /// What to tell of a name that is not there, or not clear.
    pub fn message(&self, what: &str, name: &str, names: &[&str]) -> String {
        match self {
            Self::Ambiguous(a, b) => format!(
                "{what} `{name}` is ambiguous: `{}` and `{}` differ only in case; write one of them exactly",
                names[*a], names[*b]
            ),
            _ => match nearest(name, names.iter().copied()) {
                Some(near) => format!("no such {what}: `{name}`; did you mean `{near}`?"),
                None => format!("no such {what}: `{name}`; there are: {}", shortened(names)),
            },
        }
    }
}

/// Finds a name exactly, else without regard to case where only one matches so.
pub(super) fn find(name: &str, names: &[&str]) -> Found {
    if let Some(at) = names.iter().position(|n| *n == name) {
        return Found::At(at);
    }
    let lower = name.to_lowercase();
    let mut matches = names.iter().enumerate().filter(|(_, n)| n.to_lowercase() == lower).map(|(at, _)| at);
    match (matches.next(), matches.next()) {
        (Some(at), None) => Found::At(at),
        (Some(a), Some(b)) => Found::Ambiguous(a, b),
        _ => Found::Nowhere,
    }
}

/// The first names of a list that may be long.
pub(super) fn shortened<T: AsRef<str>>(names: &[T]) -> String {
    const MOST: usize = 12;
    let shown: Vec<_> = names.iter().take(MOST).map(AsRef::as_ref).collect();
    if names.len() > MOST { format!("{}, …", shown.join(", ")) } else { shown.join(", ") }
}
