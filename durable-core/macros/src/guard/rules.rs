//! What is refused, and what to write instead.

/// A kind of refusal, and how `allow` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Clock,
    Random,
    Sleep,
    Spawn,
    Io,
    Print,
    Env,
    Process,
    Select,
    HashOrder,
    Global,
}

impl Key {
    const ALL: [Self; 11] = [
        Self::Clock,
        Self::Random,
        Self::Sleep,
        Self::Spawn,
        Self::Io,
        Self::Print,
        Self::Env,
        Self::Process,
        Self::Select,
        Self::HashOrder,
        Self::Global,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Random => "random",
            Self::Sleep => "sleep",
            Self::Spawn => "spawn",
            Self::Io => "io",
            Self::Print => "print",
            Self::Env => "env",
            Self::Process => "process",
            Self::Select => "select",
            Self::HashOrder => "hash_order",
            Self::Global => "global",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// A sentence that names them all.
    pub(crate) fn list() -> String {
        let names: Vec<_> = Self::ALL.iter().map(|key| format!("`{}`", key.name())).collect();
        format!("The keys are {}", names.join(", "))
    }
}

/// Functions that an orchestrator must not use.
pub(super) struct Rule {
    pub(super) key: Key,
    /// Their paths. `*` at the front: any segments or none; at the end: one or more. `{a,b}`: one of
    /// them. `core` and `alloc` are written `std`.
    paths: &'static [&'static str],
    /// Names that say it alone, with the number of arguments: for what `use` outside the function
    /// brought in.
    bare: &'static [(&'static str, usize)],
    /// What is wrong with them, after their name.
    pub(super) why: &'static str,
    /// What to write instead.
    pub(super) instead: &'static str,
}

impl Rule {
    /// The rule for a path, as far as it could be resolved.
    pub(super) fn for_path(path: &[String]) -> Option<&'static Self> {
        let seeded = path.last().is_some_and(|last| SEEDED.contains(&last.as_str()));
        let path = &of_std(path);
        RULES
            .iter()
            .find(|rule| rule.paths.iter().any(|pattern| matches(pattern, path)))
            .filter(|rule| !(rule.key == Key::Random && seeded))
    }

    /// The rule for a path that may come out of `use module::*`: only one that says it all.
    pub(super) fn for_glob(path: &[String]) -> Option<&'static Self> {
        let path = &of_std(path);
        RULES.iter().find(|rule| {
            rule.paths.iter().any(|pattern| !pattern.ends_with('*') && matches(pattern, path))
        })
    }

    /// The rule for a call by a name alone.
    pub(super) fn for_bare(name: &str, arguments: usize) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.bare.contains(&(name, arguments)))
    }
}

/// A generator with a seed gives the same numbers in each replay.
const SEEDED: [&str; 3] = ["seed_from_u64", "from_seed", "with_seed"];

const SLEEPS: &str = "waits by a clock of this process, and the wait is lost with it";

