"""Whether a process that wrote its pid down is still at work."""

import psutil

_CLOCK_GRAIN = 2.0  # seconds by which the clocks of processes and of records may differ


def is_alive(pid: int, before: float | None = None) -> bool:
    """Does a process of this host with that pid run, which began before that time (seconds since 1970)?

    A zombie does not run: it has ended, and only its parent has not asked. One that began later has a pid that was
    given out again.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return before is None or process.create_time() <= before + _CLOCK_GRAIN
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False
    except psutil.AccessDenied:
        return True
