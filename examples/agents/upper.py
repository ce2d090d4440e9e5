"""A stdio agent in ten lines: takes tasks as JSON lines, answers as JSON lines."""
import json
import sys

for line in sys.stdin:
    message = json.loads(line)
    if message["op"] == "task":
        result = {"text": str(message["input"]).upper()}
        print(json.dumps({"id": message["id"], "attempt": message["attempt"],
                          "state": "completed", "result": result}), flush=True)
    elif message["op"] == "stop":
        break
