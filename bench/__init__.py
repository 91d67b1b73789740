"""The benchmark: what an answer costs, measured from outside, beside the bare models. `make bench` runs it."""
