//! Error codes: every one that stands in the code has a page, and `docs/errors.md` is those pages.

use std::collections::BTreeSet;
use std::fs;

use super::{check_failure, home, out, typed};
use crate::tidy::{files_under, root, source_root};

/// Codes that stand in a text.
fn codes_in(text: &str) -> BTreeSet<String> {
    let places = text.match_indices("PV").map(|(at, _)| at);
    let code = |at: usize| {
        let code = text.get(at..at + 6)?;
        let digits = code.strip_prefix("PV")?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| code.to_owned())
    };
    places.filter_map(code).collect()
}

#[test]
fn every_code_has_a_page_and_the_document_is_up_to_date() {
    let reference = provost::cli::error_reference();
    let place = root().join("docs/errors.md");
    if std::env::var_os("PROVOST_BLESS").is_some_and(|value| value == "1") {
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, &reference).unwrap();
    }
    let kept = fs::read_to_string(&place).unwrap_or_default();
    assert!(kept == reference, "docs/errors.md is old: PROVOST_BLESS=1 cargo test every_code");
    let paged: BTreeSet<String> =
        reference.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    let mut missing = BTreeSet::new();
    for path in files_under(&source_root(), &["rs"]) {
        let text = fs::read_to_string(&path).unwrap();
        // Codes that tests make up have no page.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_test = path.file_stem().is_some_and(|stem| stem == "verbs" || stem == "testing");
        if !is_test {
            missing.extend(codes_in(code).into_iter().filter(|code| !paged.contains(code)));
        }
    }
    assert!(missing.is_empty(), "codes without a page: {missing:?}");
    assert!(paged.len() > 25, "{paged:?}");
}

#[test]
fn a_code_is_explained_without_a_daemon() {
    let home = home();
    for line in ["error PV0105", "explain pv0105"] {
        let output = typed(home.path(), line);
        assert_eq!(output.status.code(), Some(0), "{line}");
        assert!(out(&output).starts_with("PV0105  pool_full (exit code 6)\n"), "{}", out(&output));
    }
    let document: serde_json::Value =
        serde_json::from_str(&out(&typed(home.path(), "error PV0105 -o json"))).unwrap();
    assert_eq!(document["do"][1], "raise max under [agents]");
    assert!(out(&typed(home.path(), "error -o name")).lines().count() > 25);
    let unknown = typed(home.path(), "error PV0999");
    check_failure(
        &unknown,
        4,
        &["error[PV0200]: no error has the code \"PV0999\"", "provost error"],
    );
}

#[test]
fn a_setting_is_explained_with_its_value_and_the_line_it_was_written_in() {
    let home = home();
    fs::write(home.path().join("p.toml"), "[agents]\n\nmax = 7\n").unwrap();
    let said = out(&typed(home.path(), "explain agents.max -f p.toml"));
    assert!(said.contains("value   agents.max = 7  (p.toml:3)"), "{said}");
    assert!(said.contains("default 10"), "{said}");
    let output = typed(home.path(), "explain agents.maxx");
    check_failure(
        &output,
        4,
        &["error[PV0213]: agents has no key \"maxx\"", "did you mean \"max\"?"],
    );
}
