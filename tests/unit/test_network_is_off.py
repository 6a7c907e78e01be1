"""The tests' own guard: nothing reaches beyond this machine."""

import socket
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest


def test_a_connection_beyond_this_machine_is_refused():
    with socket.socket() as plug, pytest.raises(OSError, match="no network"):
        plug.connect(("192.0.2.1", 80))


def test_a_local_connection_works():
    with socket.socket() as server, socket.socket() as plug:
        server.bind(("127.0.0.1", 0))
        server.listen()
        plug.connect(server.getsockname())
        assert plug.getpeername() == server.getsockname()


def test_worker_processes_work():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(abs, -1).result() == 1
