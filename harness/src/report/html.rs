//! One page for a browser, which needs nothing beside itself.
//!
//! In: the folder, evidence and results. Out: HTML, light or dark as the reader likes. Never: a script, a request
//! to anywhere, a path outside the folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::svg;
use super::terminal::share;
use crate::check::measured::Times;
use crate::check::numbers::Numbers;
use crate::check::{CheckResult, Consequence, Evidence, Finding, Overall, Results, Status, Witness};
use crate::history::StrikeOutcome;
use crate::history::folder::RunFolder;

/// Lines shown before and after a witness.
const CONTEXT: u32 = 1;

/// Characters of a line shown at most.
const LINE_MAX: usize = 400;

/// Acts of the nemesis that are listed.
const ACTS_MAX: usize = 500;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2024; --paper: #fdfdfc; --faint: #6b7280; --rule: #e3e3e0;
  --good: #18794e; --bad: #c62a2f; --open: #9a6700; --leads: #6aa9e9; --down: #e5484d; --soft: #f4f4f2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e6; --paper: #17181a; --faint: #9a9fa6; --rule: #303236;
  --good: #4cc38a; --bad: #ff6b70; --open: #f5c451; --leads: #2f6fb0; --down: #b5393f; --soft: #202225; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1060px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; } .faint { color: var(--faint); }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .25rem .8rem .25rem 0;
  border-bottom: 1px solid var(--rule); vertical-align: top; font-weight: normal; } th { color: var(--faint); }
td.number, th.number { text-align: right; }
.holds { color: var(--good); } .violated { color: var(--bad); font-weight: 600; }
.unknown { color: var(--open); font-weight: 600; }
pre { background: var(--soft); padding: .6rem .8rem; overflow-x: auto; font-size: 12.5px; line-height: 1.45;
  border-radius: 4px; margin: .3rem 0 .8rem; } pre b { color: var(--bad); font-weight: 600; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: var(--ink); }
.up { fill: var(--rule); } .down, .not-ok { fill: var(--down); } .leads, .ok { fill: var(--leads); }
.fault { fill: var(--open); } .broken { fill: var(--faint); } .gap { fill: var(--down); } code { font-size: .9em; }
details { border-left: 2px solid var(--rule); padding-left: .9rem; margin: .5rem 0 1rem; }
summary { cursor: pointer; } .clients { margin: .2rem 0 .2rem 1rem; padding: 0; list-style: none; }
.clients li::before { content: \"\\203a\\00a0\"; color: var(--faint); }
";

/// The page.
pub fn page(folder: &RunFolder, evidence: &Evidence, results: &Results) -> String {
    let (word, class) = match results.overall {
        Overall::Holds => ("Holds", "holds"),
        Overall::Violated => ("Violated", "violated"),
        Overall::Unknown => ("Unknown", "unknown"),
        Overall::HarnessFailed => ("The harness failed", "unknown"),
        Overall::Skipped => ("Skipped", "unknown"),
    };
    let title = format!("{word}: {}, seed {}", results.scenario, results.seed);
    let stories = || results.checks.iter().filter(|check| !check.verdict.findings.is_empty());
    let context = Context::read(folder, stories());
    let info = &evidence.info;
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { span class=(class) { (word) } ": " (results.scenario) ", seed " (results.seed) }
                p { (results.claim) }
                @if let Some(failure) = &results.harness_failure { p.unknown { "The harness failed: " (failure) } }
                p.faint {
                    "Started " (info.started) ", harness " (info.harness_version) ", node " (info.node_version)
                    " (" (info.node_binary.xxh3) ")"
                    @if let (Some(version), Some(binary)) = (&info.next_version, &info.next_binary) {
                        ", next " (version) " (" (binary.xxh3) ")"
                    }
                }
                h2 { "Verdicts" }
                (verdicts(results))
                h2 { "Faults, service and leaders" }
                (PreEscaped(svg::timeline(evidence)))
                (acts(evidence))
                h2 { "Operations completed" }
                (PreEscaped(svg::throughput(evidence)))
                (numbers(results))
                @if !info.drawn.is_empty() {
                    h2 { "Drawn from the seed" }
                    pre { @for rule in &info.drawn { "- " (rule) "\n" } }
                }
                @for check in stories().filter(|check| !check.is_consequence()) { (story(results, check, &context)) }
            }
        }
    };
    markup.into_string()
}

