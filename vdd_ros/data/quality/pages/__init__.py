"""Quality reports of recordings, for the terminal and the browser."""
