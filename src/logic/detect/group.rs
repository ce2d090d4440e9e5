//! Failures of different children that belong together: by what they have in common, or because one
//! leans on the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::logic::detect::child::{Decaying, counted, is_before, millis, rounded};
use crate::logic::detect::cusum::surprise;
use crate::logic::detect::settings::DetectSettings;
use crate::logic::detect::{Finding, GROUPS_MAX, TAGS_MAX, Who};
use crate::protocol::decision::Inputs;
use crate::protocol::id::{ChildName, EventId};
use crate::protocol::insight::PatternKind;

/// Time in which half of a tag's usual failures are forgotten.
const USUAL_HALF_LIFE: Duration = Duration::from_secs(3_600);

/// Onsets of one tag that are looked at together.
const ONSETS_MAX: usize = 256;

/// Onsets of all children that may turn out to follow from something that fails later.
const RECENT_MAX: usize = 1_024;

/// Children with one tag.
#[derive(Clone, Debug, Default)]
struct Group {
    members: u32,
    onsets: VecDeque<(Instant, ChildName)>,
    usual: Decaying,
}

impl Group {
    /// Forgets what is too old to belong to what comes now; that was usual.
    fn age(&mut self, now: Instant, window: Duration) {
        while self.onsets.len() > ONSETS_MAX
            || self.onsets.front().is_some_and(|(at, _)| is_before(*at, now, window))
        {
            if let Some((at, _)) = self.onsets.pop_front() {
                self.usual.add(at, USUAL_HALF_LIFE);
            }
        }
    }

    fn since(&self, first: Option<Instant>) -> Vec<&ChildName> {
        let onsets = self.onsets.iter().filter(|(at, _)| first.is_none_or(|first| first <= *at));
        onsets.map(|(_, child)| child).collect()
    }

    /// Failures that are expected in a window.
    fn expected(&self, now: Instant, window: Duration) -> f64 {
        let seen = self.usual.value(now, USUAL_HALF_LIFE) * std::f64::consts::LN_2
            / USUAL_HALF_LIFE.as_secs_f64();
        let rate = seen.max(f64::from(self.members) * DetectSettings::USUAL_RATE);
        rate * window.as_secs_f64()
    }
}

/// A pattern of several children that stands.
#[derive(Clone, Debug)]
struct Incident {
    kind: PatternKind,
    scope: String,
    members: BTreeSet<ChildName>,
}

/// Something that others lean on, in its outage.
#[derive(Clone, Debug)]
struct Fall {
    last: Instant,
    cause: Option<EventId>,
    dependants: BTreeSet<ChildName>,
}

/// The first failure of an outage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Onset<'a> {
    pub(super) now: Instant,
    pub(super) who: &'a Who,
    pub(super) event: Option<EventId>,
}

/// All groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    groups: BTreeMap<Arc<str>, Group>,
    ripe: BTreeSet<Arc<str>>,
    /// Since when a correlated failure grows.
    ripening: Option<Instant>,
    ripe_by: Option<EventId>,
    falls: BTreeMap<ChildName, Fall>,
    recent: VecDeque<(Instant, Who)>,
    incidents: BTreeMap<(PatternKind, String), Incident>,
    /// Tags of the children that are watched.
    tags: BTreeMap<ChildName, Arc<[Arc<str>]>>,
    /// How many children lean on one.
    leaned_on: BTreeMap<ChildName, u32>,
    /// Patterns that a child takes part in.
    part_of: BTreeMap<ChildName, (PatternKind, String)>,
    pub(super) unwatched: u64,
}

impl Groups {
    /// A child is watched from now on.
    pub(super) fn joined(&mut self, who: &Who) {
        self.tags.insert(who.name.clone(), Arc::clone(&who.tags));
        for root in who.leans_on.iter().take(TAGS_MAX) {
            let count = self.leaned_on.entry(root.clone()).or_default();
            *count = count.saturating_add(1);
        }
        for tag in who.tags.iter().take(TAGS_MAX) {
            if !self.groups.contains_key(tag) && GROUPS_MAX <= self.groups.len() {
                self.unwatched = self.unwatched.saturating_add(1);
                continue;
            }
            let group = self.groups.entry(Arc::clone(tag)).or_default();
            group.members = group.members.saturating_add(1);
        }
    }

