//! Copies of runs of real nodes in which one fact is corrupted: what needed the fact is not judged to hold.
//!
//! `REAL_RUNS` names a folder of more runs, `REAL_CASES` how often each kind of corruption is tried on each run. With
//! `REAL_TABLE` the counts are printed.
//!
//! # What "needed" means
//!
//! A corruption may pass only where the evidence that is left is that of a lawful run, and nobody could tell. Each kind
//! says for which of its cases that is so, from the run alone and before it is judged:
//!
//! - the tail of a boot that was killed is missing: the node may have been killed there. It must still be consistent with
//!   what others saw, which the checks decide.
//! - a fact only one line tells of, whose other values are as lawful: who was voted for by a node whose vote decided
//!   nothing, an entry that was cut again and that no other node had, a leader's name as a follower believes it.
//! - a time or an operation's answer, moved to where another lawful run has it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mkraft_harness::check::{Overall, judge};
use mkraft_harness::history::folder::RunFolder;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::folders::copy;

/// What a case may come to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum May {
    NotHold,
    Hold,
}

/// A run's files as lines.
struct Run {
    root: PathBuf,
    files: BTreeMap<String, Vec<Line>>,
}

struct Line {
    text: String,
    value: Value,
}

/// A changed file: its lines, and whether the last has its newline.
struct Changed {
    file: String,
    lines: Vec<String>,
    cut: bool,
}

type Corrupt = fn(&Run, &mut ChaCha8Rng) -> Option<(Changed, May)>;

