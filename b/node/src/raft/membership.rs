//! Changes of the cluster's membership (§6, thesis §4): who counts, from when on, and how one set of voters
//! gives way to another.
//!
//! In: what an operator wishes, entries as they come and go. Out: the configuration in force at each index.
//! Never: a configuration that a log does not hold, or one that waits for its commit.
//!
//! A configuration is in force on a node as soon as the node's log holds it, and no longer than that. Any change of
//! the voters goes through a joint configuration, in which elections and commits need a majority of both sets; the
//! leader leaves it by itself once it is committed. Only learners change in one entry: they count for nothing.
//!
//! Differs from §6: new members come as learners, and are promoted only when their log is near the leader's.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::progress::{Flow, Progress};
use super::{
    Change, Configuration, Entry, EntryKind, Index, NodeId, Raft, Refusal, Reply, RequestId, Role, Unfit,
};

/// In all roles together; an entry that holds them all is a small one.
const MEMBERS_MAX: usize = 64;

/// The configurations that a log holds, after the one it began with.
pub struct Configurations {
    /// In force at the log's begin, or at the snapshot that a boot began with.
    first: (Index, Configuration),
    later: Vec<(Index, Configuration)>,
}

impl Configurations {
    pub fn new<'a>(
        index: Index,
        configuration: Configuration,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Configurations {
        let mut all = Configurations { first: (index, configuration), later: Vec::new() };
        entries.filter(|entry| entry.index > index).for_each(|entry| all.appended(entry));
        all
    }

    /// The one in force.
    pub fn current(&self) -> &Configuration {
        &self.newest().1
    }

    /// Of the entry that holds it; 0 for the one that a node was started with.
    pub fn index(&self) -> Index {
        self.newest().0
    }

    /// The one that was in force when the log ended here.
    pub fn at(&self, index: Index) -> &(Index, Configuration) {
        self.later.iter().rfind(|(held, _)| *held <= index).unwrap_or(&self.first)
    }

    pub fn appended(&mut self, entry: &Entry) {
        if entry.kind == EntryKind::Config {
            let configuration = Configuration::decode(&entry.payload);
            let configuration =
                configuration.unwrap_or_else(|| panic!("{:?} holds no configuration", entry.position()));
            self.later.push((entry.index, configuration));
        }
    }

    pub fn truncated_after(&mut self, index: Index) {
        self.later.retain(|(held, _)| *held <= index);
    }

    /// What is before the log's begin need not be told apart any more.
    pub fn begins_after(&mut self, index: Index) {
        self.first = self.at(index).clone();
        self.later.retain(|(held, _)| *held > index);
    }

    fn newest(&self) -> &(Index, Configuration) {
        self.later.last().unwrap_or(&self.first)
    }
}

impl Configuration {
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// What a log or a peer may hold: somebody votes, nobody is two things at once, and all of it has bounds.
    pub fn is_possible(&self) -> bool {
        !self.voters.is_empty()
            && self.learners.is_disjoint(&self.voters)
            && self.learners.is_disjoint(&self.outgoing)
            && self.members().len() <= 2 * MEMBERS_MAX
    }

    /// Voters, outgoing, learners: each a u32 that counts them, then a u64 for each; little-endian.
    pub fn encode(&self) -> Arc<[u8]> {
        let mut bytes = Vec::new();
        for ids in [&self.voters, &self.outgoing, &self.learners] {
            bytes.extend((ids.len() as u32).to_le_bytes());
            ids.iter().for_each(|id| bytes.extend(id.0.to_le_bytes()));
        }
        bytes.into()
    }

    /// None for what [`Configuration::encode`] cannot have made of a possible one.
    pub fn decode(whole: &[u8]) -> Option<Configuration> {
        let mut bytes = whole;
        let mut ids = || {
            let (count, rest) = bytes.split_first_chunk()?;
            let length = (u32::from_le_bytes(*count) as usize).checked_mul(8)?;
            let (ids, rest) = rest.split_at_checked(length)?;
            bytes = rest;
            let ids = ids.chunks_exact(8).map(|id| id.try_into().ok().map(u64::from_le_bytes).map(NodeId));
            ids.collect::<Option<BTreeSet<_>>>()
        };
        let found = Configuration { voters: ids()?, outgoing: ids()?, learners: ids()? };
        // Byte for byte: what names somebody twice, or out of order, is of another making.
        (found.is_possible() && *found.encode() == *whole).then_some(found)
    }

