//! Faults word for word: which rule, where, with which value, and what would be right.

use std::path::PathBuf;

use provost::config::{Config, Overrides, Sources, validate};

use crate::config::Bench;

#[test]
fn many_faults_in_two_files_come_out_in_one_answer() {
    let one = r#"
[provost]
nod = "n1"
http = 8080
[agents]
max = 0
[supervision]
enabled = "yes"
failure_detection_threshold = 99999999999999999999
[agent_types.worker]
comand = ["python3"]
timeout = "5 minutes"
restart = { type = "permanant", intensity = -1, backoff = { factor = 0.5 } }
[agent_types.worker.env]
TOKEN = "${env.NO_SUCH}"
[[agent]]
name = "w 1"
type = "worker"
"#;
    let two = "[[agent]]\nname = \"w2\"\ntype = \"wroker\"\n[agents]\nx = 1979-05-27\n\
               [events]\noutbox_max_bytes = \"1KiB\"\n[routing]\nenabled = true\n";
    Bench::new(&[("one.toml", one), ("two.toml", two)]).faults(&[
        "one.toml:3:1: provost.nod: unknown key (did you mean `node`?)",
        "one.toml:4:8: provost.http: must be a text in quotes (value 8080; allowed 1..=64 characters)",
        "one.toml:6:7: agents.max: out of range (value 0; allowed 1..=100000)",
        "one.toml:8:11: supervision.enabled: must be true or false (value \"yes\"; allowed true, false)",
        "one.toml:9:31: supervision.failure_detection_threshold: out of range (value 99999999999999999999; allowed 1..=1000)",
        "one.toml:11:1: agent_types.worker.comand: unknown key (did you mean `command`?)",
        "one.toml:12:11: agent_types.worker.timeout: not a time; write it like \"500ms\", \"10s\", \"5m\", \"1h\" or \"7d\" (value \"5 minutes\"; allowed 1ms..=30d)",
        "one.toml:13:20: agent_types.worker.restart.type: unknown word (value \"permanant\"; allowed permanent, transient, temporary; did you mean `permanent`?)",
        "one.toml:13:45: agent_types.worker.restart.intensity: out of range (value -1; allowed 0..=10000)",
        "one.toml:13:70: agent_types.worker.restart.backoff.factor: out of range (value 0.5; allowed 1.0..=10.0)",
        "one.toml:15:9: agent_types.worker.env.TOKEN: environment variable NO_SUCH is not set; set it or write ${env.NO_SUCH:-default} (value \"${env.NO_SUCH}\")",
        "one.toml:17:8: agent[0].name: identifier \"w 1\" contains ' '; use only A-Z a-z 0-9 _ -",
        "two.toml:3:8: agent[1].type: no such agent type is declared (value \"wroker\"; did you mean `worker`?)",
        "two.toml:5:1: agents.x: unknown key (allowed max, allow_undeclared, command_permission)",
        "two.toml:7:20: events.outbox_max_bytes: out of range (value \"1KiB\"; allowed 64KiB..=64GiB)",
        "two.toml:9:11: routing.enabled: advanced routing needs coordination; set coordination.enabled or ENABLE_COORDINATION, or switch routing off",
    ]);
}

#[test]
fn faults_end_with_their_count_and_are_data_too() {
    let sources = |bench: &Bench| Sources {
        files: bench.files.clone(),
        environment: bench.environment(),
        overrides: Overrides::default(),
    };
    let faults = Config::load(sources(&Bench::file("x = 1\ny = 2\n"))).unwrap_err();
    assert_eq!(
        faults.to_string().lines().last().unwrap(),
        "2 faults in the configuration; nothing was started"
    );
    let faults = Config::load(sources(&Bench::file("[agents]\nmx = 1\n"))).unwrap_err();
    assert_eq!(
        serde_json::to_value(&faults).unwrap(),
        serde_json::json!([{
            "place": "a.toml:2:1", "key": "agents.mx", "fault": "unknown key", "suggestion": "max"
        }])
    );
    assert!(faults.to_string().ends_with("1 fault in the configuration; nothing was started"));
}

