"""Programs that measure: `python -m benchmarks.NAME`, in the environment that `make install` sets up."""
