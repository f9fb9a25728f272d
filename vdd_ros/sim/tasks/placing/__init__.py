"""Placing: grasp a pan by either handle, carry it past a post on either side, place it in one of three trays."""
