"""Whatever was run, pinned, collected, restored and interrupted, in whichever order: what is needed is there."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_history import WORDS, Died, dying, replays, toy_run

from polylm.tasks.maintenance import pins
from polylm.tasks.maintenance.files import read_json
from polylm.tasks.maintenance.gc import collect, restore
from polylm.tasks.maintenance.needs import Policy
from polylm.tasks.maintenance.verify import damaged
from polylm.tasks.store import Store


class History:
    """A store, and what must be true of it."""

    def __init__(self, root):
        self.root, self.store = root, Store(root).open()
        self.runs, self.lost = [], set()  # names of runs in order; runs that gc was free to take
        self.pins = {}

    def run(self, name, keep):
        toy_run(self.root, name)
        self.runs.append(name)
        self.lost.discard(name)

    def pin(self, name, keep):
        if self.runs:
            ref = pins.pin(self.store, "choose")
            self.pins[ref] = self.parts(ref)

    def parts(self, ref):
        return {part["key"] for part in read_json(self.root / "artifacts" / f"{ref}.json")["parts"]}

    def gc(self, name, keep):
        collect(self.store, Policy(keep, 0))
        self.lost |= set(self.runs) - set(self.runs[-keep:])

    def interrupted_gc(self, name, keep, after=3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "rename", dying(Path.rename, after))
            with suppress(Died):
                self.gc(name, keep)
        self.lost |= set(self.runs) - set(self.runs[-keep:])

    def restore(self, name, keep):
        restore(self.store)
        self.lost.clear()

    def interrupted_restore(self, name, keep, after=3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "link", dying(os.link, after))
            with suppress(Died):
                restore(self.store)

    def check(self):
        for name in {*self.runs} - self.lost:
            assert replays(self.root, name), f"{name} of {self.runs}"
        for ref, keys in self.pins.items():
            assert self.parts(ref) == keys
            assert all(self.store.part_path("choose", key).exists() for key in keys)
        assert damaged(self.root).damage == ()


STEPS = ("run", "run", "run", "pin", "gc", "gc", "interrupted_gc", "restore", "interrupted_restore")


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(list(WORDS)), st.integers(1, 2)), min_size=4, max_size=9)
)
def test_whatever_happened_before_kept_runs_and_pins_stay_whole(tmp_path_factory, steps):
    history = History(tmp_path_factory.mktemp("history") / "store")
    for step, name, keep in steps:
        getattr(history, step)(name, keep)
        history.check()
    history.restore("A", 1)
    history.check()
    assert not any((history.root / "trash").glob("*/list.json")) or history.runs
