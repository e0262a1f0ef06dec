//! The logs: what stands where, what leaves them, and which configuration they put in force.

use super::*;

impl Witness {
    /// A state machine holds what was applied by all, and no more than is committed.
    pub(super) fn check_state(&self, id: NodeId, state: &[Entry]) {
        let held = state.iter().map(Entry::position);
        let known = self.applied.get(..state.len());
        let known = known.unwrap_or_else(|| panic!("{id} has a state that nobody has applied"));
        assert!(held.eq(known.iter().copied()), "{id} has another state than was applied");
    }

    /// What stands at each index up to `position`, which is applied.
    pub(super) fn prefix(&self, id: NodeId, position: Position) -> Vec<(Term, u64)> {
        let before = self.applied.get(..position.index.0 as usize);
        let before = before.unwrap_or_else(|| panic!("{id} begins after {position:?}, which nobody applied"));
        let last = before.last().copied().unwrap_or_default();
        assert_eq!(last, position, "{id} begins after what was not applied");
        before.iter().map(|position| (position.term, self.chains[position])).collect()
    }

    /// Only what is committed leaves the log, and only what is not committed is replaced (§7).
    pub(super) fn follow_begin(&mut self, id: NodeId, begin: Begin, installed: Option<&Snapshot>) {
        let log = self.prefix(id, begin.position);
        let Some(view) = self.views.get_mut(&id) else { return };
        let position = begin.position;
        match installed {
            Some(snapshot) => {
                assert_eq!(
                    (snapshot.position, begin.clear),
                    (position, true),
                    "{id} installs another snapshot"
                );
                assert!(
                    position.index > view.commit,
                    "{id} installs {position:?} over its commit {}",
                    view.commit
                );
                assert!(view.role != RoleName::Leader, "{id} leads and installs {position:?}");
                let held = view.log.get(position.index.0 as usize - 1).map(|held| held.0);
                assert!(held != Some(position.term), "{id} installs {position:?}, which its log holds");
                (view.log, view.commit, view.applied) = (log, position.index, position.index);
                view.first = self.first.clone();
                self.seen.installed += 1;
                self.recount(id);
            }
            None => {
                assert!(!begin.clear && position.index <= view.commit, "{id} drops what is not committed");
                assert_eq!(view.log[..log.len()], log, "{id} drops another log than was applied");
                self.seen.compacted += 1;
            }
        }
    }

    /// Log Matching (§5.3): a position stands for one log.
    pub(super) fn follow_log(&mut self, id: NodeId, cut: Option<Index>, entries: &[Entry]) {
        let Some(view) = self.views.get_mut(&id) else { return };
        let recounts = cut.is_some() || entries.iter().any(|entry| entry.kind == EntryKind::Config);
        if let Some(after) = cut {
            assert!(after >= view.commit, "{id} cuts after {after} what is committed to {}", view.commit);
            view.log.truncate(after.0 as usize);
            self.seen.truncations += 1;
        }
        for entry in entries {
            assert_eq!(entry.index.0, view.log.len() as u64 + 1, "{id} leaves a hole before {entry:?}");
            let mut hasher = DefaultHasher::new();
            view.log.last().map_or(0, |last| last.1).hash(&mut hasher);
            (entry.term, &entry.payload).hash(&mut hasher);
            let chain = hasher.finish();
            if entry.kind == EntryKind::Config {
                let held = Configuration::decode(&entry.payload);
                let held = held.unwrap_or_else(|| panic!("{id} appends no configuration: {entry:?}"));
                self.configurations.insert(entry.position(), held);
            }
            let known = *self.chains.entry(entry.position()).or_insert(chain);
            assert_eq!(known, chain, "{id} and another hold {:?} over different logs", entry.position());
            view.log.push((entry.term, chain));
        }
        if recounts {
            self.recount(id);
        }
    }

    /// A server counts by the newest configuration of its log (§6).
    pub(super) fn recount(&mut self, id: NodeId) {
        let view = &self.views[&id];
        let counts = self.in_force(&view.log, &view.first);
        if let Some(view) = self.views.get_mut(&id) {
            view.counts = counts;
        }
    }

    /// The newest configuration that a log holds, committed or not (§6), and where.
    pub(super) fn in_force(&self, log: &[(Term, u64)], first: &Configuration) -> (Index, Configuration) {
        let held = |position: &Position| {
            log.get(position.index.0 as usize - 1).is_some_and(|held| held.0 == position.term)
        };
        let newest = self.configurations.iter().filter(|(position, _)| held(position));
        let newest = newest.max_by_key(|(position, _)| position.index);
        newest.map_or((Index(0), first.clone()), |(position, held)| (position.index, held.clone()))
    }

    /// A leader changes one thing at a time, after it has committed in its own term (thesis §4.1), from a
    /// configuration to a joint one and from there to the next (§6), and promotes only who is caught up.
    pub(super) fn follow_changes(
        &mut self,
        servers: &Servers,
        id: NodeId,
        term: Term,
        led: bool,
        entries: &[Entry],
    ) {
        let view = &self.views[&id];
        let own = |entry: &&Entry| led && entry.kind == EntryKind::Config && entry.term == term;
        let Some(change) = entries.iter().find(own) else { return };
        let Some(next) = Configuration::decode(&change.payload) else { panic!("{change:?} holds none") };
        let (index, ref before) = view.counts;
        // The step that brings the commit may append what follows from it.
        let commit = running(servers, id).1.status().commit;
        assert!(index <= commit, "{id} changes {before:?} of {index} before that is committed");
        let held = commit.0.checked_sub(1).and_then(|place| view.log.get(place as usize));
        let in_term = held.is_some_and(|held| held.0 == term);
        assert!(in_term, "{id} changes the configuration before it has committed in its term {term}");
        let fits = match before.is_joint() {
            true => !next.is_joint() && next.voters == before.voters && next.learners == before.learners,
            false if next.is_joint() => next.outgoing == before.voters,
            false => next.voters == before.voters,
        };
        assert!(fits, "{id} goes from {before:?} to {next:?}");
        if next.is_joint() {
            self.seen.joint += 1;
            let bound = Index((change.index.0 - 1).saturating_sub(self.promote_lag_entries_max));
            for new in next.voters.difference(&before.voters) {
                let disk = &servers[new].disk.durable;
                // A leader that was away may not know that it is deposed; what it was told was true then, though its
                // successor has had some of it cut since. No such change is ever committed.
                let moved_on = disk.hard_state.term > term;
                let caught_up = bound == Index(0) || moved_on || disk.covers(self.position(id, bound));
                assert!(caught_up, "{id} promotes {new}, whose disk lacks {bound}: {disk:?}");
            }
        }
        self.seen.configurations += 1;
    }
}
