//! The judge, with no access to the scene: from a run folder to verdicts.
//!
//! In: [`Evidence`], read from a run folder and nothing else. Out: a [`Verdict`] from each check of [`CHECKS`], and
//! what they come to together. Never: a cluster, a clock, anything async, a guess in place of a missing line.

mod about;
mod acknowledged;
mod by_index;
mod causes;
mod clients;
mod commit_quorum;
mod configurations;
mod durability;
mod elected;
mod election_safety;
pub mod evidence;
mod exactly_once;
mod expectations;
mod faults;
mod joined;
mod leader_append_only;
mod leader_completeness;
pub mod linearizability;
mod lines;
mod log_matching;
pub mod measured;
mod membership;
pub mod models;
mod no_crash;
pub mod numbers;
mod objectives;
mod parallel;
mod pool;
mod reading;
mod recovery;
mod replay;
mod results;
pub mod service;
mod snapshots;
mod state_machine_safety;
mod stream;
mod term_monotonic;
mod timeline;
pub mod transactions;
mod verdict;
mod vote_once;
mod waited;

pub use evidence::Evidence;
pub use reading::EvidenceError;
pub use results::{CheckResult, JudgeError, Judgement, Overall, Results, judge};
pub use verdict::{Consequence, Finding, Status, Verdict, Witness};

/// A check: one row here and one file beside this one.
#[derive(Clone, Copy)]
pub struct Check {
    pub name: &'static str,
    /// Of the extended paper, or what it rests on.
    pub section: &'static str,
    /// What is true when it holds.
    pub claim: &'static str,
    pub judge: fn(&Evidence) -> Verdict,
}

/// Causes before consequences: the first violated one is where to look first.
#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    check("no-crash", "run.json", "no node ends unless it is made to", no_crash::no_crash),
    check("term-monotonic", "§5.1", "a node's term never falls", term_monotonic::term_monotonic),
    check("vote-once", "§5.2", "no node votes for two candidates in one term", vote_once::vote_once),
    check("election-safety", "§5.2", "no term has two leaders", election_safety::election_safety),
    check("leader-append-only", "§5.3", "a leader never cuts its own log", leader_append_only::leader_append_only),
    check("log-matching", "§5.3", "logs that share an entry agree up to it", log_matching::log_matching),
    check("durability", "§5.1", "what was durable or acknowledged is not lost", durability::durability),
    check("commit-quorum", "§5.4.2", "what a leader commits is on a quorum's disks", commit_quorum::commit_quorum),
    check("leader-completeness", "§5.4", "a new leader has all that was committed", leader_completeness::leader_completeness),
    check("state-machine-safety", "§5.4.3", "all nodes apply the same, in order", state_machine_safety::state_machine_safety),
    check("exactly-once", "thesis §6.3", "a write takes effect once", exactly_once::exactly_once),
    check("linearizability", "thesis §6", "clients cannot tell it from one machine", models::linearizability),
    check("recovery", "expect", "writes succeed again soon after the last heal", recovery::recovery),
    check("objectives", "expect", "service and leaders keep within the scenario's bounds", objectives::objectives),
    check("expectations", "expect", "enough happened for a verdict", expectations::expectations),
    check("faults", "plan", "the planned faults were done", faults::faults),
];

const fn check(
    name: &'static str,
    section: &'static str,
    claim: &'static str,
    judge: fn(&Evidence) -> Verdict,
) -> Check {
    Check { name, section, claim, judge }
}
