//! Calls under way: who asked, which child a call adds or forgets, and the answer.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::actors::shell::show::{Listing, face};
use crate::actors::shell::{MadeFor, Shell};
use crate::actors::tree::{Body, DynamicChildren, Node, lock};
use crate::logic::restart::{Call, CallId, Input, Refusal, Reply};
use crate::protocol::id::ChildName;
use crate::protocol::spec::{ChildSpec, SupervisorSpec};

/// A call that waits for its answer.
#[derive(Debug)]
pub(in crate::actors::shell) struct Pending {
    reply: oneshot::Sender<Reply>,
    /// The child that the call is about.
    about: Option<ChildName>,
    /// The child that the call would add.
    added: Option<Node>,
    /// The same for a child that is there already: it may be gone when the call's turn comes.
    spare: Option<Node>,
    /// The child that the call would forget.
    deleted: Option<ChildName>,
    /// The rules of a child, and what it is from its next run on if that changes.
    replaced: Option<(Arc<ChildSpec>, Option<Body>)>,
    /// What the supervisor itself goes by from now on.
    rules: Option<SupervisorSpec>,
}

impl Shell {
    /// Somebody asks for something.
    pub(crate) fn on_call(
        &mut self,
        request: Call,
        node: Option<Node>,
        why: String,
        reply: oneshot::Sender<Reply>,
    ) {
        let child = child_of(&request).cloned();
        let about = child.clone();
        let mut pending = Pending {
            reply,
            about,
            added: None,
            spare: None,
            deleted: None,
            replaced: None,
            rules: None,
        };
        match (&request, node) {
            (Call::StartChild(spec) | Call::IntroduceChild(spec), Some(node)) => {
                let waits = self.is_being_added(&spec.name);
                let new = self.view(&spec.name).is_none();
                // Whoever asked first brings the body; the others wait for his answer.
                if new && !waits {
                    self.adopt(node.clone(), Listing::Later);
                }
                let used = self.ports.runs.last(&spec.name);
                if let Some(machine) = &mut self.machine {
                    machine.raise_generation(&spec.name, used);
                }
                let place = if new || waits { &mut pending.added } else { &mut pending.spare };
                *place = Some(node);
            }
            (Call::DeleteChild(name), _) => pending.deleted = Some(name.clone()),
            (Call::ReconfigureChild(spec), node) => {
                pending.replaced = Some((Arc::new(spec.clone()), node.map(|node| node.body)));
            }
            (Call::Reconfigure(spec), _) => pending.rules = Some(spec.clone()),
            _ => {}
        }
        if let Some(child) = &child {
            self.announcer.requested(child, &why);
        }
        self.calls_made = self.calls_made.saturating_add(1);
        let call = CallId(self.calls_made);
        self.calls.insert(call, pending);
        self.feed(Input::Call { call, request }, child);
    }

    /// Whether a call that waits would add the child.
    pub(in crate::actors::shell) fn is_being_added(&self, child: &ChildName) -> bool {
        self.adding(child).is_some()
    }

    fn adding(&self, child: &ChildName) -> Option<&Node> {
        let added = self.calls.values().filter_map(|pending| pending.added.as_ref());
        added.into_iter().find(|node| node.spec.name == *child)
    }

    /// A child is started that has ended for good since a call asked to add it once more: now the
    /// call adds it.
    pub(in crate::actors::shell) fn adopt_spare(&mut self, child: &ChildName) {
        let found = self.calls.values_mut().find_map(|pending| {
            let node = pending.spare.take_if(|node| node.spec.name == *child)?;
            pending.added = Some(node.clone());
            Some(node)
        });
        if let Some(node) = found {
            self.adopt(node, Listing::Later);
        }
    }

