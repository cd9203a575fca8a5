// Microsoft's client library for JavaScript drives the example `http_api`.
//
//   node drive.js BINDING FOLDER [rpc|templates [SECONDS]]
//
// BINDING is the document that the server wrote for client libraries. With `templates` the library is not told of
// the port for it, and works on the links of that document alone. The hub's clock may be so many seconds off. One line
// for each check: `ok NAME`, or `FAILED NAME` and why. tests/cases/client_libraries.rs knows which there have to be.

"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const df = require("durable-functions");

const [document, folder, way = "rpc", seconds = "0.005"] = process.argv.slice(2);
const binding = JSON.parse(fs.readFileSync(document, "utf8"));
const rpc = way === "rpc";
if (!rpc) delete binding.rpcBaseUrl;

const input = df.input.durableClient();
const client = df.getClient({
    options: { extraInputs: [input] },
    extraInputs: new Map([[input, binding]]),
});

/// What a user's own handler was called with.
const request = { url: new URL("/api/orders", binding.baseUrl).href };

const PATIENCE_MS = 60_000;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/// Waits until the runtime status of an instance is that.
async function until(id, runtimeStatus) {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
        const status = await client.getStatus(id);
        if (status.runtimeStatus === runtimeStatus) return status;
        assert(Date.now() < end, `${id} is ${status.runtimeStatus}, not ${runtimeStatus}`);
        await sleep(5);
    }
}

/// A time after all that was done, and before all that will be.
async function moment() {
    await sleep(1000 * Number(seconds));
    const now = new Date();
    await sleep(1000 * Number(seconds));
    return now;
}

const ids = (statuses) => statuses.map((status) => status.instanceId).sort();

