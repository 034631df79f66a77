"""Measure how fast a configuration trains on this machine; see ``--help``."""

from detector.cli.benchmark import main

if __name__ == "__main__":  # loader processes import this file again
    raise SystemExit(main())
