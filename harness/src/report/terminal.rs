//! The report for a tired person at 3 a.m.: the outcome first, then what is wrong, then what to do next.
//!
//! In: results and the folder they are of. Out: text of at most 110 columns. Never: a terminal; the caller says
//! whether there are colours.

use std::collections::BTreeSet;
use std::fmt;

use anstyle::{AnsiColor, Style};

use crate::check::measured::{Measured, Times};
use crate::check::numbers::{Counts, Strikes};
use crate::check::{CheckResult, Consequence, Finding, Overall, Results, Status, Witness};
use crate::history::folder::RunFolder;

const COLUMNS: usize = 110;

const BAD: Style = AnsiColor::Red.on_default().bold();
const OPEN: Style = AnsiColor::Yellow.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const FAINT: Style = Style::new().dimmed();
const STRONG: Style = Style::new().bold();

/// Of one check: the first ones tell the story, and the page has the others.
const FINDINGS_SHOWN: usize = 3;

/// Above the rows of the kinds of faults: how many, and how soon an operation succeeded after them.
const FAULTS: &str =
    "Faults           planned      done   skipped   unclear   served in    at worst  after heal    at worst";

/// A longer name of a place is not lined up with others.
const PLACE_MAX: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Each root cause, and in a line what follows from it.
    Roots,
    /// Each finding of each check that does not hold.
    All,
}

/// The whole report.
pub fn terminal(results: &Results, folder: &RunFolder, detail: Detail, color: bool) -> String {
    let mut page = Page { text: String::new(), color, detail, kept_in: "report.html and results.json show" };
    page.headline(results);
    if results.overall == Overall::Skipped {
        return page.text;
    }
    page.checks(results);
    let violated = || results.checks.iter().filter(|check| check.verdict.status == Status::Violated);
    // What is wrong comes before what is missing, and what explains more before what stands alone.
    match detail {
        Detail::All => violated().for_each(|check| page.story(check)),
        Detail::Roots => {
            let mut roots: Vec<_> = violated().filter(|check| !check.is_consequence()).collect();
            roots.sort_by_key(|check| check.roots().all(|root| root.consequences.is_empty()));
            roots.into_iter().for_each(|check| page.roots(check));
        }
    }
    page.missing(results);
    page.numbers(results);
    page.drawn(folder);
    page.next(results, folder);
    page.text
}

/// One check by itself, of a history without a folder.
pub fn one_check(check: &CheckResult, detail: Detail, color: bool) -> String {
    let mut page = Page { text: String::new(), color, detail, kept_in: "--all shows" };
    if check.verdict.findings.is_empty() {
        let (word, style) = word(check.verdict.status);
        let lead = format!("{}  {}  ", page.paint(style, word), check.name);
        page.hanging(&lead, 4 + word.len() + check.name.len(), &check.verdict.summary);
    } else {
        page.story(check);
    }
    page.text
}

struct Page {
    text: String,
    color: bool,
    detail: Detail,
    /// Where there is more than is told: "... shows".
    kept_in: &'static str,
}

