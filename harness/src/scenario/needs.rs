//! What a machine must be able to do before a plan can be carried out on it.
//!
//! In: kinds of faults, and plans. Out: [`Need`]s. Never: a look at a machine; `capabilities` has that.

use std::collections::BTreeSet;
use std::fmt;

use super::words::Words;
use super::{FAULT_FORMS, FaultKind, Plan};

/// Something that not every machine can do. A new one is a line of [`Words::WORDS`], and a probe in `capabilities`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A library of the harness is loaded into the nodes before libc.
    Preload,
    /// The limits of a process that runs can be changed.
    Prlimit,
    /// Nodes can be put into a group of their own whose memory has a limit.
    CgroupMemory,
    /// The same of their time on the CPUs.
    CgroupCpu,
    /// The harness can be a file system.
    Fuse,
    /// What nodes write can be read as they write it.
    Inotify,
}

impl FaultKind {
    /// None of what any Linux can do.
    pub fn needs(self) -> Option<Need> {
        match self {
            FaultKind::JumpClock | FaultKind::DriftClock => Some(Need::Preload),
            FaultKind::Descriptors => Some(Need::Prlimit),
            FaultKind::Memory => Some(Need::CgroupMemory),
            FaultKind::Cpu => Some(Need::CgroupCpu),
            FaultKind::PowerLoss
            | FaultKind::Eio
            | FaultKind::SlowDisk
            | FaultKind::HungDisk
            | FaultKind::FullDisk => Some(Need::Fuse),
            _ => None,
        }
    }
}

impl Need {
    pub fn all() -> impl Iterator<Item = Need> {
        Need::WORDS.iter().map(|(_, need)| *need)
    }

    pub fn of_word(word: &str) -> Option<Need> {
        Need::from_word(word)
    }

    /// What of a scenario needs it, in the words of YAML.
    pub fn whose(self) -> Vec<&'static str> {
        let kinds = FAULT_FORMS.iter().filter(|form| form.kind.needs() == Some(self)).map(|form| form.word);
        kinds.chain((self == Need::Inotify).then_some("on")).collect()
    }
}

impl Words for Need {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("preload", Need::Preload),
        ("prlimit", Need::Prlimit),
        ("cgroup-memory", Need::CgroupMemory),
        ("cgroup-cpu", Need::CgroupCpu),
        ("fuse", Need::Fuse),
        ("inotify", Need::Inotify),
    ];
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_word().unwrap_or_default())
    }
}

impl Plan {
    /// All that its steps need.
    pub fn needs(&self) -> BTreeSet<Need> {
        let of_kinds = self.steps.iter().filter_map(|step| step.fault()?.0.needs());
        let of_facts = self.steps.iter().filter_map(|step| step.on.map(|_| Need::Inotify));
        of_kinds.chain(of_facts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Scenario;
    use super::*;

    #[test]
    fn a_plan_needs_what_its_steps_do() {
        let needs = |faults: &str| {
            let text = format!(
                "# A test.\nname: test\nduration: 9s\nworkload: {{ kind: lock }}\nfaults: [{faults}]"
            );
            let scenario = Scenario::parse("test.yaml", &text).unwrap_or_else(|error| panic!("{error}"));
            Plan::of(&scenario, 0).needs().iter().map(Need::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(needs("{ at: 1s, kill: leader }"), "");
        assert_eq!(
            needs("{ at: 1s, jump-clock: n1, by: 1s }, { at: 1s, cpu: n1, most: 5% }"),
            "preload cgroup-cpu"
        );
        assert_eq!(needs("{ on: elected, kill: it }"), "inotify");
    }

    #[test]
    fn every_need_has_a_word_and_what_needs_it() {
        for need in Need::all() {
            assert_eq!(Need::of_word(&need.to_string()), Some(need));
            assert!(!need.whose().is_empty(), "{need}");
        }
    }
}
