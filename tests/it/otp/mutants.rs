//! Would a wrong rule be noticed? The reference, `tests/oracle/otp_model.py`, can be told to break
//! one of 29 rules; for each, scenarios are recorded in which it then differs from OTP. Our
//! supervisor must agree with OTP in all of them, and so disagree with each broken rule.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{actors, machines, otp_actors, read};

/// The rules that are broken in turn.
const MUTANTS: &[&str] = &[
    "intensity_ge",
    "intensity_le",
    "window_excl",
    "window_reset",
    "count_all",
    "no_count_retry",
    "transient_shutdown_restarts",
    "permanent_normal_stops",
    "killed_is_clean",
    "temporary_restarted",
    "rest_all",
    "rest_excl_self",
    "stop_in_start_order",
    "start_reversed",
    "retry_all_rfo",
    "retry_rest_ofa",
    "keep_spec_temp",
    "sibling_auto",
    "any_only_normal",
    "all_counts_stopped",
    "terminate_auto",
    "terminate_restarts",
    "restart_moves_last",
    "dynamic_survive",
    "double_count",
    "init_leak",
    "ignore_drops",
    "max_reason_escalates",
    "limit_then_restart",
];

#[test]
fn each_broken_rule_is_noticed() {
    let (mut by_rules, mut by_actors) = (BTreeMap::new(), BTreeMap::new());
    for record in read("mutants.jsonl") {
        let name = record["mutant"].as_str().unwrap().to_owned();
        let (scenario, otp, wrong) = (&record["scenario"], &record["otp"], &record["wrong"]);
        assert_ne!(otp, wrong, "{name}: nothing to notice");
        let seen = |noticed: &mut BTreeMap<String, usize>, trace: Value| {
            assert_eq!(trace, *otp, "{name}: {scenario}");
            *noticed.entry(name.clone()).or_default() += 1;
        };
        seen(&mut by_rules, machines(scenario));
        let (_, changed) = otp_actors::expressible(scenario);
        if !changed {
            seen(&mut by_actors, actors(scenario));
        }
    }
    for mutant in MUTANTS {
        assert!(by_rules.contains_key(*mutant), "{mutant} is not noticed");
        // Only what concerns `ignore` cannot be told to actors.
        let told = by_actors.contains_key(*mutant) || *mutant == "ignore_drops";
        assert!(told, "{mutant} is not noticed with actors");
    }
    assert_eq!(MUTANTS.len(), 29);
    assert_eq!(by_rules.len(), 29);
}
