"""Python loads this before a program, if its folder is in PYTHONPATH: it gives each web process a clock of its own.

A preloaded library must be there when a program starts, so the process starts itself once more, under the same id and
with the same open files.
"""

import os
import sys

folder = os.environ.get("RELIABILITY_CLOCKS")
if folder and "gateway_project.web" in sys.orig_argv and "RELIABILITY_CLOCK" not in os.environ:
    own = os.path.join(folder, str(os.getpid()))
    with open(own, "wb") as file:
        file.write(bytes(8))
    os.chmod(own, 0o666)
    os.environ["RELIABILITY_CLOCK"] = own
    os.environ["LD_PRELOAD"] = os.environ["RELIABILITY_PRELOAD"]
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
