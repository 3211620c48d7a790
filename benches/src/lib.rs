//! What a core can do at most, and what was measured on it: shared by `kinglet-benches` and the
//! criterion groups.

pub mod machine;
pub mod measure;
