//! Terms, votes, leaders and commits; and that what a message says is durable before it leaves.

use super::*;

impl Witness {
    /// Terms never fall (§5.1), a boot votes once in a term (§5.2), and never for a log behind its own (§5.4.1).
    pub(super) fn follow_state(&mut self, id: NodeId, core: &Raft) {
        let Some(view) = self.views.get_mut(&id) else { return };
        let status = core.status();
        assert!(status.term >= view.term, "{id} goes back from term {} to {}", view.term, status.term);
        let again = status.term == view.term && view.vote.is_some() && core.vote() != view.vote;
        assert!(!again, "{id} votes for {:?} and {:?} in term {}", view.vote, core.vote(), view.term);
        let last = view.log.len() as u64;
        let want = &view.counts.1;
        assert_eq!(core.configuration().1, want, "{id} counts by another configuration than its log holds");
        assert_eq!(status.last.0, last, "{id} holds {} and asked for {last} to be written", status.last);
        let fresh = (status.term, core.vote()) != (view.term, view.vote);
        if let (true, Some(vote)) = (fresh, core.vote())
            && let Some(theirs) = self.candidates.get(&(vote, status.term))
        {
            let mine = Position { term: view.log.last().map_or(Term(0), |last| last.0), index: Index(last) };
            assert!(*theirs >= mine, "{id}, whose log ends at {mine:?}, votes for {vote} at {theirs:?}");
        }
        (view.term, view.vote, view.role) = (status.term, core.vote(), status.role);
    }

    /// Election Safety (§5.2), Leader Append-Only (§5.3), and at its election Leader Completeness (§5.4).
    pub(super) fn follow_leader(&mut self, servers: &Servers, id: NodeId, term: Term) {
        let view = &self.views[&id];
        let terms_from = |index: usize| view.log[index..].iter().map(|(term, _)| *term);
        match self.leaders.entry(term) {
            btree_map::Entry::Occupied(mut found) => {
                let leader = found.get_mut();
                assert_eq!((leader.id, leader.boot), (id, view.boot), "two lead term {term}");
                let kept = leader.log.len();
                assert!(view.log.len() >= kept, "{id} leads {term} and lost entries of its log");
                leader.log.extend(terms_from(kept));
            }
            btree_map::Entry::Vacant(free) => {
                free.insert(Leadership { id, boot: view.boot, log: terms_from(0).collect() });
                self.seen.elections += 1;
                let committed = self.commits.range(..term).map(|(_, position)| *position);
                if let Some(needed) = committed.max_by_key(|position| position.index) {
                    let held = view.log.get(needed.index.0 as usize - 1).map(|held| held.1);
                    let want = self.chains[&needed];
                    assert_eq!(held, Some(want), "{id} leads term {term} without the committed {needed:?}");
                }
                let (index, counts) = &view.counts;
                let voted = |voter| voter == id || self.votes.get(&(voter, term)) == Some(&id);
                assert!(agreed(counts, voted), "{id} leads {term} without the votes of {counts:?}");
                let kept = &view.log[..index.prev().0 as usize];
                let removed = *index > view.commit && self.in_force(kept, &view.first).1.has_voter(id);
                assert!(counts.has_voter(id) || removed, "{id} leads {term}, no voter of {counts:?}");
                let durable = servers[&id].disk.durable.hard_state;
                assert!(durable.term >= term, "{id} leads term {term}, its disk knows {durable:?}");
            }
        }
        // What a leader commits, a quorum holds durably, and it is of its own term (§5.3, §5.4.2).
        let (_, core) = running(servers, id);
        let commit = core.status().commit;
        if commit > view.commit {
            let position = self.position(id, commit);
            assert_eq!(position.term, term, "{id} commits {position:?} by counting in term {term}");
            let holds = |voter: NodeId| servers[&voter].disk.durable.covers(position);
            let view = &self.views[&id];
            let counts = &view.counts.1;
            assert!(agreed(counts, holds), "{id} commits {position:?} without a quorum of {counts:?}");
            let view = &self.views[&id];
            let fresh = &view.log[view.commit.0 as usize..commit.0 as usize];
            self.seen.inherited += fresh.iter().filter(|(held, _)| *held < term).count() as u64;
            let newest = self.commits.entry(term).or_default();
            assert!(position.index > newest.index, "{id} commits {position:?} after {newest:?}");
            *newest = position;
        }
    }

    /// Leadership goes to who has all of the log (thesis §3.10), and does not stay with who is removed (§6).
    pub(super) fn follow_succession(&mut self, servers: &Servers, id: NodeId, effects: &Effects) {
        let (_, core) = running(servers, id);
        let status = core.status();
        let view = &self.views[&id];
        let (index, counts) = &view.counts;
        let removed = *index <= status.commit && !counts.is_joint() && !counts.has_voter(id);
        assert!(!removed, "{id} leads {} on, after the commit of {counts:?}", status.term);
        let asked = effects.send.iter().filter(|message| matches!(message.body, Body::TimeoutNow));
        for Message { to, term, .. } in asked {
            let disk = &servers[to].disk.durable;
            // A change that is under way still ends, perhaps after the target was asked for the first time.
            let own = |index: &u64| self.configurations.contains_key(&self.position(id, Index(*index)));
            let Some(last) = (1..=status.last.0).rev().find(|index| !own(index)) else { continue };
            let last = self.position(id, Index(last));
            // It may have followed another since it had all.
            let has = disk.hard_state.term > *term || disk.covers(last);
            assert!(has, "{id} hands over to {to}, whose disk lacks {last:?}: {disk:?}");
        }
    }

    pub(super) fn follow_commit(&mut self, id: NodeId, core: &Raft) {
        let Some(view) = self.views.get_mut(&id) else { return };
        let commit = core.status().commit;
        assert!(commit >= view.commit, "{id} takes its commit back from {} to {commit}", view.commit);
        self.seen.committed += commit.0 - view.commit.0;
        view.commit = commit;
    }

    /// What a message says must be durable, before anybody can learn of it (figure 2).
    pub fn leaving(&mut self, servers: &Servers, message: &Message) {
        let from = message.from;
        let disk = &servers[&from].disk.durable;
        let facts = || format!("{} leaves while the disk holds {disk:?}", words::message(message));
        // The answer to a pre-vote names the term it was asked in, and no promise goes with it.
        let promises = !matches!(message.body, Body::VoteReply { pre: true, .. });
        assert!(!promises || disk.hard_state.term >= message.term, "{}", facts());
        let vote = match message.body {
            Body::RequestVote { pre: false, last, .. } => {
                self.candidates.insert((from, message.term), last);
                Some(from)
            }
            Body::VoteReply { pre: false, granted: true } => Some(message.to),
            Body::AppendReply { outcome: AppendOutcome::Matched(index), .. } if index > Index(0) => {
                // Only a forged append has no leader.
                let Some(leader) = self.leaders.get(&message.term) else { return };
                let position = Position { index, term: leader.log[index.0 as usize - 1] };
                // Of an earlier term the disk may have let go again, in the same write.
                assert!(disk.hard_state.term > message.term || disk.covers(position), "{}", facts());
                None
            }
            _ => None,
        };
        if let Some(vote) = vote {
            let newer = disk.hard_state.term > message.term;
            assert!(newer || disk.hard_state.vote == Some(vote), "{}", facts());
            let first = *self.votes.entry((from, message.term)).or_insert(vote);
            assert_eq!(first, vote, "{from} votes for two in term {}", message.term);
        }
        if let (true, Some(view)) = (promises, self.views.get_mut(&from)) {
            view.shown = view.shown.max(message.term);
        }
    }
}
