"""Find what is wrong with a dataset before a detector learns it; see ``--help``."""

from detector.cli.check_dataset import main

if __name__ == "__main__":
    raise SystemExit(main())
