"""Avoiding from five start positions in turn; the benchmark has only one."""
