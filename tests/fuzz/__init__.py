"""Input that nobody thought of, for everything that reads bytes or text from outside.

Few examples, always the same, by default; ``make fuzz`` (WHERRY_FUZZ=number of examples) looks on with new ones.
"""
