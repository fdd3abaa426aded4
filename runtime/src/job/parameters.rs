//! Variables in the text of a job file, replaced before it is parsed.
//!
//! | in the text | becomes |
//! |-|-|
//! | `${name}`, `$name` | what `-p name=value` says; a name wins over a date format of the same spelling |
//! | `${yyyymmdd-1}`, `$[yyyymmddhh24-1/24]` | dates relative to the scheduled time, see the expression module |
//! | `$bizdate`, `$cyctime`, `$gmtdate`, `$bizmonth` (braces allowed) | the scheduler's own variables |
//! | `${env:NAME}`, `${file:PATH}` | stays: a secret, resolved just before a connector is opened |
//!
//! Inside a JSON string a value is escaped, outside one it stands as it is; nothing is replaced inside comments, and a
//! value is not searched for variables again.

use std::collections::BTreeMap;

use chrono::DateTime;
use chrono_tz::Tz;
use weir_core::Faults;

use super::expression::{self, Evaluated};
use super::text::position;

/// A text with its variables replaced, and the way back to where each byte came from.
#[derive(Debug, Default)]
pub(crate) struct Substituted {
    /// The text.
    pub text: String,
    // (start here, start there) of every stretch that was copied, and of every value that was put in.
    stretches: Vec<(usize, usize, bool)>,
}

impl Substituted {
    /// The byte of the original text that byte `at` of the new one stems from.
    pub fn origin(&self, at: usize) -> usize {
        let index = self.stretches.partition_point(|(here, _, _)| *here <= at).saturating_sub(1);
        match self.stretches.get(index) {
            Some((here, there, true)) => there + at.saturating_sub(*here),
            Some((_, there, false)) => *there,
            None => at,
        }
    }

    fn copy(&mut self, piece: &str, from: usize) {
        if !piece.is_empty() {
            self.stretches.push((self.text.len(), from, true));
            self.text.push_str(piece);
        }
    }

    fn put(&mut self, value: &str, from: usize) {
        self.stretches.push((self.text.len(), from, false));
        self.text.push_str(value);
    }
}

/// What stands in for a variable.
enum Replacement {
    Text(String),
    /// It is no variable, or one for later.
    Keep,
    Wrong(String),
}

/// Replaces every variable of `text`. Undefined names and malformed dates are faults, each with its line; the text can
/// be read further all the same, so that the other faults of the file are found too.
pub(crate) fn substitute(text: &str, given: &BTreeMap<String, String>, at: &DateTime<Tz>) -> (Substituted, Faults) {
    let mut faults = Faults::default();
    let done = walk(text, |variable, byte| match resolve(variable, given, at) {
        Replacement::Text(value) => Some(value),
        Replacement::Keep => None,
        Replacement::Wrong(message) => {
            let (line, column) = position(text, byte);
            faults.add("", format!("{message} (line {line}, column {column})"));
            // A reference stands for any value, so nobody complains about this place a second time.
            Some(if variable.bare { "null" } else { "${env:UNDEFINED}" }.to_owned())
        }
    });
    (done, faults)
}

/// Replaces variables only so far that the text can be parsed to look for settings that they depend on.
pub(crate) fn preview(text: &str, given: &BTreeMap<String, String>) -> String {
    walk(text, |variable, _| match variable.name().and_then(|name| given.get(name)) {
        Some(value) => Some(value.clone()),
        None if variable.bare => Some("0".into()),
        None => None,
    })
    .text
}

/// Evaluates the dates inside the values of parameters: `-p 'dt=${yyyymmdd-1}'`, `-p 'hour=$[hh24-1/24]'`.
///
/// # Errors
/// Malformed dates, and references from one value to another parameter.
pub(crate) fn evaluate(
    given: &BTreeMap<String, String>,
    at: &DateTime<Tz>,
) -> Result<BTreeMap<String, String>, Faults> {
    let mut faults = Faults::default();
    let nothing = BTreeMap::new();
    let mut values = BTreeMap::new();
    for (name, value) in given {
        let mut result = String::new();
        let mut rest = value.as_str();
        while let Some(start) = rest.find('$') {
            result.push_str(&rest[..start]);
            let Some((variable, length)) = Variable::at(&rest[start..], false) else {
                result.push('$');
                rest = &rest[start + 1..];
                continue;
            };
            match resolve(variable, &nothing, at) {
                Replacement::Text(text) => result.push_str(&text),
                // A password may hold anything: what is no date stays as it is.
                Replacement::Keep => result.push_str(&rest[start..start + length]),
                Replacement::Wrong(_) if variable.kind == Kind::Braces && variable.plain_name() => {
                    if given.contains_key(variable.body) {
                        faults.add(
                            "",
                            format!(
                                "the value of parameter `{name}` refers to parameter `{}`: write the value itself",
                                variable.body
                            ),
                        );
                    }
                    result.push_str(&rest[start..start + length]);
                }
                Replacement::Wrong(message) => faults.add("", format!("parameter `{name}`: {message}")),
            }
            rest = &rest[start + length..];
        }
        result.push_str(rest);
        values.insert(name.clone(), result);
    }
    faults.or(values)
}

