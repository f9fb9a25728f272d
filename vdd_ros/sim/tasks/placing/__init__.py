"""Placing: pick a pan up by either handle, carry it past a post on either side, put it into one of three trays."""
