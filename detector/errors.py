"""What the command line knows how to report: the user's errors, a stop on request, a run or a machine that failed."""


class UserError(Exception):
    """The user's input is wrong: a configuration, annotation file, image or checkpoint.

    The message is one or a few plain lines that name the file, the key or image id, what was found and what was
    expected. The command line prints it without a traceback and exits with 2.
    """


class StoppedEarly(Exception):  # noqa: N818 (it is no error)
    """A run was stopped on request, by a signal or a time limit, with everything saved.

    The message says where it stands and how to continue. The command line prints it and exits with 75.
    """


class DivergedError(Exception):
    """Training has gone wrong beyond repair: too many non-finite steps in a row.

    The weights are those before the first of them, and the checkpoints are intact. The command line prints the message
    and exits with 1.
    """


class ResourceError(Exception):
    """The machine has failed the run, or is too small for it: no memory left, a loader process that is killed again.

    The message says what happened and what to change; checkpoints are intact. The command line prints it and exits
    with 1.
    """
