//! Orchestrators of a kind each, for whoever tries the API or tests a client.

use durable_core::Payload;
use durable_core::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The orchestrators that may be started, and what each of them does.
pub(crate) const ABOUT: [(&str, &str); 7] = [
    ("Echo", "returns its input unchanged"),
    ("Chain5", "five activity calls in sequence, whatever its input"),
    ("WaitForApproval", "waits for the event `approval` and returns what came with it"),
    ("Sleeper", "a durable timer of so many seconds: 60 or \"60\""),
    ("Failing", "its activity always fails"),
    ("FailingUntil", "fails until the file exists that its input names"),
    ("Parent", "two children, each of them with two children"),
];

pub(crate) fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register(echo).register(chain5).register(step);
    registry.register(wait_for_approval).register(sleeper);
    registry.register(failing).register(fail).register(failing_until).register(file_exists);
    registry.register(parent).register(child).register(grandchild);
    registry
}

/// What a caller meant who may be Python's client library: that writes its input as JSON, and the text once more
/// as JSON. A text that is JSON is taken for what it says, once.
fn meant<T: DeserializeOwned>(given: Value) -> Result<T, OrchestrationError> {
    let meant = match &given {
        Value::String(text) => serde_json::from_str(text).unwrap_or(given),
        _ => given,
    };
    serde_json::from_value(meant)
        .map_err(|error| OrchestrationError::new("Input", error.to_string()))
}

#[orchestrator(name = "Echo")]
async fn echo(_ctx: OrchestrationContext, input: Payload) -> Result<Payload, OrchestrationError> {
    Ok(input)
}

#[activity(name = "Step")]
async fn step(steps: u32) -> Result<u32, ActivityError> {
    Ok(steps + 1)
}

/// Returns how many steps it has made.
#[orchestrator(name = "Chain5")]
async fn chain5(ctx: OrchestrationContext, _input: Payload) -> Result<u32, OrchestrationError> {
    let mut steps = 0;
    for _ in 0..5 {
        steps = ctx.call(step, &steps).await?;
    }
    Ok(steps)
}

#[orchestrator(name = "WaitForApproval")]
async fn wait_for_approval(
    ctx: OrchestrationContext,
    _input: Payload,
) -> Result<Payload, OrchestrationError> {
    Ok(ctx.wait_event::<Payload>("approval").await?)
}

#[orchestrator(name = "Sleeper")]
async fn sleeper(ctx: OrchestrationContext, seconds: Value) -> Result<(), OrchestrationError> {
    let seconds = Duration::try_from_secs_f64(meant(seconds)?)
        .map_err(|error| OrchestrationError::new("Input", error.to_string()))?;
    ctx.sleep(seconds).await;
    Ok(())
}

#[activity(name = "Fail")]
async fn fail(_input: Payload) -> Result<(), ActivityError> {
    Err(ActivityError::new("AlwaysFails", "this activity fails whenever it is called").permanent())
}

#[orchestrator(name = "Failing")]
async fn failing(ctx: OrchestrationContext, input: Payload) -> Result<(), OrchestrationError> {
    Ok(ctx.call(fail, &input).await?)
}

#[activity(name = "FileExists")]
async fn file_exists(file: String) -> Result<(), ActivityError> {
    match std::fs::exists(&file) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(ActivityError::new("NoFile", format!("there is no file {file}")).permanent())
        }
        Err(error) => Err(ActivityError::new("NoFile", format!("{file}: {error}")).permanent()),
    }
}

/// What came before the failure is kept by a rewind: the step is made once.
#[orchestrator(name = "FailingUntil")]
async fn failing_until(ctx: OrchestrationContext, file: Value) -> Result<u32, OrchestrationError> {
    let file: String = meant(file)?;
    let steps = ctx.call(step, &0).await?;
    ctx.call(file_exists, &file).await?;
    Ok(steps)
}

/// Returns how many grandchildren it has.
#[orchestrator(name = "Parent")]
async fn parent(ctx: OrchestrationContext, _input: Payload) -> Result<u32, OrchestrationError> {
    let children = (0..2).map(|number| ctx.child(child, &number));
    Ok(ctx.try_join_all(children).await?.into_iter().sum())
}

#[orchestrator(name = "Child")]
async fn child(ctx: OrchestrationContext, _number: u32) -> Result<u32, OrchestrationError> {
    let children = (0..2).map(|number| ctx.child(grandchild, &number));
    Ok(ctx.try_join_all(children).await?.into_iter().sum())
}

#[orchestrator(name = "Grandchild")]
async fn grandchild(ctx: OrchestrationContext, _number: u32) -> Result<u32, OrchestrationError> {
    Ok(ctx.call(step, &0).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use durable_core::testing::TestHub;
    use serde_json::json;

    fn hub() -> TestHub {
        TestHub::new().registry(registry())
    }

    #[test]
    fn seconds_are_a_number_or_a_text_with_one() {
        for seconds in [json!(60), json!("60"), json!(60.0), json!("6e1")] {
            let hub = hub();
            hub.start(sleeper, seconds).output().unwrap();
            assert_eq!(hub.elapsed(), secs(60));
        }
        for wrong in
            [json!(-1), json!("soon"), json!(null), json!("\"60\""), json!([60]), json!(1e300)]
        {
            assert!(hub().start(sleeper, wrong.clone()).output().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_given_as_a_text_of_json_is_taken_for_what_it_says_once() {
        for (given, meant_so) in [("a", "a"), ("\"a\"", "a"), (r#""\"a\"""#, "\"a\"")] {
            assert_eq!(meant::<String>(json!(given)).unwrap(), meant_so);
        }
    }

    #[test]
    fn each_does_what_is_said_of_it() {
        let any = || Payload::of(&json!({"any": "thing"})).unwrap();
        assert_eq!(hub().start(echo, any()).output().unwrap(), any());
        assert_eq!(hub().start(chain5, any()).output().unwrap(), 5);
        assert_eq!(hub().start(parent, any()).output().unwrap(), 4);
        assert!(hub().start(failing, any()).output().is_err());
        assert!(hub().start(failing_until, json!("/no/such/file")).output().is_err());
        assert_eq!(hub().start(failing_until, json!("Cargo.toml")).output().unwrap(), 1);
    }
}