const checks = {
    async start_without_id_and_input() {
        const id = await client.startNew("Echo");
        assert.match(id, /^[0-9a-f]{32}$/);
        const status = await until(id, "Completed");
        assert.deepEqual([status.name, status.input, status.output], ["Echo", "", ""]);
    },

    async start_with_id_and_input() {
        const given = { a: [1, "é", null], b: '{"c": 1}' };
        assert.equal(await client.startNew("Echo", { instanceId: "own", input: given }), "own");
        const status = await until("own", "Completed");
        assert.deepEqual([status.input, status.output], [given, given]);
    },

    async start_with_falsy_inputs() {
        for (const given of [0, false, null, ""]) {
            const id = await client.startNew("Echo", { input: given });
            assert.deepEqual((await until(id, "Completed")).output, given);
        }
    },

    async start_with_a_version() {
        const id = await client.startNew("Echo", { version: "1.2 & more" });
        await until(id, "Completed");
    },

    async ids_with_blanks_letters_and_signs() {
        for (const id of ["order 7", "größe-é", "a:b;c,d=e(f)~!*'", "100%", "🦀"]) {
            assert.equal(await client.startNew("Echo", { instanceId: id, input: id }), id);
            const status = await until(id, "Completed");
            assert.deepEqual([status.instanceId, status.output], [id, id]);
            assert.equal((await client.purgeInstanceHistory(id)).instancesDeleted, 1);
        }
    },

    async start_of_an_unknown_name() {
        const start = client.startNew("Nothing", { instanceId: "nothing" });
        await assert.rejects(start, /status code: 400.*ExceptionMessage.*Nothing/);
        await assert.rejects(client.getStatus("nothing"), /404/);
    },

    async start_under_an_id_that_is_in_use() {
        await client.startNew("WaitForApproval", { instanceId: "used", input: 1 });
        await assert.rejects(client.startNew("Echo", { instanceId: "used" }), /status code: 409/);
        assert.equal((await until("used", "Running")).name, "WaitForApproval");
        await client.terminate("used", "enough");
        await until("used", "Terminated");
        await client.startNew("Echo", { instanceId: "used", input: 2 });
        assert.equal((await until("used", "Completed")).output, 2);
    },

    async start_of_each_orchestrator() {
        for (const [name, given, output] of [
            ["Chain5", { any: "thing" }, 5],
            ["Sleeper", 0, null],
            ["Sleeper", "0", null],
            ["Parent", null, 4],
        ]) {
            const id = await client.startNew(name, { input: given });
            assert.deepEqual((await until(id, "Completed")).output, output, name);
        }
    },

    async status_with_every_option() {
        await client.startNew("Chain5", { instanceId: "chain", input: 7 });
        await until("chain", "Completed");
        const all = { showHistory: true, showHistoryOutput: true, showInput: true };
        for (const options of [{}, all, { showHistory: true }, { taskHubName: binding.taskHubName }]) {
            const status = await client.getStatus("chain", options);
            assert.deepEqual([status.input, status.output], [7, 5]);
            assert(status.createdTime <= status.lastUpdatedTime);
        }
        const hidden = await client.getStatus("chain", { showInput: false });
        assert.deepEqual(hidden.input, rpc ? 7 : null, "only templates can hide it");
    },

    async status_of_another_hub() {
        await client.startNew("Echo", { instanceId: "here" });
        const elsewhere = client.getStatus("here", { taskHubName: "elsewhere" });
        await assert.rejects(elsewhere, /HTTP 404/);
        const named = { taskHubName: binding.taskHubName, connectionName: "Other" };
        assert.equal((await client.getStatus("here", named)).instanceId, "here");
    },

    async status_of_nobody() {
        await assert.rejects(client.getStatus("nobody"), /HTTP 404/);
    },

    async list_of_all_follows_every_page() {
        const started = Array.from({ length: 120 }, (_, number) => `many-${number}`);
        for (let at = 0; at < started.length; at += 20) {
            const some = started.slice(at, at + 20);
            await Promise.all(some.map((id) => client.startNew("Echo", { instanceId: id })));
        }
        const listed = ids(await client.getStatusAll());
        assert.equal(new Set(listed).size, listed.length, "each of them once");
        assert(started.every((id) => listed.includes(id)));
    },

    async list_by_status_and_time() {
        const from = await moment();
        await client.startNew("WaitForApproval", { instanceId: "by-1" });
        await client.startNew("Echo", { instanceId: "by-2" });
        await until("by-1", "Running");
        await until("by-2", "Completed");
        const by = async (filter) => ids(await client.getStatusBy(filter));
        assert.deepEqual(await by({ createdTimeFrom: from }), ["by-1", "by-2"]);
        const running = { createdTimeFrom: from, runtimeStatus: ["Running"] };
        assert.deepEqual(await by(running), ["by-1"]);
        const either = { createdTimeFrom: from, runtimeStatus: ["Running", "Completed"] };
        assert.deepEqual(await by(either), ["by-1", "by-2"]);
        const before = { createdTimeTo: from, runtimeStatus: ["Completed"] };
        assert(!(await by(before)).includes("by-2"));
        const later = { createdTimeFrom: new Date(Date.now() + 60_000) };
        assert.deepEqual(await by(later), []);
    },

    async event_with_a_value() {
        for (const [number, value] of [[1, { by: "ada" }], [2, "text"], [3, 0], [4, null]]) {
            const id = `event-${number}`;
            await client.startNew("WaitForApproval", { instanceId: id });
            await client.raiseEvent(id, "other", 1);
            await client.raiseEvent(id, "approval", value);
            assert.deepEqual((await until(id, "Completed")).output, value);
        }
        // The library takes 410 for a success.
        await client.raiseEvent("event-1", "approval", 2);
    },

    async event_without_a_value() {
        await client.startNew("WaitForApproval", { instanceId: "no-value" });
        await assert.rejects(client.raiseEvent("no-value", "approval"), /status code: 400/);
        await client.raiseEvent("no-value", "approval", "now", { taskHubName: binding.taskHubName });
        assert.equal((await until("no-value", "Completed")).output, "now");
    },

    async event_for_nobody() {
        await assert.rejects(client.raiseEvent("nobody", "approval", 1), /No instance with ID/);
    },

    async terminate_with_a_reason() {
        await client.startNew("Sleeper", { instanceId: "terminated", input: 600 });
        await client.terminate("terminated", "why not? 50 pieces, more/ü");
        const { output } = await until("terminated", "Terminated");
        assert.equal(output, "why not? 50 pieces, more/ü");
        await client.terminate("terminated", "again");
        await assert.rejects(client.terminate("nobody", "x"), /No instance with ID/);
    },

    async suspend_and_resume() {
        await client.startNew("WaitForApproval", { instanceId: "held" });
        await until("held", "Running");
        await client.suspend("held", "lunch break");
        await until("held", "Suspended");
        await client.suspend("held", "twice");
        await client.raiseEvent("held", "approval", "later");
        await until("held", "Suspended");
        await client.resume("held", "back again");
        assert.equal((await until("held", "Completed")).output, "later");
        await client.suspend("held", "too late");
        await assert.rejects(client.suspend("nobody", "x"), /No instance with ID/);
        await assert.rejects(client.resume("nobody", "x"), /No instance with ID/);
    },

    async rewind_until_it_succeeds() {
        const file = path.join(folder, `cause-${way}`);
        await client.startNew("FailingUntil", { instanceId: "fails", input: file });
        assert.match((await until("fails", "Failed")).output, /there is no file/);
        fs.writeFileSync(file, "");
        await client.rewind("fails", "the cause is gone");
        assert.equal((await until("fails", "Completed")).output, 1);
    },

    async rewind_of_what_has_not_failed() {
        await assert.rejects(client.rewind("fails", "x"), /fails.*Completed.*only a Failed/);
        await assert.rejects(client.rewind("nobody", "x"), /no orchestration.*nobody/i);
    },

    async purge_of_one() {
        await client.startNew("Echo", { instanceId: "purged" });
        await until("purged", "Completed");
        assert.equal((await client.purgeInstanceHistory("purged")).instancesDeleted, 1);
        await assert.rejects(client.getStatus("purged"), /HTTP 404/);
        assert.equal((await client.purgeInstanceHistory("purged")).instancesDeleted, 0);
    },

    async purge_of_what_runs() {
        await client.startNew("WaitForApproval", { instanceId: "runs" });
        await assert.rejects(client.purgeInstanceHistory("runs"), /status code: 412/);
        assert.equal((await client.getStatus("runs")).instanceId, "runs");
    },

    async purge_by_status_and_time() {
        const from = await moment();
        await client.startNew("Echo", { instanceId: "many-purged-1" });
        await client.startNew("Failing", { instanceId: "many-purged-2" });
        await client.startNew("WaitForApproval", { instanceId: "many-purged-3" });
        await until("many-purged-1", "Completed");
        await until("many-purged-2", "Failed");
        const to = await moment();
        const purge = async (runtimeStatus) => {
            const filter = { createdTimeFrom: from, createdTimeTo: to, runtimeStatus };
            return (await client.purgeInstanceHistoryBy(filter)).instancesDeleted;
        };
        assert.equal(await purge(["Terminated"]), 0);
        assert.equal(await purge(["Completed"]), 1);
        assert.equal(await purge(["Running"]), 0, "what runs stays");
        assert.equal(await purge([]), 1);
        assert.equal((await client.getStatus("many-purged-3")).instanceId, "many-purged-3");
        await assert.rejects(
            client.purgeInstanceHistoryBy({}),
            rpc ? /status code: 400.*createdTimeFrom/ : /createdTimeFrom must be a valid Date/,
        );
    },

    async links_of_a_check_status_response() {
        await client.startNew("WaitForApproval", { instanceId: "linked" });
        const response = client.createCheckStatusResponse(request, "linked");
        assert.equal(response.status, 202);
        assert.equal(response.headers.get("Retry-After"), "10");
        const links = await response.json();
        assert.equal(response.headers.get("Location"), links.statusQueryGetUri);
        assert.equal(links.id, "linked");
        const state = await fetch(links.statusQueryGetUri);
        assert.equal(state.status, 202);
        assert.equal((await state.json()).instanceId, "linked");
        const raised = await fetch(links.sendEventPostUri.replace("{eventName}", "approval"), {
            method: "POST",
            headers: { "Content-Type": "application/json" },
            body: "true",
        });
        assert.equal(raised.status, 202);
        assert.equal((await until("linked", "Completed")).output, true);
        const restarted = await fetch(links.restartPostUri, { method: "POST" });
        assert.equal(restarted.status, 202);
        const purged = await fetch(links.purgeHistoryDeleteUri, { method: "DELETE" });
        assert.deepEqual(await purged.json(), { instancesDeleted: 1 });
    },

    async links_of_a_management_payload() {
        const links = client.createHttpManagementPayload("any");
        assert.equal(links.id, "any");
        for (const link of ["terminate", "suspend", "resume", "rewind", "restart"]) {
            assert(links[`${link}PostUri`].includes(`/instances/any/${link}?`), link);
        }
    },

    async wait_for_what_completes() {
        await client.startNew("Sleeper", { instanceId: "waited", input: 0.3 });
        const options = { timeoutInMilliseconds: 60_000, retryIntervalInMilliseconds: 50 };
        const wait = (id) =>
            client.waitForCompletionOrCreateCheckStatusResponse(request, id, options);
        const slept = await wait("waited");
        // The library leaves the body of this answer empty where the output is null.
        assert.deepEqual([slept.status, await slept.text()], [200, ""]);
        await client.startNew("Echo", { instanceId: "echoed", input: { a: 1 } });
        const echoed = await wait("echoed");
        assert.deepEqual([echoed.status, await echoed.json()], [200, { a: 1 }]);
    },

    async wait_for_what_fails_or_is_terminated() {
        await client.startNew("Failing", { instanceId: "failed" });
        const failed = await client.waitForCompletionOrCreateCheckStatusResponse(request, "failed");
        assert.equal(failed.status, 500);
        assert.equal((await failed.json()).runtimeStatus, "Failed");
        await client.startNew("WaitForApproval", { instanceId: "ended" });
        await client.terminate("ended", "enough");
        const ended = await client.waitForCompletionOrCreateCheckStatusResponse(request, "ended");
        assert.deepEqual([ended.status, (await ended.json()).output], [200, "enough"]);
    },

    async wait_for_what_takes_too_long() {
        await client.startNew("Sleeper", { instanceId: "long", input: 600 });
        const options = { timeoutInMilliseconds: 200, retryIntervalInMilliseconds: 100 };
        const wait = (options) =>
            client.waitForCompletionOrCreateCheckStatusResponse(request, "long", options);
        const response = await wait(options);
        assert.equal(response.status, 202);
        assert.equal((await response.json()).id, "long");
        await assert.rejects(wait({ ...options, retryIntervalInMilliseconds: 201 }));
    },

    async entities_are_not_there() {
        const entity = new df.EntityId("counter", "a");
        assert.equal((await client.readEntityState(entity)).entityExists, false);
        await assert.rejects(client.signalEntity(entity, "add", 1), /status code: 404/);
    },
};

(async () => {
    const { name, version } = require("durable-functions/package.json");
    console.log(`by ${name} ${version}`);
    for (const [name, check] of Object.entries(checks)) {
        try {
            await check();
            console.log(`ok ${name}`);
        } catch (error) {
            console.log(`FAILED ${name}: ${error.stack}`);
        }
    }
})();
