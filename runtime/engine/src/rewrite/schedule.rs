//! An order of the items in which steps stand together: few regions, each convex.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::Item;

/// Reorders items (already in a valid order) into few runs of steps and few runs of nodes.
///
/// Kahn's algorithm with two queues: as long as something of the current kind is ready it goes
/// on with that kind, earliest first.
pub(super) fn group(items: Vec<Item>) -> Vec<Item> {
    let mut producer: HashMap<&str, usize> = HashMap::new();
    let mut missing = vec![0_usize; items.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); items.len()];
    for (at, item) in items.iter().enumerate() {
        for name in item.inputs() {
            if let Some(&from) = producer.get(name.as_str()) {
                missing[at] += 1;
                readers[from].push(at);
            }
        }
        for name in item.outputs() {
            producer.insert(name, at);
        }
    }
    let kind = |at: usize| usize::from(matches!(items[at], Item::Step(_)));
    let mut ready = [BinaryHeap::new(), BinaryHeap::new()];
    for at in (0..items.len()).filter(|&at| missing[at] == 0) {
        ready[kind(at)].push(Reverse(at));
    }
    let mut order = Vec::with_capacity(items.len());
    let mut current = 0;
    loop {
        let Some(Reverse(at)) = ready[current].pop() else {
            if ready[1 - current].is_empty() {
                break;
            }
            current = 1 - current;
            continue;
        };
        order.push(at);
        for &reader in &readers[at] {
            missing[reader] -= 1;
            if missing[reader] == 0 {
                ready[kind(reader)].push(Reverse(reader));
            }
        }
    }
    let mut items: Vec<Option<Item>> = items.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| items[at].take()).collect()
}
