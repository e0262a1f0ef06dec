//! The invariants of Raft (figure 3) and of its clients, over all servers and boots, at every step.
//!
//! In: every boot, step, message that leaves and request of every server, as they happen. Out: a panic with
//! the facts at the first step that breaks one. Never: a word to a server.
//!
//! A log is compared by chain hashes: h(i) = H(h(i-1), term(i), payload(i)), so that one hash stands for all
//! of a log up to i. What a leader commits is known with the term of that leader: a leader of an earlier term
//! may well win afterwards, with votes that were long on their way, and owes nothing to it (§5.4.3).

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::hash::{Hash, Hasher};

use mkraft_node::raft::{
    AppendOutcome, Begin, Body, Configuration, Effects, Entry, EntryKind, Index, Message, NodeId, Position,
    Raft, Reply, RequestId, RoleName, Snapshot, Term,
};

use super::disk::State;
use super::server::{Job, Server, States};
use super::words;

pub type Servers = BTreeMap<NodeId, Server>;

pub struct Witness {
    /// With which the cluster began.
    first: Configuration,
    /// Each that any log has held.
    configurations: BTreeMap<Position, Configuration>,
    promote_lag_entries_max: u64,
    views: BTreeMap<NodeId, View>,
    /// Who leads each term, in which boot, with which log.
    leaders: BTreeMap<Term, Leadership>,
    /// What stands where; all logs that hold a position agree up to it.
    chains: BTreeMap<Position, u64>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// Where the log of each candidate ends, as it told its voters.
    candidates: BTreeMap<(NodeId, Term), Position>,
    /// The newest entry that a leader of each term has committed.
    commits: BTreeMap<Term, Position>,
    /// What stands at each applied index, from 1.
    applied: Vec<Position>,
    /// Without an answer yet.
    requests: BTreeMap<RequestId, Request>,
    /// Writes that are committed, and reads that are answered.
    done: BTreeSet<RequestId>,
    /// What a read that begins now must see: all that a client was told of.
    told: Index,
    /// The state of each snapshot, by its digest; and the one digest of each position.
    pub states: States,
    digests: BTreeMap<Position, u64>,
    pub seen: Seen,
}

/// That something happened at all: a run that saw nothing shows nothing.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    pub elections: u64,
    pub committed: u64,
    pub acknowledged: u64,
    pub truncations: u64,
    pub reads: u64,
    pub reads_refused: u64,
    pub boots: u64,
    /// Entries of an earlier term that committed together with one of the leader's own.
    pub inherited: u64,
    pub snapshots: u64,
    pub installed: u64,
    pub compacted: u64,
    /// Entries that hold a configuration, by leaders that wrote them, and of these the joint ones.
    pub configurations: u64,
    pub joint: u64,
    pub changed: u64,
    pub transferred: u64,
    pub operations_refused: u64,
    /// By a node that did not lead.
    pub reads_here: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Seen) {
        self.elections += other.elections;
        self.committed += other.committed;
        self.acknowledged += other.acknowledged;
        self.truncations += other.truncations;
        self.reads += other.reads;
        self.reads_refused += other.reads_refused;
        self.boots += other.boots;
        self.inherited += other.inherited;
        self.snapshots += other.snapshots;
        self.installed += other.installed;
        self.compacted += other.compacted;
        self.configurations += other.configurations;
        self.joint += other.joint;
        self.changed += other.changed;
        self.transferred += other.transferred;
        self.operations_refused += other.operations_refused;
        self.reads_here += other.reads_here;
    }
}

/// One server, as last seen in its current boot.
struct View {
    boot: u64,
    term: Term,
    vote: Option<NodeId>,
    role: RoleName,
    commit: Index,
    /// Terms and chain hashes of its log, from 1, as it asked for them to be written.
    log: Vec<(Term, u64)>,
    applied: Index,
    /// What it counts by where its log says nothing of it.
    first: Configuration,
    /// The highest term that others have seen of it, over all boots.
    shown: Term,
}

struct Leadership {
    id: NodeId,
    boot: u64,
    log: Vec<Term>,
}

