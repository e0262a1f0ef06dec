//! What is wrong with a scenario file, told as a compiler would.
//!
//! In: places in the text, and words. Out: [`ScenarioError`]. Never: a decision about what is wrong.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A scenario that cannot be run, with every mistake in its file.
#[derive(Debug)]
pub enum ScenarioError {
    Read { path: PathBuf, source: io::Error },
    Invalid { file: String, text: String, problems: Vec<Problem> },
}

impl ScenarioError {
    /// The full text: for each mistake its line, its column, what was expected and what may have been meant.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        match self {
            ScenarioError::Read { path, source } => {
                let title = format!("failed to read {}: {source}", path.display());
                renderer.render(&[Group::with_title(Level::ERROR.primary_title(title))])
            }
            ScenarioError::Invalid { file, text, problems } => {
                let rendered: Vec<String> =
                    problems.iter().map(|problem| renderer.render(&[problem.group(file, text)])).collect();
                rendered.join("\n\n")
            }
        }
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ScenarioError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ScenarioError::Read { source, .. } => Some(source),
            ScenarioError::Invalid { .. } => None,
        }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    title: String,
    /// Bytes of the text.
    span: Range<usize>,
    /// Stands under the span: what was expected.
    label: String,
    /// Another place that has to do with it.
    also: Option<(Range<usize>, String)>,
    help: Option<String>,
}

impl Problem {
    /// Boxed, as it travels in the `Err` of every leaf.
    pub(super) fn at(span: Range<usize>, title: impl Into<String>) -> Box<Problem> {
        Box::new(Problem { title: title.into(), span, label: String::new(), also: None, help: None })
    }

    pub(super) fn label(mut self: Box<Self>, label: impl Into<String>) -> Box<Problem> {
        self.label = label.into();
        self
    }

    pub(super) fn also(
        mut self: Box<Self>,
        span: Option<Range<usize>>,
        label: impl Into<String>,
    ) -> Box<Problem> {
        self.also = span.map(|span| (span, label.into()));
        self
    }

    pub(super) fn help(mut self: Box<Self>, help: Option<String>) -> Box<Problem> {
        self.help = help;
        self
    }

    /// Where it stands, for sorting.
    pub(super) fn start(&self) -> usize {
        self.span.start
    }

    fn group<'a>(&'a self, file: &'a str, text: &'a str) -> Group<'a> {
        let primary = AnnotationKind::Primary.span(self.span.clone()).label(&self.label);
        let also =
            self.also.iter().map(|(span, label)| AnnotationKind::Context.span(span.clone()).label(label));
        let snippet = Snippet::source(text).path(file).annotation(primary).annotations(also);
        Level::ERROR
            .primary_title(&self.title)
            .element(snippet)
            .elements(self.help.iter().map(|help| Level::HELP.message(help)))
    }
}

/// The one of `known` that `word` was probably meant to be.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('_', "-");
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= (word.len().max(candidate.len()) / 3).max(1))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean `leader`?", when something is near enough.
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, known).map(|nearest| format!("did you mean `{nearest}`?"))
}

pub(super) fn quoted<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    words.into_iter().map(|word| format!("`{word}`")).collect()
}

/// "`a`, `b` or `c`"
pub(super) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut words = quoted(words);
    match words.pop() {
        None => "nothing".into(),
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} or {last}", words.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggestion_is_near_or_not_made() {
        let targets = ["leader", "follower", "all"];
        for (word, expected) in [
            ("leadr", Some("leader")),
            ("Leader", Some("leader")),
            ("folower", Some("follower")),
            ("al", Some("all")),
            ("everyone", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, targets), expected, "{word}");
        }
        assert_eq!(nearest("ok_min", ["ok-min"]), Some("ok-min"));
    }
}
