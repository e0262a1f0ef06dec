//! How fast one register's history is judged, file by file, so that other programs can be timed on the same files.
//!
//! In: `SEARCH_DIR`, a folder for histories; those that are there already stay. Out: a row for each: its verdict, the
//! median of five times. Never: the time of reading, or a time of a history that was judged wrongly.
//!
//! A name says how many clients and operations there are, how many values (0: each is new), and whether one read, in the
//! middle, saw what nobody had written.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use mkraft_harness::check::Status;
use mkraft_harness::check::linearizability::Book;
use mkraft_harness::check::models::Model;
use mkraft_harness::history::History;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[derive(Clone, Copy)]
struct Shape {
    clients: u64,
    operations: u64,
    values: u64,
    lawful: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let folder = std::env::var_os("SEARCH_DIR").map_or(temporary.path().to_owned(), Into::into);
    std::fs::create_dir_all(&folder)?;
    for shape in shapes() {
        let path = folder.join(format!(
            "{}x{}-{}-{}.jsonl",
            shape.clients,
            shape.operations,
            shape.values,
            if shape.lawful { "lawful" } else { "unwritten" }
        ));
        if !path.exists() {
            std::fs::write(&path, history(shape)?)?;
        }
    }
    let mut paths: Vec<_> =
        std::fs::read_dir(&folder)?.map(|item| Ok(item?.path())).collect::<Result<_, std::io::Error>>()?;
    paths.sort();
    paths.iter().try_for_each(|path| measure(path))
}

fn shapes() -> impl Iterator<Item = Shape> {
    let sizes = [(5, 1_000), (5, 10_000), (5, 100_000), (10, 1_000), (10, 10_000), (20, 1_000), (20, 10_000)];
    sizes.into_iter().flat_map(|(clients, operations)| {
        [0, 5]
            .into_iter()
            .flat_map(move |values| [true, false].map(|lawful| Shape { clients, operations, values, lawful }))
    })
}

fn measure(path: &Path) -> Result<(), Box<dyn Error>> {
    let history = History::read(path)?;
    let book = Book { history: &history, file: "history.jsonl", lines: None, epoch_ns: 0 };
    let mut times = Vec::new();
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let expected = if name.ends_with("lawful") { Status::Holds } else { Status::Violated };
    for _ in 0..5 {
        let began = Instant::now();
        let verdict = Model::CasRegister.verdict(&book);
        times.push(began.elapsed().as_secs_f64() * 1e3);
        if verdict.status != expected {
            return Err(format!("{name}: expected {expected:?}, found {:?}", verdict.status).into());
        }
    }
    times.sort_by(f64::total_cmp);
    println!("{name:<28} {:<10} {:>10.3} ms", format!("{expected:?}"), times[2]);
    Ok(())
}

/// Half reads, a quarter writes, a quarter swaps. Each takes effect at a random moment of its time.
fn history(shape: Shape) -> Result<String, std::fmt::Error> {
    let mut random = ChaCha8Rng::seed_from_u64(shape.clients * 1_000_003 + shape.operations + shape.values);
    // Time of the next step, and what the client is at: 0 idle, 1 invoked, 2 done.
    let mut clients: Vec<(u64, u8, char, u64, u64, bool)> =
        (0..shape.clients).map(|_| (random.random_range(1..100), 0, 'r', 0, 0, false)).collect();
    let (mut text, mut register, mut fresh, mut index, mut begun) = (String::new(), 0_u64, 0_u64, 0_u64, 0);
    let mut wrong_after = if shape.lawful { u64::MAX } else { shape.operations / 2 };
    while let Some(at) = (0..clients.len())
        .filter(|&at| clients[at].1 > 0 || begun < shape.operations)
        .min_by_key(|&at| clients[at].0)
    {
        let (time, step, function, expected, value, swapped) = &mut clients[at];
        let now = *time;
        *time += random.random_range(1..100);
        match *step {
            0 => {
                begun += 1;
                fresh += 1;
                *function = ['r', 'r', 'w', 'c'][random.random_range(0..4)];
                *expected = register;
                *value = if shape.values == 0 { fresh } else { random.random_range(1..=shape.values) };
            }
            1 => match *function {
                'r' => *value = register,
                'w' => register = *value,
                _ => {
                    *swapped = register == *expected;
                    (*expected, register) =
                        if *swapped { (*expected, *value) } else { (*expected, register) };
                    // What it saw instead.
                    clients[at].4 = if clients[at].5 { clients[at].4 } else { register };
                }
            },
            _ => {}
        }
        let (_, step, function, expected, value, swapped) = &mut clients[at];
        if *step != 1 {
            let (ends, mut value) = (*step == 2, *value);
            if ends && *function == 'r' && begun > wrong_after {
                // No such value was ever there.
                (wrong_after, value) = (u64::MAX, 1_000_000_000);
            }
            let or_null = |value: u64| if value == 0 { "null".to_owned() } else { value.to_string() };
            let (kind, f, value) = match (ends, *function) {
                (false, 'r') => ("invoke", "read", "null".to_owned()),
                (true, 'r') => ("ok", "read", or_null(value)),
                (false, 'w') => ("invoke", "write", value.to_string()),
                (true, 'w') => ("ok", "write", value.to_string()),
                (false, _) => ("invoke", "cas", format!("[{},{value}]", or_null(*expected))),
                (true, _) if *swapped => ("ok", "cas", format!("[{},{value}]", or_null(*expected))),
                (true, _) => ("fail", "cas", format!("null,\"seen\":{}", or_null(value))),
            };
            writeln!(
                text,
                r#"{{"index":{index},"time":{now},"process":{at},"type":"{kind}","f":"{f}","key":"k","value":{value}}}"#
            )?;
            index += 1;
        }
        *step = (*step + 1) % 3;
    }
    Ok(text)
}
