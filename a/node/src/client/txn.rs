//! Transactions as a person writes them: a few words for each comparison and operation.
//!
//! In: `value KEY VALUE`, `version KEY N`, `absent KEY` to compare; `get KEY`, `put KEY VALUE`,
//! `delete KEY [VERSION]`, `append KEY SUFFIX` to do. Out: the request, or what was expected instead. Whatever
//! follows a key is taken as it stands, with its blanks.

use mkraft_proto::v1::{Compare, TxnOp, TxnResult, command, compare, txn_op, txn_result};

use super::{bytes_of, shown};

pub fn parse_compare(text: &str) -> Result<Compare, String> {
    let (word, key, rest) = words(text)?;
    let is = match (word, rest) {
        ("absent", None) => compare::Is::Version(0),
        ("version", Some(version)) => compare::Is::Version(parse_version(version)?),
        ("value", Some(value)) => compare::Is::Value(bytes_of(value.into())),
        _ => return Err("expected `value KEY VALUE`, `version KEY N` or `absent KEY`".into()),
    };
    Ok(Compare { key: bytes_of(key.into()), is: Some(is) })
}

pub fn parse_op(text: &str) -> Result<TxnOp, String> {
    let (word, key, rest) = words(text)?;
    let key = bytes_of(key.into());
    let op = match (word, rest) {
        ("get", None) => txn_op::Op::Get(txn_op::Get { key }),
        ("put", Some(value)) => txn_op::Op::Put(command::Put { key, value: bytes_of(value.into()) }),
        ("delete", version) => {
            let version = version.map(parse_version).transpose()?;
            txn_op::Op::Delete(command::Delete { key, version })
        }
        ("append", Some(suffix)) => {
            txn_op::Op::Append(command::Append { key, suffix: bytes_of(suffix.into()) })
        }
        _ => {
            let expected =
                "expected `get KEY`, `put KEY VALUE`, `delete KEY [VERSION]` or `append KEY SUFFIX`";
            return Err(expected.into());
        }
    };
    Ok(TxnOp { op: Some(op) })
}

/// What an operation of a transaction came to, in the words of the command that does it alone.
pub fn result(TxnResult { result }: &TxnResult) -> String {
    match result {
        Some(txn_result::Result::Get(reply)) => shown(reply.value.as_deref()),
        Some(txn_result::Result::Put(_) | txn_result::Result::Append(_)) => "ok".into(),
        Some(txn_result::Result::Delete(reply)) => if reply.deleted { "ok" } else { "(none)" }.into(),
        None => "(not known to this client)".into(),
    }
}

/// The first word, the key, and what follows after one blank.
fn words(text: &str) -> Result<(&str, &str, Option<&str>), String> {
    let text = text.trim_start();
    let (word, rest) = text.split_once(' ').ok_or("expected a word and a key")?;
    Ok(match rest.split_once(' ') {
        Some((key, rest)) => (word, key, Some(rest)),
        None => (word, rest, None),
    })
}

fn parse_version(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a version: expected a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_is_a_word_a_key_and_what_follows_it() {
        let cases = [
            ("value a 1", Ok(compare::Is::Value("1".into()))),
            ("value a two words", Ok(compare::Is::Value("two words".into()))),
            ("value a ", Ok(compare::Is::Value("".into()))),
            ("version a 7", Ok(compare::Is::Version(7))),
            ("absent a", Ok(compare::Is::Version(0))),
            ("version a b", Err("\"b\" is not a version")),
            ("value a", Err("expected `value KEY VALUE`")),
            ("absent a 1", Err("expected `value KEY VALUE`")),
            ("newer a 1", Err("expected `value KEY VALUE`")),
            ("absent", Err("expected a word and a key")),
        ];
        for (text, want) in cases {
            match (parse_compare(text), want) {
                (Ok(compare), Ok(is)) => {
                    assert_eq!(compare, Compare { key: "a".into(), is: Some(is) }, "{text}");
                }
                (Err(error), Err(want)) => assert!(error.contains(want), "{text}: {error}"),
                (got, want) => panic!("{text}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn an_operation_is_a_word_a_key_and_what_follows_it() {
        let key = || "a".into();
        let cases = [
            ("get a", Some(txn_op::Op::Get(txn_op::Get { key: key() }))),
            ("put a x y", Some(txn_op::Op::Put(command::Put { key: key(), value: "x y".into() }))),
            ("delete a", Some(txn_op::Op::Delete(command::Delete { key: key(), version: None }))),
            ("delete a 3", Some(txn_op::Op::Delete(command::Delete { key: key(), version: Some(3) }))),
            ("append a x", Some(txn_op::Op::Append(command::Append { key: key(), suffix: "x".into() }))),
            ("get a b", None),
            ("put a", None),
            ("delete a b", None),
            ("cas a b", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_op(text).ok(), want.map(|op| TxnOp { op: Some(op) }), "{text}");
        }
    }
}