/// Reads what follows `-p`: `name=value`, or DataX's `-Da=1 -Db=2`.
///
/// # Errors
/// A fault that says how parameters are written.
pub fn parse_parameters(text: &str) -> Result<Vec<(String, String)>, Faults> {
    let text = text.trim();
    if !text.starts_with("-D") {
        return one_parameter(text).map(|pair| vec![pair]);
    }
    let mut faults = Faults::default();
    let mut pairs = Vec::new();
    // Values may hold spaces, so only ` -D` begins the next one.
    let mut rest = text;
    while let Some(tail) = rest.strip_prefix("-D") {
        let mut search = 0;
        let end = loop {
            let Some(found) = tail[search..].find("-D") else { break tail.len() };
            let found = search + found;
            if tail[..found].ends_with(char::is_whitespace) {
                break found;
            }
            search = found + 2;
        };
        match one_parameter(tail[..end].trim()) {
            // Inside the one argument that holds all pairs no shell has taken a value's quotation marks off.
            Ok((name, value)) => pairs.push((name, unquote(&value).to_owned())),
            Err(more) => faults.0.extend(more.0),
        }
        rest = &tail[end..];
    }
    faults.or(pairs)
}

fn one_parameter(text: &str) -> Result<(String, String), Faults> {
    // The value may be a secret: messages show the name at most.
    let wrong = || Faults::one("", "a parameter is written `-p name=value`, or `-p \"-Dname=value -Dother=value\"`");
    let (name, value) = text.split_once('=').ok_or_else(|| match text {
        name if Variable { kind: Kind::Plain, body: name, bare: true }.plain_name() && name.len() < 32 => {
            Faults::one("", format!("parameter `{name}` has no value: write `-p {name}=value`"))
        }
        _ => wrong(),
    })?;
    let name = name.trim();
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | '$')) {
        return Err(wrong());
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn unquote(value: &str) -> &str {
    let quoted = |q: char| value.strip_prefix(q).and_then(|v| v.strip_suffix(q)).filter(|v| !v.contains(q));
    quoted('"').or_else(|| quoted('\'')).unwrap_or(value)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `${…}`
    Braces,
    /// `$[…]`
    Brackets,
    /// `$name`
    Plain,
}

#[derive(Debug, Clone, Copy)]
struct Variable<'a> {
    kind: Kind,
    body: &'a str,
    /// Stands outside a JSON string.
    bare: bool,
}

impl<'a> Variable<'a> {
    /// The variable at the start of `text`, which begins with `$`, and its length.
    fn at(text: &'a str, bare: bool) -> Option<(Self, usize)> {
        let after = &text[1..];
        for (open, close, kind) in [('{', '}', Kind::Braces), ('[', ']', Kind::Brackets)] {
            if let Some(inner) = after.strip_prefix(open) {
                // Neither a string nor a variable goes on beyond its line or quote.
                let end = inner.find([close, '\n', '"']).filter(|end| inner[*end..].starts_with(close))?;
                return Some((Self { kind, body: &inner[..end], bare }, end + 3));
            }
        }
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        let starts = after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        starts.then_some((Self { kind: Kind::Plain, body: &after[..end], bare }, end + 1))
    }

    fn name(&self) -> Option<&'a str> {
        (self.kind != Kind::Brackets).then_some(self.body.trim())
    }

    fn plain_name(&self) -> bool {
        !self.body.is_empty() && self.body.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'))
    }
}

