//! `provost plan` and `provost apply`: what the configuration on disk changes in the running daemon.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::human::one_line;
use crate::cli::ops::arguments::{ApplyArguments, PlanArguments};
use crate::cli::output::{Format, Item, Page, value_of};
use crate::cli::session::Session;
use crate::cli::system::without;
use crate::protocol::command::{Answer, ControlCommand};
use crate::protocol::reload::{
    ChangeOf, ChangeOp, ConfigChange, ConfigPlan, Effect, ReloadRequest,
};

/// Wait for a reload: it may stop agents.
const LONG_WAIT: Duration = Duration::from_secs(60);

/// Shows what would change.
///
/// # Errors
///
/// No answer came, the configuration has faults, or the daemon has none to read.
pub(crate) async fn plan(
    session: &mut Session<'_>,
    arguments: &PlanArguments,
) -> Result<Exit, Failure> {
    let request = ReloadRequest { dry_run: true, ..ReloadRequest::default() };
    let answer = session.ask_system(&ControlCommand::Reload(request), LONG_WAIT).await?;
    let Some(plan) = &answer.plan else { return without(session, &answer, "plan") };
    show(session, &answer, plan)?;
    let pending = arguments.exit_code && !plan.changes.is_empty();
    Ok(if pending { Exit::Pending } else { Exit::Done })
}

/// Carries out what changes.
///
/// # Errors
///
/// As [`plan`]; the plan is stale; nobody can be asked and `--yes` is missing.
pub(crate) async fn apply(
    session: &mut Session<'_>,
    arguments: &ApplyArguments,
) -> Result<Exit, Failure> {
    let look =
        ReloadRequest { dry_run: true, plan: arguments.plan.clone(), ..ReloadRequest::default() };
    let answer = session.ask_system(&ControlCommand::Reload(look), LONG_WAIT).await?;
    let Some(plan) = &answer.plan else { return without(session, &answer, "plan") };
    if arguments.dry_run || plan.changes.is_empty() {
        show(session, &answer, plan)?;
        return Ok(if plan.changes.is_empty() { Exit::Done } else { Exit::Pending });
    }
    if !arguments.yes {
        if !std::io::stdin().is_terminal() || session.format != Format::Table {
            let message = format!(
                "{} wait to be applied and nobody can be asked",
                counted(plan.changes.len(), "change")
            );
            let next = "look at them with `provost plan`, then give --yes";
            return Err(Failure::new(Fault::Usage, message, next));
        }
        show(session, &answer, plan)?;
        session.console.flush()?;
        if !is_yes(&ask("Apply these changes? [y/N] ")?) {
            session.console.note("nothing was changed");
            return Ok(Exit::Done);
        }
    }
    let request = ReloadRequest {
        dry_run: false,
        plan: Some(plan.fingerprint.clone()),
        by: arguments.by.clone(),
        reason: arguments.reason.clone(),
    };
    let answer = session.ask_system(&ControlCommand::Reload(request), LONG_WAIT).await?;
    let Some(plan) = &answer.plan else { return without(session, &answer, "plan") };
    done(session, &answer, plan)
}

/// Shows what a reload has done. What is held makes it partial.
///
/// # Errors
///
/// The output cannot be written.
pub(crate) fn done(
    session: &mut Session<'_>,
    answer: &Answer,
    plan: &ConfigPlan,
) -> Result<Exit, Failure> {
    show(session, answer, plan)?;
    if plan.held().next().is_none() {
        return Ok(Exit::Done);
    }
    let held = counted(plan.held().count(), "change");
    session.console.warn(&format!("{held} held until the daemon is restarted"));
    Ok(Exit::Partial)
}

fn ask(question: &str) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::output(&error);
    let mut said = std::io::stderr();
    write!(said, "{question}").map_err(failed)?;
    said.flush().map_err(failed)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
    Ok(line)
}

