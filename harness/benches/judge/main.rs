//! How fast histories are read and judged.
//!
//! In: histories from the generator. Out: times and the most memory held at once. Never: a figure of a history that
//! was judged wrongly.

mod generator;
mod transactions;

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use divan::{AllocProfiler, Bencher};
use generator::{Shape, write_history};
use mkraft_harness::check::Status;
use mkraft_harness::check::linearizability::Book;
use mkraft_harness::check::models::Model;
use mkraft_harness::check::transactions::judge_append;
use mkraft_harness::history::History;
use mkraft_proto::evidence::Line;

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

const SIZES: [u32; 3] = [10_000, 100_000, 1_000_000];
const FAR: [u32; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
const REGISTER: Shape =
    Shape { operations: 0, clients: 50, writes: 50, swaps: 0, unknown: 1.0, stale_at: None };
const SWAPS: Shape = Shape { writes: 25, swaps: 25, ..REGISTER };

const LISTS: transactions::Shape = transactions::Shape {
    transactions: 0,
    clients: 50,
    lists: 10,
    appends: 100,
    unknown: 1.0,
    lost_at: None,
};

fn main() {
    divan::main();
}

#[divan::bench(args = FAR, sample_count = 5, sample_size = 1)]
fn read_lines(bencher: Bencher, operations: u32) {
    let (_folder, path) = file(Shape { operations, ..REGISTER });
    bencher.bench_local(|| History::read(&path).expect("a lawful history"));
}

/// Lines as nodes write them, and with the tag last, which the derived reader takes.
#[divan::bench(args = [true, false], sample_count = 5, sample_size = 1)]
fn read_evidence_of_a_million_entries(bencher: Bencher, as_written: bool) {
    let entry = r#"[4,"d2fbe2b4e3964fbf",11,1,"applied"]"#;
    let entries = [entry; 4].join(",");
    let (tag, begin, rest) = (
        r#""event":"apply""#,
        r#""seq":7,"t":1031000000,"node":"n1","boot":1"#,
        format!(r#""first":1,"entries":[{entries}]"#),
    );
    let line =
        if as_written { format!("{{{begin},{tag},{rest}}}") } else { format!("{{{begin},{rest},{tag}}}") };
    bencher.bench_local(|| {
        for _ in 0..250_000 {
            let line: Line = serde_json::from_str(divan::black_box(&line)).expect("a line of evidence");
            divan::black_box(line);
        }
    });
}

#[divan::bench(args = FAR, sample_count = 5, sample_size = 1)]
fn judge_register(bencher: Bencher, operations: u32) {
    judge(bencher, Shape { operations, ..REGISTER }, Status::Holds);
}

#[divan::bench(args = SIZES, sample_count = 5, sample_size = 1)]
fn judge_cas_register(bencher: Bencher, operations: u32) {
    judge(bencher, Shape { operations, ..SWAPS }, Status::Holds);
}

/// With its core, which may have four operations at most.
#[divan::bench(args = [0.1, 0.5, 0.99], sample_count = 5, sample_size = 1)]
fn judge_million_with_a_stale_read_at(bencher: Bencher, at: f64) {
    judge(bencher, Shape { operations: 1_000_000, stale_at: Some(at), ..SWAPS }, Status::Violated);
}

#[divan::bench(args = SIZES, sample_count = 5, sample_size = 1)]
fn judge_transactions(bencher: Bencher, transactions: u32) {
    judge_lists(bencher, transactions::Shape { transactions, ..LISTS }, Status::Holds);
}

/// An acknowledged append that no read ever saw, with its story.
#[divan::bench(args = [0.1, 0.5, 0.99], sample_count = 5, sample_size = 1)]
fn judge_million_transactions_with_an_append_lost_at(bencher: Bencher, at: f64) {
    let shape = transactions::Shape { transactions: 1_000_000, lost_at: Some(at), ..LISTS };
    judge_lists(bencher, shape, Status::Violated);
}

fn judge_lists(bencher: Bencher, shape: transactions::Shape, expected: Status) {
    let folder = tempfile::tempdir().expect("a folder for the history");
    let path = folder.path().join("history.jsonl");
    let mut out = BufWriter::new(std::fs::File::create(&path).expect("a new file"));
    transactions::write_history(shape, 1, &mut out).and_then(|()| out.flush()).expect("room for the history");
    let history = History::read(&path).expect("a lawful history");
    let book = Book { history: &history, file: "history.jsonl", lines: None, epoch_ns: 0 };
    bencher.bench_local(|| {
        let verdict = judge_append(&book);
        assert_eq!(verdict.status, expected, "{}", verdict.summary);
        let named = |text: &str| text.starts_with("G-single-realtime: ");
        assert!(
            verdict.findings.iter().all(|told| named(&told.text) && told.witnesses.len() <= 3),
            "{verdict:?}"
        );
        verdict
    });
}

fn judge(bencher: Bencher, shape: Shape, expected: Status) {
    let (_folder, path) = file(shape);
    let history = History::read(&path).expect("a lawful history");
    let book = Book { history: &history, file: "history.jsonl", lines: None, epoch_ns: 0 };
    bencher.bench_local(|| {
        let verdict = Model::CasRegister.verdict(&book);
        assert_eq!(verdict.status, expected, "{}", verdict.summary);
        assert!(verdict.findings.iter().all(|finding| finding.witnesses.len() <= 4), "{}", verdict.summary);
        verdict
    });
}

fn file(shape: Shape) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder for the history");
    let path = folder.path().join("history.jsonl");
    let mut out = BufWriter::new(std::fs::File::create(&path).expect("a new file"));
    write_history(shape, 1, &mut out).and_then(|()| out.flush()).expect("room for the history");
    (folder, path)
}