#[test]
fn a_syntax_fault_hides_no_other_fault() {
    let broken = "[agents]\nmax = = 3\n[supervision]\nenabled = 1\n";
    Bench::new(&[("a.toml", broken), ("b.toml", "[agents]\nmaxx = 1\n")]).faults(&[
        "a.toml:2:7: not valid TOML: extra `=`, expected nothing",
        "a.toml:4:11: supervision.enabled: must be true or false (value 1; allowed true, false)",
        "b.toml:2:1: agents.maxx: unknown key (did you mean `max`?)",
    ]);
}

#[test]
fn a_file_that_cannot_be_read_hides_no_other_fault() {
    let mut bench = Bench::file("[agents]\nmaxx = 1\n");
    std::fs::write(bench.dir.path().join("c.toml"), [0x61, 0xff]).unwrap();
    bench.files.insert(0, PathBuf::from("none.toml"));
    bench.files.push(PathBuf::from("c.toml"));
    bench.faults(&[
        "none.toml: cannot be read: No such file or directory (os error 2)",
        "a.toml:2:1: agents.maxx: unknown key (did you mean `max`?)",
        "c.toml: is not valid UTF-8 at byte 1; save it as UTF-8",
    ]);
}

/// Holds the faults of some lines that follow an agent type `w` (lines 1 and 2).
#[track_caller]
fn after_worker(text: &str, expected: &[&str]) {
    Bench::file(&format!("[agent_types.w]\ncommand = [\"true\"]\n{text}")).faults(expected);
}

/// An `[[agent]]` of three lines.
fn agent(name: &str) -> String {
    format!("[[agent]]\nname = \"{name}\"\ntype = \"w\"\n")
}

#[test]
fn names_and_numbers_of_agents_are_checked() {
    after_worker(
        &format!("[agents]\nmax = 1\n{}{}", agent("a"), agent("b")),
        &[
            "a.toml:4:7: agents.max: 2 local agents are declared, more than the pool holds; raise it (value 1)",
        ],
    );
    after_worker(
        &format!("{}{}", agent("a"), agent("a")),
        &["a.toml:7:8: agent[1].name: name is taken by an agent (a.toml:4) (value \"a\")"],
    );
    after_worker(
        &agent("keeper"),
        &[
            "a.toml:4:8: agent[0].name: is the name of a part of provost; choose another name (value \"keeper\")",
        ],
    );
    after_worker(
        &format!("{}[supervisors.t]\nchildren = []\n", agent("t")),
        &["a.toml:4:8: agent[0].name: name is taken by a supervisor (a.toml:6) (value \"t\")"],
    );
    after_worker(
        "[[agent]]\ntype = \"w\"\n",
        &["a.toml:3:1: agent[0].name: missing; it has no default (allowed 1..=64 characters)"],
    );
}

#[test]
fn more_agents_than_the_default_pool_are_refused_at_the_first_surplus_one() {
    let agents: String = (0..11).map(|index| agent(&format!("a{index}"))).collect();
    after_worker(
        &agents,
        &[
            "a.toml:33:1: agents.max: 11 local agents are declared, more than the pool holds; raise it (value 10)",
        ],
    );
}

#[test]
fn children_of_supervisors_are_checked() {
    after_worker(
        "[supervisors.t]\nchildren = [\"nobody\"]\n",
        &[
            "a.toml:4:13: supervisors.t.children[0]: no agent, supervisor or downstream has this name (value \"nobody\"; allowed t)",
        ],
    );
    after_worker(
        &format!("[supervisors.t]\nchildren = [\"a\", \"a\"]\n{}", agent("a")),
        &["a.toml:4:18: supervisors.t.children[1]: is listed twice (value \"a\")"],
    );
    after_worker(
        &format!(
            "[supervisors.t]\nchildren = [\"a\"]\n[supervisors.u]\nchildren = [\"a\"]\n{}",
            agent("a")
        ),
        &[
            "a.toml:6:13: supervisors.u.children[0]: is a child of supervisor t already (value \"a\")",
        ],
    );
    after_worker(
        "[supervisors.t]\nchildren = [\"u\"]\n[supervisors.u]\nchildren = [\"t\"]\n\
         [supervisors.v]\nchildren = [\"v\"]\n",
        &[
            "a.toml:4:12: supervisors.t.children: makes a circle: t > u > t",
            "a.toml:8:12: supervisors.v.children: makes a circle: v > v",
        ],
    );
    after_worker(
        &format!("[supervisors.t]\nchildren = [\"a\"]\nsignificant = [\"a\"]\n{}", agent("a")),
        &[
            "a.toml:3:14: supervisors.t.auto_shutdown: is never, but significant children are named; set any_significant or all_significant",
            "a.toml:5:16: supervisors.t.significant[0]: a permanent child is always restarted and so cannot be significant; make it transient or temporary (value \"a\")",
        ],
    );
}

