"""A remote agent in twenty lines: beats, and answers tasks, over NATS (nats-py)."""
import asyncio
import json
import os
import uuid

import nats


async def main(name=os.environ.get("AGENT", "remote-1"), stop=asyncio.Event()):
    connection = await nats.connect(os.environ["NATS_URL"])

    async def work(message):
        task = json.loads(message.data)
        answer = {"id": task["id"], "attempt": task["attempt"], "state": "completed"}
        await message.respond(json.dumps({**answer, "result": len(str(task["input"]))}).encode())

    async def obey(message):
        if json.loads(message.data)["op"] == "stop":
            stop.set()

    await connection.subscribe(f"agent.{name}.task", queue=name, cb=work)
    await connection.subscribe(f"agent.{name}.ctl", cb=obey)
    beat = {"op": "beat", "v": 1, "id": name, "instance": str(uuid.uuid4()), "every_ms": 200,
            "capabilities": ["count"], "slots": 4, "inflight": [], "state": "ready"}
    while not stop.is_set():
        await connection.publish(f"agent.{name}.beat", json.dumps(beat).encode())
        await asyncio.sleep(0.2)
    await connection.close()


asyncio.run(main())
