//! What goes into the core and what comes out of it.
//!
//! In: nothing. Out: [`Options`] and [`Initial`], which a core is made of; [`Input`], [`Effects`] and what they hold;
//! [`Status`]. Never: a rule of Raft.

use super::*;

/// What a core is told once, when it is made.
#[derive(Clone, Debug)]
pub struct Options {
    pub id: NodeId,
    /// The least number of ticks without a leader before a campaign; each is drawn between this and its double.
    pub election_ticks: u32,
    pub heartbeat_ticks: u32,
    /// An append carries entries until they exceed this, and at least one.
    pub append_bytes_max: usize,
    /// Bytes sent to a follower and not yet acknowledged.
    pub inflight_bytes_max: usize,
    /// Entries a leader holds that are not committed; beyond it, proposals are refused as busy.
    pub uncommitted_entries_max: u64,
    /// A snapshot is due when this much is committed since the last one.
    pub compact_entries: u64,
    pub compact_bytes: usize,
    /// Of the entries that a snapshot covers, at most these stay in the log, for followers that lag a little.
    pub tail_entries: u64,
    pub tail_bytes: usize,
    /// A snapshot goes to a follower in chunks of this length.
    pub chunk_bytes: u64,
    /// To all followers together.
    pub chunks_per_tick: u64,
    /// To one follower, and not yet acknowledged.
    pub chunks_inflight_max: u64,
    /// A learner that lacks more is not promoted.
    pub promote_lag_entries_max: u64,
    /// Election timeouts that this node lets pass before others who would lead as well; 0: it is like all.
    pub patience: u32,
    /// For how long a leader answers reads by itself once a quorum has confirmed it, in units of
    /// [`Input::Clock`], from the moment it asked. None: it asks for each. All nodes must agree whether there are leases.
    pub lease: Option<u64>,
    /// Of the election timeouts.
    pub seed: u64,
}

/// What the disk gave back.
#[derive(Clone, Debug, Default)]
pub struct Initial {
    pub hard_state: HardState,
    /// The log begins after this.
    pub begin: Position,
    pub entries: Vec<Entry>,
    /// At or after `begin`, and in the log; the default where there is none.
    pub snapshot: Snapshot,
    /// Where no snapshot says otherwise.
    pub configuration: Configuration,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A constant span of time has passed.
    Tick,
    Message(Message),
    /// Commands for the state machine, in this order.
    Propose(Vec<Proposal>),
    /// Linearizable reads.
    Read(Vec<RequestId>),
    /// The same on any node, which asks its leader what they must have seen.
    ReadHere(Vec<RequestId>),
    /// What a monotonic clock shows, read after the inputs before it came and before the one after it is taken.
    Clock(u64),
    /// What an operator wishes.
    Change(RequestId, Change),
    /// Leadership goes to this voter, or to the one that is furthest.
    Transfer(RequestId, Option<NodeId>),
    /// A snapshot is wished for, whether it is due or not.
    Compact,
    /// A write of an earlier [`Effects::persist`] is durable, and so are all before it.
    Persisted(WriteId),
    /// The snapshot that [`Effects::take`] asked for stands on the disk, read back and found whole.
    Snapshotted(Snapshot),
    /// So does one whose chunks were all accepted.
    Received(Snapshot),
    /// It does not, and what there is of it is gone.
    Unreceived(Position),
}

/// A chunk to be kept: all before it were.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accept {
    pub snapshot: Snapshot,
    pub number: u64,
    pub last: bool,
}

/// The caller's name for a request, given back in its [`Reply`].
pub type RequestId = u64;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    pub id: RequestId,
    pub payload: std::sync::Arc<[u8]>,
}

/// Names a write; `term` lets a completion that comes after a change of term count for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteId {
    pub term: Term,
    /// Counts this boot's writes.
    pub sequence: u64,
    /// The last index of the log as this write leaves it.
    pub last: Index,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Persist {
    pub id: WriteId,
    pub write: Write,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The proposal stands here; it is decided when an entry is applied at this index.
    Proposed { id: RequestId, position: Position },
    /// The state machine, as applied so far, may answer this read.
    Readable { id: RequestId },
    /// This node does not lead, and nothing was proposed.
    NotLeader { id: RequestId, leader: Option<NodeId> },
    /// Too much is uncommitted, too many reads wait, or leadership is on its way to another; nothing was proposed
    /// or read.
    Busy { id: RequestId },
    /// The configuration that the change asked for is committed.
    Changed { id: RequestId },
    /// Leadership was lost before the change was known to be committed; it may yet be.
    ChangeLost { id: RequestId },
    /// The one who was asked leads.
    Transferred { id: RequestId },
    /// It did not come to lead in time; `asked`: it may yet.
    NotTransferred { id: RequestId, asked: bool },
    /// Neither changed nor transferred.
    Refused { id: RequestId, why: Refusal },
}

/// What a step asks for. `send` goes before `persist` is durable and `send_durable` after; docs/decisions/disk-thread.md
/// has the order of all of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Effects {
    /// At once: a leader's appends, whose term was durable before it led (thesis §10.2.1).
    pub send: Vec<Message>,
    pub persist: Option<Persist>,
    /// Only when all persisted so far is durable: votes, acknowledgements and requests for votes.
    pub send_durable: Vec<Message>,
    /// The state of this snapshot, which was received, takes the place of the machine's.
    pub install: Option<Snapshot>,
    /// Committed entries, in order and without gaps.
    pub apply: Vec<Entry>,
    pub reply: Vec<Reply>,
    /// Of the messages of this step, the chunks whose bytes count.
    pub accept: Vec<Accept>,
    /// A snapshot of the state as it now is, please; see [`Raft::snapshot_at`] for what it stands for.
    pub take: bool,
}

impl Effects {
    /// Adds what a later step asks for, so that one write and one sync serve both.
    pub fn absorb(&mut self, later: Effects) {
        self.send.extend(later.send);
        self.persist = match (self.persist.take(), later.persist) {
            (Some(mut first), Some(second)) => {
                first.write.absorb(second.write);
                Some(Persist { id: second.id, write: first.write })
            }
            (first, second) => first.or(second),
        };
        self.send_durable.extend(later.send_durable);
        if later.install.is_some() {
            // The new state holds what these would have done.
            self.apply.clear();
            self.install = later.install;
        }
        self.apply.extend(later.apply);
        self.reply.extend(later.reply);
        self.accept.extend(later.accept);
        self.take |= later.take;
    }

    pub fn is_empty(&self) -> bool {
        *self == Effects::default()
    }
}

/// What a role is called outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoleName {
    Follower,
    PreCandidate,
    Candidate,
    Leader,
    Learner,
}

/// One node's view of its cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    pub term: Term,
    pub role: RoleName,
    pub leader: Option<NodeId>,
    pub last: Index,
    pub commit: Index,
}
