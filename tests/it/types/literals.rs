//! Random types and values of them, as SQL that their system accepts.

use super::place::System;
use super::{Class, Type};

/// Splitmix64: the same numbers everywhere and for ever.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    /// From one to `most` digits, the first of them no zero.
    fn digits(&mut self, most: u64) -> String {
        let n = 1 + self.below(most);
        (0..n).map(|i| char::from(b'0' + if i == 0 { 1 + self.below(9) } else { self.below(10) } as u8)).collect()
    }

    /// A number of any size up to so many bits.
    fn bits(&mut self, bits: u64) -> u64 {
        let n = self.below(bits + 1);
        if n == 0 { 0 } else { self.next() >> (64 - n) }
    }

    fn text(&mut self, most: u64) -> String {
        const PARTS: &[&str] = &[
            "a", "Z", "0", " ", "é", "ß", "漢", "🚀", "e\u{301}", "\\", "\\N", "\"", "'", ",", ";", "\t", "\n", "\r",
            "NULL", "{", "}", "%", "_", "\u{200d}", "1.0", "true", "\u{1}", "\u{7f}", "\u{feff}", "--", "/*", "\\.",
        ];
        let n = self.below(most + 1);
        (0..n).map(|_| *self.pick(PARTS)).collect()
    }

    fn hex(&mut self, bytes: u64) -> String {
        (0..bytes).map(|_| format!("{:02x}", self.below(256))).collect()
    }

    fn json(&mut self, depth: u64) -> String {
        match self.below(if depth == 0 { 6 } else { 9 }) {
            0 => "null".into(),
            1 => self.pick(&["true", "false"]).to_string(),
            2 => format!("{}{}", self.pick(&["", "-"]), self.digits(15)),
            3 => format!("{}.{}", self.below(1000), self.digits(6)),
            4 => self.digits(30),
            5 => serde_json::to_string(&self.text(6)).expect("a text"),
            6 | 7 => {
                let items: Vec<_> = (0..self.below(4)).map(|_| self.json(depth - 1)).collect();
                format!("[{}]", items.join(", "))
            }
            _ => {
                let members: Vec<_> = (0..self.below(4))
                    .map(|i| {
                        let key = serde_json::to_string(&format!("{i}{}", self.text(2))).expect("a text");
                        format!("{key}: {}", self.json(depth - 1))
                    })
                    .collect();
                format!("{{{}}}", members.join(", "))
            }
        }
    }
}

/// `decimal(10,2) unsigned` as (`decimal unsigned`, [10, 2]).
fn parts(name: &str) -> (String, Vec<u64>) {
    match name.split_once('(') {
        Some((before, rest)) => {
            let (inside, after) = rest.split_once(')').unwrap_or((rest, ""));
            (format!("{before}{after}"), inside.split(',').map_while(|n| n.trim().parse().ok()).collect())
        }
        None => (name.to_owned(), Vec::new()),
    }
}

/// A type like this one with another length, precision or scale, where it has any.
pub fn varied(random: &mut Random, system: System, of: Type) -> Type {
    let (base, arguments) = parts(of.0);
    let most = match (base.as_str(), arguments.len()) {
        // A real has 15 digits to keep them in.
        ("DECIMAL", 2) => 15,
        ("DECIMAL_TEXT", 2) => 76,
        ("numeric" | "numeric[]", 2) => *random.pick(&[18, 38, 76, 200]),
        ("decimal" | "decimal unsigned", 2) => 65,
        ("datetime" | "timestamp" | "time", _) if system.is_mysql() => return leaked(base, random.below(7), of),
        ("timestamp without time zone", 1) => {
            return leaked_text(format!("timestamp({}) without time zone", random.below(7)), of);
        }
        ("timestamp with time zone", 1) => {
            return leaked_text(format!("timestamp({}) with time zone", random.below(7)), of);
        }
        ("time without time zone", 1) => {
            return leaked_text(format!("time({}) without time zone", random.below(7)), of);
        }
        ("bit", 1) => return leaked(base, 1 + random.below(64), of),
        ("character varying" | "character" | "varchar" | "char" | "binary", 1) => {
            return leaked(base, 1 + random.below(40), of);
        }
        _ => return of,
    };
    let precision = 1 + random.below(most);
    let scale = random.below(precision.min(if system.is_mysql() { 30 } else { precision }) + 1);
    let (name, rest) = base.split_once([' ', '[']).map_or((base.as_str(), ""), |(name, _)| (name, &base[name.len()..]));
    Type(Box::leak(format!("{name}({precision},{scale}){rest}").into_boxed_str()), of.1, &[])
}

/// The edges of the type were those of its own length.
fn leaked(base: String, argument: u64, of: Type) -> Type {
    leaked_text(format!("{base}({argument})"), of)
}

