"""Loads SOFA's in-process probe, then whatever ``sitecustomize`` the program would have had without us.

This file is found first because its folder is put in front of ``PYTHONPATH``. It must parse on every Python, must never make the
program fail, and must leave no trace: its folder leaves ``sys.path`` (and stays in the environment, for child processes).
"""

import os
import sys


def _leave_path(folder):
    """Take our folder off ``sys.path``, however it is spelt there."""
    kept = [item for item in sys.path if not item or os.path.abspath(item) != folder]
    if len(kept) != len(sys.path):
        sys.path[:] = kept
    sys.path_importer_cache.pop(folder, None)


def _start_probe():
    """Start the probe where it can run; any failure leaves the program without a probe, never with an error."""
    environ = os.environ
    if sys.version_info < (3, 8) or not environ.get("SOFA_PROBE_SOCKET"):
        return
    if environ.get("SOFA_PROBE", "on").lower() in ("off", "0", "no", "false"):
        return
    import _sofa_probe

    _sofa_probe.start()


def _run_next(ours):
    """Import the next ``sitecustomize`` as the interpreter would have; its errors are the program's own."""
    sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError:
        error = sys.exc_info()[1]
        if getattr(error, "name", "sitecustomize") not in (None, "sitecustomize"):
            raise
    finally:
        sys.modules.setdefault("sitecustomize", ours)


def _main():
    folder = os.path.dirname(os.path.abspath(__file__))
    ours = sys.modules.get("sitecustomize")
    try:
        _start_probe()
    except Exception:
        if os.environ.get("SOFA_PROBE_DEBUG"):
            import traceback

            traceback.print_exc()
    _leave_path(folder)
    if ours is not None:
        _run_next(ours)


_main()
