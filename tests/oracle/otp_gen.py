#!/usr/bin/env python3
"""Random supervision scenarios for otp_oracle.escript, one JSON per line, seeded, of growing size.

    otp_gen.py N [--seed S] [--flat] [--no-sleep] [--max-workers W]

Scenario k of N is drawn from its own generator seeded (S, k, N), so a failing one is reproduced by its id alone.
Everything drawn here has ONE right trace under OTP: sleeps are whole seconds of virtual time; outcome 'c' (dies right
after its start) only for workers of the root supervisor; exit_many only within one supervisor; `ignore` workers have a
2 ms or brutal_kill shutdown, all others one that cannot expire; no 'i' plan for a non-temporary simple_one_for_one
template (OTP 25 corrupts its own state there, erlang/otp#8215)."""
import argparse, json, random

STRATEGIES = ["one_for_one"] * 3 + ["one_for_all"] * 2 + ["rest_for_one"] * 3
REASONS = ["boom"] * 9 + ["normal"] * 4 + ["shutdown"] * 3 + ["shutdown_term"] * 2 + ["kill"] * 3
PLANS = [".x", ".xx", "..x", ".xxx", ".x*", ".i", ".ix", ".xi", "i"]
CRASH_PLANS = [".c", ".cc", "..c", ".c*", "c", ".xc", ".cx"]


class Gen:
    def __init__(self, rng, level, args):
        self.r, self.level, self.args = rng, level, args
        self.n = 0
        self.sups = []      # (id, spec)
        self.workers = []   # (id, sup id)
        self.more = []      # steps already decided
        self.budget = 1 + rng.randint(1 + int(level * args.max_workers / 2), 2 + int(level * args.max_workers))

    def p(self, x):
        return self.r.random() < x

    def new_id(self, prefix):
        self.n += 1
        return f"{prefix}{self.n}"

    def child_keys(self, spec, auto, worker):
        r = self.r
        restart = r.choice(["permanent"] * 5 + ["transient"] * 3 + ["temporary"] * 2)
        if restart != "permanent" or self.p(0.5):
            spec["restart"] = restart
        if auto != "never" and restart != "permanent" and self.p(0.6):
            spec["significant"] = True
        elif self.p(0.01):
            spec["significant"] = True      # mostly an invalid combination: the spec is refused
        if not worker:
            return
        on_stop = r.choice(["obey"] * 16 + ["normal", "crash"] + ["ignore"])
        if on_stop != "obey":
            spec["on_stop"] = on_stop
        if on_stop == "ignore":
            spec["shutdown"] = r.choice([2, "brutal_kill"])
        elif self.p(0.3):
            spec["shutdown"] = r.choice(["infinity", "brutal_kill", 60000])

    def worker(self, sup, auto, root, template=False):
        spec = {"id": self.new_id("w")}
        self.child_keys(spec, auto, True)
        if self.p(0.22):
            spec["starts"] = self.r.choice(PLANS + (CRASH_PLANS if root else []))
            if template and spec.get("restart") != "temporary" and "i" in spec["starts"]:
                del spec["starts"]
        elif self.p(0.01):
            spec["starts"] = "x"            # the whole tree must fail to start
        if not template:
            self.workers.append((spec["id"], sup))
        return spec

    def sup(self, depth, auto_above):
        r, root = self.r, not self.sups
        spec = {"id": "root" if root else self.new_id("s")}
        simple = self.p(0.12)
        spec["strategy"] = "simple_one_for_one" if simple else r.choice(STRATEGIES)
        if self.p(0.9):
            # a root that survives keeps the later steps worth something
            spec["intensity"] = r.choice([1, 3, 5, 7, 9] if root and self.p(self.level) else [0, 1, 1, 2, 2, 3, 4, 5])
        if self.p(0.8):
            spec["period"] = r.choice([1, 2, 3, 5, 5, 10])
        auto = r.choice(["never"] * 6 + ["any_significant", "all_significant"] * 2)
        if auto != "never":
            spec["auto_shutdown"] = auto
        if not root:
            self.child_keys(spec, auto_above, False)
        self.sups.append((spec["id"], spec))
        kids = spec["children"] = []
        if simple:
            kids.append(self.worker(spec["id"], auto, root, template=True))
            return spec
        while self.budget > 0 and (not kids or self.p(0.8)):
            self.budget -= 1
            if depth > 0 and self.p(0.35):
                kids.append(self.sup(depth - 1, auto))
            else:
                kids.append(self.worker(spec["id"], auto, root))
        return spec

    def step(self):
        r = self.r
        if self.more:
            return self.more.pop(0)
        sup, sup_spec = r.choice(self.sups)
        mine = [w for w, s in self.workers if s == sup]
        simple = sup_spec["strategy"] == "simple_one_for_one"
        x = r.random()
        if x < 0.12 and not self.args.no_sleep:
            return {"op": "sleep", "ms": 1000 * r.choice([1, 1, 2, 3, 5, 6, 11])}
        if x < 0.16 and mine and not self.args.no_sleep:   # a pulse: walks one restart window
            w = r.choice(mine)
            for _ in range(r.randint(2, 6)):
                self.more.append({"op": "exit", "id": w, "reason": r.choice(["boom", "boom", "kill"])})
                self.more.append({"op": "sleep", "ms": 1000 * r.choice([0, 1, 1, 2, 2, 3, 4])})
            return self.more.pop(0)
        if x < 0.22 and len(mine) > 1:
            some = r.sample(mine, r.randint(2, min(4, len(mine))))
            return {"op": "exit_many", "exits": [[w, r.choice(REASONS)] for w in some]}
        if x < 0.24 and len(self.sups) > 1:
            return {"op": "kill_sup", "id": r.choice(self.sups[1:])[0]}
        if x < 0.34 or (simple and not mine):
            if simple:
                w = self.new_id("i")
                self.workers.append((w, sup))
                return {"op": "start_child", "sup": sup, "id": w}
            if mine and self.p(0.3):
                return {"op": "start_child", "sup": sup, "child": {"id": r.choice(mine)}}
            return {"op": "start_child", "sup": sup,
                    "child": self.worker(sup, sup_spec.get("auto_shutdown", "never"), sup == "root")}
        if x < 0.52:
            kids = mine + [k["id"] for k in sup_spec["children"] if "strategy" in k]
            op = r.choice(["terminate_child", "terminate_child", "restart_child", "restart_child", "delete_child"])
            return {"op": op, "sup": sup, "id": r.choice(kids) if kids and self.p(0.97) else "nobody"}
        if not self.workers:
            return {"op": "exit", "id": "nobody", "reason": "boom"}
        return {"op": "exit", "id": r.choice(self.workers)[0], "reason": r.choice(REASONS)}


def scenario(k, n, args):
    rng = random.Random(f"{args.seed}/{k}/{n}")
    level = k / max(1, n - 1)
    g = Gen(rng, level, args)
    tree = g.sup(0 if args.flat else int(level * 3.5), "never")
    steps = [g.step() for _ in range(2 + int(level * 14) + rng.randint(0, 2))]
    return {"id": f"g{args.seed}-{k}-{n}", "tree": tree, "steps": steps}


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("n", type=int)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--flat", action="store_true", help="one supervisor only")
    ap.add_argument("--no-sleep", action="store_true")
    ap.add_argument("--max-workers", type=int, default=14)
    a = ap.parse_args()
    for i in range(a.n):
        print(json.dumps(scenario(i, a.n, a), separators=(",", ":")))
