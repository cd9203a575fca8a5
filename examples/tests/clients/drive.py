"""Microsoft's client library for Python drives the example `http_api`.

    python drive.py BINDING FOLDER [SECONDS]

BINDING is the document that the server wrote for client libraries. The hub's clock may be so many seconds off. One line for each check: `ok NAME`, or
`FAILED NAME` and why. tests/cases/client_libraries.rs knows which there have to be.

The library writes a value as JSON, and that text as JSON once more. So what an orchestrator is given, and returns
unchanged, is a text for whoever started it from here.
"""

import asyncio
import json
import pathlib
import re
import sys
import time
import traceback
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from urllib.request import Request, urlopen

import azure.durable_functions as df
import azure.functions as func
from azure.durable_functions.models.utils import http_utils

BINDING = pathlib.Path(sys.argv[1]).read_text()
FOLDER = pathlib.Path(sys.argv[2])
MARGIN_S = float(sys.argv[3]) if len(sys.argv) > 3 else 0.005
PATIENCE_S = 60

HUB = json.loads(BINDING)["taskHubName"]

client = df.DurableOrchestrationClient(BINDING)
request = func.HttpRequest(
    method="GET", url=json.loads(BINDING)["baseUrl"] + "/api/orders", body=b""
)
State = df.OrchestrationRuntimeStatus


async def until(instance_id, runtime_status):
    """Waits until the runtime status of an instance is that."""
    end = time.monotonic() + PATIENCE_S
    while True:
        status = await client.get_status(instance_id, show_input=True)
        if status and status.runtime_status == runtime_status:
            return status
        assert time.monotonic() < end, f"{instance_id} is {status.runtime_status}"
        await asyncio.sleep(0.005)


async def refused(call, pattern):
    """The call is refused, and its message is like that."""
    try:
        await call
    except Exception as error:
        assert re.search(pattern, str(error)), f"{pattern}: {error!r}"
        return
    raise AssertionError(f"nothing was refused: {pattern}")


async def moment():
    """A time after all that was done, and before all that will be."""
    await asyncio.sleep(MARGIN_S)
    now = datetime.now(timezone.utc)
    await asyncio.sleep(MARGIN_S)
    return now


def ids(statuses):
    return sorted(status.instance_id for status in statuses)


async def start_without_id_and_input():
    instance_id = await client.start_new("Echo")
    assert re.fullmatch("[0-9a-f]{32}", instance_id), instance_id
    status = await until(instance_id, State.Completed)
    assert (status.name, status.input_, status.output) == ("Echo", None, None), status.to_json()


async def start_with_id_and_input():
    given = {"a": [1, "é", None], "b": '{"c": 1}'}
    assert await client.start_new("Echo", "own", given) == "own"
    status = await until("own", State.Completed)
    assert isinstance(status.output, str) and status.input_ == status.output
    assert json.loads(status.output) == given


async def start_with_falsy_inputs():
    for given in [0, False, ""]:
        instance_id = await client.start_new("Echo", client_input=given)
        status = await until(instance_id, State.Completed)
        assert json.loads(status.output) == given, status.output


async def start_with_a_version():
    instance_id = await client.start_new("Echo", version="1.2 & more")
    await until(instance_id, State.Completed)


async def ids_with_blanks_letters_and_signs():
    for instance_id in ["order 7", "größe-é", "a:b;c,d=e(f)~!*'", "100%", "🦀"]:
        assert await client.start_new("Echo", instance_id, 1) == instance_id
        status = await until(instance_id, State.Completed)
        assert status.instance_id == instance_id
        assert (await client.purge_instance_history(instance_id)).instances_deleted == 1


async def start_of_an_unknown_name():
    await refused(client.start_new("Nothing", "nothing"), "Nothing")
    assert not await client.get_status("nothing")


