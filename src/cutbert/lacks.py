"""What the machine lacks as a command runs (room, rights, file handles, memory), as one line: what, where, what to do.

Libraries report the same lack as OSError, MemoryError, RuntimeError or an error of their own, which may hold the
system's error number only in its text. All of them are read here, and nowhere else.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from cutbert.errors import CutbertError, InputError, MissingError, ModelError
from cutbert.printable import reason_of

ASIDE = ".cutbert.part"  # ends the name of the folder in which something is written aside
SOME_FILES = 32
EXCERPT = 100  # characters shown of a text
ROOM = "free some, or write elsewhere, then give the same command again"
RIGHTS = "this user may not do that; change its rights, or those of its folder"
# What each of the system's errors means to the user, and what to do. The first group is what the machine lacks.
LACKS = {
    errno.ENOSPC: f"no space left on its disk: {ROOM}",
    errno.EDQUOT: f"the disk quota of this user is used up: {ROOM}",
    errno.EFBIG: "larger than a file may be here: raise the limit (ulimit -f), or write to another file system",
    errno.EMFILE: "too many open files for one process: raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine: close other programs",
    errno.ENOMEM: "out of memory: try a smaller --batch-size or --max-length, or a machine with more memory",
    errno.EAGAIN: "no further process or thread may be started: raise the limit (ulimit -u)",
    errno.EIO: "its disk cannot be read or written (input/output error): check the disk",
    errno.EROFS: "its file system is read-only: write elsewhere",
    errno.EACCES: f"permission denied: {RIGHTS}",
    errno.EPERM: f"operation not permitted: {RIGHTS}",
    errno.ECONNRESET: "another process of this launch is gone: see its error, then give the same command again",
    errno.ESTALE: "its network file system lost it (stale file handle): mount it again",
}
MISTAKES = {
    errno.ENOTDIR: "a part of its path is no folder",
    errno.EISDIR: "must be a file, got a folder",
    errno.EEXIST: "a file is in its place",
    errno.ENAMETOOLONG: "its name is too long for this file system",
    errno.ELOOP: "its symbolic links go round in a circle",
    errno.ENOTEMPTY: "must be an empty folder",
}
NO_FOLDERS = "its file system takes no new files: write elsewhere"
NO_PLACE = "the working folder is gone: change to one that is there"
# How libraries write the system's error number: Rust's and Python's, Arrow's and C's.
HAS_NUMBER = re.compile(r"\(os error (\d+)\)|\[[Ee]rrno (\d+)\]|[Ee]rror code:? (\d+) \(|error number (\d+)")
# What they say where they give no number. Sources: torch's allocators (c10/core/CPUAllocator.cpp,
# c10/cuda/CUDACachingAllocator.cpp), Python's C modules (error return ...), oneDNN (could not create a primitive), C++
# (bad_alloc), Arrow's memory pool, ONNX Runtime's arena, the loader of shared libraries, numpy's tofile, threads.
SAYS = {
    re.compile(
        r"error return without exception set|DefaultCPUAllocator|out of memory|CUDA_ERROR_OUT_OF_MEMORY|"
        r"STATUS_ALLOC_FAILED|could not create a (primitive|memory)|"
        r"bad[_ ]alloc|(m|re)alloc of size \d+ failed|[Ff]ailed to allocate memory|[Cc]annot allocate memory|"
        r"unable to mmap|failed to map segment|[Uu]nable to allocate|not enough memory",
    ): errno.ENOMEM,
    re.compile(r"No space left on device|^\d+ requested and \d+ written$"): errno.ENOSPC,
    re.compile(r"Disk quota exceeded"): errno.EDQUOT,
    re.compile(r"File too large"): errno.EFBIG,
    re.compile(r"Too many open files"): errno.EMFILE,
    re.compile(r"can't start new thread|Resource temporarily unavailable"): errno.EAGAIN,
    re.compile(r"Permission denied"): errno.EACCES,
    re.compile(r"gloo/|NCCL|ProcessGroup"): errno.ECONNRESET,
}


class LackError(MissingError):
    """Something the machine lacks for a file, or for the work itself.

    Args:
        what: is lacking, and what to do.
        where: file or folder; None for the work itself.
    """

    def __init__(self, what: str, where: object = None) -> None:
        super().__init__(what if where is None else f"{where}: {what}")
        self.what, self.where = what, where

    def __reduce__(self) -> tuple[type[LackError], tuple[str, object]]:
        return LackError, (self.what, self.where)


def number_of(error: BaseException) -> int | None:
    """Return the system's number of what an error of Python or of a library is about; None where it is none."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno is not None:
        return None if error.errno == errno.ECONNRESET else error.errno  # of the hub, say
    text = str(error)
    found = HAS_NUMBER.search(text)
    if found is not None:
        return int(next(filter(None, found.groups())))
    return next((number for says, number in SAYS.items() if says.search(text)), None)


