//! Layers, interpolation and secrets: who wins, what is replaced, what is never shown.

use std::path::PathBuf;

use provost::config::{EnvValue, NatsAuth, ShowOrigin};

use crate::config::{Bench, agent_id, shown};

#[test]
fn later_files_go_before_earlier_ones_and_agents_are_merged_by_name() {
    let one = "[agents]\nmax = 3\n[agent_types.w]\ncommand = [\"a\", \"b\"]\nenv = { A = \"1\", B = \"1\" }\n\
               [[agent]]\nname = \"x\"\ntype = \"w\"\nargs = [\"1\"]\n[[agent]]\nname = \"y\"\ntype = \"w\"\n";
    let two = "[agents]\nmax = 4\n[agent_types.w]\ncommand = [\"c\"]\nenv = { B = \"2\" }\n\
               [[agent]]\nname = \"z\"\ntype = \"w\"\n[[agent]]\nname = \"x\"\nargs = [\"2\"]\n";
    let loaded = Bench::new(&[("one.toml", one), ("two.toml", two)]).loaded();
    let config = &loaded.config;
    assert_eq!(config.agents.max, 4);
    let worker = config.agent_types.values().next().unwrap();
    assert_eq!(worker.command, ["c"]);
    assert_eq!((worker.env["A"].value.as_str(), worker.env["B"].value.as_str()), ("1", "2"));
    assert_eq!(worker.origin.as_deref(), Some("one.toml:3"));
    let names: Vec<&str> = config.agents_list.iter().map(|agent| agent.name.as_str()).collect();
    assert_eq!(names, ["x", "y", "z"]);
    assert_eq!(config.agents_list[0].args, ["2"]);
    let shown = shown(&loaded);
    assert_eq!(shown["agents.max"], (Some(4.into()), "two.toml:2".to_owned()));
    assert_eq!(shown["agent_types.w.env.A"].1, "one.toml:5");
    assert_eq!(shown["agent_types.w.env.B"].1, "two.toml:5");
    assert_eq!(shown["agents.allow_undeclared"], (Some(false.into()), "default".to_owned()));
}

#[test]
fn flags_go_before_the_environment_and_that_before_files() {
    let file = "[provost]\nnode = \"file\"\nstate_dir = \"f\"\n[agents]\nmax = 1\n[nats]\nurls = [\"file\"]\n";
    let mut bench = Bench::file(file)
        .env("PROVOST__PROVOST__NODE", "42")
        .env("PROVOST__AGENTS", "{ max = 7 }")
        .env("PROVOST__AGENTS__ALLOW_UNDECLARED", "true")
        .env("PROVOST__PROVOST__STATE_DIR", "e")
        .env("NATS_URL", "nats://env:4222");
    let config = bench.loaded().config;
    assert_eq!(config.provost.node.as_str(), "42");
    assert_eq!(config.agents.max, 7);
    assert!(config.agents.allow_undeclared);
    assert_eq!(config.provost.state_dir, bench.dir.path().join("e"));
    assert_eq!(format!("{:?}", config.nats.target), "Servers([\"nats://env:4222\"])");
    bench.overrides.state_dir = Some(PathBuf::from("g"));
    bench.overrides.nats_url = Some("flag:1".to_owned());
    let loaded = bench.loaded();
    assert_eq!(loaded.config.provost.state_dir, bench.dir.path().join("g"));
    assert_eq!(format!("{:?}", loaded.config.nats.target), "Servers([\"flag:1\"])");
    assert_eq!(loaded.origins.of("nats.url").short(), "flag:--nats-url");
    assert_eq!(loaded.origins.of("provost.node").short(), "env:PROVOST__PROVOST__NODE");
}

#[test]
fn faults_of_the_environment_and_of_flags_name_variable_and_flag() {
    let mut bench = Bench::file("[agents]\nmax = 3\n")
        .env("PROVOST__AGENTS__MAX", "many")
        .env("PROVOST__AGNTS__MAX", "3")
        .env("PROVOST__", "3")
        .env("ENABLE_SUPERVISION", "yes")
        .env("ENABLE_ADVANCED_ROUTING", "1")
        .env("NATS_URL", "ws://x");
    bench.overrides.http = Some("nowhere".to_owned());
    bench.faults(&[
        "env:ENABLE_ADVANCED_ROUTING: routing.enabled: advanced routing needs coordination; set coordination.enabled or ENABLE_COORDINATION, or switch routing off",
        "env:ENABLE_SUPERVISION: supervision.enabled: not a switch (value \"yes\"; allowed true, false, 1, 0, on, off, or unset)",
        "env:NATS_URL: nats.url: has the scheme \"ws\"; use nats or tls; write it like nats://127.0.0.1:4222 (value \"ws://x\")",
        "env:PROVOST__: names no key; write PROVOST__SECTION__KEY",
        "env:PROVOST__AGENTS__MAX: agents.max: must be a whole number (value \"many\"; allowed 1..=100000)",
        "env:PROVOST__AGNTS__MAX: agnts: unknown key (did you mean `agents`?)",
        "flag:--http: provost.http: is no address to listen on (value \"nowhere\"; allowed address:port such as 127.0.0.1:0, or off)",
    ]);
}

#[test]
fn switches_of_the_environment_win_over_files_and_empty_ones_are_unset() {
    let file = "[supervision]\nenabled = true\n[coordination]\nenabled = true\n";
    let bench = Bench::file(file).env("ENABLE_SUPERVISION", "off").env("ENABLE_COORDINATION", "");
    let flags: Vec<(&str, bool, String)> = bench
        .loaded()
        .flags()
        .into_iter()
        .map(|state| (state.flag, state.value, state.origin))
        .collect();
    let expected = [
        ("ENABLE_SUPERVISION", false, "env:ENABLE_SUPERVISION"),
        ("ENABLE_COORDINATION", true, "a.toml:4"),
        ("ENABLE_ADVANCED_ROUTING", false, "default"),
    ];
    assert_eq!(flags, expected.map(|(flag, on, origin)| (flag, on, origin.to_owned())));
}

