//! Since when the bytes of each marked write were durable on one disk, by its ledger.
//!
//! In: a [`Ledger`]. Out: for each mark that was written, a [`Durable`]. Never: the format of a node's files; a mark stands
//! in them as it is.

use std::collections::{BTreeMap, HashMap};

use memchr::memmem::Finder;
use serde::Serialize;

use crate::disk::ledger::{Act, Damage, Ledger};
use crate::disk::model::Inode;

const PREFIX: &str = "mkraft-audit:";
const NUMBERS: usize = 8 + 1 + 16;

/// What a disk says of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durable {
    /// Their sync, and that of their file's name, had ended then. CLOCK_MONOTONIC.
    Since {
        ns: u64,
    },
    /// The bytes were synced, the name of their file was not.
    Nameless,
    Never,
}

/// `mkraft-audit:00000003-0000000000000011`: no two alike, none a part of another.
pub fn mark(writer: u32, number: u64) -> String {
    format!("{PREFIX}{writer:08x}-{number:016x}")
}

/// A file that has marks in it.
#[derive(Default)]
struct File {
    /// Written and not synced: the number of the call, and the mark.
    waiting: Vec<(u64, Vec<u8>)>,
    /// The folder, and the number of the call, of its newest name that is not synced.
    naming: Option<(Inode, u64)>,
    /// Synced, while the name is not.
    nameless: Vec<Vec<u8>>,
}

/// Where each mark was durable first.
pub fn durable(ledger: &Ledger) -> Result<HashMap<Vec<u8>, Durable>, Damage> {
    let finder = Finder::new(PREFIX);
    let mut found: HashMap<Vec<u8>, Durable> = HashMap::new();
    let mut files: BTreeMap<Inode, File> = BTreeMap::new();
    let mut names: HashMap<(Inode, String), Inode> = HashMap::new();
    for entry in &ledger.entries {
        match &entry.act {
            Act::Create { folder, name, inode, .. } | Act::Link { inode, folder, name } => {
                names.insert((*folder, name.clone()), *inode);
                files.entry(*inode).or_default().naming = Some((*folder, entry.number));
            }
            Act::Rename { folder, name, to_folder, to_name } => {
                if let Some(inode) = names.remove(&(*folder, name.clone())) {
                    names.insert((*to_folder, to_name.clone()), inode);
                    files.entry(inode).or_default().naming = Some((*to_folder, entry.number));
                }
            }
            Act::Unlink { folder, name } | Act::RemoveFolder { folder, name } => {
                names.remove(&(*folder, name.clone()));
            }
            Act::Write { inode, length, at: at @ Some(_), .. } => {
                let bytes = ledger.bytes(*at, *length)?;
                let marks = finder
                    .find_iter(&bytes)
                    .filter_map(|place| bytes.get(place..place + PREFIX.len() + NUMBERS).map(<[u8]>::to_vec));
                for mark in marks {
                    found.entry(mark.clone()).or_insert(Durable::Never);
                    files.entry(*inode).or_default().waiting.push((entry.number, mark));
                }
            }
            Act::Sync { failed: true, inode, .. } => {
                // What it should have written never will be.
                if let Some(file) = files.get_mut(inode) {
                    file.waiting.clear();
                }
            }
            Act::Sync { inode, through, failed: false } => {
                let since = Durable::Since { ns: entry.end };
                if let Some(file) = files.get_mut(inode) {
                    let (synced, waiting) = std::mem::take(&mut file.waiting)
                        .into_iter()
                        .partition(|(number, _)| number <= through);
                    file.waiting = waiting;
                    let synced: Vec<(u64, Vec<u8>)> = synced;
                    for (_, mark) in synced {
                        match file.naming {
                            None => first(&mut found, mark, since),
                            Some(_) => {
                                first(&mut found, mark.clone(), Durable::Nameless);
                                file.nameless.push(mark);
                            }
                        }
                    }
                }
                // If it is a folder.
                let named = files.values_mut().filter(|file| {
                    file.naming.is_some_and(|(folder, number)| folder == *inode && number <= *through)
                });
                for file in named {
                    file.naming = None;
                    file.nameless.drain(..).for_each(|mark| first(&mut found, mark, since));
                }
            }
            Act::Write { at: None, .. }
            | Act::Length { .. }
            | Act::Allocate { .. }
            | Act::PowerLoss { .. }
            | Act::Cut => {}
        }
    }
    Ok(found)
}

/// The earliest that is known of a mark stays.
fn first(found: &mut HashMap<Vec<u8>, Durable>, mark: Vec<u8>, durable: Durable) {
    let known = found.entry(mark).or_insert(Durable::Never);
    if !matches!(known, Durable::Since { .. }) {
        *known = durable;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A disk with a folder 1, to which this was done, call by call; each takes 1 ns and a write is of one mark.
    fn found(calls: &[&str]) -> HashMap<Vec<u8>, Durable> {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        let mut lines = String::new();
        for (number, call) in (1_u64..).zip(calls) {
            let act = match call.strip_prefix("write ") {
                None => (*call).to_owned(),
                Some(inode) => {
                    let text = format!("before {} after", mark(0, number));
                    let (at, length) = (bytes.len(), text.len());
                    bytes.extend(text.into_bytes());
                    format!(r#""act":"write","inode":{inode},"offset":0,"length":{length},"at":{at}"#)
                }
            };
            lines += &format!("{{\"number\":{number},\"begin\":{},\"end\":{number},{act}}}\n", number - 1);
        }
        fs::write(folder.path().join("ledger.jsonl"), lines).unwrap();
        fs::write(folder.path().join("ledger.bytes"), bytes).unwrap();
        durable(&Ledger::read(folder.path()).unwrap()).unwrap()
    }

    const CREATE: &str = r#""act":"create","folder":1,"name":"log","inode":2,"new":"file""#;

    fn sync(inode: u64, through: u64) -> String {
        format!(r#""act":"sync","inode":{inode},"through":{through},"failed":false"#)
    }

    #[test]
    fn a_mark_is_durable_once_its_file_and_the_name_of_it_were_synced_after_it_was_written() {
        let since = |ns| Durable::Since { ns };
        for (calls, written, expected) in [
            (vec![CREATE, "write 2"], 2, Durable::Never),
            (vec![CREATE, "write 2", &sync(2, 2)], 2, Durable::Nameless),
            (vec![CREATE, "write 2", &sync(2, 2), &sync(1, 3)], 2, since(4)),
            (vec![CREATE, &sync(1, 1), "write 2", &sync(2, 3)], 3, since(4)),
            // Written while the sync was under way.
            (vec![CREATE, &sync(1, 1), "write 2", &sync(2, 2)], 3, Durable::Never),
            (
                vec![CREATE, &sync(1, 1), "write 2", &sync(2, 3).replace("false", "true"), &sync(2, 4)],
                3,
                Durable::Never,
            ),
            (
                vec![
                    CREATE,
                    &sync(1, 1),
                    r#""act":"rename","folder":1,"name":"log","to_folder":1,"to_name":"new""#,
                    "write 2",
                    &sync(2, 4),
                    &sync(1, 5),
                ],
                4,
                since(6),
            ),
        ] {
            assert_eq!(found(&calls).get(mark(0, written).as_bytes()), Some(&expected), "{calls:?}");
        }
    }
}
