"""The one exception that an entry point turns into a single clear line."""


class UserError(Exception):
    """Something the user can put right: a bad config value, bad data, a missing file or model, a full disk.

    The message says what is wrong, where, and what to do.
    """
