"""Looks at provost from outside, with another NATS client (nats-py) and nothing of its code.

Kills one agent's process with SIGKILL and checks what the wire promises: a failure, a decision, the
agent running again and a recovery arrive on their subjects, each caused by the one before
(`causationid`), well formed, and the stream holds each of them once and in that order.

    PYTHONPATH=.tools/python python3 tests/outside/monitor.py --state-dir DIR --agent NAME

Exit code 0: all held. 1: something did not, and the last line on stderr says what. 2: usage.
"""

import argparse
import asyncio
import json
import os
import pathlib
import signal
import sys
import time

import nats

FAILURE = "provost.supervision.failure.v1"
DECISION = "provost.supervision.decision.v1"
CHANGED = "provost.agent.state_changed.v1"
RECOVERY = "provost.supervision.recovery.v1"
REQUIRED = (
    "specversion id source type subject time datacontenttype severity category data".split()
)
# Documents of the stream's end that are looked through; enough for what one kill brings.
STREAM_TAIL = 5000


class Broken(Exception):
    """A promise of the wire that was not kept."""


def need(holds, text):
    if not holds:
        raise Broken(text)


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url", help="NATS address, credentials inside if any are needed")
    where.add_argument("--state-dir", type=pathlib.Path, help="state folder with nats.json")
    parser.add_argument("--creds", help="credentials file, with --url")
    parser.add_argument("--agent", required=True, help="name or id of the agent to kill")
    parser.add_argument("--prefix", default="", help="subject prefix, without final dot")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for everything")
    return parser.parse_args()


class Monitor:
    def __init__(self, connection, prefix, deadline):
        self.connection = connection
        self.prefix = prefix
        self.deadline = deadline
        self.events = []  # (subject without prefix, event), as they arrived
        self.news = asyncio.Event()

    def full(self, subject):
        return f"{self.prefix}.{subject}" if self.prefix else subject

    async def listen(self):
        for pattern in ("supervision.>", "agent.events.>"):
            await self.connection.subscribe(self.full(pattern), cb=self.take)
        # A round trip: only then the server surely knows of the subscriptions.
        await self.connection.flush()

    async def take(self, message):
        subject = message.subject
        if self.prefix:
            subject = subject.removeprefix(self.prefix + ".")
        event = json.loads(message.data)
        headers = message.headers or {}
        self.check_form(subject, event, headers)
        self.events.append((subject, event))
        self.news.set()

    def check_form(self, subject, event, headers):
        """Keeps the first fault for `find`: an exception in a callback would be lost."""
        try:
            missing = [name for name in REQUIRED if name not in event]
            need(not missing, f"{subject}: attributes are missing: {missing}")
            empty = [name for name, value in event.items() if name != "data" and value in (None, "")]
            need(not empty, f"{subject}: attributes are empty: {empty}")
            need(event["specversion"] == "1.0", f"{subject}: specversion {event['specversion']}")
            need(event["id"] == headers.get("Nats-Msg-Id"), f"{subject}: Nats-Msg-Id is not the id")
            content = headers.get("Content-Type")
            need(content == "application/cloudevents+json", f"{subject}: Content-Type {content}")
        except Broken as fault:
            self.events.append(("", {"fault": str(fault)}))
            self.news.set()

    async def request(self, subject, body):
        answer = await self.connection.request(
            self.full(subject), json.dumps(body).encode(), timeout=10
        )
        return json.loads(answer.data)

    async def find(self, what, fits):
        """Waits for the first event that fits; events that were there before count too."""
        seen = 0
        while True:
            while seen < len(self.events):
                subject, event = self.events[seen]
                if not subject:
                    raise Broken(event["fault"])
                if fits(subject, event):
                    print(f"{what}: {subject} {event['id']}", flush=True)
                    return seen, subject, event
                seen += 1
            self.news.clear()
            left = self.deadline - time.monotonic()
            try:
                await asyncio.wait_for(self.news.wait(), max(left, 0.001))
            except asyncio.TimeoutError:
                kinds = [event.get("type") for _, event in self.events]
                raise Broken(f"no {what} in time; {len(kinds)} events came: {kinds[-20:]}") from None

    def causes(self, event):
        """Ids of the event's causes, nearest first."""
        known = {event["id"]: event for _, event in self.events if "id" in event}
        causes = []
        while event is not None and (cause := event.get("causationid")):
            need(cause not in causes, f"causes of {event['id']} go in a circle")
            causes.append(cause)
            event = known.get(cause)
        return causes

    async def stored(self, ids):
        """Waits until the stream holds all ids; gives the sequences of each."""
        stream = "SUPERVISION"
        if self.prefix:
            stream = self.prefix.replace(".", "_") + "_" + stream
        jetstream = self.connection.jetstream()
        places = {}
        looked_at = None
        while True:
            state = (await jetstream.stream_info(stream)).state
            start = max(state.first_seq, state.last_seq - STREAM_TAIL)
            start = start if looked_at is None else looked_at + 1
            for sequence in range(start, state.last_seq + 1):
                message = await jetstream.get_msg(stream, sequence)
                place = places.setdefault(json.loads(message.data)["id"], [])
                place.append(sequence)
            looked_at = state.last_seq
            missing = [one for one in ids if one not in places]
            if not missing:
                return [places[one] for one in ids]
            need(time.monotonic() < self.deadline, f"stream {stream} does not hold {missing}")
            await asyncio.sleep(0.05)


