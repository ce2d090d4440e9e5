//! One turn: what happened goes into the machine, and what it says is carried out, then told.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::actors::shell::{Shell, tell};
use crate::actors::supervisor::SupervisorMsg;
use crate::logic::restart::{Action, Input, Reply, Supervisor};
use crate::protocol::id::ChildName;

impl Shell {
    pub(in crate::actors::shell) fn feed(&mut self, input: Input, touched: Option<ChildName>) {
        let now = self.now();
        let jitter = self.ports.jitter.fraction();
        let Some(machine) = &mut self.machine else { return };
        let actions = machine.on_input(now, input, jitter);
        // The child itself, from the machine too, and one that is acted on in its wake.
        let mut all = Vec::with_capacity(4);
        all.extend(touched);
        self.carry_out(now, all, actions);
    }

    pub(in crate::actors::shell) fn carry_out(
        &mut self,
        now: Instant,
        mut touched: Vec<ChildName>,
        actions: Vec<Action>,
    ) {
        if let Some(machine) = &mut self.machine {
            touched.append(&mut machine.take_changed());
        }
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
                    self.show(now, &mut touched);
                    answer(answers);
                    return self.on_ended(exit, scope);
                }
            }
        }
        self.show(now, &mut touched);
        answer(answers);
        self.set_timer(now);
    }

    fn set_timer(&mut self, now: Instant) {
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
        let delay = at.saturating_duration_since(now).max(Duration::from_micros(1));
        let timer = self.myself.send_after(delay, move || SupervisorMsg::Deadline(number));
        self.timer = Some((at, timer));
    }
}

fn answer(answers: Vec<(oneshot::Sender<Reply>, Reply)>) {
    for (asker, reply) in answers {
        tell(asker, reply);
    }
}
