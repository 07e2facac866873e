"""A credential helper for docker's configuration that works."""

from __future__ import annotations

HELPER = r"""#!/bin/sh
read -r sent
server=$(printf %s "$sent" | sed 's/.*"ServerURL": "\([^"]*\)".*/\1/' | tr / _)
case "$1:$server" in
  *:locked.example) echo 'the keychain is locked'; exit 1 ;;
  store:*) printf %s "$sent" > "$HELD/$server" ;;
  get:*) cat "$HELD/$server" 2>/dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
  erase:*) rm "$HELD/$server" 2>/dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
esac
"""
"""Keeps what it is given in files of the directory ``$HELD``, each named after its registry."""
