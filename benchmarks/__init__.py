"""What this package costs, beside what one would take instead: `python -m benchmarks`."""
