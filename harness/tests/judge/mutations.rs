//! One fact of a lawful run is changed, all counters kept right: no check may miss what it needed.

use std::collections::BTreeMap;

use mkraft_harness::check::{Overall, judge};
use mkraft_harness::history::folder::RunFolder;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::lawful::{Run, run};

/// What a mutation must bring.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Must {
    Violate,
    /// Violated, unknown or an error: not a pass.
    NotPass,
}

/// Changes a run in one place; none when there is no such place.
type Mutate = fn(&mut Run, &mut ChaCha8Rng) -> Option<()>;

/// What is not here, because nobody can tell: the last lines of a boot that was killed are missing; the only line
/// that ever told of an entry has another digest; a `role` line of a follower, or a vote for one who lost, is missing
/// and the lines are numbered anew.
const MUTATIONS: &[(&str, Must, Mutate)] = &[
    ("a line dropped", Must::NotPass, |run, rng| {
        let (file, at) = place(run, rng, |file, _| file.contains("/events/"))?;
        let killed = run.lines[&file].last()?["event"] != "stop";
        let lines = run.lines.get_mut(&file)?;
        if killed && at + 1 == lines.len() {
            return None;
        }
        lines.remove(at);
        Some(())
    }),
    ("a boot removed", Must::NotPass, |run, rng| {
        let (file, _) = place(run, rng, |file, _| file.contains("/events/"))?;
        run.lines.remove(&file).map(|_| ())
    }),
    ("a dump removed", Must::NotPass, |run, rng| {
        let (file, _) = place(run, rng, |file, _| file.ends_with("dump.jsonl"))?;
        run.lines.remove(&file).map(|_| ())
    }),
    ("a line of the history dropped", Must::NotPass, |run, rng| {
        let history = run.lines.get_mut("history.jsonl")?;
        history.remove(rng.random_range(0..history.len()));
        Some(())
    }),
    ("an appended entry dropped, lines numbered anew", Must::NotPass, |run, rng| {
        let (file, at) = place(run, rng, new_entries)?;
        // The next line about the log goes on behind it, which shows that it is missing.
        let (first, rest) = (run.lines[&file][at]["first"].as_u64(), run.lines[&file].iter().skip(at + 1));
        let next = rest.clone().find(|line| matches!(line["event"].as_str(), Some("append" | "truncate")));
        let behind = next.is_some_and(|next| next["first"].as_u64() > first);
        run.lines.get_mut(&file)?.remove(at);
        number(run, &file);
        behind.then_some(())
    }),
    ("a truncation dropped, lines numbered anew", Must::Violate, |run, rng| {
        let (file, at) = place(run, rng, |_, line| line["event"] == "truncate")?;
        let next = run.lines[&file].get(at + 1).filter(|next| next["event"] == "append")?;
        next.as_object()?;
        run.lines.get_mut(&file)?.remove(at);
        number(run, &file);
        Some(())
    }),
    ("an application dropped, lines numbered anew", Must::Violate, |run, rng| {
        let (file, at) = place(run, rng, |_, line| line["event"] == "apply")?;
        let later = run.lines[&file].iter().skip(at + 1).any(|line| line["event"] == "apply");
        run.lines.get_mut(&file)?.remove(at);
        number(run, &file);
        later.then_some(())
    }),
    ("a digest of an appended entry changed", Must::Violate, |run, rng| {
        let told = tellings(run);
        let (file, at) = place(run, rng, |file, line| file.contains("nodes/") && line["event"] == "append")?;
        let line = &mut run.lines.get_mut(&file)?[at];
        let entries = line["entries"].as_array()?.len();
        let entry = rng.random_range(0..entries);
        let position = (line["first"].as_u64()? + entry as u64, line["entries"][entry][0].as_u64()?);
        line["entries"][entry][2] = json!("0123456789abcdef");
        (told[&position] > 1).then_some(())
    }),
    ("a term of an appended entry raised", Must::Violate, |run, rng| {
        let told = tellings(run);
        let (file, at) = place(run, rng, new_entries)?;
        let line = &mut run.lines.get_mut(&file)?[at];
        let term = line["entries"][0][0].as_u64()?;
        let position = (line["first"].as_u64()?, term);
        line["entries"][0][0] = json!(term + 100);
        // The node's own later boot or dump tells of it again.
        (told[&position] > 3).then_some(())
    }),
    ("a digest of an applied entry changed", Must::Violate, |run, rng| {
        let (file, at) = place(run, rng, |_, line| line["event"] == "apply")?;
        run.lines.get_mut(&file)?[at]["entries"][0][1] = json!("0123456789abcdef");
        Some(())
    }),
    ("a term raised beyond all others", Must::Violate, |run, rng| {
        let (file, at) = place(run, rng, |file, line| {
            file.contains("/events/") && matches!(line["event"].as_str(), Some("role" | "vote" | "commit"))
        })?;
        run.lines.get_mut(&file)?[at]["term"] = json!(1000);
        Some(())
    }),
    ("a second vote in a term", Must::Violate, |run, rng| {
        let (file, at) = place(run, rng, |_, line| line["event"] == "vote")?;
        let mut vote = run.lines[&file][at].clone();
        vote["for"] = if vote["for"] == "n1" { json!("n2") } else { json!("n1") };
        run.lines.get_mut(&file)?.insert(at + 1, vote);
        number(run, &file);
        Some(())
    }),
    ("a second leader of a term", Must::Violate, |run, rng| {
        let leads = |line: &Value| line["event"] == "role" && line["role"] == "leader";
        let (led, at) = place(run, rng, |_, line| leads(line))?;
        let term = run.lines[&led][at]["term"].clone();
        let node = run.lines[&led][at]["node"].clone();
        let follows =
            |line: &Value| line["role"] == "follower" && line["term"] == term && line["node"] != node;
        let (file, at) = place(run, rng, |_, line| follows(line))?;
        run.lines.get_mut(&file)?[at]["role"] = json!("leader");
        Some(())
    }),
    ("a leader that cuts its log", Must::Violate, |run, rng| {
        let (file, at) = place(run, rng, |_, line| line["role"] == "leader")?;
        let mut cut = run.lines[&file][at].clone();
        for field in ["term", "role", "leader"] {
            cut.as_object_mut()?.remove(field);
        }
        (cut["event"], cut["after"]) = (json!("truncate"), json!(1_000_000));
        run.lines.get_mut(&file)?.insert(at + 1, cut);
        number(run, &file);
        Some(())
    }),
    ("a commit before its quorum", Must::Violate, |run, rng| {
        // The lines of both followers come later by an hour, but for what they wrote before any entry.
        let (file, at) =
            place(run, rng, |file, line| file.ends_with("boot-0001.jsonl") && line["event"] == "commit")?;
        let leads = run.lines[&file][..at].iter().rfind(|line| line["event"] == "role")?["role"] == "leader";
        if !leads {
            return None;
        }
        let node = run.lines[&file][at]["node"].clone();
        let index = run.lines[&file][at]["index"].clone();
        for (name, lines) in run.lines.iter_mut().filter(|(name, _)| name.contains("/events/")) {
            let mut late = !name.contains("boot-0001");
            for line in lines.iter_mut().filter(|line| line["node"] != node) {
                let end = line["first"].as_u64().unwrap_or(0)
                    + line["entries"].as_array().map_or(0, Vec::len) as u64;
                late |= line["event"] == "append" && end > index.as_u64()?;
                if late {
                    line["t"] = json!(line["t"].as_u64()? + 3_600_000_000_000);
                }
            }
        }
        Some(())
    }),
    ("a log that is shorter in the dump", Must::Violate, |run, rng| {
        let (file, at) =
            place(run, rng, |file, line| file.ends_with("dump.jsonl") && line["event"] == "append")?;
        let lines = run.lines.get_mut(&file)?;
        lines[at]["entries"].as_array_mut()?.pop();
        let last = lines[0]["last"].as_u64()?;
        lines[0]["last"] = json!(last - 1);
        Some(())
    }),
    ("a vote forgotten", Must::Violate, |run, rng| {
        let (file, at) = place(run, rng, |file, line| {
            file.ends_with("dump.jsonl") && line["event"] == "boot" && !line["vote"].is_null()
        })?;
        run.lines.get_mut(&file)?[at]["vote"] = Value::Null;
        Some(())
    }),
    ("a term forgotten", Must::Violate, |run, rng| {
        let (file, at) =
            place(run, rng, |file, line| line["event"] == "boot" && !file.ends_with("boot-0001.jsonl"))?;
        let line = &mut run.lines.get_mut(&file)?[at];
        let term = line["term"].as_u64().filter(|&term| term > 0)?;
        (line["term"], line["vote"]) = (json!(term - 1), Value::Null);
        Some(())
    }),
    ("an acknowledged write that nobody applied", Must::Violate, |run, rng| {
        let history = run.lines.get_mut("history.jsonl")?;
        let oks: Vec<usize> = (0..history.len())
            .filter(|&at| history[at]["type"] == "ok" && history[at]["f"] != "read")
            .collect();
        let (process, wrong) = (history[*oks.choose(rng)?]["process"].clone(), json!(77));
        let both = history.iter_mut().filter(|line| line["process"] == process);
        both.for_each(|line| line["sequence"] = wrong.clone());
        Some(())
    }),
    ("a read of what was never written", Must::Violate, |run, rng| {
        let history = run.lines.get_mut("history.jsonl")?;
        let reads: Vec<usize> = (0..history.len())
            .filter(|&at| history[at]["type"] == "ok" && history[at]["f"] == "read")
            .collect();
        history[*reads.choose(rng)?]["value"] = json!("nobody wrote this");
        Some(())
    }),
    ("a write that takes effect twice", Must::Violate, |run, rng| {
        let applied = |line: &Value| {
            let entries = line["entries"].as_array().cloned().unwrap_or_default();
            let commands = entries.iter().filter(|entry| entry[2] != 0).count();
            line["event"] == "apply" && commands >= 2
        };
        let (file, at) = place(run, rng, |_, line| applied(line))?;
        let entries = run.lines.get_mut(&file)?[at]["entries"].as_array_mut()?;
        let places: Vec<usize> = (0..entries.len()).filter(|&at| entries[at][2] != 0).collect();
        let ticket = entries[places[0]][2].clone();
        let index = entries[places[1]].clone();
        // On every node, the second entry has the ticket of the first.
        for line in run.lines.values_mut().flatten().filter(|line| line["event"] == "apply") {
            for entry in line["entries"].as_array_mut()? {
                if entry[1] == index[1] {
                    entry[2] = ticket.clone();
                }
            }
        }
        Some(())
    }),
    ("a fault that nobody knows to have happened", Must::NotPass, |run, rng| {
        let (_, at) =
            place(run, rng, |_, line| line["value"]["outcome"] == "installed" && line["f"] == "kill")?;
        run.lines.get_mut("history.jsonl")?[at]["value"]["outcome"] = json!("indeterminate");
        Some(())
    }),
];

