//! Exit rules and what requests may add: what is read, what contradicts itself, what is never reached.

use std::time::Duration;

use provost::config::{Additions, EnvPattern};
use provost::protocol::care::{ExitRule, ParkFrom, ParkSpec, RuleAction};
use provost::protocol::exit::ExitClass;

use crate::config::Bench;

const RULE: &str = "[[agent_types.w.exit_rules]]\n";

fn with_rules(rules: &[&str]) -> Bench {
    let rules: String = rules.iter().map(|rule| format!("{RULE}{rule}\n")).collect();
    Bench::file(&format!("[agent_types.w]\ncommand = [\"true\"]\n{rules}"))
}

fn rules_of(bench: &Bench) -> Vec<ExitRule> {
    let config = bench.loaded().config;
    config.agent_types.values().next().unwrap().exit_rules.clone()
}

#[test]
fn codes_ranges_signals_and_texts_are_read_with_the_place_of_their_rule() {
    let bench = with_rules(&[
        "codes = [3, \"64-66\"]\nsignals = [\"SIGKILL\", 11]\nclass = \"ok\"",
        "output = \"Rate limit | overloaded\"\naction = \"park\"\npark_for = \"5m\"\n\
         park_from_output = true\npark_max = \"2h\"",
    ]);
    let rules = rules_of(&bench);
    assert_eq!(rules[0].codes, [3, 64, 65, 66]);
    assert_eq!(rules[0].signals, [9, 11]);
    assert_eq!(rules[0].class, Some(ExitClass::Ok));
    assert!(rules[0].origin.as_ref().unwrap().ends_with("a.toml:3"), "{:?}", rules[0].origin);
    assert_eq!(rules[1].output, ["Rate limit", "overloaded"]);
    let (after, max) = (Duration::from_secs(300), Duration::from_secs(7200));
    let park = RuleAction::Park(ParkSpec { after, from: ParkFrom::Output, max });
    assert_eq!(rules[1].action, Some(park));
    bench.warnings(&[]);
}

#[test]
fn rules_that_contradict_themselves_are_refused() {
    with_rules(&["codes = [1]"]).faults(&[
        "a.toml:3:1: agent_types.w.exit_rules[0]: says nothing; give class, action or both",
    ]);
    with_rules(&["codes = [1]\naction = \"park\""]).faults(&[
        "a.toml:5:10: agent_types.w.exit_rules[0].action: park does not say how long; give park_for, such as \"5m\"",
    ]);
    with_rules(&["codes = [1]\nclass = \"throttled\""]).faults(&[
        "a.toml:3:1: agent_types.w.exit_rules[0]: class throttled does not say until when; give action = \"park\" with park_for, or action = \"restart\"",
    ]);
    with_rules(&["codes = [1]\nclass = \"ok\"\naction = \"quarantine\""]).faults(&[
        "a.toml:6:10: agent_types.w.exit_rules[0].action: contradicts class ok: what finished its work needs no remedy; use restart or stop, or another class",
    ]);
    with_rules(&["action = \"stop\"\npark_for = \"5m\""]).faults(&[
        "a.toml:5:12: agent_types.w.exit_rules[0].park_for: belongs to action = \"park\"",
    ]);
    with_rules(&["action = \"park\"\npark_for = \"5m\"\npark_max = \"1h\""]).faults(&[
        "a.toml:6:12: agent_types.w.exit_rules[0].park_max: bounds a time in the output; set park_from_output = true",
    ]);
    with_rules(&["action = \"park\"\npark_for = \"5h\"\npark_from_output = true\npark_max = \"1h\""])
        .faults(&[
            "a.toml:7:12: agent_types.w.exit_rules[0].park_max: is smaller than park_for \"5h\" (value \"1h\")",
        ]);
    with_rules(&["output = \"a||b\"\naction = \"stop\""]).faults(&[
        "a.toml:4:10: agent_types.w.exit_rules[0].output: has an empty text, which every output has; `|` stands between texts (value \"a||b\")",
    ]);
}

#[test]
fn rules_that_nothing_reaches_are_refused_with_the_one_before_them() {
    let reached = |earlier: &str, later: &str| {
        with_rules(&[earlier, later]).loaded();
    };
    let shadowed = |earlier: &str, later: &str| {
        with_rules(&[earlier, later]).faults(&[&format!(
            "a.toml:{}:1: agent_types.w.exit_rules[1]: is never reached: the rule at a.toml:3 matches every end that this one does; put this one before it, or remove one",
            4 + earlier.lines().count()
        )]);
    };
    shadowed("action = \"stop\"", "codes = [1]\naction = \"restart\"");
    shadowed("codes = [\"1-5\"]\naction = \"stop\"", "codes = [2, 3]\naction = \"restart\"");
    shadowed("output = \"limit\"\naction = \"stop\"", "output = \"Rate LIMIT\"\nclass = \"crash\"");
    shadowed("signals = [9, 15]\naction = \"stop\"", "signals = [\"TERM\"]\nclass = \"crash\"");
    reached("action = \"stop\"", "codes = [0]\naction = \"restart\"");
    reached("codes = [1]\naction = \"stop\"", "action = \"restart\"");
    reached("codes = [1, 2]\naction = \"stop\"", "codes = [2, 3]\naction = \"restart\"");
    reached("output = \"a\"\naction = \"stop\"", "codes = [1]\naction = \"restart\"");
    reached("output = \"rate limit\"\naction = \"stop\"", "output = \"limit\"\nclass = \"crash\"");
    reached("codes = [9]\naction = \"stop\"", "signals = [9]\naction = \"restart\"");
}

