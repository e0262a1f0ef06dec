//! What may be asked of the objects of a foreign history, and what the values of each function look like.
//!
//! In: a value as it was written. Out: the value in the words of our own histories, or what was expected. Never: a value
//! that a judge would have to doubt.

use serde_json::Value;

/// One function of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    pub name: &'static str,
    /// The value of its invocation.
    pub asks: Shape,
    /// The value of its success.
    pub answers: Shape,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// It is not looked at.
    Ignored,
    Anything,
    /// Not null.
    Something,
    /// What a compare-and-swap expects, and what it puts there.
    Pair,
    WholeNumber,
    List,
    /// Micro-operations of a transaction: `[:append key value]`, `[:r key nil]`.
    Transaction,
    /// `{:from account, :to account, :amount number}`
    Transfer,
    /// Accounts and whole numbers.
    Balances,
}

impl Function {
    pub const fn new(name: &'static str, asks: Shape, answers: Shape) -> Function {
        Function { name, asks, answers }
    }
}

impl Shape {
    /// The value without what only EDN has (keywords are names), or what was expected.
    pub fn take(self, value: Value) -> Result<Value, &'static str> {
        let (is_fine, value) = match self {
            Shape::Ignored | Shape::Anything => (true, value),
            Shape::Something => (!value.is_null(), value),
            Shape::Pair => (value.as_array().is_some_and(|pair| pair.len() == 2), value),
            Shape::WholeNumber => (value.is_i64(), value),
            Shape::List => (value.is_array(), value),
            Shape::Transaction => return transaction(value).ok_or(self.expected()),
            Shape::Transfer => {
                let value = with_plain_accounts(with_plain_names(value));
                let is_name = |field| matches!(value.get(field), Some(Value::String(_) | Value::Number(_)));
                let amount = value.get("amount").is_some_and(Value::is_i64);
                (is_name("from") && is_name("to") && amount, value)
            }
            Shape::Balances => {
                let value = with_plain_names(value);
                let balances = value.as_object().map(|balances| balances.values().all(Value::is_i64));
                (balances.unwrap_or(false), value)
            }
        };
        if is_fine { Ok(value) } else { Err(self.expected()) }
    }

    fn expected(self) -> &'static str {
        match self {
            Shape::Ignored | Shape::Anything => "a value",
            Shape::Something => "a value that is not nil",
            Shape::Pair => "[expected new]",
            Shape::WholeNumber => "a whole number of 64 bits",
            Shape::List => "a list of elements",
            Shape::Transaction => {
                "a list of [:append key value] and [:r key nil], or [:r key [value ...]] when it is ok"
            }
            Shape::Transfer => "{:from account, :to account, :amount number}",
            Shape::Balances => "a map of accounts and whole numbers",
        }
    }
}

fn transaction(value: Value) -> Option<Value> {
    let Value::Array(steps) = value else { return None };
    let step = |step: Value| {
        let Value::Array(mut parts) = step else { return None };
        // The list that a read is to fill in may be left out.
        if parts.len() == 2 {
            parts.push(Value::Null);
        }
        let [f, _, value] = &mut parts[..] else { return None };
        let name = f.as_str()?.trim_start_matches(':').to_owned();
        let is_fine = match &*name {
            "append" => !value.is_null(),
            "r" => value.is_null() || value.is_array(),
            _ => false,
        };
        *f = name.into();
        is_fine.then_some(Value::Array(parts))
    };
    steps.into_iter().map(step).collect::<Option<Vec<Value>>>().map(Value::Array)
}

/// The names of a map without the colons of keywords.
fn with_plain_names(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let plain =
                fields.into_iter().map(|(name, value)| (name.trim_start_matches(':').to_owned(), value));
            Value::Object(plain.collect())
        }
        value => value,
    }
}

/// The accounts of a transfer without the colons of keywords, as the balances have them.
fn with_plain_accounts(mut value: Value) -> Value {
    for field in ["from", "to"] {
        if let Some(Value::String(account)) = value.get_mut(field) {
            *account = account.trim_start_matches(':').to_owned();
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_taken_or_refused_by_their_shape() {
        let same = |value: Value| (value.clone(), Some(value));
        let cases: [(Shape, (Value, Option<Value>)); 27] = [
            (Shape::Anything, same(json!(null))),
            (Shape::Something, same(json!(false))),
            (Shape::Something, (json!(null), None)),
            (Shape::Pair, same(json!([null, 1]))),
            (Shape::Pair, (json!([1]), None)),
            (Shape::WholeNumber, same(json!(-3))),
            (Shape::WholeNumber, (json!(1.5), None)),
            (Shape::WholeNumber, (json!(u64::MAX), None)),
            (Shape::List, same(json!([]))),
            (Shape::List, (json!(null), None)),
            (
                Shape::Transaction,
                (
                    json!([[":append", 1, 2], [":r", 1, null]]),
                    Some(json!([["append", 1, 2], ["r", 1, null]])),
                ),
            ),
            (Shape::Transaction, same(json!([["r", "x", [1, 2]]]))),
            (Shape::Transaction, same(json!([]))),
            (Shape::Transaction, (json!([["w", 1, 2]]), None)),
            (Shape::Transaction, (json!([["r", 1]]), Some(json!([["r", 1, null]])))),
            (Shape::Transaction, (json!([["append", 1]]), None)),
            (Shape::Transaction, (json!([["append", 1, 2, 3]]), None)),
            (Shape::Transaction, (json!(["append", 1, 2]), None)),
            (Shape::Transaction, (json!([["r", 1, 2]]), None)),
            (Shape::Transaction, (json!(null), None)),
            (
                Shape::Transfer,
                (json!({":from": 0, ":to": 1, ":amount": 5}), Some(json!({"from": 0, "to": 1, "amount": 5}))),
            ),
            (
                Shape::Transfer,
                (
                    json!({":from": ":a", ":to": "b", ":amount": 5}),
                    Some(json!({"from": "a", "to": "b", "amount": 5})),
                ),
            ),
            (Shape::Transfer, (json!({"from": 0, "to": 1}), None)),
            (Shape::Transfer, (json!({"from": [0], "to": 1, "amount": 5}), None)),
            (Shape::Transfer, (json!({"from": 0, "to": 1, "amount": 1.5}), None)),
            (Shape::Balances, (json!({"0": 10, ":b": -2}), Some(json!({"0": 10, "b": -2})))),
            (Shape::Balances, (json!({"0": "ten"}), None)),
        ];
        for (shape, (value, expected)) in cases {
            assert_eq!(shape.take(value.clone()).ok(), expected, "{shape:?} of {value}");
        }
    }
}
