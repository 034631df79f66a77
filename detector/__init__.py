"""A RetinaNet training framework: functions for maths, small modules for parameters, one visible loop."""

__version__ = "0.1.0"