/// A random line that fits, by file and place.
fn place(run: &Run, rng: &mut ChaCha8Rng, fits: impl Fn(&str, &Value) -> bool) -> Option<(String, usize)> {
    let all = run
        .lines
        .iter()
        .flat_map(|(file, lines)| lines.iter().enumerate().map(move |(at, line)| (file, at, line)));
    let fitting: Vec<_> = all.filter(|(file, _, line)| fits(file, line)).collect();
    fitting.choose(rng).map(|(file, at, _)| ((*file).clone(), *at))
}

fn new_entries(file: &str, line: &Value) -> bool {
    file.contains("/events/") && line["event"] == "append" && line["recovered"].is_null()
}

/// How often lines tell of each (index, term).
fn tellings(run: &Run) -> BTreeMap<(u64, u64), u32> {
    let mut told = BTreeMap::new();
    for line in run.lines.values().flatten().filter(|line| line["event"] == "append") {
        for (index, entry) in (line["first"].as_u64().unwrap()..).zip(line["entries"].as_array().unwrap()) {
            *told.entry((index, entry[0].as_u64().unwrap())).or_insert(0) += 1;
        }
    }
    told
}

/// Gives the lines of a file the numbers that nobody can object to.
fn number(run: &mut Run, file: &str) {
    for (at, line) in run.lines.get_mut(file).unwrap().iter_mut().enumerate() {
        line["seq"] = json!(at + 1);
    }
}

#[test]
fn no_mutation_of_a_lawful_run_passes() {
    let mut missed = Vec::new();
    let mut tried: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..25 {
        let lawful = run(seed);
        for (name, must, mutate) in MUTATIONS {
            let mut mutated = lawful.clone();
            if mutate(&mut mutated, &mut ChaCha8Rng::seed_from_u64(seed)).is_none() {
                continue;
            }
            *tried.entry(name).or_default() += 1;
            let folder = tempfile::tempdir().unwrap();
            mutated.write(folder.path());
            let overall = judge(&RunFolder::new(folder.path())).map(|judgement| judgement.results.overall);
            let caught = match (must, &overall) {
                (Must::Violate, Ok(overall)) => *overall == Overall::Violated,
                (Must::Violate, Err(_)) => false,
                (Must::NotPass, overall) => !matches!(overall, Ok(Overall::Holds)),
            };
            if !caught {
                missed.push(format!("seed {seed}: {name}: {overall:?}"));
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    assert_eq!(tried.len(), MUTATIONS.len(), "{tried:#?}");
    assert!(tried.values().all(|&times| times >= 5), "{tried:#?}");
}
