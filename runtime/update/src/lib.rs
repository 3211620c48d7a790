//! Signed releases on a device: slots, trials, and the way back.