async def start_under_an_id_that_is_in_use():
    await client.start_new("WaitForApproval", "used", 1)
    await refused(client.start_new("Echo", "used"), "already exists")
    assert (await until("used", State.Running)).name == "WaitForApproval"
    await client.terminate("used", "enough")
    await until("used", State.Terminated)
    await client.start_new("Echo", "used", 2)
    assert (await until("used", State.Completed)).output == "2"


async def start_of_each_orchestrator():
    for name, given, output in [
        ("Chain5", {"any": "thing"}, 5),
        ("Sleeper", 0, None),
        ("Sleeper", 0.1, None),
        ("Parent", None, 4),
    ]:
        instance_id = await client.start_new(name, client_input=given)
        assert (await until(instance_id, State.Completed)).output == output, name
    slept = await client.start_new("Sleeper", client_input=60)
    status = await until(slept, State.Running)
    assert status.input_ == "60", status.input_


async def status_with_every_option():
    await client.start_new("Chain5", "chain", 7)
    await until("chain", State.Completed)
    for show_history in [False, True]:
        for show_output in [False, True]:
            for show_input in [False, True]:
                status = await client.get_status("chain", show_history, show_output, show_input)
                assert (status.input_, status.output) == ("7", 5)
                assert status.created_time <= status.last_updated_time
                events = getattr(status, "historyEvents", None)
                assert (events is not None) == show_history
                if events is not None:
                    kinds = [event["EventType"] for event in events]
                    middle = ["TaskCompleted"] * 5
                    assert kinds == ["ExecutionStarted", *middle, "ExecutionCompleted"], kinds
                    assert ("Result" in events[-1]) == show_output


async def status_of_nobody():
    assert not await client.get_status("nobody")


async def list_of_all_is_one_page():
    started = [f"many-{number}" for number in range(120)]
    for at in range(0, len(started), 20):
        some = started[at : at + 20]
        await asyncio.gather(*(client.start_new("Echo", instance_id) for instance_id in some))
    listed = ids(await client.get_status_all())
    assert len(listed) == 100 == len(set(listed)), len(listed)


async def list_by_status_and_time():
    before = await moment()
    await client.start_new("WaitForApproval", "by-1")
    await client.start_new("Echo", "by-2")
    await until("by-1", State.Running)
    await until("by-2", State.Completed)

    async def by(**filters):
        return ids(await client.get_status_by(**filters))

    assert await by(created_time_from=before) == ["by-1", "by-2"]
    assert await by(created_time_from=before, runtime_status=[State.Running]) == ["by-1"]
    either = [State.Running, State.Completed]
    assert await by(created_time_from=before, runtime_status=either) == ["by-1", "by-2"]
    assert "by-2" not in await by(created_time_to=before)
    assert await by(created_time_from=before + timedelta(minutes=1)) == []


async def list_by_prefix():
    await client.start_new("Echo", "prefix-1")
    await client.start_new("Echo", "prefix-2")
    await client.start_new("Echo", "Prefix-3")
    listed = await client.get_status_by(instance_id_prefix="prefix-")
    assert ids(listed) == ["prefix-1", "prefix-2"]


async def event_with_a_value():
    for number, value in enumerate([{"by": "ada"}, "text", 0]):
        instance_id = f"event-{number}"
        await client.start_new("WaitForApproval", instance_id)
        await client.raise_event(instance_id, "other", 1)
        await client.raise_event(instance_id, "approval", value)
        status = await until(instance_id, State.Completed)
        assert json.loads(status.output) == value, status.output
    await refused(client.raise_event("event-0", "approval", 2), "is gone")


async def event_without_a_value():
    await client.start_new("WaitForApproval", "no-value")
    await client.raise_event("no-value", "approval", task_hub_name=HUB)
    assert (await until("no-value", State.Completed)).output == "null"


async def event_for_nobody():
    await refused(client.raise_event("nobody", "approval", 1), "No instance with ID")
    await client.start_new("WaitForApproval", "of-this-hub")
    other = client.raise_event("of-this-hub", "approval", 1, task_hub_name="elsewhere")
    await refused(other, "No instance with ID")


