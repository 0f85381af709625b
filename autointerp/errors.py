"""What can go wrong that is the user's to mend: a tree, by which callers tell the cases apart."""

from autointerp.secrets import masked


class AutointerpError(Exception):
    """Something the user can mend: one line that says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2. A secret that the line
    quotes is masked.
    """

    def __init__(self, line: object = "") -> None:
        super().__init__(masked(str(line)))


class ConfigurationError(AutointerpError):
    """A setting is wrong or missing, or settings do not go together."""


class MissingPackageError(ConfigurationError):
    """What was asked for needs a package that is not installed."""


class InputError(AutointerpError):
    """Something that was given, such as an SAE, a model, a text, a cache, a template or a table,
    is not there, cannot be read, or does not fit the rest."""


class DamagedFileError(InputError):
    """A file that is there and cannot be read. `reason` is what reading it came upon."""

    def __init__(self, line: object = "", reason: str = "") -> None:
        super().__init__(line)
        self.reason = reason


class NotDoneError(AutointerpError):
    """What was asked for comes of a stage that is still to be run."""


class RunInUseError(AutointerpError):
    """Another process is working on the run."""


class OutputError(AutointerpError):
    """A file cannot be written: the disk is full or read-only, or it is not ours to write."""


class EndpointError(AutointerpError):
    """The labeling model cannot be asked, or asking it on is pointless. What came is kept."""


class EndpointRejectedError(EndpointError):
    """The endpoint answers, and rejects the key, the account, the model or all requests."""


class EndpointUnreachableError(EndpointError):
    """The endpoint does not answer, or has been down for too long."""


class UnreadableRepliesError(EndpointError):
    """The endpoint answers, but nothing can be made of its replies."""


class OutOfBudgetError(EndpointError):
    """The budget is used up before everything was asked. A larger one goes on from there."""
