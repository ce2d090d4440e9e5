//! What the pages say.

/// What a page says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    /// Its kind on the wire, or where it comes from.
    pub(super) kind: &'static str,
    /// What it means.
    pub(super) meaning: &'static str,
    /// What causes it.
    pub(super) causes: &'static [&'static str],
    /// What to do.
    pub(super) steps: &'static [&'static str],
    /// What it looks like.
    pub(super) example: &'static str,
}

pub(super) const INVALID_REQUEST: Words = Words {
    kind: "invalid_request",
    meaning: "the request cannot be understood; nothing was done",
    causes: &[
        "the message is no JSON, or names an unknown command or field",
        "a value is out of its range",
    ],
    steps: &[
        "compare it with schema/agent.command.json or schema/system.control.json",
        "provost VERB --help shows what each command takes",
    ],
    example: "error[PV0101]: unknown field `agnet`, expected one of `agent`, `grace_ms`, `reason`",
};

pub(super) const UNKNOWN_AGENT_TYPE: Words = Words {
    kind: "unknown_agent_type",
    meaning: "no such agent type is declared",
    causes: &[
        "the name is misspelt",
        "the type stands in a file that the daemon was not started with",
    ],
    steps: &[
        "provost config show lists what is declared",
        "declare it under [agent_types.NAME] and start the daemon with that file",
    ],
    example: "error[PV0102]: no agent type \"wroker\"\n  next: did you mean \"worker\"?",
};

pub(super) const UNKNOWN_AGENT: Words = Words {
    kind: "unknown_agent",
    meaning: "there is no agent, or child, with that name or id",
    causes: &[
        "the name is misspelt",
        "it was removed",
        "it belongs to another daemon or subject prefix",
    ],
    steps: &[
        "provost list shows all agents",
        "provost events --for NAME shows whether there was one",
    ],
    example: "error[PV0103]: no agent named \"crucnher\"\n  next: did you mean \"cruncher\"?",
};

pub(super) const ALREADY_EXISTS: Words = Words {
    kind: "already_exists",
    meaning: "an agent with that name is there already",
    causes: &["the name was given twice", "an agent that was spawned earlier is still listed"],
    steps: &["choose another name with --name", "provost remove NAME takes the old one away"],
    example: "error[PV0104]: an agent named \"w1\" exists already",
};

pub(super) const POOL_FULL: Words = Words {
    kind: "pool_full",
    meaning: "the pool holds as many local agents as it may",
    causes: &["agents.max (10 by default) agents are there that are not stopped"],
    steps: &["stop or remove one that is not needed", "raise max under [agents]"],
    example: "error[PV0105]: the pool is full: 10 agents of at most 10 are there",
};

pub(super) const NOT_PERMITTED: Words = Words {
    kind: "not_permitted",
    meaning: "the caller may not do that",
    causes: &[
        "agents.allow_undeclared is off, and the command line is no declared type's",
        "the agent type does not permit what the spawn request adds",
        "starting commands over NATS is switched off",
    ],
    steps: &[
        "declare the command as an agent type",
        "permit the addition under spawn of that type",
        "ask whoever runs the daemon",
    ],
    example: "error[PV0106]: a command line that no type declares is refused",
};

pub(super) const WRONG_STATE: Words = Words {
    kind: "wrong_state",
    meaning: "the state of the agent, or of the daemon, does not allow it",
    causes: &[
        "it was asked to do what it is doing, or has done, already",
        "another command about the same agent is under way",
        "the daemon stops",
    ],
    steps: &["provost status AGENT shows its state", "provost explain AGENT shows why it is in it"],
    example: "error[PV0107]: agent \"w1\" is terminated",
};

pub(super) const UNAVAILABLE: Words = Words {
    kind: "unavailable",
    meaning: "a part of the daemon that is needed is away",
    causes: &[
        "NATS is away",
        "the part is being restarted",
        "coordination or supervision is switched off",
    ],
    steps: &[
        "provost status shows which part is away",
        "try again: what is away is restarted by itself",
    ],
    example: "error[PV0108]: the keeper is away; it is being started",
};

pub(super) const INTERNAL: Words = Words {
    kind: "internal",
    meaning: "a fault of provost",
    causes: &["a bug; the daemon goes on without harm"],
    steps: &["look at the daemon's log", "report it with the log"],
    example: "error[PV0109]: the supervisor did not answer",
};

pub(super) const USAGE: Words = Words {
    kind: "command line",
    meaning: "the command line cannot be understood; nothing was done",
    causes: &["a verb, a flag or a value is misspelt or missing", "two flags exclude each other"],
    steps: &["add --help to see how the command is used"],
    example: "error[PV0200]: unrecognized subcommand 'lst'\n  next: add --help to see how the command is used",
};

