"""Placing with a pan and trays whose positions change in every episode and are visible only to two cameras."""
