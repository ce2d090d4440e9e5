//! HCL files: the same settings as in TOML, their habits, and their faults with file and line.

use std::time::Duration;

use provost::config::DownstreamAuth;
use provost::config::DownstreamKind;

use crate::config::Bench;

const INTEGRATIONS: &str = r#"
provost {
  node = "desk"
}

agent_type "worker" {
  command = ["sleep", "5"]
  env     = { TOKEN = env.TOKEN, PLAIN = "${env.PLAIN:-none}" }
  restart {
    type      = "transient"
    intensity = 3
  }
}

agent "w1" {
  type = "worker"
}

integration "backend_api" {
  type = "json-rpc"
  endpoint {
    address = "https://api.example.com"
    path    = "/rpc"
  }
  auth {
    type  = "bearer"
    token = "${env.TOKEN}"
  }
  resilience {
    timeout = "10s"
    retry {
      max_attempts = 4
      backoff      = "exponential"
    }
    circuit_breaker {
      failure_threshold = 7
      success_threshold = 3
      timeout           = "12s"
    }
  }
}

integration "notices" {
  type = "mqtt"
  endpoint {
    address = "127.0.0.1"
    port    = 1883
    tls     = false
  }
  config {
    client_id  = "desk-1"
    keep_alive = 45
  }
}
"#;

#[test]
fn blocks_and_habits_of_hcl_give_the_same_settings_as_toml() {
    let loaded = Bench::new(&[("a.hcl", INTEGRATIONS)]).env("TOKEN", "t0p").loaded();
    let config = &loaded.config;
    assert_eq!(config.provost.node.as_str(), "desk");
    assert_eq!(config.agents_list[0].name.as_str(), "w1");
    let api = config.downstreams.iter().find(|(name, _)| name.as_str() == "backend_api").unwrap().1;
    assert_eq!(api.kind, DownstreamKind::JsonRpc);
    assert_eq!(api.resilience.timeout, Duration::from_secs(10));
    assert_eq!(api.resilience.retry.max_attempts, 4);
    assert_eq!(api.resilience.breaker.failure_threshold, Some(7));
    assert_eq!(api.resilience.breaker.open_for, Duration::from_secs(12));
    assert!(matches!(&api.auth, DownstreamAuth::Bearer(token) if token.reveal() == "t0p"));
    assert_eq!(api.origin.as_deref(), Some("a.hcl:19"));
    let events = config.downstreams.iter().find(|(name, _)| name.as_str() == "notices").unwrap().1;
    assert_eq!(events.kind, DownstreamKind::Mqtt);
    assert_eq!(events.client_id.as_deref(), Some("desk-1"));
    assert_eq!(events.keep_alive, Duration::from_secs(45));
    assert_eq!(events.endpoint.port, Some(1883));
}

#[test]
fn a_toml_file_may_go_before_an_hcl_file() {
    let over = "[downstreams.notices.config]\nkeep_alive = \"9s\"\n";
    let bench = Bench::new(&[("a.hcl", INTEGRATIONS), ("b.toml", over)]).env("TOKEN", "x");
    let loaded = bench.loaded();
    let events =
        loaded.config.downstreams.iter().find(|(name, _)| name.as_str() == "notices").unwrap().1;
    assert_eq!(events.keep_alive, Duration::from_secs(9));
    assert_eq!(events.kind, DownstreamKind::Mqtt);
}

#[test]
fn faults_name_the_line_of_the_hcl_file() {
    let text = "agent_type \"w\" {\n  comand = [\"x\"]\n  slots = 1 + 1\n}\nagent \"a\" \"b\" {\n  \
                type = \"w\"\n}\nintegration \"d\" {\n  type = \"http\"\n  endpoint {\n    address = \
                \"http://x.example\"\n  }\n  resilience {\n    retry {\n      backoff = \"linear\"\n    }\n    \
                circuit_breaker {\n      timeout = \"1s\"\n      open_for = \"2s\"\n    }\n  }\n}\n";
    Bench::new(&[("a.hcl", text)]).faults(&[
        "a.hcl:2:3: agent_types.w.comand: unknown key (did you mean `command`?)",
        "a.hcl:3:11: slots: is an expression; write a literal, \"${env.NAME}\" or env.NAME",
        "a.hcl:5:1: agent: has 2 labels; it takes 1",
        "a.hcl:15:17: downstreams.d.resilience.retry.backoff: unknown (value \"linear\"; allowed \"exponential\", \"constant\")",
        "a.hcl:18:7: downstreams.d.resilience.circuit_breaker.timeout: says the same as open_for; leave one of them out",
    ]);
}