    /// A child is not watched any more.
    pub(super) fn left(&mut self, who: &Who) {
        self.explain(&who.name);
        self.tags.remove(&who.name);
        for root in who.leans_on.iter().take(TAGS_MAX) {
            let Some(count) = self.leaned_on.get_mut(root) else { continue };
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.leaned_on.remove(root);
            }
        }
        for tag in who.tags.iter().take(TAGS_MAX) {
            let Some(group) = self.groups.get_mut(tag) else { continue };
            group.members = group.members.saturating_sub(1);
            if group.members == 0 {
                self.groups.remove(tag);
            }
        }
    }

    /// A child's failure is explained: it counts for no other pattern.
    fn explain(&mut self, child: &ChildName) {
        let Some(tags) = self.tags.get(child) else { return };
        for tag in tags.iter().take(TAGS_MAX) {
            if let Some(group) = self.groups.get_mut(tag) {
                group.onsets.retain(|(_, other)| other != child);
            }
        }
    }

    /// The larger pattern that a child takes part in.
    pub(super) fn larger(&self, child: &ChildName) -> Option<String> {
        self.part_of.get(child).map(|(kind, scope)| format!("{} {scope}", kind.as_str()))
    }

    /// A child's outage begins.
    pub(super) fn onset(
        &mut self,
        onset: Onset<'_>,
        settings: &DetectSettings,
        out: &mut Vec<Finding>,
    ) {
        let Onset { now, who, .. } = onset;
        self.fall(onset, settings, out);
        if self.leans(onset, settings, out) {
            return;
        }
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((now, who.clone()));
        let keep = settings.correlated_window.saturating_add(DetectSettings::SETTLE);
        for tag in who.tags.iter().take(TAGS_MAX) {
            let key = (PatternKind::CorrelatedFailure, tag.to_string());
            if let Some(incident) = self.incidents.get_mut(&key) {
                incident.members.insert(who.name.clone());
                self.part_of.insert(who.name.clone(), key);
                return;
            }
        }
        for tag in who.tags.iter().take(TAGS_MAX) {
            let Some(group) = self.groups.get_mut(tag) else { continue };
            group.age(now, keep);
            group.onsets.retain(|(_, child)| *child != who.name);
            group.onsets.push_back((now, who.name.clone()));
            let first = now.checked_sub(settings.correlated_window);
            let seen = u32::try_from(group.since(first).len()).unwrap_or(u32::MAX);
            let expected = group.expected(now, settings.correlated_window);
            if settings.correlated_children <= seen
                && DetectSettings::SCORE_MIN <= surprise(seen, expected)
            {
                self.ripe.insert(Arc::clone(tag));
                self.ripening.get_or_insert(now);
                self.ripe_by = onset.event;
            }
        }
    }

    /// Notes that something fails which others may lean on, and takes in those that failed just before.
    fn fall(&mut self, onset: Onset<'_>, settings: &DetectSettings, out: &mut Vec<Finding>) {
        let Onset { now, who, event } = onset;
        if !self.leaned_on.contains_key(&who.name) {
            return;
        }
        while self
            .recent
            .front()
            .is_some_and(|(at, _)| is_before(*at, now, settings.cascade_window))
        {
            self.recent.pop_front();
        }
        let dependants: BTreeSet<ChildName> = self
            .recent
            .iter()
            .filter(|(_, other)| other.leans_on.contains(&who.name))
            .map(|(_, other)| other.name.clone())
            .collect();
        self.falls.insert(who.name.clone(), Fall { last: now, cause: event, dependants });
        self.cascade(&who.name, settings, out);
    }

    /// Whether a failure follows from one of something that the child leans on.
    fn leans(
        &mut self,
        onset: Onset<'_>,
        settings: &DetectSettings,
        out: &mut Vec<Finding>,
    ) -> bool {
        let Onset { now, who, .. } = onset;
        let mut follows = false;
        for root in who.leans_on.iter().take(TAGS_MAX) {
            let Some(fall) = self.falls.get_mut(root) else { continue };
            if is_before(fall.last, now, settings.cascade_window) {
                continue;
            }
            fall.last = now;
            fall.dependants.insert(who.name.clone());
            self.cascade(root, settings, out);
            follows |= self.part_of.contains_key(&who.name);
        }
        follows
    }

    /// Raises a cascade once enough dependants have failed; later ones join it.
    fn cascade(&mut self, root: &ChildName, settings: &DetectSettings, out: &mut Vec<Finding>) {
        let Some(fall) = self.falls.get(root) else { return };
        if fall.dependants.len() < DetectSettings::DEPENDANTS_MIN {
            return;
        }
        let key = (PatternKind::Cascade, root.to_string());
        let members: BTreeSet<ChildName> = fall.dependants.clone();
        let (cause, count) = (fall.cause, counted(members.len()));
        for member in members.iter().chain([root]) {
            self.part_of.insert(member.clone(), key.clone());
            self.explain(member);
        }
        if let Some(incident) = self.incidents.get_mut(&key) {
            incident.members.extend(members);
            return;
        }
        let evidence = Inputs::default()
            .with("root", root.as_str())
            .with("dependants", count)
            .with("window_ms", millis(settings.cascade_window))
            .with("limit", counted(DetectSettings::DEPENDANTS_MIN));
        let finding = Finding::began(key.0, &key.1, evidence).caused_by(cause);
        out.push(finding.with_members([root].into_iter().chain(&members)));
        let mut members = members;
        members.insert(root.clone());
        self.incidents.insert(key.clone(), Incident { kind: key.0, scope: key.1, members });
        // What was told of these children as a mere coincidence is this.
        self.fold(root, out);
    }

    /// Ends correlated failures whose members all take part in the cascade of `root`.
    fn fold(&mut self, root: &ChildName, out: &mut Vec<Finding>) {
        let key = (PatternKind::Cascade, root.to_string());
        let Some(cascade) = self.incidents.get(&key).map(|one| one.members.clone()) else { return };
        let over: Vec<_> = self
            .incidents
            .iter()
            .filter(|((kind, _), one)| {
                *kind == PatternKind::CorrelatedFailure && one.members.is_subset(&cascade)
            })
            .map(|(key, _)| key.clone())
            .collect();
        for one in over {
            self.incidents.remove(&one);
            out.push(Finding::ended(one.0, one.1, "part of a cascade"));
        }
    }

    /// When a growing correlated failure is looked at.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.ripening?.checked_add(DetectSettings::SETTLE)
    }

    /// Says what the failures have in common that came together.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        settings: &DetectSettings,
        out: &mut Vec<Finding>,
    ) {
        if self.deadline().is_none_or(|due| now < due) {
            return;
        }
        let first = self.ripening.take().and_then(|at| at.checked_sub(settings.correlated_window));
        let mut ripe = std::mem::take(&mut self.ripe);
        let cause = self.ripe_by.take();
        while let Some((tag, score)) = self.best(&ripe, now, first, settings) {
            ripe.remove(&tag);
            let Some(group) = self.groups.get(&tag) else { continue };
            let expected = group.expected(now, settings.correlated_window);
            let members: BTreeSet<ChildName> = group.since(first).into_iter().cloned().collect();
            let evidence = Inputs::default()
                .with("failed", counted(members.len()))
                .with("of", u64::from(group.members))
                .with("expected", rounded(expected * 100.0) / 100.0)
                .with("score", rounded(score))
                .with("limit", DetectSettings::SCORE_MIN)
                .with("window_ms", millis(settings.correlated_window));
            let key = (PatternKind::CorrelatedFailure, tag.to_string());
            let finding = Finding::began(key.0, &key.1, evidence).caused_by(cause);
            out.push(finding.with_members(&members));
            for member in &members {
                self.explain(member);
                self.part_of.insert(member.clone(), key.clone());
            }
            self.incidents.insert(key.clone(), Incident { kind: key.0, scope: key.1, members });
        }
    }

    /// The tag that explains most: the least likely count, of equals the one with fewer children.
    fn best(
        &self,
        ripe: &BTreeSet<Arc<str>>,
        now: Instant,
        first: Option<Instant>,
        settings: &DetectSettings,
    ) -> Option<(Arc<str>, f64)> {
        let mut best: Option<(Arc<str>, f64, u32)> = None;
        for tag in ripe {
            let Some(group) = self.groups.get(tag) else { continue };
            let seen = u32::try_from(group.since(first).len()).unwrap_or(u32::MAX);
            let score = surprise(seen, group.expected(now, settings.correlated_window));
            if seen < settings.correlated_children || score < DetectSettings::SCORE_MIN {
                continue;
            }
            let better = best.as_ref().is_none_or(|(_, most, members)| {
                most + 1e-9 < score || (*most <= score + 1e-9 && group.members < *members)
            });
            if better {
                best = Some((Arc::clone(tag), score, group.members));
            }
        }
        best.map(|(tag, score, _)| (tag, score))
    }

    /// A child's outage is over; patterns without children in one are over too.
    pub(super) fn over(&mut self, child: &ChildName, out: &mut Vec<Finding>) {
        self.falls.remove(child);
        self.part_of.remove(child);
        let mut over = Vec::new();
        for (key, incident) in &mut self.incidents {
            if incident.members.remove(child) && incident.members.is_empty() {
                over.push(key.clone());
            }
        }
        for key in over {
            if let Some(Incident { kind, scope, .. }) = self.incidents.remove(&key) {
                out.push(Finding::ended(kind, scope, "all of them have recovered or are gone"));
            }
        }
    }
}
