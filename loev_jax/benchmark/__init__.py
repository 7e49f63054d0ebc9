"""Benchmarks: every claim of performance, measured beside its peers in one run."""
