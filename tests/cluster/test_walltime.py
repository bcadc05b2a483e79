"""Walltimes as batch systems write them, and what a worker makes of them."""

import time

import pytest

from tomodask.cluster.walltime import (
    ENDS_AT,
    MOST_MARGIN_S,
    Pace,
    job_end,
    lifetime,
    parse_walltime,
    seconds_left,
)
from tomodask.errors import InputError


@pytest.mark.parametrize(
    ("text", "units", "seconds"),
    [
        ("01:30:00", "seconds", 5400),
        ("2-12:00:00", "minutes", 216000),
        ("1-6", "minutes", 108000),
        ("1-6:30", "minutes", 109800),
        ("90", "minutes", 5400),  # Slurm
        ("04:00", "minutes", 4 * 3600),  # LSF: hours and minutes
        (" 5:30 ", "seconds", 330),
        (45, "seconds", 45),
    ],
)
def test_they_mean_what_their_system_means(text, units, seconds):
    assert parse_walltime(text, units) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "-5", "1.5h"])
def test_what_is_none_is_refused(text):
    with pytest.raises(InputError, match="HH:MM:SS"):
        parse_walltime(text)


def test_workers_leave_before_the_job_is_killed():
    assert lifetime(60) == pytest.approx(54)
    assert lifetime(86400) == 86400 - MOST_MARGIN_S


def test_a_worker_leaves_by_the_earlier_of_what_the_script_and_the_queue_say(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert job_end() is None
    now = time.time()
    assert job_end(1000) == pytest.approx(now + 900, abs=5)
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(now) + 500))
    assert job_end(1000) == pytest.approx(now + 450, abs=5)
    assert job_end() == pytest.approx(now + 450, abs=5)


def test_a_worker_without_an_end_has_all_the_time(monkeypatch):
    monkeypatch.delenv(ENDS_AT, raising=False)
    assert seconds_left() is None
    monkeypatch.setenv(ENDS_AT, str(time.time() + 30))
    assert seconds_left() == pytest.approx(30, abs=5)


def test_the_next_block_may_take_as_long_as_the_slowest_of_late():
    pace = Pace()
    assert pace.expected is None
    for seconds in (2.0, 10.0, 3.0):
        pace.learn(seconds)
    assert 10 < pace.expected < 15
    for _ in range(100):
        pace.learn(1.0)
    assert 1 < pace.expected < 1.5


@pytest.mark.parametrize(("answer", "seconds"), [("1-00:00:00", 86400), ("9:30", 570)])
def test_an_older_slurm_is_asked_what_is_left(monkeypatch, tmp_path, answer, seconds):
    command = tmp_path / "squeue"
    command.write_text(f'#!/bin/sh\n[ "$*" = "-h -j 7 -o %L" ] && echo {answer}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    assert job_end() == pytest.approx(time.time() + lifetime(seconds), abs=5)
    command.write_text("#!/bin/sh\necho UNLIMITED\n")
    assert job_end() is None
