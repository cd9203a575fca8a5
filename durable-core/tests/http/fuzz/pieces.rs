//! Random requests, made of what requests are made of, and what a path means by rules that are written down here a
//! second time. Used by the tests of the parsers and by those of the whole API.

use std::time::{Duration, Instant};

/// Random numbers; the same ones for the same seed.
pub(crate) struct Source(u64);

/// What stands raw in a path or a query, in every reading.
const PLAIN: &str = "abzABZ019-._~!$'()*,;:@";

/// What ids, names and values have in them that is read wrongly somewhere.
const ODD: [&str; 24] = [
    " ", "+", "%", "%41", "%2F", "é", "🦀", "\"", "'", "..", ".", ";", ",", "=", "&", "@", "~",
    "(", "|", "{", "^", "`", "\u{301}", "\u{200b}",
];

/// What no id may have in it, or nobody can write.
const FORBIDDEN: [&str; 10] = ["/", "\\", "?", "#", "\0", "\n", "\r", "\u{7f}", "\u{85}", "\u{1}"];

/// What is put between slashes by those who try.
const TRICKS: [&str; 14] = [
    "",
    ".",
    "..",
    "%2e",
    "%2E%2e",
    "%2F",
    "..%2F..",
    ";x",
    "%00",
    "%FF",
    "%C0%AF",
    "%ED%A0%80",
    "%",
    "%%32%65",
];

const VERBS: [&str; 9] =
    ["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH", "get", "X-ODD"];

const WORDS: [&str; 13] = [
    "instances",
    "orchestrators",
    "raiseEvent",
    "terminate",
    "suspend",
    "resume",
    "rewind",
    "restart",
    "makeprimary",
    "openapi.json",
    "entities",
    "Echo",
    "approval",
];

const NAMES: [&str; 20] = [
    "code",
    "token",
    "taskHub",
    "connection",
    "version",
    "timeout",
    "pollingInterval",
    "reason",
    "top",
    "createdTimeFrom",
    "createdTimeTo",
    "runtimeStatus",
    "instanceIdPrefix",
    "showInput",
    "showHistory",
    "showHistoryOutput",
    "returnInternalServerErrorOnFailure",
    "restartWithNewInstanceId",
    "unknown",
    "",
];

const VALUES: [&str; 24] = [
    "",
    "0",
    "1",
    "-1",
    "NaN",
    "1e9",
    "99999999999999999999",
    "0.5",
    "true",
    "False",
    "default",
    "other",
    "Running",
    "Completed,Failed",
    "3",
    "2024-03-18",
    "2024-03-18T17:44:50.1234567Z",
    "1-01-01T00:00:00Z",
    "2024-13-45T99:99:99+99:99",
    "+",
    "%",
    "a",
    "1.riem.99999999999.00",
    "x",
];