pub(super) const DAEMON_UNREACHABLE: Words = Words {
    kind: "command line",
    meaning: "no daemon was found, or none answers",
    causes: &[
        "no daemon runs",
        "it runs with another state folder, subject prefix or NATS server",
        "its `commands` part is being restarted",
    ],
    steps: &[
        "start it with `provost up -f FILE`",
        "say where it is with --state-dir, --nats-url or -f FILE, and --prefix",
        "provost explain NAME still works from stored events where NATS is there",
    ],
    example: "error[PV0201]: no daemon answers at nats://127.0.0.1:4222\n  cause: nobody listens on agent.command",
};

pub(super) const NATS_UNREACHABLE: Words = Words {
    kind: "command line",
    meaning: "the NATS server cannot be reached, or refuses us",
    causes: &[
        "the server is down, or its address is wrong",
        "credentials or TLS settings are wrong",
        "the embedded server ended with its daemon",
    ],
    steps: &[
        "check the address that the message names",
        "check user, token, creds or nkey",
        "start the daemon again: it brings its embedded server with it",
    ],
    example: "error[PV0202]: NATS at nats://127.0.0.1:4222 cannot be used\n  cause: connection refused",
};

pub(super) const CONFIG_INVALID: Words = Words {
    kind: "command line",
    meaning: "the configuration has faults; nothing was started",
    causes: &[
        "a key is unknown, a value out of range, a variable unset, or two settings contradict each other",
    ],
    steps: &[
        "correct the places that are named, all of them at once",
        "provost config validate -f FILE checks again",
        "provost explain KEY tells what a key means",
    ],
    example: "error[PV0203]: 1 fault in the configuration\n  cause: provost.toml:2:1: agents.mx: unknown key; did you mean `max`?",
};

pub(super) const TIMED_OUT: Words = Words {
    kind: "command line",
    meaning: "no answer came in time; what was asked for may still be done",
    causes: &[
        "the daemon is busy with what was asked for, such as stopping an agent with a long grace",
        "the way to it is slow or cut",
    ],
    steps: &["provost status shows how the daemon is", "wait longer with --timeout"],
    example: "error[PV0204]: no answer to agent.command within 10s at nats://127.0.0.1:4222",
};

pub(super) const BAD_ANSWER: Words = Words {
    kind: "command line",
    meaning: "an answer came that cannot be read",
    causes: &[
        "daemon and command line have different versions",
        "somebody else listens on our subject",
    ],
    steps: &[
        "compare `provost version` with what `provost status` says",
        "set a subject_prefix where several share a NATS account",
    ],
    example: "error[PV0205]: the daemon's answer cannot be read",
};

pub(super) const DAEMON_FAILED: Words = Words {
    kind: "command line",
    meaning: "the daemon could not start, or ended badly",
    causes: &[
        "another daemon has the state folder or the prefix",
        "a port or a file that it needs cannot be had",
        "no nats-server 2.12 or newer is there",
    ],
    steps: &[
        "read the causes: each names what is missing and what to do",
        "start it with --log info to see more",
    ],
    example: "error[PV0206]: the daemon could not start\n  cause: another daemon (pid 4001) uses this state folder",
};

pub(super) const OUTPUT_FAILED: Words = Words {
    kind: "command line",
    meaning: "standard output cannot be written, or the process lacks a resource",
    causes: &[
        "the disk is full, or the file it goes to cannot be written",
        "too many files are open",
    ],
    steps: &["check where the output goes: df -h", "check ulimit -n"],
    example: "error[PV0207]: standard output cannot be written\n  cause: No space left on device",
};

pub(super) const ADDRESS_UNREADABLE: Words = Words {
    kind: "command line",
    meaning: "a file that says where the daemon is cannot be used",
    causes: &[
        "nats.json in the state folder is damaged or not readable for this user",
        "the NATS context does not exist",
    ],
    steps: &[
        "use --nats-url instead, or run it as the daemon's user",
        "`nats context ls` shows the contexts there are",
    ],
    example: "error[PV0208]: nats.json cannot be read\n  cause: Permission denied",
};

pub(super) const NOT_STORED: Words = Words {
    kind: "command line",
    meaning: "what was asked for is not stored here",
    causes: &[
        "supervision or coordination is switched off, so that nothing is stored",
        "the NATS server has no JetStream, or our user may not read it",
    ],
    steps: &[
        "set enabled = true under [supervision] or [coordination]",
        "use a NATS server with JetStream",
        "provost events --watch shows what comes",
    ],
    example: "error[PV0209]: events are not stored here",
};

pub(super) const CALL_FAILED: Words = Words {
    kind: "command line",
    meaning: "the call of a downstream failed",
    causes: &[
        "the service failed, or answered with an error",
        "its circuit is open, its limits are reached, or the call took too long",
    ],
    steps: &[
        "provost explain downstream/NAME tells why it is out and until when",
        "provost downstream show NAME shows its counts",
    ],
    example: "error[PV0210]: circuit_open: next probe in 4s",
};

