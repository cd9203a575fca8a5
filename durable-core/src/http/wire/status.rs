//! The status of an instance.

use durable_machine::model::{Payload, RuntimeStatus};
use serde::{Serialize, Serializer};

use super::super::time::seconds;
use super::Shown;
use super::history::HistoryEvent;
use crate::InstanceStatus;

/// The status object; the order of its members is that of the wire.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct StatusBody<'a> {
    name: &'a str,
    instance_id: &'a str,
    runtime_status: &'static str,
    input: Option<&'a Payload>,
    custom_status: Option<&'a Payload>,
    output: Output<'a>,
    created_time: String,
    last_updated_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    history_events: Option<Vec<HistoryEvent<'a>>>,
}

impl<'a> StatusBody<'a> {
    pub(in super::super) fn new(
        status: &'a InstanceStatus,
        shown: Shown,
        history_events: Option<Vec<HistoryEvent<'a>>>,
    ) -> Self {
        let row = status.row();
        Self {
            name: &row.name,
            instance_id: row.instance.as_str(),
            runtime_status: row.status.name(),
            input: shown.inputs.then_some(&row.input),
            custom_status: row.custom_status.as_ref(),
            output: Output::of(status),
            created_time: seconds(status.created_at()),
            last_updated_time: seconds(status.updated_at().max(status.created_at())),
            history_events,
        }
    }
}

/// What an instance came to, or why it does not go on.
pub(in super::super) enum Output<'a> {
    None,
    Value(&'a Payload),
    Text(String),
}

impl<'a> Output<'a> {
    pub(in super::super) fn of(status: &'a InstanceStatus) -> Self {
        let row = status.row();
        match row.status {
            RuntimeStatus::Failed => {
                row.failure.as_ref().map_or(Self::None, |failure| Self::Text(failure.to_string()))
            }
            RuntimeStatus::Suspended => {
                row.hold.as_ref().map_or(Self::None, |hold| Self::Text(hold.message.clone()))
            }
            RuntimeStatus::Completed
            | RuntimeStatus::Terminated
            | RuntimeStatus::Canceled
            | RuntimeStatus::Running
            | RuntimeStatus::ContinuedAsNew
            | RuntimeStatus::Pending => row.output.as_ref().map_or(Self::None, Self::Value),
        }
    }
}

impl Serialize for Output<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_unit(),
            Self::Value(payload) => payload.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

#[cfg(test)]
pub(in super::super) mod tests {
    use super::*;
    use durable_machine::model::{
        Acceptance, Failure, FailureClass, Hold, HoldReason, InstanceId, RunNumber, StartNonce,
        StatusRow, Timestamp,
    };
    use uuid::Uuid;

    /// Of an instance in this state.
    pub(in super::super::super) fn row(status: RuntimeStatus) -> StatusRow {
        let accepted_at = Timestamp::from_micros(1_767_601_800_999_999);
        let acceptance = Acceptance::new(
            InstanceId::new("a \"b\"").unwrap(),
            RunNumber(1),
            StartNonce(Uuid::nil()),
            "Echo".into(),
            Payload::from_json("{\"b\":1,\"a\":1.0}").unwrap(),
            accepted_at,
        );
        StatusRow { status, ..StatusRow::pending(&acceptance) }
    }

    const ALL: Shown = Shown { inputs: true, results: true, activity_inputs: false };

    fn wire(row: StatusRow, shown: Shown) -> String {
        let status = InstanceStatus::new(row);
        serde_json::to_string(&StatusBody::new(&status, shown, None)).unwrap()
    }

    #[test]
    fn members_are_there_in_the_order_of_the_wire() {
        let expected = r#"{"name":"Echo","instanceId":"a \"b\"","runtimeStatus":"Pending","input":{"b":1,"a":1.0},"customStatus":null,"output":null,"createdTime":"2026-01-05T08:30:00Z","lastUpdatedTime":"2026-01-05T08:30:00Z"}"#;
        assert_eq!(wire(row(RuntimeStatus::Pending), ALL), expected);
        let hidden = wire(row(RuntimeStatus::Pending), Shown { inputs: false, ..ALL });
        assert_eq!(hidden, expected.replace(r#"{"b":1,"a":1.0}"#, "null"));
    }

    #[test]
    fn the_output_is_the_value_the_reason_the_failure_or_the_hold() {
        let output = |row: StatusRow| {
            let wire: serde_json::Value = serde_json::from_str(&wire(row, ALL)).unwrap();
            wire["output"].clone()
        };
        let mut completed = row(RuntimeStatus::Completed);
        completed.output = Payload::from_json("[1]").ok();
        assert_eq!(output(completed), serde_json::json!([1]));
        let mut failed = row(RuntimeStatus::Failed);
        failed.failure = Some(Failure::new(FailureClass::Application, "Told", "to fail"));
        assert_eq!(output(failed), "Told: to fail");
        let mut held = row(RuntimeStatus::Suspended);
        held.hold =
            Some(Hold { reason: HoldReason::Diverged, message: "the code has changed".into() });
        assert_eq!(output(held), "the code has changed");
        assert_eq!(output(row(RuntimeStatus::Suspended)), serde_json::Value::Null);
    }

    #[test]
    fn every_state_has_its_name() {
        for status in RuntimeStatus::ALL {
            assert!(wire(row(status), ALL).contains(&format!("\"runtimeStatus\":\"{status}\"")));
        }
    }
}
