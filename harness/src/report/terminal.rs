//! The report for a tired person at 3 a.m.: the outcome first, then what is wrong, then what to do next.
//!
//! In: results and the folder they are of. Out: text of at most 110 columns. Never: a terminal; the caller says
//! whether there are colours.

use anstyle::{AnsiColor, Style};

use crate::check::numbers::{Counts, Strikes};
use crate::check::{CheckResult, Finding, Overall, Results, Status, Witness};
use crate::history::folder::RunFolder;

const COLUMNS: usize = 110;

const BAD: Style = AnsiColor::Red.on_default().bold();
const OPEN: Style = AnsiColor::Yellow.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const FAINT: Style = Style::new().dimmed();
const STRONG: Style = Style::new().bold();

/// Of one check: the first ones tell the story, and the page has the others.
const FINDINGS_SHOWN: usize = 3;

/// The whole report.
pub fn terminal(results: &Results, folder: &RunFolder, color: bool) -> String {
    let mut page = Page { text: String::new(), color };
    page.headline(results);
    page.checks(results);
    let worth_telling = |check: &&CheckResult| check.verdict.status != Status::Holds;
    let mut stories: Vec<&CheckResult> = results.checks.iter().filter(worth_telling).collect();
    // What is wrong comes before what is missing.
    stories.sort_by_key(|check| check.verdict.status != Status::Violated);
    stories.into_iter().for_each(|check| page.story(check));
    page.numbers(results);
    page.next(results, folder);
    page.text
}

/// One check by itself.
pub fn one_check(check: &CheckResult, color: bool) -> String {
    let mut page = Page { text: String::new(), color };
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
        self.line("");
    }

    fn checks(&mut self, results: &Results) {
        let width = results.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for check in &results.checks {
            let (word, style) = word(check.verdict.status);
            let word = self.paint(style, &format!("{word:8}"));
            let lead = format!("  {word}  {:width$}  ", check.name);
            self.hanging(&lead, 14 + width, &check.verdict.summary);
        }
        self.line("");
    }

    fn story(&mut self, check: &CheckResult) {
        let (word, style) = word(check.verdict.status);
        let word = self.paint(style, word);
        let name = self.paint(STRONG, &check.name);
        self.line(&format!("{word}  {name} ({}): {}", check.section, check.claim));
        let findings = &check.verdict.findings;
        findings.iter().take(FINDINGS_SHOWN).for_each(|finding| self.finding(finding));
        let more = findings.len().saturating_sub(FINDINGS_SHOWN) + check.verdict.more;
        if more > 0 {
            self.line(&format!(
                "  ... and {more} more like these (report.html and results.json show {})",
                findings.len()
            ));
        }
        self.line("");
    }

    fn finding(&mut self, finding: &Finding) {
        self.hanging("  - ", 4, &finding.text);
        let place = |witness: &Witness| match witness.line {
            0 => witness.file.clone(),
            line => format!("{}:{line}", witness.file),
        };
        let places: Vec<_> = finding.witnesses.iter().map(place).collect();
        let width = places.iter().map(String::len).max().unwrap_or(0);
        for (place, witness) in places.iter().zip(&finding.witnesses) {
            let place = self.paint(FAINT, &format!("{place:width$}"));
            // A witness alone often says just what the finding says.
            let text = if witness.text == finding.text { "" } else { witness.text.as_str() };
            self.hanging(&format!("    {place}  "), 6 + width, text);
        }
        if !finding.drawing.is_empty() {
            self.line("");
            finding.drawing.iter().for_each(|row| self.line(&format!("    {row}")));
        }
    }

    fn numbers(&mut self, results: &Results) {
        let numbers = &results.numbers;
        self.line("Operations            ok      fail      info");
        for (f, Counts { ok, fail, info }) in &numbers.functions {
            self.line(&format!("  {f:12} {ok:>9} {fail:>9} {info:>9}"));
        }
        if !numbers.faults.is_empty() {
            self.line("Faults              done   skipped   unclear");
            for (kind, Strikes { installed, skipped, indeterminate }) in &numbers.faults {
                self.line(&format!("  {kind:12} {installed:>9} {skipped:>9} {indeterminate:>9}"));
            }
        }
        let mut facts = vec![format!("{} leader changes", numbers.leader_changes)];
        facts.extend(numbers.recovery_seconds.map(|took| format!("served {took:.3} s after the last heal")));
        facts.extend(numbers.load_seconds.map(|load| format!("{load:.1} s of load")));
        self.hanging("In the run: ", 12, &facts.join(", "));
        self.line("");
    }

    fn next(&mut self, results: &Results, folder: &RunFolder) {
        let root = folder.root().display();
        let scenario = folder.scenario();
        // The node that was tested, and not whichever stands beside the harness.
        let node =
            folder.read_info().map(|info| format!(" --node {}", info.node_binary.path)).unwrap_or_default();
        let again = format!("mkraft-harness run {} --seed {}{node}", scenario.display(), results.seed);
        self.line("Next");
        for (purpose, command) in [
            ("run it again, with the same plan:", again),
            ("judge this run again:", format!("mkraft-harness check {root}")),
            ("show this again:", format!("mkraft-harness report {root}")),
            ("time line and context, in a browser:", folder.report().display().to_string()),
        ] {
            let purpose = self.paint(FAINT, &format!("{purpose:36}"));
            self.line(&format!("  {purpose}  {command}"));
        }
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
        let text = terminal(&results(), &RunFolder::new("runs/leader-killer-42"), false);
        assert!(text.starts_with("VIOLATED  leader-killer, seed 42"), "{text}");
        let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("no {needle} in\n{text}"));
        assert!(at("n2 voted in term 4 for n1 and for n3") < at("- step 3 was never begun"));
        assert!(at("nodes/n2/events/boot-0001.jsonl:17  n2 voted for n1") < at("p1 write 1  |--|"));
        at("mkraft-harness run runs/leader-killer-42/scenario.yaml --seed 42");
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let folder = RunFolder::new("runs/x-1");
        let painted = terminal(&results(), &folder, true);
        assert!(painted.contains('\u{1b}'));
        assert_eq!(anstream::adapter::strip_str(&painted).to_string(), terminal(&results(), &folder, false));
    }
}
