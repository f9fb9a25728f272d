"""Avoiding with posts whose positions change in every episode and are visible only to a camera."""