#[test]
fn wrong_codes_signals_and_words_are_faults_of_shape() {
    let rule = "codes = [256, \"78-64\", \"x\"]\nsignals = [\"SIGNOPE\", 0]\nclass = \"stopped\"\n\
                action = \"parc\"\npark_for = \"1ms\"";
    with_rules(&[rule]).faults(&[
        "a.toml:4:10: agent_types.w.exit_rules[0].codes[0]: no exit code; write it like 75 or \"64-78\", each from 0 to 255 (value 256; allowed 0..=255, or a range such as \"64-78\")",
        "a.toml:4:15: agent_types.w.exit_rules[0].codes[1]: no range of exit codes; the first is above the last (value \"78-64\"; allowed 0..=255, or a range such as \"64-78\")",
        "a.toml:4:24: agent_types.w.exit_rules[0].codes[2]: no exit code; write it like 75 or \"64-78\", each from 0 to 255 (value \"x\"; allowed 0..=255, or a range such as \"64-78\")",
        "a.toml:5:12: agent_types.w.exit_rules[0].signals[0]: no signal; write it like \"SIGKILL\" or 9, from 1 to 64 (value \"SIGNOPE\"; allowed a name such as \"SIGKILL\", or 1..=64)",
        "a.toml:5:23: agent_types.w.exit_rules[0].signals[1]: no signal; write it like \"SIGKILL\" or 9, from 1 to 64 (value 0; allowed a name such as \"SIGKILL\", or 1..=64)",
        "a.toml:6:9: agent_types.w.exit_rules[0].class: unknown word (value \"stopped\"; allowed ok, crash, oom, throttled, config_fault, watchdog)",
        "a.toml:7:10: agent_types.w.exit_rules[0].action: unknown word (value \"parc\"; allowed restart, restart_group, park, quarantine, stop, escalate; did you mean `park`?)",
        "a.toml:8:12: agent_types.w.exit_rules[0].park_for: out of range (value \"1ms\"; allowed 100ms..=30d)",
    ]);
}

#[test]
fn a_rule_without_effect_is_warned_of() {
    let bench = Bench::file(&format!(
        "[agent_types.w]\ncommand = [\"true\"]\nrestart = {{ type = \"temporary\" }}\n{RULE}\
         codes = [1]\naction = \"restart_group\"\n{RULE}codes = [2]\naction = \"escalate\"\n"
    ));
    bench.warnings(&[
        "a.toml:6:10: agent_types.w.exit_rules[0].action: has no effect: an agent of a temporary type is never restarted",
    ]);
}

#[test]
fn what_requests_may_add_is_read_and_checked() {
    let with = |spawn: &str| {
        Bench::file(&format!("[agent_types.w]\ncommand = [\"true\"]\nspawn = {{ {spawn} }}\n"))
    };
    let permission =
        |bench: &Bench| bench.loaded().config.agent_types.values().next().unwrap().spawn.clone();
    let open = permission(&with(""));
    assert_eq!((open.args, open.labels), (Additions::Permitted, Additions::Permitted));
    assert_eq!(open.env, [EnvPattern::Any]);
    let bench = with("args = false, env = [\"KEY\", \"APP_*\"], labels = false");
    let closed = permission(&bench);
    assert_eq!((closed.args, closed.labels), (Additions::Refused, Additions::Refused));
    assert_eq!(closed.env, [EnvPattern::Name("KEY".into()), EnvPattern::Prefix("APP_".into())]);
    bench.warnings(&[]);
    with("env = [\"A B\", \"KEY\", \"KEY\", \"PROVOST_X\", \"WATCHDOG_USEC\"]").faults(&[
        "a.toml:3:18: agent_types.w.spawn.env[0]: no name of an environment variable; write it like KEY, APP_* or * (value \"A B\")",
        "a.toml:3:32: agent_types.w.spawn.env[2]: is listed twice (value \"KEY\")",
        "a.toml:3:39: agent_types.w.spawn.env[3]: is set by provost itself; requests never may (value \"PROVOST_X\")",
        "a.toml:3:52: agent_types.w.spawn.env[4]: is set by provost itself; requests never may (value \"WATCHDOG_USEC\")",
    ]);
    with("env = [\"PATH\"]").warnings(&[
        "a.toml:3:18: agent_types.w.spawn.env[0]: PATH lets a request choose which code an agent of this type runs",
    ]);
}
