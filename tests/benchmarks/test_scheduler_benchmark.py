"""The scheduler benchmark runs at a tiny size, so that it never rots."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scheduler.py"


def test_the_benchmark_tells_speed_memory_and_seconds(tmp_path):
    output = tmp_path / "scheduler.json"
    arguments = ["--blocks", "200", "--peer-blocks", "100", "--output", str(output)]
    subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], check=True, cwd=tmp_path, capture_output=True
    )
    answer = json.loads(output.read_text())
    ours, peer = answer["scheduler"]["tomodask"], answer["scheduler"]["client.map"]
    assert (ours["blocks"], peer["blocks"]) == (200, 100)
    assert ours["blocks_a_second"] > 0
    assert 0 < ours["idle_bytes"] <= ours["peak_bytes"] < 2**30
    assert len(ours["bytes_by_blocks"]) == 20
    ledger = answer["ledger"]
    assert (ledger["blocks"], ledger["files"]) == (200, 198)
    assert ledger["seconds_together"] >= sum(ledger["seconds"].values()) - 0.01
    assert [file.name for file in tmp_path.iterdir()] == ["scheduler.json"]