fn is_yes(line: &str) -> bool {
    matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

fn show(session: &mut Session<'_>, answer: &Answer, plan: &ConfigPlan) -> Result<(), Failure> {
    let mut items = Vec::new();
    for change in &plan.changes {
        items.push(Item { name: change.name.clone(), value: value_of(change)? });
    }
    let page = Page { document: value_of(answer)?, items, text: lines(plan) };
    page.print(&mut session.console, session.format)?;
    for warning in &plan.warnings {
        session.console.warn(warning);
    }
    Ok(())
}

fn lines(plan: &ConfigPlan) -> Vec<String> {
    if plan.changes.is_empty() {
        return vec!["no changes: what is written is what runs".to_owned()];
    }
    let mut lines: Vec<String> = plan.changes.iter().map(line).collect();
    let count =
        |effect: Effect| plan.changes.iter().filter(|change| change.effect == effect).count();
    lines.push(format!(
        "{}: {} in place, {} by restarting children, {} by restarting the daemon",
        counted(plan.changes.len(), "change"),
        count(Effect::InPlace),
        count(Effect::RestartsChildren),
        count(Effect::RestartsDaemon)
    ));
    lines.push(if plan.done {
        "applied".to_owned()
    } else {
        format!("to apply exactly these: provost apply --plan {}", plan.fingerprint)
    });
    lines
}

fn line(change: &ConfigChange) -> String {
    let sign = match (change.op, change.effect) {
        (ChangeOp::Add, _) => "+",
        (ChangeOp::Remove, _) => "-",
        (ChangeOp::Change, Effect::InPlace) => "~",
        (ChangeOp::Change, Effect::RestartsChildren) => "-/+",
        (ChangeOp::Change, Effect::RestartsDaemon) => "!",
    };
    let what = match change.what {
        ChangeOf::Setting => "setting",
        ChangeOf::Agent => "agent",
        ChangeOf::Group => "group",
    };
    let mut line = format!("{sign:<3} {what} {}", one_line(&change.name));
    if let Some(key) = &change.key {
        line.push_str(&format!(" {}", one_line(key)));
    }
    if change.op == ChangeOp::Change {
        let value = |value: &Option<String>| {
            value.as_ref().map_or_else(|| "none".to_owned(), |value| one_line(value))
        };
        line.push_str(&format!(": {} -> {}", value(&change.from), value(&change.to)));
    }
    match change.effect {
        Effect::InPlace if change.op == ChangeOp::Change => line.push_str("  in place"),
        Effect::InPlace => {}
        Effect::RestartsChildren => {
            let names: Vec<&str> = change.restarts.iter().map(|name| name.as_str()).collect();
            line.push_str(&format!("  restarts {}", names.join(", ")));
        }
        Effect::RestartsDaemon => line.push_str("  needs a restart of the daemon"),
    }
    if let Some(why) = &change.why {
        line.push_str(&format!(": {}", one_line(why)));
    }
    if let Some(origin) = &change.origin {
        line.push_str(&format!("  ({})", one_line(origin)));
    }
    line
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::{Script, block_on, session};

    fn answer(done: &str) -> serde_json::Value {
        json!({"ok": true, "plan": {"fingerprint": "00ff", "files": ["p.toml"], "done": done == "done", "changes": [
            {"op": "add", "what": "agent", "name": "w3", "effect": "in_place", "origin": "p.toml:9"},
            {"op": "remove", "what": "agent", "name": "w1", "effect": "in_place"},
            {"op": "change", "what": "agent", "name": "w2", "key": "command", "from": "[\"a\"]", "to": "[\"b\"]",
             "effect": "restarts_children", "restarts": ["w2"], "why": "it is part of the agent's run"},
            {"op": "change", "what": "agent", "name": "w2", "key": "restart.intensity", "from": "5", "to": "9",
             "effect": "in_place"},
            {"op": "change", "what": "setting", "name": "nats.url", "from": "a", "to": "b",
             "effect": "restarts_daemon", "why": "the connection is set up when the daemon starts"}]}})
    }

    fn arguments() -> ApplyArguments {
        ApplyArguments {
            at: Default::default(),
            yes: true,
            dry_run: false,
            plan: None,
            reason: Some("more work".to_owned()),
            by: None,
        }
    }

    #[test]
    fn a_plan_tells_each_change_with_what_it_takes() {
        let script = Script::of([answer("planned")]);
        let (mut session, screen) = session(&script, Format::Table);
        let wanted = PlanArguments { at: Default::default(), exit_code: true };
        assert_eq!(block_on(plan(&mut session, &wanted)), Ok(Exit::Pending));
        insta::assert_snapshot!(screen.out(), @r#"
        +   agent w3  (p.toml:9)
        -   agent w1
        -/+ agent w2 command: ["a"] -> ["b"]  restarts w2: it is part of the agent's run
        ~   agent w2 restart.intensity: 5 -> 9  in place
        !   setting nats.url: a -> b  needs a restart of the daemon: the connection is set up when the daemon starts
        5 changes: 3 in place, 1 by restarting children, 1 by restarting the daemon
        to apply exactly these: provost apply --plan 00ff
        "#);
    }

    #[test]
    fn what_was_looked_at_is_what_is_applied_and_what_is_held_makes_it_partial() {
        let script = Script::of([answer("planned"), answer("done")]);
        let (mut session, screen) = session(&script, Format::Json);
        assert_eq!(block_on(apply(&mut session, &arguments())), Ok(Exit::Partial));
        let asked = script.asked();
        assert_eq!(asked[0].1, json!({"command": "reload", "dry_run": true}));
        let second = json!({"command": "reload", "plan": "00ff", "reason": "more work"});
        assert_eq!(asked[1].1, second);
        assert_eq!(screen.err(), "warning: 1 change held until the daemon is restarted\n");
    }

    #[test]
    fn without_yes_and_without_a_terminal_nothing_is_applied() {
        let script = Script::of([answer("planned")]);
        let (mut session, _) = session(&script, Format::Json);
        let failure = block_on(apply(&mut session, &ApplyArguments { yes: false, ..arguments() }))
            .unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(script.asked().len(), 1);
    }
}
