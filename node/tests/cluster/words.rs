//! Messages, entries and roles in the words of traces and scripts: `n3@2 -> n1 RequestVote last=1@1`.
//!
//! In: values, or one line of a script. Out: the other. A position is `index@term`, as the core prints it.

use std::collections::BTreeSet;

use mkraft_node::raft::{
    AppendOutcome, Body, Configuration, Entry, EntryKind, Index, Message, NodeId, Position, RoleName,
    Snapshot, Term,
};

pub fn role(role: RoleName) -> &'static str {
    match role {
        RoleName::Follower => "follower",
        RoleName::PreCandidate => "pre-candidate",
        RoleName::Candidate => "candidate",
        RoleName::Leader => "leader",
        RoleName::Learner => "learner",
    }
}

/// `3@2 x=1`, or `1@1 noop`, or `2@1` for a command without payload.
pub fn entry(entry: &Entry) -> String {
    let what = match entry.kind {
        EntryKind::Noop => "noop".into(),
        EntryKind::Command => String::from_utf8_lossy(&entry.payload).into_owned(),
        EntryKind::Config => match Configuration::decode(&entry.payload) {
            Some(configuration) => self::configuration(&configuration),
            None => "no configuration".into(),
        },
    };
    format!("{:?} {what}", entry.position()).trim_end().to_owned()
}

/// `voters=1,2,3 outgoing=1,2 learners=4`
pub fn configuration(configuration: &Configuration) -> String {
    let Configuration { voters, outgoing, learners } = configuration;
    let named = |(name, ids): (&str, &BTreeSet<NodeId>)| {
        let ids: Vec<String> = ids.iter().map(|id| id.0.to_string()).collect();
        (!ids.is_empty()).then(|| format!("{name}={}", ids.join(",")))
    };
    let all = [("voters", voters), ("outgoing", outgoing), ("learners", learners)];
    let all: Vec<String> = all.into_iter().filter_map(named).collect();
    if all.is_empty() { "nobody".into() } else { all.join(" ") }
}

pub fn entries<'a>(all: impl IntoIterator<Item = &'a Entry>) -> String {
    all.into_iter().map(entry).collect::<Vec<_>>().join(", ")
}

pub fn positions(all: &[Entry]) -> String {
    all.iter().map(|entry| format!("{:?}", entry.position())).collect::<Vec<_>>().join(",")
}

pub fn message(message: &Message) -> String {
    let Message { from, to, term, body } = message;
    format!("{from}@{term} -> {to} {}", self::body(body))
}

fn body(body: &Body) -> String {
    let round = |round: &u64| if *round == 0 { String::new() } else { format!(" round={round}") };
    match body {
        Body::RequestVote { pre, asked, last } => {
            let asked = if *asked { " asked" } else { "" };
            format!("{} last={last:?}{asked}", if *pre { "RequestPreVote" } else { "RequestVote" })
        }
        Body::VoteReply { pre, granted } => format!(
            "{} {}",
            if *pre { "PreVote" } else { "Vote" },
            if *granted { "granted" } else { "refused" }
        ),
        Body::Append { prev, entries, commit, round: named } if entries.is_empty() => {
            format!("Append prev={prev:?} commit={commit}{}", round(named))
        }
        Body::Append { prev, entries, commit, round: named } => {
            format!("Append prev={prev:?} entries={} commit={commit}{}", positions(entries), round(named))
        }
        Body::AppendReply { round: named, outcome: AppendOutcome::Matched(index) } => {
            format!("Matched {index}{}", round(named))
        }
        Body::AppendReply { round: named, outcome: AppendOutcome::Conflict { prev, hint } } => {
            format!("Conflict prev={prev} hint={hint:?}{}", round(named))
        }
        Body::Chunk { snapshot: Snapshot { position, bytes, .. }, stream, number } => {
            format!("Chunk {position:?} number={number} bytes={bytes} stream={stream}")
        }
        Body::ChunkReply { stream, next } => format!("ChunkReply next={next} stream={stream}"),
        Body::TimeoutNow => "TimeoutNow".into(),
        // Tokens are drawn, and say nothing to a reader.
        Body::ReadIndex { .. } => "ReadIndex".into(),
        Body::ReadIndexReply { index: Some(index), .. } => format!("ReadIndexReply {index}"),
        Body::ReadIndexReply { index: None, .. } => "ReadIndexReply refused".into(),
    }
}

