"""What can be wrong with a city's files. Raised at start only; nobody on the wire ever sees it."""


class MarketConfigError(ValueError):
    """A market cannot be loaded. The message is for the person who edits the file: where, what, what is allowed."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem
