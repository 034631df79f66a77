"""Write training batches as training sees them, as pictures; see ``--help``."""

from detector.cli.show_batch import main

if __name__ == "__main__":
    raise SystemExit(main())
