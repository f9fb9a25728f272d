"""Avoiding, the first task of the D3IL benchmark: move a rod past three rows of posts."""
