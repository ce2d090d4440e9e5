//! Random supervision scenarios, reproducible by seed and number, of growing size.
//!
//! Everything drawn here has one right trace under OTP: sleeps are whole seconds of virtual time;
//! plan `c` (dies right after its start) only for workers of the root; `exit_many` only within one
//! supervisor; workers that ignore a stop have a deadline that expires at once, all others one
//! that cannot expire. What OTP itself does wrong is left out: [`OTP_FAULTS`].

use serde_json::{Map, Value, json};

/// Faults of OTP 25 that are not copied, so that scenarios keep away from them.
pub(crate) const OTP_FAULTS: &[(&str, &str)] = &[
    (
        "a dynamic child, not temporary, answers `ignore` to its restart",
        "OTP stores a pid `undefined` and dies at its own end (erlang/otp#8215)",
    ),
    (
        "a dynamic child is terminated while it is restarting",
        "OTP's count_children then tells one active child too few, down to -1",
    ),
];

const STRATEGIES: &[&str] = &[
    "one_for_one",
    "one_for_one",
    "one_for_one",
    "one_for_all",
    "one_for_all",
    "rest_for_one",
    "rest_for_one",
    "rest_for_one",
];
const PLANS: &[&str] = &[".x", ".xx", "..x", ".xxx", ".x*", ".i", ".ix", ".xi", "i"];
const CRASH_PLANS: &[&str] = &[".c", ".cc", "..c", ".c*", "c", ".xc", ".cx"];
/// Reasons with their weights.
const REASONS: &[(&str, usize)] =
    &[("boom", 9), ("normal", 4), ("shutdown", 3), ("shutdown_term", 2), ("kill", 3)];

/// Most workers of one tree.
const WORKERS_MAX: f64 = 14.0;

/// Scenario `number` of `count`; the later, the larger.
pub(crate) fn scenario(seed: u64, number: u64, count: u64) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "a share of a small number")]
    let level = number as f64 / count.saturating_sub(1).max(1) as f64;
    let mut rng = Rng::new(seed, number, count);
    let budget = 1 + rng.between(1 + part(level, WORKERS_MAX / 2.0), 2 + part(level, WORKERS_MAX));
    let mut maker = Maker { rng, level, ids: 0, sups: Vec::new(), workers: Vec::new(), budget };
    // Every tenth is flat: one supervisor with all the workers.
    let depth = if number % 10 == 9 { 0 } else { part(level, 3.5) };
    let tree = maker.sup(depth, None);
    let length = 2 + part(level, 14.0) + maker.rng.below(3);
    let mut steps: Vec<Value> = Vec::new();
    while steps.len() < length {
        let more = maker.step();
        steps.extend(more);
    }
    steps.truncate(length);
    json!({ "id": format!("g{seed}-{number}-{count}"), "tree": tree, "steps": steps })
}

/// Whole part of a share.
fn part(level: f64, of: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small and not negative"
    )]
    let whole = (level * of) as usize;
    whole
}

/// `SplitMix64`: its numbers are the same for ever, so that a seed in a report stays good.
struct Rng(u64);

impl Rng {
    fn new(seed: u64, number: u64, count: u64) -> Self {
        let mut rng = Self(seed);
        for part in [number, count] {
            rng.0 = rng.next() ^ part;
        }
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(1);
        usize::try_from(self.next() % end).unwrap_or_default()
    }

    fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True in so many of a hundred cases.
    fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len())).cloned()
    }

    fn word(&mut self, from: &[&'static str]) -> &'static str {
        self.pick(from).unwrap_or_default()
    }

    fn reason(&mut self) -> &'static str {
        let mut at = self.below(REASONS.iter().map(|(_, weight)| weight).sum());
        for (reason, weight) in REASONS {
            if at < *weight {
                return reason;
            }
            at -= weight;
        }
        "boom"
    }
}

/// What steps need to know of a supervisor.
#[derive(Clone)]
struct Known {
    id: String,
    simple: bool,
    auto: &'static str,
    sups: Vec<String>,
}

/// What a worker's spec is for.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Made {
    Child,
    Template,
}

