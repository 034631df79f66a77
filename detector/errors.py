"""The one error that is the user's to mend."""


class UserError(Exception):
    """The user's input is wrong: a configuration, annotation file, image or checkpoint.

    The message is one or a few plain lines that name the file, the key or image id, what was found and what was
    expected. The command line prints it without a traceback and exits with 2.
    """
