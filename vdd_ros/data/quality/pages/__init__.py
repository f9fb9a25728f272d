"""Recordings as people look at them: a report in the terminal and one in the browser."""
