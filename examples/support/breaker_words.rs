//! The words of breaker traces, in the machine's words and back.

use std::collections::BTreeMap;
use std::time::Duration;

use provost::logic::breaker::config::TIME_MAX;
use provost::logic::breaker::{
    Admission, BreakerConfig, Force, Grant, Machine, Mode, Outcome, Transition, Window,
};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    config: Rules,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rules {
    failure_threshold: Option<u32>,
    error_percent: Option<f64>,
    slow_percent: Option<f64>,
    slow_ms: Option<u64>,
    request_volume: Option<u32>,
    window_ms: Option<u64>,
    window_calls: Option<u32>,
    open_ms: Option<u64>,
    open_max_ms: Option<u64>,
    open_factor: Option<f64>,
    jitter: Option<f64>,
    half_open_probes: Option<u32>,
    success_threshold: Option<u32>,
    half_open_timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at_ms: u64,
    op: Word,
    id: Option<String>,
    outcome: Option<OutcomeWord>,
    retry_after_ms: Option<u64>,
    to: Option<ForceWord>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Acquire,
    Settle,
    Drop,
    Force,
    Tick,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutcomeWord {
    Ok,
    Error,
    Slow,
    Throttled,
    Ignored,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ForceWord {
    Open,
    Closed,
    Auto,
}

/// What became of an id.
enum Call {
    UnderWay(Grant),
    Rejected,
    Ended,
}

/// A breaker in virtual time.
pub(crate) struct Trace {
    machine: Machine,
    now_ms: u64,
    openings: u32,
    calls: BTreeMap<String, Call>,
}

impl Trace {
    /// Reads the rules.
    pub(crate) fn begin(line: &str) -> Result<Self, String> {
        let first: First = serde_json::from_str(line)
            .map_err(|error| format!("not {{\"config\":{{…}}}}: {error}"))?;
        let machine = Machine::new(first.config.checked()?);
        Ok(Self { machine, now_ms: 0, openings: 0, calls: BTreeMap::new() })
    }

    /// Carries one operation out: the answer, and what was wrong.
    pub(crate) fn answer(
        &mut self,
        line: &str,
        place: impl Fn(String) -> String,
    ) -> (Value, Option<String>) {
        let done = serde_json::from_str(line).map_err(|error| error.to_string());
        let done = done.and_then(|line: Line| self.carry_out(&line));
        let (granted, wait, fault) = match done {
            Ok((granted, wait)) => (granted, wait, None),
            Err(fault) => (false, None, Some(place(fault))),
        };
        let control = self.machine.control();
        let wait = wait.or_else(|| control.retry_after_ms(self.now_ms));
        let state = control.state().circuit();
        let transitions = self.machine.take_transitions();
        let opened = transitions.iter().filter(|found| found.evidence.open_ms.is_some());
        self.openings += u32::try_from(opened.count()).unwrap_or(u32::MAX);
        let transitions: Vec<Value> = transitions.iter().map(written).collect();
        let mut answer = json!({
            "granted": granted,
            "state": state.as_str(),
            "retry_after_ms": wait,
            "transitions": transitions,
        });
        if let (Some(fault), Some(fields)) = (&fault, answer.as_object_mut()) {
            fields.insert("error".to_owned(), Value::from(fault.as_str()));
        }
        (answer, fault)
    }

    /// Ends the call that has this id.
    fn end(&mut self, id: &str, line: &Line, draw: f64) -> Result<(), String> {
        let call = self.calls.get_mut(id).ok_or_else(|| format!("id {id:?} was never acquired"))?;
        match call {
            Call::Ended => return Err(format!("id {id:?} has already ended")),
            Call::Rejected => self.machine.advance(line.at_ms, draw),
            Call::UnderWay(_) => {
                if let Call::UnderWay(grant) = std::mem::replace(call, Call::Ended) {
                    self.machine.settle(line.at_ms, grant, line.outcome(), draw);
                }
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, line: &Line) -> Result<(bool, Option<u64>), String> {
        line.check()?;
        let (now, draw) = (line.at_ms, self.draw());
        if now < self.now_ms {
            return Err(format!("time goes back: at_ms is {now} after {}", self.now_ms));
        }
        let id = line.id.clone().unwrap_or_default();
        match line.op {
            Word::Acquire => {
                if let Some(Call::UnderWay(_)) = self.calls.get(&id) {
                    return Err(format!("id {id:?} already holds a permit"));
                }
                self.now_ms = now;
                let (call, wait) = match self.machine.acquire(now, draw) {
                    Admission::Granted(grant) => (Call::UnderWay(grant), None),
                    Admission::Rejected(rejection) => (Call::Rejected, rejection.retry_after_ms),
                };
                let granted = matches!(call, Call::UnderWay(_));
                self.calls.insert(id, call);
                Ok((granted, wait))
            }
            Word::Settle | Word::Drop => {
                self.end(&id, line, draw)?;
                self.now_ms = now;
                Ok((false, None))
            }
            Word::Force => {
                self.now_ms = now;
                let force = match line.to {
                    Some(ForceWord::Open) => Force::Open,
                    Some(ForceWord::Closed) => Force::Closed,
                    Some(ForceWord::Auto) | None => Force::Auto,
                };
                self.machine.force(now, force, draw);
                Ok((false, None))
            }
            Word::Tick => {
                self.now_ms = now;
                self.machine.advance(now, draw);
                Ok((false, None))
            }
        }
    }

    /// The draw for the next opening.
    fn draw(&self) -> f64 {
        (0.618_033_988_749_895 * f64::from(self.openings + 1)).fract()
    }
}

impl Line {
    /// Whether each key that the operation needs is there, and no other.
    fn check(&self) -> Result<(), String> {
        let (op, needed): (&str, &[&str]) = match self.op {
            Word::Acquire => ("acquire", &["id"]),
            Word::Settle => ("settle", &["id", "outcome"]),
            Word::Drop => ("drop", &["id"]),
            Word::Force => ("force", &["to"]),
            Word::Tick => ("tick", &[]),
        };
        let given = [
            ("id", self.id.is_some()),
            ("outcome", self.outcome.is_some()),
            ("to", self.to.is_some()),
        ];
        for (key, is_given) in given {
            match (needed.contains(&key), is_given) {
                (true, false) => return Err(format!("{op} needs `{key}`")),
                (false, true) => return Err(format!("{op} has no `{key}`")),
                (true, true) | (false, false) => {}
            }
        }
        match (self.retry_after_ms, self.outcome) {
            (None, _) | (Some(_), Some(OutcomeWord::Throttled)) => Ok(()),
            (Some(_), _) => Err("`retry_after_ms` belongs to outcome throttled".to_owned()),
        }
    }

    /// What a call came to; a dropped one to nothing.
    fn outcome(&self) -> Outcome {
        match self.outcome {
            Some(OutcomeWord::Ok) => Outcome::Ok,
            Some(OutcomeWord::Error) => Outcome::Error,
            Some(OutcomeWord::Slow) => Outcome::Slow,
            Some(OutcomeWord::Throttled) => {
                Outcome::Throttled { retry_after_ms: self.retry_after_ms }
            }
            Some(OutcomeWord::Ignored) | None => Outcome::Ignored,
        }
    }
}

impl Rules {
    fn checked(&self) -> Result<BreakerConfig, String> {
        let window = match (self.window_ms, self.window_calls) {
            (Some(_), Some(_)) => {
                return Err("config has window_ms and window_calls; choose one".to_owned());
            }
            (None, Some(calls)) => Window::Calls(calls),
            (ms, None) => Window::Time(Duration::from_millis(ms.unwrap_or(10_000))),
        };
        let config = BreakerConfig {
            mode: Mode::Armed,
            failure_threshold: self.failure_threshold,
            error_percent: self.error_percent,
            slow_percent: self.slow_percent,
            slow_call: self.slow_ms.map(Duration::from_millis),
            request_volume: self.request_volume.unwrap_or(1),
            window,
            open_for: Duration::from_millis(self.open_ms.unwrap_or(5000)),
            open_max: self.open_max_ms.map_or(TIME_MAX, Duration::from_millis),
            open_factor: self.open_factor.unwrap_or(1.0),
            jitter: self.jitter.unwrap_or(0.0),
            half_open_probes: self.half_open_probes.unwrap_or(1),
            success_threshold: self.success_threshold.unwrap_or(1),
            half_open_timeout: self.half_open_timeout_ms.map(Duration::from_millis),
        };
        let told = |faults: Vec<_>| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            format!("config: {}", in_milliseconds(&faults.join("; ")))
        };
        config.check().map_err(told)?;
        Ok(config)
    }
}

/// The rules' names as they are in traces.
fn in_milliseconds(text: &str) -> String {
    let names = [
        ("slow_call_duration is", "slow_ms is"),
        ("window is", "window_ms is"),
        ("open_for is", "open_ms is"),
        ("open_max is", "open_max_ms is"),
        ("half_open_timeout is", "half_open_timeout_ms is"),
    ];
    names.iter().fold(text.to_owned(), |text, (ours, theirs)| text.replace(ours, theirs))
}

fn written(transition: &Transition) -> Value {
    json!({
        "from": transition.from.as_str(),
        "to": transition.to.as_str(),
        "reason": transition.cause.as_str(),
    })
}