#[derive(Clone, Copy)]
enum Request {
    Proposed { to: NodeId, boot: u64 },
    Accepted { to: NodeId, boot: u64, position: Position },
    Read { to: NodeId, boot: u64, told: Index },
    Operation { to: NodeId, told: Index },
}

impl Witness {
    pub fn new(first: Configuration, promote_lag_entries_max: u64) -> Witness {
        Witness {
            first,
            configurations: BTreeMap::new(),
            promote_lag_entries_max,
            views: BTreeMap::new(),
            leaders: BTreeMap::new(),
            chains: BTreeMap::from([(Position::default(), 0)]),
            votes: BTreeMap::new(),
            candidates: BTreeMap::new(),
            commits: BTreeMap::new(),
            applied: Vec::new(),
            requests: BTreeMap::new(),
            done: BTreeSet::new(),
            told: Index(0),
            states: States::new(),
            digests: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    /// A server came up with what its disk holds.
    pub fn booted(&mut self, servers: &Servers, id: NodeId, effects: &Effects) {
        let (server, core) = running(servers, id);
        self.seen.boots += 1;
        let shown = self.views.get(&id).map_or(Term(0), |view| view.shown);
        let term = core.status().term;
        assert!(term >= shown, "{id} shows term {shown} to others and boots with {term}");
        let view = View {
            boot: server.boot,
            term,
            vote: core.vote(),
            role: core.status().role,
            commit: server.applied_index(),
            log: self.prefix(id, server.disk.durable.begin),
            applied: server.applied_index(),
            // A spare waits until it is told.
            first: match server.disk.durable.snapshot() {
                None if !self.first.voters.contains(&id) => Configuration::default(),
                _ => self.first.clone(),
            },
            shown,
        };
        self.check_state(id, &server.applied);
        self.views.insert(id, view);
        self.requests.retain(|_, request| request.to() != id);
        self.follow_log(id, None, &server.disk.durable.entries);
        self.stepped(servers, id, effects);
    }

    /// A server took one step; its effects are not carried out yet.
    pub fn stepped(&mut self, servers: &Servers, id: NodeId, effects: &Effects) {
        let (_, core) = running(servers, id);
        let status = core.status();
        if let Some(persist) = &effects.persist {
            let led = self.views[&id].role == RoleName::Leader && status.role == RoleName::Leader;
            let cut = persist.write.truncate_after;
            assert!(!led || cut.is_none(), "{id} leads {} and cuts its log: {persist:?}", status.term);
            if let Some(begin) = persist.write.begin {
                self.follow_begin(id, begin, effects.install.as_ref());
            }
            self.follow_changes(servers, id, status.term, led, &persist.write.entries);
            self.follow_log(id, cut, &persist.write.entries);
        }
        self.follow_state(id, core);
        if status.role == RoleName::Leader {
            self.follow_leader(servers, id, status.term);
        }
        self.follow_commit(id, core);
        self.follow_applied(id, &effects.apply);
        self.follow_replies(id, &effects.reply);
    }

    /// Looks at the newest jobs of a server.
    pub fn taking_of(&mut self, server: &Server, newest: usize) {
        for job in server.jobs.iter().rev().take(newest) {
            if let Job::Take(snapshot, state) = job {
                self.taking(server.id, snapshot, state);
            }
        }
    }

    /// A snapshot is being taken: the state at one position is one state (§5.4.3), whoever takes it.
    fn taking(&mut self, id: NodeId, snapshot: &Snapshot, state: &State) {
        self.check_state(id, state);
        assert_eq!(state.last().map(Entry::position), Some(snapshot.position), "{id} takes another state");
        let log = self.prefix(id, snapshot.position);
        let want = self.in_force(&log, &self.views[&id].first).1;
        assert_eq!(snapshot.configuration, want, "{id} takes a snapshot with another configuration");
        let known = *self.digests.entry(snapshot.position).or_insert(snapshot.digest);
        assert_eq!(known, snapshot.digest, "{id} and another have two states at {:?}", snapshot.position);
        self.states.insert(snapshot.digest, state.clone());
        self.seen.snapshots += 1;
    }

    /// A state machine holds what was applied by all, and no more than is committed.
    fn check_state(&self, id: NodeId, state: &State) {
        let held = state.iter().map(Entry::position);
        let known = self.applied.get(..state.len());
        let known = known.unwrap_or_else(|| panic!("{id} has a state that nobody has applied"));
        assert!(held.eq(known.iter().copied()), "{id} has another state than was applied");
    }

    /// What stands at each index up to `position`, which is applied.
    fn prefix(&self, id: NodeId, position: Position) -> Vec<(Term, u64)> {
        let before = self.applied.get(..position.index.0 as usize);
        let before = before.unwrap_or_else(|| panic!("{id} begins after {position:?}, which nobody applied"));
        let last = before.last().copied().unwrap_or_default();
        assert_eq!(last, position, "{id} begins after what was not applied");
        before.iter().map(|position| (position.term, self.chains[position])).collect()
    }

    /// Only what is committed leaves the log, and only what is not committed is replaced (§7).
    fn follow_begin(&mut self, id: NodeId, begin: Begin, installed: Option<&Snapshot>) {
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
            }
            None => {
                assert!(!begin.clear && position.index <= view.commit, "{id} drops what is not committed");
                assert_eq!(view.log[..log.len()], log, "{id} drops another log than was applied");
                self.seen.compacted += 1;
            }
        }
    }