#[test]
fn contradictions_of_agent_types_are_refused() {
    after_worker(
        "[agent_types.x]\nruntime = \"exec\"\n[agent_types.y]\nruntime = \"remote\"\ncommand = [\"a\"]\n",
        &[
            "a.toml:3:14: agent_types.x.command: missing; a process, stdio or exec agent needs one",
            "a.toml:7:11: agent_types.y.command: a remote agent is started elsewhere; remove the command",
        ],
    );
    after_worker(
        "restart = { backoff = { initial = \"1m\" } }\n",
        &[
            "a.toml:3:35: agent_types.w.restart.backoff.initial: is larger than max \"30s\" (value \"1m\")",
        ],
    );
    after_worker(
        "restart = { open_for = \"1h\", open_max = \"30m\" }\n",
        &[
            "a.toml:3:41: agent_types.w.restart.open_max: is smaller than open_for \"1h\" (value \"30m\")",
        ],
    );
    after_worker(
        "env = { PROVOST_AGENT_ID = \"x\" }\n",
        &[
            "a.toml:3:9: agent_types.w.env.PROVOST_AGENT_ID: is set by provost itself; choose another name",
        ],
    );
}

#[test]
fn restart_settings_that_could_have_no_effect_are_warned_of_with_the_reason() {
    warned_after_worker(
        "restart = { type = \"temporary\", intensity = 3, backoff = { max = \"1m\" } }\n",
        &[
            "a.toml:3:45: agent_types.w.restart.intensity: has no effect: a temporary agent is never restarted; remove it, or choose transient or permanent",
            "a.toml:3:66: agent_types.w.restart.backoff.max: has no effect: a temporary agent is never restarted; remove it, or choose transient or permanent",
        ],
    );
    warned_after_worker(
        "restart = { intensity = 0, period = \"1m\", backoff = { factor = 3.0 } }\n",
        &[
            "a.toml:3:37: agent_types.w.restart.period: has no effect: intensity 0 allows no restart, so that nothing is counted or delayed; remove it, or raise intensity",
            "a.toml:3:64: agent_types.w.restart.backoff.factor: has no effect: intensity 0 allows no restart, so that nothing is counted or delayed; remove it, or raise intensity",
        ],
    );
    warned_after_worker(
        "restart = { backoff = { initial = \"0s\", max = \"1m\" } }\n",
        &[
            "a.toml:3:47: agent_types.w.restart.backoff.max: has no effect: the first delay is 0s, and so is each later one; remove it, or give backoff.initial",
        ],
    );
}

#[track_caller]
fn warned_after_worker(text: &str, expected: &[&str]) {
    let head = "[agent_types.w]\ncommand = [\"x\"]\n";
    Bench::file(&format!("{head}{text}")).warnings(expected);
}

#[test]
fn a_probe_asks_in_exactly_one_way() {
    after_worker(
        "[agent_types.w.probes.liveness]\nhttp = \"http://h\"\nnotify = true\n\
         [agent_types.w.probes.startup]\ninterval = \"1s\"\ntimeout = \"1s\"\n",
        &[
            "a.toml:3:23: agent_types.w.probes.liveness: a probe asks by exactly one of http, tcp, exec, notify, beat, stdout_within; found http, notify",
            "a.toml:6:23: agent_types.w.probes.startup: a probe asks by exactly one of http, tcp, exec, notify, beat, stdout_within; found none",
        ],
    );
    after_worker(
        "[agent_types.w.probes.liveness]\ntcp = \"here\"\n",
        &[
            "a.toml:4:7: agent_types.w.probes.liveness.tcp: is no host and port; write it like 127.0.0.1:8080 (value \"here\")",
        ],
    );
}

