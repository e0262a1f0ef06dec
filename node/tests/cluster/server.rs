//! A server: a core, its disk, its state machine and what carries its snapshots, over all its boots.
//!
//! In: inputs for the core. Out: the messages that may leave at once, entries and replies.
//! Never: a decision about time or the network.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use mkraft_node::raft::{
    Accept, Configuration, Effects, Entry, Index, Input, Message, NodeId, Options, Raft, Reply, Snapshot,
    Write,
};

use super::disk::{Disk, State};

/// The state of each digest, wherever it was taken.
pub type States = std::collections::BTreeMap<u64, State>;

pub struct Server {
    pub id: NodeId,
    /// Counts from 1; a server that is down is between two boots.
    pub boot: u64,
    pub disk: Disk,
    /// What the state machine has applied: by itself, or in the snapshot it began with.
    pub applied: State,
    /// Snapshots that are being written or read, oldest first; a crash ends them.
    pub jobs: VecDeque<Job>,
    options: Options,
    configuration: Configuration,
    core: Option<Raft>,
    /// Chunks that came and were accepted.
    receiving: Option<(Snapshot, u64)>,
}

#[derive(Debug)]
pub enum Job {
    Take(Snapshot, State),
    /// All of its chunks are here.
    Receive(Snapshot),
}

/// What carrying out effects asked of the world outside.
#[derive(Debug, Default)]
pub struct Outcome {
    /// May leave now; what waits for the disk comes with its completion.
    pub send: Vec<Message>,
    pub wrote: Option<Write>,
    pub installed: Option<Snapshot>,
    pub applied: Vec<Entry>,
    pub replies: Vec<Reply>,
    /// New ones.
    pub jobs: usize,
}

impl Server {
    /// Not yet booted.
    pub fn new(options: Options, configuration: Configuration) -> Server {
        Server {
            id: options.id,
            boot: 0,
            disk: Disk::default(),
            applied: State::default(),
            jobs: VecDeque::new(),
            options,
            configuration,
            core: None,
            receiving: None,
        }
    }

    pub fn boot(&mut self) -> Effects {
        assert!(self.core.is_none(), "{} already runs", self.id);
        self.boot += 1;
        self.applied = self.disk.durable.snapshot().map(|(_, state)| state.clone()).unwrap_or_default();
        let seed = self.options.seed.wrapping_add(self.boot);
        let options = Options { seed, ..self.options.clone() };
        let (core, effects) = Raft::new(options, self.disk.initial(self.configuration.clone()));
        self.core = Some(core);
        effects
    }

    /// The oldest `kept` writes under way make it to the disk.
    pub fn crash(&mut self, kept: usize) {
        self.core = None;
        self.jobs.clear();
        self.receiving = None;
        self.disk.crash(kept);
    }

    pub fn is_up(&self) -> bool {
        self.core.is_some()
    }

    pub fn core(&self) -> Option<&Raft> {
        self.core.as_ref()
    }

    /// None while it is down.
    pub fn step(&mut self, input: Input) -> Option<Effects> {
        self.core.as_mut().map(|core| core.step(input))
    }

    /// In the order of the fields; only the disk takes its time, and who carries snapshots.
    pub fn carry_out(&mut self, effects: Effects) -> Outcome {
        let Effects { mut send, persist, send_durable, install, apply, reply, accept, take } = effects;
        let jobs = self.jobs.len();
        let wrote = persist.as_ref().map(|persist| persist.write.clone());
        send.extend(self.disk.submit(persist, send_durable));
        if let Some(snapshot) = &install {
            let placed = self.disk.durable.snapshots.iter();
            let state = placed.filter(|(found, _)| found == snapshot).map(|(_, state)| state).next_back();
            let state =
                state.unwrap_or_else(|| panic!("{} installs {snapshot:?}, which it has not", self.id));
            self.applied = state.clone();
        }
        Arc::make_mut(&mut self.applied).extend(apply.iter().cloned());
        if take {
            self.take();
        }
        accept.into_iter().for_each(|accept| self.keep(accept));
        let jobs = self.jobs.len() - jobs;
        Outcome { send, wrote, installed: install, applied: apply, replies: reply, jobs }
    }

    fn take(&mut self) {
        let applied = self.applied_index();
        let Some(core) = &self.core else { return };
        let (position, configuration) = core.snapshot_at(applied);
        let mut hasher = DefaultHasher::new();
        for entry in &*self.applied {
            (entry.index, entry.term, &entry.payload).hash(&mut hasher);
        }
        let bytes = self.applied.len() as u64;
        let snapshot = Snapshot { position, configuration, bytes, digest: hasher.finish() };
        self.jobs.push_back(Job::Take(snapshot, self.applied.clone()));
    }

    fn keep(&mut self, Accept { snapshot, number, last }: Accept) {
        if number == 0 {
            self.receiving = Some((snapshot.clone(), 0));
        }
        let Some((found, next)) = &mut self.receiving else {
            panic!("{} keeps chunk {number} alone", self.id)
        };
        assert_eq!((&*found, *next), (&snapshot, number), "{} keeps chunks out of order", self.id);
        *next += 1;
        assert_eq!(
            last,
            *next == snapshot.chunks(self.options.chunk_bytes),
            "{} is wrong of the last",
            self.id
        );
        if last {
            self.receiving = None;
            self.jobs.push_back(Job::Receive(snapshot));
        }
    }

    /// The oldest job is done: its snapshot stands on the disk, unless what was received is not `whole`.
    pub fn finish_job(&mut self, states: &States, whole: bool) -> Option<Input> {
        Some(match self.jobs.pop_front()? {
            Job::Take(snapshot, state) => {
                self.disk.place(snapshot.clone(), state);
                Input::Snapshotted(snapshot)
            }
            Job::Receive(snapshot) if whole => {
                self.disk.place(snapshot.clone(), states[&snapshot.digest].clone());
                Input::Received(snapshot)
            }
            Job::Receive(snapshot) => Input::Unreceived(snapshot.position),
        })
    }

    pub fn applied_index(&self) -> Index {
        self.applied.last().map_or(Index(0), |entry| entry.index)
    }
}