fn resolve(variable: Variable<'_>, given: &BTreeMap<String, String>, at: &DateTime<Tz>) -> Replacement {
    if let Some(value) = variable.name().and_then(|name| given.get(name)) {
        return Replacement::Text(value.clone());
    }
    let body = variable.body;
    let system = |name: &str| expression::system_variable(name, at).map(Replacement::Text);
    let evaluated = match variable.kind {
        Kind::Plain if matches!(body, "jobid" | "nodeid" | "taskid") => {
            return Replacement::Wrong(format!("`${body}` is known to a scheduler only: pass it with `-p {body}=…`"));
        }
        Kind::Plain => return system(body).unwrap_or(Replacement::Keep),
        Kind::Braces if body.starts_with("env:") || body.starts_with("file:") => return Replacement::Keep,
        Kind::Braces => match system(body.trim()) {
            Some(value) => return value,
            None => expression::business(body, at),
        },
        Kind::Brackets => expression::scheduled(body, at),
    };
    match evaluated {
        Evaluated::Value(text) => Replacement::Text(text),
        Evaluated::Wrong(message) => Replacement::Wrong(message),
        // `$[0]` is a JSON path in somebody's SQL.
        Evaluated::Foreign if variable.kind == Kind::Brackets => Replacement::Keep,
        Evaluated::Foreign => Replacement::Wrong(undefined(body.trim(), given)),
    }
}

fn undefined(name: &str, given: &BTreeMap<String, String>) -> String {
    let near = weir_core::config::nearest(name, given.keys().map(String::as_str));
    let hint = near.map(|near| format!("; `{near}` is given, did you mean that?")).unwrap_or_default();
    format!("`${{{name}}}` has no value: pass it with `-p {name}=…`{hint}")
}

