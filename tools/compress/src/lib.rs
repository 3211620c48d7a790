//! Import, inspect, quantize and evaluate classifiers.