def lack_of(error: BaseException, where: object = None) -> CutbertError | None:
    """Return an error of ours for what the machine lacks, or for a path that cannot be one; None for any other error.

    Args:
        error: as it was raised.
        where: the file or folder that was to be written, which is named where the error names none, or what was
            written aside.
    """
    if isinstance(error, LackError):
        return LackError(error.what, where) if where is not None and leads_aside(error.where) else error
    if isinstance(error, CutbertError):
        return None
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return InputError(f"names and texts must be UTF-8 here, got {error.object[:EXCERPT]!r}")
    number = number_of(error)
    if number == errno.ENOENT and not has_working_folder():
        return LackError(NO_PLACE)
    if number in (errno.ENOMEM, errno.ECONNRESET):
        return LackError(LACKS[number])
    named = getattr(error, "filename", None)
    if named is None or (leads_aside(named) and where is not None):
        named = where
    if number in LACKS:
        return LackError(LACKS[number], named)
    if number in MISTAKES and isinstance(error, OSError):
        return InputError(f"{named or 'a file'}: {MISTAKES[number]}")
    return None


def check_room(folder: str, num_bytes: int) -> None:
    """Raise a LackError unless a folder's disk has room: for libraries that write on without a word, and fail later.

    Args:
        folder: is there.
        num_bytes: that will be written, in some files.
    """
    status = os.statvfs(folder)
    has_files = status.f_files == 0 or status.f_favail >= SOME_FILES  # 0: of a file system that does not count them
    if status.f_bavail * status.f_frsize < num_bytes or not has_files:
        raise LackError(LACKS[errno.ENOSPC], folder)


def leads_aside(path: object) -> bool:
    """Return whether a path leads through what is written aside, which no user knows."""
    return any(part.endswith(ASIDE) for part in str(path).split(os.sep))


def has_working_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def check_working_folder() -> None:
    """Raise a LackError where the working folder was removed."""
    if not has_working_folder():
        raise LackError(NO_PLACE)


@contextmanager
def naming_lacks(where: object = None) -> Iterator[None]:
    """Turn what the machine lacks within the block into one error of ours; every other error passes.

    Args:
        where: the file or folder that the block writes; None for what the errors themselves name.

    Raises:
        LackError: room, rights, file handles or memory are missing.
        InputError: a path that cannot be one.
    """
    try:
        yield
    except Exception as error:
        lack = lack_of(error, where)
        if lack is None or lack is error:
            raise
        raise lack from error


def refuse_lack(error: BaseException, where: object = None) -> None:
    """Raise what an error says that the machine lacks; return where it is about something else, such as a broken file.

    Raises:
        LackError: room, rights, file handles or memory are missing.
    """
    lack = lack_of(error, where)
    if isinstance(lack, LackError):
        raise lack from error


@contextmanager
def library_errors(what: str, where: object) -> Iterator[None]:
    """Turn whatever a library fails with on a model's file into a ModelError; their errors have no common base class.

    A panic of tokenizers is not even an Exception.

    Args:
        what: is wrong then; the library's reason comes behind it.
        where: the file or folder.

    Raises:
        LackError: room, rights, file handles or memory are missing.
        ModelError: anything else but an error of ours, which passes.
    """
    try:
        yield
    except CutbertError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        refuse_lack(error, where)
        raise ModelError(f"{what}: {reason_of(error)}") from None
