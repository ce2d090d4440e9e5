//! Whatever stands in files or variables, loading answers and does not panic.

use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_assert, proptest};

use crate::config::Bench;

/// Text that is nearly a configuration: real keys, odd values.
fn nearly_toml() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "[agents]",
        "[[agent]]",
        "[nats]",
        "[agent_types.w]",
        "[supervisors.a]",
        "[downstreams.d]",
        "max",
        "name",
        "type",
        "command",
        "children",
        "restart",
        "=",
        "= 1",
        "= \"a\"",
        "= [\"a\"]",
        "= {",
        "}",
        "= nan",
        "${env.X}",
        "= \"${file:/}\"",
        "\n",
        "\n",
        "\n",
        ".",
        "[",
        "]",
        "\"",
        "'''",
        "= 1e400",
        "= -9223372036854775809",
        "= 1979-05-27T07:32:00Z",
        "\u{feff}",
        "\u{0}",
        "#",
        "url",
        "streams.X",
        "probes",
        "intensity",
        "\"a.b\"",
        "é",
    ]);
    prop::collection::vec(words, 0..60).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_loader_panic(text in any::<String>(), more in nearly_toml(), value in any::<String>()) {
        let bench = Bench::new(&[("a.toml", &text), ("b.toml", &more)])
            .env("PROVOST__AGENTS", &value)
            .env("PROVOST__AGENT__X__Y", &value)
            .env("NATS_URL", &value);
        if let Err(faults) = bench.load() {
            prop_assert!(!faults.is_empty());
        }
    }

    #[test]
    fn no_line_of_real_keys_makes_the_loader_panic(one in nearly_toml(), two in nearly_toml()) {
        if let Err(faults) = Bench::new(&[("a.toml", &one), ("b.toml", &two)]).load() {
            prop_assert!(!faults.is_empty());
        }
    }

    #[test]
    fn no_bytes_make_the_loader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bench = Bench::file("");
        std::fs::write(bench.dir.path().join("a.toml"), &bytes).unwrap();
        if let Err(faults) = bench.load() {
            prop_assert!(!faults.is_empty());
        }
    }
}
