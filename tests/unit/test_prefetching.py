import contextlib
import itertools

import pytest
import torch

from autospine.trainers.patches import Example
from autospine.trainers.prefetching import BesideGpu, OnHost, Prefetcher


def example(number, device="cpu"):
    image = torch.full((1, 1, 2, 2), float(number), device=device)
    return Example(image, image[:, 0].to(torch.int8))


def numbers(examples):
    return [int(e.image[0, 0, 0, 0]) for e in examples]


class Source:
    """Numbered examples, one of which cannot be made."""

    def __init__(self, count=4, broken=None):
        self.made, self._count, self._broken = 0, count, broken

    def __iter__(self):
        return self

    def __next__(self):
        self.made += 1
        if self.made - 1 == self._broken:
            raise RuntimeError("broken")
        if self.made > self._count:
            raise StopIteration
        return example(self.made - 1)


class Beside:
    """A place beside the training, without a GPU."""

    ahead = True

    def __init__(self):
        self.happened = []

    def make(self, make):
        self.happened.append("make")
        return make()

    def hand_over(self, example):
        self.happened.append(f"hand over {int(example.image[0, 0, 0, 0])}")

    def queued(self):
        self.happened.append("queued")

    def waited(self):
        return 0.0


PLACES = [OnHost, Beside]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("prepares", [False, True])
def test_every_example_comes_once_and_in_order(place, prepares):
    prefetcher, seen = Prefetcher(Source(), place()), []
    for given in prefetcher:
        seen.append(given)
        for _ in range(2 if prepares else 0):
            prefetcher.prepare()
    assert numbers(seen) == [0, 1, 2, 3]
    with pytest.raises(StopIteration):
        next(prefetcher)


def test_one_example_is_made_ahead():
    source, place = Source(), Beside()
    prefetcher = Prefetcher(source, place)
    next(prefetcher)
    prefetcher.prepare()
    assert source.made == 2
    next(prefetcher)
    assert source.made == 2
    assert place.happened == ["queued", "make", "hand over 0", "queued", "make", "hand over 1"]


def test_a_cpu_makes_examples_when_they_are_asked_for():
    source = Source()
    prefetcher = Prefetcher.on(torch.device("cpu"), source)
    next(prefetcher)
    prefetcher.prepare()
    assert source.made == 1


@pytest.mark.parametrize("place", PLACES)
def test_an_error_is_raised_by_the_example_it_concerns(place):
    prefetcher = Prefetcher(Source(broken=1), place())
    next(prefetcher)
    prefetcher.prepare()
    with pytest.raises(RuntimeError, match="broken"):
        next(prefetcher)
    assert numbers(prefetcher) == [2, 3]


def test_on_a_cpu_nothing_counts_as_waiting():
    prefetcher = Prefetcher(iter([example(0), example(1)]), OnHost())
    assert len(list(prefetcher)) == 2
    assert prefetcher.waited() == 0.0


class Gpu:
    """Stands in for ``torch.cuda``: a stream is its name, and an event one second later than the last."""

    def __init__(self, monkeypatch):
        self.log, self._clock = [], itertools.count()
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: self.log.append("keep"))
        monkeypatch.setattr(torch.cuda, "Stream", lambda _: "side")
        monkeypatch.setattr(torch.cuda, "stream", self.stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: self)
        monkeypatch.setattr(torch.cuda, "Event", lambda **_: Event(self, next(self._clock)))

    @contextlib.contextmanager
    def stream(self, stream):
        self.log.append(f"on {stream}")
        yield
        self.log.append("on main")

    def wait_stream(self, stream):
        self.log.append(f"wait for {stream}")


class Event:
    def __init__(self, gpu, second):
        self.gpu, self.second = gpu, second

    def record(self, stream):
        self.gpu.log.append(f"event {self.second}")

    def synchronize(self):
        self.gpu.log.append(f"host waits for event {self.second}")

    def elapsed_time(self, later):
        return 1000.0 * (later.second - self.second)


def test_beside_a_gpu_the_main_stream_waits_and_the_host_stays_one_step_ahead(monkeypatch):
    gpu = Gpu(monkeypatch)
    examples = Prefetcher(Source(), BesideGpu(torch.device("cuda")))
    making, using = ["on side", "on main"], ["wait for side", "keep", "keep"]
    next(examples)
    assert gpu.log == ["event 0", *making, *using]
    gpu.log.clear()
    examples.prepare()
    next(examples)
    assert gpu.log == ["event 1", *making, *using, "event 2"]
    gpu.log.clear()
    examples.prepare()
    next(examples)
    assert gpu.log == ["event 3", "host waits for event 1", *making, *using, "event 4"]
    assert examples.waited() == 2.0
    assert examples.waited() == 0.0


def test_what_lies_between_two_epochs_is_no_waiting(monkeypatch):
    Gpu(monkeypatch)
    examples = Prefetcher(Source(), BesideGpu(torch.device("cuda")))
    next(examples)
    examples.prepare()
    examples.waited()
    next(examples)
    assert examples.waited() == 0.0


@pytest.mark.gpu
def test_a_gpu_computes_with_the_same_examples():
    device = torch.device("cuda")

    def made():
        for number in range(20):
            yield example(number, device)

    def used(examples, queued=lambda: None):
        sums = []
        for given in examples:
            large = given.image.repeat(1, 1, 1000, 1000)
            sums.append((large @ large).sum())
            queued()
        return torch.stack(sums).tolist()

    prefetcher = Prefetcher.on(device, made())
    assert used(prefetcher, prefetcher.prepare) == used(made())
    assert prefetcher.waited() >= 0.0
