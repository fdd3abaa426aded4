//! A little web server with one file, whose bytes are known by their place.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::sleep;
use std::time::Duration;

use weir_core::Secret;
use weir_files::{Store, StoreOptions, open_store};

/// How the server answers who asks for a part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Gives {
    /// With the part; of an empty file there is none.
    Parts,
    /// With the whole file.
    Whole,
    /// With the part, and without a word of how long the file is.
    PartsOfUnknown,
    /// As if it were no file.
    Refusal,
    /// With a fault that is none of the part's, and as if it were an empty file where only that is asked for.
    Nothing,
}

#[derive(Clone)]
pub struct Web {
    pub gives: Gives,
    pub size: u64,
    /// How many bytes it sends before it rests, and for how long.
    pub rests: Option<(u64, Duration)>,
    /// What it tells of the file beside its size, by the number of requests before.
    pub tells: fn(usize) -> String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// The file's bytes from a place on, some of them.
pub fn bytes(from: u64) -> &'static [u8] {
    const ROUND: usize = 251;
    static ROUNDS: OnceLock<Vec<u8>> = OnceLock::new();
    let rounds = ROUNDS.get_or_init(|| (0..=u8::MAX).take(ROUND).cycle().take(ROUND * 300).collect());
    &rounds[(from % ROUND as u64) as usize..]
}

/// Whether these are the file's bytes from a place on.
pub fn are_bytes(mut found: &[u8], mut from: u64) -> bool {
    while !found.is_empty() {
        let expected = bytes(from);
        let (some, rest) = found.split_at(found.len().min(expected.len()));
        if some != &expected[..some.len()] {
            return false;
        }
        (found, from) = (rest, from + some.len() as u64);
    }
    true
}

impl Web {
    pub fn new(gives: Gives, size: u64) -> Self {
        Self { gives, size, rests: None, tells: |_| String::new(), asked: Arc::default() }
    }

    /// Serves until the test program ends.
    pub fn open(&self, timeout: &str) -> Store {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/a", listener.local_addr().unwrap());
        let web = self.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let web = web.clone();
                // Who has heard enough hangs up.
                std::thread::spawn(move || web.answer(client.unwrap()).ok());
            }
        });
        let options = StoreOptions([("timeout".to_owned(), Secret::new(timeout))].into());
        let io = tokio::runtime::Handle::current();
        let opened = open_store(&url, &options, &io).unwrap();
        Store::Remote { store: opened.store, root: opened.root, is_web: opened.is_web, io }
    }

    /// The requests since the last call: their methods, and the parts that they were for.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn answer(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(client.try_clone()?).lines();
        let method = lines.next().unwrap()?.split(' ').next().unwrap().to_owned();
        let mut part = None;
        for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
            if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                let (from, to) = range.split_once('-').unwrap();
                part = Some(from.parse().unwrap()..(to.parse::<u64>().unwrap() + 1).min(self.size));
            }
        }
        let shown = part.as_ref().map_or(String::new(), |part: &Range<u64>| format!(" {}..{}", part.start, part.end));
        let tells = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(format!("{method}{shown}"));
            (self.tells)(asked.len() - 1)
        };
        let all = 0..self.size;
        let (status, part, told) = match (self.gives, part) {
            (Gives::Nothing, Some(_)) => ("403 Forbidden", 0..0, String::new()),
            (Gives::Nothing, None) => ("200 OK", 0..0, String::new()),
            (Gives::Refusal, Some(_)) => ("400 Bad Request", 0..0, String::new()),
            (Gives::Parts, Some(part)) if part.is_empty() => {
                ("416 Range Not Satisfiable", 0..0, format!("content-range: bytes */{}\r\n", self.size))
            }
            (Gives::Parts | Gives::PartsOfUnknown, Some(part)) => {
                let size = if self.gives == Gives::Parts { self.size.to_string() } else { "*".into() };
                let told = format!("content-range: bytes {}-{}/{size}\r\n", part.start, part.end - 1);
                ("206 Partial Content", part, told)
            }
            (Gives::Whole, _) | (_, None) => ("200 OK", all, String::new()),
        };
        let length = part.end - part.start;
        write!(client, "HTTP/1.1 {status}\r\n{told}{tells}content-length: {length}\r\nconnection: close\r\n\r\n")?;
        if method == "HEAD" {
            return Ok(());
        }
        let mut at = part.start;
        while at < part.end {
            let most = self.rests.map_or(64 << 10, |(bytes, _)| bytes);
            let end = part.end.min(at + most);
            client.write_all(&bytes(at)[..(end - at) as usize])?;
            if let Some((_, rest)) = self.rests {
                sleep(rest);
            }
            at = end;
        }
        Ok(())
    }
}
