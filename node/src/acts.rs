//! Which of a core's changes are evidence, and when their lines may be written.
//!
//! In: the core after each step. Out: `role`, `vote`, `commit` and `config` events, sorted by what they wait for.
//! A leader's acts rest on what has long been durable, and others learn of them from what it sends at once;
//! everything else waits for the write of the same turn, and commits also for its entries' own lines.

use mkraft_proto::evidence::Event;

use crate::events;
use crate::raft::{Configuration, Index, NodeId, Raft, RoleName, Status, Term};

pub struct Acts {
    last: Status,
    vote: Option<NodeId>,
    configuration: (Index, Configuration),
    /// Before anything is sent.
    at_once: Vec<Event>,
    /// Once all persisted so far is durable.
    standing: Vec<Event>,
    /// After the lines of the entries that hold them, by those.
    configurations: Vec<(Index, Event)>,
    /// After the lines of the entries it covers.
    commit: bool,
    /// Lines were taken that are not told yet.
    untold: bool,
    /// The newest term that lines tell of, and that of when lines were last taken.
    told: Term,
    taken: Term,
}

impl Acts {
    pub fn new(raft: &Raft) -> Acts {
        Acts {
            last: raft.status(),
            vote: raft.vote(),
            configuration: in_force(raft),
            at_once: Vec::new(),
            standing: Vec::new(),
            configurations: Vec::new(),
            commit: false,
            untold: false,
            told: raft.status().term,
            taken: raft.status().term,
        }
    }

    /// What holds when a node has come up: its configuration, its role, and what it knows to be committed
    /// beyond `applied`.
    pub fn at_boot(raft: &Raft, applied: Index) -> Vec<Event> {
        let status = raft.status();
        let (index, configuration) = raft.configuration();
        let mut lines = vec![events::config(index, configuration), events::role(&status)];
        if status.commit > applied {
            lines.push(events::commit(&status));
        }
        lines
    }

    /// Notes what a step has changed.
    pub fn observe(&mut self, raft: &Raft) {
        let status = raft.status();
        let leads = status.role == RoleName::Leader;
        let changed =
            (status.term, status.role, status.leader) != (self.last.term, self.last.role, self.last.leader);
        let commits = status.commit > self.last.commit;
        // A leader that is removed commits its removal and steps down in one step, and others learn of it at once.
        let ends = !leads && (self.last.role, self.last.term) == (RoleName::Leader, status.term);
        if commits && ends {
            self.at_once.push(events::commit(&status));
        }
        if changed {
            assert!(
                !leads || self.standing.is_empty(),
                "a leader's term rests on writes that are not done: {:?}",
                self.standing
            );
            // A role within a term that was told of rests on nothing that the disk has yet to take: a leader whose
            // disk hangs steps down, and says so.
            let stands = status.term == self.told && self.standing.is_empty() && !self.untold;
            let lines = if leads || stands { &mut self.at_once } else { &mut self.standing };
            lines.push(events::role(&status));
        }
        if let Some(candidate) = raft.vote()
            && (status.term, Some(candidate)) != (self.last.term, self.vote)
        {
            self.standing.push(events::vote(status.term, candidate));
        }
        let (index, configuration) = raft.configuration();
        if (index, configuration) != (self.configuration.0, &self.configuration.1) {
            self.configuration = in_force(raft);
            let line = events::config(index, configuration);
            // Entries and snapshots that others have taken the place of before the disk took them never were in the log.
            let begin = raft.begin().index;
            self.configurations.retain(|(before, _)| (begin..index).contains(before));
            // A leader counts by it from the moment it sends it.
            if leads { self.at_once.push(line) } else { self.configurations.push((index, line)) }
        }
        if commits && !ends {
            if leads { self.at_once.push(events::commit(&status)) } else { self.commit = true }
        }
        (self.last, self.vote) = (status, raft.vote());
    }

    pub fn take_at_once(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.at_once)
    }

    /// All that waits for a write which begins now: what goes before the lines of its entries, and what after them.
    pub fn take_waiting(&mut self) -> (Vec<Event>, Vec<Event>) {
        let before = std::mem::take(&mut self.standing);
        let configurations = std::mem::take(&mut self.configurations);
        let mut after: Vec<Event> = configurations.into_iter().map(|(_, line)| line).collect();
        // In the words of now: its line stands after those of every role and term since.
        after.extend(std::mem::take(&mut self.commit).then(|| events::commit(&self.last)));
        self.untold |= !before.is_empty() || !after.is_empty();
        self.taken = self.last.term;
        (before, after)
    }

    /// What was taken is told, and so is the term of then.
    pub fn told(&mut self) {
        (self.untold, self.told) = (false, self.taken);
    }

    /// True while lines are to be written of what holds already.
    pub fn owes(&self) -> bool {
        let waiting = !self.standing.is_empty() || !self.configurations.is_empty() || self.commit;
        waiting || self.untold || !self.at_once.is_empty()
    }
}

