"""Benchmarks: `python -m benchmarks.NAME`, in the environment of `make install`."""
