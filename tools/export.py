"""Write the weights of a checkpoint for other programs; see ``--help``."""

from detector.cli.export import main

if __name__ == "__main__":  # loader processes import this file again
    raise SystemExit(main())
