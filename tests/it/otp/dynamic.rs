//! What Elixir's `DynamicSupervisor` promises, name by name from its test suite, for a supervisor
//! whose children are instances of a template.
//!
//! Each is a scenario on the rules, and on the real actors where they can be told it. Left out is
//! what does not exist here: `max_children` (the daemon's own limit stands at its door),
//! `extra_arguments`, forms of child specs, registered names, spawn options, code change, and
//! start functions that throw.

use serde_json::{Value, json};

use super::otp_generator::OTP_FAULTS;
use super::{actors, assert_holds, machines, told_to_actors};

fn check(tree: Value, steps: Value, expect: &Value) {
    let scenario = json!({ "id": "dynamic", "tree": tree, "steps": steps });
    assert_holds(&machines(&scenario), expect);
    if told_to_actors(&scenario) {
        assert_holds(&actors(&scenario), expect);
    }
}

/// A root whose children are instances of `t`.
fn of(intensity: u32, mut template: Value) -> Value {
    template["id"] = json!("t");
    json!({
        "id": "root",
        "strategy": "simple_one_for_one",
        "intensity": intensity,
        "period": 5,
        "children": [template],
    })
}

fn start(id: &str) -> Value {
    json!({ "op": "start_child", "sup": "root", "id": id })
}

fn exit(id: &str, reason: &str) -> Value {
    json!({ "op": "exit", "id": id, "reason": reason })
}

fn terminate(id: &str) -> Value {
    json!({ "op": "terminate_child", "sup": "root", "id": id })
}

/// Starts three instances, ends the supervisor, and checks how each of them ended.
fn ends(template: Value, why: &str) {
    let steps = json!([start("i1"), start("i2"), start("i3")]);
    let stop = |id: &str| format!("stop {id}:{why}");
    let expect = json!([
        [2, "t", "root[1,3,0,3]{i1+ i2+ i3+}"],
        ["end", "order", [stop("i1"), stop("i2"), stop("i3"), "stop root:shutdown"]],
        ["end", "t", "dead:shutdown"],
    ]);
    check(of(3, template), steps, &expect);
}

#[test]
fn it_can_be_supervised_directly() {
    let mut inner = of(3, json!({}));
    inner["id"] = json!("s1");
    let tree = json!({ "id": "root", "strategy": "one_for_one", "children": [inner] });
    let add = json!({ "op": "start_child", "sup": "s1", "id": "i1" });
    let expect = json!([
        ["start", "t", "root[1,1,1,0]{s1+[1,0,0,0]{}}"],
        [0, "t", "root[1,1,1,0]{s1+[1,1,0,1]{i1+}}"],
    ]);
    check(tree, json!([add]), &expect);
}

#[test]
fn several_can_be_supervised_and_are_told_apart() {
    let inner = |id: &str, template: &str| {
        json!({
            "id": id, "strategy": "simple_one_for_one", "children": [{ "id": template }],
        })
    };
    let children = [inner("s1", "a"), inner("s2", "b")];
    let tree = json!({ "id": "root", "strategy": "one_for_one", "children": children });
    let add = json!({ "op": "start_child", "sup": "s2", "id": "i1" });
    let again = json!({ "op": "start_child", "sup": "root", "child": inner("s2", "b") });
    let expect = json!([
        [0, "t", "root[2,2,2,0]{s2+[1,1,0,1]{i1+} s1+[1,0,0,0]{}}"],
        [1, "r", "error:already_started"],
    ]);
    check(tree, json!([add, again]), &expect);
}

#[test]
fn a_significant_child_without_auto_shutdown_is_refused() {
    let tree = of(3, json!({ "restart": "transient", "significant": true }));
    check(tree, json!([]), &json!([["start", "t", "none"]]));
}

#[test]
fn a_start_tells_whether_the_child_runs_failed_or_had_nothing_to_do() {
    let expect = json!([[0, "r", "ok"], [0, "t", "root[1,1,0,1]{i1+}"]]);
    check(of(3, json!({})), json!([start("i1")]), &expect);
    let expect = json!([[0, "r", "error:boom"], [0, "t", "root[1,0,0,0]{}"]]);
    check(of(3, json!({ "starts": "x" })), json!([start("i1")]), &expect);
    let expect = json!([[0, "r", "ok:undefined"], [0, "t", "root[1,0,0,0]{}"]]);
    check(of(3, json!({ "starts": "i" })), json!([start("i1")]), &expect);
}

#[test]
fn a_temporary_child_is_not_restarted_regardless_of_reason() {
    for reason in ["normal", "shutdown", "shutdown_term", "whatever", "kill"] {
        let expect = json!([[1, "t", "root[1,0,0,0]{}"], [1, "hasnot", "start i1"]]);
        let steps = json!([start("i1"), exit("i1", reason)]);
        check(of(3, json!({ "restart": "temporary" })), steps, &expect);
    }
}

#[test]
fn a_transient_child_is_restarted_unless_it_ended_in_order() {
    let cases = [
        ("normal", "root[1,0,0,0]{}"),
        ("shutdown", "root[1,0,0,0]{}"),
        ("shutdown_term", "root[1,0,0,0]{}"),
        ("whatever", "root[1,1,0,1]{i1+}"),
        ("kill", "root[1,1,0,1]{i1+}"),
    ];
    for (reason, tree) in cases {
        let steps = json!([start("i1"), exit("i1", reason)]);
        check(of(3, json!({ "restart": "transient" })), steps, &json!([[1, "t", tree]]));
    }
}

