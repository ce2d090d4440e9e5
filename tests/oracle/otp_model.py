#!/usr/bin/env python3
"""Executable statement of Erlang/OTP supervisor semantics, in a second hand, for checking a
supervisor against otp_oracle.escript:   otp_model.py < scenarios.jsonl > traces.jsonl     same formats, same bytes.
`--mutate NAME` plants one wrong rule (see MUTATIONS) to measure how fast random scenarios find it."""
import json, sys

CLEAN = ("normal", "shutdown", "{shutdown,term}")
MUTATIONS = """intensity_ge intensity_le window_excl window_reset count_all no_count_retry transient_shutdown_restarts
permanent_normal_stops killed_is_clean temporary_restarted rest_all rest_excl_self stop_in_start_order start_reversed
retry_all_rfo retry_rest_ofa keep_spec_temp sibling_auto any_only_normal all_counts_stopped terminate_auto
terminate_restarts restart_moves_last dynamic_survive double_count init_leak ignore_drops
max_reason_escalates limit_then_restart""".split()
MUT = None


def mut(name):
    return MUT == name


class Proc:
    def __init__(self, kid, sup):
        self.id, self.sup, self.alive, self.spec = kid, sup, True, None


class Child:                                     # the supervisor's record of one child
    def __init__(self, spec):
        self.spec, self.id, self.proc, self.restarting = spec, spec["id"], None, False
        self.is_sup = "strategy" in spec
        self.restart = spec.get("restart", "permanent")
        self.significant = spec.get("significant", False)
        self.shutdown = spec.get("shutdown", "infinity" if self.is_sup else 5000)
        self.temporary = self.restart == "temporary"