fn in_force(raft: &Raft) -> (Index, Configuration) {
    let (index, configuration) = raft.configuration();
    (index, configuration.clone())
}

#[cfg(test)]
mod tests {
    use mkraft_proto::evidence::Role;

    use super::*;
    use crate::raft::{Body, Entry, EntryKind, Initial, Input, Message, Options, Position, Snapshot};

    fn voters(ids: [u64; 3]) -> Configuration {
        Configuration { voters: ids.map(NodeId).into(), ..Configuration::default() }
    }

    /// n1 of three, with nothing in its log.
    fn raft() -> Raft {
        let options = Options {
            id: NodeId(1),
            election_ticks: 10,
            heartbeat_ticks: 1,
            append_bytes_max: 1 << 10,
            inflight_bytes_max: 1 << 10,
            uncommitted_entries_max: 10,
            compact_entries: 10,
            compact_bytes: 1 << 10,
            tail_entries: 1,
            tail_bytes: 1 << 10,
            chunk_bytes: 1 << 10,
            chunks_per_tick: 1,
            chunks_inflight_max: 1,
            promote_lag_entries_max: 1,
            patience: 0,
            lease: None,
            seed: 0,
        };
        Raft::new(options, Initial { configuration: voters([1, 2, 3]), ..Initial::default() }).0
    }

    #[test]
    fn a_commit_is_told_in_the_term_of_its_line() {
        let mut raft = raft();
        let mut acts = Acts::new(&raft);
        let entry = Entry { index: Index(1), term: Term(5), kind: EntryKind::Noop, payload: (*b"").into() };
        let appends = [
            (2, 5, Position::default(), vec![entry.clone()], Index(1)),
            (3, 6, entry.position(), vec![], Index(0)),
        ];
        for (from, term, prev, entries, commit) in appends {
            let body = Body::Append { prev, entries, commit, round: 0 };
            raft.step(Input::Message(Message { from: NodeId(from), to: NodeId(1), term: Term(term), body }));
            acts.observe(&raft);
        }
        let role =
            |term, leader: &str| Event::Role { term, role: Role::Follower, leader: Some(leader.into()) };
        assert_eq!(acts.take_at_once(), []);
        let lines = (vec![role(5, "n2"), role(6, "n3")], vec![Event::Commit { index: 1, term: 6 }]);
        assert_eq!(acts.take_waiting(), lines);
        assert!(acts.owes(), "what was taken is not told yet");
        acts.told();
        assert!(!acts.owes());
    }

    /// What comes while a write is under way, and of which entry which configuration is told after the next.
    type Case<'c> = (&'static str, Vec<Input>, Vec<(u64, &'c Configuration)>);

    #[test]
    fn a_configuration_that_never_comes_to_the_disk_is_not_told() {
        let snapshot = |index, configuration| Snapshot {
            position: Position { term: Term(1), index: Index(index) },
            configuration,
            bytes: 0,
            digest: 0,
        };
        let changes = |(index, configuration): (u64, &Configuration)| Entry {
            index: Index(index),
            term: Term(1),
            kind: EntryKind::Config,
            payload: configuration.encode(),
        };
        let (first, second) = (voters([1, 2, 3]), voters([1, 2, 4]));
        let append = |term, prev: u64, entries: Vec<Entry>| {
            let prev = Position { term: Term(u64::from(prev > 0)), index: Index(prev) };
            let body = Body::Append { prev, entries, commit: Index(0), round: 0 };
            Input::Message(Message { from: NodeId(2), to: NodeId(1), term: Term(term), body })
        };
        let noop = Entry { index: Index(1), term: Term(2), kind: EntryKind::Noop, payload: (*b"").into() };
        let cases: [Case<'_>; 4] = [
            (
                "each of two entries",
                vec![append(1, 0, vec![changes((1, &second)), changes((2, &first))])],
                vec![(2, &first)],
            ),
            (
                "one after the other",
                vec![append(1, 0, vec![changes((1, &second))]), append(1, 1, vec![changes((2, &first))])],
                vec![(1, &second), (2, &first)],
            ),
            (
                "an entry that is cut off",
                vec![append(1, 0, vec![changes((1, &second))]), append(2, 0, vec![noop])],
                vec![(0, &first)],
            ),
            (
                "a snapshot in the place of another",
                vec![
                    Input::Received(snapshot(7, second.clone())),
                    Input::Received(snapshot(9, first.clone())),
                ],
                vec![(9, &first)],
            ),
        ];
        for (what, inputs, expected) in cases {
            let mut raft = raft();
            let mut acts = Acts::new(&raft);
            for input in inputs {
                raft.step(input);
                acts.observe(&raft);
            }
            let (_, after) = acts.take_waiting();
            let told: Vec<_> =
                after.into_iter().filter(|line| matches!(line, Event::Config { .. })).collect();
            let expected: Vec<_> =
                expected.into_iter().map(|(index, held)| events::config(Index(index), held)).collect();
            assert_eq!(told, expected, "{what}");
        }
    }
}
