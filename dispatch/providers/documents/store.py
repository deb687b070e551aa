"""Rows of documents."""

from pathlib import Path

from dispatch.kit.sql import Queries

Q = Queries(Path(__file__).with_name("queries.sql"))