#[test]
fn limits_are_checked() {
    after_worker(
        "[agent_types.w.limits]\npids = 0\ncpu_weight = 20000\nopen_files = 1\ncore_size = \"1.5GiB\"\n\
         output_size = \"0\"\nrun_time = \"10ms\"\nno_new_privs = \"yes\"\nuser = \"\"\nmemory = 1\n",
        &[
            "a.toml:4:8: agent_types.w.limits.pids: out of range (value 0; allowed 1..=4194304)",
            "a.toml:5:14: agent_types.w.limits.cpu_weight: out of range (value 20000; allowed 1..=10000)",
            "a.toml:6:14: agent_types.w.limits.open_files: out of range (value 1; allowed 16..=1073741816)",
            "a.toml:7:13: agent_types.w.limits.core_size: not a size; write it like \"64MiB\", \"10GB\" or as a number of bytes (value \"1.5GiB\"; allowed 0B..=1024TiB)",
            "a.toml:8:15: agent_types.w.limits.output_size: out of range (value \"0\"; allowed 1B..=1024TiB)",
            "a.toml:9:12: agent_types.w.limits.run_time: out of range (value \"10ms\"; allowed 1s..=365d)",
            "a.toml:10:16: agent_types.w.limits.no_new_privs: must be true or false (value \"yes\"; allowed true, false)",
            "a.toml:11:8: agent_types.w.limits.user: is empty (value \"\"; allowed 1..=64 characters)",
            "a.toml:12:1: agent_types.w.limits.memory: unknown key (allowed pids, cpu_weight, open_files, core_size, output_size, run_time, no_new_privs, user, group)",
        ],
    );
    after_worker(
        "[agent_types.w.limits]\nuser = \"no-such-user\"\n",
        &[
            "a.toml:4:8: agent_types.w.limits.user: no user \"no-such-user\" on this machine; create it, or give the number of one",
        ],
    );
    after_worker(
        "[agent_types.w.limits]\nuser = \"root\"\ngroup = \"no-such-group\"\n",
        &[
            "a.toml:5:9: agent_types.w.limits.group: no group \"no-such-group\" on this machine; create it, or give the number of one",
        ],
    );
    Bench::file("[agent_types.r]\nruntime = \"remote\"\n[agent_types.r.limits]\npids = 5\n").faults(&[
        "a.toml:3:16: agent_types.r.limits: limits hold processes, and a remote agent is started elsewhere; remove them",
    ]);
}

#[test]
fn a_probe_fits_its_role_and_its_runtime() {
    after_worker(
        "[agent_types.w.probes.liveness]\nhttp = \"http://u:p@h/\"\nsuccess_threshold = 2\n\
         [agent_types.x]\nruntime = \"exec\"\ncommand = [\"x\"]\n\
         [agent_types.x.probes.startup]\nnotify = true\n",
        &[
            "a.toml:4:8: agent_types.w.probes.liveness.http: a probe sends no credentials; let the agent answer it without",
            "a.toml:5:21: agent_types.w.probes.liveness.success_threshold: must be 1 for liveness: one success is enough there (value 2)",
            "a.toml:10:10: agent_types.x.probes.startup.notify: an exec agent runs a process per task; probe it by http, tcp, exec or beat",
        ],
    );
    after_worker(
        "[agent_types.w.probes.readiness]\nexec = [\" \"]\n",
        &["a.toml:4:8: agent_types.w.probes.readiness.exec: names no program (value \" \")"],
    );
}

#[test]
fn settings_of_the_daemon_are_checked() {
    Bench::file("[provost]\nhttp = \"8080\"\nsubject_prefix = \"a..b\"\n").faults(&[
        "a.toml:2:8: provost.http: is no address to listen on (value \"8080\"; allowed address:port such as 127.0.0.1:0, or off)",
        "a.toml:3:18: provost.subject_prefix: subject prefix \"a..b\" is not one or more tokens of A-Z a-z 0-9 _ - joined by dots",
    ]);
    Bench::file("[supervision.severity]\nprocess_crush = \"low\"\nhang = \"bad\"\n").faults(&[
        "a.toml:2:1: supervision.severity.process_crush: unknown kind of failure (did you mean `process_crash`?)",
        "a.toml:3:8: supervision.severity.hang: unknown word (value \"bad\"; allowed info, low, medium, high, critical)",
    ]);
}

