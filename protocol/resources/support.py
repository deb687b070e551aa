"""HTTP bodies of support. The rules of `protocol.resources` hold here."""
