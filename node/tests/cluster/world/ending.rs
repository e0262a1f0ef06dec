//! The end of a schedule: everything heals, and the cluster must come together and serve again.

use mkraft_node::raft::Raft;

use super::*;

/// Rounds of a write and a read at the end of a history.
const CLOSING_MAX: usize = 200;

impl World {
    pub(super) fn heal_for_good(&mut self) {
        self.calm = true;
        self.heal();
        for id in self.servers.keys().copied().collect::<Vec<_>>() {
            self.wake(id);
            if !self.servers[&id].is_up() {
                self.boot(id);
            }
        }
    }

    /// One leads, and all members have all of its log and know it committed.
    pub(super) fn is_in_line(&self) -> bool {
        let mut leaders = self.servers.keys().filter(|id| self.role(**id) == Some(RoleName::Leader));
        let (Some(&leader), None) = (leaders.next(), leaders.next()) else { return false };
        let counts = self.witness.counts(leader);
        let Some(last) = self.servers[&leader].core().map(|core| core.status().last) else { return false };
        let in_line = |id: &NodeId| {
            let server = &self.servers[id];
            let status = server.core().map(|core| core.status());
            let idle = server.disk.outstanding() == 0 && server.applied_index() == last;
            idle && status.is_some_and(|status| {
                (status.last, status.commit, status.leader) == (last, last, Some(leader))
            })
        };
        !counts.is_joint()
            && counts.members().iter().all(in_line)
            && self.witness.open_reads(&self.servers) == 0
    }

    /// A history in which some kind of operation never succeeds shows nothing.
    pub(super) fn close_history(&mut self, leader: NodeId) {
        for _ in 0..CLOSING_MAX {
            if self.evidence.as_ref().is_none_or(|evidence| evidence.shows_all()) {
                return;
            }
            self.write(leader);
            self.read(leader, false);
            self.run_until(self.now + TICK);
        }
    }

    pub(super) fn sole_leader(&self) -> NodeId {
        let leaders: Vec<NodeId> =
            self.servers.keys().copied().filter(|id| self.role(*id) == Some(RoleName::Leader)).collect();
        let [leader] = leaders[..] else { panic!("{leaders:?} lead long after all has healed") };
        leader
    }

    pub(super) fn check_recovered(&self, leader: NodeId, last: RequestId, read: RequestId) {
        assert!(self.witness.is_done(last), "{leader} does not commit after all has healed");
        assert!(self.witness.is_done(read), "{leader} answers no read after all has healed");
        self.witness.compare_with_disks(&self.servers);
        assert_eq!(self.witness.open_reads(&self.servers), 0, "reads were neither answered nor refused");
        let Some(led) = self.servers[&leader].core() else { panic!("{leader} is down") };
        let counts = self.witness.counts(leader);
        assert!(!counts.is_joint(), "{leader} does not leave {counts:?}");
        for id in &counts.members() {
            let server = &self.servers[id];
            let Some(core) = server.core() else { panic!("{id} is down") };
            let begin = core.begin().index.max(led.begin().index);
            let tail =
                |core: &Raft| core.entries().filter(|entry| entry.index > begin).cloned().collect::<Vec<_>>();
            assert!(tail(core) == tail(led), "{id} ends with another log than {leader}");
            assert_eq!(
                server.applied, self.servers[&leader].applied,
                "{id} ends with another state than {leader}"
            );
            let status = core.status();
            assert_eq!(status.commit, status.last, "{id} has not learned what is committed");
            assert_eq!(server.applied_index(), status.last, "{id} has not applied what is committed");
            assert_eq!(status.leader, Some(leader), "{id} follows another");
        }
    }
}
