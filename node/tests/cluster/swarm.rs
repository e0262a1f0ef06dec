//! What can go wrong in one simulated schedule: every feature is drawn in or out by its seed.
//!
//! In: a source of chance. Out: [`Swarm`], plain values. Never: a run of anything.
//!
//! Schedules with everything switched on look all alike: the loudest fault hides the others. Leaving features
//! out at random reaches more (Groce et al., "Swarm testing", ISSTA 2012).

use super::random::Random;

/// Percentages are chances per message, write or step; spans are in units of time, of which a tick has 10.
#[derive(Debug)]
pub struct Swarm {
    pub nodes: u64,
    pub loss: u64,
    pub duplicates: u64,
    /// Messages may overtake each other on a link.
    pub reorder: bool,
    pub delay_max: u64,
    /// Messages that take up to `STRAGGLER_MAX`.
    pub stragglers: u64,
    /// Requests for votes, and to campaign, that do: they come when the logs have moved on.
    pub straggling_candidates: u64,
    /// Acknowledgements that take up to `LATE_ANSWER_MAX`: a leader hears late that it was followed.
    pub late_answers: u64,
    /// What is sent over a cut link arrives after the heal, instead of never.
    pub cuts_hold: bool,
    /// From one server to another, or between the two.
    pub cut_links: bool,
    pub partitions: bool,
    pub isolations: bool,
    pub crashes: bool,
    /// A crash right after a step, with its effects on their way.
    pub sudden_crashes: bool,
    /// A crash right after a change of role or term, where votes and first entries are on their way.
    pub crashes_in_elections: u64,
    /// Ticks that a crashed server stays down, at most.
    pub down_max: u64,
    /// Of the crashes, those after which a server stays away for up to `ABSENCE_MAX` ticks, while the others move on.
    pub absences: u64,
    pub pauses: bool,
    pub write_max: u64,
    /// Servers do nothing else until their writes are durable, as a node's driver; without, disks work beside them.
    pub waits_for_disk: bool,
    /// A completion may reach its core long after the write.
    pub late_completions: bool,
    /// Inputs are gathered, and their effects carried out as one.
    pub batches: bool,
    /// Ticks are longer or shorter from node to node.
    pub drift: bool,
    /// That write, each one thing at a time.
    pub clients: u64,
    /// Units from one request of the clients to the next.
    pub request_every: u64,
    pub reads: u64,
    pub fault_every: u64,
    /// The least election timeout; short ones meet long delays, and votes are contested.
    pub election_ticks: u32,
    pub append_bytes_max: usize,
    pub inflight_bytes_max: usize,
    pub uncommitted_entries_max: u64,
    /// A snapshot is due after so many entries or bytes; without compaction after more than there are.
    pub compact_entries: u64,
    pub compact_bytes: usize,
    pub tail_entries: u64,
    pub tail_bytes: usize,
    /// Entries in a chunk of a snapshot, chunks a tick, and on their way.
    pub chunk_entries: u64,
    pub chunks_per_tick: u64,
    pub chunks_inflight_max: u64,
    /// Units that it takes to write a snapshot, or to take one in.
    pub snapshot_max: u64,
    /// What was received is not what was sent.
    pub spoiled_snapshots: u64,
    /// Crashes where a snapshot is under way or was just placed.
    pub crashes_in_snapshots: u64,
    /// A crash damages the newest snapshot, where an older one makes up for it.
    pub damaged_snapshots: u64,
    /// Nodes that are no members at first.
    pub spares: u64,
    /// Of the requests, in percent: changes of the membership, and transfers of leadership.
    pub changes: u64,
    pub transfers: u64,
    pub promote_lag_entries_max: u64,
    /// Of the reads, in percent: those that a node answers itself, whether it leads or not.
    pub reads_here: u64,
    pub leases: bool,
    /// The last node lets others campaign first, for so many timeouts.
    pub patience: u32,
}

pub const STRAGGLER_MAX: u64 = 250;
pub const LATE_ANSWER_MAX: u64 = 150;
pub const LATE_COMPLETION_MAX: u64 = 120;
pub const ABSENCE_MAX: u64 = 90;

