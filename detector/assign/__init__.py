"""Which anchor learns which object: the assignment of a whole batch, with one result from several implementations."""

from detector.assign.assignment import Backend, assign_anchors

__all__ = ["Backend", "assign_anchors"]
