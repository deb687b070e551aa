"""HTTP bodies of documents and vehicles. The rules of `protocol.resources` hold here."""
