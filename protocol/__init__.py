"""The wire, version 1: what apps and server say to each other, and nothing else.

Pure: no module here imports the server, a database or a cache. `errors`, `lifecycle`, `frames`, `resources` are the
nouns; `codec` turns them into bytes and back; `session` is the sans-I/O half of a connection at either end; `client`
is the reference client for app developers; `asyncapi` writes the description of the socket.
"""
