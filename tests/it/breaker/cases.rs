//! Holds `cases.md` to the truth: each test it names exists, each case without one has its reason.

use crate::cases::functions;
use crate::tidy::root;

/// Suites whose cases the table must have.
const SUITES: [&str; 8] = [
    "cep21/circuit",
    "resilience4j",
    "gobreaker",
    "Polly",
    "Hystrix",
    "opossum",
    "linkerd",
    "tower-resilience",
];

/// Shortest reason that says something.
const REASON_LEAST: usize = 30;

#[test]
fn every_case_of_another_breaker_names_a_test_that_exists_or_its_reason() {
    let text = std::fs::read_to_string(root().join("tests/it/breaker/cases.md")).unwrap();
    let functions = functions();
    let mut faults = Vec::new();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| theirs"));
    let mut count = 0;
    for row in rows {
        count += 1;
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [case, here] = cells.as_slice() else {
            faults.push(format!("{row}: two columns are needed"));
            continue;
        };
        match here.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
            Some(test) if !functions.contains(test) => {
                faults.push(format!("{case}: there is no test {test}"));
            }
            Some(_) => {}
            None if here.len() < REASON_LEAST => faults.push(format!("{case}: no reason is given")),
            None => {}
        }
    }
    for suite in SUITES {
        if !text.contains(&format!("## {suite}")) {
            faults.push(format!("{suite} is missing"));
        }
    }
    assert_eq!(faults, Vec::<String>::new());
    assert!(90 < count, "only {count} cases");
}