/// Copies `text`, asking `replace` for each variable outside comments.
fn walk(text: &str, mut replace: impl FnMut(Variable<'_>, usize) -> Option<String>) -> Substituted {
    let mut done = Substituted::default();
    let bytes = text.as_bytes();
    let (mut copied, mut i, mut string) = (0, 0, false);
    while i < bytes.len() {
        match bytes[i] {
            b'"' => string = !string,
            b'\\' if string => i += 1,
            b'\n' => string = false,
            b'/' if !string && bytes.get(i + 1) == Some(&b'/') => {
                i = text[i..].find('\n').map_or(bytes.len(), |n| i + n);
                continue;
            }
            b'/' if !string && bytes.get(i + 1) == Some(&b'*') => {
                i = text[i + 2..].find("*/").map_or(bytes.len(), |n| i + n + 4);
                continue;
            }
            b'$' => {
                if let Some((variable, length)) = Variable::at(&text[i..], !string) {
                    if let Some(value) = replace(variable, i) {
                        done.copy(&text[copied..i], copied);
                        done.put(&if string { escaped(&value) } else { value }, i);
                        copied = i + length;
                    }
                    i += length;
                    continue;
                }
            }
            _ => {}
        }
        i += 1;
    }
    done.copy(&text[copied.min(text.len())..], copied);
    done
}

/// `value` as it stands between the quotes of a JSON string.
fn escaped(value: &str) -> String {
    let quoted = serde_json::Value::String(value.to_owned()).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{NaiveDateTime, TimeZone};

    fn at(text: &str) -> DateTime<Tz> {
        let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap();
        chrono_tz::UTC.from_local_datetime(&naive).unwrap()
    }

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn replaced(text: &str, pairs: &[(&str, &str)], time: &str) -> String {
        substitute(text, &given(pairs), &at(time)).0.text
    }

    #[test]
    fn every_row_of_the_grammar() {
        for (expression, time, value) in [
            ("$[yyyymmddhh24-2/24]$[miss-10/24/60]", "2023-04-23 19:00", "20230423175000"),
            ("$[yyyymmddhh24-1/24]$[miss-10/24/60]", "2023-04-23 19:00", "20230423185000"),
            ("$[yyyymmddhh24-2/24]$[miss-10/24/60]", "2023-04-23 19:15", "20230423170500"),
            ("$[mi-15/24/60]", "2025-07-27 00:05", "50"),
            ("$[hh24-15/24/60]", "2025-07-27 00:05", "23"),
            ("$[yyyymmddhh24-1/24]", "2025-07-27 00:05", "2025072623"),
            ("$[add_months(yyyymmdd,-1)]", "2025-03-31 00:00", "20250228"),
            ("$bizdate", "2025-11-01 00:00", "20251031"),
            ("$cyctime", "2025-11-01 00:00", "20251101000000"),
            ("$gmtdate", "2025-11-01 00:00", "20251101"),
            ("${yyyymmdd}", "2025-11-01 00:00", "20251031"),
            ("${bizdate}", "2025-11-01 00:00", "20251031"),
            ("pt=${yyyymmdd-1}/h=$[hh24]", "2025-11-01 05:00", "pt=20251030/h=05"),
        ] {
            assert_eq!(replaced(expression, &[], time), value, "{expression} at {time}");
            assert_eq!(replaced(&format!("\"{expression}\""), &[], time), format!("\"{value}\""));
            let through = evaluate(&given(&[("x", expression)]), &at(time)).unwrap();
            assert_eq!(through["x"], value);
        }
    }

    #[test]
    fn names_win_over_formats_and_need_no_braces() {
        let time = "2025-11-01 00:00";
        assert_eq!(replaced("${yyyymmdd} $dt $dtx ${dt}x", &[("yyyymmdd", "A"), ("dt", "B")], time), "A B $dtx Bx");
        assert_eq!(replaced(r#"{"channel": ${ch}}"#, &[("ch", "3")], time), r#"{"channel": 3}"#);
        assert_eq!(replaced("$bizdate", &[("bizdate", "x")], time), "x");
        assert_eq!(replaced("$1 $ $$ $é cost: 5$", &[], time), "$1 $ $$ $é cost: 5$");
        assert_eq!(replaced("JSON_EXTRACT(a, '$[0].b')", &[], time), "JSON_EXTRACT(a, '$[0].b')");
    }

    #[test]
    fn values_are_escaped_inside_strings_and_not_searched_again() {
        let text = replaced(r#""where": "a = ${v}""#, &[("v", "\"x\\\n${w}")], "2025-11-01 00:00");
        assert_eq!(text, r#""where": "a = \"x\\\n${w}""#);
    }

    #[test]
    fn secrets_and_comments_stay() {
        let text = "{\"p\": \"${env:PW}\", // ${undefined}\n /* ${too} \" */ \"q\": \"${file:a/b}//${v}\"}";
        let expected = text.replace("${v}", "1");
        assert_eq!(replaced(text, &[("v", "1")], "2025-11-01 00:00"), expected);
    }

    #[test]
    fn every_undefined_name_is_a_fault_with_its_line() {
        let text = "\"${a}\"\n\"${yyyymmdd-x}\" ${bizdat} $jobid";
        let (_, faults) = substitute(text, &given(&[("aa", "1")]), &at("2025-11-01 00:00"));
        assert_eq!(faults.0.len(), 4, "{faults}");
        let text = faults.to_string();
        assert!(text.contains("-p a=…") && text.contains("`aa` is given") && text.contains("line 2"), "{text}");
    }

    #[test]
    fn bytes_find_their_way_back() {
        let text = "ab${x}cd$y!";
        let done = substitute(text, &given(&[("x", "12345678"), ("y", "")]), &at("2025-11-01 00:00")).0;
        assert_eq!(done.text, "ab12345678cd!");
        assert_eq!([0, 1, 2, 9, 10, 11, 12, 13].map(|i| done.origin(i)), [0, 1, 2, 2, 6, 7, 10, 11]);
    }

    #[test]
    fn parameters_of_both_kinds_are_read() {
        let pairs = |text: &str| parse_parameters(text).unwrap();
        let own = |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect::<Vec<_>>();
        assert_eq!(pairs("a=1=2"), own(&[("a", "1=2")]));
        assert_eq!(pairs("-Da=1 -Db=2"), own(&[("a", "1"), ("b", "2")]));
        assert_eq!(pairs(" -Da=x y -Db='q r'  -Dc=\"-D\" "), own(&[("a", "x y"), ("b", "q r"), ("c", "-D")]));
        assert_eq!(pairs("a="), own(&[("a", "")]));
        for wrong in ["a", "=1", "-D", "-Da", "a b=1", "-Da=1 -D=secret"] {
            let faults = parse_parameters(wrong).unwrap_err().to_string();
            assert!(!faults.contains("secret"), "{faults}");
        }
    }
}
