"""Following people through a video: stable ids, gaps filled, coordinates smoothed (numpy only)."""

from calipose.track.assignment import assign
from calipose.track.gaps import fill_gaps
from calipose.track.smoothing import OneEuro
from calipose.track.tracker import Tracker

__all__ = ["OneEuro", "Tracker", "assign", "fill_gaps"]