async def check(monitor, agent):
    answer = await monitor.request("agent.command", {"command": "status", "agent": agent})
    need(answer.get("ok") is True, f"status of {agent}: {answer}")
    status = answer["agent"]
    agent_id, pid, generation = status["agent_id"], status["pid"], status["generation"]
    need(pid, f"{agent} does not run: {status['state']} ({status['reason']})")
    print(f"kill: {status['name']} ({agent_id}), process {pid}, run {generation}", flush=True)
    os.kill(pid, signal.SIGKILL)

    def of(kind):
        return lambda subject, event: event["type"] == kind and event["subject"] == agent_id

    at_failure, subject, failure = await monitor.find(
        "failure",
        lambda subject, event: of(FAILURE)(subject, event)
        and (event["data"].get("exit") or {}).get("signal") == signal.SIGKILL
        and event.get("generation", generation) == generation,
    )
    need(subject == f"supervision.failures.{failure['severity']}", f"failure came on {subject}")
    need(failure["severity"] == "high", f"a crash is high, not {failure['severity']}")
    need(failure["data"]["failure_type"] == "process_crash", f"{failure['data']['failure_type']}")

    def caused(event):
        return failure["id"] in monitor.causes(event)

    at_decision, subject, decision = await monitor.find(
        "decision", lambda _, event: event["type"] == DECISION and caused(event)
    )
    need(subject == "supervision.events", f"decision came on {subject}")
    need(decision["data"]["next"]["action"] in ("restart", "trial"), f"{decision['data']['next']}")

    at_restart, subject, restart = await monitor.find(
        "restart",
        lambda subject, event: of(CHANGED)(subject, event)
        and event["data"]["generation"] > generation
        and event["data"]["new_state"] in ("running", "probation"),
    )
    need(subject == f"agent.events.{agent_id}", f"restart came on {subject}")
    need(restart["data"]["pid"] not in (None, pid), f"pid after the restart: {restart['data']['pid']}")
    need(caused(restart), "the restart is not caused by the failure")

    at_recovery, subject, recovery = await monitor.find(
        "recovery", lambda subject, event: of(RECOVERY)(subject, event) and caused(event)
    )
    need(subject == f"supervision.recovery.{agent_id}", f"recovery came on {subject}")
    order = [at_failure, at_decision, at_restart, at_recovery]
    need(order == sorted(order), f"the events arrived in another order: {order}")

    chain = [failure, decision, restart, recovery]
    places = await monitor.stored([event["id"] for event in chain])
    need(all(len(place) == 1 for place in places), f"an event is stored more than once: {places}")
    need(places == sorted(places), f"the stream has another order: {places}")
    print(f"stored: sequences {[place[0] for place in places]}", flush=True)


async def main():
    chosen = options()
    url = chosen.url
    if chosen.state_dir is not None:
        url = json.loads((chosen.state_dir / "nats.json").read_text())["url"]
    connection = await nats.connect(url, user_credentials=chosen.creds, allow_reconnect=False)
    try:
        monitor = Monitor(connection, chosen.prefix, time.monotonic() + chosen.timeout)
        await monitor.listen()
        await check(monitor, chosen.agent)
    finally:
        await connection.close()
    print("ok: failure, decision, restart and recovery, each caused by the one before")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (Broken, OSError, KeyError, ValueError, nats.errors.Error) as fault:
        print(f"broken: {type(fault).__name__}: {fault}", file=sys.stderr)
        sys.exit(1)
