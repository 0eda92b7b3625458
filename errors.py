"""The one exception that means "the user can mend this"."""


class InputError(ValueError):
    """Bad input from outside: a flag, a path, a file, an array.

    The message is one sentence: what was expected, the allowed set where there is one, then
    ``Received: name=value``. `flags.run` prints it on standard error without a traceback and exits
    with code 1; library users catch it as a `ValueError`.
    """
