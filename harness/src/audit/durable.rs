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

/// A file or a folder.
#[derive(Default)]
struct File {
    /// Where its newest name is, and the number of the call that made it until that is synced.
    folder: Option<Inode>,
    naming: Option<u64>,
    /// Written and not synced: the number of the call, and the mark.
    waiting: Vec<(u64, Vec<u8>)>,
    /// Synced, while the name of the file, or of a folder above it, is not.
    nameless: Vec<Vec<u8>>,
    /// Where the last write ended, and its last bytes: a mark may begin in it.
    end: u64,
    tail: Vec<u8>,
}

#[derive(Default)]
struct Tree {
    files: BTreeMap<Inode, File>,
    names: HashMap<(Inode, String), Inode>,
}

impl Tree {
    fn named(&mut self, (folder, name): (Inode, &str), inode: Inode, call: u64) {
        self.names.insert((folder, name.to_owned()), inode);
        let file = self.files.entry(inode).or_default();
        (file.folder, file.naming) = (Some(folder), Some(call));
    }

    /// Whether its name and those of all folders above it are synced.
    fn is_named(&self, inode: Inode) -> bool {
        let mut at = inode;
        // Deeper than any path.
        for _ in 0..=self.files.len() {
            match self.files.get(&at) {
                None => return true,
                Some(file) if file.naming.is_some() => return false,
                Some(File { folder: Some(folder), .. }) => at = *folder,
                Some(_) => return true,
            }
        }
        false
    }

    /// The marks that a write ends.
    fn written(&mut self, finder: &Finder, inode: Inode, offset: u64, bytes: &[u8]) -> Vec<Vec<u8>> {
        let file = self.files.entry(inode).or_default();
        let before = if file.end == offset { std::mem::take(&mut file.tail) } else { Vec::new() };
        let all = [&before[..], bytes].concat();
        let whole = PREFIX.len() + NUMBERS;
        let marks =
            finder.find_iter(&all).filter_map(|place| all.get(place..place + whole).map(<[u8]>::to_vec));
        let marks = marks.collect();
        file.end = offset + bytes.len() as u64;
        file.tail = all[all.len() - all.len().min(whole - 1)..].to_vec();
        marks
    }
}

/// Where each mark was durable first.
pub fn durable(ledger: &Ledger) -> Result<HashMap<Vec<u8>, Durable>, Damage> {
    let finder = Finder::new(PREFIX);
    let mut found: HashMap<Vec<u8>, Durable> = HashMap::new();
    let mut tree = Tree::default();
    for entry in &ledger.entries {
        match &entry.act {
            Act::Create { folder, name, inode, .. } | Act::Link { inode, folder, name } => {
                tree.named((*folder, name), *inode, entry.number);
            }
            Act::Rename { folder, name, to_folder, to_name } => {
                if let Some(inode) = tree.names.remove(&(*folder, name.clone())) {
                    tree.named((*to_folder, to_name), inode, entry.number);
                }
            }
            Act::Unlink { folder, name } | Act::RemoveFolder { folder, name } => {
                tree.names.remove(&(*folder, name.clone()));
            }
            Act::Write { inode, offset, length, at: at @ Some(_) } => {
                let bytes = ledger.bytes(*at, *length)?;
                for mark in tree.written(&finder, *inode, *offset, &bytes) {
                    found.entry(mark.clone()).or_insert(Durable::Never);
                    tree.files.entry(*inode).or_default().waiting.push((entry.number, mark));
                }
            }
            Act::Sync { failed: true, inode, .. } => {
                // What it should have written never will be.
                if let Some(file) = tree.files.get_mut(inode) {
                    file.waiting.clear();
                }
            }
            Act::Sync { inode, through, failed: false } => {
                let since = Durable::Since { ns: entry.end };
                if let Some(file) = tree.files.get_mut(inode) {
                    let synced = file.waiting.extract_if(.., |(number, _)| *number <= *through);
                    let synced: Vec<Vec<u8>> = synced.map(|(_, mark)| mark).collect();
                    synced.iter().for_each(|mark| first(&mut found, mark.clone(), Durable::Nameless));
                    file.nameless.extend(synced);
                }
                // If it is a folder.
                for file in tree.files.values_mut().filter(|file| file.folder == Some(*inode)) {
                    file.naming = file.naming.filter(|number| number > through);
                }
                let whole: Vec<Inode> = tree
                    .files
                    .iter()
                    .filter(|(inode, file)| !file.nameless.is_empty() && tree.is_named(**inode))
                    .map(|(inode, _)| *inode)
                    .collect();
                for inode in whole {
                    let marks = tree.files.get_mut(&inode).map(|file| std::mem::take(&mut file.nameless));
                    marks.into_iter().flatten().for_each(|mark| first(&mut found, mark, since));
                }
            }
            Act::Write { at: None, .. }
            | Act::Length { .. }
            | Act::Allocate { .. }
            | Act::PowerLoss { .. }
            | Act::Cut
            | Act::End => {}
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
            // In a folder whose own name is not synced.
            (
                vec![
                    &CREATE
                        .replace("log", "sub")
                        .replace("file", "folder")
                        .replace("\"inode\":2", "\"inode\":3"),
                    &CREATE.replace("\"folder\":1", "\"folder\":3"),
                    "write 2",
                    &sync(2, 3),
                    &sync(3, 4),
                ],
                3,
                Durable::Nameless,
            ),
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
