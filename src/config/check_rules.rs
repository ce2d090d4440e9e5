//! Checks of exit rules, for contradictions and for rules that nothing reaches, and of what requests
//! may add.

use crate::config::check::Checker;
use crate::config::check_agents::OWN_VARIABLES;
use crate::config::fault::Fault;
use crate::config::raw_rules::{RawExitAction, RawExitClass, RawExitRule, RawSpawn};
use crate::config::spawn::{EnvPattern, OWN_PREFIX, SpawnPermission, loads_code};
use crate::config::tree::join;
use crate::protocol::care::{ExitRule, ParkFrom, ParkSpec, RuleAction};
use crate::protocol::exit::ExitClass;
use crate::protocol::spec::RestartType;

impl Checker<'_> {
    /// Rules about ends, in order.
    pub(crate) fn exit_rules(
        &mut self,
        key: &str,
        raw: &[RawExitRule],
        restart: RestartType,
    ) -> Vec<ExitRule> {
        let mut rules: Vec<ExitRule> = Vec::new();
        for (index, raw) in raw.iter().enumerate() {
            let key_of = |index: usize| format!("{key}[{index}]");
            let own = key_of(index);
            let rule = self.exit_rule(&own, raw, restart);
            let earlier = rules.iter().position(|earlier| covers(earlier, &rule));
            // What a faulty rule matches is not known.
            let whole = !self.any_faulty_under(&own);
            if let Some(earlier) =
                earlier.filter(|earlier| !self.any_faulty_under(&key_of(*earlier)) && whole)
            {
                let place = self.place(&key_of(earlier)).short();
                let text = format!(
                    "is never reached: the rule at {place} matches every end that this one does; \
                     put this one before it, or remove one"
                );
                self.fault(&own, text);
            }
            rules.push(rule);
        }
        rules
    }

    fn exit_rule(&mut self, key: &str, raw: &RawExitRule, restart: RestartType) -> ExitRule {
        let action_key = join(key, "action");
        if !self.any_faulty_under(key) {
            self.contradictions(key, raw);
        }
        if restart == RestartType::Temporary
            && let Some(action) = raw.action.filter(|action| *action != RawExitAction::Escalate)
            && action != RawExitAction::Stop
        {
            self.warn(
                &action_key,
                "has no effect: an agent of a temporary type is never restarted",
            );
        }
        ExitRule {
            codes: raw.codes.iter().flat_map(|codes| codes.each()).collect(),
            signals: raw.signals.iter().map(|signal| signal.0).collect(),
            output: self.texts(&join(key, "output"), raw.output.as_deref()),
            class: raw.class.map(class),
            action: raw.action.map(|action| rule_action(action, raw)),
            origin: self.origin(key),
        }
    }

    fn texts(&mut self, key: &str, output: Option<&str>) -> Vec<String> {
        let texts: Vec<String> = output
            .into_iter()
            .flat_map(|text| text.split('|'))
            .map(|text| text.trim().to_owned())
            .collect();
        if texts.iter().any(String::is_empty) {
            let text = "has an empty text, which every output has; `|` stands between texts";
            self.fault_of(key, output.unwrap_or_default(), text);
        }
        texts
    }

    fn contradictions(&mut self, key: &str, raw: &RawExitRule) {
        use RawExitAction as Action;
        let action_key = join(key, "action");
        match (raw.class, raw.action) {
            (None, None) => self.fault(key, "says nothing; give class, action or both"),
            (Some(RawExitClass::Throttled), None) => {
                let text = "class throttled does not say until when; give action = \"park\" with \
                            park_for, or action = \"restart\"";
                self.fault(key, text);
            }
            (
                Some(RawExitClass::Ok),
                Some(Action::RestartGroup | Action::Park | Action::Quarantine | Action::Escalate),
            ) => {
                let text = "contradicts class ok: what finished its work needs no remedy; use \
                            restart or stop, or another class";
                self.fault(&action_key, text);
            }
            (Some(_), _) | (None, Some(_)) => {}
        }
        if raw.action == Some(Action::Park) {
            match raw.park_for {
                None => self.fault(
                    &action_key,
                    "park does not say how long; give park_for, such as \"5m\"",
                ),
                Some(after) if raw.park_from_output && raw.park_max < after => {
                    self.smaller(&join(key, "park_max"), &join(key, "park_for"));
                }
                Some(_) => {}
            }
            if self.is_written(&join(key, "park_max")) && !raw.park_from_output {
                self.fault(
                    &join(key, "park_max"),
                    "bounds a time in the output; set park_from_output = true",
                );
            }
            return;
        }
        for name in ["park_for", "park_from_output", "park_max"] {
            let key = join(key, name);
            if self.is_written(&key) {
                self.fault(&key, "belongs to action = \"park\"");
            }
        }
    }

    /// What requests may add to a type.
    pub(crate) fn spawn_permission(&mut self, key: &str, raw: &RawSpawn) -> SpawnPermission {
        let mut env = Vec::new();
        for (index, text) in raw.env.iter().enumerate() {
            let key = format!("{}[{index}]", join(key, "env"));
            match text.parse::<EnvPattern>() {
                Ok(pattern) if env.contains(&pattern) => {
                    self.fault_of(&key, text, "is listed twice");
                }
                Ok(pattern) => {
                    self.env_pattern(&key, text, &pattern);
                    env.push(pattern);
                }
                Err(error) => self.fault_of(&key, text, error.to_string()),
            }
        }
        SpawnPermission { args: raw.args.into(), env, labels: raw.labels.into() }
    }

    fn env_pattern(&mut self, key: &str, text: &str, pattern: &EnvPattern) {
        let own = text.starts_with(OWN_PREFIX) || OWN_VARIABLES.contains(&text);
        if own {
            let fault =
                Fault::new(self.place(key), key, "is set by provost itself; requests never may");
            self.push(fault.value(format!("{text:?}")));
        } else if let EnvPattern::Name(name) = pattern
            && loads_code(name)
        {
            let text = "lets a request choose which code an agent of this type runs";
            self.warn(key, format!("{name} {text}"));
        }
    }
}