    /// Log Matching (§5.3): a position stands for one log.
    fn follow_log(&mut self, id: NodeId, cut: Option<Index>, entries: &[Entry]) {
        let Some(view) = self.views.get_mut(&id) else { return };
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
    }

    /// The newest configuration that a log holds, committed or not (§6), and where.
    fn in_force(&self, log: &[(Term, u64)], first: &Configuration) -> (Index, Configuration) {
        let held = |position: &Position| {
            log.get(position.index.0 as usize - 1).is_some_and(|held| held.0 == position.term)
        };
        let newest = self.configurations.iter().filter(|(position, _)| held(position));
        let newest = newest.max_by_key(|(position, _)| position.index);
        newest.map_or((Index(0), first.clone()), |(position, held)| (position.index, held.clone()))
    }

    /// A leader changes one thing at a time, after it has committed in its own term (thesis §4.1), from a
    /// configuration to a joint one and from there to the next (§6), and promotes only who is caught up.
    fn follow_changes(&mut self, servers: &Servers, id: NodeId, term: Term, led: bool, entries: &[Entry]) {
        let view = &self.views[&id];
        let (index, before) = self.in_force(&view.log, &view.first);
        let own = |entry: &&Entry| led && entry.kind == EntryKind::Config && entry.term == term;
        let Some(change) = entries.iter().find(own) else { return };
        let Some(next) = Configuration::decode(&change.payload) else { panic!("{change:?} holds none") };
        // The step that brings the commit may append what follows from it.
        let commit = running(servers, id).1.status().commit;
        assert!(index <= commit, "{id} changes {before:?} of {index} before that is committed");
        let in_term = view.log.get(commit.0 as usize - 1).is_some_and(|held| held.0 == term);
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
                let caught_up = bound == Index(0) || disk.covers(self.position(id, bound));
                assert!(caught_up, "{id} promotes {new}, whose disk lacks {bound}: {disk:?}");
            }
        }
        self.seen.configurations += 1;
    }

    /// Terms never fall (§5.1), a boot votes once in a term (§5.2), and never for a log behind its own (§5.4.1).
    fn follow_state(&mut self, id: NodeId, core: &Raft) {
        let Some(view) = self.views.get_mut(&id) else { return };
        let status = core.status();
        assert!(status.term >= view.term, "{id} goes back from term {} to {}", view.term, status.term);
        let again = status.term == view.term && view.vote.is_some() && core.vote() != view.vote;
        assert!(!again, "{id} votes for {:?} and {:?} in term {}", view.vote, core.vote(), view.term);
        let last = view.log.len() as u64;
        let view = &self.views[&id];
        let want = self.in_force(&view.log, &view.first).1;
        assert_eq!(*core.configuration().1, want, "{id} counts by another configuration than its log holds");
        let Some(view) = self.views.get_mut(&id) else { return };
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
    fn follow_leader(&mut self, servers: &Servers, id: NodeId, term: Term) {
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
                let (_, counts) = self.in_force(&view.log, &view.first);
                let voted = |voter| voter == id || self.votes.get(&(voter, term)) == Some(&id);
                assert!(counts.quorum_reached(voted), "{id} leads {term} without the votes of {counts:?}");
                let (index, _) = self.in_force(&view.log, &view.first);
                let kept = &view.log[..index.prev().0 as usize];
                let removed = index > view.commit && self.in_force(kept, &view.first).1.has_voter(id);
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
            let (_, counts) = self.in_force(&view.log, &view.first);
            assert!(counts.quorum_reached(holds), "{id} commits {position:?} without a quorum of {counts:?}");
            let view = &self.views[&id];
            let fresh = &view.log[view.commit.0 as usize..commit.0 as usize];
            self.seen.inherited += fresh.iter().filter(|(held, _)| *held < term).count() as u64;
            let newest = self.commits.entry(term).or_default();
            assert!(position.index > newest.index, "{id} commits {position:?} after {newest:?}");
            *newest = position;
        }
    }

    fn follow_commit(&mut self, id: NodeId, core: &Raft) {
        let Some(view) = self.views.get_mut(&id) else { return };
        let commit = core.status().commit;
        assert!(commit >= view.commit, "{id} takes its commit back from {} to {commit}", view.commit);
        self.seen.committed += commit.0 - view.commit.0;
        view.commit = commit;
    }

    /// State Machine Safety (§5.4.3), and in order, without gaps, never beyond commit.
    fn follow_applied(&mut self, id: NodeId, entries: &[Entry]) {
        for entry in entries {
            let Some(view) = self.views.get_mut(&id) else { return };
            let position = entry.position();
            assert_eq!(entry.index, view.applied.next(), "{id} applies {position:?} out of order");
            assert!(
                entry.index <= view.commit,
                "{id} applies {position:?} before its commit {}",
                view.commit
            );
            view.applied = entry.index;
            match self.applied.get(entry.index.0 as usize - 1) {
                Some(known) => assert_eq!(*known, position, "{id} applies what another did not"),
                None => self.applied.push(position),
            }
            self.acknowledge(id, position);
        }
        let view = &self.views[&id];
        assert_eq!(view.applied, view.commit, "{id} hands out less than it commits");
    }

    /// The server tells its client that its write is done, or that another stands in its place.
    fn acknowledge(&mut self, id: NodeId, applied: Position) {
        let boot = self.views[&id].boot;
        self.requests.retain(|name, request| match *request {
            Request::Accepted { to, boot: of, position }
                if (to, of, position.index) == (id, boot, applied.index) =>
            {
                if position == applied {
                    self.told = self.told.max(applied.index);
                    self.seen.acknowledged += 1;
                    self.done.insert(*name);
                }
                false
            }
            _ => true,
        });
    }

    fn follow_replies(&mut self, id: NodeId, replies: &[Reply]) {
        let applied = self.views[&id].applied;
        for reply in replies {
            let (Reply::Proposed { id: name, .. }
            | Reply::Readable { id: name }
            | Reply::NotLeader { id: name, .. }
            | Reply::Changed { id: name }
            | Reply::ChangeLost { id: name }
            | Reply::Transferred { id: name }
            | Reply::NotTransferred { id: name, .. }
            | Reply::Refused { id: name, .. }
            | Reply::Busy { id: name }) = *reply;
            let request = self.requests.remove(&name).unwrap_or_else(|| panic!("nobody asked {reply:?}"));
            assert_eq!(request.to(), id, "{id} answers what another was asked: {reply:?}");
            match (request, *reply) {
                (Request::Proposed { to, boot }, Reply::Proposed { position, .. }) => {
                    assert_eq!(position, self.position(id, position.index), "{id} has no such entry");
                    self.requests.insert(name, Request::Accepted { to, boot, position });
                }
                (Request::Read { told, .. }, Reply::Readable { .. }) => {
                    // Linearizable: it sees all that any client was told of before it began.
                    assert!(applied >= told, "{id} answers a read at {applied} that must see {told}");
                    self.told = self.told.max(applied);
                    self.seen.reads += 1;
                    self.seen.reads_here += u64::from(self.views[&id].role != RoleName::Leader);
                    self.done.insert(name);
                }
                // Nothing was to be done; the answer is a read of the configuration.
                (Request::Operation { told, .. }, Reply::Readable { .. }) => {
                    assert!(applied >= told, "{id} confirms a change at {applied} that must see {told}");
                }
                (Request::Operation { .. }, Reply::Changed { .. }) => {
                    let view = &self.views[&id];
                    let (index, counts) = self.in_force(&view.log, &view.first);
                    assert!(index <= view.commit && !counts.is_joint(), "{id} has not changed to {counts:?}");
                    self.seen.changed += 1;
                    self.done.insert(name);
                }
                (Request::Operation { .. }, Reply::Transferred { .. }) => {
                    self.seen.transferred += 1;
                    self.done.insert(name);
                }
                (
                    Request::Operation { .. },
                    Reply::ChangeLost { .. }
                    | Reply::NotTransferred { .. }
                    | Reply::Refused { .. }
                    | Reply::NotLeader { .. }
                    | Reply::Busy { .. },
                ) => self.seen.operations_refused += 1,
                (Request::Read { .. }, Reply::NotLeader { .. }) => self.seen.reads_refused += 1,
                (
                    Request::Proposed { .. } | Request::Read { .. },
                    Reply::NotLeader { .. } | Reply::Busy { .. },
                ) => {}
                _ => panic!("{id} gives {reply:?} to a request of another kind"),
            }
        }
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

    pub fn proposing(&mut self, servers: &Servers, to: NodeId, id: RequestId) {
        self.requests.insert(id, Request::Proposed { to, boot: servers[&to].boot });
    }

    pub fn reading(&mut self, servers: &Servers, to: NodeId, id: RequestId) {
        self.requests.insert(id, Request::Read { to, boot: servers[&to].boot, told: self.told });
    }

    /// A change or a transfer.
    pub fn operating(&mut self, servers: &Servers, to: NodeId, id: RequestId) {
        assert!(servers[&to].is_up(), "{to} is down");
        self.requests.insert(id, Request::Operation { to, told: self.told });
    }

    /// Who counts for a server, and who only receives.
    pub fn counts(&self, id: NodeId) -> Configuration {
        let view = &self.views[&id];
        self.in_force(&view.log, &view.first).1
    }

    /// A write is committed, or a read answered.
    pub fn is_done(&self, request: RequestId) -> bool {
        self.done.contains(&request)
    }

    /// Reads that have no answer, of servers that still run in the boot that was asked.
    pub fn open_reads(&self, servers: &Servers) -> usize {
        let open = |request: &&Request| {
            matches!(request, Request::Read { to, boot, .. }
                if servers[to].is_up() && servers[to].boot == *boot)
        };
        self.requests.values().filter(open).count()
    }

    /// What each core holds is what it asked its disk to hold, entry for entry.
    pub fn compare_with_disks(&self, servers: &Servers) {
        for (id, server) in servers {
            let Some(core) = server.core() else { continue };
            let held: Vec<Term> = core.entries().map(|entry| entry.term).collect();
            let begin = core.begin().index.0 as usize;
            let asked: Vec<Term> = self.views[id].log[begin..].iter().map(|(term, _)| *term).collect();
            assert_eq!(held, asked, "{id} holds another log than it asked to be written");
            if server.disk.outstanding() == 0 {
                assert!(core.entries().eq(&server.disk.durable.entries), "the disk of {id} differs");
                assert_eq!(core.begin(), server.disk.durable.begin, "the disk of {id} begins elsewhere");
            }
        }
    }

    fn position(&self, id: NodeId, index: Index) -> Position {
        Position { index, term: self.views[&id].log[index.0 as usize - 1].0 }
    }
}

impl Request {
    fn to(&self) -> NodeId {
        match *self {
            Request::Proposed { to, .. }
            | Request::Accepted { to, .. }
            | Request::Read { to, .. }
            | Request::Operation { to, .. } => to,
        }
    }
}

fn running(servers: &Servers, id: NodeId) -> (&Server, &Raft) {
    let server = &servers[&id];
    (server, server.core().unwrap_or_else(|| panic!("{id} is down")))
}
