"""HTTP bodies of accounts. The rules of `protocol.resources` hold here."""
