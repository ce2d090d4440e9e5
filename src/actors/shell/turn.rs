//! One turn: what happened goes into the machine, and what it says is carried out, then told.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::actors::shell::{Shell, tell};
use crate::actors::supervisor::SupervisorMsg;
use crate::logic::restart::{Action, Input, Note, Reply, Supervisor};
use crate::protocol::id::ChildName;

/// What was done and is still to be told. It is told before anything else is done.
#[derive(Debug)]
pub(in crate::actors::shell) struct Rest {
    now: Instant,
    touched: Vec<ChildName>,
    notes: Vec<Box<Note>>,
}

impl Shell {
    pub(in crate::actors::shell) fn feed(&mut self, input: Input, touched: Option<ChildName>) {
        let now = self.now();
        let jitter = self.ports.jitter.fraction();
        let Some(machine) = &mut self.machine else { return };
        let actions = machine.on_input(now, input, jitter);
        self.carry_out(now, touched.into_iter().collect(), actions);
    }

    pub(in crate::actors::shell) fn carry_out(
        &mut self,
        now: Instant,
        mut touched: Vec<ChildName>,
        actions: Vec<Action>,
    ) {
        self.tell_rest();
        if let Some(machine) = &mut self.machine {
            touched.extend(machine.take_changed());
        }
        let starts = actions.iter().any(|action| matches!(action, Action::Start { .. }));
        if starts && actions.iter().all(Action::is_quick) {
            self.start_first(now, touched, actions);
        } else {
            self.carry_out_in_order(now, touched, actions);
        }
    }

    /// Starts and stops at once what the machine says, so that a replacement does not wait until
    /// the failure is told; the rest is told by [`Shell::tell_rest`].
    fn start_first(&mut self, now: Instant, mut touched: Vec<ChildName>, actions: Vec<Action>) {
        let mut notes = Vec::new();
        for action in actions {
            match action {
                Action::Start { child, generation, trial: _ } => {
                    self.start(&child, generation);
                    touched.push(child);
                }
                Action::Stop { child, generation, shutdown } => {
                    self.stop(&child, generation, shutdown);
                    touched.push(child);
                }
                Action::Note(note) => notes.push(note),
                Action::Reply { .. } | Action::Ready | Action::Ended { .. } => {
                    debug_assert!(false, "what is quick is neither answer nor end");
                }
            }
        }
        self.rest = Some(Rest { now, touched, notes });
    }

    /// Whether something that was done is still to be told.
    pub(crate) fn owes_telling(&self) -> bool {
        self.rest.is_some()
    }

    /// Tells what was done before it was told.
    pub(crate) fn tell_rest(&mut self) {
        if self.owes_telling() {
            self.tell_without_timer();
            self.set_timer();
        }
    }

    /// As [`Shell::tell_rest`], for a supervisor that waits for nothing any more.
    pub(in crate::actors::shell) fn tell_without_timer(&mut self) {
        let Some(Rest { now, mut touched, notes }) = self.rest.take() else { return };
        for note in notes {
            self.tell(now, *note, &mut touched);
        }
        self.show(&mut touched);
    }

    fn carry_out_in_order(
        &mut self,
        now: Instant,
        mut touched: Vec<ChildName>,
        actions: Vec<Action>,
    ) {
        // Whoever is answered must find on the board what the answer says.
        let mut answers = Vec::new();
        for action in actions {
            match action {
                Action::Start { child, generation, trial: _ } => {
                    self.start(&child, generation);
                    touched.push(child);
                }
                Action::Stop { child, generation, shutdown } => {
                    self.stop(&child, generation, shutdown);
                    touched.push(child);
                }
                Action::Reply { call, reply } => {
                    answers.extend(self.settle(call, reply, &mut touched));
                }
                Action::Note(note) => self.tell(now, *note, &mut touched),
                Action::Ready => self.on_ready(),
                Action::Ended { exit, scope } => {
                    self.show(&mut touched);
                    answer(answers);
                    return self.on_ended(exit, scope);
                }
            }
        }
        self.show(&mut touched);
        answer(answers);
        self.set_timer();
    }

    fn set_timer(&mut self) {
        let wanted = self.machine.as_ref().and_then(Supervisor::deadline);
        if self.timer.as_ref().map(|(at, _)| *at) == wanted {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            timer.abort();
        }
        self.timers_set = self.timers_set.saturating_add(1);
        let Some(at) = wanted else { return };
        let number = self.timers_set;
        let delay = at.saturating_duration_since(self.now()).max(Duration::from_micros(1));
        let timer = self.myself.send_after(delay, move || SupervisorMsg::Deadline(number));
        self.timer = Some((at, timer));
    }
}

fn answer(answers: Vec<(oneshot::Sender<Reply>, Reply)>) {
    for (asker, reply) in answers {
        tell(asker, reply);
    }
}
