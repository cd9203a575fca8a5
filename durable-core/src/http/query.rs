//! The query of a URL: names in any casing, repeated names joined by commas, blank values absent.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use durable_machine::model::RuntimeStatus;

use super::path::decoded;
use super::route::EVERYWHERE;
use super::time::parse_time;

/// A number of seconds that is less than nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Negative;

/// The parameters of a request.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Query {
    parameters: BTreeMap<String, String>,
    /// Those that its route says it reads.
    declared: Option<&'static [&'static str]>,
}

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        let mut parameters = BTreeMap::<String, String>::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (text(name).to_ascii_lowercase(), text(value));
            let joined = |values: &mut String| values.extend([",", value.as_str()]);
            parameters.entry(name).and_modify(joined).or_insert_with(|| value.clone());
        }
        Self { parameters, declared: None }
    }

    /// From here on only these are read, and those that every route reads.
    pub(super) fn declare(&mut self, parameters: &'static [&'static str]) {
        self.declared = Some(parameters);
    }

    /// The value of a parameter, whose name is given in lower case.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        debug_assert!(self.is_declared(name), "the table of routes does not have {name}");
        self.parameters.get(name).map(String::as_str).filter(|value| !value.trim().is_empty())
    }

    fn is_declared(&self, name: &str) -> bool {
        let all = self.declared.unwrap_or_default().iter().chain(&EVERYWHERE);
        self.declared.is_none() || all.into_iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        let value = self.text(name)?.trim();
        [("true", true), ("false", false)]
            .into_iter()
            .find(|(word, _)| value.eq_ignore_ascii_case(word))
            .map(|(_, flag)| flag)
    }

    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        self.text(name)?.trim().parse().ok()
    }

    /// Decimal seconds.
    pub(super) fn seconds(&self, name: &str) -> Result<Option<Duration>, Negative> {
        let Some(value) = self.text(name) else { return Ok(None) };
        let value = value.trim();
        let (negative, digits) = match value.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, value.strip_prefix('+').unwrap_or(value)),
        };
        let decimal = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let Some(seconds) = digits.parse::<f64>().ok().filter(|_| decimal) else { return Ok(None) };
        if negative && seconds > 0.0 {
            return Err(Negative);
        }
        Ok(Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
    }

    pub(super) fn time(&self, name: &str) -> Option<DateTime<Utc>> {
        parse_time(self.text(name)?)
    }

    /// The states that are named, by name or numeric code; other words are left out.
    pub(super) fn statuses(&self, name: &str) -> Vec<RuntimeStatus> {
        let words = self.text(name).unwrap_or_default().split(',').map(str::trim);
        words
            .filter_map(|word| {
                let by_code = || word.parse().ok().and_then(RuntimeStatus::from_code);
                word.parse().ok().or_else(by_code)
            })
            .collect()
    }
}

fn text(encoded: &str) -> String {
    String::from_utf8_lossy(&decoded(encoded)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use RuntimeStatus::{Completed, Failed, Running};

    #[test]
    fn names_have_any_casing_and_values_keep_theirs() {
        let query = Query::parse("ShowInput=True&INSTANCEIDPREFIX=Order&taskhub=Hub");
        assert_eq!(query.flag("showinput"), Some(true));
        assert_eq!(query.text("instanceidprefix"), Some("Order"));
        assert_eq!(query.text("taskhub"), Some("Hub"));
        assert_eq!(query.text("code"), None);
    }

    #[test]
    fn repeated_names_are_one_value_and_blank_values_none() {
        let query =
            Query::parse("runtimeStatus=Failed&runtimestatus=Running&code=&reason&x=%20&&=1");
        assert_eq!(query.text("runtimestatus"), Some("Failed,Running"));
        for absent in ["code", "reason", "x"] {
            assert_eq!(query.text(absent), None, "{absent}");
        }
        assert!(Query::parse("") == Query::default());
    }

    #[test]
    fn values_are_decoded_as_forms_are() {
        let query = Query::parse("reason=why+not%3f%2050%25%20%26%20more/%C3%BC&url=a:,/?b=c");
        assert_eq!(query.text("reason"), Some("why not? 50% & more/ü"));
        assert_eq!(query.text("url"), Some("a:,/?b=c"));
        assert_eq!(Query::parse("reason=a%FFb").text("reason"), Some("a\u{FFFD}b"));
    }

    #[test]
    fn what_is_no_flag_or_number_is_absent() {
        let query = Query::parse("a=+TRUE+&b=yes&c=12&d=1.5&e=-3&f=99999999999999999999");
        assert_eq!((query.flag("a"), query.flag("b"), query.flag("z")), (Some(true), None, None));
        let numbers = ["c", "d", "e", "f"].map(|name| query.integer(name));
        assert_eq!(numbers, [Some(12), None, Some(-3), None]);
    }

    #[test]
    fn seconds_are_decimal_and_not_negative() {
        let seconds = |value: &str| Query::parse(&format!("t={value}")).seconds("t");
        assert_eq!(seconds("1.5"), Ok(Some(Duration::from_millis(1500))));
        for zero in ["0", "-0", ".0"] {
            assert_eq!(seconds(zero), Ok(Some(Duration::ZERO)), "{zero}");
        }
        for absent in ["", "NaN", "inf", "1e3", "five", ".", "--1"] {
            assert_eq!(seconds(absent), Ok(None), "{absent}");
        }
        assert_eq!(seconds("-0.1"), Err(Negative));
        assert_eq!(seconds(&"9".repeat(400)), Ok(Some(Duration::MAX)));
    }

    #[test]
    fn unknown_states_are_left_out() {
        let statuses = |value: &str| Query::parse(&format!("s={value}")).statuses("s");
        assert_eq!(statuses("Running,Failed"), [Running, Failed]);
        assert_eq!(statuses("running,Nonsense,%20Completed,-1,8"), [Completed]);
        assert_eq!(statuses("0,3"), [Running, Failed]);
        assert_eq!(statuses(""), []);
    }
}
