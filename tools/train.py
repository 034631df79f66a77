"""Train a detector as a configuration says; see ``--help``."""

from detector.cli.train import main

if __name__ == "__main__":  # loader processes import this file again
    raise SystemExit(main())
