"""The one exception that is the user's to mend."""

from autointerp.secrets import masked


class UserError(Exception):
    """Something the user can mend: one line that says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2. A secret that the line
    quotes is masked.
    """

    def __init__(self, line: object = "") -> None:
        super().__init__(masked(str(line)))
