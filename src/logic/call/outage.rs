//! When a downstream is out, and when it is back: one account for its session, its checks and its
//! circuit.
//!
//! An outage begins with the first failure of any of them. It is over when the downstream is
//! connected, its last check was good, and its circuit lets calls pass.

/// What is known of a downstream.
#[derive(Clone, Debug)]
pub struct Outage {
    /// First failure, and attempts to come back since then.
    begun: Option<(u64, u64)>,
    session: Up,
    check: Up,
    circuit: Up,
}

/// An outage that is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Over {
    /// Time since the first failure, in milliseconds.
    pub after_ms: u64,
    /// New sessions and trials that it took.
    pub attempts: u64,
}

impl Default for Outage {
    /// Nothing has failed yet; nothing is connected either.
    fn default() -> Self {
        Self { begun: None, session: Up::No, check: Up::No, circuit: Up::Yes }
    }
}

impl Outage {
    /// Whether there is an outage.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.begun.is_some()
    }

    /// A session is there, or is no more.
    pub fn session(&mut self, now_ms: u64, there: Up) -> Option<Over> {
        self.session = there;
        if there == Up::No {
            self.check = Up::No;
        }
        self.judge(now_ms, there)
    }

    /// A check came out like this.
    pub fn check(&mut self, now_ms: u64, well: Up) -> Option<Over> {
        self.check = well;
        self.judge(now_ms, well)
    }

    /// The circuit lets calls pass, or does not.
    pub fn circuit(&mut self, now_ms: u64, passes: Up) -> Option<Over> {
        self.circuit = passes;
        self.judge(now_ms, passes)
    }

    /// A session is tried again, or the circuit lets a trial pass.
    pub fn attempt(&mut self) {
        if let Some((_, attempts)) = &mut self.begun {
            *attempts = attempts.saturating_add(1);
        }
    }

    fn judge(&mut self, now_ms: u64, up: Up) -> Option<Over> {
        if up == Up::No {
            self.begun.get_or_insert((now_ms, 0));
            return None;
        }
        if [self.session, self.check, self.circuit].contains(&Up::No) {
            return None;
        }
        let (since, attempts) = self.begun.take()?;
        Some(Over { after_ms: now_ms.saturating_sub(since), attempts })
    }
}

/// Whether something works.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Up {
    /// It does.
    Yes,
    /// It does not.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn working() -> Outage {
        let mut outage = Outage::default();
        assert_eq!(outage.session(0, Up::Yes), None);
        assert_eq!(outage.check(0, Up::Yes), None);
        assert!(!outage.is_on());
        outage
    }

    #[test]
    fn an_outage_ends_when_session_check_and_circuit_are_well() {
        let mut outage = working();
        assert_eq!(outage.circuit(100, Up::No), None);
        assert_eq!(outage.session(150, Up::No), None);
        outage.attempt();
        assert_eq!(outage.session(200, Up::Yes), None);
        assert_eq!(outage.check(210, Up::Yes), None);
        outage.attempt();
        assert_eq!(outage.circuit(300, Up::Yes), Some(Over { after_ms: 200, attempts: 2 }));
        assert!(!outage.is_on());
    }

    #[test]
    fn a_check_and_the_circuit_begin_and_end_one_each() {
        let mut outage = working();
        assert_eq!(outage.check(5, Up::No), None);
        assert_eq!(outage.check(7, Up::No), None);
        assert_eq!(outage.check(9, Up::Yes), Some(Over { after_ms: 4, attempts: 0 }));
        assert_eq!(outage.check(10, Up::Yes), None);
        assert_eq!(outage.circuit(15, Up::No), None);
        assert_eq!(outage.circuit(17, Up::No), None);
        assert_eq!(outage.circuit(19, Up::Yes), Some(Over { after_ms: 4, attempts: 0 }));
        assert_eq!(outage.circuit(20, Up::Yes), None);
    }

    #[test]
    fn a_new_session_is_not_trusted_before_its_first_check() {
        let mut outage = working();
        assert_eq!(outage.session(10, Up::No), None);
        assert_eq!(outage.session(20, Up::Yes), None);
        assert!(outage.is_on());
        assert_eq!(outage.check(30, Up::Yes).map(|over| over.after_ms), Some(20));
    }
}
