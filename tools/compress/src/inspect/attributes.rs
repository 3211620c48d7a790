//! Attributes of a node, with their defaults.

use kinglet_engine::onnx::{AttributeProto, NodeProto};

/// A node's attribute of this name.
#[must_use]
pub fn find<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

/// An integer attribute.
#[must_use]
pub fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    find(node, name).map_or(default, |a| a.i)
}

/// A list of integers, if it is there.
#[must_use]
pub fn ints<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [i64]> {
    find(node, name).map(|a| a.ints.as_slice())
}

/// A text, if it is there and UTF-8.
#[must_use]
pub fn text<'a>(node: &'a NodeProto, name: &str) -> Option<&'a str> {
    find(node, name).and_then(|a| std::str::from_utf8(&a.s).ok())
}