struct Maker {
    rng: Rng,
    level: f64,
    ids: usize,
    sups: Vec<Known>,
    /// Workers and their supervisors.
    workers: Vec<(String, String)>,
    budget: usize,
}

impl Maker {
    fn id(&mut self, prefix: &str) -> String {
        self.ids += 1;
        format!("{prefix}{}", self.ids)
    }

    /// Restart type and significance; returns the restart type.
    fn child_keys(&mut self, spec: &mut Map<String, Value>, auto: &str) -> &'static str {
        let restart = match self.rng.below(10) {
            0..5 => "permanent",
            5..8 => "transient",
            _ => "temporary",
        };
        if restart != "permanent" || self.rng.percent(50) {
            spec.insert("restart".to_owned(), json!(restart));
        }
        let fits = auto != "never" && restart != "permanent";
        // Rarely a combination that must be refused.
        if (fits && self.rng.percent(60)) || (!fits && self.rng.percent(1)) {
            spec.insert("significant".to_owned(), json!(true));
        }
        restart
    }

    fn worker(&mut self, sup: &str, auto: &str, made: Made) -> Value {
        let id = self.id("w");
        let mut spec = Map::new();
        spec.insert("id".to_owned(), json!(id));
        let restart = self.child_keys(&mut spec, auto);
        let on_stop = match self.rng.below(19) {
            16 => "normal",
            17 => "crash",
            18 => "ignore",
            _ => "obey",
        };
        if on_stop != "obey" {
            spec.insert("on_stop".to_owned(), json!(on_stop));
        }
        if on_stop == "ignore" {
            let shutdown = if self.rng.percent(50) { json!(2) } else { json!("brutal_kill") };
            spec.insert("shutdown".to_owned(), shutdown);
        } else if self.rng.percent(30) {
            let all = [json!("infinity"), json!("brutal_kill"), json!(60_000)];
            spec.insert("shutdown".to_owned(), self.rng.pick(&all).unwrap_or_default());
        }
        if self.rng.percent(22) {
            let crashes = if sup == "root" { CRASH_PLANS } else { &[] };
            let plans = [PLANS, crashes].concat();
            let plan = self.rng.word(&plans);
            if !(made == Made::Template && restart != "temporary" && plan.contains('i')) {
                spec.insert("starts".to_owned(), json!(plan));
            }
        } else if self.rng.percent(1) {
            // The whole tree must fail to start.
            spec.insert("starts".to_owned(), json!("x"));
        }
        if made == Made::Child {
            self.workers.push((id, sup.to_owned()));
        }
        Value::Object(spec)
    }

    fn sup(&mut self, depth: usize, auto_above: Option<&str>) -> Value {
        let root = auto_above.is_none();
        let id = if root { "root".to_owned() } else { self.id("s") };
        let mut spec = Map::new();
        spec.insert("id".to_owned(), json!(id));
        let simple = self.rng.percent(12);
        let strategy = if simple { "simple_one_for_one" } else { self.rng.word(STRATEGIES) };
        spec.insert("strategy".to_owned(), json!(strategy));
        if self.rng.percent(90) {
            // A root that survives keeps the later steps worth something.
            let grown = root && self.rng.percent(part(self.level, 100.0));
            let all: &[u32] = if grown { &[1, 3, 5, 7, 9] } else { &[0, 1, 1, 2, 2, 3, 4, 5] };
            spec.insert("intensity".to_owned(), json!(self.rng.pick(all)));
        }
        if self.rng.percent(80) {
            spec.insert("period".to_owned(), json!(self.rng.pick(&[1, 2, 3, 5, 5, 10])));
        }
        let auto = match self.rng.below(10) {
            0..6 => "never",
            6..8 => "any_significant",
            _ => "all_significant",
        };
        if auto != "never" {
            spec.insert("auto_shutdown".to_owned(), json!(auto));
        }
        if let Some(above) = auto_above {
            self.child_keys(&mut spec, above);
        }
        let place = self.sups.len();
        self.sups.push(Known { id: id.clone(), simple, auto, sups: Vec::new() });
        let (mut kids, mut below) = (Vec::new(), Vec::new());
        if simple {
            kids.push(self.worker(&id, auto, Made::Template));
        }
        while !simple && 0 < self.budget && (kids.is_empty() || self.rng.percent(80)) {
            self.budget -= 1;
            if 0 < depth && self.rng.percent(35) {
                let kid = self.sup(depth - 1, Some(auto));
                below.extend(kid.get("id").and_then(Value::as_str).map(str::to_owned));
                kids.push(kid);
            } else {
                kids.push(self.worker(&id, auto, Made::Child));
            }
        }
        if let Some(known) = self.sups.get_mut(place) {
            known.sups = below;
        }
        spec.insert("children".to_owned(), Value::Array(kids));
        Value::Object(spec)
    }

    /// One step, or several that belong together.
    fn step(&mut self) -> Vec<Value> {
        let Some(sup) = self.rng.pick(&self.sups) else { return Vec::new() };
        let mine: Vec<String> =
            self.workers.iter().filter(|(_, of)| *of == sup.id).map(|(id, _)| id.clone()).collect();
        let draw = self.rng.below(100);
        match draw {
            0..12 => vec![self.sleep(&[1, 1, 2, 3, 5, 6, 11])],
            12..16 if !mine.is_empty() => self.pulse(&mine),
            16..22 if 1 < mine.len() => vec![self.exit_many(mine)],
            22..24 if 1 < self.sups.len() => {
                let which = 1 + self.rng.below(self.sups.len() - 1);
                vec![json!({ "op": "kill_sup", "id": self.sups.get(which).map(|sup| &sup.id) })]
            }
            _ if draw < 34 || (sup.simple && mine.is_empty()) => {
                vec![self.start_child(&sup, &mine)]
            }
            _ if draw < 52 => {
                let op = match self.rng.below(5) {
                    0..2 => "terminate_child",
                    2..4 => "restart_child",
                    _ => "delete_child",
                };
                let kids = [mine, sup.sups].concat();
                let kid = self.rng.pick(&kids).filter(|_| self.rng.percent(97));
                let kid = kid.unwrap_or_else(|| "nobody".to_owned());
                vec![json!({ "op": op, "sup": sup.id, "id": kid })]
            }
            _ => {
                let all = self.workers.clone();
                let id = self.rng.pick(&all).map_or_else(|| "nobody".to_owned(), |(id, _)| id);
                vec![json!({ "op": "exit", "id": id, "reason": self.rng.reason() })]
            }
        }
    }

    fn sleep(&mut self, seconds: &[u64]) -> Value {
        json!({ "op": "sleep", "ms": 1000 * self.rng.pick(seconds).unwrap_or(1) })
    }

    /// A worker that fails again and again walks through a restart window.
    fn pulse(&mut self, mine: &[String]) -> Vec<Value> {
        let id = self.rng.pick(mine);
        let mut steps = Vec::new();
        for _ in 0..self.rng.between(2, 6) {
            let reason = self.rng.word(&["boom", "boom", "kill"]);
            steps.push(json!({ "op": "exit", "id": id, "reason": reason }));
            steps.push(self.sleep(&[0, 1, 1, 2, 2, 3, 4]));
        }
        steps
    }

    fn exit_many(&mut self, mut mine: Vec<String>) -> Value {
        let count = self.rng.between(2, mine.len().min(4));
        let mut exits = Vec::new();
        while exits.len() < count {
            let id = mine.swap_remove(self.rng.below(mine.len()));
            exits.push(json!([id, self.rng.reason()]));
        }
        json!({ "op": "exit_many", "exits": exits })
    }

    fn start_child(&mut self, sup: &Known, mine: &[String]) -> Value {
        if sup.simple {
            let id = self.id("i");
            self.workers.push((id.clone(), sup.id.clone()));
            return json!({ "op": "start_child", "sup": sup.id, "id": id });
        }
        if !mine.is_empty() && self.rng.percent(30) {
            let child = json!({ "id": self.rng.pick(mine) });
            return json!({ "op": "start_child", "sup": sup.id, "child": child });
        }
        let child = self.worker(&sup.id, sup.auto, Made::Child);
        json!({ "op": "start_child", "sup": sup.id, "child": child })
    }
}