class Sup(Proc):
    def __init__(self, world, spec, sup):
        super().__init__(spec["id"], sup)
        self.w, self.spec = world, spec
        self.strategy = spec["strategy"]
        self.simple = self.strategy == "simple_one_for_one"
        self.intensity, self.period = spec.get("intensity", 1), spec.get("period", 5)
        self.auto = spec.get("auto_shutdown", "never")
        self.kids, self.restarts, self.mail, self.template = [], [], [], None

    # ---- start, stop ----
    def check(self, spec):
        if spec.get("significant"):
            if self.auto == "never":
                return "{bad_combination,[{auto_shutdown,never},{significant,true}]}"
            if spec.get("restart", "permanent") == "permanent":
                return "{bad_combination,[{restart,permanent},{significant,true}]}"

    def init(self):
        self.w.ev("init " + self.id)
        for spec in self.spec.get("children", []):
            bad = self.check(spec)               # all specs are checked before anything starts
            if bad:
                return "{start_spec,%s}" % bad
        if self.simple:
            self.template = self.spec["children"][0]
            return None
        self.kids = [Child(s) for s in self.spec.get("children", [])]
        failed = self.start_all(self.kids)
        if failed:
            if not mut("init_leak"):
                self.stop_all(self.kids)
            return "{shutdown,{failed_to_start_child,%s,%s}}" % failed
        return None

    def start_one(self, c):                      # None or the error; c.proc is the result
        kind, val = self.w.start(c.spec, self)
        if kind == "error":
            return val
        c.proc = val if kind == "ok" else None
        return None

    def start_all(self, kids):                   # in start order; the first failure ends it
        for c in (reversed(list(kids)) if mut("start_reversed") else list(kids)):
            err = self.start_one(c)
            if err is not None:
                self.w.rep(self, "start_error", c.id, err)
                return c.id, err
            if c.proc is None and c.temporary:   # `ignore' of a temporary child: the spec goes
                self.kids.remove(c)
            elif c.proc is None and mut("ignore_drops"):
                self.kids.remove(c)
        return None

    def stop_one(self, c):
        if c.proc is None or c.restarting:
            return
        p, brutal = c.proc, c.shutdown == "brutal_kill"
        if p.alive:
            why = self.w.stop_proc(p, c.shutdown)
        else:                                    # it died before: its queued exit is taken out of the mailbox
            i = next(i for i, m in enumerate(self.mail) if m[1] is p)
            why = self.mail[i][2]
            del self.mail[i]
        if why == ("killed" if brutal else "shutdown") or (c.restart != "permanent" and why in CLEAN):
            return
        self.w.rep(self, "shutdown_error", c.id, why)

    def stop_all(self, kids):                    # reverse start order; temporary children leave the list
        for c in (list(kids) if mut("stop_in_start_order") else reversed(list(kids))):
            self.stop_one(c)
            c.proc, c.restarting = None, False
            if c.temporary and not mut("temporary_restarted"):
                self.kids.remove(c)

    def terminate(self, why):
        if self.simple:                          # all at once, one report per distinct unexpected reason
            bad = set()
            for c in self.kids:
                if c.proc is None or c.restarting:
                    continue
                if c.proc.alive:
                    r = self.w.stop_proc(c.proc, c.shutdown)
                else:
                    r = next(m[2] for m in self.mail if m[1] is c.proc)
                ok = "killed" if c.shutdown == "brutal_kill" else "shutdown"
                if not (r == ok or (c.restart != "permanent" and r in CLEAN)):
                    bad.add(r)
            for r in sorted(bad, key=lambda r: (r[0] == "{", r)):
                self.w.rep(self, "shutdown_error", self.template["id"], r)
        else:
            self.stop_all(self.kids)
        self.w.died(self, why)

    # ---- exits ----
    def handle(self, msg):
        if msg[0] == "again":
            c = msg[1]
            if c in self.kids and c.restarting:
                self.restart_child(c)
            return
        c = next((c for c in self.kids if c.proc is msg[1] and not c.restarting), None)
        if c is None:
            return
        why = msg[2]
        clean = why in CLEAN
        if mut("killed_is_clean") and why == "killed":
            clean = True
        if mut("transient_shutdown_restarts") and c.restart == "transient" and why in CLEAN[1:]:
            clean = False
        if c.restart == "permanent" and not (mut("permanent_normal_stops") and why == "normal"):
            self.w.rep(self, "child_terminated", c.id if not self.simple else c.proc.id, why)
            self.restart_child(c)
        elif clean:
            self.forget(c)
            self.maybe_auto(c, why)
        else:
            self.w.rep(self, "child_terminated", c.id if not self.simple else c.proc.id, why)
            if c.restart == "transient":
                self.restart_child(c)
            else:
                if mut("count_all"):
                    self.restarts.insert(0, self.w.clock // 1000)
                self.forget(c)
                self.maybe_auto(c, why)

    def forget(self, c):                         # temporary (and dynamic) children vanish, others stay as `undefined'
        c.proc, c.restarting = None, False
        if (c.temporary and not mut("keep_spec_temp")) or self.simple:
            self.kids.remove(c)

    def maybe_auto(self, c, why=None):
        if self.auto == "never" or not c.significant:
            return
        if mut("any_only_normal") and why not in CLEAN:
            return
        if self.auto == "all_significant":
            if self.simple and self.kids:
                return
            if any(k.significant and (k.proc or k.restarting or mut("all_counts_stopped")) for k in self.kids):
                return
        self.terminate("shutdown")

    def restart_child(self, c):
        now = self.w.clock // 1000
        lo = now - self.period
        if mut("window_reset") and self.restarts and self.restarts[-1] < lo:
            self.restarts = []
        if not (mut("no_count_retry") and c.restarting):
            self.restarts = [now] + [t for t in self.restarts if (t > lo if mut("window_excl") else t >= lo)]
        if mut("double_count") and self.strategy == "one_for_all":
            self.restarts.append(now)
        limit = self.intensity + (1 if mut("intensity_le") else -1 if mut("intensity_ge") else 0)
        if len(self.restarts) > limit:
            self.w.rep(self, "shutdown", c.proc.id if self.simple and c.proc else c.id, "reached_max_restart_intensity")
            if mut("limit_then_restart"):
                self.start_one(c)
            else:
                self.forget(c)
            self.terminate("reached_max" if mut("max_reason_escalates") else "shutdown")
            return
        if self.strategy in ("one_for_one", "simple_one_for_one"):
            was, c.restarting = c.proc, False
            err = self.start_one(c)
            if err is None:
                if mut("restart_moves_last") and not self.simple:
                    self.kids.remove(c), self.kids.append(c)
                return
            c.proc, c.restarting = was, True     # keep the old pid: it names the child in reports
            self.w.rep(self, "start_error", was.id if self.simple and was else c.id, err)
            self.mail.append(("again", c))
            return
        again, c.proc, c.restarting = c.restarting, None, False
        first = 0 if self.strategy == "one_for_all" and not (mut("retry_rest_ofa") and again) else self.kids.index(c) + (1 if mut("rest_excl_self") else 0)
        if mut("rest_all"):
            first = 0
        self.stop_all(self.kids[first:])
        failed = self.start_all(self.kids[first:] + ([c] if mut("rest_excl_self") else []))
        if mut("sibling_auto") and any(k.significant for k in self.kids[first:]):
            self.terminate("shutdown")
            return
        if failed:                               # from here the *failed* child is the one being restarted
            f = next(k for k in self.kids if k.id == failed[0])
            if mut("retry_all_rfo") and self.strategy == "rest_for_one":
                f.restarting, f = False, self.kids[0]
            f.proc, f.restarting = None, True
            self.mail.append(("again", f))

    # ---- calls ----
    def start_child(self, spec):
        if self.simple:                          # spec is the instance id
            c = Child({**self.template, "id": spec})
            err = self.start_one(c)
            if err is not None:
                return "error:" + err
            if c.proc:
                self.kids.append(c)
            return "ok" if c.proc else "ok:undefined"
        bad = self.check(spec)
        if bad:
            return "error:bad_combination"
        old = next((k for k in self.kids if k.id == spec["id"]), None)
        if old:
            return "error:already_started" if old.proc and not old.restarting else "error:already_present"
        c = Child(spec)
        err = self.start_one(c)
        if err is not None:
            return "error:" + err
        if c.proc or not c.temporary:
            self.kids.append(c)
            self.w.dynamic(self, spec)
        return "ok" if c.proc else "ok:undefined"

    def call(self, op, kid):
        if self.simple:
            if op != "terminate_child" or kid not in self.w.last:
                return "error:simple_one_for_one"
            p = self.w.last[kid]
            c = next((c for c in self.kids if c.proc is p), None)
            if c:
                self.stop_one(c)
                self.kids.remove(c)
            return "ok" if c or not p.alive else "error:not_found"
        c = next((k for k in self.kids if k.id == kid), None)
        if c is None:
            return "error:not_found"
        if op == "terminate_child":              # always ok, even when nothing runs; never auto_shutdown, never counted
            self.stop_one(c)
            self.forget(c)
            if mut("terminate_auto"):
                self.maybe_auto(c, "shutdown")
            if mut("terminate_restarts") and c in self.kids and c.restart == "permanent":
                self.start_one(c)
            return "ok"
        if c.restarting:
            return "error:restarting"
        if c.proc:
            return "error:running"
        if op == "delete_child":
            self.kids.remove(c)
            return "ok"
        err = self.start_one(c)                  # restart_child: keeps its place in the order, not counted
        return "error:" + err if err is not None else "ok" if c.proc else "ok:undefined"

    def tree(self):
        kids = []
        for c in reversed(self.kids):
            if c.restarting:
                kids.append(("?" if self.simple else c.id) + "*")
            elif c.proc is None:
                kids.append(c.id + "-")
            else:
                kids.append(c.proc.id + "+" + (c.proc.tree() if c.is_sup else ""))
        if self.simple:
            kids.sort()
        n, sups = len(self.kids), sum(c.is_sup for c in self.kids)
        act = sum(1 for c in self.kids if c.proc and not c.restarting)
        return "[%d,%d,%d,%d]{%s}" % (1 if self.simple else n, act, sups, n - sups, " ".join(kids))


class World:
    def run(self, sc):
        self.clock, self.events, self.tries, self.last, self.sups, self.dead = 0, [], {}, {}, {}, None
        kind, val = self.start(sc["tree"], None)
        self.root = val if kind == "ok" else None
        first = self.settle("ok" if kind == "ok" else "error:" + val)
        steps = [self.settle(self.step(s)) for s in sc["steps"]]
        end = "none"
        if self.root and self.root.alive:
            self.root.terminate("shutdown")
            end = "shutdown"
        return {"id": sc["id"], "start": first, "steps": steps, "end": self.settle(end)}

    def settle(self, r):
        for _ in range(2000):                    # a supervisor handles its mailbox in order
            s = next((s for s in self.sups.values() if s.alive and s.mail), None)
            if s is None:
                break
            s.handle(s.mail.pop(0))
        t = "none" if not self.root else self.root.id + self.root.tree() if self.root.alive else "dead:" + self.dead
        out, run = [], []
        for group, text in self.events + [(None, None)]:
            if run and (group is None or group != run[0][0]):
                out += sorted(x for _, x in run)
                run = []
            if group is None and text is not None:
                out.append(text)
            elif text is not None:
                run.append((group, text))
        self.events = []
        return {"r": r, "ev": out, "t": t}

    def ev(self, text, group=None):
        self.events.append((group, text))

    def rep(self, sup, context, who, why):
        self.ev("rep %s:%s %s:%s" % (sup.id, context, who, why))

    def dynamic(self, sup, spec):
        if mut("dynamic_survive"):
            sup.spec["children"] = sup.spec["children"] + [spec]

    def start(self, spec, sup):
        kid, plan = spec["id"], spec.get("starts", "")
        n = self.tries[kid] = self.tries.get(kid, 0) + 1
        stem = plan[:-1] if plan.endswith("*") else plan
        how = stem[n - 1] if n <= len(stem) else stem[-1] if stem != plan else "."
        if how == "x":
            self.ev("fail %s:boom" % kid)
            return "error", "boom"
        if how == "i":
            self.ev("ignore " + kid)
            return "ignore", None
        if "strategy" in spec:
            s = Sup(self, spec, sup)
            err = s.init()
            if err:
                self.ev("fail %s:%s" % (kid, err))
                return "error", err
            self.ev("start " + kid)
            self.sups[kid] = self.last[kid] = s
            return "ok", s
        p = Proc(kid, sup)
        p.spec = spec
        self.last[kid] = p
        self.ev("start " + kid)
        if how == "c":
            self.died(p, "crash")
        return "ok", p

    def died(self, p, why):
        p.alive = False
        self.ev("stop %s:%s" % (p.id, why), p.sup.id if p.sup and p.sup.simple else None)
        if p.sup is None:
            self.dead = why
        else:
            p.sup.mail.append(("EXIT", p, why))

    def stop_proc(self, p, shutdown):            # ordered by its supervisor, which waits for the end
        if isinstance(p, Sup):
            p.terminate("shutdown")
            why = "shutdown"
        else:
            how = p.spec.get("on_stop", "obey")
            why = "killed" if shutdown == "brutal_kill" or how == "ignore" else {
                "obey": "shutdown", "normal": "normal", "crash": "bad_stop"}[how]
            self.died(p, why)
        p.sup.mail.pop()                         # its own wait consumed that exit
        return why

    def alive(self, kid):
        p = self.last.get(kid)
        return p if p is not None and p.alive else None

    def kill(self, kid, reason):
        p = self.alive(kid)
        if not p:
            return "not_running"
        self.died(p, {"kill": "killed", "shutdown_term": "{shutdown,term}"}.get(reason, reason))
        return "ok"

    def step(self, s):
        op = s["op"]
        if op == "sleep":
            self.clock += s["ms"]
            return "ok"
        if op == "exit_many":
            if not self.alive(s["exits"][0][0]):
                return "not_running"
            return ",".join(self.kill(k, r) for k, r in s["exits"])
        if op == "kill_sup":
            p = self.alive(s["id"])
            if not p:
                return "not_running"
            self.cut(p)
            self.events.sort(key=lambda e: (e[0] is not None, e[0] or "", e[1]))
            return "ok"
        if "sup" in s:
            sup = self.alive(s["sup"])
            if not sup:
                return "noproc"
            if op == "start_child":
                return sup.start_child(s.get("child", s.get("id")))
            return sup.call(op, s["id"])
        short = {"crash": "boom", "exit_normal": "normal", "exit_shutdown": "shutdown"}
        return self.kill(s["id"], short.get(op, s.get("reason")))

    def cut(self, sup):                          # a killed supervisor: its links kill workers, child supervisors clean up
        self.died(sup, "killed")
        for c in sup.kids:
            if c.proc and c.proc.alive and not c.restarting:
                if c.is_sup:
                    c.proc.terminate("killed")
                else:
                    self.died(c.proc, "killed")


if __name__ == "__main__":
    if "--mutate" in sys.argv:
        MUT = sys.argv[sys.argv.index("--mutate") + 1]
        assert MUT in MUTATIONS
    for line in sys.stdin:
        if line.strip() and not line.startswith("#"):
            print(json.dumps(World().run(json.loads(line)), separators=(",", ":")))