async def terminate_with_a_reason():
    reason = "why not? 50% & more/ü #1"
    await client.start_new("Sleeper", "terminated", 600)
    await client.terminate("terminated", reason)
    assert (await until("terminated", State.Terminated)).output == reason
    await client.terminate("terminated", "again")
    await refused(client.terminate("nobody", "x"), "No instance with ID")


async def suspend_and_resume():
    await client.start_new("WaitForApproval", "held")
    await until("held", State.Running)
    await client.suspend("held", "lunch & rest")
    await until("held", State.Suspended)
    await client.suspend("held", "twice")
    await client.raise_event("held", "approval", "later")
    await until("held", State.Suspended)
    await client.resume("held", "back again")
    assert (await until("held", State.Completed)).output == '"later"'
    await client.suspend("held", "too late")
    await refused(client.suspend("nobody", "x"), "No instance with ID")
    await refused(client.resume("nobody", "x"), "No instance with ID")


async def rewind_until_it_succeeds():
    cause = FOLDER / "cause"
    await client.start_new("FailingUntil", "fails", str(cause))
    assert "there is no file" in (await until("fails", State.Failed)).output
    cause.touch()
    await client.rewind("fails", "the cause is gone")
    assert (await until("fails", State.Completed)).output == 1
    status = await client.get_status("fails", show_history=True)
    rewound = [event for event in status.historyEvents if event["EventType"] == "ExecutionRewound"]
    assert [event["Reason"] for event in rewound] == ["the cause is gone"], rewound


async def rewind_of_what_has_not_failed():
    await refused(client.rewind("fails", "x"), "fails.*Completed.*only a Failed")
    await refused(client.rewind("nobody", "x"), "No instance with ID nobody")


async def purge_of_one():
    await client.start_new("Echo", "purged")
    await until("purged", State.Completed)
    assert (await client.purge_instance_history("purged")).instances_deleted == 1
    assert not await client.get_status("purged")
    assert (await client.purge_instance_history("purged")).instances_deleted == 0


async def purge_of_what_runs():
    await client.start_new("WaitForApproval", "runs")
    await refused(client.purge_instance_history("runs"), "status code 412")
    assert await client.get_status("runs")


async def purge_by_status_and_time():
    begin = await moment()
    await client.start_new("Echo", "many-purged-1")
    await client.start_new("Failing", "many-purged-2")
    await client.start_new("WaitForApproval", "many-purged-3")
    await until("many-purged-1", State.Completed)
    await until("many-purged-2", State.Failed)
    end = await moment()

    async def purge(states):
        return (await client.purge_instance_history_by(begin, end, states)).instances_deleted

    assert await purge([State.Terminated]) == 0
    assert await purge([State.Completed]) == 1
    assert await purge([State.Running]) == 0, "what runs stays"
    assert await purge(None) == 1
    assert await client.get_status("many-purged-3")
    await refused(client.purge_instance_history_by(), "created_time_from is required")


async def restart_with_a_new_id():
    await client.start_new("Echo", "again", {"a": 1})
    first = await until("again", State.Completed)
    answer = await client.restart("again")
    assert answer["id"] != "again" and re.fullmatch("[0-9a-f]{32}", answer["id"]), answer
    status = await until(answer["id"], State.Completed)
    assert (status.name, status.output) == ("Echo", first.output)


async def restart_with_the_same_id():
    await client.start_new("WaitForApproval", "twice")
    await refused(client.restart("twice", False), "status code 409")
    await client.raise_event("twice", "approval", 1)
    await until("twice", State.Completed)
    assert (await client.restart("twice", False))["id"] == "twice"
    assert (await until("twice", State.Running)).output is None


async def restart_of_nobody():
    await refused(client.restart("nobody"), "status code 400")


