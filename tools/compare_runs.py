"""Say from which step on two runs differ, and in what; see ``--help``."""

from detector.cli.compare_runs import main

if __name__ == "__main__":  # loader processes import this file again
    raise SystemExit(main())
