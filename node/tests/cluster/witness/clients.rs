//! What was applied, and what clients are told of it.

use super::*;

impl Witness {
    /// State Machine Safety (§5.4.3), and in order, without gaps, never beyond commit.
    pub(super) fn follow_applied(&mut self, id: NodeId, entries: &[Entry]) {
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

    /// An entry does the same wherever it is applied, and each (session, sequence) takes effect once (thesis §6.3).
    pub(super) fn follow_effect(&mut self, id: NodeId, entry: &Entry, effect: &Applied) {
        let ticket = (effect.session, effect.sequence);
        match self.effects.entry(entry.index) {
            btree_map::Entry::Occupied(known) => {
                assert_eq!(known.get(), effect, "{id} and another see {:?} do two things", entry.position());
            }
            btree_map::Entry::Vacant(free) => {
                free.insert(effect.clone());
                self.seen.duplicates += u64::from(effect.outcome == Effect::Duplicate);
                if effect.sequence > 0 && effect.outcome == Effect::Applied {
                    let before = self.once.insert(ticket, entry.index);
                    assert_eq!(before, None, "{id} sees {ticket:?} take effect again at {}", entry.index);
                }
            }
        }
    }

    /// Where a write took effect.
    pub fn effect_of(&self, session: u64, sequence: u64) -> Option<Index> {
        self.once.get(&(session, sequence)).copied()
    }

    /// The server tells its client that its write is done, or that another stands in its place.
    pub(super) fn acknowledge(&mut self, id: NodeId, applied: Position) {
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

    pub(super) fn follow_replies(&mut self, id: NodeId, replies: &[Reply]) {
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
                    let under_way = self.transfers.get(&id).filter(|name| self.requests.contains_key(name));
                    assert_eq!(under_way, None, "{id} takes {position:?} while it hands over");
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
                    let (index, counts) = &view.counts;
                    assert!(
                        *index <= view.commit && !counts.is_joint(),
                        "{id} has not changed to {counts:?}"
                    );
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

    pub fn proposing(&mut self, servers: &Servers, to: NodeId, id: RequestId) {
        self.requests.insert(id, Request::Proposed { to, boot: servers[&to].boot });
    }

    pub fn reading(&mut self, servers: &Servers, to: NodeId, id: RequestId) {
        self.requests.insert(id, Request::Read { to, boot: servers[&to].boot, told: self.told });
    }

    /// A leader that answers a read at once has a lease: until it ends, nobody else is elected (thesis §6.4.1).
    pub fn answered_at_once(&mut self, id: NodeId, replies: &[Reply]) {
        let View { role, term, .. } = self.views[&id];
        let answers = replies.iter().filter(|reply| matches!(reply, Reply::Readable { .. })).count();
        if answers == 0 || role != RoleName::Leader {
            return;
        }
        let newest = self.leaders.last_key_value().map(|(term, leader)| (*term, leader.id));
        assert_eq!(newest, Some((term, id)), "{id} answers by a lease, and does not lead the newest term");
        self.seen.reads_leased += answers as u64;
    }

    /// A server has taken the step that a transfer asks for: unless it was answered, it is under way.
    pub fn transferring(&mut self, id: NodeId, name: RequestId) {
        if self.requests.contains_key(&name) {
            self.transfers.insert(id, name);
        }
    }

    /// A change or a transfer.
    pub fn operating(&mut self, servers: &Servers, to: NodeId, id: RequestId) {
        assert!(servers[&to].is_up(), "{to} is down");
        self.requests.insert(id, Request::Operation { to, told: self.told });
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
}