const RULES: &[Rule] = &[
    Rule {
        key: Key::Clock,
        paths: &[
            "*::{Instant,SystemTime,Utc,Local,Zoned,Timestamp,UtcDateTime}::now",
            "*::OffsetDateTime::{now_utc,now_local}",
            "*::{Utc,Local}::today",
            "*::clock_gettime",
        ],
        bare: &[],
        why: "reads a clock, which shows another time in each replay",
        instead: "use `ctx.now()`",
    },
    Rule {
        key: Key::Random,
        paths: &[
            "*::Uuid::{new_v4,new_v7,now_v1,now_v6,now_v7}",
            "*::Ulid::{new,generate}",
            "*::Ksuid::new",
            "nanoid::*",
        ],
        bare: &[],
        why: "makes another id in each replay",
        instead: "use `ctx.new_uuid()`",
    },
    Rule {
        key: Key::Random,
        paths: &[
            "rand::{random,rng,thread_rng,fill,random_bool,random_iter,random_range,random_ratio}",
            "rand::prelude::{random,rng,thread_rng}",
            "*::{OsRng,SysRng,RandomState}",
            "*::{OsRng,SysRng,RandomState,ThreadRng}::*",
            "*::{StdRng,SmallRng,ChaCha8Rng,ChaCha12Rng,ChaCha20Rng}::{from_entropy,from_os_rng}",
            "fastrand::*",
            "getrandom::*",
        ],
        bare: &[("thread_rng", 0), ("random", 0)],
        why: "gives another number in each replay",
        instead: "use `ctx.random()` or `ctx.random_range(…)`",
    },
    Rule {
        key: Key::Sleep,
        paths: &[
            "tokio::time::{sleep,sleep_until}",
            "time::{sleep,sleep_until}",
            "std::thread::{sleep,sleep_ms,sleep_until,park,park_timeout}",
            "thread::{sleep,sleep_ms,sleep_until,park,park_timeout}",
            "{async_std,smol}::task::sleep",
            "{smol,async_io}::Timer::*",
            "futures_timer::Delay::new",
        ],
        bare: &[("sleep", 1), ("sleep_until", 1)],
        why: SLEEPS,
        instead: "use `ctx.sleep(…)` or `ctx.sleep_until(…)`",
    },
    Rule {
        key: Key::Sleep,
        paths: &[
            "tokio::time::{timeout,timeout_at}",
            "time::{timeout,timeout_at}",
            "async_std::future::timeout",
        ],
        bare: &[("timeout", 2)],
        why: SLEEPS,
        instead: "use `.timeout(…)` of the call or event, or `ctx.race` with `ctx.sleep(…)`",
    },
    Rule {
        key: Key::Sleep,
        paths: &[
            "tokio::time::{interval,interval_at}",
            "time::{interval,interval_at}",
            "{smol,async_io}::Timer::{interval,interval_at}",
            "async_std::stream::interval",
        ],
        bare: &[],
        why: SLEEPS,
        instead: "use a loop with `ctx.sleep(…)`",
    },
    Rule {
        key: Key::Spawn,
        paths: &[
            "tokio::spawn",
            "tokio::task::{spawn,spawn_blocking,spawn_local,block_in_place}",
            "task::{spawn,spawn_blocking,spawn_local,block_in_place}",
            "*::JoinSet::new",
            "tokio::task::{LocalSet,Builder}::new",
            "{async_std,smol,actix_web,actix_rt}::{spawn,unblock}",
            "{async_std,actix_web}::{task,rt}::{spawn,spawn_blocking,spawn_local}",
            "std::thread::{spawn,scope}",
            "thread::{spawn,scope}",
            "std::thread::Builder::new",
            "thread::Builder::new",
            "rayon::*",
        ],
        bare: &[("spawn", 1), ("spawn_blocking", 1), ("spawn_local", 1)],
        why: "runs code that no history records",
        instead: "let futures run side by side with `ctx.join_all(…)`, and put work into an activity",
    },
    Rule {
        key: Key::Spawn,
        paths: &[
            "*::block_on",
            "tokio::runtime::{Runtime,Builder,Handle}::*",
            "Runtime::new",
            "Handle::{current,try_current}",
            "runtime::{Runtime,Builder,Handle}::*",
        ],
        bare: &[("block_on", 1)],
        why: "leads into an async runtime, and an orchestrator runs outside of any",
        instead: "await durable futures; put everything else into an activity",
    },
    Rule {
        key: Key::Io,
        paths: &[
            "{std,tokio,async_std}::fs::*",
            "{async_fs,fs_err}::*",
            "fs::{canonicalize,copy,create_dir,create_dir_all,exists,hard_link,metadata,read,read_dir}",
            "fs::{read_link,read_to_string,remove_dir,remove_dir_all,remove_file,rename,write}",
            "fs::{set_permissions,soft_link,symlink_metadata,try_exists}",
            "fs::{File,OpenOptions,DirBuilder}::*",
            "*::File::{open,create,create_new,options}",
            "*::OpenOptions::new",
            "std::io::{stdin,stdout,stderr,read_to_string}",
            "tokio::io::{stdin,stdout,stderr}",
            "io::{stdin,stdout,stderr,read_to_string}",
            "std::net::{TcpStream,TcpListener,UdpSocket}::*",
            "{tokio,async_std}::net::*",
            "*::{TcpStream,UnixStream}::connect",
            "*::{TcpListener,UnixListener,UdpSocket,UnixDatagram}::bind",
            "reqwest::get",
            "reqwest::{Client,ClientBuilder,blocking}::*",
            "ureq::{get,post,put,patch,delete,head,request,agent}",
            "ureq::Agent::*",
        ],
        bare: &[],
        why: "does input or output, which gives something else in each replay and happens again",
        instead: "put it into an activity, whose result is recorded",
    },
    Rule {
        key: Key::Env,
        paths: &[
            "std::env::{var,var_os,vars,vars_os,args,args_os,current_dir,current_exe,temp_dir}",
            "std::env::{home_dir,set_var,remove_var,set_current_dir}",
            "env::{var,var_os,vars,vars_os,args,args_os,current_dir,current_exe,temp_dir}",
            "env::{home_dir,set_var,remove_var,set_current_dir}",
            "std::thread::{available_parallelism,current}",
            "thread::{available_parallelism,current}",
            "dotenvy::*",
            "num_cpus::*",
            "hostname::get",
            "gethostname::gethostname",
        ],
        bare: &[],
        why: "looks at this process and its machine, and a replay may run on another",
        instead: "pass the value in the input, or read it in an activity",
    },
    Rule {
        key: Key::Process,
        paths: &[
            "std::process::{exit,abort,id}",
            "std::process::Command::*",
            "process::{exit,abort,id}",
            "process::Command::*",
            "tokio::process::*",
        ],
        bare: &[],
        why: "acts on processes, and again in each replay",
        instead: "put it into an activity; to end the orchestrator, return",
    },
    Rule {
        key: Key::Select,
        paths: &["{futures_lite,smol}::future::race"],
        bare: &[],
        why: "picks a side at random",
        instead: "use `ctx.race(…)`",
    },
];

/// `core` and `alloc` by the name of `std`.
fn of_std(path: &[String]) -> Vec<String> {
    let mut path = path.to_vec();
    if let Some(first) = path.first_mut()
        && matches!(first.as_str(), "core" | "alloc")
    {
        *first = "std".into();
    }
    path
}

fn matches(pattern: &str, path: &[String]) -> bool {
    let pattern: Vec<&str> = pattern.split("::").collect();
    matches_from(&pattern, path)
}

fn matches_from(pattern: &[&str], path: &[String]) -> bool {
    match pattern {
        [] => path.is_empty(),
        ["*"] => !path.is_empty(),
        ["*", rest @ ..] => (0..=path.len()).any(|skipped| matches_from(rest, &path[skipped..])),
        [one, rest @ ..] => path.split_first().is_some_and(|(first, others)| {
            names(one).any(|name| name == first) && matches_from(rest, others)
        }),
    }
}

/// The names that one segment of a pattern stands for.
fn names(segment: &str) -> impl Iterator<Item = &str> {
    segment.trim_start_matches('{').trim_end_matches('}').split(',')
}
