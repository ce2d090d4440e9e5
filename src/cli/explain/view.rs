//! An explanation for people: five parts, each under its word.

use jiff::tz::TimeZone;

use crate::cli::colors::{FAINT, STRONG, of_severity};
use crate::cli::human::{age, clock_time, one_line};
use crate::logic::explain::{Explanation, Link};

/// Links of the chain that are shown; the first causes matter most, and the last.
const LINKS_MAX: usize = 12;

/// The lines of an explanation.
pub(crate) fn lines(told: &Explanation, zone: &TimeZone) -> Vec<String> {
    let since = told.since.map(|since| format!(" for {}", age(told.at, since)));
    let mut lines = vec![format!(
        "{STRONG}{}{STRONG:#}  {}{}",
        told.subject,
        told.state,
        since.unwrap_or_default()
    )];
    let mut part = |word: &str, text: &[String]| {
        for (index, line) in text.iter().enumerate() {
            let word = if index == 0 { word } else { "" };
            lines.push(format!("{STRONG}{word:<6}{STRONG:#} {}", one_line(line)));
        }
    };
    let mut why = vec![told.why.text.clone()];
    why.extend(told.why.more.iter().cloned());
    part("why", &why);
    let chain = chain(&told.why.chain, zone);
    for line in chain {
        lines.push(format!("       {line}"));
    }
    let mut part = |word: &str, text: &[String]| {
        for (index, line) in text.iter().enumerate() {
            let word = if index == 0 { word } else { "" };
            lines.push(format!("{STRONG}{word:<6}{STRONG:#} {}", one_line(line)));
        }
    };
    part("rule", &rule(told));
    part("next", std::slice::from_ref(&told.next.text));
    part("effect", &told.effect);
    let widest = told.steps.iter().map(|step| step.command.chars().count()).max().unwrap_or(0);
    let width = widest.min(44);
    let steps: Vec<String> =
        told.steps.iter().map(|step| format!("{:<width$}  {}", step.command, step.why)).collect();
    part("do", &steps);
    lines
}

fn rule(told: &Explanation) -> Vec<String> {
    let mut rules = Vec::new();
    let origin = told.rule.origin.as_ref().map(|origin| format!("  ({origin})"));
    if !told.rule.text.is_empty() || origin.is_some() {
        rules.push(format!("{}{}", told.rule.text, origin.unwrap_or_default()));
    }
    rules.extend(told.rule.exit_rule.as_ref().map(|rule| format!("exit rule: {rule}")));
    rules
}

fn chain(links: &[Link], zone: &TimeZone) -> Vec<String> {
    let shown = |(index, link): (usize, &Link)| {
        let arrow = if index == 0 { "  " } else { "← " };
        let arrow = if index == 0 { "" } else { arrow };
        let color = of_severity(link.severity);
        let time = clock_time(link.time, zone);
        format!(
            "{}{arrow}{FAINT}{time}{FAINT:#} {color}{}{color:#} {}",
            "  ".repeat(index.min(6)),
            one_line(&link.name),
            one_line(&link.text)
        )
    };
    let skipped = links.len().saturating_sub(LINKS_MAX);
    links.iter().enumerate().skip(skipped).map(shown).collect()
}
