"""Starts `cutbert VERB ...` as a process that gets SIGTERM, and so saves and ends, when its parent dies.

Called as `python -m cutbert.sweeps.child PARENT VERB ...`, PARENT the process id of the caller.
Only Linux signals a parent's death. On other systems a run outlives a sweep that is killed; the next call of the sweep
waits for it.
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
        if os.getppid() != parent:  # the parent died before prctl was called
            sys.exit(130)
    os.execv(sys.executable, [sys.executable, "-m", "cutbert", *words])


if __name__ == "__main__":
    main()
