"""Causal resampling: what was known at a tick, never what came after it."""

from __future__ import annotations

import numpy as np


def latest(stamps: np.ndarray, ticks: np.ndarray, *, inclusive: bool) -> np.ndarray:
    """Return, for every tick, the index of the newest message that was there by then; -1 where there was none.

    Parameters
    ----------
    stamps
        Shape (message,), ascending [ns].
    ticks
        Shape (tick,) [ns].
    inclusive
        Whether a message stamped exactly at the tick counts: yes for what is measured, which is known at its stamp;
        no for commands, since the command stamped at a tick is the answer to that tick.

    """
    return np.searchsorted(stamps, ticks, side='right' if inclusive else 'left') - 1
