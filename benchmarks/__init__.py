"""`python -m benchmarks.run`: how fast, how small, how frugal; writes RESULTS.md and its picture."""
