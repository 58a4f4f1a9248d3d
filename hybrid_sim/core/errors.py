"""Everything that can go wrong, as one small tree.

::

    HybridSimError            1
    ├── InputError            2   bad input or settings
    │   ├── DataError             a row of a file or table: names file, row, column, value and cure
    │   ├── ScaleError            a rating that is not on the rating scale
    │   ├── SettingsError         an option, a folder or a file that cannot be used
    │   │   └── NotFittedError        a simulator that has not learned yet
    │   ├── ModelFileError        a saved simulator that is damaged or of another format
    │   ├── RunError              a run folder that is in use, of other settings, or lacks an answer
    │   └── ReplyError            a language model's reply that is not what was asked for
    │       └── CopiedReplyError  one that only copies the example of its prompt
    ├── NetworkError          3   an endpoint or download that is unreachable or refused
    ├── BudgetError           4   a budget or a quota that is used up
    └── StorageError          5   a disk that is full or not writable

The number is the exit status of the command line.
"""

from __future__ import annotations


class HybridSimError(Exception):
    """The root: catch this to catch everything the library raises on purpose."""

    exit_code = 1


class InputError(HybridSimError):
    """The caller's data or settings cannot be used as they are."""

    exit_code = 2


class DataError(InputError):
    """A row of a file or table is refused."""


class ScaleError(InputError):
    """A rating is not on the rating scale."""


class SettingsError(InputError):
    """An option, a folder or a file named by the caller cannot be used."""


class NotFittedError(SettingsError, AttributeError):
    """A simulator is asked before it was fitted; an AttributeError too, so that `hasattr` tells fitted ones."""


class ModelFileError(InputError):
    """A saved simulator is damaged, incomplete or of another format."""


class RunError(InputError):
    """A run folder is in use, was started with other settings, or lacks an answer that a replay needs."""


class ReplyError(InputError):
    """A language model's reply is not what was asked for; it never becomes a rating."""


class CopiedReplyError(ReplyError):
    """A reply has the right form, but only copies the example of its prompt."""


class NetworkError(HybridSimError):
    """An endpoint or a download is unreachable or refused."""

    exit_code = 3


class BudgetError(HybridSimError):
    """A budget or a quota is used up."""

    exit_code = 4


class StorageError(HybridSimError):
    """The disk is full or not writable."""

    exit_code = 5