/// What tells it from others: its kind, and the numbers it carries.
pub fn facts(body: &Body) -> [u64; 6] {
    match body {
        Body::RequestVote { pre, asked, last } => {
            [1, u64::from(*pre), u64::from(*asked), last.index.0, last.term.0, 0]
        }
        Body::VoteReply { pre, granted } => [2, u64::from(*pre), u64::from(*granted), 0, 0, 0],
        Body::Append { prev, entries, commit, round } => {
            [3, prev.index.0, prev.term.0, entries.len() as u64, commit.0, *round]
        }
        Body::AppendReply { round, outcome: AppendOutcome::Matched(index) } => [4, *round, index.0, 0, 0, 0],
        Body::AppendReply { round, outcome: AppendOutcome::Conflict { prev, hint } } => {
            [5, *round, prev.0, hint.index.0, hint.term.0, 0]
        }
        Body::Chunk { snapshot, stream, number } => {
            let Position { index, term } = snapshot.position;
            [6, index.0, term.0, snapshot.digest, *stream, *number]
        }
        Body::ChunkReply { stream, next } => [7, *stream, *next, 0, 0, 0],
        Body::TimeoutNow => [8, 0, 0, 0, 0, 0],
        Body::ReadIndex { token } => [9, *token, 0, 0, 0, 0],
        Body::ReadIndexReply { token, index } => {
            [10, *token, index.map_or(u64::MAX, |index| index.0), 0, 0, 0]
        }
    }
}

/// The message of such a line; commands with the payload `forged` stand for its entries.
pub fn parse_message(words: &[&str]) -> Result<Message, String> {
    let [sender, "->", to, kind, rest @ ..] = words else {
        return Err(format!("expected `n2@3 -> n1 KIND ...`, found `{}`", words.join(" ")));
    };
    let (from, term) = sender.split_once('@').ok_or(format!("expected `n2@3`, found `{sender}`"))?;
    let field = |name: &str| {
        let named = |word: &&str| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        rest.iter().find_map(named)
    };
    let needed = |name: &str| field(name).ok_or(format!("{kind} needs `{name}=`"));
    let index = |name: &str| Ok::<_, String>(Index(number(&needed(name)?)?));
    let round = field("round").map_or(Ok(0), |text| number(&text))?;
    let granted = || match rest.first() {
        Some(&"granted") => Ok(true),
        Some(&"refused") => Ok(false),
        _ => Err(format!("{kind} is `granted` or `refused`")),
    };
    let body = match *kind {
        "RequestPreVote" | "RequestVote" => Body::RequestVote {
            pre: *kind == "RequestPreVote",
            asked: rest.contains(&"asked"),
            last: position(&needed("last")?)?,
        },
        "TimeoutNow" => Body::TimeoutNow,
        "PreVote" => Body::VoteReply { pre: true, granted: granted()? },
        "Vote" => Body::VoteReply { pre: false, granted: granted()? },
        "Append" => Body::Append {
            prev: position(&needed("prev")?)?,
            entries: field("entries").map_or(Ok(Vec::new()), |text| forged_entries(&text))?,
            commit: index("commit")?,
            round,
        },
        "Matched" => {
            let matched = rest.first().ok_or("Matched needs an index")?;
            Body::AppendReply { round, outcome: AppendOutcome::Matched(Index(number(matched)?)) }
        }
        "Conflict" => {
            let outcome = AppendOutcome::Conflict { prev: index("prev")?, hint: position(&needed("hint")?)? };
            Body::AppendReply { round, outcome }
        }
        "Chunk" => {
            let named = position(rest.first().ok_or("Chunk needs a position")?)?;
            let configuration =
                Configuration { voters: (1..=3).map(NodeId).collect(), ..Configuration::default() };
            let snapshot =
                Snapshot { position: named, configuration, bytes: number(&needed("bytes")?)?, digest: 0 };
            let (stream, number) = (number(&needed("stream")?)?, number(&needed("number")?)?);
            Body::Chunk { snapshot, stream, number }
        }
        "ChunkReply" => {
            Body::ChunkReply { stream: number(&needed("stream")?)?, next: number(&needed("next")?)? }
        }
        _ => return Err(format!("no message is called `{kind}`")),
    };
    Ok(Message { from: node(from)?, to: node(to)?, term: Term(number(term)?), body })
}

fn forged_entries(text: &str) -> Result<Vec<Entry>, String> {
    let forged = |position: Position| Entry {
        index: position.index,
        term: position.term,
        kind: EntryKind::Command,
        payload: (*b"forged").into(),
    };
    text.split(',').map(|text| position(text).map(forged)).collect()
}

/// `n3` or `3`.
pub fn node(text: &str) -> Result<NodeId, String> {
    number(text.strip_prefix('n').unwrap_or(text))
        .map(NodeId)
        .map_err(|_| format!("expected a node as `n3`, found `{text}`"))
}

/// `max` is the greatest number there is.
pub fn number(text: &str) -> Result<u64, String> {
    if text == "max" {
        return Ok(u64::MAX);
    }
    text.parse().map_err(|_| format!("expected a number, found `{text}`"))
}

/// `index@term`.
pub fn position(text: &str) -> Result<Position, String> {
    let (index, term) = text.split_once('@').ok_or(format!("expected `index@term`, found `{text}`"))?;
    Ok(Position { index: Index(number(index)?), term: Term(number(term)?) })
}
