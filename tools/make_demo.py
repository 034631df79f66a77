"""Generate the demo data set; see ``--help``."""

from detector.cli.make_demo import main

if __name__ == "__main__":
    raise SystemExit(main())