impl Page {
    fn paint(&self, style: Style, text: &str) -> String {
        if self.color { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    /// `text` after a `lead` of so many columns, broken between words and kept in its column.
    fn hanging(&mut self, lead: &str, columns: usize, text: &str) {
        let mut rows = wrap(text, COLUMNS.saturating_sub(columns).max(30)).into_iter();
        let first = rows.next().unwrap_or_default();
        self.line(&format!("{lead}{first}"));
        rows.for_each(|row| self.line(&format!("{:columns$}{row}", "")));
    }

    fn headline(&mut self, results: &Results) {
        let (word, style, meaning) = match results.overall {
            Overall::Holds => ("HOLDS", GOOD.bold(), "every check holds"),
            Overall::Violated => ("VIOLATED", BAD, "something happened that must never happen"),
            Overall::Unknown => ("UNKNOWN", OPEN, "nothing was found, but not everything could be judged"),
            Overall::HarnessFailed => ("HARNESS FAILED", OPEN, "the harness itself could not do its work"),
            Overall::Skipped => ("SKIPPED", OPEN, "nothing was run: this machine cannot do what it needs"),
        };
        let word = self.paint(style, word);
        let scenario = self.paint(STRONG, &results.scenario);
        self.line(&format!("{word}  {scenario}, seed {}: {meaning}", results.seed));
        if !results.claim.is_empty() {
            self.hanging("Claim: ", 7, &results.claim);
        }
        if let Some(failure) = &results.harness_failure {
            self.hanging("The harness failed: ", 20, failure);
        }
        if let Some(why) = &results.skipped {
            self.hanging("Missing: ", 9, why);
        }
        self.line("");
    }

    fn checks(&mut self, results: &Results) {
        let width = results.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for check in &results.checks {
            let (word, style) = word(check.verdict.status);
            let word = self.paint(style, &format!("{word:8}"));
            let lead = format!("  {word}  {:width$}  ", check.name);
            let roots = results.explained_by(check).join(", ");
            let summary = &check.verdict.summary;
            match roots.is_empty() {
                true => self.hanging(&lead, 14 + width, summary),
                false => self.hanging(&lead, 14 + width, &format!("(follows from {roots}) {summary}")),
            }
        }
        self.line("");
    }

    fn story(&mut self, check: &CheckResult) {
        let (word, style) = word(check.verdict.status);
        let word = self.paint(style, word);
        let name = self.paint(STRONG, &check.name);
        self.line(&format!("{word}  {name} ({}): {}", check.section, check.claim));
        let findings = &check.verdict.findings;
        let shown = if self.detail == Detail::All { findings.len() } else { FINDINGS_SHOWN };
        for finding in findings.iter().take(shown) {
            self.finding(finding, None);
            if !finding.causes.is_empty() {
                self.label("Follows from: ", &finding.causes.join(", "));
            }
            self.consequences(&finding.consequences);
        }
        self.more(findings.len().saturating_sub(shown), check);
        self.line("");
    }

    /// What nothing else explains, with what follows from it.
    fn roots(&mut self, check: &CheckResult) {
        let (word, style) = word(check.verdict.status);
        let word = self.paint(style, word);
        let name = self.paint(STRONG, &check.name);
        self.line(&format!("{word}  {name} ({}): {}", check.section, check.claim));
        let mut roots: Vec<&Finding> = check.roots().collect();
        roots.sort_by_key(|root| root.consequences.is_empty());
        // The first ones, and whatever explains what those before it do not.
        let mut explained: BTreeSet<&str> = BTreeSet::new();
        let (mut shown, mut before_it) = (0, None);
        for (at, root) in roots.iter().enumerate() {
            let ids = root.consequences.iter().flat_map(|consequence| &consequence.ids);
            let before = explained.len();
            explained.extend(ids.map(String::as_str));
            if shown >= FINDINGS_SHOWN && explained.len() == before {
                continue;
            }
            shown += 1;
            self.finding(root, before_it);
            before_it = Some(root);
            // Several that explain the same are told together.
            let next = roots.get(at + 1).filter(|_| at + 1 < FINDINGS_SHOWN);
            if next.is_none_or(|next| next.consequences != root.consequences) {
                self.consequences(&root.consequences);
            }
        }
        self.more(roots.len() - shown, check);
        self.line("");
    }

    fn more(&mut self, left_out: usize, check: &CheckResult) {
        let (kept, beyond) = (check.verdict.findings.len(), check.verdict.more);
        if left_out + beyond > 0 {
            let more = left_out + beyond;
            self.line(&format!("  ... and {more} more like these ({} {kept})", self.kept_in));
        }
    }

    fn consequences(&mut self, consequences: &[Consequence]) {
        let tell = |consequence: &Consequence| match &*consequence.extent {
            "" => consequence.check.clone(),
            extent => format!("{} ({extent})", consequence.check),
        };
        let told: Vec<String> = consequences.iter().map(tell).collect();
        if !told.is_empty() {
            self.label("And so: ", &told.join(", "));
        }
    }

    /// A word that says what the text is, and the text in its column.
    fn label(&mut self, label: &str, text: &str) {
        let painted = self.paint(FAINT, label);
        self.hanging(&format!("    {painted}"), 4 + label.len(), text);
    }

    /// What is missing, once, with all the checks that needed it.
    fn missing(&mut self, results: &Results) {
        let unknown = || results.checks.iter().filter(|check| check.verdict.status == Status::Unknown);
        let mut doubts: Vec<(Vec<&CheckResult>, &Finding)> = Vec::new();
        for check in unknown() {
            for finding in &check.verdict.findings {
                match doubts.iter_mut().find(|(_, known)| *known == finding) {
                    Some((checks, _)) => checks.push(check),
                    None => doubts.push((vec![check], finding)),
                }
            }
        }
        let names = |checks: &[&CheckResult]| -> Vec<String> {
            checks.iter().map(|check| check.name.clone()).collect()
        };
        let mut told: Vec<Vec<String>> = Vec::new();
        for (checks, _) in &doubts {
            if told.contains(&names(checks)) {
                continue;
            }
            self.doubtful(checks);
            let alike: Vec<&Finding> = doubts
                .iter()
                .filter(|(others, _)| names(others) == names(checks))
                .map(|(_, it)| *it)
                .collect();
            let shown = if self.detail == Detail::All { alike.len() } else { FINDINGS_SHOWN };
            alike.iter().take(shown).for_each(|finding| self.finding(finding, None));
            let beyond = checks.iter().map(|check| check.verdict.more).max().unwrap_or(0);
            let more = alike.len().saturating_sub(shown) + beyond;
            if more > 0 {
                self.line(&format!("  ... and {more} more like these (report.html shows more)"));
            }
            self.line("");
            told.push(names(checks));
        }
        for check in unknown().filter(|check| check.verdict.findings.is_empty()) {
            self.doubtful(&[check]);
            self.hanging("  - ", 4, &check.verdict.summary);
            self.line("");
        }
    }

    fn doubtful(&mut self, checks: &[&CheckResult]) {
        let (word, style) = word(Status::Unknown);
        let (word, length) = (self.paint(style, word), word.len());
        if let [check] = checks {
            let name = self.paint(STRONG, &check.name);
            self.line(&format!("{word}  {name} ({}): {}", check.section, check.claim));
        } else {
            let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
            self.hanging(
                &format!("{word}  "),
                length + 2,
                &format!("{}, for want of this:", names.join(", ")),
            );
        }
    }

    fn finding(&mut self, finding: &Finding, before_it: Option<&Finding>) {
        self.hanging("  - ", 4, &finding.text);
        let place = |witness: &Witness| match witness.line {
            0 => witness.file.clone(),
            line => format!("{}:{line}", witness.file),
        };
        let places: Vec<_> = finding.witnesses.iter().map(place).collect();
        let width = places.iter().map(String::len).max().unwrap_or(0).min(PLACE_MAX);
        for (place, witness) in places.iter().zip(&finding.witnesses) {
            let place = self.paint(FAINT, &format!("{place:width$}"));
            // A witness alone often says just what the finding says.
            let text = if witness.text == finding.text { "" } else { witness.text.as_str() };
            self.hanging(&format!("    {place}  "), 6 + width, text);
        }
        if !finding.drawing.is_empty() {
            self.line("");
            finding.drawing.iter().for_each(|row| self.line(&format!("    {row}")));
            self.line("");
        }
        // Nodes that do the same wrong touch the same operations.
        if !finding.clients.is_empty() && before_it.is_some_and(|before| before.clients == finding.clients) {
            return self.label("Clients: ", "the same as above");
        }
        for (at, sentence) in finding.clients.iter().enumerate() {
            self.label(if at == 0 { "Clients: " } else { "         " }, sentence);
        }
    }

    fn numbers(&mut self, results: &Results) {
        let numbers = &results.numbers;
        self.line("Operations            ok      fail      info");
        for (f, Counts { ok, fail, info }) in &numbers.functions {
            self.line(&format!("  {f:12} {ok:>9} {fail:>9} {info:>9}"));
        }
        if !numbers.not_started.is_nothing() {
            self.hanging("  not started: ", 4, &numbers.not_started.to_string());
        }
        if !numbers.faults.is_empty() {
            self.line(FAULTS);
            for (kind, Strikes { planned, installed, skipped, indeterminate }) in &numbers.faults {
                let counts = format!("{planned:>9} {installed:>9} {skipped:>9} {indeterminate:>9}");
                let service = numbers.service.as_ref();
                let struck = service.and_then(|service| service.struck.get(kind));
                let healed = service.and_then(|service| service.healed.get(kind));
                self.line(&format!("  {kind:12} {counts}  {}  {}", Told(struck), Told(healed)));
            }
        }
        let mut facts = vec![format!("{} leader changes", numbers.leader_changes)];
        if numbers.config_changes > 0 {
            facts.push(format!("{} configurations committed", numbers.config_changes));
        }
        if numbers.snapshots_installed > 0 {
            facts.push(format!("{} snapshots installed", numbers.snapshots_installed));
        }
        facts.extend(numbers.recovery_seconds.map(|took| format!("served {took:.3} s after the last heal")));
        facts.extend(numbers.load_seconds.map(|load| format!("{load:.1} s of load")));
        self.hanging("In the run: ", 12, &facts.join(", "));
        if let Some(service) = &numbers.service {
            self.hanging("Service: ", 9, &share(service));
        }
        self.line("");
    }

    /// What a swarm drew.
    fn drawn(&mut self, folder: &RunFolder) {
        let drawn = folder.read_info().map(|info| info.drawn).unwrap_or_default();
        if drawn.is_empty() {
            return;
        }
        self.line("Drawn from the seed");
        drawn.iter().for_each(|rule| self.hanging("  - ", 4, rule));
        self.line("");
    }

    fn next(&mut self, results: &Results, folder: &RunFolder) {
        let root = folder.root().display();
        let scenario = folder.scenario();
        // The node that was tested, and not whichever stands beside the harness.
        let node = folder.read_info().map(|info| {
            let next = info.next_binary.map(|next| format!(" --node-next {}", next.path)).unwrap_or_default();
            format!(" --node {}{next}", info.node_binary.path)
        });
        let node = node.unwrap_or_default();
        let again = format!("mkraft-harness run {} --seed {}{node}", scenario.display(), results.seed);
        self.line("Next");
        for (purpose, command) in [
            ("run it again, with the same plan:", again),
            ("judge this run again:", format!("mkraft-harness check {root}")),
            ("show this again:", format!("mkraft-harness report {root}")),
            ("with every finding of every check:", format!("mkraft-harness report {root} --all")),
            ("time line and context, in a browser:", folder.report().display().to_string()),
        ] {
            let purpose = self.paint(FAINT, &format!("{purpose:36}"));
            self.line(&format!("  {purpose}  {command}"));
        }
    }
}

/// How much was served, in a sentence.
pub(super) fn share(service: &Measured) -> String {
    let Measured { whole_told, whole_seconds, counted_seconds, .. } = service;
    let whole = match whole_told {
        true => format!("a quorum was whole for {whole_seconds:.1} s"),
        false => "nobody says when a quorum was whole, so it is taken to have been always".to_owned(),
    };
    match service.service_percent.zip(service.longest_gap_seconds) {
        Some((percent, gap)) => format!(
            "{percent:.2}% of the {counted_seconds:.1} s that count, the longest gap {gap:.3} s; {whole}"
        ),
        None => format!("not measured in the {counted_seconds:.1} s that count; {whole}"),
    }
}

/// Median and worst time to the first success.
struct Told<'t>(Option<&'t Times>);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Times { median, worst, in_vain, .. } = self.0.copied().unwrap_or_default();
        let told = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.3} s"));
        let more = if in_vain { ">" } else { "" };
        write!(f, "{:>10} {:>11}", told(median), more.to_owned() + &told(worst))
    }
}