impl Source {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds begin far from each other.
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        Self((mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.next() >> 8) % end as u64).expect("below a usize")
    }

    pub(crate) fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// A text of up to so many pieces; whatever it is.
    pub(crate) fn text(&mut self, pieces: usize) -> String {
        (0..self.below(pieces + 1))
            .map(|_| match self.below(8) {
                0..4 => self.pick(&ODD).to_owned(),
                4 => self.pick(&FORBIDDEN).to_owned(),
                _ => self.plain(),
            })
            .collect()
    }

    /// An id that an instance may have.
    pub(crate) fn id(&mut self) -> String {
        let odd = |source: &mut Self| match source.one_in(2) {
            true => source.plain(),
            false => source.pick(&ODD).to_owned(),
        };
        let id: String = (0..=self.below(6)).map(|_| odd(self)).collect();
        let dots = matches!(&*id, "." | "..");
        if dots || id.starts_with('@') { format!("x{id}") } else { id }
    }

    fn plain(&mut self) -> String {
        let at = self.below(PLAIN.len());
        PLAIN[at..=at].to_owned()
    }

    /// One of the ways to write a text as a segment of a path or a value of a query.
    pub(crate) fn written(&mut self, text: &str) -> String {
        let mut written = String::new();
        for byte in text.bytes() {
            let plain = PLAIN.as_bytes().contains(&byte) || byte.is_ascii_alphanumeric();
            match byte {
                b' ' if self.one_in(2) => written.push('+'),
                _ if plain && !self.one_in(4) => written.push(char::from(byte)),
                _ if self.one_in(2) => written += &format!("%{byte:02x}"),
                _ => written += &format!("%{byte:02X}"),
            }
        }
        written
    }

    /// A word in some casing.
    fn cased(&mut self, word: &str) -> String {
        match self.below(4) {
            0 => word.to_uppercase(),
            1 => word
                .chars()
                .map(|c| if self.one_in(2) { c.to_ascii_uppercase() } else { c })
                .collect(),
            _ => word.to_owned(),
        }
    }

    /// A request: verb, and path and query below the mount. Most are about one of these ids.
    pub(crate) fn request(&mut self, ids: &[&str]) -> (String, String) {
        let verb = if self.one_in(4) { self.pick(&VERBS) } else { self.pick(&VERBS[..3]) };
        let mut path = String::new();
        match self.below(8) {
            0 => (0..self.below(5)).for_each(|_| path += &format!("/{}", self.segment(ids))),
            1 => {
                let (name, id) = (self.segment(&["Echo"]), self.segment(ids));
                path = format!("/{}/{name}/{id}", self.cased("orchestrators"));
            }
            shape => {
                let id = self.pick(ids);
                path = format!("/{}/{}", self.cased("instances"), self.written(id));
                if shape > 3 {
                    let word = self.pick(&WORDS[2..8]);
                    path += &format!("/{}", self.cased(word));
                    if word == "raiseEvent" || self.one_in(8) {
                        path += &format!("/{}", self.segment(&["approval", "x"]));
                    }
                }
            }
        }
        if self.one_in(8) {
            let at = path.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
            let at = if at.is_empty() { 0 } else { at[self.below(at.len())] };
            path.insert_str(at, &format!("/{}", self.pick(&TRICKS)));
        }
        if self.one_in(8) {
            path.push('/');
        }
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        let query = self.query();
        (verb.to_owned(), if self.one_in(2) { path } else { format!("{path}?{query}") })
    }

    fn segment(&mut self, usual: &[&str]) -> String {
        match self.below(6) {
            0 => self.pick(&TRICKS).to_owned(),
            1 => {
                let text = self.text(4);
                self.written(&text)
            }
            2 => {
                let word = self.pick(&WORDS);
                self.cased(word)
            }
            _ => {
                let usual = self.pick(usual);
                self.written(usual)
            }
        }
    }

    pub(crate) fn query(&mut self) -> String {
        let mut query = String::new();
        for _ in 0..self.below(5) {
            let name = self.pick(&NAMES);
            let value = match self.below(3) {
                0 => self.text(3),
                _ => self.pick(&VALUES).to_owned(),
            };
            query += &self.cased(name);
            query += if self.one_in(8) { "" } else { "=" };
            query +=
                &if self.one_in(8) { value.replace([' ', '#'], "+") } else { self.written(&value) };
            query += self.pick(&["&", "&", "&", "&&", ";", "?"]);
        }
        query
    }

    /// A request of the corpus with a few of its bytes changed, doubled, taken out or taken from another.
    pub(crate) fn altered(&mut self, corpus: &[(String, String)]) -> (String, String) {
        let (verb, target) = corpus[self.below(corpus.len())].clone();
        let mut bytes = target.into_bytes();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => {
                    bytes[at] =
                        self.pick(&[b"%", b"/", b"+", b"&", b"=", b";", b".", b"?", b"\xC3"])[0]
                }
                1 => bytes.insert(at, bytes[at]),
                2 if at > 0 => drop(bytes.remove(at)),
                3 => {
                    let other = corpus[self.below(corpus.len())].1.as_bytes();
                    let from = self.below(other.len());
                    bytes.splice(at.max(1).., other[from..].iter().copied());
                }
                _ => bytes[at] ^= 1 << self.below(7),
            }
        }
        bytes[0] = b'/';
        (verb, String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The requests of the corpus: verb, and path and query below the mount.
pub(crate) fn corpus() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/http/fuzz/corpus");
    let mut requests = Vec::new();
    for file in std::fs::read_dir(folder).expect("the corpus is there") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("a text");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        requests.extend(
            lines
                .filter_map(|line| line.split_once(' '))
                .map(|(verb, target)| (verb.to_owned(), target.to_owned())),
        );
    }
    assert!(requests.len() > 50, "the corpus is there");
    requests.sort();
    requests
}

