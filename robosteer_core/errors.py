"""The one exception that stands for bad input."""


class UserError(Exception):
    """Input that cannot be used: the message says what was expected, what was found and what to do.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """
