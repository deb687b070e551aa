"""Matching on a virtual clock: the server's own policies over recorded trips, and what came of it.

`city` is who asks for a cab and where cabs come from, `behaviour` how drivers answer, `engine` the world and its clock, `measures` what
is counted, `record` the log of decisions and its replay, `evidence` all policies over all days, `page` what is printed of it.
"""
