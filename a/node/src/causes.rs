//! An error and what caused it, in one line.
//!
//! In: an error whose own words leave out those of its source. Out: all of them, from the outside in.

use std::error::Error;

pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
