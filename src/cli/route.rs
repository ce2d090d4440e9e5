//! `provost route test`: who would get a task, and what stands against the others.

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::human::one_line;
use crate::cli::output::{Item, Page, Table, value_of};
use crate::cli::session::{Session, WAIT};
use crate::cli::system::without;
use crate::cli::work_arguments::RouteTestArguments;
use crate::protocol::command::ControlCommand;
use crate::protocol::route::{Against, RouteAnswer, RouteQuery};

/// Asks and shows all candidates. The exit code is 1 when nobody would be picked.
///
/// # Errors
///
/// The question is out of its bounds, no answer came, or the daemon refused.
pub(crate) async fn test(
    session: &mut Session<'_>,
    arguments: RouteTestArguments,
) -> Result<Exit, Failure> {
    let query = RouteQuery {
        required_capabilities: arguments.capabilities,
        condition: arguments.condition,
        strategy: arguments.strategy,
        participants: arguments.participants,
        sticky_key: arguments.sticky_key,
        avoid: arguments.avoid,
    };
    query.check().map_err(|fault| {
        let next = "add --help to see what can be asked";
        Failure::new(Fault::Usage, fault.to_string(), next)
    })?;
    let answer = session.ask_system(&ControlCommand::Route(query), WAIT).await?;
    let Some(route) = &answer.route else { return without(session, &answer, "route") };
    let mut items = Vec::new();
    for candidate in &route.candidates {
        items.push(Item { name: candidate.name.to_string(), value: value_of(candidate)? });
    }
    let page = Page { document: value_of(&answer)?, items, text: lines(route)? };
    page.print(&mut session.console, session.format)?;
    Ok(if route.picked.is_empty() { Exit::Bad } else { Exit::Done })
}

fn lines(route: &RouteAnswer) -> Result<Vec<String>, Failure> {
    let mut table = Table::new(&["AGENT", "PICKED", "SCORE", "TASKS", "WEIGHT", "AGAINST"]);
    for candidate in &route.candidates {
        let picked = if candidate.picked { "yes" } else { "" };
        let score = candidate.score.map_or_else(String::new, |score| format!("{score:.2}"));
        let tasks = format!("{}/{}", candidate.inflight, candidate.slots);
        let against: Vec<String> = candidate.against.iter().map(in_words).collect();
        table.row(vec![
            candidate.name.as_str().into(),
            picked.into(),
            score.as_str().into(),
            tasks.as_str().into(),
            candidate.weight.to_string().as_str().into(),
            against.join(", ").as_str().into(),
        ]);
    }
    let mut lines = vec![summary(route)?];
    lines.extend(table.lines());
    Ok(lines)
}

/// One line about the decision, such as `round_robin: picked w1 (agent_picked)`.
fn summary(route: &RouteAnswer) -> Result<String, Failure> {
    let picked: Vec<&str> = route
        .candidates
        .iter()
        .filter(|candidate| candidate.picked)
        .map(|candidate| candidate.name.as_str())
        .collect();
    let reason = value_of(&route.decision.reason)?;
    let reason = reason.as_str().unwrap_or_default();
    let can = route.candidates.iter().filter(|candidate| candidate.score.is_some()).count();
    let (strategy, all) = (route.strategy.as_str(), route.candidates.len());
    let picked = if picked.is_empty() { "nobody".to_owned() } else { picked.join(", ") };
    Ok(format!("{strategy}: {picked} of {can} that can, of {all} agents ({reason})"))
}

fn in_words(against: &Against) -> String {
    match against {
        Against::NotNamed => "not among the participants".to_owned(),
        Against::LacksCapability { capability } => format!("lacks {}", one_line(capability)),
        Against::ConditionNotMet { term } => format!("does not meet {}", one_line(term)),
        Against::NotRoutable { standing } => standing.as_str().replace('_', " "),
        Against::TakesNoTasks => "takes no tasks".to_owned(),
        Against::Full => "full".to_owned(),
        Against::Avoided => "to be avoided".to_owned(),
        Against::KeyHeldByAnother => "another has the key".to_owned(),
    }
}
