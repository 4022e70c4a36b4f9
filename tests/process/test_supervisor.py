"""The supervisor: who dies is replaced, who is left over is ended, and what can't work is said in one line."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from gateway_project import processes, supervisor
from gateway_project.embedded_postgres import CannotStart
from gateway_project.roles import Role
from gateway_project.supervisor import Supervisor

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setenv(processes.MARK, str(folder))
    return folder


@pytest.fixture
def crew(run_dir):
    """A supervisor whose children are stopped after the test, with signals blocked as `supervise` does."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, supervisor.SIGNALS)
    crew = Supervisor(run_dir)
    yield crew
    crew.stop()
    while signal.sigtimedwait(supervisor.SIGNALS, 0):
        pass
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def role(name, command, patience=5.0):
    return Role(name, lambda: (processes.spawn(command), None), patience)


def web(name):
    """A web role that says at once that it is ready."""

    def start():
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        ready = f"import os, time; os.write({writer}, b'1'); os.close({writer}); time.sleep(60)"
        process = processes.spawn([sys.executable, "-c", ready], pass_fds=[writer])
        os.close(writer)
        return process, reader

    return Role(name, start, patience=5)


def watch_until(crew, condition, seconds=60.0):
    """Let it watch, as it does in its own thread of control, until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        crew.replace_the_dead()
        crew.roll()
        time.sleep(0.02)


def test_it_replaces_a_process_that_dies(crew, run_dir, capsys):
    child = crew.add(web("web-1"))
    wait_for(child.is_ready)
    child.process.kill()
    child.process.wait()
    watch_until(crew, lambda: "web-1" in crew.children and crew.children["web-1"] is not child)
    assert (run_dir / "web-1.pid").read_text() == f"{crew.children['web-1'].process.pid}\n"
    assert capsys.readouterr().out == "web-1 ended (signal 9); it restarts now.\n"


def test_a_full_disk_does_not_end_it_and_process_ids_are_written_once_there_is_room(crew, run_dir, capsys, monkeypatch):
    room, write = False, processes.write_pid

    def write_if_there_is_room(*about):
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(*about)

    monkeypatch.setattr(processes, "write_pid", write_if_there_is_room)
    child = crew.add(web("web-1"))
    wait_for(child.is_ready)
    child.process.kill()
    child.process.wait()
    watch_until(crew, lambda: "web-1" in crew.children and crew.children["web-1"] is not child)
    assert not (run_dir / "web-1.pid").exists()
    assert "The process id of web-1 can't be written (No space left on device)." in capsys.readouterr().out
    room = True
    crew.replace_the_dead()
    assert (run_dir / "web-1.pid").read_text() == f"{crew.children['web-1'].process.pid}\n"


def test_it_gives_one_that_fails_to_start_more_and_more_time(crew, capsys):
    crew.add(role("worker", [sys.executable, "-c", "raise SystemExit(3)"]))
    watch_until(crew, lambda: crew.failures.get("worker") == 2)
    assert capsys.readouterr().out.splitlines() == [
        "worker ended (exit code 3); it restarts in 1 s.",
        "worker ended (exit code 3); it restarts in 2 s.",
    ]


def test_it_is_up_once_every_web_process_answers(crew):
    crew.add(role("worker", SLEEP))
    child = crew.add(web("web-1"))
    wait_for(child.is_ready)
    assert crew.is_up()
    dead = crew.add(role("web-2", [sys.executable, "-c", "raise SystemExit(3)"]))
    dead.process.wait()
    crew.replace_the_dead()
    assert not crew.is_up()


def test_it_replaces_web_processes_one_by_one_when_asked(crew, run_dir):
    old = [crew.add(web("web-1")), crew.add(web("web-2"))]
    for child in old:
        wait_for(child.is_ready)
    crew.rolling = ["web-1", "web-2"]
    crew.roll()
    assert old[1].is_alive()
    watch_until(crew, lambda: not crew.rolling and not crew.retiring)
    assert not any(child.is_alive() for child in old)
    assert all(child.is_alive() for child in crew.web())
    assert sorted(file.name for file in run_dir.glob("*.pid")) == ["web-1.pid", "web-2.pid"]


def test_it_stops_web_then_worker_then_beat_then_postgres(crew, tmp_path):
    log = tmp_path / "order"
    script = (
        "import pathlib, signal, sys, time\n"
        "def stop(*_):\n"
        "    open(sys.argv[2], 'a').write(sys.argv[1] + ' '); sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "pathlib.Path(sys.argv[2] + '.' + sys.argv[1]).touch()\n"
        "time.sleep(60)\n"
    )
    names = ["postgres", "beat", "worker", "web-1"]
    for name in names:
        crew.add(role(name, [sys.executable, "-c", script, name, str(log)]))
    wait_for(lambda: all(log.with_name(f"order.{name}").exists() for name in names))
    crew.stop()
    assert log.read_text() == "web-1 worker beat postgres "


@pytest.mark.parametrize("stopping", [signal.SIGINT, signal.SIGTERM])
def test_processes_stop_in_haste_only_where_a_person_waits_for_their_end(crew, stopping):
    child = crew.add(replace(role("web-1", SLEEP), hasty_signal=signal.SIGUSR1))
    signal.pthread_kill(threading.get_ident(), stopping)
    crew.watch("up")
    crew.stop()
    assert child.process.returncode == (-signal.SIGUSR1 if stopping == signal.SIGINT else -signal.SIGTERM)


def test_a_process_that_does_not_obey_is_killed_in_the_end(crew, tmp_path):
    deaf = "import pathlib, signal, sys, time; signal.signal(15, signal.SIG_IGN); pathlib.Path(sys.argv[1]).touch()"
    child = crew.add(
        role("worker", [sys.executable, "-c", f"{deaf}; time.sleep(60)", str(tmp_path / "up")], patience=0.2)
    )
    wait_for((tmp_path / "up").exists)
    crew.stop()
    assert child.process.returncode == -signal.SIGKILL


def test_a_second_signal_hurries_but_an_echo_of_the_first_does_not(crew, tmp_path, capsys, monkeypatch):
    patient = (
        "import pathlib, signal, sys, time\n"
        "signals = []\n"
        "signal.signal(15, lambda *_: signals.append(1))\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "while len(signals) < 2: time.sleep(0.05)\n"
    )
    child = crew.add(role("web-1", [sys.executable, "-c", patient, str(tmp_path / "up")], patience=30))
    wait_for((tmp_path / "up").exists)

    monkeypatch.setattr(supervisor, "SAME_SIGNAL_SECONDS", 3600.0)
    still_there = []

    # To this thread alone, which blocks them: the process's others (xdist's) would take them for a Ctrl-C.
    watching = threading.get_ident()

    def impatient():
        signal.pthread_kill(watching, signal.SIGINT)
        time.sleep(1)
        still_there.append(child.is_alive())
        monkeypatch.setattr(supervisor, "SAME_SIGNAL_SECONDS", -1.0)
        signal.pthread_kill(watching, signal.SIGINT)

    thread = threading.Thread(target=impatient)
    thread.start()
    crew.stop()
    thread.join()
    assert still_there == [True]
    assert child.process.returncode == 0
    assert capsys.readouterr().out == "Stopping at once: open calls are cut off.\n"


def test_children_end_with_a_killed_parent(run_dir, tmp_path):
    parent = (
        "import sys, time\n"
        "from gateway_project import processes\n"
        f"print(processes.spawn({SLEEP!r}).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        assert processes.is_from(pid, run_dir)
        process.kill()
    wait_for(lambda: not processes.is_from(pid, run_dir))


def test_it_ends_the_processes_of_a_killed_run_and_no_others(run_dir, monkeypatch, capsys):
    monkeypatch.setattr(supervisor, "ORPHAN_STEPS", [(None, 0.1), (signal.SIGTERM, 5.0)])
    ours = processes.spawn(SLEEP)
    monkeypatch.setenv(processes.MARK, "/somewhere/else")
    stranger = processes.spawn(SLEEP)
    wait_for(lambda: processes.is_from(ours.pid, run_dir))
    processes.write_pid(run_dir, "web-1", ours.pid)
    processes.write_pid(run_dir, "web-2", stranger.pid)
    (run_dir / "web-3.pid").write_text("nonsense")
    reaper = threading.Thread(target=ours.wait)
    reaper.start()
    supervisor.end_orphans(run_dir)
    reaper.join()
    assert ours.returncode == -signal.SIGTERM
    assert stranger.poll() is None
    processes.end(stranger, signal.SIGTERM, 5)
    assert capsys.readouterr().out == "Ending processes that an earlier run left when it was killed: web-1.\n"


def test_a_port_in_use_is_one_line_with_a_way_out():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotStart, match=rf"Port {port} on 127\.0\.0\.1 is in use; .* make run PORT={port + 1}"):
            supervisor.listen("127.0.0.1", port)


def test_an_address_that_is_not_ours_is_one_line():
    with pytest.raises(CannotStart, match=r"nonsense\.invalid is not an address"):
        supervisor.listen("nonsense.invalid", 8000)


def test_only_one_runs_in_a_folder(run_dir):
    already = rf"already running in this folder \(process {os.getpid()}\)"
    with supervisor.only_one(run_dir), pytest.raises(CannotStart, match=already), supervisor.only_one(run_dir):
        pass
    with supervisor.only_one(run_dir):
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match="can't be written"):
        supervisor.make_folders(tmp_path / "file" / "var")


def test_a_process_that_stands_back_does_so_as_a_group_of_its_own_too():
    """Linux may compare sessions, not processes."""
    said = (
        "import os, pathlib; from gateway_project import processes; processes.stand_back(5); "
        "group = pathlib.Path('/proc/self/autogroup'); "
        "print(os.nice(0), group.read_text().split()[-1] if group.exists() else os.nice(0))"
    )
    before = os.nice(0)
    answer = subprocess.run(
        [sys.executable, "-c", said], start_new_session=True, capture_output=True, text=True, check=True
    )
    expected = min(19, before + 5)
    assert answer.stdout.split() == [str(expected), str(expected)]
