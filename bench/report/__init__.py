"""`python -m bench report [FOLDER]`: one page and plots out of the JSON that scenarios have left in a folder.

The page stands alone: its pictures are inside, it names no other address and opens from a disk. `results` reads, `plots` draws, `page`
writes, `command` puts it together.
"""

from bench.report.command import main, write
from bench.report.results import Unreadable

__all__ = ["Unreadable", "main", "write"]
