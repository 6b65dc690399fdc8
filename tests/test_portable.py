"""Systems other than Linux: estbench runs without what only Linux, or only POSIX, has.

No such system is at hand: a fresh interpreter hides these functions, constants and files. The libraries are imported
before that, because they look at the name of the system, and use what it has.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# What neither macOS nor Windows has.
LINUX = """
import contextlib, errno, importlib, io, os, pathlib, signal, sys

LIBRARIES = ["torch", "pandas", "pyarrow.parquet", "scipy.stats", "sklearn.datasets", "seaborn", "requests", "filelock"]
EXTRAS = {"dask", "distributed", "dask_jobqueue", "psutil", "tensorboard"}
for library in [*LIBRARIES, "platformdirs", "pydantic", "rich_click", *EXTRAS]:
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(library)

def hide(module, *names):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)

def refuse_proc(event, arguments):
    if event == "open" and str(arguments[0]).startswith("/proc"):
        frame = sys._getframe(1)
        while frame is not None and frame.f_globals["__name__"] in {"io", "pathlib"}:
            frame = frame.f_back
        if frame is not None and frame.f_globals["__name__"].startswith("estbench"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(arguments[0]))

sys.addaudithook(refuse_proc)
hide(os, "sched_getaffinity", "sched_setaffinity", "posix_fadvise", "memfd_create", "pidfd_open")
hide(signal, "SIGRTMIN", "SIGRTMAX", "SIGPWR", "SIGSTKFLT")
hide(errno, "EREMOTEIO")
"""
# What Windows does not have.
POSIX = (
    LINUX
    + """
hide(os, "O_NOFOLLOW", "O_NONBLOCK", "O_DIRECTORY", "O_CLOEXEC", "register_at_fork", "getuid", "geteuid", "getgid")
hide(os, "fork", "forkpty", "killpg", "getpgid", "setsid", "uname", "getloadavg", "mkfifo", "fchmod", "fchown", "nice")
hide(signal, "SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "ITIMER_REAL", "ITIMER_VIRTUAL")
hide(signal, "ITIMER_PROF", "getitimer", "setitimer", "alarm", "pause", "pthread_sigmask", "sigwait")
hide(errno, "ENOTSUP", "EDQUOT", "ESTALE")
os.supports_dir_fd, os.supports_fd = set(), set()
sys.modules.update(dict.fromkeys(["resource", "pwd", "grp", "termios", "tty", "pty"]))
"""
)
# Modules that need an extra are imported if it is installed.
WORK = """
import pkgutil
import estbench
for module in pkgutil.walk_packages(estbench.__path__, "estbench."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            assert error.name.partition(".")[0] in EXTRAS, error
from estbench.guarded import DESCRIPTORS
from estbench.cli import _exit_code
print("descriptors of folders:", DESCRIPTORS)
run, folder = ["run", *sys.argv[1:]], sys.argv[-1]
for words in (run, run, ["status", folder], ["clean", "--yes", folder]):
    assert _exit_code(words) == 0, words
"""


@pytest.mark.slow
@pytest.mark.parametrize(("hidden", "descriptors"), [(LINUX, True), (POSIX, False)], ids=["linux", "posix"])
def test_a_run_and_its_report_need_nothing_that_is_hidden(tmp_path, tiny_file, environment, hidden, descriptors):
    done = subprocess.run(
        [sys.executable, "-c", hidden + WORK, str(tiny_file), "--out", str(tmp_path / "r")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"descriptors of folders: {descriptors and os.name == 'posix'}" in done.stdout
    assert (tmp_path / "r" / "report" / "report.html").is_file()
    assert not list((tmp_path / "r").glob(".lock*"))
