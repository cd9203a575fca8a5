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
    OpenApi,
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

/// One line of the table of routes.
pub(super) struct Line {
    /// `None` is any.
    pub(super) verb: Option<&'static str>,
    /// Below the mount; what stands in braces is any segment.
    pub(super) path: &'static str,
    /// What it reads of the query, beside what each route does: [`EVERYWHERE`].
    pub(super) parameters: &'static [&'static str],
    /// The route for the segments that stand in the place of braces, as many as there are.
    route: fn(String, String) -> Route,
}

/// What is read of every query.
pub(super) const EVERYWHERE: [&str; 4] = ["code", "token", "taskHub", "connection"];

const START: &[&str] =
    &["version", "timeout", "pollingInterval", "returnInternalServerErrorOnFailure"];
const REASON: &[&str] = &["reason"];

const fn line(
    verb: &'static str,
    path: &'static str,
    parameters: &'static [&'static str],
    route: fn(String, String) -> Route,
) -> Line {
    Line { verb: Some(verb), path, parameters, route }
}

fn one(id: String, operation: Operation) -> Route {
    Route::Instance { id, operation }
}

/// All routes there are. `openapi.json` describes these, and a test holds the two together.
pub(super) static TABLE: [Line; 14] = [
    line("POST", "/orchestrators/{functionName}", START, |name, _| Route::Start { name, id: None }),
    line("POST", "/orchestrators/{functionName}/{instanceId}", START, |name, id| Route::Start {
        name,
        id: Some(id),
    }),
    line(
        "GET",
        "/instances",
        &[
            "createdTimeFrom",
            "createdTimeTo",
            "runtimeStatus",
            "instanceIdPrefix",
            "showInput",
            "top",
        ],
        |_, _| Route::List,
    ),
    line(
        "DELETE",
        "/instances",
        &["createdTimeFrom", "createdTimeTo", "runtimeStatus", "instanceIdPrefix"],
        |_, _| Route::PurgeMany,
    ),
    line(
        "GET",
        "/instances/{instanceId}",
        &["showInput", "showHistory", "showHistoryOutput", "returnInternalServerErrorOnFailure"],
        |id, _| one(id, Operation::Status),
    ),
    line("DELETE", "/instances/{instanceId}", &[], |id, _| one(id, Operation::Purge)),
    line("POST", "/instances/{instanceId}/raiseEvent/{eventName}", &[], |id, event| {
        one(id, Operation::RaiseEvent(event))
    }),
    line("POST", "/instances/{instanceId}/terminate", REASON, |id, _| {
        one(id, Operation::Terminate)
    }),
    line("POST", "/instances/{instanceId}/suspend", REASON, |id, _| one(id, Operation::Suspend)),
    line("POST", "/instances/{instanceId}/resume", REASON, |id, _| one(id, Operation::Resume)),
    line("POST", "/instances/{instanceId}/rewind", REASON, |id, _| one(id, Operation::Rewind)),
    line(
        "POST",
        "/instances/{instanceId}/restart",
        &[
            "restartWithNewInstanceId",
            "timeout",
            "pollingInterval",
            "returnInternalServerErrorOnFailure",
        ],
        |id, _| one(id, Operation::Restart),
    ),
    Line { verb: None, path: "/makeprimary", parameters: &[], route: |_, _| Route::MakePrimary },
    line("GET", "/openapi.json", &[], |_, _| Route::OpenApi),
];

impl Line {
    /// What stands in the place of the braces. Fixed words of a path have any casing.
    fn captures(&self, segments: &[String]) -> Option<(String, String)> {
        let mut captured = Vec::with_capacity(2);
        let mut segments = segments.iter();
        for expected in self.path.split('/').skip(1) {
            let segment = segments.next().filter(|segment| !segment.is_empty())?;
            if expected.starts_with('{') {
                captured.push(segment.clone());
            } else if !segment.eq_ignore_ascii_case(expected) {
                return None;
            }
        }
        let mut captured = captured.into_iter();
        let both = (captured.next().unwrap_or_default(), captured.next().unwrap_or_default());
        segments.next().is_none().then_some(both)
    }
}

impl Route {
    /// The route of a request, and its line of the table; `None` for whatever is not an operation.
    pub(super) fn of(method: &Method, segments: &[String]) -> Option<(Self, &'static Line)> {
        TABLE.iter().find_map(|line| {
            let verb = line.verb.is_none_or(|verb| verb == method.as_str());
            let (first, second) = line.captures(segments).filter(|_| verb)?;
            Some(((line.route)(first, second), line))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::path::segments;
    use super::*;

    fn route(verb: &str, path: &str) -> Option<Route> {
        let method = Method::from_bytes(verb.as_bytes()).unwrap();
        Route::of(&method, &segments(path).unwrap()).map(|(route, _)| route)
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
            ("GET", "/OpenAPI.json", Some(Route::OpenApi)),
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
            ("HEAD", "/openapi.json"),
            ("GET", "/openapi.json/x"),
            ("GET", "/entities"),
            ("GET", "/entities/counter/a"),
            ("POST", "/entities/counter/a"),
        ] {
            assert_eq!(route(verb, path), None, "{verb} {path}");
        }
    }
}
