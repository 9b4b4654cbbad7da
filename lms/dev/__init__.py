"""`lms dev`: the whole system on one machine, in one process tree."""

from lms.dev.system import DevOptions, run_dev

__all__ = ["DevOptions", "run_dev"]
