#!/usr/bin/env python3
"""Records, for each wrong rule that otp_model.py can be told, the smallest scenarios that show it.

    record_mutants.py scenarios.jsonl otp.traces.jsonl > mutants.jsonl

A line is {"mutant", "scenario", "otp", "wrong"}: OTP's trace and the trace under the wrong rule."""
import copy, json, sys
import otp_model

KEPT = 3


def documents(path):
    with open(path) as lines:
        return [json.loads(line) for line in lines if line.startswith("{")]


def run(scenario):
    try:
        return otp_model.World().run(copy.deepcopy(scenario))  # the model writes into it
    except Exception:  # a broken rule may leave the model in a state that it cannot go on from
        return None


pairs = list(zip(documents(sys.argv[1]), documents(sys.argv[2])))
pairs = [(scenario, otp) for scenario, otp in pairs if run(scenario) == otp]
print(len(pairs), "scenarios in which the model, unbroken, agrees with OTP", file=sys.stderr)
pairs.sort(key=lambda pair: len(json.dumps(pair)))
for mutant in otp_model.MUTATIONS:
    kept = tried = 0
    for scenario, otp in pairs:
        if kept == KEPT:
            break
        tried += 1
        otp_model.MUT = mutant
        wrong = run(scenario)
        if wrong is None or wrong == otp:
            continue
        kept += 1
        record = {"mutant": mutant, "scenario": scenario, "otp": otp, "wrong": wrong}
        print(json.dumps(record, separators=(",", ":")))
    print(f"{mutant}: {kept} among the {tried} smallest", file=sys.stderr)
