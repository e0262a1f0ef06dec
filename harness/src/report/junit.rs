//! Results in the format that CI systems read.
//!
//! In: results. Out: one test case a check, or one that is skipped. Never: a case that passes without "holds".

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::check::{Finding, Results, Status};

/// Violated is a failure, unknown an error, and so is a failure of the harness itself.
pub fn report(results: &Results) -> Report {
    let mut suite = TestSuite::new(results.scenario.clone());
    suite.add_property(("seed", results.seed.to_string().as_str()));
    for check in &results.checks {
        let roots = results.explained_by(check).join(", ");
        let summary = match roots.is_empty() {
            true => check.verdict.summary.clone(),
            false => format!("{} (follows from {roots})", check.verdict.summary),
        };
        let told = |kind, word: &str| told(kind, word, &summary, &check.verdict.findings);
        let status = match check.verdict.status {
            Status::Holds => TestCaseStatus::success(),
            Status::Violated => told(NonSuccessKind::Failure, "violated"),
            Status::Unknown => told(NonSuccessKind::Error, "unknown"),
        };
        suite.add_test_case(case(results, &check.name, status));
    }
    if let Some(failure) = &results.harness_failure {
        let status = told(NonSuccessKind::Error, "harness-failure", failure, &[]);
        suite.add_test_case(case(results, "harness", status));
    }
    if let Some(why) = &results.skipped {
        let mut status = TestCaseStatus::skipped();
        status.set_message(why);
        suite.add_test_case(case(results, "run", status));
    }
    let mut report = Report::new("mkraft-harness");
    report.add_test_suite(suite);
    report
}

fn case(results: &Results, name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(format!("{}.seed-{}", results.scenario, results.seed));
    case
}

fn told(kind: NonSuccessKind, word: &str, summary: &str, findings: &[Finding]) -> TestCaseStatus {
    let mut text = String::new();
    for finding in findings {
        text += &format!("{}\n", finding.text);
        if !finding.causes.is_empty() {
            text += &format!("  follows from {}\n", finding.causes.join(", "));
        }
        finding.clients.iter().for_each(|sentence| text += &format!("  clients: {sentence}\n"));
        for witness in &finding.witnesses {
            text += &format!("  {}:{}  {}\n", witness.file, witness.line, witness.text);
        }
        finding.drawing.iter().for_each(|row| text += &format!("  {row}\n"));
    }
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(word).set_message(format!("{word}: {summary}")).set_description(text);
    status
}
