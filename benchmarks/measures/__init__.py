"""One file per benchmark, each with its `BENCH`."""
