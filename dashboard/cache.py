"""What was computed is kept: bounded, and made once however many ask at once. Costly things are made in the background."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE_SECONDS = 0.08  # that a page waits for what is made in the background


class Cache:
    """The last `size` values by key. Only for what a key determines: artifacts never change."""

    def __init__(self, size: int, workers: int = 1) -> None:
        self._size = size
        self._made: OrderedDict[Hashable, Future[Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="dashboard")

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made here where it is not known; an error is raised and not kept."""
        future, mine = self._claim(key)
        if mine:
            _fill(future, make)
        value: T = self._result(key, future)
        return value

    def soon(self, key: Hashable, make: Callable[[], T], patience: float = PATIENCE_SECONDS) -> T | None:
        """The value of a key, or None where it takes longer than `patience`: it is made meanwhile, so ask again.

        An error is kept until somebody has been told: one that takes long to come would else never be seen.
        """
        future, mine = self._claim(key)
        if mine:
            self._workers.submit(_fill, future, make)
        try:
            future.exception(timeout=patience)
        except NotYet:
            return None
        value: T = self._result(key, future)
        return value

    def _claim(self, key: Hashable) -> tuple[Future[Any], bool]:
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key], False
            future: Future[Any] = Future()
            self._made[key] = future
            while len(self._made) > self._size:
                self._made.popitem(last=False)
            return future, True

    def _result(self, key: Hashable, future: Future[Any]) -> Any:
        """What was made; an error is raised, and forgotten: the next who asks tries again."""
        if future.exception() is not None:
            with self._lock:
                if self._made.get(key) is future:
                    del self._made[key]
        return future.result()


def _fill(future: Future[Any], make: Callable[[], Any]) -> None:
    try:
        future.set_result(make())
    except BaseException as error:  # raised again by whoever asks for the result
        future.set_exception(error)
