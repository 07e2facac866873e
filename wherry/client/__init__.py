"""The calling end: a client of any engine that speaks the Docker Engine API.

``_async`` is the source of both colours, ``_sync`` is made from it (scripts/generate_sync.py); each has its own
``io``, which alone touches sockets. What stands beside them is shared and does no I/O, except ``dial``.

    connect ── client ── groups (containers, exec, images …) ── transport ── io
                                        │                          │
                             streams, channel, run        request, negotiate, tls
"""