fn class(raw: RawExitClass) -> ExitClass {
    match raw {
        RawExitClass::Ok => ExitClass::Ok,
        RawExitClass::Crash => ExitClass::Crash,
        RawExitClass::Oom => ExitClass::Oom,
        RawExitClass::Throttled => ExitClass::Throttled,
        RawExitClass::ConfigFault => ExitClass::ConfigFault,
        RawExitClass::Watchdog => ExitClass::Watchdog,
    }
}

fn rule_action(action: RawExitAction, raw: &RawExitRule) -> RuleAction {
    match action {
        RawExitAction::Restart => RuleAction::Restart,
        RawExitAction::RestartGroup => RuleAction::RestartGroup,
        RawExitAction::Quarantine => RuleAction::Quarantine,
        RawExitAction::Stop => RuleAction::Stop,
        RawExitAction::Escalate => RuleAction::Escalate,
        RawExitAction::Park => RuleAction::Park(ParkSpec {
            after: raw.park_for.unwrap_or_default().0,
            from: if raw.park_from_output { ParkFrom::Output } else { ParkFrom::Rule },
            max: raw.park_max.0,
        }),
    }
}

/// Whether everything that a later rule matches is matched by an earlier one.
fn covers(earlier: &ExitRule, later: &ExitRule) -> bool {
    let names = |rule: &ExitRule| !rule.codes.is_empty() || !rule.signals.is_empty();
    let ends = match (names(earlier), names(later)) {
        // Every end but success.
        (false, false) => true,
        (false, true) => !later.codes.contains(&0),
        (true, false) => false,
        (true, true) => {
            later.codes.iter().all(|code| earlier.codes.contains(code))
                && later.signals.iter().all(|signal| earlier.signals.contains(signal))
        }
    };
    let has = |text: &String| {
        let text = text.to_ascii_lowercase();
        earlier.output.iter().any(|part| text.contains(&part.to_ascii_lowercase()))
    };
    let output =
        earlier.output.is_empty() || (!later.output.is_empty() && later.output.iter().all(has));
    ends && output
}
