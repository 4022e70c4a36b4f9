"""Celery's broker in a folder: a consumer never reads a message that is still being written, and none is lost."""

from __future__ import annotations

import os
import threading
import uuid

import pytest
from kombu.transport import filesystem

from gateway_project import broker
from gateway_project.celery import app


@pytest.fixture
def folders(tmp_path):
    for name in ("queue", "processed", "control"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def name():
    """A queue that no other test has: kombu remembers for the whole process which queues are bound."""
    return f"tasks-{uuid.uuid4()}"


@pytest.fixture
def connect(folders, name):
    """Opens connections to the broker in the folder, as Celery does."""
    opened = []

    def connect():
        connection = app.connection_for_write("filesystem://localhost//")
        connection.transport_options = {
            "data_folder_in": str(folders / "queue"),
            "data_folder_out": str(folders / "queue"),
            "processed_folder": str(folders / "processed"),
            "control_folder": str(folders / "control"),
        }
        opened.append(connection)
        return connection.SimpleQueue(name)

    yield connect
    for connection in opened:
        connection.release()


def taken(queue):
    try:
        message = queue.get_nowait()
    except queue.Empty:
        return None
    message.ack()
    return message.payload


def test_a_message_that_is_still_being_written_is_read_once_it_is_complete(connect, folders, monkeypatch):
    producer, consumer = connect(), connect()
    writing, go_on = threading.Event(), threading.Event()

    def slow(module, name):
        dumps = getattr(module, name)

        def wait(payload):
            writing.set()
            go_on.wait(30)
            return dumps(payload)

        monkeypatch.setattr(module, name, wait)

    # kombu's own channel opens the file first, then makes its content.
    slow(broker, "dumps")
    slow(filesystem, "dumps")
    thread = threading.Thread(target=producer.put, args=["reap"])
    thread.start()
    assert writing.wait(30)
    assert taken(consumer) is None
    go_on.set()
    thread.join()
    assert taken(consumer) == "reap"
    assert not [*(folders / "queue").iterdir(), *(folders / "processed").iterdir()]


def test_an_empty_file_of_another_version_doesnt_end_the_worker(connect, folders, name):
    queue = connect()
    empty = folders / "queue" / f"0_x.{name}.msg"
    empty.touch()
    queue.put("reap")
    assert taken(queue) == "reap"
    assert empty.exists()
    os.utime(empty, (0, 0))
    assert taken(queue) is None
    assert not empty.exists()


def test_a_file_of_another_version_is_read_when_it_is_written(connect, folders):
    queue = connect()
    queue.put("reap")
    (message,) = (folders / "queue").iterdir()
    text = message.read_text()
    message.write_text("")
    assert taken(queue) is None
    message.write_text(text)
    assert taken(queue) == "reap"


def test_an_empty_table_of_queues_is_replaced(connect, folders, name):
    (folders / "control" / f"{name}.exchange").touch()
    queue = connect()
    queue.put("reap")
    assert taken(queue) == "reap"


def test_two_processes_that_add_queues_at_once_keep_both(connect, folders, name):
    connect()
    table = folders / "control" / f"{name}.exchange"
    before = table.read_text()
    broker._write(table, "[]", replace=False)
    assert table.read_text() == before
