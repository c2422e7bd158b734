//! Nothing but a place for the tests of the Rust host; see `tests/story.rs`.
