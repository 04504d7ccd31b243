"""Runs of the toy flow in one store, and calls that end as a kill ends them."""

import toy_stages as toys

from polylm.deployments.settings import Settings
from polylm.tasks.session import session

WORDS = {"A": 1.0, "B": 2.0, "C": 3.0}


def toy_run(root, name="A", mode="run", pieces=1):
    """A run whose gate has one of three thresholds, and of C the documents differ too."""
    with session(Settings(store=root, workers=0), mode=mode, name=name) as here:
        keep = toys.KeepParams(min_words={"short": 0.0, "long": WORDS[name]})
        toys.toy_flow(toys.toy_pieces(pieces + (name == "C"))[name == "C" :], keep=keep)
    return here


def replays(root, name):
    """Does a plan find everything that a run made?"""
    return [(report.stage, report.built) for report in toy_run(root, name, "plan").reports if report.built] == []


class Died(BaseException):
    """Stands for a kill: nothing catches it."""


def dying(function, calls):
    """The function, for so many calls; then death."""
    left = iter(range(calls))

    def call(*args, **kwargs):
        if next(left, None) is None:
            raise Died
        return function(*args, **kwargs)

    return call
