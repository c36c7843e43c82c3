"""Becomes `cutbert VERB ...`, which is asked to save and end when its parent dies.

Called as `python -m cutbert.sweeps.child PARENT VERB ...`, PARENT the process id of the caller.
Only Linux tells a process of its parent's death. Elsewhere a run outlives a sweep that is killed without warning; the
next call of the sweep waits for it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>; holds across exec


def main() -> None:
    parent, words = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before it could be told of
            sys.exit(130)
    os.execv(sys.executable, [sys.executable, "-m", "cutbert", *words])


if __name__ == "__main__":
    main()