    /// Does what follows from an answer, and gives it back with whom to tell.
    pub(in crate::actors::shell) fn settle(
        &mut self,
        call: CallId,
        reply: Reply,
        touched: &mut Vec<ChildName>,
    ) -> Option<(oneshot::Sender<Reply>, Reply)> {
        let pending = self.calls.remove(&call)?;
        // The answer may be all that tells of a change: a call that finds its run ended already
        // needs no action.
        touched.extend(pending.about);
        if let Some(added) = pending.added.map(|node| node.spec.name.clone()) {
            match &reply {
                Reply::Ok | Reply::Undefined => self.keep_added(&added),
                Reply::Refused(refusal) => self.give_up_added(&added, refusal),
            }
            touched.push(added);
        }
        let done = !matches!(reply, Reply::Refused(_));
        if let Some(deleted) = pending.deleted.filter(|_| done) {
            self.forget(&deleted);
        }
        if let Some((spec, body)) = pending.replaced.filter(|_| done) {
            self.replace(spec, body);
        }
        if let Some(rules) = pending.rules.filter(|_| done) {
            self.go_by(rules);
        }
        Some((pending.reply, reply))
    }

    /// A child has other rules, or is something else from its next run on; the present run goes on.
    fn replace(&mut self, spec: Arc<ChildSpec>, body: Option<Body>) {
        let name = spec.name.clone();
        let Some(kid) = self.kids.get_mut(&name) else { return };
        if let Some(body) = body {
            // The worker between two runs would begin the next one of what it was made for.
            kid.idle = None;
            if kid.live.is_some() {
                kid.made_for = MadeFor::Former;
            }
            kid.body = body;
            if let Some(agent) = kid.agent().cloned() {
                self.ports.board.update(&name, |entry| entry.agent = Some(face(&agent)));
            }
        }
        if kid.listed {
            let node = Node { spec, body: kid.body.clone() };
            let mut tree = lock(&self.tree);
            self.forgotten.clear(&mut tree);
            if let Some(listed) = tree.children.iter_mut().find(|one| one.spec.name == name) {
                *listed = node;
            }
        }
    }

    /// The supervisor itself goes by other rules.
    fn go_by(&mut self, rules: SupervisorSpec) {
        lock(&self.tree).supervisor = rules.clone();
        self.ports.board.update(&self.spec.name, |entry| {
            entry.supervisor = Some((rules.strategy, rules.limit));
        });
        self.spec = rules;
    }

    fn give_up_added(&mut self, added: &ChildName, refusal: &Refusal) {
        if self.view(added).is_some() {
            return;
        }
        self.announcer.start_refused(added, refusal.to_string());
        self.show_end(added);
        // The next one who asked for it has a body of his own.
        if let Some(node) = self.adding(added).cloned() {
            self.adopt(node, Listing::Later);
        }
    }

    fn keep_added(&mut self, added: &ChildName) {
        // Instances of a template are gone with their supervisor, as in OTP.
        let view = self.view(added);
        let keeps = self.dynamic() == DynamicChildren::Keep && !self.has_template();
        let Some(kid) = self.kids.get_mut(added) else { return };
        if keeps && let Some(view) = view {
            kid.listed = true;
            let node = Node { spec: view.spec, body: kid.body.clone() };
            lock(&self.tree).children.push(node);
        }
        let order = kid.order;
        self.ports.board.update(&self.spec.name, |entry| {
            entry.children.insert(order, added.clone());
        });
        // Told when it is shown, at the end of this turn.
        self.ports.board.update(added, |entry| entry.place = Some(order));
    }
}

fn child_of(request: &Call) -> Option<&ChildName> {
    match request {
        Call::StartChild(spec) | Call::IntroduceChild(spec) | Call::ReconfigureChild(spec) => {
            Some(&spec.name)
        }
        Call::TerminateChild(name)
        | Call::RestartChild(name)
        | Call::DeleteChild(name)
        | Call::BounceChild(name)
        | Call::ResetChild(name)
        | Call::SetCircuit(name, _) => Some(name),
        Call::Pause | Call::Resume | Call::Reconfigure(_) => None,
    }
}
