"""The one exception class for mistakes that a user can mend."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in the input (a file, a key, a value), told in one line that names it and the fix.

    The command-line programs and the bundles print the message alone, without a traceback, and exit with status 1.
    """
