#!/usr/bin/env bash
# Prints the path of a Python 3.8: PYTHON38, one on PATH, or pyenv's. Fails when there is none.
set -uo pipefail
for candidate in "${PYTHON38:-}" "$(command -v python3.8 2>/dev/null)" \
  "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.8.*/bin/python; do
  if [ -x "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 8))' 2>/dev/null; then
    echo "$candidate"
    exit 0
  fi
done
exit 1