fn class(status: Status) -> &'static str {
    match status {
        Status::Holds => "holds",
        Status::Violated => "violated",
        Status::Unknown => "unknown",
    }
}

fn verdicts(results: &Results) -> Markup {
    html! {
        table {
            @for check in &results.checks {
                tr {
                    td class=(class(check.verdict.status)) { (class(check.verdict.status)) }
                    td {
                        @if check.verdict.findings.is_empty() { (check.name) }
                        @else { a href=(format!("#{}", anchor(results, check))) { (check.name) } }
                    }
                    td.faint { (check.section) }
                    td {
                        @for root in results.explained_by(check) {
                            span.faint { "follows from " (root) ". " }
                        }
                        (check.verdict.summary)
                    }
                }
            }
        }
    }
}

fn numbers(results: &Results) -> Markup {
    let numbers = &results.numbers;
    html! {
        table {
            tr { th { "" } th.number { "ok" } th.number { "fail" } th.number { "info" } }
            @for (f, counts) in &numbers.functions {
                tr {
                    td { (f) }
                    td.number { (counts.ok) } td.number { (counts.fail) } td.number { (counts.info) }
                }
            }
        }
        @if !numbers.not_started.is_nothing() {
            p.faint { "Operations that were not started: " (numbers.not_started) "." }
        }
        @if !numbers.faults.is_empty() { (faults(numbers)) }
        p.faint {
            "Leader changes: " (numbers.leader_changes) "."
            @if let Some(took) = numbers.recovery_seconds {
                " The first write succeeded " (format!("{took:.3}")) " s after the last heal."
            }
            @if let Some(service) = &numbers.service { " Service: " (share(service)) "." }
        }
    }
}

/// What was planned and done by kind, and how soon an operation succeeded after it.
fn faults(numbers: &Numbers) -> Markup {
    let service = numbers.service.as_ref();
    let time = |time: Option<f64>, more: bool| match time {
        Some(time) => format!("{}{time:.3} s", if more { ">" } else { "" }),
        None => "-".to_owned(),
    };
    let times = |times: Option<&Times>| {
        let Times { median, worst, in_vain, .. } = times.copied().unwrap_or_default();
        html! { td.number { (time(median, false)) } td.number { (time(worst, in_vain)) } }
    };
    html! {
        table {
            tr {
                th { "" }
                @for head in ["planned", "done", "skipped", "unclear", "served in", "at worst", "after heal", "at worst"] {
                    th.number { (head) }
                }
            }
            @for (kind, strikes) in &numbers.faults {
                tr {
                    td { (kind) }
                    @for count in [strikes.planned, strikes.installed, strikes.skipped, strikes.indeterminate] {
                        td.number { (count) }
                    }
                    (times(service.and_then(|service| service.struck.get(kind))))
                    (times(service.and_then(|service| service.healed.get(kind))))
                }
            }
        }
    }
}

/// Each act of the nemesis in its words, folded.
fn acts(evidence: &Evidence) -> Markup {
    let strikes = &evidence.history.strikes;
    html! {
        @if !strikes.is_empty() {
            details {
                summary { (strikes.len()) " acts of the nemesis" }
                table {
                    @for strike in strikes.iter().take(ACTS_MAX) {
                        tr {
                            td.faint { code { "history.jsonl:" (strike.completion_line.unwrap_or(strike.invoke_line)) } }
                            td { (evidence.at(strike.invoked_at)) }
                            td { (strike.f) " " (strike.invoked.target) }
                            @match &strike.completed {
                                Some(told) => { td { (outcome(told.outcome)) } td { (told.detail) } }
                                None => { td.unknown { "begun" } td { "no line says what came of it" } }
                            }
                        }
                    }
                }
                @if strikes.len() > ACTS_MAX { p { "... and " (strikes.len() - ACTS_MAX) " more" } }
            }
        }
    }
}