impl Run {
    fn read(root: &Path) -> Run {
        let (mut files, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
        while let Some(folder) = folders.pop() {
            for item in fs::read_dir(folder).unwrap() {
                let path = item.unwrap().path();
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                if path.is_dir() {
                    folders.push(path);
                } else if name.ends_with(".jsonl") && name != "plan.jsonl" {
                    let text = fs::read_to_string(&path).unwrap();
                    let line = |text: &str| Line {
                        text: text.to_owned(),
                        value: serde_json::from_str(text).unwrap(),
                    };
                    files.insert(name, text.lines().map(line).collect());
                }
            }
        }
        Run { root: root.to_owned(), files }
    }

    fn place(&self, rng: &mut ChaCha8Rng, fits: impl Fn(&str, &Value) -> bool) -> Option<(&str, usize)> {
        let lines = self.files.iter().flat_map(|(file, lines)| {
            lines.iter().enumerate().map(move |(at, line)| (file.as_str(), at, &line.value))
        });
        let fitting: Vec<_> = lines.filter(|(file, _, value)| fits(file, value)).collect();
        fitting.choose(rng).map(|(file, at, _)| (*file, *at))
    }

    fn with(&self, file: &str, change: impl FnOnce(&mut Vec<String>)) -> Changed {
        let mut lines = self.files[file].iter().map(|line| line.text.clone()).collect();
        change(&mut lines);
        Changed { file: file.to_owned(), lines, cut: false }
    }

    /// One line with another value.
    fn edit(&self, (file, at): (&str, usize), change: impl FnOnce(&mut Value)) -> Option<Changed> {
        let before = &self.files[file][at].value;
        let mut value = before.clone();
        change(&mut value);
        (value != *before).then(|| self.with(file, |lines| lines[at] = value.to_string()))
    }

    /// A number lies between those of the lines before and after: as lawful there as the one that stood there.
    fn is_between(&self, (file, at): (&str, usize), event: &str, field: &str, new: &Value) -> bool {
        let of = |line: &Line| {
            (line.value["event"] == event || event.is_empty()).then(|| line.value[field].as_u64())?
        };
        let lines = &self.files[file];
        let before = lines[..at].iter().rev().find_map(of).unwrap_or(0);
        let after = lines[at + 1..].iter().find_map(of).unwrap_or(u64::MAX);
        new.as_u64().is_some_and(|new| (before..=after).contains(&new))
    }

    /// No later line is of this process: the operation that begins here stays open.
    fn stays_open(&self, at: usize) -> bool {
        let lines = &self.files["history.jsonl"];
        let process = &lines[at].value["process"];
        lines[at].value["type"] == "invoke"
            && !lines[at + 1..].iter().any(|line| line.value["process"] == *process)
    }

    /// The leader of this term has a quorum of votes without this one, or the term had no leader.
    fn is_elected_without(&self, (file, at): (&str, usize)) -> bool {
        let gone = &self.files[file][at].value;
        let leads = |line: &Value| line["role"] == "leader" && line["term"] == gone["term"];
        let elected = self.files.values().find_map(|lines| {
            let place = lines.iter().position(|line| leads(&line.value))?;
            // As its own log had it then; each boot tells it anew.
            let before = lines[..place].iter().rev().map(|line| &line.value);
            let mut configurations = before.filter(|line| line["event"] == "config");
            Some((&lines[place].value, configurations.next().expect("a boot begins with its configuration")))
        });
        let Some((leader, configuration)) = elected else { return true };
        let votes = |line: &&Value| {
            line["event"] == "vote"
                && line["term"] == gone["term"]
                && line["for"] == leader["node"]
                && line["node"] != gone["node"]
        };
        let voted: Vec<&Value> = self.values().filter(votes).map(|vote| &vote["node"]).collect();
        [&configuration["voters"], &configuration["outgoing"]].into_iter().all(|set| {
            let set = set.as_array().expect("a set of nodes");
            set.is_empty() || set.iter().filter(|node| voted.contains(node)).count() > set.len() / 2
        })
    }

    /// The log of this node ends no later than here when this line is written.
    fn ends_by(&self, (file, at): (&str, usize), index: u64) -> bool {
        let mut last = 0;
        for line in self.files[file][..at].iter().map(|line| &line.value) {
            match line["event"].as_str() {
                Some("boot") => last = line["last"].as_u64().unwrap_or(u64::MAX),
                Some("append") => {
                    let entries = line["entries"].as_array().map_or(0, Vec::len) as u64;
                    last =
                        line["first"].as_u64().unwrap_or(u64::MAX).saturating_add(entries).saturating_sub(1);
                }
                Some("truncate") => last = last.min(line["after"].as_u64().unwrap_or(u64::MAX)),
                Some("snapshot") => last = last.max(line["index"].as_u64().unwrap_or(u64::MAX)),
                _ => {}
            }
        }
        last <= index
    }

    fn values(&self) -> impl Iterator<Item = &Value> {
        self.files.values().flatten().map(|line| &line.value)
    }

    fn was_killed(&self, file: &str) -> bool {
        file.contains("/events/") && self.files[file].last().is_none_or(|line| line.value["event"] != "stop")
    }

    /// How many lines, of whatever node, tell of this entry.
    fn tellings(&self, index: u64, entry: &Value) -> usize {
        let lines = self.files.values().flatten().filter(|line| line.value["event"] == "append");
        let held = lines.filter_map(|line| {
            let place = index.checked_sub(line.value["first"].as_u64()?)?;
            line.value["entries"].get(place as usize)
        });
        held.filter(|held| *held == entry).count()
    }
}

fn event(name: &'static str) -> impl Fn(&str, &Value) -> bool {
    move |file, value| file.contains("nodes/") && value["event"] == name
}

fn near(number: &Value, rng: &mut ChaCha8Rng) -> Value {
    let number = number.as_u64().unwrap_or(0);
    match rng.random_range(0..4) {
        0 => json!(number + 1),
        1 => json!(number.saturating_sub(1)),
        2 => json!(number + rng.random_range(2..1_000)),
        _ => json!(rng.random_range(0..number + 1)),
    }
}

/// One of the entries of a line, by its place.
fn entry(run: &Run, (file, at): (&str, usize), rng: &mut ChaCha8Rng) -> Option<(usize, u64, Value)> {
    let line = &run.files[file][at].value;
    let entries = line["entries"].as_array()?;
    let place = rng.random_range(0..entries.len().max(1));
    Some((place, line["first"].as_u64()? + place as u64, entries.get(place)?.clone()))
}

/// In an `append` or `apply` line, one field of one entry.
fn entry_field(
    run: &Run,
    rng: &mut ChaCha8Rng,
    name: &'static str,
    field: usize,
    new: impl Fn(&Value, &mut ChaCha8Rng) -> Value,
) -> Option<(Changed, May)> {
    let place = run.place(rng, event(name))?;
    let (within, index, entry) = entry(run, place, rng)?;
    let new = new(&entry[field], rng);
    let alone = name == "append" && run.tellings(index, &entry) < 2;
    let changed = run.edit(place, |line| line["entries"][within][field] = new)?;
    Some((changed, if alone { May::Hold } else { May::NotHold }))
}

fn hex(_: &Value, rng: &mut ChaCha8Rng) -> Value {
    json!(format!("{:016x}", rng.random::<u64>()))
}

fn other_node(name: &Value, rng: &mut ChaCha8Rng) -> Value {
    let others: Vec<_> = ["n1", "n2", "n3", "n4", "n5"].into_iter().filter(|other| name != other).collect();
    json!(others.choose(rng).unwrap())
}

fn history(_: &str, value: &Value) -> bool {
    value["process"].is_number()
}

fn in_history(field: &'static str) -> impl Fn(&str, &Value) -> bool {
    move |file, value| file == "history.jsonl" && history(file, value) && !value[field].is_null()
}

const CORRUPTIONS: &[(&str, Corrupt)] = &[
    ("a line dropped", |run, rng| {
        let (file, at) = run.place(rng, |_, _| true)?;
        let last_of_killed = run.was_killed(file) && at + 1 == run.files[file].len();
        let changed = run.with(file, |lines| _ = lines.remove(at));
        Some((changed, if last_of_killed { May::Hold } else { May::NotHold }))
    }),
    ("a line doubled", |run, rng| {
        let (file, at) = run.place(rng, |_, _| true)?;
        Some((run.with(file, |lines| lines.insert(at, lines[at].clone())), May::NotHold))
    }),
    ("two lines swapped", |run, rng| {
        let (file, at) = run.place(rng, |_, _| true)?;
        if at == 0 {
            return None;
        }
        Some((run.with(file, |lines| lines.swap(at - 1, at)), May::NotHold))
    }),
    ("a line cut in its middle", |run, rng| {
        let (file, at) = run.place(rng, |_, _| true)?;
        let keep = rng.random_range(0..run.files[file][at].text.len());
        Some((run.with(file, |lines| lines[at].truncate(keep)), May::NotHold))
    }),
    ("a file cut within a line", |run, rng| {
        let (file, at) = run.place(rng, |_, _| true)?;
        let keep = rng.random_range(1..run.files[file][at].text.len());
        let mut changed = run.with(file, |lines| lines.truncate(at + 1));
        changed.lines[at].truncate(keep);
        changed.cut = true;
        Some((changed, May::NotHold))
    }),
    ("a file cut between two lines", |run, rng| {
        let (file, at) = run.place(rng, |_, _| true)?;
        let may = if run.was_killed(file) && at > 0 { May::Hold } else { May::NotHold };
        Some((run.with(file, |lines| lines.truncate(at)), may))
    }),
    ("seq, boot or node of a line", |run, rng| {
        let place = run.place(rng, |file, _| file.contains("nodes/"))?;
        let field = ["seq", "boot", "node"].choose(rng)?;
        let new = match *field {
            "node" => json!("n7"),
            _ => json!(rng.random_range(1..1_000_000)),
        };
        Some((run.edit(place, |line| line[field] = new)?, May::NotHold))
    }),
    ("the term of an appended entry", |run, rng| entry_field(run, rng, "append", 0, near)),
    ("the digest of an appended entry", |run, rng| entry_field(run, rng, "append", 2, hex)),
    ("the kind of an appended entry", |run, rng| {
        entry_field(
            run,
            rng,
            "append",
            1,
            |kind, _| if kind == "noop" { json!("command") } else { json!("noop") },
        )
    }),
    ("the index of an append", |run, rng| {
        let place = run.place(rng, event("append"))?;
        let new = near(&run.files[place.0][place.1].value["first"], rng);
        Some((run.edit(place, |line| line["first"] = new)?, May::NotHold))
    }),
    ("an entry taken out of an append", |run, rng| {
        let place = run.place(rng, event("append"))?;
        let (within, index, entry) = entry(run, place, rng)?;
        let alone = run.tellings(index, &entry) < 2;
        let changed = run.edit(place, |line| _ = line["entries"].as_array_mut().unwrap().remove(within))?;
        Some((changed, if alone { May::Hold } else { May::NotHold }))
    }),
    ("the term of an applied entry", |run, rng| entry_field(run, rng, "apply", 0, near)),
    ("the digest of an applied entry", |run, rng| entry_field(run, rng, "apply", 1, hex)),
    ("the session of an applied entry", |run, rng| entry_field(run, rng, "apply", 2, near)),
    ("the sequence of an applied entry", |run, rng| entry_field(run, rng, "apply", 3, near)),
    ("the outcome of an applied entry", |run, rng| {
        entry_field(run, rng, "apply", 4, |_, rng| json!(["duplicate", "refused"].choose(rng).unwrap()))
    }),
    ("the index of an apply", |run, rng| {
        let place = run.place(rng, event("apply"))?;
        let new = near(&run.files[place.0][place.1].value["first"], rng);
        Some((run.edit(place, |line| line["first"] = new)?, May::NotHold))
    }),
    ("the index of a commit", |run, rng| {
        let place = run.place(rng, event("commit"))?;
        let new = near(&run.files[place.0][place.1].value["index"], rng);
        let may = if run.is_between(place, "commit", "index", &new) { May::Hold } else { May::NotHold };
        Some((run.edit(place, |line| line["index"] = new)?, may))
    }),
    ("the term of a commit", |run, rng| {
        let place = run.place(rng, event("commit"))?;
        let new = near(&run.files[place.0][place.1].value["term"], rng);
        let may = if run.is_between(place, "", "term", &new) { May::Hold } else { May::NotHold };
        Some((run.edit(place, |line| line["term"] = new)?, may))
    }),
    ("where a truncation cuts", |run, rng| {
        let place = run.place(rng, event("truncate"))?;
        let was = &run.files[place.0][place.1].value["after"];
        let new = near(was, rng);
        // Where the log ends before, nothing is cut.
        let lawful = was.as_u64().min(new.as_u64()).is_some_and(|after| run.ends_by(place, after));
        Some((run.edit(place, |line| line["after"] = new)?, if lawful { May::Hold } else { May::NotHold }))
    }),
    ("the term of a role", |run, rng| {
        let place = run.place(rng, event("role"))?;
        let value = &run.files[place.0][place.1].value;
        let new = near(&value["term"], rng);
        let lawful = value["role"] != "leader" && run.is_between(place, "", "term", &new);
        Some((run.edit(place, |line| line["term"] = new)?, if lawful { May::Hold } else { May::NotHold }))
    }),
    ("a role", |run, rng| {
        let place = run.place(rng, event("role"))?;
        let new = *["leader", "follower", "candidate"].choose(rng)?;
        // Of the others no rule says anything.
        let leads = new == "leader" || run.files[place.0][place.1].value["role"] == "leader";
        Some((
            run.edit(place, |line| line["role"] = json!(new))?,
            if leads { May::NotHold } else { May::Hold },
        ))
    }),
    ("whom a vote is for", |run, rng| {
        let place = run.place(rng, event("vote"))?;
        let new = other_node(&run.files[place.0][place.1].value["for"], rng);
        let may = if run.is_elected_without(place) { May::Hold } else { May::NotHold };
        Some((run.edit(place, |line| line["for"] = new)?, may))
    }),
    ("the term of a vote", |run, rng| {
        let place = run.place(rng, event("vote"))?;
        let new = near(&run.files[place.0][place.1].value["term"], rng);
        Some((run.edit(place, |line| line["term"] = new)?, May::NotHold))
    }),
    ("the term of a boot or dump", |run, rng| {
        let place = run.place(rng, event("boot"))?;
        let new = near(&run.files[place.0][place.1].value["term"], rng);
        Some((run.edit(place, |line| line["term"] = new)?, May::NotHold))
    }),
    ("the vote of a boot or dump", |run, rng| {
        let place = run.place(rng, event("boot"))?;
        let new = match rng.random_bool(0.5) {
            true => Value::Null,
            false => other_node(&run.files[place.0][place.1].value["vote"], rng),
        };
        Some((run.edit(place, |line| line["vote"] = new)?, May::NotHold))
    }),
    ("the bounds of a boot or dump", |run, rng| {
        let place = run.place(rng, event("boot"))?;
        let field = ["first", "last", "snapshot"].choose(rng)?;
        let new = near(&run.files[place.0][place.1].value[*field], rng);
        Some((run.edit(place, |line| line[*field] = new)?, May::NotHold))
    }),
    ("the commit of a boot or dump", |run, rng| {
        let place = run.place(rng, event("boot"))?;
        let value = &run.files[place.0][place.1].value;
        let new = near(&value["commit"], rng);
        // What it knows next; where it knows nothing more, what it holds.
        let rest = run.files[place.0][place.1..].iter().map(|line| &line.value);
        let next = rest.filter(|line| line["event"] == "commit").find_map(|line| line["index"].as_u64());
        let lawful = new.as_u64() <= next.or(value["last"].as_u64());
        Some((run.edit(place, |line| line["commit"] = new)?, if lawful { May::Hold } else { May::NotHold }))
    }),
    ("the time of a line", |run, rng| {
        let place = run.place(rng, |file, value| {
            (file.contains("/events/") || file == "history.jsonl")
                && (value["t"].is_u64() || value["time"].is_u64())
        })?;
        let field = if place.0 == "history.jsonl" { "time" } else { "t" };
        let time = run.files[place.0][place.1].value[field].as_u64()?;
        let by = rng.random_range(1..2_000_000_000);
        let new = if rng.random_bool(0.5) { time + by } else { time - by };
        // Between its neighbours: as lawful there, unless what others saw says no.
        let may = if run.is_between(place, "", field, &json!(new)) { May::Hold } else { May::NotHold };
        Some((run.edit(place, |line| line[field] = json!(new))?, may))
    }),
    ("the value a read saw", |run, rng| {
        let place = run.place(rng, |file, value| {
            file == "history.jsonl" && value["f"] == "read" && value["type"] == "ok"
        })?;
        let new = json!(rng.random_range(0..1_000_000));
        Some((run.edit(place, |line| line["value"] = new)?, May::NotHold))
    }),
    ("the value of a write, asked or told", |run, rng| {
        let place = run.place(rng, |file, value| file == "history.jsonl" && value["f"] == "write")?;
        let new = json!(rng.random_range(1_000_000..2_000_000));
        let may = if run.stays_open(place.1) { May::Hold } else { May::NotHold };
        Some((run.edit(place, |line| line["value"] = new)?, may))
    }),
    ("how an operation ended", |run, rng| {
        let place =
            run.place(rng, |file, value| in_history("type")(file, value) && value["type"] != "invoke")?;
        let new = *["ok", "fail", "info"].choose(rng)?;
        let was = &run.files[place.0][place.1].value;
        // Less is claimed: nobody knows whether it happened, or a read saw nothing. Or nobody knew before.
        let less = new == "info" || was["type"] == "info" || (new == "fail" && was["f"] == "read");
        Some((
            run.edit(place, |line| line["type"] = json!(new))?,
            if less { May::Hold } else { May::NotHold },
        ))
    }),
    ("the process of an operation", |run, rng| {
        let place = run.place(rng, in_history("process"))?;
        let new = near(&run.files[place.0][place.1].value["process"], rng);
        let may = if run.stays_open(place.1) { May::Hold } else { May::NotHold };
        Some((run.edit(place, |line| line["process"] = new)?, may))
    }),
    ("the key of an operation", |run, rng| {
        let place = run.place(rng, in_history("key"))?;
        let may = if run.stays_open(place.1) { May::Hold } else { May::NotHold };
        Some((run.edit(place, |line| line["key"] = json!("k77"))?, may))
    }),
    ("the function of an operation", |run, rng| {
        let place = run.place(rng, in_history("f"))?;
        let new = ["read", "write", "cas"].choose(rng)?;
        let may = if run.stays_open(place.1) { May::Hold } else { May::NotHold };
        Some((run.edit(place, |line| line["f"] = json!(new))?, may))
    }),
    ("the session of an operation", |run, rng| {
        let place = run.place(rng, in_history("session"))?;
        let new = near(&run.files[place.0][place.1].value["session"], rng);
        let may = if run.stays_open(place.1) { May::Hold } else { May::NotHold };
        Some((run.edit(place, |line| line["session"] = new)?, may))
    }),
    ("the sequence of an operation", |run, rng| {
        let place = run.place(rng, in_history("sequence"))?;
        let new = near(&run.files[place.0][place.1].value["sequence"], rng);
        let may = if run.stays_open(place.1) { May::Hold } else { May::NotHold };
        Some((run.edit(place, |line| line["sequence"] = new)?, may))
    }),
    ("what came of a fault", |run, rng| {
        let place =
            run.place(rng, |file, value| file == "history.jsonl" && value["value"]["outcome"].is_string())?;
        let new = *["skipped", "indeterminate"].choose(rng)?;
        let value = &run.files[place.0][place.1].value;
        // A heal finds nothing to heal where another fault's heal came first, and a fault nothing to strike where
        // others like it were done.
        let alike =
            |line: &&Value| line["f"] == value["f"] && line["value"]["target"] == value["value"]["target"];
        let done = |line: &&Value| line["value"]["outcome"] == "installed";
        let others = run.values().filter(alike).filter(done).filter(|line| *line != value).count();
        let lawful = new == "skipped" && (value["f"] == "heal" || others > 0);
        let changed = run.edit(place, |line| line["value"]["outcome"] = json!(new))?;
        Some((changed, if lawful { May::Hold } else { May::NotHold }))
    }),
];

/// Also tried on runs of the simulator, in which members change and snapshots are taken.
const OF_MEMBERS_AND_SNAPSHOTS: &[(&str, Corrupt)] = &[
    ("who counts, by a config line", |run, rng| {
        let place = run.place(rng, event("config"))?;
        let value = &run.files[place.0][place.1].value;
        let field = *["voters", "outgoing", "learners"].choose(rng)?;
        let mut names: Vec<Value> = value[field].as_array()?.clone();
        match rng.random_range(0..3) {
            0 => names.clear(),
            1 => _ = names.pop(),
            _ => names.insert(0, other_node(names.first().unwrap_or(&Value::Null), rng)),
        }
        let alike = |line: &&Value| line["event"] == "config" && line["index"] == value["index"];
        let alone = run.values().filter(alike).count() < 2 && value["index"] != 0;
        let changed = run.edit(place, |line| line[field] = json!(names))?;
        Some((changed, if alone { May::Hold } else { May::NotHold }))
    }),
    ("voters and outgoing of a config line exchanged", |run, rng| {
        let place = run.place(rng, event("config"))?;
        let value = run.files[place.0][place.1].value.clone();
        let (voters, outgoing) = (value["voters"].clone(), value["outgoing"].clone());
        let swap = |line: &mut Value| (line["voters"], line["outgoing"]) = (outgoing, voters);
        Some((run.edit(place, swap)?, May::NotHold))
    }),
    ("the index of a config line", |run, rng| {
        let place = run.place(rng, event("config"))?;
        let new = near(&run.files[place.0][place.1].value["index"], rng);
        Some((run.edit(place, |line| line["index"] = new)?, May::NotHold))
    }),
    ("the index of a snapshot", |run, rng| {
        let place = run.place(rng, event("snapshot"))?;
        let new = near(&run.files[place.0][place.1].value["index"], rng);
        // Of what was applied a node may take a snapshot at any time.
        let before = run.files[place.0][..place.1].iter().map(|line| &line.value);
        let applied = before
            .filter(|line| line["event"] == "apply")
            .filter_map(|line| Some(line["first"].as_u64()? + line["entries"].as_array()?.len() as u64 - 1));
        let installed = run.files[place.0][place.1].value["installed"] == true;
        let lawful = !installed && new.as_u64() <= applied.max();
        let changed = run.edit(place, |line| line["index"] = new)?;
        Some((changed, if lawful { May::Hold } else { May::NotHold }))
    }),
    ("the term of a snapshot", |run, rng| {
        let place = run.place(rng, event("snapshot"))?;
        let new = near(&run.files[place.0][place.1].value["term"], rng);
        Some((run.edit(place, |line| line["term"] = new)?, May::NotHold))
    }),
    ("the digest of a snapshot", |run, rng| {
        let place = run.place(rng, event("snapshot"))?;
        let value = &run.files[place.0][place.1].value;
        let alike = |line: &&Value| line["event"] == "snapshot" && line["index"] == value["index"];
        let alone = run.values().filter(alike).count() < 2;
        let new = hex(&Value::Null, rng);
        let changed = run.edit(place, |line| line["digest"] = new)?;
        Some((changed, if alone { May::Hold } else { May::NotHold }))
    }),
    ("whether a snapshot was installed", |run, rng| {
        let place = run.place(rng, event("snapshot"))?;
        let installed = run.files[place.0][place.1].value["installed"] == true;
        Some((run.edit(place, |line| line["installed"] = json!(!installed))?, May::NotHold))
    }),
    ("the last heal of run.json", |run, rng| {
        let text = fs::read_to_string(run.root.join("run.json")).unwrap();
        let mut info: Value = serde_json::from_str(&text).unwrap();
        let was = info["last_heal_ns"].as_u64()?;
        let by = rng.random_range(1..2_000_000_000);
        let new = if rng.random_bool(0.5) { was + by } else { was - by };
        let heals = run.files["history.jsonl"].iter().map(|line| &line.value);
        let healed = heals.filter(|line| line["f"] == "heal").filter_map(|line| line["time"].as_u64()).max();
        let lawful = healed <= Some(new) && Some(new) <= info["load_ended_ns"].as_u64();
        info["last_heal_ns"] = json!(new);
        let lines = vec![info.to_string()];
        let changed = Changed { file: "run.json".into(), lines, cut: false };
        // Where nothing was to be healed any time will do.
        Some((changed, if lawful || healed.is_none() { May::Hold } else { May::NotHold }))
    }),
    ("a line of plan.jsonl", |run, rng| {
        let text = fs::read_to_string(run.root.join("plan.jsonl")).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let at = (!lines.is_empty()).then(|| rng.random_range(0..lines.len()))?;
        let info = fs::read_to_string(run.root.join("run.json")).unwrap();
        let began = serde_json::from_str::<Value>(&info).unwrap()["load_began_ns"].as_u64()?;
        let mut step: Value = serde_json::from_str(&lines[at]).unwrap();
        let was = step.clone();
        match rng.random_range(0..5) {
            0 => _ = lines.remove(at),
            1 => lines.insert(at, lines[at].clone()),
            2 => step["fault"] = json!(["kill", "pause", "restart"].choose(rng)?),
            3 => step["target"] = json!(["leader", "random", "n1"].choose(rng)?),
            _ => step["at"] = near(&step["at"], rng),
        }
        if step != was {
            lines[at] = step.to_string();
        } else if lines.len() == text.lines().count() {
            return None;
        }
        // A fault is done at its time or later.
        let strike = |line: &&Value| line["value"]["step"] == at && line["f"] == was["fault"];
        let struck = run.values().find(strike)?["time"].as_u64()?;
        let sooner = step["at"] != was["at"] && began + step["at"].as_u64()? <= struck;
        let changed = Changed { file: "plan.jsonl".into(), lines, cut: false };
        Some((changed, if sooner { May::Hold } else { May::NotHold }))
    }),
];

/// Of the simulator.
fn simulated() -> impl Iterator<Item = PathBuf> {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runs");
    ["simulated-members", "simulated-snapshots"].into_iter().map(move |name| kept.join(name))
}

fn runs() -> Vec<PathBuf> {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runs");
    let own = ["real", "real-members"].map(|name| kept.join(name));
    let others = std::env::var_os("REAL_RUNS").map(|root| fs::read_dir(root).unwrap());
    let others = others.into_iter().flatten().map(|item| item.unwrap().path());
    own.into_iter()
        .chain(others.filter(|path| !path.is_symlink() && path.join("run.json").is_file()))
        .collect()
}

#[derive(Default)]
struct Row {
    violated: u32,
    unknown: u32,
    refused: u32,
    held: u32,
    undeserved: Vec<String>,
}

impl Row {
    fn tried(&self) -> u32 {
        self.violated + self.unknown + self.refused + self.held
    }
}

/// Judges a copy in which this file is another, and makes the copy whole again.
fn outcome(run: &Run, copy: &Path, changed: &Changed) -> Option<Overall> {
    let mut text = changed.lines.join("\n");
    if !changed.cut && !text.is_empty() {
        text.push('\n');
    }
    let path = copy.join(&changed.file);
    fs::write(&path, text).unwrap();
    let overall = judge(&RunFolder::new(copy)).ok().map(|judgement| judgement.results.overall);
    fs::copy(run.root.join(&changed.file), path).unwrap();
    overall
}

#[test]
fn no_corrupted_copy_of_a_real_run_holds_where_the_fact_was_needed() {
    let cases = std::env::var("REAL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12);
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let (real, all) = ([CORRUPTIONS, OF_MEMBERS_AND_SNAPSHOTS], [OF_MEMBERS_AND_SNAPSHOTS]);
    let real = runs().into_iter().map(|root| (root, &real[..]));
    for (root, kinds) in real.chain(simulated().map(|root| (root, &all[..]))) {
        let run = Run::read(&root);
        let copy = copy(&root);
        assert_eq!(judge(&RunFolder::new(copy.path())).unwrap().results.overall, Overall::Holds);
        for (name, corrupt) in kinds.iter().copied().flatten() {
            let row = rows.entry(name).or_default();
            for seed in 0..cases {
                let Some((changed, may)) = corrupt(&run, &mut ChaCha8Rng::seed_from_u64(seed)) else {
                    continue;
                };
                match outcome(&run, copy.path(), &changed) {
                    Some(Overall::Violated) => row.violated += 1,
                    Some(Overall::Unknown | Overall::HarnessFailed | Overall::Skipped) => row.unknown += 1,
                    None => row.refused += 1,
                    Some(Overall::Holds) => {
                        row.held += 1;
                        if may == May::NotHold {
                            let before = run.files.get(&changed.file).into_iter().flatten();
                            let before = before.map(|line| &line.text);
                            let differ =
                                before.zip(&changed.lines).position(|(before, after)| before != after);
                            let at = differ.unwrap_or(changed.lines.len());
                            let line = changed.lines.get(at).map_or("", |line| line);
                            let (short, file) = (line.chars().take(300).collect::<String>(), &changed.file);
                            let root = root.file_name().unwrap().display();
                            row.undeserved
                                .push(format!("{name}, {root} seed {seed}, {file}:{}: {short}", at + 1));
                        }
                    }
                }
            }
        }
    }
    if std::env::var_os("REAL_TABLE").is_some() {
        println!("| corruption | tried | violated | unknown | refused | held |\n|---|---|---|---|---|---|");
        for (name, row) in &rows {
            let Row { violated, unknown, refused, held, .. } = row;
            println!("| {name} | {} | {violated} | {unknown} | {refused} | {held} |", row.tried());
        }
    }
    let undeserved: Vec<_> = rows.values().flat_map(|row| row.undeserved.iter().cloned()).collect();
    assert!(undeserved.is_empty(), "{} hold:\n{}", undeserved.len(), undeserved.join("\n"));
}

#[test]
fn a_real_run_without_a_file_or_a_node_does_not_hold() {
    for root in runs() {
        let run = Run::read(&root);
        let mut gone: Vec<PathBuf> = run.files.keys().map(PathBuf::from).collect();
        gone.extend(["run.json", "scenario.yaml", "plan.jsonl"].map(PathBuf::from));
        let folders: Vec<_> = gone.iter().filter_map(|file| file.parent().map(Path::to_owned)).collect();
        gone.extend(folders.into_iter().filter(|folder| folder != Path::new("")));
        gone.extend(
            fs::read_dir(root.join("nodes"))
                .unwrap()
                .map(|item| Path::new("nodes").join(item.unwrap().file_name())),
        );
        for name in gone {
            let copy = copy(&root);
            let path = copy.path().join(&name);
            match path.is_dir() {
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
            let judged = judge(&RunFolder::new(copy.path())).map(|judgement| judgement.results.overall);
            assert!(!matches!(judged, Ok(Overall::Holds)), "without {}", name.display());
        }
    }
}
