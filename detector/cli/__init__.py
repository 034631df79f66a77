"""The commands: one file each, with ``add_arguments``, ``run`` and ``main``.

``detector NAME ...`` (:mod:`detector.cli.main`) and the script ``tools/NAME.py`` call the same functions. Errors become
exit codes in :mod:`detector.cli.errors` alone.
"""