    /// What it is to be after a change that is not unfit; this one is not joint.
    fn changed_by(&self, change: &Change) -> Configuration {
        let Change { add, promote, remove } = change;
        let mut next = self.clone();
        next.learners.extend(add);
        next.learners.retain(|id| !promote.contains(id) && !remove.contains(id));
        next.voters.extend(promote);
        next.voters.retain(|id| !remove.contains(id));
        next
    }

    /// Why a change can never be made to this one.
    fn unfit(&self, change: &Change) -> Option<Unfit> {
        let Change { add, promote, remove } = change;
        let twice = add.iter().find(|id| promote.contains(id) || remove.contains(id));
        if let Some(&id) = twice.or(promote.intersection(remove).next()) {
            return Some(Unfit::NamedTwice(id));
        }
        if let Some(&id) = add.intersection(&self.voters).next() {
            return Some(Unfit::AlreadyVoter(id));
        }
        if let Some(&id) = promote.iter().find(|id| !self.voters.contains(id) && !self.learners.contains(id))
        {
            return Some(Unfit::NoLearner(id));
        }
        let next = self.changed_by(change);
        if next.voters.is_empty() {
            return Some(Unfit::NoVoters);
        }
        (next.members().len() > MEMBERS_MAX).then_some(Unfit::TooMany(MEMBERS_MAX))
    }
}

impl Raft {
    pub(super) fn change(&mut self, id: RequestId, change: &Change) {
        let Role::Leader(leader) = &mut self.role else {
            let leader = self.leader;
            return self.effects.reply.push(Reply::NotLeader { id, leader });
        };
        let configurations = &self.configurations;
        let next = configurations.current().changed_by(change);
        let refused = if self.commit < leader.first {
            // Until then it may not know of a change that is committed (thesis §4.1; raft-dev, July 2015).
            Some(Refusal::NotReady)
        } else if configurations.current().is_joint() || configurations.index() > self.commit {
            Some(Refusal::ChangeUnderWay)
        } else if self.handover.is_some() {
            Some(Refusal::HandingOver)
        } else {
            let unfit = configurations.current().unfit(change).map(Refusal::Unfit);
            unfit.or_else(|| self.lagging(&next))
        };
        if let Some(why) = refused {
            return self.effects.reply.push(Reply::Refused { id, why });
        }
        let current = self.configurations.current();
        if next == *current {
            // Done before. Once it is sure that this leader still leads, it is sure that this still holds.
            return self.read(vec![id]);
        }
        let outgoing = if next.voters == current.voters { BTreeSet::new() } else { current.voters.clone() };
        let Role::Leader(leader) = &mut self.role else { return };
        leader.change = Some(id);
        self.append_configuration(Configuration { outgoing, ..next });
    }

    /// Without a bound here, a change could leave a majority that lacks so much that nothing commits for long
    /// (thesis §4.2.1).
    fn lagging(&self, next: &Configuration) -> Option<Refusal> {
        let Role::Leader(leader) = &self.role else { return None };
        let last = self.log.last().index.0;
        for id in next.voters.difference(&self.configurations.current().voters) {
            let Some(progress) = leader.progress.get(id) else { continue };
            let lacks = last - progress.match_index.0;
            let follows = matches!(progress.flow, Flow::Replicate(_));
            if !follows || lacks > self.options.promote_lag_entries_max {
                return Some(Refusal::Lagging { node: *id, lacks });
            }
        }
        None
    }

    fn append_configuration(&mut self, configuration: Configuration) {
        let last = self.log.last().index;
        let own = self.options.id;
        self.append_own(EntryKind::Config, configuration.encode());
        let members = configuration.members();
        let Role::Leader(leader) = &mut self.role else { return };
        leader.progress.retain(|id, _| members.contains(id));
        for id in members.into_iter().filter(|id| *id != own) {
            leader.progress.entry(id).or_insert_with(|| Progress::new(last));
        }
        self.send_appends();
    }

    /// After each commit of a leader: the end of a joint configuration, and what the end of a change brings.
    pub(super) fn advance_change(&mut self) {
        let (commit, own) = (self.commit, self.options.id);
        let Role::Leader(leader) = &mut self.role else { return };
        // What an earlier leader has left unfinished is finished when it is certainly committed.
        if commit < leader.first || self.configurations.index() > commit {
            return;
        }
        let current = self.configurations.current();
        if current.is_joint() {
            let outgoing = BTreeSet::new();
            return self.append_configuration(Configuration { outgoing, ..current.clone() });
        }
        let ends = !current.voters.contains(&own);
        if let Some(id) = leader.change.take() {
            self.effects.reply.push(Reply::Changed { id });
        }
        if ends {
            // A leader that is no member any more has managed the cluster only until here (§6).
            self.heartbeat();
            self.name_successor();
            self.become_follower(self.term);
        }
    }