/// The seeds of a run: so many, or for so many seconds where `DURABLE_FUZZ_SECONDS` says so, from `DURABLE_SEED` on.
pub(crate) fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = number("DURABLE_FUZZ_SECONDS").map(Duration::from_secs);
    let fresh = || time.map_or(1, |_| u64::from(std::process::id()) << 32);
    let first = number("DURABLE_SEED").unwrap_or_else(fresh);
    let begun = Instant::now();
    (0_u64..)
        .take_while(move |at| time.map_or(*at < count, |time| begun.elapsed() < time))
        .map(move |at| first.wrapping_add(at))
}

/// Says which case it was, where it ends in a panic.
pub(crate) struct Case(pub(crate) u64, pub(crate) String);

#[allow(clippy::print_stdout, reason = "what is printed belongs to the failure of the test")]
impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(seed, what) = self;
            println!("DURABLE_SEED={seed} repeats this: {what}");
        }
    }
}

/// What a verb and a path below the mount mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    NotText,
    Nothing,
    Start {
        name: String,
        id: Option<String>,
    },
    /// Something that is about the hub.
    Hub(&'static str),
    /// Something that is done with one instance.
    One {
        what: &'static str,
        id: String,
        event: Option<String>,
    },
}

/// The meaning by the rules of the interface: one slash at each end does not count, then it is split, then decoded,
/// once, then compared.
pub(crate) fn meaning(verb: &str, path: &str) -> Meaning {
    let mut rest = path;
    if rest.starts_with('/') {
        rest = &rest[1..];
    }
    if rest.ends_with('/') {
        rest = &rest[..rest.len() - 1];
    }
    let mut segments = Vec::new();
    for segment in rest.split('/').filter(|_| !rest.is_empty()) {
        match decoded(segment) {
            Some(text) => segments.push(text),
            None => return Meaning::NotText,
        }
    }
    if segments.iter().any(String::is_empty) {
        return Meaning::Nothing;
    }
    let is =
        |at: usize, word: &str| segments.get(at).is_some_and(|of| of.eq_ignore_ascii_case(word));
    let text = |at: usize| segments[at].clone();
    let one = |what| Meaning::One { what, id: text(1), event: None };
    match (verb, segments.len()) {
        ("POST", 2) if is(0, "orchestrators") => Meaning::Start { name: text(1), id: None },
        ("POST", 3) if is(0, "orchestrators") => {
            Meaning::Start { name: text(1), id: Some(text(2)) }
        }
        ("GET", 1) if is(0, "instances") => Meaning::Hub("list"),
        ("DELETE", 1) if is(0, "instances") => Meaning::Hub("purge"),
        ("GET", 1) if is(0, "openapi.json") => Meaning::Hub("document"),
        (_, 1) if is(0, "makeprimary") => Meaning::Hub("primary"),
        ("GET", 2) if is(0, "instances") => one("status"),
        ("DELETE", 2) if is(0, "instances") => one("purge"),
        ("POST", 3) if is(0, "instances") => {
            let all = ["terminate", "suspend", "resume", "rewind", "restart"];
            all.into_iter().find(|what| is(2, what)).map_or(Meaning::Nothing, one)
        }
        ("POST", 4) if is(0, "instances") && is(2, "raiseEvent") => {
            Meaning::One { what: "raiseEvent", id: text(1), event: Some(text(3)) }
        }
        _ => Meaning::Nothing,
    }
}

/// A segment, decoded.
pub(crate) fn decoded(segment: &str) -> Option<String> {
    let bytes = segment.as_bytes();
    let mut read = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        match (bytes[at], digits) {
            (b'%', Some(digits)) => {
                let digits = std::str::from_utf8(digits).expect("digits");
                read.push(u8::from_str_radix(digits, 16).expect("digits"));
                at += 2;
            }
            (b'+', _) => read.push(b' '),
            (byte, _) => read.push(byte),
        }
        at += 1;
    }
    String::from_utf8(read).ok()
}
