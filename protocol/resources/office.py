"""HTTP bodies of administration. The rules of `protocol.resources` hold here."""
