"""How a command ends early: one clear line and an exit code, never a traceback."""


class CommandRefused(Exception):
    """The command cannot go on. `lines` go to standard error; `code` is the exit status.

    Code 2 means that what was given is wrong; 1 that something else is.
    """

    def __init__(self, *lines: str, code: int = 1) -> None:
        super().__init__(lines[0])
        self.lines = lines
        self.code = code