fn leaked_text(text: String, of: Type) -> Type {
    // MySQL's only bit that is a boolean is bit(1).
    let class = match (of.1, text.as_str()) {
        (Class::Bool, "bit(1)") => Class::Bool,
        (Class::Bool, _) => Class::Number,
        (Class::Number, "bit(1)") => Class::Bool,
        (class, _) => class,
    };
    Type(Box::leak(text.into_boxed_str()), class, &[])
}

/// Values of a megabyte: rare, or nothing else is tested.
fn is_huge(literal: &str) -> bool {
    ["30000", "200000", "262144", "500000", "1048576"].iter().any(|n| literal.contains(n))
}

fn edge(random: &mut Random, edges: &[&'static str], huge: bool) -> String {
    let mut found = *random.pick(edges);
    if is_huge(found) && !(huge && random.below(20) == 0) {
        found = edges.iter().find(|e| !is_huge(e)).copied().unwrap_or("NULL");
    }
    found.to_owned()
}

/// A random literal for a type, which its system accepts; `huge` if it may be one of a megabyte.
pub fn literal(random: &mut Random, system: System, of: &Type, huge: bool) -> String {
    let Type(name, class, edges) = of;
    // The edges come again and again, between values of no special kind.
    if !edges.is_empty() && random.below(4) == 0 {
        return edge(random, edges, huge);
    }
    let (base, arguments) = parts(name);
    let first = arguments.first().copied();
    let minus = if random.below(2) == 0 { "-" } else { "" };
    let sign = if base.contains("unsigned") { "" } else { minus };
    let quoted = |text: String| {
        // A backslash escapes in MySQL's literals.
        let text = if system.is_mysql() { text.replace('\\', "\\\\") } else { text };
        format!("'{}'", text.replace('\'', "''"))
    };
    let (year, month, day) = (1 + random.below(9999), 1 + random.below(12), 1 + random.below(28));
    let date = format!("{year:04}-{month:02}-{day:02}");
    let digits = first.unwrap_or(if system.is_mysql() { 0 } else { 6 });
    let decimals = match digits.min(6) as u32 {
        0 => String::new(),
        n => format!(".{:0width$}", random.below(10_u64.pow(n)), width = n as usize),
    };
    let time = format!("{:02}:{:02}:{:02}{decimals}", random.below(24), random.below(60), random.below(60));
    let signed = |random: &mut Random, bits: u64| {
        let value = random.bits(bits - 1) as i64;
        (if minus.is_empty() { value } else { -value - 1 }).to_string()
    };
    match (class, base.as_str()) {
        (Class::Number, "tinyint") => signed(random, 8),
        (Class::Number, "smallint") => signed(random, 16),
        (Class::Number, "mediumint") => signed(random, 24),
        (Class::Number, "int" | "integer" | "INT32") => signed(random, 32),
        (Class::Number, "bigint" | "BIGINT" | "INTEGER" | "INT" | "TINYINT") => signed(random, 64),
        (Class::Number, "tinyint unsigned") => random.bits(8).to_string(),
        (Class::Number, "smallint unsigned") => random.bits(16).to_string(),
        (Class::Number, "mediumint unsigned") => random.bits(24).to_string(),
        (Class::Number, "int unsigned" | "int unsigned zerofill" | "oid") => random.bits(32).to_string(),
        (Class::Number, "bigint unsigned") => random.bits(64).to_string(),
        (Class::Number, "UINT64") => random.bits(63).to_string(),
        (Class::Number, "year") => (1901 + random.below(255)).to_string(),
        (Class::Number | Class::Bool, "bit") if system.is_mysql() => random.bits(first.unwrap_or(1)).to_string(),
        (Class::Other, "bit") => {
            let bits: String = (0..first.unwrap_or(1)).map(|_| if random.below(2) == 0 { '0' } else { '1' }).collect();
            format!("B'{bits}'")
        }
        (Class::Bool, "boolean") => random.pick(&["true", "false"]).to_string(),
        (Class::Bool, "BOOLEAN") => random.below(2).to_string(),
        (Class::Number, "numeric" | "NUMERIC") if arguments.is_empty() => match system {
            System::Sqlite => format!("{minus}{}.{}", random.digits(8), random.digits(6)),
            _ => format!("{sign}{}.{}", random.digits(30), random.digits(30)),
        },
        (Class::Number, "numeric" | "decimal" | "decimal unsigned" | "DECIMAL" | "DECIMAL_TEXT")
            if arguments.len() == 2 && !name.contains('-') && arguments[1] <= arguments[0] =>
        {
            let (whole, scale) = (arguments[0] - arguments[1], arguments[1]);
            let head = if whole == 0 || random.below(6) == 0 { "0".into() } else { random.digits(whole) };
            let tail: String = (0..scale).map(|_| char::from(b'0' + random.below(10) as u8)).collect();
            let number = if scale == 0 { format!("{sign}{head}") } else { format!("{sign}{head}.{tail}") };
            if base == "DECIMAL_TEXT" { format!("'{number}'") } else { number }
        }
        (Class::Double, "double precision" | "double" | "REAL" | "DOUBLE PRECISION") if arguments.is_empty() => {
            let exponent = random.below(600) as i64 - 300;
            format!("{sign}{}.{}e{exponent}", random.below(10), random.digits(16))
        }
        (Class::Double, "double") => format!("{sign}{}.{:03}", random.digits(7), random.below(1000)),
        (Class::Single, "real" | "float") => {
            format!("{sign}{}.{}e{}", 1 + random.below(9), random.digits(8), random.below(70) as i64 - 35)
        }
        (Class::Single, "FLOAT32") => format!("{sign}{}.{}", random.below(1000), random.pick(&["5", "25", "125", "0"])),
        (Class::Text, "text" | "longtext" | "mediumtext" | "TEXT" | "CLOB") => quoted(random.text(40)),
        (Class::Text, "tinytext") => quoted(random.text(30)),
        (Class::Text, "varchar character set latin1") => {
            quoted(random.text(8).chars().filter(|c| c.is_ascii() || *c == 'é').take(20).collect())
        }
        (
            Class::Text,
            "character varying"
            | "varchar"
            | "character"
            | "char"
            | "VARCHAR"
            | "CHAR"
            | "varchar character set utf8mb4 collate utf8mb4_bin"
            | "varchar character set utf16",
        ) => {
            let most = first.unwrap_or(40);
            quoted(random.text(most).chars().take(most as usize).collect())
        }
        (Class::Bytes, "bytea") => {
            let n = random.below(40);
            format!("'\\x{}'", random.hex(n))
        }
        (Class::Bytes, "blob" | "tinyblob" | "varbinary" | "longblob" | "BLOB") => {
            let n = random.below(40);
            format!("x'{}'", random.hex(n))
        }
        (Class::Bytes, "binary") => format!("x'{}'", random.hex(first.unwrap_or(1))),
        (Class::Date, _) => format!("'{date}'"),
        (Class::Timestamp, _) => format!("'{date} {time}'"),
        (Class::Instant, "timestamp with time zone") => format!("'{date} {time}+0{}:30'", random.below(10)),
        (Class::Instant, "timestamp") => format!("'{:04}-{month:02}-{day:02} {time}'", 1971 + year % 66),
        (Class::Instant, "TIMESTAMPTZ") => format!("'{date} {time}Z'"),
        (Class::Time, _) => format!("'{time}'"),
        (Class::Duration, _) => {
            format!("'{minus}{:02}:{:02}:{:02}{decimals}'", random.below(838), random.below(60), random.below(60))
        }
        (Class::Json, _) => quoted(random.json(4)),
        (Class::Uuid, _) => format!("'{}'", uuid_text(&random.hex(16))),
        (Class::Other, "interval") => format!(
            "'{minus}{} mons {} days {}{}:{:02}:{:02}.{:06}'",
            random.below(30_000),
            random.below(4000),
            random.pick(&["", "-"]),
            random.below(10_000),
            random.below(60),
            random.below(60),
            random.below(1_000_000)
        ),
        (Class::Other, "inet") => format!("'{}.{}.0.{}'", random.below(256), random.below(256), random.below(256)),
        (Class::Other, "integer[]" | "bigint[]") => {
            let items: Vec<_> = (0..random.below(6))
                .map(|_| if random.below(5) == 0 { "NULL".into() } else { signed(random, 32) })
                .collect();
            format!("'{{{}}}'", items.join(","))
        }
        (Class::Other, "text[]") => {
            let items: Vec<_> = (0..random.below(5))
                .map(|_| match random.below(5) {
                    0 => "NULL".into(),
                    _ => format!("\"{}\"", random.text(5).replace('\\', "\\\\").replace('"', "\\\"")),
                })
                .collect();
            quoted(format!("{{{}}}", items.join(",")))
        }
        (Class::Other, "double precision[]") => {
            let items: Vec<_> = (0..random.below(5))
                .map(|_| format!("{}.{}e{}", random.below(10), random.digits(16), random.below(300)))
                .collect();
            format!("'{{{}}}'", items.join(","))
        }
        _ if edges.is_empty() => "NULL".into(),
        _ => edge(random, edges, huge),
    }
}

fn uuid_text(hex: &str) -> String {
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
