"""HTTP bodies of notifications. The rules of `protocol.resources` hold here."""
