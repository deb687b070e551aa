"""Load tools as a user runs them: `python -m bench SCENARIO`. They know the server by its wire and its command line."""