    /// Asks the voter with the longest log to stand for election, so that nobody waits for a time-out.
    fn name_successor(&mut self) {
        if let Some(target) = self.best_voter() {
            self.ask_to_campaign(target);
        }
    }

    pub(super) fn is_voter(&self) -> bool {
        self.configurations.current().has_voter(self.options.id)
    }

    /// Whether this node may lead. One that is removed still may, though its own vote does not count, until it knows
    /// that the removal is committed: it may be the only one whose log is long enough to commit it (thesis §4.2.2).
    pub(super) fn may_campaign(&self) -> bool {
        let index = self.configurations.index();
        let before = || self.configurations.at(index.prev()).1.has_voter(self.options.id);
        self.is_voter() || (index > self.commit && before())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().map(|&id| NodeId(id)).collect()
    }

    fn configuration(voters: &[u64], outgoing: &[u64], learners: &[u64]) -> Configuration {
        Configuration { voters: ids(voters), outgoing: ids(outgoing), learners: ids(learners) }
    }

    #[test]
    fn a_change_is_what_it_says_or_names_what_is_wrong() {
        let from = configuration(&[1, 2, 3], &[], &[4]);
        let change = |add: &[u64], promote: &[u64], remove: &[u64]| {
            let change = Change { add: ids(add), promote: ids(promote), remove: ids(remove) };
            from.unfit(&change).map_or_else(|| Ok(from.changed_by(&change)), Err)
        };
        assert_eq!(change(&[5], &[], &[]), Ok(configuration(&[1, 2, 3], &[], &[4, 5])));
        assert_eq!(change(&[4], &[1], &[9]), Ok(from.clone()), "all of it is done already");
        assert_eq!(change(&[], &[4], &[3]), Ok(configuration(&[1, 2, 4], &[], &[])));
        assert_eq!(change(&[], &[], &[4, 1]), Ok(configuration(&[2, 3], &[], &[])));
        assert_eq!(change(&[1], &[], &[]), Err(Unfit::AlreadyVoter(NodeId(1))));
        assert_eq!(change(&[], &[5], &[]), Err(Unfit::NoLearner(NodeId(5))));
        assert_eq!(change(&[], &[4], &[4]), Err(Unfit::NamedTwice(NodeId(4))));
        assert_eq!(change(&[5], &[5], &[]), Err(Unfit::NamedTwice(NodeId(5))));
        assert_eq!(change(&[], &[], &[1, 2, 3]), Err(Unfit::NoVoters));
        let many: Vec<u64> = (5..70).collect();
        assert_eq!(change(&many, &[], &[]), Err(Unfit::TooMany(MEMBERS_MAX)));
    }

    #[test]
    fn a_configuration_survives_its_bytes_and_nothing_else_does() {
        let joint = configuration(&[1, 2], &[2, 3], &[u64::MAX]);
        let bytes = joint.encode();
        assert_eq!(Configuration::decode(&bytes), Some(joint));
        for length in 0..bytes.len() {
            assert_eq!(Configuration::decode(&bytes[..length]), None, "{length} bytes of it");
        }
        assert_eq!(Configuration::decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(Configuration::decode(&[0xff; 40]), None);
        let twice = [&[2, 0, 0, 0][..], &[1, 0, 0, 0, 0, 0, 0, 0].repeat(2), &[0; 8]].concat();
        assert_eq!(Configuration::decode(&twice), None, "n1 is named twice");
        for impossible in [configuration(&[], &[1], &[]), configuration(&[1], &[], &[1])] {
            assert_eq!(Configuration::decode(&impossible.encode()), None);
        }
    }

    #[test]
    fn configurations_come_and_go_with_their_entries() {
        let entry = |index, configuration: &Configuration| Entry {
            index: Index(index),
            term: super::super::Term(1),
            kind: EntryKind::Config,
            payload: configuration.encode(),
        };
        let [first, second, third] = [&[1][..], &[1, 2], &[1, 2, 3]].map(|ids| configuration(ids, &[], &[]));
        let held = [entry(4, &second), entry(9, &third)];
        let mut all = Configurations::new(Index(0), first.clone(), held.iter());
        assert_eq!((all.index(), all.current()), (Index(9), &third));
        assert_eq!(all.at(Index(8)), &(Index(4), second.clone()));
        assert_eq!(all.at(Index(3)), &(Index(0), first));
        all.begins_after(Index(5));
        assert_eq!(all.at(Index(5)), &(Index(4), second.clone()));
        all.truncated_after(Index(8));
        assert_eq!((all.index(), all.current()), (Index(4), &second));
    }
}
