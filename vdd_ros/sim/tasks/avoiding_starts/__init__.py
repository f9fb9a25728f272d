"""Avoiding from five starts in turn, where the benchmark has one."""
