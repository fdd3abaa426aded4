//! Random tables on every route, compared inside the databases.
//!
//! `WEIR_TABLES=10000 WEIR_SEED=1 cargo test -p weir --test it random_tables` runs as many tables as one likes; a
//! failure prints the seed of its table, which `WEIR_SEED=… WEIR_TABLES=1` runs again.

use std::collections::BTreeMap;
use std::path::Path;

use super::matrix::{Cell, Table, Target, cells};
use super::place::{Place, System};
use super::{Class, Type, cases_mysql, cases_postgresql, cases_sqlite};

/// Splitmix64: the same numbers everywhere and for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    fn digits(&mut self, most: u64) -> String {
        let n = 1 + self.below(most);
        (0..n).map(|i| char::from(b'0' + if i == 0 { 1 + self.below(9) } else { self.below(10) } as u8)).collect()
    }

    fn text(&mut self, most: u64) -> String {
        const PARTS: &[&str] = &[
            "a", "Z", "0", " ", "é", "ß", "漢", "🚀", "e\u{301}", "\\", "\\N", "\"", "''", ",", ";", "\t", "\n", "\r",
            "NULL", "{", "}", "%", "_", "\u{200d}", "1.0", "true",
        ];
        let n = self.below(most + 1);
        (0..n).map(|_| *self.pick(PARTS)).collect()
    }
}

/// A random literal for a type, which its system accepts.
fn literal(random: &mut Random, system: System, Type(name, class, edges): &Type) -> String {
    // The edges come again and again, between values of no special kind.
    if random.below(4) == 0 {
        return (*random.pick(edges)).to_owned();
    }
    let sign = if random.below(2) == 0 { "-" } else { "" };
    let (year, month, day) = (1 + random.below(9999), 1 + random.below(12), 1 + random.below(28));
    let date = format!("{year:04}-{month:02}-{day:02}");
    let fraction = if name.contains("(6)") || system == System::PostgreSql && !name.contains('(') { 6 } else { 0 };
    let decimals = if fraction == 6 { format!(".{:06}", random.below(1_000_000)) } else { String::new() };
    let time = format!("{:02}:{:02}:{:02}{decimals}", random.below(24), random.below(60), random.below(60));
    match (class, *name) {
        (Class::Number, "bigint" | "BIGINT" | "INTEGER") => format!("{sign}{}", random.digits(18)),
        (Class::Number, "int" | "integer" | "INT") => format!("{sign}{}", random.digits(9)),
        (Class::Number, "bigint unsigned") => random.digits(19),
        (Class::Number, "numeric(38,10)" | "decimal(38,10)") => {
            format!("{sign}{}.{}", random.digits(28), random.digits(10))
        }
        (Class::Number, "numeric") => format!("{sign}{}.{}", random.digits(30), random.digits(30)),
        (Class::Number, "numeric(10,2)" | "decimal(10,2)" | "DECIMAL(10,2)") => {
            format!("{sign}{}.{:02}", random.digits(7), random.below(100))
        }
        (Class::Number, "decimal(65,30)") => format!("{sign}{}.{}", random.digits(35), random.digits(30)),
        (Class::Double, "double precision" | "double" | "REAL") => {
            let exponent = random.below(600) as i64 - 300;
            format!("{sign}{}.{}e{exponent}", random.below(10), random.digits(16))
        }
        (Class::Single, "real") => {
            format!("{sign}{}.{}e{}", 1 + random.below(9), random.digits(8), random.below(70) as i64 - 35)
        }
        (Class::Text, "text" | "longtext" | "TEXT" | "character varying(20)" | "varchar(20)") => {
            let text = random.text(if name.contains("(20)") { 4 } else { 40 });
            // A backslash escapes in MySQL's literals.
            let text = if system.is_mysql() { text.replace('\\', "\\\\") } else { text };
            format!("'{text}'")
        }
        (Class::Bytes, "bytea") => format!("'\\x{}'", hex(random)),
        (Class::Bytes, "blob" | "varbinary(300)" | "longblob" | "BLOB") => format!("x'{}'", hex(random)),
        (Class::Date, _) => format!("'{date}'"),
        (Class::Timestamp, _) => format!("'{date} {time}'"),
        (Class::Instant, "timestamp with time zone") => format!("'{date} {time}+0{}:30'", random.below(10)),
        (Class::Instant, "timestamp" | "timestamp(6)") => {
            format!("'{:04}-{month:02}-{day:02} {time}'", 1971 + year % 66)
        }
        (Class::Time, "time without time zone") => format!("'{time}'"),
        (Class::Duration, _) => {
            format!("'{sign}{}:{:02}:{:02}{decimals}'", random.below(838), random.below(60), random.below(60))
        }
        _ => (*random.pick(edges)).to_owned(),
    }
}

fn hex(random: &mut Random) -> String {
    (0..random.below(40)).map(|_| format!("{:02x}", random.below(256))).collect()
}

/// A table of up to eight columns with up to twenty values each.
async fn table(seed: u64, folder: &Path) -> (Table, Target) {
    let mut random = Random(seed);
    let system = *random.pick(&System::ALL);
    let target = *random.pick(&Target::ALL);
    let (all, setup) = match system {
        System::PostgreSql => (cases_postgresql::TYPES.to_vec(), cases_postgresql::SETUP),
        System::MariaDb => ([cases_mysql::COMMON, cases_mysql::MARIADB].concat(), ""),
        System::MySql => ([cases_mysql::COMMON, cases_mysql::MYSQL].concat(), ""),
        System::Sqlite => (cases_sqlite::TYPES.to_vec(), ""),
    };
    let types: Vec<Type> = (0..1 + random.below(8)).map(|_| *random.pick(&all)).collect();
    let mut values = Vec::new();
    for (index, of) in types.iter().enumerate() {
        for i in 0..1 + random.below(20) {
            values.push(((index as i64) * 100 + i as i64 + 1, index, literal(&mut random, system, of)));
        }
    }
    let place = Place::new(system, &format!("random{seed}"), folder).await;
    (Table::with_values(place, types, setup, values).await, target)
}

#[tokio::test]
async fn random_tables_arrive_intact() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("WEIR_SEED").unwrap_or(20_261_121);
    let count = number("WEIR_TABLES").unwrap_or(24);
    let mut faults: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for seed in first..first + count {
        let folder = tempfile::tempdir().unwrap();
        let (table, target) = table(seed, folder.path()).await;
        let cells: Vec<Cell> = cells(&table, target, folder.path()).await;
        let route = format!("{} → {}", table.place.system.name(), target.name());
        for (Type(name, ..), cell) in table.types.iter().zip(cells) {
            for fault in cell.changed {
                faults.entry(seed).or_default().push(format!("{route}: {name}: {fault}"));
            }
        }
        table.place.drop().await;
    }
    assert!(faults.is_empty(), "run again with WEIR_SEED=… WEIR_TABLES=1: {faults:#?}");
}