#[test]
fn credentials_of_the_environment_replace_those_of_a_file() {
    let file = "[nats]\nurl = \"h\"\nuser = \"u\"\npassword = \"p\"\n";
    let config = Bench::file(file).env("NATS_CREDS", "a.toml").loaded().config;
    assert!(matches!(config.nats.auth, NatsAuth::CredentialsFile(_)), "{:?}", config.nats.auth);
    let two = Bench::file(file).env("NATS_CREDS", "a.toml").env("NATS_TOKEN", "t");
    two.faults(&[
        "env:NATS_CREDS: nats.creds: is given besides nats.token; give one kind of credentials",
    ]);
}

#[test]
fn a_nats_context_gives_what_nothing_above_it_says() {
    let bench = Bench::file("[nats]\ncontext = \"prod\"\nuser = \"mine\"\npassword = \"p\"\n");
    let folder = bench.dir.path().join("nats/context");
    std::fs::create_dir_all(&folder).unwrap();
    let context = r#"{"url":"nats://ctx:4222","token":"t","description":"d","tls_first":true}"#;
    std::fs::write(folder.join("prod.json"), context).unwrap();
    let home = bench.dir.path().to_string_lossy().into_owned();
    let bench = bench.env("XDG_CONFIG_HOME", &home);
    let loaded = bench.loaded();
    assert_eq!(format!("{:?}", loaded.config.nats.target), "Servers([\"nats://ctx:4222\"])");
    assert!(matches!(loaded.config.nats.auth, NatsAuth::UserPassword { .. }));
    assert!(loaded.origins.of("nats.url").short().starts_with("context:"));
    bench.env("NATS_CONTEXT", "other").env("NATS_URL", "h").faults(&[
        "env:NATS_CONTEXT: nats.context: cannot read the NATS context DIR/nats/context/other.json: No such file or directory (os error 2) (value \"other\")",
    ]);
}

#[test]
fn secrets_are_shown_nowhere() {
    let file = "[nats]\nurl = \"nats://u:sesame@h,nats://sesame@i\"\npassword = \"sesame\"\nuser = \"u\"\n\
                [agent_types.w]\ncommand = [\"true\"]\n\
                env = { PLAIN = \"${file:secret}\", API_TOKEN = \"sesame\", SEEN = \"seen\" }\n\
                [downstreams.d]\ntype = \"http\"\nendpoint = { address = \"http://u:sesame@h\" }\n\
                auth = { type = \"bearer\", token = \"sesame\" }\n\
                [[agent]]\nname = \"a\"\ntype = \"w\"\nenv = { DB_PASSWORD = \"sesame\" }\n";
    let mut bench = Bench::new(&[("a.toml", file), ("secret", "sesame\n")]);
    bench.files.truncate(1);
    let loaded = bench.loaded();
    let worker = loaded.config.agent_types.values().next().unwrap();
    assert_eq!(worker.env["PLAIN"].value, "sesame");
    assert_eq!(worker.env["SEEN"], EnvValue { value: "seen".to_owned(), secret: false });
    let shown = serde_json::to_string(&loaded.render(ShowOrigin::Yes)).unwrap();
    assert!(shown.contains("seen"));
    let debug = format!("{loaded:?}");
    for text in [shown, debug, format!("{:?}", bench.environment())] {
        assert!(!text.contains("sesame"), "{text}");
    }
    let spec = loaded.config.agent_spec(&loaded.config.agents_list[0], agent_id()).unwrap();
    assert_eq!(spec.secret_env, ["API_TOKEN", "DB_PASSWORD", "PLAIN"]);
}

#[test]
fn a_secret_in_a_command_line_is_refused() {
    let file = "[agent_types.w]\ncommand = [\"true\", \"${file:secret}\"]\n\
                [[agent]]\nname = \"a\"\ntype = \"w\"\nargs = [\"-p${file:secret}\"]\n";
    let mut bench = Bench::new(&[("a.toml", file), ("secret", "sesame\n")]);
    bench.files.truncate(1);
    bench.faults(&[
        "a.toml:2:20: agent_types.w.command[1]: a secret in a command line can be seen by every user of the machine; give it in env",
        "a.toml:6:9: agent[0].args[0]: a secret in a command line can be seen by every user of the machine; give it in env",
    ]);
}

#[test]
fn a_faulty_secret_is_not_told() {
    let file = "[nats]\ntoken = 12345\nnkey = \"SUsesame\"\nurl = \"h\"\n\
                [agent_types.w]\ncommand = [\"x\"]\ntimeout = \"${file:secret}\"\n";
    let mut bench = Bench::new(&[("a.toml", file), ("secret", "sesame\n")]);
    bench.files.truncate(1);
    let faults = bench.load().unwrap_err().join("\n");
    assert_eq!(faults.lines().count(), 3, "{faults}");
    assert!(!faults.contains("sesame") && !faults.contains("12345"), "{faults}");
}

#[test]
fn interpolated_text_may_stand_for_a_number() {
    let file = "[agents]\nmax = \"${env.MAX:-12}\"\nallow_undeclared = \"${env.ALLOW:-true}\"\n";
    assert_eq!(Bench::file(file).loaded().config.agents.max, 12);
    assert_eq!(Bench::file(file).env("MAX", "13").loaded().config.agents.max, 13);
    Bench::file("[agents]\nmax = \"12\"\n").faults(&[
        "a.toml:2:7: agents.max: must be a whole number (value \"12\"; allowed 1..=100000)",
    ]);
}