fn word(status: Status) -> (&'static str, Style) {
    match status {
        Status::Holds => ("holds", GOOD),
        Status::Violated => ("VIOLATED", BAD),
        Status::Unknown => ("UNKNOWN", OPEN),
    }
}

/// Lines of at most `width` characters, broken between words; a longer word stands alone.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match rows.last_mut() {
            Some(row) if row.chars().count() + 1 + word.chars().count() <= width => {
                row.push(' ');
                row.push_str(word);
            }
            _ => rows.push(word.to_owned()),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;
    use crate::check::numbers::Numbers;

    fn results() -> Results {
        let witness = |line, text: &str| Witness {
            file: "nodes/n2/events/boot-0001.jsonl".into(),
            line,
            text: text.into(),
        };
        let votes = [witness(17, "n2 voted for n1 in term 4 at +3.214 s"), witness(19, &"word ".repeat(30))];
        let finding = Finding {
            drawing: vec!["p1 write 1  |--|".into()],
            ..Finding::new("n2 voted in term 4 for n1 and for n3", votes)
        };
        let check = |name: &str, status, findings| CheckResult {
            name: name.into(),
            section: "§5.2".into(),
            claim: "no node votes for two candidates in one term".into(),
            verdict: Verdict { status, summary: format!("summary of {name}"), findings, more: 0 },
        };
        Results {
            scenario: "leader-killer".into(),
            claim: "Killing leaders loses nothing.".into(),
            seed: 42,
            overall: Overall::Violated,
            exit_code: 1,
            harness_failure: None,
            skipped: None,
            checks: vec![
                check("faults", Status::Unknown, vec![Finding::new("step 3 was never begun", [])]),
                check("vote-once", Status::Violated, vec![finding]),
                check("recovery", Status::Holds, vec![]),
            ],
            numbers: Numbers::default(),
        }
    }

    #[test]
    fn the_outcome_comes_first_and_what_is_wrong_before_what_is_missing() {
        let text = terminal(&results(), &RunFolder::new("runs/leader-killer-42"), Detail::Roots, false);
        assert!(text.starts_with("VIOLATED  leader-killer, seed 42"), "{text}");
        let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("no {needle} in\n{text}"));
        assert!(at("n2 voted in term 4 for n1 and for n3") < at("- step 3 was never begun"));
        assert!(at("nodes/n2/events/boot-0001.jsonl:17  n2 voted for n1") < at("p1 write 1  |--|"));
        at("mkraft-harness run runs/leader-killer-42/scenario.yaml --seed 42");
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn what_a_swarm_drew_is_told() {
        let place = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(place.path());
        let run = include_str!("../../tests/runs/innocent/run.json").trim_end();
        let drawn = "{ every: 2s to 5s, kill: leader, down: 1s }";
        let info = format!("{},\n \"drawn\": [\"{drawn}\"] }}", run.strip_suffix('}').unwrap().trim_end());
        std::fs::write(folder.info(), info).unwrap();
        let text = terminal(&results(), &folder, Detail::Roots, false);
        assert!(text.contains(&format!("Drawn from the seed\n  - {drawn}\n")), "{text}");
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let folder = RunFolder::new("runs/x-1");
        let painted = terminal(&results(), &folder, Detail::Roots, true);
        assert!(painted.contains('\u{1b}'));
        assert_eq!(
            anstream::adapter::strip_str(&painted).to_string(),
            terminal(&results(), &folder, Detail::Roots, false)
        );
    }
}