async def links_of_a_check_status_response():
    await client.start_new("WaitForApproval", "linked")
    response = client.create_check_status_response(request, "linked")
    links = json.loads(response.get_body())
    assert (response.status_code, response.headers["Retry-After"]) == (202, "10")
    assert response.headers["Location"] == links["statusQueryGetUri"]

    def call(method, link, body=None):
        headers = {"Content-Type": "application/json"}
        with urlopen(Request(link, body, headers, method=method)) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None

    status, body = call("GET", links["statusQueryGetUri"])
    assert (status, body["instanceId"]) == (202, "linked")
    event = links["sendEventPostUri"].replace("{eventName}", "approval")
    assert call("POST", event, b"true") == (202, None)
    assert (await until("linked", State.Completed)).output is True
    assert call("POST", links["restartPostUri"])[0] == 202
    assert call("DELETE", links["purgeHistoryDeleteUri"]) == (200, {"instancesDeleted": 1})


async def links_of_a_management_payload():
    links = client.create_http_management_payload("any")
    assert links["id"] == "any"
    for link in ["terminate", "suspend", "resume", "rewind", "restart"]:
        assert f"/instances/any/{link}?" in links[f"{link}PostUri"], link


async def wait(instance_id, timeout=PATIENCE_S * 1000, interval=50):
    call = client.wait_for_completion_or_create_check_status_response
    response = await call(request, instance_id, timeout, interval)
    return response.status_code, json.loads(response.get_body())


async def wait_for_what_completes():
    await client.start_new("Sleeper", "waited", 0.3)
    assert await wait("waited") == (200, None)
    await client.start_new("Echo", "echoed", {"a": 1})
    assert await wait("echoed") == (200, {"a": 1})


async def wait_for_what_fails_or_is_terminated():
    await client.start_new("Failing", "failed")
    status, body = await wait("failed")
    assert (status, body["runtimeStatus"]) == (500, "Failed")
    await client.start_new("WaitForApproval", "ended")
    await client.terminate("ended", "enough")
    status, body = await wait("ended")
    assert (status, body["output"]) == (200, "enough")


async def wait_for_what_takes_too_long():
    await client.start_new("Sleeper", "long", 600)
    status, body = await wait("long", 200, 100)
    assert (status, body["id"]) == (202, "long")
    await refused(wait("long", 200, 201), "should be bigger")


async def entities_are_not_there():
    entity = df.EntityId("counter", "a")
    assert not (await client.read_entity_state(entity)).entity_exists
    await refused(client.signal_entity(entity, "add", 1), "status code 404")


CHECKS = [
    start_without_id_and_input,
    start_with_id_and_input,
    start_with_falsy_inputs,
    start_with_a_version,
    ids_with_blanks_letters_and_signs,
    start_of_an_unknown_name,
    start_under_an_id_that_is_in_use,
    start_of_each_orchestrator,
    status_with_every_option,
    status_of_nobody,
    list_of_all_is_one_page,
    list_by_status_and_time,
    list_by_prefix,
    event_with_a_value,
    event_without_a_value,
    event_for_nobody,
    terminate_with_a_reason,
    suspend_and_resume,
    rewind_until_it_succeeds,
    rewind_of_what_has_not_failed,
    purge_of_one,
    purge_of_what_runs,
    purge_by_status_and_time,
    restart_with_a_new_id,
    restart_with_the_same_id,
    restart_of_nobody,
    links_of_a_check_status_response,
    links_of_a_management_payload,
    wait_for_what_completes,
    wait_for_what_fails_or_is_terminated,
    wait_for_what_takes_too_long,
    entities_are_not_there,
]


async def main():
    print("by azure-functions-durable", version("azure-functions-durable"), flush=True)
    for check in CHECKS:
        try:
            await check()
            print(f"ok {check.__name__}", flush=True)
        except Exception:
            print(f"FAILED {check.__name__}: {traceback.format_exc()}", flush=True)
    await http_utils._close_session()


asyncio.run(main())
