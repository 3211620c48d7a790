//! Cards for boards: images that boot into classification, and writing them.
