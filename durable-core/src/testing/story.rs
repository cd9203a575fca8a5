//! What happened, line by line, for people.

use std::fmt::Write as _;
use std::time::Duration;

use durable_machine::model::{Event, EventKind, Payload, Timestamp};

/// Characters of a payload that a line shows.
const SHOWN_MAX: usize = 100;

/// A duration as a clock shows it: `3d 04:00:00.250`.
pub(super) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut text = if days > 0 { format!("{days}d ") } else { String::new() };
    let _ = write!(text, "{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if duration.subsec_nanos() > 0 {
        let _ = write!(text, ".{:03}", duration.subsec_millis());
    }
    text
}

/// One event with what it carries.
pub(super) fn line(event: &Event) -> String {
    let summary = event.is.summary();
    match carried(&event.is) {
        Some(payload) => format!("{summary}: {}", shown(payload)),
        None => match &event.is {
            EventKind::ActivityFailed { failure, attempts, .. } => {
                format!("{summary} after {attempts} attempts: {failure}")
            }
            EventKind::ChildFailed { failure, .. } | EventKind::ExecutionFailed { failure } => {
                format!("{summary}: {failure}")
            }
            EventKind::ExecutionTerminated { reason: Some(reason), .. } => {
                format!("{summary}: {reason}")
            }
            _ => summary,
        },
    }
}

fn carried(kind: &EventKind) -> Option<&Payload> {
    match kind {
        EventKind::ExecutionStarted(started) => Some(&started.input),
        EventKind::ActivityScheduled(scheduled) => Some(&scheduled.input),
        EventKind::ChildCreated(created) => Some(&created.input),
        EventKind::ActivityCompleted { output, .. }
        | EventKind::ChildCompleted { output, .. }
        | EventKind::ExecutionCompleted { output } => Some(output),
        EventKind::EventRaised { input, .. }
        | EventKind::EventSent { input, .. }
        | EventKind::ContinuedAsNew { input, .. } => Some(input),
        _ => None,
    }
}

fn shown(payload: &Payload) -> String {
    let text = payload.json();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A history, one event a line, with the time since `begin` and a mark at one of them.
pub(super) fn told(events: &[Event], begin: Timestamp, marked: Option<usize>) -> String {
    lines(events, begin, marked).collect()
}

/// The same as single lines.
pub(super) fn lines(
    events: &[Event],
    begin: Timestamp,
    marked: Option<usize>,
) -> impl Iterator<Item = String> {
    events.iter().enumerate().map(move |(position, event)| {
        let mark = if marked == Some(position) { "->" } else { "  " };
        let at = clock(event.at.since(begin));
        format!("{mark} {position:>4}  +{at}  {}\n", line(event))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_a_clock() {
        assert_eq!(clock(Duration::ZERO), "00:00:00");
        assert_eq!(clock(Duration::from_millis(3_723_004)), "01:02:03.004");
        assert_eq!(clock(Duration::from_secs(3 * 86_400 + 60)), "3d 00:01:00");
    }

    #[test]
    fn long_payloads_are_cut_between_characters() {
        let payload = Payload::of(&"ä".repeat(300)).unwrap();
        let text = shown(&payload);
        assert!(text.ends_with("ä…") && text.chars().count() == SHOWN_MAX + 1, "{text}");
    }
}
