//! What a board is and how it is doing.
