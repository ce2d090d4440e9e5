//! `provost alert`: what fires, and what is silenced.

use crate::cli::alert_arguments::{AlertVerb, SilenceArguments};
use crate::cli::colors::of_severity;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::human::{age, one_line, span};
use crate::cli::output::{Cell, Item, Page, Table, value_of};
use crate::cli::session::{Session, WAIT};
use crate::cli::system::without;
use crate::protocol::command::{Answer, ControlCommand, EmptyRequest, ErrorKind};
use crate::protocol::insight::{AlertList, AlertRequest, SilenceMatch, SilenceRequest};

/// Does a verb.
///
/// # Errors
///
/// No answer came, or the daemon refused.
pub(crate) async fn alert(session: &mut Session<'_>, verb: AlertVerb) -> Result<Exit, Failure> {
    match verb {
        AlertVerb::List(_) => list(session).await,
        AlertVerb::Silence(arguments) => {
            let command = ControlCommand::Silence(request(arguments));
            done(session, command, "silenced").await
        }
        AlertVerb::Unsilence(arguments) => {
            let command = |id| ControlCommand::Unsilence(AlertRequest { id });
            each(session, arguments.ids, (command, "silence ended")).await
        }
        AlertVerb::Resolve(arguments) => {
            let command = |id| ControlCommand::ResolveAlert(AlertRequest { id });
            each(session, arguments.ids, (command, "resolved")).await
        }
    }
}

fn request(arguments: SilenceArguments) -> SilenceRequest {
    let SilenceArguments { fingerprint, alert, scope, time, reason, .. } = arguments;
    let for_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    SilenceRequest { matches: SilenceMatch { alert, scope, fingerprint }, for_ms, reason }
}

async fn list(session: &mut Session<'_>) -> Result<Exit, Failure> {
    let answer = session.ask_system(&ControlCommand::Alerts(EmptyRequest {}), WAIT).await?;
    let Some(alerts) = &answer.alerts else { return without(session, &answer, "alerts") };
    let page = page(session, &answer, alerts)?;
    page.print(&mut session.console, session.format)?;
    let heard = alerts.firing.iter().any(|alert| alert.silenced_by.is_none());
    Ok(if heard { Exit::Bad } else { Exit::Done })
}

fn page(session: &Session<'_>, answer: &Answer, alerts: &AlertList) -> Result<Page, Failure> {
    let now = session.now();
    let mut items = Vec::new();
    let mut table = Table::new(&["FINGERPRINT", "SEVERITY", "ALERT", "SCOPE", "FOR", "SUMMARY"]);
    for alert in &alerts.firing {
        items.push(Item { name: alert.fingerprint.clone(), value: value_of(alert)? });
        let severity = Cell::styled(alert.severity.as_str(), of_severity(alert.severity));
        let silenced = if alert.silenced_by.is_some() { "silenced: " } else { "" };
        table.row(vec![
            alert.fingerprint.as_str().into(),
            severity,
            one_line(&alert.alert).into(),
            one_line(&alert.scope).into(),
            age(now, alert.since).into(),
            format!("{silenced}{}", one_line(&alert.summary)).into(),
        ]);
    }
    let mut text =
        if alerts.firing.is_empty() { vec!["no alert fires".to_owned()] } else { table.lines() };
    for silence in &alerts.silences {
        let matches = &silence.matches;
        let named = [
            ("alert", &matches.alert),
            ("scope", &matches.scope),
            ("fingerprint", &matches.fingerprint),
        ];
        let what: Vec<String> = named
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)))
            .collect();
        let left = silence.until.duration_since(now).as_millis();
        let left = u64::try_from(left).unwrap_or(0);
        text.push(one_line(&format!(
            "silence {} of {} for {}: {}",
            silence.id,
            what.join(", "),
            span(left),
            silence.reason
        )));
    }
    Ok(Page { document: value_of(answer)?, items, text })
}

async fn each(
    session: &mut Session<'_>,
    ids: Vec<String>,
    (command, said): (impl Fn(String) -> ControlCommand, &str),
) -> Result<Exit, Failure> {
    let mut exits = Vec::new();
    for id in ids {
        exits.push(done(session, command(id), said).await?);
    }
    Ok(Exit::together(&exits))
}

async fn done(
    session: &mut Session<'_>,
    command: ControlCommand,
    said: &str,
) -> Result<Exit, Failure> {
    let answer = session.ask_system(&command, WAIT).await?;
    if let Some(error) = &answer.error {
        let names =
            matches!(command, ControlCommand::Unsilence(_) | ControlCommand::ResolveAlert(_));
        let is_unknown = names && error.kind == ErrorKind::InvalidRequest;
        return match without(session, &answer, "result") {
            Ok(exit) => Ok(if is_unknown { Exit::NoSuchId } else { exit }),
            Err(mut failure) if is_unknown => {
                failure.exit = Exit::NoSuchId;
                if let Some(report) = &mut failure.report {
                    "provost alert list shows what there is".clone_into(&mut report.next);
                }
                Err(failure)
            }
            Err(failure) => Err(failure),
        };
    }
    let page = Page::single(said, value_of(&answer)?, vec![said.to_owned()]);
    page.print(&mut session.console, session.format)?;
    Ok(Exit::Done)
}
