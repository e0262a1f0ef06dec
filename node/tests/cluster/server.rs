//! A server: a core, its disk, its state machine and what carries its snapshots, over all its boots.
//!
//! In: inputs for the core. Out: the messages that may leave at once, entries and replies.
//! Never: a decision about time or the network.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use mkraft_node::machine::{Applied, Machine};
use mkraft_node::raft::{
    Accept, Configuration, Effects, Entry, Index, Input, Message, NodeId, Options, Raft, Reply, Snapshot,
    Write, WriteId,
};

use super::disk::{Disk, State};
use super::ledger::Ledger;

/// The state of each digest, wherever it was taken.
pub type States = std::collections::BTreeMap<u64, State>;

pub struct Server {
    pub id: NodeId,
    /// Counts from 1; a server that is down is between two boots.
    pub boot: u64,
    pub disk: Disk,
    /// What the state machine has applied: by itself, or in the snapshot it began with.
    pub applied: Arc<Vec<Entry>>,
    pub machine: Machine<Ledger>,
    /// Snapshots that are being written or read, oldest first; a crash ends them.
    pub jobs: VecDeque<Job>,
    /// Like a node's driver it does nothing else until its write is durable; without, the disk works beside it.
    waits: bool,
    /// What it does when the write it waits for is durable.
    held: Option<(Write, Effects)>,
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
#[derive(Default)]
pub struct Outcome {
    /// May leave now; what waits for the disk comes with its completion.
    pub send: Vec<Message>,
    pub wrote: Option<Write>,
    pub installed: Option<Snapshot>,
    pub applied: Vec<(Entry, Applied)>,
    pub replies: Vec<Reply>,
    /// New ones.
    pub jobs: usize,
}

/// Some writes became durable; `id` is the last of them.
pub struct Written {
    pub id: WriteId,
    pub release: Vec<Message>,
    /// Of a server that waited: what it wrote, and what it does now.
    pub held: Option<(Write, Effects)>,
}

impl Server {
    /// Not yet booted.
    pub fn new(options: Options, configuration: Configuration, waits: bool) -> Server {
        Server {
            id: options.id,
            boot: 0,
            disk: Disk::default(),
            applied: Arc::default(),
            machine: Machine::new(Ledger::default()),
            jobs: VecDeque::new(),
            waits,
            held: None,
            options,
            configuration,
            core: None,
            receiving: None,
        }
    }

    pub fn boot(&mut self) -> Effects {
        assert!(self.core.is_none(), "{} already runs", self.id);
        self.boot += 1;
        match self.disk.durable.snapshot().map(|(_, state)| state.clone()) {
            Some(state) => self.adopt(&state),
            None => (self.applied, self.machine) = (Arc::default(), Machine::new(Ledger::default())),
        }
        let seed = self.options.seed.wrapping_add(self.boot);
        let options = Options { seed, ..self.options.clone() };
        let (core, effects) = Raft::new(options, self.disk.initial(self.configuration.clone()));
        self.core = Some(core);
        effects
    }

    /// The oldest `kept` writes under way make it to the disk.
    pub fn crash(&mut self, kept: usize) {
        self.core = None;
        self.held = None;
        self.jobs.clear();
        self.receiving = None;
        self.disk.crash(kept);
    }

    pub fn is_up(&self) -> bool {
        self.core.is_some()
    }

    /// It takes no input before its write is durable.
    pub fn is_waiting(&self) -> bool {
        self.held.is_some()
    }

    pub fn core(&self) -> Option<&Raft> {
        self.core.as_ref()
    }

    /// None while it is down.
    pub fn step(&mut self, input: Input) -> Option<Effects> {
        assert!(self.held.is_none(), "{} is given {input:?} while it waits for its disk", self.id);
        self.core.as_mut().map(|core| core.step(input))
    }

    /// In the order of the fields; only the disk takes its time, and who carries snapshots.
    pub fn carry_out(&mut self, mut effects: Effects) -> Outcome {
        let mut send = std::mem::take(&mut effects.send);
        let persist = effects.persist.take();
        let wrote = persist.as_ref().map(|persist| persist.write.clone());
        if let (true, Some(write)) = (self.waits, &wrote) {
            self.disk.submit(persist, std::mem::take(&mut effects.send_durable));
            self.held = Some((write.clone(), effects));
            return Outcome { send, wrote, ..Outcome::default() };
        }
        let Effects { send_durable, install, apply, reply, accept, take, .. } = effects;
        let jobs = self.jobs.len();
        send.extend(self.disk.submit(persist, send_durable));
        if let Some(snapshot) = &install {
            let placed = self.disk.durable.snapshots.iter();
            let state = placed.filter(|(found, _)| found == snapshot).map(|(_, state)| state).next_back();
            let state =
                state.unwrap_or_else(|| panic!("{} installs {snapshot:?}, which it has not", self.id));
            self.adopt(&state.clone());
        }
        let mut applied = Vec::with_capacity(apply.len());
        for entry in apply {
            Arc::make_mut(&mut self.applied).push(entry.clone());
            let effect = self.machine.apply(&entry);
            applied.push((entry, effect));
        }
        if take {
            self.take();
        }
        accept.into_iter().for_each(|accept| self.keep(accept));
        let jobs = self.jobs.len() - jobs;
        Outcome { send, wrote, installed: install, applied, replies: reply, jobs }
    }

    /// The oldest `count` writes under way are durable, with one completion for them all.
    pub fn written(&mut self, count: usize) -> Option<Written> {
        let completion = self.disk.complete(count)?;
        Some(Written { id: completion.id, release: completion.release, held: self.held.take() })
    }

    fn adopt(&mut self, state: &State) {
        self.applied = state.applied.clone();
        let machine = Machine::restore(&*state.bytes);
        self.machine = machine.unwrap_or_else(|error| panic!("{} cannot read a state: {error}", self.id));
    }

    /// All of the machine, as a snapshot of it would be written.
    pub fn state(&self) -> State {
        let mut bytes = Vec::new();
        self.machine.freeze().write_to(&mut bytes).unwrap_or_else(|error| panic!("memory fails: {error}"));
        State { applied: self.applied.clone(), bytes: bytes.into() }
    }

    fn take(&mut self) {
        let applied = self.applied_index();
        let Some(core) = &self.core else { return };
        let (position, configuration) = core.snapshot_at(applied);
        let state = self.state();
        let mut hasher = DefaultHasher::new();
        (position, &state.bytes).hash(&mut hasher);
        // An entry counts for one byte.
        let bytes = self.applied.len() as u64;
        let snapshot = Snapshot { position, configuration, bytes, digest: hasher.finish() };
        self.jobs.push_back(Job::Take(snapshot, state));
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
