"""Every operation of the API that Wherry speaks, each a constant of its module named by its id; ``catalog`` has all of them.

Who needs one group imports its module alone: a client pays at import for what it uses.
"""
