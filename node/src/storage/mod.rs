//! Remembering.
