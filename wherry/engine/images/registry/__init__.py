"""Registries: images come from them (pull) and go to them (push), by the OCI distribution protocol.

``hosts`` knows which addresses a name stands for and how far each is trusted, ``transport`` moves bytes, ``auth`` knows
credentials and tokens, ``repository`` is one repository of one registry, ``manifest`` reads what it says of an image.
``pull``, ``push``, ``inspect``, ``login`` and ``search`` are the verbs.
"""
