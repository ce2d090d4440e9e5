//! Changes and steps, over small blueprints written as text.

use super::*;
use crate::protocol::reload::{ChangeOp, Effect};
use std::collections::BTreeSet;

fn name(text: &str) -> ChildName {
    text.parse().unwrap()
}

fn aspect(value: &str) -> Aspect {
    let print = value.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
    Aspect { shown: value.to_owned(), print, origin: None }
}

/// `w1 < agents: command=a` is an agent; `team < agents [a b] rest: limit=1` is a group whose order
/// counts, `free` one whose order does not; `= key value` is a setting.
fn blueprint(lines: &[&str]) -> Blueprint {
    let mut blueprint = Blueprint::default();
    for line in lines {
        let (head, aspects) = line.split_once(':').unwrap_or((line, ""));
        let words: Vec<&str> = head.split_whitespace().collect();
        if words[0] == "=" {
            blueprint.settings.insert(words[1].to_owned(), aspect(words[2]));
            continue;
        }
        let group = head.split_once('[').map(|(_, rest)| {
            let (children, order) = rest.split_once(']').unwrap();
            Group {
                children: children.split_whitespace().map(name).collect(),
                order: if order.trim() == "rest" { Order::Counts } else { Order::IsFree },
            }
        });
        let pairs = aspects.split_whitespace().filter_map(|pair| pair.split_once('='));
        let aspects = pairs.map(|(key, value)| (key.to_owned(), aspect(value))).collect();
        let member = Member { parent: name(words[2]), aspects, origin: None, group };
        blueprint.order.push(name(words[0]));
        blueprint.members.insert(name(words[0]), member);
    }
    blueprint
}

fn shown(step: &Step) -> String {
    match step {
        Step::Remove { name, under } if under.is_empty() => format!("remove {name}"),
        Step::Remove { name, under } => format!("remove {name} with {under:?}"),
        Step::Tune(name) => format!("tune {name}"),
        Step::TuneGroup(name) => format!("tune group {name}"),
        Step::Restart(name) => format!("restart {name}"),
        Step::Rebuild { name, .. } => format!("rebuild {name}"),
        Step::Add(name) => format!("add {name}"),
    }
}

fn check(running: &[&str], wanted: &[&str], steps: &[&str]) -> Vec<ConfigChange> {
    let (running, wanted) = (blueprint(running), blueprint(wanted));
    let difference = compare(&running, &wanted, &BTreeSet::new());
    let seen: Vec<String> = difference.steps.iter().map(shown).collect();
    assert_eq!(seen, steps, "{:#?}", difference.changes);
    let none = compare(&wanted, &wanted, &BTreeSet::new());
    assert_eq!(none, Difference::default());
    difference.changes
}

#[test]
fn a_command_restarts_its_agent_alone_and_a_limit_nobody() {
    let running = ["a < agents: command=x restart.intensity=5", "b < agents: command=x"];
    let wanted = ["a < agents: command=y restart.intensity=5", "b < agents: command=x"];
    let changes = check(&running, &wanted, &["restart a"]);
    assert_eq!(changes[0].effect, Effect::RestartsChildren);
    assert_eq!(changes[0].restarts, [name("a")]);
    let wanted = ["a < agents: command=x restart.intensity=9", "b < agents: command=x"];
    let changes = check(&running, &wanted, &["tune a"]);
    assert_eq!((changes[0].effect, changes[0].from.as_deref()), (Effect::InPlace, Some("5")));
}

#[test]
fn what_goes_ends_before_anything_comes() {
    let changes =
        check(&["a < agents", "b < agents"], &["b < agents", "c < agents"], &["remove a", "add c"]);
    let ops: Vec<ChangeOp> = changes.iter().map(|change| change.op).collect();
    assert_eq!(ops, [ChangeOp::Remove, ChangeOp::Add]);
}

#[test]
fn a_setting_is_held_unless_it_is_read_when_it_is_needed() {
    let changes =
        check(&["= agents.max 10", "= nats.url a"], &["= agents.max 20", "= nats.url b"], &[]);
    let effects: Vec<Effect> = changes.iter().map(|change| change.effect).collect();
    assert_eq!(effects, [Effect::InPlace, Effect::RestartsDaemon]);
    assert!(changes[1].why.as_ref().unwrap().contains("when the daemon starts"));
}

#[test]
fn children_come_and_go_alone_where_order_is_free_or_they_come_last() {
    let running = ["team < agents [a b] free", "a < team", "b < team"];
    let wanted = ["team < agents [c b] free", "c < team", "b < team"];
    check(&running, &wanted, &["remove a", "add c"]);
    let running = ["team < agents [a b] rest", "a < team", "b < team"];
    let wanted = ["team < agents [b c] rest", "b < team", "c < team"];
    check(&running, &wanted, &["remove a", "add c"]);
}

#[test]
fn another_order_makes_a_group_anew_where_order_counts() {
    let running = ["team < agents [a b] rest", "a < team", "b < team"];
    let wanted = ["team < agents [b a] rest", "a < team", "b < team"];
    let changes = check(&running, &wanted, &["rebuild team"]);
    assert_eq!(changes[0].restarts, [name("a"), name("b")]);
    let wanted = ["team < agents [a c b] rest", "a < team", "b < team", "c < team"];
    check(&running, &wanted, &["rebuild team"]);
    let running = ["team < agents [a b] free", "a < team", "b < team"];
    let wanted = ["team < agents [b a] free", "a < team", "b < team"];
    check(&running, &wanted, &[]);
}

#[test]
fn a_child_that_moves_ends_before_it_begins() {
    let running = ["team < agents [a] rest", "a < team", "b < agents"];
    let wanted = ["team < agents [a b] rest", "a < team", "b < team"];
    let changes = check(&running, &wanted, &["remove b", "add b"]);
    assert_eq!(changes[0].key.as_deref(), Some("supervisor"));
    // Into a group that is new, or made anew, it comes with the group.
    let running = ["b < agents"];
    let wanted = ["team < agents [b] rest", "b < team"];
    check(&running, &wanted, &["remove b", "add team"]);
}

#[test]
fn a_group_goes_and_comes_with_all_under_it() {
    let running = ["team < agents [a sub] rest", "a < team", "sub < team [b] rest", "b < sub"];
    check(
        &running,
        &[],
        &[r#"remove team with [ChildName("a"), ChildName("b"), ChildName("sub")]"#],
    );
    check(&[], &running, &["add team"]);
}

#[test]
fn rules_of_a_group_are_changed_in_place() {
    let running = ["team < agents [a] rest: intensity=3", "a < team"];
    let wanted = ["team < agents [a] rest: intensity=9", "a < team"];
    let changes = check(&running, &wanted, &["tune group team"]);
    assert_eq!(changes[0].effect, Effect::InPlace);
}

#[test]
fn what_an_earlier_reload_did_not_get_through_with_is_done_now() {
    let blueprint = blueprint(&["a < agents: command=x", "b < agents"]);
    let difference = compare(&blueprint, &blueprint, &BTreeSet::from([name("a")]));
    assert_eq!(difference.steps, [Step::Restart(name("a"))]);
}

#[test]
fn a_line_that_has_moved_is_no_change_and_rules_know_their_new_place() {
    let running = blueprint(&["a < agents: command=x"]);
    let mut wanted = running.clone();
    wanted.members.get_mut(&name("a")).unwrap().origin = Some("p.toml:9".to_owned());
    let difference = compare(&running, &wanted, &BTreeSet::new());
    assert!(difference.changes.is_empty());
    assert_eq!(difference.steps, [Step::Tune(name("a"))]);
}