/// Holds the faults of some lines that follow `[nats]`.
#[track_caller]
fn nats(text: &str, expected: &[&str]) {
    Bench::file(&format!("[nats]\n{text}")).faults(expected);
}

#[test]
fn contradictions_about_credentials_are_refused() {
    nats(
        "url = \"nats://u:sesame@h\"\ntoken = \"sesame\"\nuser = \"u\"\npassword = \"sesame\"\n",
        &["a.toml:3:9: nats.token: is given besides nats.user; give one kind of credentials"],
    );
    nats(
        "url = \"h\"\nuser = \"u\"\n",
        &["a.toml:1:2: nats.password: missing; nats.user is given"],
    );
    nats(
        "url = \"h\"\npassword = \"p\"\n",
        &["a.toml:1:2: nats.user: missing; nats.password is given"],
    );
    nats(
        "url = \"h\"\nnkey = \"SUACSSECRET\"\n",
        &["a.toml:3:8: nats.nkey: is no seed of an NKey: it has 58 characters of A-Z and 2-7"],
    );
    nats(
        "url = \"h\"\ncreds = \"no.creds\"\ntls = { cert = \"c.pem\" }\n",
        &[
            "a.toml:3:9: nats.creds: cannot read DIR/no.creds: No such file or directory (os error 2) (value \"no.creds\")",
            "a.toml:4:1: nats.tls.key: missing; nats.tls.cert is given",
        ],
    );
}

#[test]
fn addresses_of_servers_are_checked_and_told_without_their_passwords() {
    nats(
        "url = \"http://u:sesame@h\"\n",
        &[
            "a.toml:2:7: nats.url: has the scheme \"http\"; use nats or tls; write it like nats://127.0.0.1:4222 (value \"http://***@h\")",
        ],
    );
    nats(
        "urls = [\"h\", \"h:99999\"]\n",
        &[
            "a.toml:2:14: nats.urls[1]: has no valid port; write it like nats://127.0.0.1:4222 (value \"h:99999\")",
        ],
    );
    nats(
        "url = \"h\"\nurls = [\"i\"]\n",
        &["a.toml:3:8: nats.urls: is given besides nats.url; give one of them"],
    );
}

#[test]
fn streams_are_checked() {
    nats(
        "profile = \"production\"\n",
        &[
            "a.toml:2:11: nats.profile: is production, which keeps 3 replicas, but the embedded server is one; give nats.url",
        ],
    );
    nats(
        "[nats.streams.HEALTH]\nsubjects = [\"x\"]\nreplicas = 3\n",
        &[
            "a.toml:3:12: nats.streams.HEALTH.subjects: the subjects of HEALTH are fixed; remove them",
            "a.toml:4:12: nats.streams.HEALTH.replicas: the embedded server is one and keeps 1 replica; give nats.url",
        ],
    );
    nats(
        "[nats.streams.SHOP]\nmax_age = \"1m\"\nduplicate_window = \"2m\"\n",
        &[
            "a.toml:2:15: nats.streams.SHOP.subjects: missing; only provost's own streams have fixed ones (SUPERVISION, HEALTH, TASKS, TASK_LOG, REPLIES, DEAD_LETTERS)",
            "a.toml:3:11: nats.streams.SHOP.max_age: is smaller than duplicate_window \"2m\" (value \"1m\")",
        ],
    );
    nats(
        "[nats.streams.A]\nsubjects = [\"coordination.cancel.>\", \"shop..x\", \"shop.>\"]\n\
         [nats.streams.B]\nsubjects = [\"shop.domain\"]\n",
        &[
            "a.toml:3:13: nats.streams.A.subjects[0]: overlaps coordination.> of provost; a subject belongs to one stream (value \"coordination.cancel.>\")",
            "a.toml:3:38: nats.streams.A.subjects[1]: is no subject (value \"shop..x\")",
            "a.toml:5:13: nats.streams.B.subjects[0]: overlaps shop.> of stream A; a subject belongs to one stream (value \"shop.domain\")",
        ],
    );
}