#[test]
fn a_permanent_child_is_restarted_regardless_of_reason() {
    for reason in ["normal", "shutdown", "shutdown_term", "whatever", "kill"] {
        let expect = json!([[1, "t", "root[1,1,0,1]{i1+}"], [1, "has", "start i1"]]);
        check(of(3, json!({})), json!([start("i1"), exit("i1", reason)]), &expect);
    }
}

#[test]
fn a_child_that_has_nothing_to_do_when_restarted_is_forgotten() {
    assert!(OTP_FAULTS[0].0.contains("ignore"), "OTP 25 fails here");
    let steps = json!([start("i1"), start("i2"), exit("i1", "shutdown")]);
    let expect = json!([
        [2, "has", "ignore i1"],
        [2, "t", "root[1,1,0,1]{i2+}"],
        ["end", "t", "dead:shutdown"],
        ["end", "has", "stop i2:shutdown"],
    ]);
    check(of(9, json!({ "starts": ".i" })), steps, &expect);
}

#[test]
fn a_child_is_restarted_when_trying_again() {
    let expect = json!([
        [1, "order", ["stop i1:shutdown", "fail i1:boom", "start i1"]],
        [1, "t", "root[1,1,0,1]{i1+}"],
    ]);
    check(of(2, json!({ "starts": ".x" })), json!([start("i1"), exit("i1", "shutdown")]), &expect);
}

#[test]
fn a_child_triggers_maximum_restarts() {
    let expect = json!([[1, "count", "fail i1:boom", 1], [1, "t", "dead:shutdown"]]);
    check(of(1, json!({ "starts": ".x*" })), json!([start("i1"), exit("i1", "shutdown")]), &expect);
}

#[test]
fn a_child_triggers_maximum_intensity_when_trying_again() {
    let expect = json!([[1, "count", "fail i1:boom", 10], [1, "t", "dead:shutdown"]]);
    check(
        of(10, json!({ "starts": ".x*" })),
        json!([start("i1"), exit("i1", "whatever")]),
        &expect,
    );
}

#[test]
fn it_terminates_children_with_brutal_kill() {
    ends(json!({ "shutdown": "brutal_kill" }), "killed");
}

#[test]
fn it_terminates_children_with_infinite_shutdown() {
    ends(json!({ "shutdown": "infinity" }), "shutdown");
}

#[test]
fn it_terminates_children_with_infinite_shutdown_and_abnormal_reason() {
    ends(json!({ "shutdown": "infinity", "on_stop": "crash" }), "bad_stop");
}

#[test]
fn it_terminates_children_within_a_deadline() {
    ends(json!({ "shutdown": 1000 }), "shutdown");
}

#[test]
fn it_terminates_children_within_a_deadline_and_with_abnormal_reason() {
    ends(json!({ "shutdown": 1000, "on_stop": "crash" }), "bad_stop");
}

#[test]
fn it_kills_children_whose_deadline_has_expired() {
    ends(json!({ "shutdown": 1, "on_stop": "ignore" }), "killed");
}

#[test]
fn it_terminates_permanent_children_that_leave_with_normal_reason() {
    ends(json!({ "shutdown": "infinity", "on_stop": "normal" }), "normal");
}

#[test]
fn it_terminates_children_of_different_kinds() {
    let children = [json!({ "id": "a", "shutdown": "infinity" })];
    let tree = json!({ "id": "root", "strategy": "one_for_one", "children": children });
    let brutal = json!({ "id": "b", "shutdown": "brutal_kill" });
    let steps = json!([{ "op": "start_child", "sup": "root", "child": brutal }]);
    check(tree, steps, &json!([["end", "order", ["stop b:killed", "stop a:shutdown"]]]));
}

#[test]
fn a_child_is_terminated_with_brutal_kill_and_forgotten() {
    let expect = json!([[1, "r", "ok"], [1, "has", "stop i1:killed"], [1, "t", "root[1,0,0,0]{}"]]);
    let steps = json!([start("i1"), terminate("i1")]);
    check(of(3, json!({ "shutdown": "brutal_kill" })), steps, &expect);
}

#[test]
fn a_child_is_terminated_within_its_deadline_and_forgotten() {
    let expect =
        json!([[1, "r", "ok"], [1, "has", "stop i1:shutdown"], [1, "t", "root[1,0,0,0]{}"]]);
    check(of(3, json!({ "shutdown": 1000 })), json!([start("i1"), terminate("i1")]), &expect);
}

#[test]
fn a_restarting_child_is_terminated_and_the_counts_are_right() {
    assert!(OTP_FAULTS[1].0.contains("restarting"), "OTP 25 counts -1 active children here");
    let steps = json!([start("i1"), exit("i1", "shutdown"), terminate("i1"), start("i2")]);
    let expect =
        json!([[2, "r", "ok"], [2, "t", "root[1,0,0,0]{}"], [3, "t", "root[1,1,0,1]{i2+}"],]);
    check(of(100, json!({ "starts": ".h" })), steps, &expect);
}
