//! Which operation a verb and a path name.

use axum::http::Method;

use super::signature::LinkRights;

/// An operation of the management API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Start { name: String, id: Option<String> },
    List,
    PurgeMany,
    Instance { id: String, operation: Operation },
    MakePrimary,
}

/// What is asked of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    Status,
    Purge,
    RaiseEvent(String),
    Terminate,
    Suspend,
    Resume,
    Rewind,
    Restart,
}

impl Operation {
    /// What a signed link has to allow for it.
    pub(super) fn right(&self) -> LinkRights {
        match self {
            Self::Status => LinkRights::READ,
            Self::RaiseEvent(_) => LinkRights::RAISE,
            Self::Purge
            | Self::Terminate
            | Self::Suspend
            | Self::Resume
            | Self::Rewind
            | Self::Restart => LinkRights::MANAGE,
        }
    }
}

impl Route {
    /// `None` for whatever is not an operation. Fixed words of a path have any casing.
    pub(super) fn of(method: &Method, segments: &[String]) -> Option<Self> {
        use Operation::{Purge, RaiseEvent, Restart, Resume, Rewind, Status, Suspend, Terminate};
        if segments.iter().any(String::is_empty) {
            return None;
        }
        let words: Vec<String> = segments.iter().map(|word| word.to_ascii_lowercase()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let text = |at: usize| segments.get(at).cloned();
        let one = |operation| Some(Self::Instance { id: text(1)?, operation });
        match (method.as_str(), &*words) {
            ("POST", ["orchestrators", _] | ["orchestrators", _, _]) => {
                Some(Self::Start { name: text(1)?, id: text(2) })
            }
            ("GET", ["instances"]) => Some(Self::List),
            ("DELETE", ["instances"]) => Some(Self::PurgeMany),
            ("GET", ["instances", _]) => one(Status),
            ("DELETE", ["instances", _]) => one(Purge),
            ("POST", ["instances", _, "raiseevent", _]) => one(RaiseEvent(text(3)?)),
            ("POST", ["instances", _, "terminate"]) => one(Terminate),
            ("POST", ["instances", _, "suspend"]) => one(Suspend),
            ("POST", ["instances", _, "resume"]) => one(Resume),
            ("POST", ["instances", _, "rewind"]) => one(Rewind),
            ("POST", ["instances", _, "restart"]) => one(Restart),
            (_, ["makeprimary"]) => Some(Self::MakePrimary),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::path::segments;
    use super::*;

    fn route(verb: &str, path: &str) -> Option<Route> {
        Route::of(&Method::from_bytes(verb.as_bytes()).unwrap(), &segments(path).unwrap())
    }

    fn instance(id: &str, operation: Operation) -> Option<Route> {
        Some(Route::Instance { id: id.into(), operation })
    }

    #[test]
    fn each_operation_has_one_verb_and_path() {
        let start = |id: Option<&str>| {
            Some(Route::Start { name: "Echo".into(), id: id.map(str::to_owned) })
        };
        for (verb, path, expected) in [
            ("POST", "/orchestrators/Echo", start(None)),
            ("POST", "/orchestrators/Echo/", start(None)),
            ("POST", "/Orchestrators/Echo/a%20b", start(Some("a b"))),
            ("GET", "/instances", Some(Route::List)),
            ("GET", "/INSTANCES/", Some(Route::List)),
            ("DELETE", "/instances/", Some(Route::PurgeMany)),
            ("GET", "/instances/A", instance("A", Operation::Status)),
            ("DELETE", "/instances/A", instance("A", Operation::Purge)),
            (
                "POST",
                "/instances/A/RAISEEVENT/Go",
                instance("A", Operation::RaiseEvent("Go".into())),
            ),
            ("POST", "/instances/A/Terminate", instance("A", Operation::Terminate)),
            ("POST", "/instances/A/suspend", instance("A", Operation::Suspend)),
            ("POST", "/instances/A/resume/", instance("A", Operation::Resume)),
            ("POST", "/instances/A/rewind", instance("A", Operation::Rewind)),
            ("POST", "/instances/A/restart", instance("A", Operation::Restart)),
            ("PUT", "/makePrimary", Some(Route::MakePrimary)),
        ] {
            assert_eq!(route(verb, path), expected, "{verb} {path}");
        }
    }

    #[test]
    fn nothing_else_is_an_operation() {
        for (verb, path) in [
            ("GET", "/"),
            ("GET", "/orchestrators/Echo"),
            ("POST", "/orchestrators"),
            ("POST", "/orchestrators/Echo/a/b"),
            ("POST", "/instances"),
            ("POST", "/instances/A"),
            ("PUT", "/instances/A"),
            ("HEAD", "/instances/A"),
            ("OPTIONS", "/instances/A"),
            ("GET", "/instances/A/terminate"),
            ("POST", "/instances/A/explode"),
            ("POST", "/instances/A/raiseEvent"),
            ("POST", "/instances/A/raiseEvent/Go/on"),
            ("POST", "/instances//terminate"),
            ("GET", "//instances"),
            ("GET", "/instances//"),
            ("GET", "/entities"),
            ("GET", "/entities/counter/a"),
            ("POST", "/entities/counter/a"),
        ] {
            assert_eq!(route(verb, path), None, "{verb} {path}");
        }
    }
}