/// Holds the faults of some lines that follow `[downstreams.d]`.
#[track_caller]
fn downstream(text: &str, expected: &[&str]) {
    Bench::file(&format!("[downstreams.d]\n{text}")).faults(expected);
}

#[test]
fn downstreams_are_checked() {
    downstream(
        "type = \"json-rpc\"\n",
        &[
            "a.toml:1:14: downstreams.d.endpoint.address: missing; it has no default",
            "a.toml:2:8: downstreams.d.type: unknown word (value \"json-rpc\"; allowed http, json_rpc, mqtt, redis, nats, websocket; did you mean `json_rpc`?)",
        ],
    );
    downstream(
        "type = \"http\"\nendpoint = { address = \"ws://h\", path = \"rpc\" }\n",
        &[
            "a.toml:3:24: downstreams.d.endpoint.address: has the scheme \"ws\"; use http or https (value \"ws://h\")",
            "a.toml:3:41: downstreams.d.endpoint.path: does not begin with a slash (value \"rpc\")",
        ],
    );
    downstream(
        "type = \"http\"\nendpoint = { address = \"http://h\" }\nauth = { type = \"basic\", token = \"t\" }\n",
        &[
            "a.toml:4:1: downstreams.d.auth.password: missing; basic needs it",
            "a.toml:4:1: downstreams.d.auth.username: missing; basic needs it",
            "a.toml:4:34: downstreams.d.auth.token: does not belong to type basic; remove it or set type",
        ],
    );
    downstream(
        "type = \"http\"\nendpoint = { address = \"http://h\" }\nresilience = { retry = { max = \"1ms\" } }\n",
        &[
            "a.toml:4:32: downstreams.d.resilience.retry.max: is smaller than initial \"100ms\" (value \"1ms\")",
        ],
    );
}

#[test]
fn what_is_doubtful_is_a_warning_and_no_fault() {
    Bench::file(
        "[agent_types.w]\ncommand = [\"true\"]\nrestart = { intensity = 6 }\n\
         [agent_types.v]\ncommand = [\"true\"]\nrestart = { intensity = 5 }\n\
         [provost]\nhttp = \"0.0.0.0:80\"\n[nats]\ntoken = \"t\"\n",
    )
    .warnings(&[
        "a.toml:3:1: agent_types.w.restart.period: stop.grace 10s times intensity 6 reaches period 60s: an agent that has to be killed can never exceed the limit; lengthen the period",
        "a.toml:8:8: provost.http: the HTTP server will be reachable from other machines, and it asks nobody who they are",
        "a.toml:10:9: nats.token: has no effect: without nats.url an embedded server with credentials of its own is started",
    ]);
}

#[test]
fn a_group_whose_stops_outlast_the_window_is_a_warning() {
    let group = "[supervisors.t]\nstrategy = \"one_for_all\"\nchildren = [\"a\", \"b\"]\n";
    let types = "[agent_types.w]\ncommand = [\"true\"]\n";
    Bench::file(&format!("{types}{}{}{group}", agent("a"), agent("b"))).warnings(&[
        "a.toml:9:14: supervisors.t.period: stopping a sibling takes up to 10s, times intensity 10 reaches period 60s: while siblings have to be killed the limit can never be exceeded; lengthen the period",
    ]);
}

#[test]
fn validate_reports_faults_and_warnings_as_data() {
    let bench = Bench::file("[provost]\nhttp = \"[::]:1\"\n");
    let report = validate(&[bench.dir.path().join("a.toml")], &bench.environment());
    assert!(report.valid && report.faults.is_empty());
    assert_eq!(report.warnings.len(), 1);
    let report = validate(&[PathBuf::from("none.toml")], &bench.environment());
    assert!(!report.valid);
    assert_eq!(serde_json::to_value(&report).unwrap()["faults"][0]["place"], "none.toml");
}
