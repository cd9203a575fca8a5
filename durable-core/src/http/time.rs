//! Times as the wire has them.

use chrono::{DateTime, NaiveDate, NaiveTime, SubsecRound, TimeDelta, Utc};

/// Reads an ISO 8601 time: fractions or none, `Z` or an offset; without a zone it is UTC. Years may have
/// fewer than four digits, as Python prints them on Linux.
pub(super) fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let (date, rest) = text.split_once(['T', 't', ' ']).unwrap_or((text, "00:00:00"));
    let mut parts = date.split('-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    let (time, offset) = zone(rest)?;
    let time = time_of_day(time)?;
    date.and_time(time).checked_sub_signed(offset).map(|time| time.and_utc())
}

/// A status's time: whole seconds.
pub(super) fn seconds(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A history's time: seven digits behind the point.
pub(super) fn ticks(time: DateTime<Utc>) -> String {
    time.trunc_subsecs(6).format("%Y-%m-%dT%H:%M:%S%.6f0Z").to_string()
}

/// To the microsecond before it, as times are stored: nothing that was created later counts as created by then.
pub(super) fn at_latest(time: DateTime<Utc>) -> DateTime<Utc> {
    time.trunc_subsecs(6)
}

/// A time of day, and how far its zone is ahead of UTC.
fn zone(text: &str) -> Option<(&str, TimeDelta)> {
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, TimeDelta::zero()));
    }
    // A plus that was not escaped arrives as a blank.
    let Some(at) = text.find(['+', '-', ' ']) else { return Some((text, TimeDelta::zero())) };
    let (time, offset) = text.split_at(at);
    let (sign, digits) = offset.split_at(1);
    let digits: String = digits.chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = match digits.len() {
        2 => (number(&digits)?, 0),
        4 => (number(digits.get(..2)?)?, number(digits.get(2..)?)?),
        _ => return None,
    };
    if hours > 14 || minutes > 59 {
        return None;
    }
    let ahead = TimeDelta::minutes(i64::from(hours * 60 + minutes));
    Some((time, if sign == "-" { -ahead } else { ahead }))
}

fn time_of_day(text: &str) -> Option<NaiveTime> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = whole.split(':').map(number);
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    if parts.next().is_some() || fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let nanos = number(&format!("{fraction:0<9}"))?;
    NaiveTime::from_hms_nano_opt(hour, minute, second, nanos)
}

fn number(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        parse_time(text).map(ticks)
    }

    #[test]
    fn what_the_clients_send_is_read() {
        for (sent, meant) in [
            ("2024-03-18T17:44:50.000Z", "2024-03-18T17:44:50.0000000Z"),
            ("2024-03-18T17:44:50.123456Z", "2024-03-18T17:44:50.1234560Z"),
            ("2024-03-18T17:44:50.1234567Z", "2024-03-18T17:44:50.1234560Z"),
            ("2024-03-18T17:44:50", "2024-03-18T17:44:50.0000000Z"),
            ("2024-03-18T17:44:50+02:00", "2024-03-18T15:44:50.0000000Z"),
            ("2024-03-18T17:44:50 02:00", "2024-03-18T15:44:50.0000000Z"),
            ("2024-03-18T17:44:50-0130", "2024-03-18T19:14:50.0000000Z"),
            ("2024-03-18", "2024-03-18T00:00:00.0000000Z"),
            ("1-01-01T00:00:00.000000Z", "0001-01-01T00:00:00.0000000Z"),
        ] {
            assert_eq!(read(sent).as_deref(), Some(meant), "{sent}");
        }
    }

    #[test]
    fn anything_else_is_no_time() {
        for text in [
            "",
            "now",
            "2024-03",
            "2024-02-30T00:00:00Z",
            "2024-03-18T25:00:00Z",
            "2024-03-18T17:44:50.Z",
            "2024-03-18T17:44:50.0123456789Z",
            "2024-03-18T17:44:50+99:00",
            "2024-03-18T17:44:50+é",
            "2024-03-18T17:44:50+1é1",
            "99999999999-01-01T00:00:00Z",
            "2024-+3-18T00:00:00Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_status_has_whole_seconds() {
        assert_eq!(
            parse_time("2024-03-18T17:44:50.999Z").map(seconds).as_deref(),
            Some("2024-03-18T17:44:50Z")
        );
    }
}