impl Swarm {
    pub fn draw(random: &mut Random) -> Swarm {
        let compacts = random.percent(75);
        let changes = random.percent(60);
        // With little in the log, whoever was away needs a snapshot.
        let entries_max = if random.percent(50) { 8 } else { 40 };
        Swarm {
            nodes: [1, 2, 3, 3, 3, 3, 4, 5, 5, 5][random.between(0, 9) as usize],
            loss: some(random, 1, 15),
            duplicates: some(random, 1, 15),
            reorder: random.percent(50),
            delay_max: if random.percent(50) { 3 } else { random.between(5, 40) },
            stragglers: some(random, 1, 5),
            straggling_candidates: some(random, 20, 80),
            late_answers: if random.percent(25) { random.between(10, 50) } else { 0 },
            cuts_hold: random.percent(50),
            cut_links: random.percent(50),
            partitions: random.percent(50),
            isolations: random.percent(50),
            crashes: random.percent(50),
            sudden_crashes: random.percent(30),
            crashes_in_elections: some(random, 2, 15),
            down_max: if random.percent(50) { 3 } else { 40 },
            absences: some(random, 10, 60),
            pauses: random.percent(50),
            write_max: if random.percent(50) { 2 } else { random.between(10, 60) },
            waits_for_disk: random.percent(40),
            late_completions: random.percent(30),
            batches: random.percent(40),
            drift: random.percent(40),
            clients: random.between(1, 8),
            request_every: random.between(4, 40),
            reads: if random.percent(70) { random.between(10, 90) } else { 0 },
            fault_every: if random.percent(50) { random.between(20, 80) } else { random.between(80, 400) },
            election_ticks: [3, 4, 6, 10][random.between(0, 3) as usize],
            append_bytes_max: random.between(1, 200) as usize,
            inflight_bytes_max: random.between(1, 400) as usize,
            uncommitted_entries_max: random.between(3, 100),
            compact_entries: if compacts { random.between(1, entries_max) } else { u64::MAX },
            compact_bytes: if compacts && random.percent(50) {
                random.between(100, 2000) as usize
            } else {
                1 << 30
            },
            tail_entries: some(random, 1, 20),
            tail_bytes: if random.percent(70) { 1 << 30 } else { random.between(1, 500) as usize },
            chunk_entries: random.between(4, 12),
            chunks_per_tick: random.between(1, 4),
            chunks_inflight_max: random.between(1, 4),
            snapshot_max: if random.percent(50) { 3 } else { random.between(10, 400) },
            spoiled_snapshots: some(random, 5, 40),
            crashes_in_snapshots: some(random, 5, 40),
            damaged_snapshots: some(random, 20, 80),
            spares: if changes { random.between(0, 3) } else { 0 },
            changes: if changes { random.between(5, 40) } else { 0 },
            transfers: some(random, 2, 20),
            promote_lag_entries_max: random.between(0, 8),
            reads_here: some(random, 10, 90),
            leases: random.percent(40),
            patience: some(random, 1, 2) as u32,
        }
    }

    /// Each feature, and whether it is drawn in.
    pub fn features(&self) -> Vec<(&'static str, bool)> {
        vec![
            ("loss", self.loss > 0),
            ("duplicates", self.duplicates > 0),
            ("reorder", self.reorder),
            ("long delays", self.delay_max > 3),
            ("stragglers", self.stragglers > 0),
            ("straggling candidates", self.straggling_candidates > 0),
            ("late answers", self.late_answers > 0),
            ("cuts hold", self.cuts_hold),
            ("cut links", self.cut_links),
            ("partitions", self.partitions),
            ("isolations", self.isolations),
            ("crashes", self.crashes),
            ("sudden crashes", self.sudden_crashes),
            ("crashes in elections", self.crashes_in_elections > 0),
            ("crashes in snapshots", self.crashes_in_snapshots > 0),
            ("long absences", self.absences > 0),
            ("pauses", self.pauses),
            ("slow disks", self.write_max > 2),
            ("waits for disk", self.waits_for_disk),
            ("late completions", self.late_completions),
            ("batches", self.batches),
            ("clock drift", self.drift),
            ("compaction", self.compact_entries < u64::MAX),
            ("slow snapshots", self.snapshot_max > 3),
            ("spoiled snapshots", self.spoiled_snapshots > 0),
            ("damaged snapshots", self.damaged_snapshots > 0),
            ("membership changes", self.changes > 0),
            ("spare nodes", self.spares > 0),
            ("transfers", self.transfers > 0),
            ("reads", self.reads > 0),
            ("reads on followers", self.reads > 0 && self.reads_here > 0),
            ("leases", self.leases),
            ("patience", self.patience > 0),
            ("more than three voters", self.nodes > 3),
        ]
    }
}

/// Between `least` and `most` in half of the schedules, and 0 in the others.
fn some(random: &mut Random, least: u64, most: u64) -> u64 {
    if random.percent(50) { random.between(least, most) } else { 0 }
}
