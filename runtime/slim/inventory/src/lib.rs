//! The part of the crate `inventory` that tract and burn use, in its stead: a type is [`collect!`]ed, values of it
//! are [`submit!`]ted anywhere in a program, and `iter::<T>` yields them all.
//!
//! What is submitted is linked, whether or not anybody asks for it. tract submits model transforms that are
//! looked up by name, which Kinglet never does, and one of them brings a whole second model format along (NNEF,
//! with its parser, its writers and their operators): half a megabyte on a board. So transforms are dropped
//! here, and everything else is kept.
//!
//! A value is a node of its type's list. Functions whose addresses lie in `.init_array` put the nodes there
//! before `main`: for systems with ELF.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

pub use named::*;

/// A type whose values are collected: [`collect!`] implements it.
pub trait Collect: Sync + Sized + 'static {
    /// The type's list.
    fn list() -> &'static List;
}

/// A value of any such type.
pub trait Collected: Sync {
    /// Its type's list.
    fn list(&self) -> &'static List;
}

impl<T: Collect> Collected for T {
    fn list(&self) -> &'static List {
        T::list()
    }
}

/// The values of a type.
#[derive(Debug, Default)]
pub struct List(AtomicPtr<Node>);

impl List {
    /// Without values.
    pub const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }
}

/// A value and the one that was submitted before it.
pub struct Node {
    /// The value. In an expression of a static what it refers to is one too.
    #[doc(hidden)]
    pub value: &'static dyn Collected,
    /// Where the node stands.
    #[doc(hidden)]
    pub next: Next,
}

/// The node before, at first none.
#[derive(Default)]
pub struct Next(Cell<Option<&'static Node>>);

impl Next {
    /// None.
    pub const fn new() -> Self {
        Self(Cell::new(None))
    }
}

// SAFETY: `next` is written before others see the node, and never again.
unsafe impl Sync for Node {}

impl Node {
    /// Puts the node first in its type's list.
    ///
    /// # Safety
    /// Once for each node.
    pub unsafe fn submit(&'static self) {
        let List(first) = self.value.list();
        let mut next = first.load(Ordering::Acquire);
        loop {
            // SAFETY: null, or a node, which is a static.
            self.next.0.set(unsafe { next.as_ref() });
            let this = ptr::from_ref(self).cast_mut();
            match first.compare_exchange(next, this, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return,
                Err(other) => next = other,
            }
        }
    }
}

mod named {
    use super::*;

    /// All values of a type: `iter::<T>()`, or `iter::<T>` itself in a loop.
    #[allow(non_camel_case_types)]
    pub enum iter<T> {
        /// The value that `iter::<T>` is.
        iter,
        /// No value: it uses `T`.
        Never(std::convert::Infallible, PhantomData<T>),
    }

    // The variant is a value that has the type's name; the type itself wins over it as a type.
    mod value {
        pub use super::iter::iter;
    }
    pub use value::*;
}

/// The values of a type, the last submitted first.
#[derive(Debug)]
pub struct Iter<T: 'static>(Option<&'static Node>, PhantomData<T>);

impl<T> Clone for Iter<T> {
    fn clone(&self) -> Self {
        Self(self.0, PhantomData)
    }
}

fn all<T: Collect>() -> Iter<T> {
    // SAFETY: null, or a node, which is a static.
    Iter(unsafe { T::list().0.load(Ordering::Acquire).as_ref() }, PhantomData)
}

impl<T: Collect> IntoIterator for iter<T> {
    type Item = &'static T;
    type IntoIter = Iter<T>;

    fn into_iter(self) -> Iter<T> {
        all()
    }
}

impl<T: Collect> std::ops::Deref for iter<T> {
    type Target = fn() -> Iter<T>;

    fn deref(&self) -> &Self::Target {
        &(all as fn() -> Iter<T>)
    }
}

impl<T> Iterator for Iter<T> {
    type Item = &'static T;

    fn next(&mut self) -> Option<&'static T> {
        let node = self.0?;
        self.0 = node.next.0.get();
        // SAFETY: only a `T` gives the list of `T` as its own, and nodes are put into no other.
        Some(unsafe { &*ptr::from_ref(node.value).cast::<T>() })
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Node")
    }
}

/// Makes a type one whose values are collected.
#[macro_export]
macro_rules! collect {
    ($type:ty) => {
        impl $crate::Collect for $type {
            fn list() -> &'static $crate::List {
                static LIST: $crate::List = $crate::List::new();
                &LIST
            }
        }
    };
}

/// Adds a value of a type that was [`collect!`]ed, unless it is a transform of tract's.
#[macro_export]
macro_rules! submit {
    (ModelTransformFactory $($rest:tt)*) => {};
    ($tract:tt::transform::ModelTransformFactory $($rest:tt)*) => {};
    ($($value:tt)*) => {
        const _: () = {
            static NODE: $crate::Node =
                $crate::Node { value: &{ $($value)* }, next: $crate::Next::new() };

            extern "C" fn submit() {
                // SAFETY: `.init_array` names it once.
                unsafe { NODE.submit() }
            }

            // SAFETY: a function without arguments, as that section has them.
            #[used]
            #[unsafe(link_section = ".init_array")]
            static SUBMIT: extern "C" fn() = submit;
        };
    };
}

#[cfg(test)]
mod tests {
    struct Kept(u32);
    crate::collect!(Kept);
    crate::submit! { Kept(1) }
    crate::submit! { Kept(2) }

    mod transform {
        pub(crate) struct ModelTransformFactory;
        crate::collect!(ModelTransformFactory);
    }
    use transform::ModelTransformFactory;
    crate::submit! { ModelTransformFactory {} }
    crate::submit! { self::transform::ModelTransformFactory {} }

    #[test]
    fn transforms_are_dropped_and_nothing_else() {
        let mut kept: Vec<u32> = crate::iter::<Kept>().map(|kept| kept.0).collect();
        kept.sort_unstable();
        assert_eq!(kept, [1, 2]);
        assert_eq!(crate::iter::<ModelTransformFactory>().count(), 0);
        assert_eq!(crate::iter::<Kept>.into_iter().count(), 2);
        let _ = ModelTransformFactory;
    }
}