pub(super) const NO_SUCH_DOWNSTREAM: Words = Words {
    kind: "command line",
    meaning: "there is no such downstream",
    causes: &[
        "the name is misspelt",
        "it is not declared in the files that the daemon was started with",
    ],
    steps: &["provost downstream list shows those there are"],
    example: "error[PV0211]: no downstream \"backnd\"",
};

pub(super) const NOT_KEPT: Words = Words {
    kind: "command line",
    meaning: "that moment is older than the oldest event that is kept, or lies ahead",
    causes: &[
        "the stream keeps events for some days only (7 by default, or up to its size)",
        "nothing was stored yet then",
    ],
    steps: &[
        "choose a later moment: the message names the oldest",
        "raise max_age or max_bytes under [nats.streams.SUPERVISION]",
    ],
    example: "error[PV0212]: nothing is known of 2026-11-01T00:00:00Z: the oldest event that is kept is of 2026-11-14T09:00:00Z",
};

pub(super) const NO_SUCH_THING: Words = Words {
    kind: "command line",
    meaning: "nothing with that name is known, now or at that moment",
    causes: &["the name is misspelt", "it was not there at that moment, or it was removed"],
    steps: &[
        "provost tree shows all children, provost task list the tasks",
        "name what is meant: agent/NAME, downstream/NAME, task/ID, a configuration key, an error code",
    ],
    example: "error[PV0213]: nothing named \"crucnher\" is known",
};

pub(super) const RESOURCE_INVALID_REQUEST: Words = Words {
    kind: "invalid_request",
    meaning: "the request about a resource cannot be understood; nothing was done",
    causes: &[
        "the message is no JSON, or lacks `op` or `holder`",
        "an amount or a time is out of its range",
    ],
    steps: &["compare it with schema/resource.request.json"],
    example: "{\"ok\":false,\"error\":{\"code\":\"PV0301\",\"kind\":\"invalid_request\",\"message\":\"missing field `op`\"}}",
};

pub(super) const UNKNOWN_RESOURCE: Words = Words {
    kind: "unknown_resource",
    meaning: "no such resource is configured, and others are not allowed",
    causes: &[
        "the name is misspelt",
        "undeclared_resources under [coordination] refuses what is not declared",
    ],
    steps: &["declare it under [resources.NAME]"],
    example: "{\"ok\":false,\"error\":{\"code\":\"PV0302\",\"kind\":\"unknown_resource\",\"message\":\"no resource \\\"gpus\\\"\"}}",
};

pub(super) const EXHAUSTED: Words = Words {
    kind: "exhausted",
    meaning: "not enough of the resource is free, and the wait is over",
    causes: &["others hold it: a lock has one holder, a pool its size, a quota its rate"],
    steps: &[
        "ask again after `retry_after_ms`",
        "wait longer with wait_ms",
        "op status shows who holds it",
    ],
    example: "{\"ok\":false,\"error\":{\"code\":\"PV0303\",\"kind\":\"exhausted\",\"message\":\"0 of 2 are free\",\"retry_after_ms\":1200}}",
};

pub(super) const UNKNOWN_LEASE: Words = Words {
    kind: "unknown_lease",
    meaning: "there is no such lease: it was never given, or it has ended",
    causes: &[
        "it was not renewed within its ttl_ms",
        "its holder's run has ended, and the lease with it",
    ],
    steps: &["acquire it again, and renew it before half of its time is over"],
    example: "{\"ok\":false,\"error\":{\"code\":\"PV0304\",\"kind\":\"unknown_lease\",\"message\":\"no such lease\"}}",
};

pub(super) const NOT_HOLDER: Words = Words {
    kind: "not_holder",
    meaning: "somebody else holds the lease",
    causes: &["the `holder` of the request is not the one who acquired it"],
    steps: &["send the holder that was given to acquire"],
    example: "{\"ok\":false,\"error\":{\"code\":\"PV0305\",\"kind\":\"not_holder\",\"message\":\"w2 does not hold it\"}}",
};

pub(super) const RESOURCE_UNAVAILABLE: Words = Words {
    kind: "unavailable",
    meaning: "a part that resources need is away; ask again",
    causes: &["NATS is away, so that nothing can be made durable"],
    steps: &["ask again; nothing was given"],
    example: "{\"ok\":false,\"error\":{\"code\":\"PV0306\",\"kind\":\"unavailable\",\"message\":\"the store is away\"}}",
};

pub(super) const RESOURCE_INTERNAL: Words = Words {
    kind: "internal",
    meaning: "a fault of provost",
    causes: &["a bug; nothing was given"],
    steps: &["look at the daemon's log, and report it"],
    example: "{\"ok\":false,\"error\":{\"code\":\"PV0307\",\"kind\":\"internal\",\"message\":\"the store holds nonsense\"}}",
};