fn outcome(outcome: Option<StrikeOutcome>) -> &'static str {
    match outcome {
        Some(StrikeOutcome::Installed) => "done",
        Some(StrikeOutcome::Skipped) => "skipped",
        Some(StrikeOutcome::Indeterminate) | None => "unclear",
    }
}

/// A check that only follows from others is told where they are.
fn anchor<'r>(results: &'r Results, check: &'r CheckResult) -> &'r str {
    results.explained_by(check).first().copied().unwrap_or(&check.name)
}

/// What nothing else explains, and below each what follows from it.
fn story(results: &Results, check: &CheckResult, context: &Context) -> Markup {
    let status = class(check.verdict.status);
    let own = |finding: &&Finding| finding.causes.is_empty();
    html! {
        h2 id=(check.name) { span class=(status) { (check.name) } " " span.faint { (check.claim) } }
        @for finding in check.verdict.findings.iter().filter(own) {
            (told(finding, context))
            @if !finding.consequences.is_empty() { (folded(results, &finding.consequences, context)) }
        }
        @if check.verdict.more > 0 { p { "... and " (check.verdict.more) " more like these" } }
    }
}

fn told(finding: &Finding, context: &Context) -> Markup {
    html! {
        p { (finding.text) }
        @if !finding.drawing.is_empty() { pre { (finding.drawing.join("\n")) } }
        @if !finding.clients.is_empty() {
            ul.clients { @for sentence in &finding.clients { li { (sentence) } } }
        }
        @for witness in &finding.witnesses {
            p.faint { code { (witness.file) ":" (witness.line) } " " (witness.text) }
            (context.show(witness))
        }
    }
}

fn folded(results: &Results, consequences: &[Consequence], context: &Context) -> Markup {
    html! {
        details {
            summary {
                "And so: "
                @for (at, consequence) in consequences.iter().enumerate() {
                    @if at > 0 { ", " }
                    span.violated { (consequence.check) }
                    @if !consequence.extent.is_empty() { " (" (consequence.extent) ")" }
                }
            }
            @for consequence in consequences {
                @for (check, finding) in consequence.ids.iter().filter_map(|id| results.finding(id)) {
                    p.faint {
                        code { (finding.id) } " " (check.claim) "; follows from " (finding.causes.join(", "))
                    }
                    (told(finding, context))
                }
            }
        }
    }
}

/// The lines that witnesses name, with those around them; each file is read once.
struct Context {
    lines: BTreeMap<(String, u32), String>,
}

impl Context {
    fn read<'r>(folder: &RunFolder, checks: impl Iterator<Item = &'r CheckResult>) -> Context {
        let mut wanted: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        let findings = checks.flat_map(|check| &check.verdict.findings);
        for witness in findings.flat_map(|finding| &finding.witnesses).filter(|witness| witness.line > 0) {
            let around = witness.line.saturating_sub(CONTEXT)..=witness.line.saturating_add(CONTEXT);
            wanted.entry(&witness.file).or_default().extend(around);
        }
        let mut lines = BTreeMap::new();
        for (name, mut numbers) in wanted {
            numbers.sort_unstable();
            // A page without context is still a page.
            let Ok(file) = File::open(folder.root().join(name)) else { continue };
            let last = numbers.last().copied().unwrap_or(0) as usize;
            for (number, line) in (1_u32..).zip(BufReader::new(file).split(b'\n')).take(last) {
                let Ok(line) = line else { break };
                if numbers.binary_search(&number).is_ok() {
                    let text = String::from_utf8_lossy(&line).chars().take(LINE_MAX).collect();
                    lines.insert((name.to_owned(), number), text);
                }
            }
        }
        Context { lines }
    }

    fn show(&self, witness: &Witness) -> Markup {
        let key = |line| (witness.file.clone(), line);
        let around = witness.line.saturating_sub(CONTEXT)..=witness.line.saturating_add(CONTEXT);
        let lines: Vec<_> = self.lines.range(key(*around.start())..=key(*around.end())).collect();
        html! {
            @if witness.line > 0 && !lines.is_empty() {
                pre {
                    @for ((_, number), text) in lines {
                        @if *number == witness.line { b { (number) "  " (text) } } @else { (number) "  " (text) }
                        "\n"
                    }
                }
            }
        }
    }
}
