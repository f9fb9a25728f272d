"""Avoiding, the first task of the D3IL benchmark: carry a rod past three rows of posts."""
